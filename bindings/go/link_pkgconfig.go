//go:build confer_pkgconfig && !confer_static

package confer

// #cgo pkg-config: confer
import "C"
