package confer

// The table of statuses. A test compares it with confer.h.

/*
#include <confer.h>
*/
import "C"

// Status says how a call or a stream failed. Compare it with errors.Is:
//
//	if errors.Is(err, confer.ErrRejected) { … }
//
// confer.h explains each. Later versions may add statuses.
type Status int32

// 1xx mistakes of the caller, 2xx ended on this side, 3xx network, 4xx the peer broke the protocol,
// 5xx the enclave was refused, 6xx the enclave answered with an error.
const (
	ErrInvalidArgument Status = C.CONFER_E_INVALID_ARGUMENT
	ErrInvalidUTF8     Status = C.CONFER_E_INVALID_UTF8
	ErrInvalidURL      Status = C.CONFER_E_INVALID_URL
	ErrInvalidJSON     Status = C.CONFER_E_INVALID_JSON
	ErrInvalidPolicy   Status = C.CONFER_E_INVALID_POLICY
	ErrBusy            Status = C.CONFER_E_BUSY
	ErrWouldDeadlock   Status = C.CONFER_E_WOULD_DEADLOCK
	ErrForked          Status = C.CONFER_E_FORKED
	ErrFile            Status = C.CONFER_E_FILE
	ErrTooLarge        Status = C.CONFER_E_TOO_LARGE
	ErrTooMany         Status = C.CONFER_E_TOO_MANY
	ErrStale           Status = C.CONFER_E_STALE
	ErrNotConnected    Status = C.CONFER_E_NOT_CONNECTED

	ErrCancelled Status = C.CONFER_E_CANCELLED
	ErrClosed    Status = C.CONFER_E_CLOSED
	ErrStopped   Status = C.CONFER_E_STOPPED
	ErrPanic     Status = C.CONFER_E_PANIC
	ErrSystem    Status = C.CONFER_E_SYSTEM
	ErrToken     Status = C.CONFER_E_TOKEN
	ErrExpired   Status = C.CONFER_E_EXPIRED

	ErrResolve        Status = C.CONFER_E_RESOLVE
	ErrConnect        Status = C.CONFER_E_CONNECT
	ErrTLS            Status = C.CONFER_E_TLS
	ErrUpgrade        Status = C.CONFER_E_UPGRADE
	ErrStageTimeout   Status = C.CONFER_E_STAGE_TIMEOUT
	ErrConnectionLost Status = C.CONFER_E_CONNECTION_LOST
	ErrDeadPeer       Status = C.CONFER_E_DEAD_PEER
	ErrProxy          Status = C.CONFER_E_PROXY

	ErrProtocol  Status = C.CONFER_E_PROTOCOL
	ErrHandshake Status = C.CONFER_E_HANDSHAKE
	ErrDecrypt   Status = C.CONFER_E_DECRYPT
	ErrFrame     Status = C.CONFER_E_FRAME
	ErrLimit     Status = C.CONFER_E_LIMIT
	ErrEvent     Status = C.CONFER_E_EVENT

	ErrRejected       Status = C.CONFER_E_REJECTED
	ErrReleaseRefused Status = C.CONFER_E_RELEASE_REFUSED

	ErrRefused         Status = C.CONFER_E_REFUSED
	ErrUnauthorized    Status = C.CONFER_E_UNAUTHORIZED
	ErrPaymentRequired Status = C.CONFER_E_PAYMENT_REQUIRED
	ErrStreamIdle      Status = C.CONFER_E_STREAM_IDLE
	ErrSlowConsumer    Status = C.CONFER_E_SLOW_CONSUMER
	ErrToolRounds      Status = C.CONFER_E_TOOL_ROUNDS
)

// String returns the name of the constant in confer.h, such as "CONFER_E_REJECTED".
func (s Status) String() string { return C.GoString(C.confer_status_name(C.confer_status(s))) }

// Error returns one sentence that explains the status.
func (s Status) Error() string { return C.GoString(C.confer_status_description(C.confer_status(s))) }
