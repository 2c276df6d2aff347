package confer

// Owns the handles of C: each is freed once, and not used afterwards.

/*
#include <confer.h>
*/
import "C"

import (
	"runtime"
	"sync"
)

// owner owns a handle. The garbage collector frees a forgotten one. Copies of a Client, Policy,
// Conversation or Event share their owner; their zero values have none.
type owner[H any] struct {
	// Locked for reading to use the handle, and for writing to free it.
	mu      sync.RWMutex
	handle  H // NULL after free
	release func(H)
	cleanup runtime.Cleanup
}

func own[H any](handle H, release func(H)) *owner[H] {
	o := &owner[H]{handle: handle, release: release}
	o.cleanup = runtime.AddCleanup(o, release, handle)
	return o
}

// use calls a function with the handle, or with NULL.
func (o *owner[H]) use(function func(H)) {
	var none H
	if o == nil {
		function(none)
		return
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	function(o.handle)
}

// do calls a function with the handle, or with NULL, and returns its error, if any.
func (o *owner[H]) do(function func(H, **C.confer_error) C.confer_status) (err error) {
	o.use(func(handle H) {
		err = do(func(e **C.confer_error) C.confer_status { return function(handle, e) })
	})
	return err
}

// free frees the handle before the garbage collector does.
func (o *owner[H]) free() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cleanup.Stop()
	o.release(o.handle)
	var none H
	o.handle = none
}

// made returns an error for a zero value, which some functions of C take for a default.
func (o *owner[H]) made(what string) error {
	if o == nil {
		return madeHere(ErrInvalidArgument, what+": no function of this package made it")
	}
	return nil
}
