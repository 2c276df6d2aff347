package confer_test

// A client as a state machine: its states, its watch, its questions and its log.

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"libconfer/confer"
)

// watch reads a client's events one by one.
type watch struct {
	t    *testing.T
	next func() (confer.ClientEvent, error, bool)
}

func watching(t *testing.T, client *confer.Client) watch {
	next, stop := iter.Pull2(client.Watch(t.Context()))
	t.Cleanup(stop)
	return watch{t, next}
}

// until reads events until one of a type.
func until[E confer.ClientEvent](w watch) E {
	w.t.Helper()
	for {
		event, err, more := w.next()
		if err != nil || !more {
			w.t.Fatalf("the watch ended: %v", err)
		}
		if found, ok := event.(E); ok {
			return found
		}
	}
}

// end reads to the end and returns its error.
func (w watch) end() error {
	for {
		if _, err, more := w.next(); err != nil || !more {
			return err
		}
	}
}

func TestClientStartsAtOnceAndItsRequestsWait(t *testing.T) {
	client := start(t, startEnclave(t, "none"))
	events := watching(t, client)
	if text, err := client.Collect(t.Context(), ask("before it was connected")); err != nil || text != "You said: before it was connected" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Wait(t.Context()); err != nil || client.State() != confer.StateConnected {
		t.Errorf("got %v, %v", err, client.State())
	}
	connected := until[confer.Connected](events)
	if !connected.Report.Verified() || connected.ReleaseChanged {
		t.Errorf("got %+v", connected)
	}
	// A watch that is opened late begins with the state. Leaving or cancelling one ends only the
	// watch.
	for event, err := range client.Watch(t.Context()) {
		if _, ok := event.(confer.Connected); !ok || err != nil {
			t.Errorf("got %+v, %v", event, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, last = range client.Watch(ctx) {
		cancel()
	}
	if !errors.Is(last, confer.ErrCancelled) || !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
	if err := client.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that had ended: got %v", err)
	}
	if text, err := client.Collect(t.Context(), ask("still here")); err != nil || text != "You said: still here" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Close(); err != nil || client.State() != confer.StateEnded {
		t.Errorf("got %v, %v", err, client.State())
	}
	if err := events.end(); err != nil {
		t.Errorf("the watch ended with %v", err)
	}
	if err := watching(t, client).end(); err != nil {
		t.Errorf("a watch of a closed client ended with %v", err)
	}
	if err := client.Wait(t.Context()); !errors.Is(err, confer.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestRefusedEnclaveEndsEveryWaitWithItsReport(t *testing.T) {
	client := start(t, startEnclave(t, "binding-other-key"))
	waiting := watching(t, client).end()
	_, chat := client.Collect(t.Context(), ask("never sent"))
	for what, err := range map[string]error{"Watch": waiting, "Wait": client.Wait(t.Context()), "Err": client.Err(), "Chat": chat} {
		var refused *confer.Error
		if !errors.Is(err, confer.ErrRejected) || !errors.As(err, &refused) || refused.Report == nil ||
			refused.CheckID != "tdx.key_binding" || refused.Progress != confer.NotSent {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if _, err := client.Report(); !errors.Is(err, confer.ErrNotConnected) {
		t.Errorf("got %v", err)
	}
}

func TestContextEndsOnlyTheWait(t *testing.T) {
	client := start(t, startEnclave(t, "message1-stall"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for event, err := range client.Watch(t.Context()) {
		if began, ok := event.(confer.StageBegan); ok && began.Stage == confer.StageHandshake {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	waited := make(chan error)
	go func() { waited <- client.Wait(ctx) }()
	cancel()
	if err := <-waited; !errors.Is(err, confer.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := client.Err(); err != nil || client.State() != confer.StateConnecting {
		t.Errorf("got %v, %v", err, client.State())
	}
}

func TestWatchTellsStagesAndRetries(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	config.Token, config.Ask = "", confer.AskToken
	client := start(t, config)
	events := watching(t, client)
	// The stages begin after the answer, so that this watch sees all of them.
	if err := until[*confer.TokenQuestion](events).Answer(enclave.config.Token); err != nil {
		t.Error(err)
	}
	until[confer.Answered](events)
	last := confer.Stage(-1)
	for connected := false; !connected; {
		event, err, _ := events.next()
		switch event := event.(type) {
		case confer.StageBegan:
			if event.Stage <= last {
				t.Errorf("%v after %v", event.Stage, last)
			}
			last = event.Stage
		case confer.Connected:
			connected = true
		default:
			t.Fatalf("got %+v, %v", event, err)
		}
	}
	if last != confer.StageVerify {
		t.Errorf("the last stage is %v", last)
	}
	enclave.kill(t)
	if lost := until[confer.Disconnected](events); !errors.Is(lost.Err, confer.ErrConnectionLost) {
		t.Errorf("got %v", lost.Err)
	}
	if retry := until[confer.Retry](events); retry.Attempt != 1 || retry.Delay < 0 || retry.Err != nil {
		t.Errorf("got %+v", retry)
	}
	// The end of a process may close its connections before its listener, so first attempts can
	// still be accepted, and lost.
	for attempt, refused := uint32(2), false; !refused; attempt++ {
		if err := until[*confer.TokenQuestion](events).Answer(enclave.config.Token); err != nil {
			t.Error(err)
		}
		retry := until[confer.Retry](events)
		refused = errors.Is(retry.Err, confer.ErrConnect)
		if retry.Attempt != attempt || !refused && !errors.Is(retry.Err, confer.ErrConnectionLost) {
			t.Fatalf("got %+v", retry)
		}
	}
	if client.State() != confer.StateReconnecting {
		t.Errorf("the state is %v", client.State())
	}
	// Nobody needs the answer to this question any more, because a token is given unasked.
	question := until[*confer.TokenQuestion](events)
	enclave.again(t)
	if err := client.SetToken(enclave.config.Token); err != nil {
		t.Error(err)
	}
	if until[confer.Connected](events).ReleaseChanged {
		t.Error("the release changed")
	}
	if err := question.Answer(enclave.config.Token); !errors.Is(err, confer.ErrStale) {
		t.Errorf("got %v", err)
	}
	if err := client.SetToken(""); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

func TestTokenQuestionTakesOneAnswer(t *testing.T) {
	config := startEnclave(t, "none")
	token := config.Token
	config.Token, config.Ask = "", confer.AskToken
	client := start(t, config)
	question := until[*confer.TokenQuestion](watching(t, client))
	if question.Reason != confer.TokenFirst {
		t.Errorf("asked because of %v", question.Reason)
	}
	if err := question.Answer("a b"); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
	// A watch that is opened later sees the question too, and a kept one outlives its loan.
	late := watching(t, client)
	if err := until[*confer.TokenQuestion](late).Answer(token); err != nil {
		t.Error(err)
	}
	runtime.GC()
	for _, err := range []error{question.Answer(token), question.Refuse("late")} {
		if !errors.Is(err, confer.ErrStale) {
			t.Errorf("got %v", err)
		}
	}
	if err := client.Wait(t.Context()); err != nil {
		t.Error(err)
	}

	client = start(t, config)
	events := watching(t, client)
	if err := until[*confer.TokenQuestion](events).Refuse("signed out"); err != nil {
		t.Error(err)
	}
	if err := events.end(); !errors.Is(err, confer.ErrToken) || !strings.Contains(err.Error(), "signed out") {
		t.Errorf("got %v", err)
	}
}

func TestTokenProviderServesEachConnection(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	var mu sync.Mutex
	var reasons []confer.TokenReason
	config.Token = ""
	config.TokenProvider = func(ctx context.Context, reason confer.TokenReason) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		reasons = append(reasons, reason)
		return enclave.config.Token, ctx.Err()
	}
	client := connect(t, config)
	events := watching(t, client)
	enclave.kill(t)
	until[confer.Disconnected](events)
	enclave.again(t)
	until[confer.Connected](events)
	mu.Lock()
	defer mu.Unlock()
	if len(reasons) < 2 || reasons[0] != confer.TokenFirst || reasons[1] != confer.TokenReconnect {
		t.Errorf("asked because of %v", reasons)
	}
}

func TestFailingTokenProviderIsARefusalWithoutDetails(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	config.Token = ""
	config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { return "", errors.New("s3cret") }
	var failure *confer.Error
	_, err := confer.Connect(t.Context(), config)
	if !errors.Is(err, confer.ErrToken) || !errors.As(err, &failure) || failure.Retryable ||
		!strings.Contains(err.Error(), "provider failed") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	// The message names the mistake in an invalid token, and does not repeat it.
	config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { return "s3 cret", nil }
	_, err = confer.Connect(t.Context(), config)
	if !errors.Is(err, confer.ErrToken) || !strings.Contains(err.Error(), "white space") || strings.Contains(err.Error(), "s3 cret") {
		t.Errorf("got %v", err)
	}
}

func TestTokenProviderEndsWhenNobodyNeedsItsToken(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	config.Token = ""
	asked, ended := make(chan bool, 1), make(chan bool, 1)
	config.TokenProvider = func(ctx context.Context, _ confer.TokenReason) (string, error) {
		asked <- true
		<-ctx.Done()
		ended <- true
		return "", ctx.Err()
	}
	// A token that is given unasked.
	client := start(t, config)
	<-asked
	if err := client.SetToken(enclave.config.Token); err != nil {
		t.Error(err)
	}
	<-ended
	if err := client.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	// A client that is closed.
	client = start(t, config)
	<-asked
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	// A context that ends connecting.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := confer.Connect(ctx, config); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
	// A client that nobody closes or keeps.
	func() {
		if _, err := confer.Start(config); err != nil {
			t.Fatal(err)
		}
	}()
	<-asked
	for done := false; !done; {
		runtime.GC()
		select {
		case done = <-ended:
		default:
		}
	}
}

func TestAnotherReleaseIsAcceptedOrEndsTheClient(t *testing.T) {
	for _, accept := range []bool{true, false} {
		enclave := launch(t)
		config := enclave.retrying()
		asked := make(chan [2]*confer.Report, 1)
		config.AcceptRelease = func(_ context.Context, previous, now *confer.Report) bool {
			asked <- [2]*confer.Report{previous, now}
			return accept
		}
		client := connect(t, config)
		events := watching(t, client)
		until[confer.Connected](events)
		enclave.kill(t)
		enclave.again(t, "--release", "9.9.9")
		reports := <-asked
		if reports[0].Manifest == reports[1].Manifest || reports[1].Release.ImageVersion != "9.9.9" {
			t.Errorf("from %+v to %+v", reports[0].Release, reports[1].Release)
		}
		if accept {
			if !until[confer.Connected](events).ReleaseChanged {
				t.Error("the release did not change")
			}
		} else if err := events.end(); !errors.Is(err, confer.ErrReleaseRefused) {
			t.Errorf("got %v", err)
		}
	}
}

func TestWatchAnswersReleaseQuestions(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	config.Ask = confer.AskRelease
	client := connect(t, config)
	events := watching(t, client)
	until[confer.Connected](events)
	enclave.kill(t)
	enclave.again(t, "--release", "9.9.9")
	question := until[*confer.ReleaseQuestion](events)
	if question.Previous.Manifest == question.Now.Manifest || question.Now.Release.ImageVersion != "9.9.9" {
		t.Errorf("got %+v", question.Now.Release)
	}
	if err := question.Answer(true); err != nil {
		t.Error(err)
	}
	if err := question.Answer(false); !errors.Is(err, confer.ErrStale) {
		t.Errorf("got %v", err)
	}
	if !until[confer.Connected](events).ReleaseChanged {
		t.Error("the release did not change")
	}
}

// A loop over a client's events uses the client, so the garbage collector must not free it.
func TestWatchedClientIsNotCollected(t *testing.T) {
	config := startEnclave(t, "none")
	token := config.Token
	config.Token, config.Ask = "", confer.AskToken
	for event, err := range watchOnly(t, config) {
		if err != nil {
			t.Fatal(err)
		}
		switch event := event.(type) {
		case *confer.TokenQuestion:
			collectGarbage()
			if err := event.Answer(token); err != nil {
				t.Fatal(err)
			}
		case confer.Connected:
			return
		}
	}
	t.Error("the watch ended")
}

// watchOnly starts a client and keeps only its watch.
func watchOnly(t *testing.T, config confer.Config) iter.Seq2[confer.ClientEvent, error] {
	client, err := confer.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Watch(t.Context())
}

// collectGarbage returns after the cleanups of earlier garbage.
func collectGarbage() {
	for range 3 {
		over := make(chan bool)
		runtime.AddCleanup(new([64]byte), func(over chan bool) { close(over) }, over)
		for done := false; !done; {
			runtime.GC()
			select {
			case <-over:
				done = true
			default:
			}
		}
	}
}

func TestSlowWatchIsToldWhatItMissed(t *testing.T) {
	// Each connection dies at once, so that more events come than a watch keeps.
	config := startEnclave(t, "message1-drop")
	config.Limits = map[confer.LimitKey]uint64{confer.LimitAttempts: 200}
	config.Durations = map[confer.DurationKey]time.Duration{confer.DurationLongestRetry: time.Millisecond}
	client := start(t, config)
	events := watching(t, client)
	events.next()
	if err := client.Wait(t.Context()); err == nil {
		t.Fatal("connected")
	}
	if dropped := until[confer.Dropped](events); dropped.Count == 0 {
		t.Error("nothing was dropped")
	}
	if err := events.end(); err == nil {
		t.Error("a watch without an end")
	}
}

func TestLogTellsNoSecretAndIsReleased(t *testing.T) {
	config := startEnclave(t, "none")
	var mu sync.Mutex
	records := new([]string)
	config.LogLevel = confer.LogDebug
	config.Log = func(level confer.LogLevel, target, message string) {
		mu.Lock()
		defer mu.Unlock()
		*records = append(*records, level.String()+" "+target+" "+message)
	}
	client := connect(t, config)
	if _, err := client.Collect(t.Context(), ask("s3cret")); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	text := strings.Join(*records, "\n")
	mu.Unlock()
	if !strings.Contains(text, "CONFER_LOG_INFO confer::") || !strings.Contains(text, "CONFER_LOG_DEBUG") {
		t.Errorf("got %s", text)
	}
	if strings.Contains(text, "s3cret") || strings.Contains(text, config.Token) {
		t.Errorf("a secret in %s", text)
	}
	released := make(chan bool)
	runtime.AddCleanup(records, func(released chan bool) { close(released) }, released)
	config.Log = nil
	for done := false; !done; {
		runtime.GC()
		select {
		case <-released:
			done = true
		default:
		}
	}
}
