package confer

// The configuration of a client.

/*
#include <confer.h>

extern void conferGoLog(uintptr_t, int32_t, char *, char *);
extern void conferGoDestroy(uintptr_t);

static void log_in_go(void *handle, int32_t level, const char *target, const char *message) {
	conferGoLog((uintptr_t)handle, level, (char *)target, (char *)message);
}

static void destroy_in_go(void *handle) { conferGoDestroy((uintptr_t)handle); }

static confer_status set_log(confer_config *config, int32_t level, uintptr_t handle, confer_error **error) {
	return confer_config_set_log(config, level, log_in_go, (void *)handle, destroy_in_go, error);
}
*/
import "C"

import (
	"context"
	"fmt"
	"maps"
	"math"
	"runtime/cgo"
	"slices"
	"time"
)

// Config is the configuration of a client. A zero field has the library's default.
type Config struct {
	// Endpoint is the WebSocket's URL with its path, without the token. Default: Confer's service.
	Endpoint string
	// Token is the account's token. Required, unless TokenProvider or AskToken is set. Printing a
	// Config does not show it. But fmt prints all of a Config in an unexported field of another
	// struct, because it calls no method of such a field.
	Token string `json:"-"`
	// TokenProvider gives tokens: for the first connection if Token is empty, for later
	// connections, before a token expires, and after the server refused one. It runs in a goroutine
	// with a context that ends when the token is no longer needed, at the latest with the client.
	// An error refuses the question: a connection that needs a token then fails with ErrToken, and
	// is not retried. The error is not repeated anywhere. A panic ends the program, as in any
	// goroutine.
	TokenProvider func(context.Context, TokenReason) (string, error) `json:"-"`
	// AcceptRelease decides whether an enclave that satisfies the policy is accepted although its
	// release differs from the previous connection's. If it is not, the client ends with
	// ErrReleaseRefused. It runs like TokenProvider. Default: the policy decides.
	AcceptRelease func(ctx context.Context, previous, now *Report) bool `json:"-"`
	// Ask says which questions the application answers in a loop over Client.Watch. Start such a
	// client with Start: Connect has no watch.
	Ask Questions
	// Policy says which enclaves are trusted. Default: ProductionPolicy.
	Policy *Policy
	// JWKSCacheFile stores Intel's key sets for other processes. Default: no file.
	JWKSCacheFile string
	// Durations and Limits are settings by key. A context's deadline also applies.
	Durations map[DurationKey]time.Duration
	Limits    map[LimitKey]uint64
	// RenewWithEvidence also replaces a connection before Report.ExpiresAt.
	RenewWithEvidence bool

	// Proxy is http://host:port or socks5://host:port, or with credentials
	// http://user:password@host:port. Printing a Config does not show it. Default: no proxy.
	Proxy string `json:"-"`
	// ProxyFromEnvironment uses HTTPS_PROXY, ALL_PROXY and NO_PROXY at the time of Start, unless
	// Proxy is set.
	ProxyFromEnvironment bool
	// Roots selects the TLS roots. RootsPEM, if set, replaces them with the application's.
	Roots    Roots
	RootsPEM string

	// Log receives the log's records up to LogLevel, LogInfo if it is zero. Records never contain a
	// token, prompt, answer or key. It runs on a thread of the library: a slow one delays the log
	// and Client.Close. A panic and runtime.Goexit, which testing.T.FailNow calls, end the program.
	// Default: no log.
	Log      func(level LogLevel, target, message string) `json:"-"`
	LogLevel LogLevel
}

// Questions is a set of questions.
type Questions uint32

const (
	AskToken   Questions = C.CONFER_ASK_TOKEN   // the application answers *TokenQuestion
	AskRelease Questions = C.CONFER_ASK_RELEASE // the application answers *ReleaseQuestion
)

// DurationKey is a key of [Config.Durations]. Its default and bounds are in the table of
// confer_config_set_duration_ms in confer.h.
type DurationKey int32

const (
	DurationStageResolve   DurationKey = C.CONFER_DURATION_STAGE_RESOLVE
	DurationStageTCP       DurationKey = C.CONFER_DURATION_STAGE_TCP
	DurationStageTLS       DurationKey = C.CONFER_DURATION_STAGE_TLS
	DurationStageUpgrade   DurationKey = C.CONFER_DURATION_STAGE_UPGRADE
	DurationStageHandshake DurationKey = C.CONFER_DURATION_STAGE_HANDSHAKE
	DurationStageKeySet    DurationKey = C.CONFER_DURATION_STAGE_KEY_SET
	DurationStageVerify    DurationKey = C.CONFER_DURATION_STAGE_VERIFY
	DurationStageProxy     DurationKey = C.CONFER_DURATION_STAGE_PROXY
	DurationConnect        DurationKey = C.CONFER_DURATION_CONNECT       // all stages together
	DurationAnswer         DurationKey = C.CONFER_DURATION_ANSWER        // the answer to a question
	DurationKeepalive      DurationKey = C.CONFER_DURATION_KEEPALIVE     // between pings
	DurationDeadPeer       DurationKey = C.CONFER_DURATION_DEAD_PEER     // silence after a ping
	DurationProbe          DurationKey = C.CONFER_DURATION_PROBE         // silence after NetworkChanged
	DurationIdleEvents     DurationKey = C.CONFER_DURATION_IDLE_EVENTS   // silence in a streamed answer
	DurationIdleOther      DurationKey = C.CONFER_DURATION_IDLE_OTHER    // silence in another answer
	DurationMaxAge         DurationKey = C.CONFER_DURATION_MAX_AGE       // until a connection is replaced
	DurationFirstRetry     DurationKey = C.CONFER_DURATION_FIRST_RETRY   // longest first delay; doubles with each failure
	DurationLongestRetry   DurationKey = C.CONFER_DURATION_LONGEST_RETRY // longest delay
)

// String returns the name of the constant in confer.h, such as "CONFER_DURATION_CONNECT".
func (k DurationKey) String() string { return C.GoString(C.confer_duration_name(C.int32_t(k))) }

// LimitKey is a key of [Config.Limits]. Its default and bounds are in the table of
// confer_config_set_limit in confer.h.
type LimitKey int32

const (
	LimitStreamRest   LimitKey = C.CONFER_LIMIT_STREAM_REST   // unread on the only stream; above this, the socket is not read
	LimitStreamUnread LimitKey = C.CONFER_LIMIT_STREAM_UNREAD // unread on a stream; above this, it fails with ErrSlowConsumer
	LimitClientUnread LimitKey = C.CONFER_LIMIT_CLIENT_UNREAD // unread on all streams
	LimitUnfinished   LimitKey = C.CONFER_LIMIT_UNFINISHED    // bytes of incomplete messages
	LimitUnsent       LimitKey = C.CONFER_LIMIT_UNSENT        // bytes of unsent requests; above this, new ones fail with ErrTooMany, or ErrTooLarge if one exceeds it
	LimitRequests     LimitKey = C.CONFER_LIMIT_REQUESTS      // open requests
	// LimitAttempts is the number of attempts to connect that may fail in a row, including the
	// first one; after the last the client ends with its error. Default 0: the client ends with its
	// connection. Every new connection is fully verified. An unsent request is sent on the next
	// connection. A sent one fails, and Error.Progress says how far it had come: no request that
	// may have been carried out is sent twice.
	LimitAttempts LimitKey = C.CONFER_LIMIT_ATTEMPTS
)

// String returns the name of the constant in confer.h, such as "CONFER_LIMIT_REQUESTS".
func (k LimitKey) String() string { return C.GoString(C.confer_limit_name(C.int32_t(k))) }

// Roots selects the TLS roots. They do not affect the enclave's verification.
type Roots int32

const (
	RootsBundled Roots = C.CONFER_ROOTS_BUNDLED // Mozilla's list, built into the library
	RootsSystem  Roots = C.CONFER_ROOTS_SYSTEM  // the system's roots at the time of Start
)

// String returns the name of the constant in confer.h, such as "CONFER_ROOTS_BUNDLED".
func (r Roots) String() string { return C.GoString(C.confer_roots_name(C.int32_t(r))) }

// Format omits the content, whatever the verb: token, proxy and endpoint can contain secrets.
func (c Config) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.Config") }

func (c Config) native() (*C.confer_config, error) {
	if c.Policy != nil {
		if err := c.Policy.owner.made("policy"); err != nil {
			return nil, err
		}
	}
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
	ask := c.Ask
	if c.TokenProvider != nil {
		ask |= AskToken
	}
	if c.AcceptRelease != nil {
		ask |= AskRelease
	}
	a.call(func(e **C.confer_error) C.confer_status { return C.confer_config_set_ask(native, C.uint32_t(ask), e) })
	for _, key := range slices.Sorted(maps.Keys(c.Durations)) {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_duration_ms(native, C.int32_t(key), milliseconds(c.Durations[key]), e)
		})
	}
	for _, key := range slices.Sorted(maps.Keys(c.Limits)) {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_config_set_limit(native, C.int32_t(key), C.uint64_t(c.Limits[key]), e)
		})
	}
	a.call(func(e **C.confer_error) C.confer_status {
		return C.confer_config_set_renew_with_evidence(native, C.bool(c.RenewWithEvidence), e)
	})
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
	if c.Log != nil {
		level := c.LogLevel
		if level == 0 {
			level = LogInfo
		}
		a.call(func(e **C.confer_error) C.confer_status {
			// Also a failing call destroys the handle.
			return C.set_log(native, C.int32_t(level), C.uintptr_t(cgo.NewHandle(c.Log)), e)
		})
	}
	if c.Policy != nil {
		c.Policy.owner.use(func(policy *C.confer_policy) {
			a.call(func(e **C.confer_error) C.confer_status { return C.confer_config_set_policy(native, policy, e) })
		})
	}
	if err := a.err(); err != nil {
		C.confer_config_free(native)
		return nil, err
	}
	return native, nil
}

// milliseconds rounds up, because 0 may turn a time off. A negative time becomes a number beyond
// every bound, which the library refuses.
func milliseconds(wait time.Duration) C.uint64_t {
	switch {
	case wait < 0:
		return math.MaxUint64
	case wait%time.Millisecond != 0:
		return C.uint64_t(wait.Milliseconds() + 1)
	}
	return C.uint64_t(wait.Milliseconds())
}
