package confer

// This file turns the library's errors into Go's.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"time"
)

// Progress says how far a request had come.
type Progress int32

const (
	NotSent        Progress = C.CONFER_PROGRESS_NOT_SENT        // nothing of it left this process
	MaybeSent      Progress = C.CONFER_PROGRESS_MAYBE_SENT      // the enclave may have acted on it
	PartlyAnswered Progress = C.CONFER_PROGRESS_PARTLY_ANSWERED // the enclave had begun to answer
)

// Error says why a call or a stream failed. errors.Is finds its Status and, if a context ended the call, that context's
// error.
type Error struct {
	Status Status
	// Message is for developers and logs: never a token, a prompt, an answer or a key.
	Message string
	// CheckID is, for ErrRejected, the verification check that decided, such as "tdx.key_binding".
	CheckID string
	// HTTPStatus is that of a refused upgrade, or with which the enclave refused a request; 0 if there is none.
	HTTPStatus int
	// Retryable tells whether the same call may succeed later, unchanged. It does not say that repeating is harmless:
	// for that, see Progress.
	Retryable bool
	// RetryDelay is how long the peer asked to wait; negative if it did not say.
	RetryDelay time.Duration
	Progress   Progress
	// PeerText is why the enclave refused a request or closed the connection, in its own words. It may repeat parts of
	// the request: show it to the user, and do not log it.
	PeerText string
	// Report is, for ErrRejected, that of the enclave that was refused.
	Report *Report

	context []error
}

func (e *Error) Error() string { return "confer: " + e.Status.String() + ": " + e.Message }

// Unwrap gives the status and, if a context ended the call, that context's error and cause.
func (e *Error) Unwrap() []error { return append([]error{e.Status}, e.context...) }

// takeError reads an error and frees it.
func takeError(status C.confer_status, failure *C.confer_error) *Error {
	defer C.confer_error_free(failure)
	err := &Error{
		Status:     Status(status),
		Message:    textOf(func(n *C.size_t) *C.char { return C.confer_error_message(failure, n) }),
		CheckID:    textOf(func(n *C.size_t) *C.char { return C.confer_error_check_id(failure, n) }),
		HTTPStatus: int(C.confer_error_http_status(failure)),
		Retryable:  bool(C.confer_error_retryable(failure)),
		RetryDelay: time.Duration(C.confer_error_retry_delay_ms(failure)) * time.Millisecond,
		Progress:   Progress(C.confer_error_progress(failure)),
		PeerText:   textOf(func(n *C.size_t) *C.char { return C.confer_error_peer_text(failure, n) }),
	}
	if report := C.confer_error_report(failure); report != nil {
		var unread error
		if err.Report, unread = readReport(report); unread != nil {
			err.Message += "; " + unread.Error()
		}
	}
	return err
}

// madeHere is an error that the library was not asked for.
func madeHere(status Status, message string) *Error {
	return &Error{Status: status, Message: message, RetryDelay: -1}
}

// because notes that it was this context that cancelled.
func (e *Error) because(ctx context.Context) *Error {
	if e.Status == ErrCancelled {
		if err := ctx.Err(); err != nil {
			e.context = []error{err, context.Cause(ctx)}
		}
	}
	return e
}

// textOf copies what a getter lends; "" if there is nothing.
func textOf(get func(*C.size_t) *C.char) string {
	var length C.size_t
	text := get(&length)
	if text == nil {
		return ""
	}
	return C.GoStringN(text, C.int(length))
}
