//go:build !confer_pkgconfig

package confer

// The header and the libraries of a checkout, then those of an unpacked archive, which has this folder
// as share/confer/go. The compiler's own folders come last.

// #cgo CFLAGS: -I${SRCDIR}/../../include -I${SRCDIR}/../../../include
// #cgo LDFLAGS: -L${SRCDIR}/../../build/lib -L${SRCDIR}/../../../lib
import "C"
