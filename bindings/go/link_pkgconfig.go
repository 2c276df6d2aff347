//go:build confer_pkgconfig

package confer

// #cgo pkg-config: confer
import "C"
