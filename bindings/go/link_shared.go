//go:build !confer_pkgconfig && (confer_shared || !linux)

package confer

// #cgo LDFLAGS: -lconfer
import "C"
