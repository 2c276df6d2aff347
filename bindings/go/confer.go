// Package confer is a client for Confer's attested inference service: libconfer for Go.
//
// [Connect] verifies the enclave before it sends a request. A [Client] then streams chats:
//
//	client, err := confer.Connect(ctx, confer.Config{Token: token})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	for event, err := range client.Chat(ctx, confer.ChatRequest{Messages: []confer.Message{{Content: "Hello!"}}}) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(event.Content)
//	}
//
// Failures are of type [*Error]; tell them apart with errors.Is(err, confer.ErrRejected) and the
// like. Several goroutines may use any value at once. A copy of a [Client], [Policy],
// [Conversation] or [Event] stands for the same one. The package needs cgo and libconfer; README.md
// says how to find it.
package confer

// The client: its life from Start to Close.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"time"
	"unsafe"
)

// Client is a client for its whole life: connecting, connected, reconnecting, ended.
type Client struct {
	owner *owner[*C.confer_client]
}

// State is the state of a client. Later versions may add states.
type State int32

const (
	StateConnecting   State = C.CONFER_CLIENT_CONNECTING   // makes its first connection
	StateConnected    State = C.CONFER_CLIENT_CONNECTED    // has a verified connection
	StateReconnecting State = C.CONFER_CLIENT_RECONNECTING // lost its connection, and makes another one
	StateEnded        State = C.CONFER_CLIENT_ENDED        // has ended: see Err
)

// String returns the name of the constant in confer.h, such as "CONFER_CLIENT_CONNECTED".
func (s State) String() string { return C.GoString(C.confer_client_state_name(C.int32_t(s))) }

// Connect starts a client and waits until it has a verified connection. When ctx ends, so does
// connecting. If the enclave is refused, [Error.Report] says why. A failed attempt is retried
// as [LimitAttempts] allows.
func Connect(ctx context.Context, config Config) (*Client, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	client, err := Start(config)
	if err != nil {
		return nil, err
	}
	if err := client.Wait(ctx); err != nil {
		// Not Close, which would wait for a name look-up.
		client.owner.free()
		return nil, err
	}
	return client, nil
}

// Start returns a client that begins to connect. Requests can be started at once: they stay in this
// process until the enclave is verified.
func Start(config Config) (*Client, error) {
	native, err := config.native()
	if err != nil {
		return nil, err
	}
	defer C.confer_config_free(native)
	var handle *C.confer_client
	err = do(func(e **C.confer_error) C.confer_status { return C.confer_connect_start(native, &handle, e) })
	if err != nil {
		return nil, err
	}
	client := &Client{own(handle, func(handle *C.confer_client) { C.confer_client_free(handle) })}
	if config.TokenProvider != nil || config.AcceptRelease != nil {
		questions, err := client.watch()
		if err != nil {
			client.owner.free()
			return nil, err
		}
		go config.answer(questions)
	}
	return client, nil
}

// Wait waits until the client is connected. If it has ended or ends during the wait, Wait returns
// its error. When ctx ends, only the wait ends.
func (c *Client) Wait(ctx context.Context) error {
	for event, err := range c.Watch(ctx) {
		if err != nil {
			return err
		}
		if _, connected := event.(Connected); connected {
			return nil
		}
	}
	return takeError(C.CONFER_E_CLOSED, nil)
}

// State returns the client's state.
func (c *Client) State() (state State) {
	c.owner.use(func(client *C.confer_client) { state = State(C.confer_client_state(client)) })
	return state
}

// Err returns the error with which the client ended, or nil while it lives. A client that
// reconnects also lives between two connections: see [Client.State].
func (c *Client) Err() error {
	return c.call(func(handle *C.confer_client, e **C.confer_error) C.confer_status {
		return C.confer_client_check(handle, e)
	})
}

// Report returns the report of the current connection, or of the last one.
func (c *Client) Report() (*Report, error) {
	var report *C.confer_report
	err := c.call(func(handle *C.confer_client, e **C.confer_error) C.confer_status {
		return C.confer_attestation_report(handle, &report, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.confer_report_free(report)
	return readReport(report), nil
}

// SetToken gives the client a fresh token unasked. It answers an open token question; otherwise the
// next attempt to connect uses it.
func (c *Client) SetToken(token string) error {
	return c.call(func(handle *C.confer_client, e **C.confer_error) C.confer_status {
		text, length := bytesOf(token)
		return C.confer_client_set_token(handle, text, length, e)
	})
}

// NetworkChanged must be called when the network has changed or the machine has slept. It checks at
// once, within [DurationProbe], whether the connection is alive. A pending retry skips the rest of
// its delay. It never waits.
func (c *Client) NetworkChanged() error {
	return c.call(func(handle *C.confer_client, e **C.confer_error) C.confer_status {
		return C.confer_client_network_changed(handle, e)
	})
}

// Counters are the counters of a client.
type Counters struct {
	// Bytes sent and received by sockets, including TLS and WebSocket.
	BytesSent, BytesReceived uint64
	// Complete messages: requests, chunks of documents, pings.
	MessagesSent, MessagesReceived uint64
	// Keepalive pings, and the round trip of the last one, 0 before the first.
	PingsSent, PingsAnswered uint64
	RoundTrip                time.Duration
	// Verified connections, including the first one, and failed attempts to reconnect.
	Connections, FailedAttempts uint64
}

// Counters returns the client's counters. After Close they are zero.
func (c *Client) Counters() (counters Counters) {
	c.owner.use(func(client *C.confer_client) {
		read := func(counter C.int32_t) uint64 { return uint64(C.confer_client_counter(client, counter)) }
		counters = Counters{
			BytesSent:        read(C.CONFER_COUNTER_BYTES_SENT),
			BytesReceived:    read(C.CONFER_COUNTER_BYTES_RECEIVED),
			MessagesSent:     read(C.CONFER_COUNTER_MESSAGES_SENT),
			MessagesReceived: read(C.CONFER_COUNTER_MESSAGES_RECEIVED),
			PingsSent:        read(C.CONFER_COUNTER_PINGS_SENT),
			PingsAnswered:    read(C.CONFER_COUNTER_PINGS_ANSWERED),
			RoundTrip:        time.Duration(read(C.CONFER_COUNTER_ROUND_TRIP_US)) * time.Microsecond,
			Connections:      read(C.CONFER_COUNTER_CONNECTIONS),
			FailedAttempts:   read(C.CONFER_COUNTER_FAILED_ATTEMPTS),
		}
	})
	return counters
}

// Close ends the client and all its streams, which fail with [ErrClosed]. It waits without a limit,
// until a running call of [Config.Log] returns and the system ends the client's name look-ups and
// file accesses. It may be called again. In [Config.Log] it fails with [ErrWouldDeadlock].
func (c *Client) Close() error {
	err := c.owner.do(func(client *C.confer_client, e **C.confer_error) C.confer_status {
		if client == nil {
			return C.CONFER_OK
		}
		return C.confer_close(client, -1, e)
	})
	if err != nil {
		return err
	}
	c.owner.free()
	return nil
}

// call calls a function with the handle. After Close it returns ErrClosed.
func (c *Client) call(function func(*C.confer_client, **C.confer_error) C.confer_status) error {
	return c.owner.do(func(client *C.confer_client, e **C.confer_error) C.confer_status {
		if client == nil {
			return C.CONFER_E_CLOSED
		}
		return function(client, e)
	})
}

// ended returns an error if ctx has ended, or is nil.
func ended(ctx context.Context) error {
	if ctx == nil {
		return madeHere(ErrInvalidArgument, "ctx: it is nil")
	}
	if ctx.Err() == nil {
		return nil
	}
	return takeError(C.CONFER_E_CANCELLED, nil).because(ctx)
}

// readStream lends each event of a stream to take until it returns false. Cancelling the stream
// wakes it when ctx ends. It does not free the stream.
func readStream(ctx context.Context, stream *C.confer_stream, take func(*C.confer_event) bool) error {
	defer whenDone(ctx, func() { C.confer_stream_cancel(stream) })()
	for {
		var event *C.confer_event
		var failure *C.confer_error
		switch status := C.confer_stream_next(stream, -1, &event, &failure); status {
		case C.CONFER_OK:
			if !take(event) {
				return nil
			}
		case C.CONFER_TIMEOUT:
			// A wait without a limit should not time out. If it does, wait again.
		case C.CONFER_END:
			return nil
		default:
			return takeError(status, failure).because(ctx)
		}
	}
}

// whenDone calls cancel when ctx ends. The returned function prevents that, or waits until a
// started cancel has finished. Only then may the handles that cancel uses be freed.
func whenDone(ctx context.Context, cancel func()) func() {
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		cancel()
	})
	return func() {
		if !stop() {
			<-cancelled
		}
	}
}

// attempt is a sequence of calls that stops at the first failure.
type attempt struct {
	status  C.confer_status
	failure *C.confer_error
}

func (a *attempt) call(function func(**C.confer_error) C.confer_status) {
	if a.status == C.CONFER_OK {
		a.status = function(&a.failure)
	}
}

// err returns the error of the failed call, if any.
func (a *attempt) err() error {
	if a.status == C.CONFER_OK {
		return nil
	}
	return takeError(a.status, a.failure)
}

// do returns the error of one call, if any.
func do(function func(**C.confer_error) C.confer_status) error {
	var a attempt
	a.call(function)
	return a.err()
}

// bytesOf lends a string to C during a call.
func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}
