package confer

// A client's events and questions. One question is open at a time.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"time"
)

// ClientEvent is one of [StageBegan], [Connected], [Disconnected], [Retry], [*TokenQuestion],
// [*ReleaseQuestion], [Answered], [Dropped] and [OtherEvent].
type ClientEvent interface{ clientEvent() }

// StageBegan says that a stage of connecting began.
type StageBegan struct{ Stage Stage }

// Connected says that a verified connection serves.
type Connected struct {
	Report *Report
	// ReleaseChanged says that the release has changed since the previous Connected of this watch,
	// also if it has changed back.
	ReleaseChanged bool
}

// Disconnected says that the connection broke, and that the client makes another one.
type Disconnected struct{ Err error }

// Retry announces the next attempt to connect.
type Retry struct {
	Attempt uint32 // counts attempts in a row from 1; a client's first attempt has no event
	Delay   time.Duration
	Err     error // of the attempt before; nil for the first retry after a lost connection or of a renewal
}

// TokenQuestion asks for a token, within [DurationAnswer]: see [AskToken].
type TokenQuestion struct {
	Reason TokenReason
	kept   *kept
}

// ReleaseQuestion asks whether another release than before is accepted, within [DurationAnswer]:
// see [AskRelease].
type ReleaseQuestion struct {
	Previous, Now *Report
	kept          *kept
}

// Answered says that a question of this watch is over: it was answered, or nobody needs the answer
// any more.
type Answered struct{}

// Dropped says how many old events were dropped because the loop was slow. The present state, an
// open question and the end are never dropped.
type Dropped struct{ Count uint64 }

// OtherEvent is an event that this version does not know.
type OtherEvent struct{ Type EventType }

func (StageBegan) clientEvent()       {}
func (Connected) clientEvent()        {}
func (Disconnected) clientEvent()     {}
func (Retry) clientEvent()            {}
func (*TokenQuestion) clientEvent()   {}
func (*ReleaseQuestion) clientEvent() {}
func (Answered) clientEvent()         {}
func (Dropped) clientEvent()          {}
func (OtherEvent) clientEvent()       {}

// The types of a client's events.
const (
	eventStage        EventType = C.CONFER_EVENT_STAGE
	eventConnected    EventType = C.CONFER_EVENT_CONNECTED
	eventDisconnected EventType = C.CONFER_EVENT_DISCONNECTED
	eventRetry        EventType = C.CONFER_EVENT_RETRY
	eventAskToken     EventType = C.CONFER_EVENT_ASK_TOKEN
	eventAskRelease   EventType = C.CONFER_EVENT_ASK_RELEASE
	eventAnswered     EventType = C.CONFER_EVENT_ANSWERED
)

// Stage is a stage of connecting.
type Stage int32

const (
	StageResolve   Stage = C.CONFER_STAGE_RESOLVE   // looks up the name of the endpoint or proxy
	StageTCP       Stage = C.CONFER_STAGE_TCP       // connects by TCP
	StageTLS       Stage = C.CONFER_STAGE_TLS       // negotiates TLS
	StageUpgrade   Stage = C.CONFER_STAGE_UPGRADE   // requests the WebSocket, with the token
	StageHandshake Stage = C.CONFER_STAGE_HANDSHAKE // exchanges messages 1 and 2
	StageKeySet    Stage = C.CONFER_STAGE_KEY_SET   // finds or fetches Intel's key set
	StageVerify    Stage = C.CONFER_STAGE_VERIFY    // verifies the evidence, and sends message 3
	StageProxy     Stage = C.CONFER_STAGE_PROXY     // opens a tunnel through the proxy
	StageAll       Stage = C.CONFER_STAGE_ALL       // all stages together, for times
)

// String returns the name of the constant in confer.h, such as "CONFER_STAGE_TLS".
func (s Stage) String() string { return C.GoString(C.confer_stage_name(C.int32_t(s))) }

// TokenReason says why a token is needed.
type TokenReason int32

const (
	TokenFirst     TokenReason = C.CONFER_TOKEN_FIRST     // the client has had no connection yet
	TokenReconnect TokenReason = C.CONFER_TOKEN_RECONNECT // for another connection
	TokenExpiring  TokenReason = C.CONFER_TOKEN_EXPIRING  // the token in use ends soon
	TokenRefused   TokenReason = C.CONFER_TOKEN_REFUSED   // the server refused the last token for good
)

// String returns the name of the constant in confer.h, such as "CONFER_TOKEN_REFUSED".
func (r TokenReason) String() string { return C.GoString(C.confer_token_reason_name(C.int32_t(r))) }

// Watch yields the client's events, beginning with the present state and any open question. It
// ends with the client: with the client's error as the last item, or without one after Close. When
// ctx ends, or the loop is left, only the watch ends.
func (c *Client) Watch(ctx context.Context) iter.Seq2[ClientEvent, error] {
	return func(yield func(ClientEvent, error) bool) {
		if err := c.runWatch(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

func (c *Client) runWatch(ctx context.Context, yield func(ClientEvent, error) bool) error {
	if err := ended(ctx); err != nil {
		return err
	}
	stream, err := c.watch()
	if err != nil || stream == nil {
		return err
	}
	defer C.confer_stream_free(stream)
	defer runtime.KeepAlive(c.owner) // a watch does not keep its client alive
	var dropped uint64
	return readStream(ctx, stream, func(event *C.confer_event) bool {
		if now := uint64(C.confer_stream_dropped(stream)); now > dropped {
			more := now - dropped
			if dropped = now; !yield(Dropped{more}, nil) {
				return false
			}
		}
		return yield(readClientEvent(event), nil)
	})
}

// watch opens a stream of the client's events, nil after Close.
func (c *Client) watch() (stream *C.confer_stream, err error) {
	err = c.owner.do(func(client *C.confer_client, e **C.confer_error) C.confer_status {
		if client == nil {
			return C.CONFER_OK
		}
		return C.confer_client_watch(client, nil, &stream, e)
	})
	return stream, err
}

// readClientEvent copies an event, which is lent until the next one.
func readClientEvent(event *C.confer_event) ClientEvent {
	switch kind := EventType(C.confer_event_type(event)); kind {
	case eventStage:
		return StageBegan{Stage(C.confer_event_stage(event))}
	case eventConnected:
		return Connected{readReport(C.confer_event_report(event)), bool(C.confer_event_release_changed(event))}
	case eventDisconnected:
		return Disconnected{lentError(C.confer_event_error(event))}
	case eventRetry:
		delay := time.Duration(C.confer_event_delay_ms(event)) * time.Millisecond
		return Retry{uint32(C.confer_event_attempt(event)), delay, lentError(C.confer_event_error(event))}
	case eventAskToken:
		return &TokenQuestion{TokenReason(C.confer_event_token_reason(event)), keep(event)}
	case eventAskRelease:
		previous, now := C.confer_event_previous_report(event), C.confer_event_report(event)
		return &ReleaseQuestion{readReport(previous), readReport(now), keep(event)}
	case eventAnswered:
		return Answered{}
	default:
		return OtherEvent{kind}
	}
}

// Answer gives a token. After an invalid one the question stays open. [ErrStale]: the question is
// over.
func (q *TokenQuestion) Answer(token string) error {
	return answer(q.kept, func(event *C.confer_event, e **C.confer_error) C.confer_status {
		text, length := bytesOf(token)
		return C.confer_event_answer_token(event, text, length, e)
	})
}

// Refuse gives no token. The reason becomes part of errors and of the log, so it must not contain a
// secret. [ErrStale]: the question is over.
func (q *TokenQuestion) Refuse(reason string) error {
	return answer(q.kept, func(event *C.confer_event, e **C.confer_error) C.confer_status {
		text, length := bytesOf(reason)
		return C.confer_event_refuse_token(event, text, length, e)
	})
}

// Answer accepts this release, and no other, or refuses it, which ends the client with
// [ErrReleaseRefused]. [ErrStale]: the question is over.
func (q *ReleaseQuestion) Answer(accept bool) error {
	return answer(q.kept, func(event *C.confer_event, e **C.confer_error) C.confer_status {
		return C.confer_event_answer_release(event, C.bool(accept), e)
	})
}

// answer answers questions with the configuration's functions until the client ends. It frees the
// watch, and does not keep the client from being collected.
func (c Config) answer(watch *C.confer_stream) {
	defer C.confer_stream_free(watch)
	over := func() {}
	defer func() { over() }()
	_ = readStream(context.Background(), watch, func(event *C.confer_event) bool {
		switch EventType(C.confer_event_type(event)) {
		case eventAskToken, eventAskRelease, eventAnswered:
		default:
			return true
		}
		over()
		ctx, cancel := context.WithCancel(context.Background())
		over = cancel
		switch question := readClientEvent(event).(type) {
		case *TokenQuestion:
			if c.TokenProvider != nil {
				go c.giveToken(ctx, question)
			}
		case *ReleaseQuestion:
			if c.AcceptRelease != nil {
				go c.decide(ctx, question)
			}
		}
		return true
	})
}

// giveToken answers with the provider's token. It ignores the error of an answer that is no longer
// needed.
func (c Config) giveToken(ctx context.Context, question *TokenQuestion) {
	token, err := "", errNoResult
	defer func() {
		defer question.kept.free()
		if err != nil {
			// The provider's error may contain a secret.
			_ = question.Refuse("the token provider failed")
		} else if err := question.Answer(token); err != nil {
			// The library's message names the mistake, and never repeats the token.
			_ = question.Refuse(err.(*Error).Message)
		}
	}()
	token, err = c.TokenProvider(ctx, question.Reason)
}

func (c Config) decide(ctx context.Context, question *ReleaseQuestion) {
	accept := false
	defer func() {
		defer question.kept.free()
		_ = question.Answer(accept)
	}()
	accept = c.AcceptRelease(ctx, question.Previous, question.Now)
}

// errNoResult is the error of a function that ended its goroutine with runtime.Goexit, as
// testing.T.FailNow does.
var errNoResult = errors.New("the function did not return")

// kept owns a clone of an event that wants an answer. If nobody answers, freeing it fails a tool
// call at once; a question fails at its time limit.
type kept = owner[*C.confer_event]

func keep(event *C.confer_event) *kept {
	return own(C.confer_event_clone(event), func(clone *C.confer_event) { C.confer_event_free(clone) })
}

func answer(question *kept, give func(*C.confer_event, **C.confer_error) C.confer_status) error {
	if question == nil {
		return madeHere(ErrInvalidArgument, "this event wants no answer")
	}
	return question.do(give)
}
