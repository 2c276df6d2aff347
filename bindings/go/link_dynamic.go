//go:build !confer_static && !confer_pkgconfig

package confer

// #cgo LDFLAGS: -lconfer
import "C"
