package confer

// Converts the library's errors into Go's.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unsafe"
)

// Progress says how far a request had come.
type Progress int32

const (
	NotSent        Progress = C.CONFER_PROGRESS_NOT_SENT        // nothing of it was sent
	MaybeSent      Progress = C.CONFER_PROGRESS_MAYBE_SENT      // the enclave may have acted on it
	PartlyAnswered Progress = C.CONFER_PROGRESS_PARTLY_ANSWERED // the enclave had begun to answer
)

// String returns the name of the constant in confer.h, such as "CONFER_PROGRESS_NOT_SENT".
func (p Progress) String() string { return C.GoString(C.confer_progress_name(C.int32_t(p))) }

// Error says why a call or a stream failed. errors.Is finds its [Status] and, if a context or a
// document's reader ended the call, its error.
type Error struct {
	Status Status
	// Message is for developers and logs. It never contains a token, prompt, answer or key.
	Message string
	// CheckID is the deciding verification check for ErrRejected, such as "tdx.key_binding".
	CheckID string
	// HTTPStatus is the HTTP status of a refused upgrade, or the enclave's status for a refused
	// request, or 0.
	HTTPStatus int
	// Retryable says that the same call may succeed later, unchanged. This does not mean that
	// repeating is harmless; see Progress.
	Retryable bool
	// RetryDelay is the delay that the peer requested, negative if it requested none.
	RetryDelay time.Duration
	Progress   Progress
	// PeerText is the enclave's reason for refusing a request or closing the connection. It may
	// repeat parts of the request: show it to the user, but do not log it.
	PeerText string `json:"-"`
	// Report is the refused enclave's report, for ErrRejected.
	Report *Report

	// The context's error and cause, or the error of a document's reader.
	causes []error
}

// Error returns the name of the status, the message and, if a context or a reader ended the call,
// its cause.
func (e *Error) Error() string {
	text := "confer: " + e.Status.String() + ": " + e.Message
	if len(e.causes) > 0 {
		text += ": " + e.causes[len(e.causes)-1].Error()
	}
	return text
}

// Format writes the text of [Error.Error], whatever the verb, because PeerText may repeat a prompt.
func (e Error) Format(to fmt.State, verb rune) {
	fmt.Fprintf(to, fmt.FormatString(to, verb), e.Error())
}

// Unwrap returns the status and, if a context or a reader ended the call, its error and cause.
func (e *Error) Unwrap() []error { return append([]error{e.Status}, e.causes...) }

// takeError reads an error and frees it. It is NULL if this package found the failure.
func takeError(status C.confer_status, failure *C.confer_error) *Error {
	if failure == nil {
		return madeHere(Status(status), Status(status).Error())
	}
	defer C.confer_error_free(failure)
	err := readError(failure)
	err.Status = Status(status)
	return err
}

// lentError copies an error that belongs to an event, nil for NULL.
func lentError(failure *C.confer_error) error {
	if failure == nil {
		return nil
	}
	return readError(failure)
}

func readError(failure *C.confer_error) *Error {
	return &Error{
		Status:     Status(C.confer_error_status(failure)),
		Message:    textOf(func(n *C.size_t) *C.char { return C.confer_error_message(failure, n) }),
		CheckID:    textOf(func(n *C.size_t) *C.char { return C.confer_error_check_id(failure, n) }),
		HTTPStatus: int(C.confer_error_http_status(failure)),
		Retryable:  bool(C.confer_error_retryable(failure)),
		RetryDelay: time.Duration(C.confer_error_retry_delay_ms(failure)) * time.Millisecond,
		Progress:   Progress(C.confer_error_progress(failure)),
		PeerText:   textOf(func(n *C.size_t) *C.char { return C.confer_error_peer_text(failure, n) }),
		Report:     readReport(C.confer_error_report(failure)),
	}
}

// madeHere makes an error of this package.
func madeHere(status Status, message string) *Error {
	return &Error{Status: status, Message: message, RetryDelay: -time.Millisecond}
}

// because notes that this context cancelled the call.
func (e *Error) because(ctx context.Context) *Error {
	if e.Status == ErrCancelled {
		if err := ctx.Err(); err != nil {
			e.causes = []error{err, context.Cause(ctx)}
		}
	}
	return e
}

// textOf copies the text of a getter, "" for NULL.
func textOf(get func(*C.size_t) *C.char) string {
	var length C.size_t
	text := get(&length)
	if text == nil {
		return ""
	}
	return strings.Clone(unsafe.String((*byte)(unsafe.Pointer(text)), length))
}
