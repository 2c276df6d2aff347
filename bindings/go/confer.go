// Package confer is a client for Confer's attested inference service: libconfer for Go.
//
// Connect verifies the enclave before it sends anything. A Client then streams chats:
//
//	client, err := confer.Connect(ctx, confer.Config{Token: token})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	for event, err := range client.Chat(ctx, confer.Request{Messages: []confer.Message{{Content: "Hello!"}}}) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(event.Content)
//	}
//
// Failures are of type *Error; tell them apart with errors.Is(err, confer.ErrRejected) and the
// like. Several goroutines may use any value at once. The package needs cgo and libconfer;
// README.md says how to find it.
package confer

// The connection: turns contexts into the library's cancel handles, and prevents use of a freed
// handle.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Client is a connection to a verified enclave. With Config.Reconnect, it can be several in
// succession.
type Client struct {
	// Locked for reading to use the handle, and for writing to free it.
	mu      sync.RWMutex
	handle  *C.confer_client
	cleanup runtime.Cleanup
}

// Connect connects, verifies the enclave, and completes the handshake. When ctx ends, connecting is
// cancelled. If the enclave is refused, the error's Report says why.
func Connect(ctx context.Context, config Config) (*Client, error) {
	native, err := config.native()
	if err != nil {
		return nil, err
	}
	defer C.confer_config_free(native)

	var cancel *C.confer_cancel
	var failure *C.confer_error
	if status := C.confer_cancel_new(&cancel, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure).because(ctx)
	}
	defer C.confer_cancel_free(cancel)
	defer whenDone(ctx, func() { C.confer_cancel_trigger(cancel) })()

	client := new(Client)
	if status := C.confer_connect(native, cancel, &client.handle, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure).because(ctx)
	}
	// For clients that are never closed.
	client.cleanup = runtime.AddCleanup(client, func(handle *C.confer_client) { C.confer_client_free(handle) }, client.handle)
	return client, nil
}

// Report returns the report of the current connection, or of the last one.
func (c *Client) Report() (*Report, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return nil, madeHere(ErrClosed, ErrClosed.Error())
	}
	var report *C.confer_report
	var failure *C.confer_error
	if status := C.confer_attestation_report(c.handle, &report, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure)
	}
	defer C.confer_report_free(report)
	return readReport(report)
}

// Check returns the error with which the client ended, or nil. With Config.Reconnect, a client also
// lives between connections; Connected shows whether one exists.
func (c *Client) Check() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return madeHere(ErrClosed, ErrClosed.Error())
	}
	var failure *C.confer_error
	if status := C.confer_client_check(c.handle, &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
}

// Connected returns whether a connection exists now.
func (c *Client) Connected() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.handle != nil && bool(C.confer_client_connected(c.handle))
}

// NetworkChanged must be called when the network has changed or the machine has slept. It checks at
// once, within Config.ProbeTimeout, whether the connection is alive. A pending reconnect skips its
// pause. It never waits.
func (c *Client) NetworkChanged() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return madeHere(ErrClosed, ErrClosed.Error())
	}
	var failure *C.confer_error
	if status := C.confer_client_network_changed(c.handle, &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
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
func (c *Client) Counters() Counters {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return Counters{}
	}
	read := func(counter C.int32_t) uint64 { return uint64(C.confer_client_counter(c.handle, counter)) }
	return Counters{
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
}

// Close ends the connection and all its streams, which fail with ErrClosed. It may be called again.
func (c *Client) Close() error {
	if err := c.close(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleanup.Stop()
	C.confer_client_free(c.handle)
	c.handle = nil
	return nil
}

func (c *Client) close() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return nil
	}
	var failure *C.confer_error
	// No callbacks exist that this could wait for.
	if status := C.confer_close(c.handle, -1, &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
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

// bytesOf lends a string to C during a call.
func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}
