package confer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"libconfer/confer"
)

func ask(prompt string) confer.ChatRequest {
	return confer.ChatRequest{Messages: []confer.Message{{Content: prompt}}}
}

func textOf(events iter.Seq2[confer.Event, error]) (text string, err error) {
	for event, err := range events {
		if err != nil {
			return text, err
		}
		if event.Type == confer.EventToken {
			text += event.Content
		}
	}
	return text, nil
}

func TestChatIsARange(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	var last confer.Event
	text := ""
	for event, err := range client.Chat(t.Context(), ask("hello there")) {
		if err != nil {
			t.Fatal(err)
		}
		text, last = text+event.Content, event
	}
	if text != "You said: hello there" {
		t.Errorf("got %q", text)
	}
	if last.Type != confer.EventCompletion || last.ContextTokens <= 0 || last.MaxContextTokens <= 0 {
		t.Errorf("the last event is %+v", last)
	}
	if text, err := textOf(client.Chat(t.Context(), ask("/unicode"))); err != nil || !strings.Contains(text, "\x00\x1f\x7f") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestTwoStreamsShareAConnection(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	first, stopFirst := iter.Pull2(client.Chat(t.Context(), ask("/tokens 100 4")))
	defer stopFirst()
	second, stopSecond := iter.Pull2(client.Chat(t.Context(), ask("/tokens 100 4")))
	defer stopSecond()
	for range 101 {
		one, err, _ := first()
		two, otherErr, _ := second()
		if err != nil || otherErr != nil || one.Type != two.Type || one.Content != two.Content {
			t.Fatalf("got %v and %v, %v and %v", one, two, err, otherErr)
		}
	}
	if _, _, more := first(); more || client.Counters().Connections != 1 {
		t.Errorf("%d connections", client.Counters().Connections)
	}
}

func TestRequestContainsAllItsFields(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	request := ask("/echo-request")
	request.Messages = append([]confer.Message{
		{Role: confer.RoleSystem, Content: "be brief"},
		{JSON: []byte(`{"role":"user","content":"look","imageRefs":[]}`)},
	}, request.Messages...)
	request.Model = "some/model"
	request.WebSearch = true
	request.Temperature, request.TopP, request.MinP, request.TopK = confer.Ptr(0.5), confer.Ptr(0.25), confer.Ptr(0.125), confer.Ptr[int32](-1)
	request.PresencePenalty, request.FrequencyPenalty, request.RepetitionPenalty = confer.Ptr(-1.5), confer.Ptr(1.5), confer.Ptr(1.25)
	request.MaxTokens, request.JSON, request.Thinking = confer.Ptr[int64](1000), confer.Ptr(true), confer.Ptr(false)
	const stored = `{"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf","sourceBytes":7,"sourceObjectKey":"o","encryptionKey":"k","newer":1}`
	request.Documents = []confer.StoredDocument{stored, stored}
	request.Tools = []confer.Tool{{Name: "clock", Description: "tells the time"}}
	request.Properties = map[string]any{"newer": []int{1}}
	text, err := textOf(client.Chat(t.Context(), request))
	if err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Model                                                string
		WebSearch                                            bool
		Temperature, TopP, MinP                              float64
		TopK, MaxTokens                                      int
		PresencePenalty, FrequencyPenalty, RepetitionPenalty float64
		JSON                                                 bool
		Thinking                                             *bool
		Newer                                                []int
		Messages, Documents, ClientTools                     []map[string]any
	}
	if err := json.Unmarshal([]byte(text), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Model != "some/model" || !sent.WebSearch || sent.Temperature != 0.5 || sent.TopP != 0.25 || sent.MinP != 0.125 ||
		sent.TopK != -1 || sent.MaxTokens != 1000 || sent.PresencePenalty != -1.5 || sent.FrequencyPenalty != 1.5 ||
		sent.RepetitionPenalty != 1.25 || !sent.JSON || sent.Thinking == nil || *sent.Thinking || len(sent.Newer) != 1 ||
		len(sent.Messages) != 3 || len(sent.Documents) != 2 || len(sent.ClientTools) != 1 {
		t.Errorf("sent %s", text)
	}
	for _, part := range []string{`"be brief"`, `"imageRefs":[]`, `"clock"`, stored} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
	request.Temperature = confer.Ptr(-1.0)
	if _, err := textOf(client.Chat(t.Context(), request)); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
	request.Temperature, request.Documents = nil, []confer.StoredDocument{"{}"}
	if _, err := textOf(client.Chat(t.Context(), request)); !errors.Is(err, confer.ErrInvalidArgument) || !strings.Contains(err.Error(), "attachmentId") {
		t.Errorf("got %v", err)
	}
	request.Documents, request.Properties = nil, map[string]any{"newer": func() {}}
	if _, err := textOf(client.Chat(t.Context(), request)); !errors.Is(err, confer.ErrInvalidJSON) {
		t.Errorf("got %v", err)
	}
}

func TestAnswerInOnePiece(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	request, answer := ask("hello there"), ""
	request.Whole = true
	for event, err := range client.Chat(t.Context(), request) {
		if err != nil || event.Type != confer.EventBody || event.Transferred != int64(len(event.Content)) {
			t.Fatalf("got %+v, %v", event, err)
		}
		answer += event.Content
	}
	if answer != "You said: hello there" {
		t.Errorf("got %q", answer)
	}
}

func TestServerAndClientToolsDiffer(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	var seen []confer.EventType
	for event, err := range client.Chat(t.Context(), ask(`/client-tool clock {"zone":"UTC"}`)) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event.Type)
		switch event.Type {
		case confer.EventClientToolCall:
			if event.ToolName != "clock" || event.ToolArguments != `{"zone":"UTC"}` || event.ToolCallID == "" {
				t.Errorf("got %+v", event)
			}
		case confer.EventCompletion:
			if !event.PendingToolCalls {
				t.Error("no pending tool calls")
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("got %v", seen)
	}
	for event, err := range client.Chat(t.Context(), ask("/server-tool")) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == confer.EventServerToolResponse && event.FullContent != "clear sky, 21 degrees" {
			t.Errorf("got %+v", event)
		}
	}
}

func TestRefusedEnclaveErrorHasCheckAndReport(t *testing.T) {
	_, err := confer.Connect(t.Context(), startEnclave(t, "binding-other-key"))
	var refused *confer.Error
	if !errors.Is(err, confer.ErrRejected) || !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if refused.CheckID != "tdx.key_binding" || refused.Retryable || refused.Progress != confer.NotSent {
		t.Errorf("got %+v", refused)
	}
	if refused.Report == nil || refused.Report.Verified() {
		t.Fatal("the report does not say that it was refused")
	}
	var failed []string
	for _, check := range refused.Report.Checks {
		if check.Outcome == confer.OutcomeFail {
			failed = append(failed, check.ID)
		}
	}
	if len(failed) != 1 || failed[0] != refused.CheckID {
		t.Errorf("failed: %v", failed)
	}
}

func TestEvidenceVerifiesAgain(t *testing.T) {
	config := startEnclave(t, "none")
	report, err := connect(t, config).Report()
	if err != nil {
		t.Fatal(err)
	}
	if !report.Verified() || report.Platform != "TDX" || report.Endpoint != config.Endpoint || len(report.ServerKey) != 64 ||
		len(report.Policy.SHA256) != 64 || report.Release.Signer == "" || len(report.TDX.RTMR1) != 96 || len(report.Checks) < 15 || len(report.TimingsUS) < 5 {
		t.Errorf("got %s", report.JSON)
	}
	refused := func(check string, policy *confer.Policy, at time.Time) {
		t.Helper()
		var failure *confer.Error
		if _, err := confer.VerifyEvidence(report.Evidence, policy, at); !errors.As(err, &failure) || failure.Status != confer.ErrRejected ||
			failure.CheckID != check || failure.Report.Verified() {
			t.Errorf("%s: got %v", check, err)
		}
	}
	refused("ita.key", nil, time.Time{})
	refused("ita.time", config.Policy, time.Unix(report.ExpiresAt, 0).Add(time.Hour))
	// This enclave's keys came from its key server, so the export contains them.
	if again, err := confer.VerifyEvidence(report.Evidence, config.Policy, time.Time{}); err != nil || !again.Verified() {
		t.Errorf("its own policy says %v", err)
	}
}

func TestRefusedRequestHasItsHTTPStatus(t *testing.T) {
	client := connect(t, startEnclave(t, "request-402"))
	_, err := textOf(client.Chat(t.Context(), ask("x")))
	var refused *confer.Error
	if !errors.Is(err, confer.ErrPaymentRequired) || !errors.As(err, &refused) || refused.HTTPStatus != 402 {
		t.Errorf("got %v", err)
	}
}

func TestContextCancelsAStream(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := 0
	var err error
	for _, err = range client.Chat(ctx, ask("/slow 1 100000")) {
		if events++; events == 2 {
			cancel()
		}
	}
	if !errors.Is(err, confer.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := textOf(client.Chat(ctx, ask("x"))); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that had ended: got %v", err)
	}

	hasty, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer done()
	if _, err := textOf(client.Chat(hasty, ask("/silent"))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: got %v", err)
	}
	if text, err := textOf(client.Chat(t.Context(), ask("still here"))); err != nil || text != "You said: still here" {
		t.Errorf("afterwards: got %q, %v", text, err)
	}
}

func TestContextCancelsConnecting(t *testing.T) {
	config := startEnclave(t, "message1-stall")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("enough"))
	defer cancel()
	_, err := confer.Connect(ctx, config)
	if !errors.Is(err, confer.ErrCancelled) || !errors.Is(err, context.Cause(ctx)) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	config.Durations = map[confer.DurationKey]time.Duration{confer.DurationConnect: 50 * time.Millisecond}
	if _, err := confer.Connect(t.Context(), config); !errors.Is(err, confer.ErrStageTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsStreamsAndIsFinal(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	var streams sync.WaitGroup
	begun := make(chan struct{}, 4)
	for range cap(begun) {
		streams.Add(1)
		go func() {
			defer streams.Done()
			events := 0
			var err error
			for _, err = range client.Chat(t.Context(), ask("/slow 1 100000")) {
				if events++; events == 1 {
					begun <- struct{}{}
				}
			}
			if !errors.Is(err, confer.ErrClosed) {
				t.Errorf("a stream ended with %v", err)
			}
		}()
	}
	for range cap(begun) {
		<-begun
	}
	var closers sync.WaitGroup
	for range 3 {
		closers.Add(1)
		go func() {
			defer closers.Done()
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	closers.Wait()
	streams.Wait()
	if _, err := client.Report(); !errors.Is(err, confer.ErrClosed) {
		t.Errorf("Report: %v", err)
	}
	if err := client.Err(); !errors.Is(err, confer.ErrClosed) {
		t.Errorf("Err: %v", err)
	}
	if _, err := textOf(client.Chat(t.Context(), ask("x"))); !errors.Is(err, confer.ErrClosed) {
		t.Errorf("Chat: %v", err)
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	config := startEnclave(t, "none")
	token := config.Token
	config.Token = ""
	config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { return token, nil }
	config.AcceptRelease = func(context.Context, *confer.Report, *confer.Report) bool { return false }
	config.Log = func(confer.LogLevel, string, string) {}
	goroutines := runtime.NumGoroutine()
	func() {
		client, err := confer.Connect(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if libraryThreads(t) == 0 {
			t.Error("the library's threads bear another name")
		}
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for _, err := range client.Chat(ctx, ask("/slow 1 100000")) {
				if err != nil {
					t.Error(err)
				}
				break
			}
			for range client.Chat(ctx, withTools("/endless-tool clock {}", func(context.Context, string) (string, error) { return "noon", nil })) {
				break
			}
			for event := range client.Watch(ctx) {
				if _, connected := event.(confer.Connected); connected {
					break
				}
			}
			for range client.Chat(ctx, ask("/slow 1 100000")) {
				cancel()
			}
			if _, err := client.Embed(ctx, confer.EmbeddingsRequest{Texts: []string{"a"}}); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}()
	// The limit of `go test` shows the goroutines that remain.
	for runtime.NumGoroutine() > goroutines || libraryThreads(t) > 0 {
		runtime.Gosched()
	}
}

// libraryThreads counts this process's threads with the library's name. A joined thread may remain
// visible for a moment. A thread that Go starts in a call of Config.Log inherits the name, but not
// the blocked signals of the library's threads.
func libraryThreads(t *testing.T) (count int) {
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Skip("no /proc")
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err == nil && strings.HasPrefix(string(status), "Name:\tconfer-") && !strings.Contains(string(status), "\nSigBlk:\t0000000000000000\n") {
			count++
		}
	}
	return count
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	config := confer.Config{Endpoint: "http://elsewhere.example/?key=s3cret", Token: "s3cret", Proxy: "http://me:s3cret@proxy.test"}
	_, err := confer.Connect(t.Context(), config)
	if !errors.Is(err, confer.ErrInvalidURL) {
		t.Errorf("got %v", err)
	}
	request := confer.ChatRequest{Documents: []confer.StoredDocument{`{"encryptionKey":"s3cret"}`}}
	kept := config
	kept.Endpoint = "" // JSON keeps settings
	for _, value := range []any{kept, request, confer.Error{PeerText: "s3cret"}} {
		if text, err := json.Marshal(value); err != nil || strings.Contains(string(text), "s3cret") {
			t.Errorf("got %s, %v", text, err)
		}
	}
	message := confer.Message{Content: "s3cret"}
	request.Messages = []confer.Message{message}
	printed := []any{
		config, &config, err, request, &request, message, request.Messages,
		confer.Error{PeerText: "s3cret"}, &confer.Error{PeerText: "s3cret"},
		confer.Event{Content: "s3cret", JSON: "s3cret", ToolArguments: "s3cret"},
		confer.EmbeddingsRequest{Texts: []string{"s3cret"}},
		confer.FetchRequest{URL: "https://s3cret.test"},
		confer.RawRequest{Body: "s3cret"},
		confer.ExtractionRequest{Bytes: []byte("s3cret")},
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		for _, value := range printed {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") {
				t.Errorf("%T, %s: %s", value, verb, text)
			}
		}
	}
}

func TestPolicyCanBeReadBack(t *testing.T) {
	production, err := confer.ProductionPolicy()
	if err != nil {
		t.Fatal(err)
	}
	again, err := confer.ParsePolicy(production.JSON())
	if err != nil || again.JSON() != production.JSON() || again.Name() == "" || len(again.SHA256()) != 64 {
		t.Errorf("got %v", err)
	}
	if strict, err := confer.StrictPolicy(); err != nil || strict.JSON() == production.JSON() || strict.SHA256() == production.SHA256() {
		t.Errorf("got %v", err)
	}
	if _, err := confer.ParsePolicy("{}"); !errors.Is(err, confer.ErrInvalidPolicy) {
		t.Errorf("got %v", err)
	}
	if _, err := confer.LoadPolicy("/nonexistent"); !errors.Is(err, confer.ErrFile) {
		t.Errorf("got %v", err)
	}
}
