package confer

// This file holds what a client is made from.

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
	// IdleTimeout is how long nothing may come for a request. Default: three minutes for streamed chats, ten for all else.
	IdleTimeout time.Duration
	// Keepalive is the time between pings, DeadPeer how long one may stay unanswered. Default: 20 seconds each.
	Keepalive, DeadPeer time.Duration

	// Reconnect says whether a connection that breaks is made again. Default: no, and the client ends with it.
	Reconnect Reconnect
	// MaxAge is the age at which a connection is replaced by a fresh one, which is verified anew: 10 seconds or more.
	// Without Reconnect the client ends then, with ErrExpired. Default: never.
	MaxAge time.Duration
	// RenewWithEvidence replaces it no later than Report.ExpiresAt too.
	RenewWithEvidence bool
	// ProbeTimeout is how long the enclave may be silent after Client.NetworkChanged. Default: 5 seconds.
	ProbeTimeout time.Duration

	// Proxy is http://host:port or socks5://host:port to connect through, or with credentials
	// http://user:password@host:port; printing a Config does not show it. Default: none.
	Proxy string `json:"-"`
	// ProxyFromEnvironment takes HTTPS_PROXY, ALL_PROXY and NO_PROXY as Connect finds them, unless there is a Proxy.
	ProxyFromEnvironment bool
	// Roots says whose certificates count for TLS, RootsPEM names the application's own in the place of these.
	Roots    Roots
	RootsPEM string

	// Limits bounds the memory that a client may take.
	Limits Limits
}

// Reconnect says how a connection that broke is made again. Each goes through the whole verification. A request that was
// not sent yet is sent on the next connection; of others the stream fails, and Error.Progress says how far they had come:
// nothing is sent twice.
type Reconnect struct {
	// Attempts is how many may fail in a row before the client ends with the last one's error; 0 for no reconnecting.
	Attempts uint32
	// FirstDelay bounds the random pause before an attempt, and doubles with each failure up to MaxDelay. Default: half a
	// second, and half a minute.
	FirstDelay, MaxDelay time.Duration
}

const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
)

// Roots says whose certificates count for TLS. It has nothing to do with the enclave's verification.
type Roots int32

const (
	RootsBundled Roots = C.CONFER_ROOTS_BUNDLED // Mozilla's list, which is built into the library
	RootsSystem  Roots = C.CONFER_ROOTS_SYSTEM  // those that the system trusts, as Connect finds them
)

// Limits bounds the memory that a client may take: bytes, but for Requests. What is left zero has the library's default,
// which confer.h names.
type Limits struct {
	StreamRest   uint64 // unread on the only stream, above which the socket is not read
	StreamUnread uint64 // unread on a stream, above which it fails with ErrSlowConsumer
	ClientUnread uint64 // unread on all streams
	Unfinished   uint64 // of messages of which not all has come
	Unsent       uint64 // of requests that wait to be sent, above which a further one fails with ErrTooMany
	Requests     uint64 // open at once
}

// Format leaves token and proxy out, whatever the verb.
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
	limit := func(value time.Duration, set func(C.uint64_t, **C.confer_error) C.confer_status) {
		if value != 0 {
			a.call(func(e **C.confer_error) C.confer_status { return set(milliseconds(value), e) })
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
	limit(c.ConnectTimeout, func(ms C.uint64_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_connect_timeout_ms(native, ms, e)
	})
	limit(c.IdleTimeout, func(ms C.uint64_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_idle_timeout_ms(native, ms, e)
	})
	limit(c.Keepalive, func(ms C.uint64_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_keepalive_ms(native, ms, e)
	})
	limit(c.DeadPeer, func(ms C.uint64_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_dead_peer_ms(native, ms, e)
	})
	limit(c.ProbeTimeout, func(ms C.uint64_t, e **C.confer_error) C.confer_status {
		return C.confer_config_set_probe_timeout_ms(native, ms, e)
	})
	if again := c.Reconnect; again.Attempts != 0 {
		if again.MaxDelay == 0 {
			again.MaxDelay = max(maxDelay, again.FirstDelay)
		}
		if again.FirstDelay == 0 {
			again.FirstDelay = min(firstDelay, again.MaxDelay)
		}
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_reconnect(native, C.uint32_t(again.Attempts), milliseconds(again.FirstDelay),
				milliseconds(again.MaxDelay), e)
		})
	}
	if c.MaxAge != 0 || c.RenewWithEvidence {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_max_age(native, milliseconds(c.MaxAge), C.bool(c.RenewWithEvidence), e)
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

// milliseconds of a time, rounded up: what is not zero does not become what means "any". A negative one becomes a number
// beyond every bound, which the library refuses by name.
func milliseconds(wait time.Duration) C.uint64_t {
	switch {
	case wait < 0:
		return math.MaxUint64
	case wait%time.Millisecond != 0:
		return C.uint64_t(wait.Milliseconds() + 1)
	}
	return C.uint64_t(wait.Milliseconds())
}
