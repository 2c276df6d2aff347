//go:build linux && !confer_shared && !confer_pkgconfig

package confer

// The system libraries are those in Libs.private of confer.pc.

// #cgo LDFLAGS: -l:libconfer.a -lutil -lrt -lpthread -lm -ldl
import "C"
