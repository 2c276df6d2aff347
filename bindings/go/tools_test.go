package confer_test

// Tools that this process runs, and conversations.

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"libconfer/confer"
)

// withTools names the tool "clock", with a function or nil.
func withTools(prompt string, clock confer.ToolFunc) confer.ChatRequest {
	request := ask(prompt)
	schema := json.RawMessage(`{"type":"object","properties":{"zone":{"type":"string"}}}`)
	request.Tools = []confer.Tool{{Name: "clock", Parameters: schema, Run: clock}}
	return request
}

func noon(context.Context, string) (string, error) { return "noon", nil }

func TestToolsRunUntilAnAnswerCallsNone(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	var calls atomic.Int32
	clock := func(ctx context.Context, arguments string) (string, error) {
		if arguments != `{"zone":"UTC"}` || ctx.Err() != nil {
			t.Errorf("called with %s", arguments)
		}
		return []string{"noon", "night", "dawn"}[calls.Add(1)-1], nil
	}
	completions, text := 0, ""
	for event, err := range client.Chat(t.Context(), withTools(`/client-tools 2 clock {"zone":"UTC"}`, clock)) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == confer.EventCompletion {
			completions++
		}
		if event.WantsAnswer() {
			t.Error("the loop has to answer")
		}
		text += event.Content
	}
	// The tools run at once, in any order.
	if calls.Load() != 2 || completions != 2 ||
		text != "The tools answered: noon | night" && text != "The tools answered: night | noon" {
		t.Errorf("%d calls, %d completions: %q", calls.Load(), completions, text)
	}

	// The server's tool calls are part of the history.
	calls.Store(0)
	if text, err := textOf(client.Chat(t.Context(), withTools(`/mixed-tools clock {"zone":"UTC"}`, clock))); err != nil ||
		!strings.Contains(text, "noon") {
		t.Errorf("got %q, %v", text, err)
	}
	// The model receives an error for a failing tool, for an answer that is no text, and for an
	// unknown tool.
	failing := func(context.Context, string) (string, error) { return "", errors.New("it stands") }
	if text, err := textOf(client.Chat(t.Context(), withTools(`/client-tools 1 clock {}`, failing))); err != nil || text != "The tools answered: Error: it stands" {
		t.Errorf("got %q, %v", text, err)
	}
	garbled := func(context.Context, string) (string, error) { return "\xff", nil }
	if text, err := textOf(client.Chat(t.Context(), withTools(`/client-tools 1 clock {}`, garbled))); err != nil || !strings.Contains(text, "UTF-8") {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := textOf(client.Chat(t.Context(), withTools(`/client-tools 1 stove {}`, clock))); err != nil || !strings.Contains(text, "Error: ") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestToolEndsWithItsChatOrItsTime(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	var ended atomic.Int32
	waiting := func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		ended.Add(1)
		return "", ctx.Err()
	}
	for event, err := range client.Chat(t.Context(), withTools("/client-tools 3 clock {}", waiting)) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == confer.EventCompletion {
			break
		}
	}
	if ended.Load() != 3 {
		t.Errorf("%d of 3 tools ended", ended.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelling := func(tool context.Context, _ string) (string, error) {
		cancel()
		return waiting(tool, "")
	}
	if _, err := textOf(client.Chat(ctx, withTools("/client-tools 1 clock {}", cancelling))); !errors.Is(err, context.Canceled) || ended.Load() != 4 {
		t.Errorf("got %v, %d tools ended", err, ended.Load())
	}
	late := withTools("/client-tools 1 clock {}", waiting)
	late.ToolTimeout = 20 * time.Millisecond
	if text, err := textOf(client.Chat(t.Context(), late)); err != nil || !strings.Contains(text, "Error: ") || ended.Load() != 5 {
		t.Errorf("got %q, %v, %d tools ended", text, err, ended.Load())
	}
}

func TestLoopAnswersToolCallsByItself(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	request := withTools("/client-tools 2 clock {}", nil)
	request.ToolRounds = 1
	answered := make(chan error, 1)
	var first confer.Event
	text := ""
	for event, err := range client.Chat(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		text += event.Content
		switch {
		case !event.WantsAnswer():
		case first.ToolCallID == "":
			first = event
		default:
			// A kept event outlives the loan of C's event. Another goroutine may answer it.
			if err := event.FailTool("it stands"); err != nil {
				t.Error(err)
			}
			go func(kept confer.Event) { answered <- kept.AnswerTool("noon") }(first)
			runtime.GC()
		}
	}
	if err := <-answered; err != nil || text != "The tools answered: noon | Error: it stands" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := first.AnswerTool("night"); !errors.Is(err, confer.ErrStale) {
		t.Errorf("a second answer: %v", err)
	}
	if err := (confer.Event{}).AnswerTool("noon"); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("not a call: %v", err)
	}

	// Without rounds the chat ends with the calls, which want no answer.
	for event, err := range client.Chat(t.Context(), withTools("/client-tools 2 clock {}", nil)) {
		if err != nil || event.WantsAnswer() || event.Type == confer.EventCompletion && !event.PendingToolCalls {
			t.Errorf("got %+v, %v", event, err)
		}
	}
}

func TestWholeTextIsCollected(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	if text, err := client.Collect(t.Context(), ask("/unicode")); err != nil || !strings.Contains(text, "\x00\x1f\x7f") {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := client.Collect(t.Context(), withTools("/tool-rounds 3 clock {}", noon)); err != nil || text != "The tools answered: noon | noon | noon" {
		t.Errorf("got %q, %v", text, err)
	}
	// The tokens before the calls are not part of the last round's text.
	if text, err := client.Collect(t.Context(), withTools("/mixed-tools clock {}", noon)); err != nil || !strings.HasPrefix(text, "The tools answered: ") {
		t.Errorf("got %q, %v", text, err)
	}
	unanswered := withTools("/client-tools 1 clock {}", nil)
	unanswered.ToolRounds = 1
	if _, err := client.Collect(t.Context(), unanswered); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("nobody answers: %v", err)
	}
	var failed *confer.Error
	if text, err := client.Collect(t.Context(), ask("/status-midstream 500")); !errors.As(err, &failed) || failed.HTTPStatus != 500 ||
		failed.Progress != confer.PartlyAnswered || text == "" {
		t.Errorf("got %q, %v", text, err)
	}
	// The library's words, also where this package collects the text.
	var tooLong [2]*confer.Error
	for i, request := range []confer.ChatRequest{ask("/tokens 33 1048576"), withTools("/tokens 33 1048576", noon)} {
		if text, err := client.Collect(t.Context(), request); !errors.As(err, &tooLong[i]) || len(text) != 32<<20 {
			t.Fatalf("got %d bytes, %v", len(text), err)
		}
	}
	if !reflect.DeepEqual(tooLong[0], tooLong[1]) || tooLong[0].Status != confer.ErrTooLarge {
		t.Errorf("got %#v and %#v", tooLong[0], tooLong[1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Collect(ctx, ask("/silent")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestFailingChatAddsNothingToItsConversation(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	conversation, err := confer.NewConversation()
	if err != nil {
		t.Fatal(err)
	}
	if used, most := conversation.ContextTokens(); used != -1 || most != -1 {
		t.Errorf("%d of %d", used, most)
	}
	in := func(request confer.ChatRequest) confer.ChatRequest {
		request.Conversation = conversation
		return request
	}
	if _, err := textOf(client.Chat(t.Context(), in(ask("hello")))); err != nil || conversation.Len() != 2 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
	// The question, the call, the result, the answer.
	if _, err := textOf(client.Chat(t.Context(), in(withTools("/tool-rounds 3 clock {}", noon)))); err != nil || conversation.Len() != 10 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
	if used, most := conversation.ContextTokens(); used <= 0 || most < used {
		t.Errorf("%d of %d", used, most)
	}
	whole := conversation.JSON()
	again, err := confer.ParseConversation(whole)
	if err != nil || again.JSON() != whole || again.Len() != 10 {
		t.Errorf("read again: %v", err)
	}

	endless := in(withTools("/endless-tool clock {}", noon))
	endless.ToolRounds = 3
	var failure *confer.Error
	if _, err := textOf(client.Chat(t.Context(), endless)); !errors.Is(err, confer.ErrToolRounds) ||
		!errors.As(err, &failure) || failure.Progress != confer.PartlyAnswered {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelling := func(context.Context, string) (string, error) { cancel(); return "", nil }
	if _, err := textOf(client.Chat(ctx, in(withTools("/endless-tool clock {}", cancelling)))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	rounds := 0
	for event := range client.Chat(t.Context(), in(withTools("/endless-tool clock {}", noon))) {
		if event.Type == confer.EventClientToolCall {
			if rounds++; rounds == 3 {
				break
			}
		}
	}
	if conversation.JSON() != whole {
		t.Errorf("chats that failed left %d messages", conversation.Len())
	}
	// Leaving the loop at its last event still gives the whole answer.
	for event := range client.Chat(t.Context(), in(withTools("bye", noon))) {
		if event.Type == confer.EventCompletion {
			break
		}
	}
	if conversation.Len() != 12 {
		t.Errorf("%d messages", conversation.Len())
	}
	if err := conversation.Truncate(1); err != nil || conversation.Len() != 1 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
	if err := conversation.Add(confer.RoleAssistant, "hi"); err != nil || conversation.Len() != 2 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
	if _, err := confer.ParseConversation("{}"); !errors.Is(err, confer.ErrInvalidJSON) {
		t.Errorf("got %v", err)
	}
}
