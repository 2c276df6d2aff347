// Package confer is a client for Confer's attested inference service: libconfer for Go.
//
// Connect verifies the enclave before anything is sent to it. A Client then streams chats:
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
// Failures are of type *Error; errors.Is(err, confer.ErrRejected) and its like tell them apart. All types may be used by
// several goroutines at once. The package needs cgo and libconfer; README.md says how it is found.
package confer

// This file holds the connection: it turns contexts into the library's cancel handles, and sees to it that no handle is
// used after it was freed. It knows nothing of what travels.

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

// Client is a connection to a verified enclave; with Config.Reconnect, several one after the other.
type Client struct {
	// Held for reading by whoever uses the handle, for writing by who frees it.
	mu      sync.RWMutex
	handle  *C.confer_client
	cleanup runtime.Cleanup
}

// Connect connects, verifies the enclave, and completes the handshake. When ctx ends, so does connecting. If the enclave
// is refused, the error's Report says why.
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
	// Only for clients that nobody closes.
	client.cleanup = runtime.AddCleanup(client, func(handle *C.confer_client) { C.confer_client_free(handle) }, client.handle)
	return client, nil
}

// Report says why the enclave is trusted: that of the connection in use, or of the last one.
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

// Check returns the error with which the client ended, nil while it lives. With Config.Reconnect it lives between two
// connections too; Connected tells these apart.
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

// Connected tells whether there is a connection at this moment.
func (c *Client) Connected() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.handle != nil && bool(C.confer_client_connected(c.handle))
}

// NetworkChanged says that the network changed, or that the machine has slept. A connection is asked at once whether it
// still lives, within Config.ProbeTimeout; one that is being made again is made without a further pause. It never waits.
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

// Counters is what a client has done so far.
type Counters struct {
	// Bytes that went to sockets and came from them, TLS and WebSocket included.
	BytesSent, BytesReceived uint64
	// Whole messages: requests, chunks of documents, pings.
	MessagesSent, MessagesReceived uint64
	// Keepalive pings, and how long the last of them took; 0 before the first.
	PingsSent, PingsAnswered uint64
	RoundTrip                time.Duration
	// Connections that were made and verified, the first one included, and attempts to connect again that failed.
	Connections, FailedAttempts uint64
}

// Counters tells what the client has done so far; after Close it is zero.
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

// Close ends the connection and every stream on it, which fail with ErrClosed. Closing again is allowed.
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
	// There are no callbacks that it could wait for.
	if status := C.confer_close(c.handle, -1, &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
}

// whenDone calls cancel when ctx ends. The function that it returns takes that back and, if cancel has begun, waits for
// it: only then may what cancel uses be freed.
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

// attempt is a row of calls of which the first that fails is the last.
type attempt struct {
	status  C.confer_status
	failure *C.confer_error
}

func (a *attempt) call(function func(**C.confer_error) C.confer_status) {
	if a.status == C.CONFER_OK {
		a.status = function(&a.failure)
	}
}

// err takes the error of the call that failed, if one did.
func (a *attempt) err() error {
	if a.status == C.CONFER_OK {
		return nil
	}
	return takeError(a.status, a.failure)
}

// bytesOf lends a string to C for the length of a call.
func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}
