//go:build confer_static

package confer

// The system libraries are those in Libs.private of confer.pc.

// #cgo LDFLAGS: -l:libconfer.a -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
import "C"
