package confer

// The library itself: its version, and the threads and memory of all clients of the process.

/*
#include <confer.h>
*/
import "C"

import "time"

// Version returns the library's version, such as "0.1.0".
func Version() string { return C.GoString(C.confer_version_string()) }

// SetWorkers sets the number of the library's worker threads: 1 to 64, default 2. [ErrBusy] while
// another number of workers runs.
func SetWorkers(count int) error {
	return do(func(e **C.confer_error) C.confer_status {
		return C.confer_runtime_set_workers(C.size_t(max(count, 0)), e)
	})
}

// SetUnreadLimit sets how many unread bytes all streams of the process may have together: 64 KiB to
// 1 TiB, default 1 GiB. Above this, streams with more than an equal share fail with
// [ErrSlowConsumer].
func SetUnreadLimit(bytes uint64) error {
	return do(func(e **C.confer_error) C.confer_status {
		return C.confer_runtime_set_unread_limit(C.uint64_t(bytes), e)
	})
}

// WaitForThreads waits until no thread of the library runs, at most for a time, and returns whether
// that is so. A negative time is no limit.
func WaitForThreads(timeout time.Duration) (bool, error) {
	ms := C.int64_t(-1)
	if timeout >= 0 {
		ms = C.int64_t(milliseconds(timeout))
	}
	var failure *C.confer_error
	switch status := C.confer_runtime_wait(ms, &failure); status {
	case C.CONFER_OK:
		return true, nil
	case C.CONFER_TIMEOUT:
		return false, nil
	default:
		return false, takeError(status, failure)
	}
}
