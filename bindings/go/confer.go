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
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Config says where to connect and what is trusted. What is left zero has the library's default.
type Config struct {
	// Endpoint is the URL of the WebSocket, path included, without the token. Default: Confer's own service.
	Endpoint string
	// Token is the account's token. Required. Printing a Config does not show it; but fmt asks no method of a Config that
	// lies in an unexported field of another struct, and prints all of it.
	Token string `json:"-"`
	// Policy is what is trusted. Default: ProductionPolicy.
	Policy *Policy
	// JWKSCacheFile keeps Intel's key sets between processes. Default: none.
	JWKSCacheFile string
	// ConnectTimeout bounds connecting. Default: a minute. A context's deadline holds besides.
	ConnectTimeout time.Duration
	// IdleTimeout is how long nothing may come for a request. Default: three minutes.
	IdleTimeout time.Duration
	// Keepalive is the time between pings, DeadPeer how long one may stay unanswered. Default: 20 seconds each.
	Keepalive, DeadPeer time.Duration
}

// Format leaves the token out, whatever the verb.
func (c Config) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.Config{Endpoint: %q}", c.Endpoint)
}

// Client is a connection to a verified enclave.
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

// Report says why the enclave is trusted.
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

// Check returns the error with which the connection ended, nil while it lives.
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

func (c Config) native() (*C.confer_config, error) {
	var native *C.confer_config
	var failure *C.confer_error
	status := C.confer_config_new(&native, &failure)
	text := func(value string, set func(*C.char, C.size_t) C.confer_status) {
		if status == C.CONFER_OK && value != "" {
			status = set(bytesOf(value))
		}
	}
	limit := func(value time.Duration, set func(C.uint64_t) C.confer_status) {
		if status == C.CONFER_OK && value != 0 {
			// A negative time becomes a number beyond every bound, which the library refuses by name.
			status = set(C.uint64_t(value.Milliseconds()))
		}
	}
	text(c.Endpoint, func(p *C.char, n C.size_t) C.confer_status {
		return C.confer_config_set_endpoint(native, p, n, &failure)
	})
	text(c.Token, func(p *C.char, n C.size_t) C.confer_status { return C.confer_config_set_token(native, p, n, &failure) })
	text(c.JWKSCacheFile, func(p *C.char, n C.size_t) C.confer_status {
		return C.confer_config_set_jwks_cache_file(native, p, n, &failure)
	})
	limit(c.ConnectTimeout, func(ms C.uint64_t) C.confer_status {
		return C.confer_config_set_connect_timeout_ms(native, ms, &failure)
	})
	limit(c.IdleTimeout, func(ms C.uint64_t) C.confer_status { return C.confer_config_set_idle_timeout_ms(native, ms, &failure) })
	limit(c.Keepalive, func(ms C.uint64_t) C.confer_status { return C.confer_config_set_keepalive_ms(native, ms, &failure) })
	limit(c.DeadPeer, func(ms C.uint64_t) C.confer_status { return C.confer_config_set_dead_peer_ms(native, ms, &failure) })
	if status == C.CONFER_OK && c.Policy != nil {
		status = C.confer_config_set_policy(native, c.Policy.handle, &failure)
		runtime.KeepAlive(c.Policy)
	}
	if status != C.CONFER_OK {
		C.confer_config_free(native)
		return nil, takeError(status, failure)
	}
	return native, nil
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

// bytesOf lends a string to C for the length of a call.
func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}
