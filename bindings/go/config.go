package confer

// The configuration of a client.

/*
#include <confer.h>
*/
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"time"
)

// Config is the configuration of a client. A zero field has the library's default.
type Config struct {
	// Endpoint is the WebSocket's URL with its path, without the token. Default: Confer's service.
	Endpoint string
	// Token is the account's token. Required. Printing a Config does not show it. But fmt calls no
	// method of a Config in an unexported field of another struct, and prints all of it.
	Token string `json:"-"`
	// Policy says which enclaves are trusted. Default: ProductionPolicy.
	Policy *Policy
	// JWKSCacheFile stores Intel's key sets for other processes. Default: no file.
	JWKSCacheFile string
	// ConnectTimeout limits connecting. Default: a minute. A context's deadline also applies.
	ConnectTimeout time.Duration
	// IdleTimeout is the longest silence during a request. Default: three minutes for streamed chats,
	// ten minutes for others.
	IdleTimeout time.Duration
	// Keepalive is the interval of pings, DeadPeer the longest wait for an answer. Default: 20 seconds
	// each.
	Keepalive, DeadPeer time.Duration

	// Reconnect controls reconnecting. Default: none, so the client ends with its connection.
	Reconnect Reconnect
	// MaxAge is the age at which a new, verified connection replaces the current one: 10 seconds or
	// more. Without Reconnect, the client ends at this age with ErrExpired. Default: no limit.
	MaxAge time.Duration
	// RenewWithEvidence also replaces a connection before Report.ExpiresAt.
	RenewWithEvidence bool
	// ProbeTimeout is the longest silence after Client.NetworkChanged. Default: 5 seconds.
	ProbeTimeout time.Duration

	// Proxy is http://host:port or socks5://host:port, or with credentials
	// http://user:password@host:port. Printing a Config does not show it. Default: no proxy.
	Proxy string `json:"-"`
	// ProxyFromEnvironment uses HTTPS_PROXY, ALL_PROXY and NO_PROXY at the time of Connect, unless
	// Proxy is set.
	ProxyFromEnvironment bool
	// Roots selects the TLS roots. RootsPEM, if set, replaces them with the application's.
	Roots    Roots
	RootsPEM string

	// Limits limits the memory of a client.
	Limits Limits
}

// Reconnect controls reconnecting. Every new connection is fully verified. An unsent request is
// sent on the next connection. A sent one fails, and Error.Progress says how far it had come. No
// request is sent twice.
type Reconnect struct {
	// Attempts is the number of failed attempts in a row after which the client ends with the last
	// error; 0 turns reconnecting off.
	Attempts uint32
	// FirstDelay is the longest random pause before the first attempt. It doubles with each failure up
	// to MaxDelay. Default: half a second, and half a minute.
	FirstDelay, MaxDelay time.Duration
}

const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
)

// Roots selects the TLS roots. They do not affect the enclave's verification.
type Roots int32

const (
	RootsBundled Roots = C.CONFER_ROOTS_BUNDLED // Mozilla's list, built into the library
	RootsSystem  Roots = C.CONFER_ROOTS_SYSTEM  // the system's roots at the time of Connect
)

// Limits are limits of a client's memory in bytes, except for Requests. A zero field has the
// library's default; see confer.h.
type Limits struct {
	StreamRest   uint64 // unread on the only stream; above this, the socket is not read
	StreamUnread uint64 // unread on a stream; above this, it fails with ErrSlowConsumer
	ClientUnread uint64 // unread on all streams
	Unfinished   uint64 // of incomplete messages
	Unsent       uint64 // of unsent requests; above this, new ones fail with ErrTooMany
	Requests     uint64 // open requests
}

// Format omits token and proxy, whatever the verb.
func (c Config) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.Config{Endpoint: %q}", c.Endpoint)
}

func (c Config) native() (*C.confer_config, error) {
	var native *C.confer_config
	var a attempt
	text := func(value string, set func(*C.char, C.size_t, **C.confer_error) C.confer_status) {
		if value != "" {
			a.call(func(e **C.confer_error) C.confer_status {
				text, length := bytesOf(value)
				return set(text, length, e)
			})
		}
	}
	limit := func(value time.Duration, keys ...C.int32_t) {
		for _, key := range keys {
			if value != 0 {
				a.call(func(e **C.confer_error) C.confer_status {
					return C.confer_config_set_duration_ms(native, key, milliseconds(value), e)
				})
			}
		}
	}
	bound := func(value uint64, limit C.int32_t) {
		if value != 0 {
			a.call(func(e **C.confer_error) C.confer_status {
				return C.confer_config_set_limit(native, limit, C.uint64_t(value), e)
			})
		}
	}
	a.call(func(e **C.confer_error) C.confer_status { return C.confer_config_new(&native, e) })
	text(c.Endpoint, func(p *C.char, n C.size_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_endpoint(native, p, n, e)
	})
	text(c.Token, func(p *C.char, n C.size_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_token(native, p, n, e)
	})
	text(c.JWKSCacheFile, func(p *C.char, n C.size_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_jwks_cache_file(native, p, n, e)
	})
	limit(c.ConnectTimeout, C.CONFER_DURATION_CONNECT)
	limit(c.IdleTimeout, C.CONFER_DURATION_IDLE_EVENTS, C.CONFER_DURATION_IDLE_OTHER)
	limit(c.Keepalive, C.CONFER_DURATION_KEEPALIVE)
	limit(c.DeadPeer, C.CONFER_DURATION_DEAD_PEER)
	limit(c.ProbeTimeout, C.CONFER_DURATION_PROBE)
	limit(c.MaxAge, C.CONFER_DURATION_MAX_AGE)
	if again := c.Reconnect; again.Attempts != 0 {
		if again.MaxDelay == 0 {
			again.MaxDelay = max(maxDelay, again.FirstDelay)
		}
		if again.FirstDelay == 0 {
			again.FirstDelay = min(firstDelay, again.MaxDelay)
		}
		bound(uint64(again.Attempts), C.CONFER_LIMIT_ATTEMPTS)
		limit(again.FirstDelay, C.CONFER_DURATION_FIRST_RETRY)
		limit(again.MaxDelay, C.CONFER_DURATION_LONGEST_RETRY)
	}
	if c.RenewWithEvidence {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_renew_with_evidence(native, true, e)
		})
	}
	if c.ProxyFromEnvironment && c.Proxy == "" {
		a.call(func(e **C.confer_error) C.confer_status { return C.confer_config_set_proxy_from_environment(native, e) })
	}
	text(c.Proxy, func(p *C.char, n C.size_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_proxy(native, p, n, e)
	})
	if c.Roots != RootsBundled && c.RootsPEM == "" {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_roots(native, C.int32_t(c.Roots), e)
		})
	}
	text(c.RootsPEM, func(p *C.char, n C.size_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_roots_pem(native, p, n, e)
	})
	bound(c.Limits.StreamRest, C.CONFER_LIMIT_STREAM_REST)
	bound(c.Limits.StreamUnread, C.CONFER_LIMIT_STREAM_UNREAD)
	bound(c.Limits.ClientUnread, C.CONFER_LIMIT_CLIENT_UNREAD)
	bound(c.Limits.Unfinished, C.CONFER_LIMIT_UNFINISHED)
	bound(c.Limits.Unsent, C.CONFER_LIMIT_UNSENT)
	bound(c.Limits.Requests, C.CONFER_LIMIT_REQUESTS)
	if c.Policy != nil {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_policy(native, c.Policy.handle, e)
		})
		runtime.KeepAlive(c.Policy)
	}
	if err := a.err(); err != nil {
		C.confer_config_free(native)
		return nil, err
	}
	return native, nil
}

// milliseconds rounds up, because 0 may mean "any". A negative time becomes a number beyond every
// bound, which the library refuses.
func milliseconds(wait time.Duration) C.uint64_t {
	switch {
	case wait < 0:
		return math.MaxUint64
	case wait%time.Millisecond != 0:
		return C.uint64_t(wait.Milliseconds() + 1)
	}
	return C.uint64_t(wait.Milliseconds())
}
