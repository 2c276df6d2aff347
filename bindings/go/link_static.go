//go:build confer_static

package confer

// The system libraries are those that confer.pc names under Libs.private.

// #cgo LDFLAGS: -l:libconfer.a -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
import "C"
