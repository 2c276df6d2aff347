package confer_test

// Runs the conformance vectors of tests/vectors. Their README defines the form of the results.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"libconfer/confer"
)

const vectors = "../../tests/vectors/"

type object = map[string]any

type vector struct {
	Evidence *struct {
		Policy, Export string
		At             *int64
	}
	Connect  *struct{ Fault string }
	Exchange *vectorExchange
	Results  []any
}

type vectorExchange struct {
	DurationsMS  map[string]int64 `json:"durations_ms"`
	Limits       map[string]uint64
	Token        json.RawMessage
	Ask          []string
	Watch        *vectorWatch
	Conversation json.RawMessage
	Together     bool
	Requests     []vectorRequest
}

type vectorWatch struct {
	CloseAfter *int `json:"close_after"`
	Replies    [][]vectorReply
}

type vectorReply struct {
	Token, Refuse *string
	Accept        bool
}

type vectorRequest struct {
	Kind                     string
	Messages                 []json.RawMessage
	Streaming                *bool
	Tools                    []confer.Tool
	ToolRounds               uint32 `json:"tool_rounds"`
	Answers                  map[string]string
	Properties, Options      map[string]any
	CancelAfter              *int `json:"cancel_after"`
	Texts                    []string
	IsQuery                  bool `json:"is_query"`
	Filename                 string
	Document                 vectorText
	Progress                 bool
	URL                      string
	Headers                  map[string]string
	Verb, Path, Body, Ending string
}

// vectorText is a text, or a list of texts and repeated texts, joined.
type vectorText []byte

func (v *vectorText) UnmarshalJSON(document []byte) error {
	var text string
	if json.Unmarshal(document, &text) == nil {
		*v = vectorText(text)
		return nil
	}
	var parts []json.RawMessage
	err := json.Unmarshal(document, &parts)
	for _, part := range parts {
		var repeated struct {
			Repeat string
			Times  int
		}
		if json.Unmarshal(part, &repeated.Repeat) == nil {
			repeated.Times = 1
		} else if err == nil {
			err = json.Unmarshal(part, &repeated)
		}
		*v = append(*v, strings.Repeat(repeated.Repeat, repeated.Times)...)
	}
	return err
}

func TestVectors(t *testing.T) {
	files, err := filepath.Glob(vectors + "*.json")
	if err != nil || len(files) < 60 {
		t.Fatal("the vectors are missing: ", err)
	}
	for _, file := range files {
		if filepath.Base(file) == "schema.json" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			var vector vector
			if err := json.Unmarshal([]byte(read(t, file)), &vector); err != nil {
				t.Fatal(err)
			}
			results := plain(t, vector.run(t, file))
			if !reflect.DeepEqual(results, any(vector.Results)) {
				expected, _ := json.MarshalIndent(vector.Results, "", " ")
				actual, _ := json.MarshalIndent(results, "", " ")
				t.Errorf("expected %s\nactual %s", expected, actual)
			}
		})
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// plain returns a value as JSON has it.
func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (v vector) run(t *testing.T, file string) []object {
	switch {
	case v.Evidence != nil:
		return []object{v.verify(t)}
	case v.Connect != nil:
		client, err := confer.Connect(t.Context(), startEnclave(t, v.Connect.Fault))
		if err == nil {
			client.Close()
		}
		return []object{result(err)}
	}
	return v.Exchange.run(t, file)
}

func (e *vectorExchange) config(t *testing.T, config confer.Config) confer.Config {
	if e.Token != nil {
		var token *string
		if err := json.Unmarshal(e.Token, &token); err != nil {
			t.Fatal(err)
		}
		config.Token = ""
		if token != nil {
			config.Token = *token
		}
	}
	config.Durations = map[confer.DurationKey]time.Duration{}
	for name, ms := range e.DurationsMS {
		config.Durations[constant[confer.DurationKey](t, name)] = time.Duration(ms) * time.Millisecond
	}
	config.Limits = map[confer.LimitKey]uint64{}
	for name, value := range e.Limits {
		config.Limits[constant[confer.LimitKey](t, name)] = value
	}
	for _, question := range e.Ask {
		config.Ask |= map[string]confer.Questions{"CONFER_ASK_TOKEN": confer.AskToken, "CONFER_ASK_RELEASE": confer.AskRelease}[question]
	}
	return config
}

// constant returns the constant of a name in confer.h. Those of an enumeration are below 1,000.
func constant[T interface {
	~int32
	String() string
}](t *testing.T, name string) T {
	for value := range T(1000) {
		if value.String() == name {
			return value
		}
	}
	t.Errorf("unknown constant %s", name)
	return 0
}

func (e *vectorExchange) run(t *testing.T, file string) []object {
	enclave := launch(t, "--script", file)
	config := e.config(t, enclave.config)
	var client *confer.Client
	var err error
	if e.Watch != nil {
		client, err = confer.Start(config)
	} else {
		client, err = confer.Connect(t.Context(), config)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Closed after the events before the client's close; receives the result.
	ready, watched := make(chan struct{}), make(chan object, 1)
	if e.Watch != nil {
		// Opened before the requests, so that no event is missed.
		opened := make(chan struct{})
		go func() { watched <- e.Watch.run(t, client, sync.OnceFunc(func() { close(opened) }), ready) }()
		<-opened
	}
	conversation := e.conversation(t)
	results := make([]object, len(e.Requests))
	var running sync.WaitGroup
	for n, request := range e.Requests {
		running.Add(1)
		go func() {
			defer running.Done()
			results[n] = request.run(t, client, conversation)
			if conversation != nil && request.Kind == "chat" {
				results[n]["conversation"] = json.RawMessage(conversation.JSON())
			}
		}()
		if !e.Together {
			running.Wait()
		}
	}
	running.Wait()
	if e.Watch != nil {
		<-ready
	}
	client.Close()
	if e.Watch != nil {
		results = append(results, <-watched)
	}
	if enclave.end(); !enclave.command.ProcessState.Success() {
		t.Error("the script failed")
	}
	return results
}

func (e *vectorExchange) conversation(t *testing.T) (conversation *confer.Conversation) {
	var err error
	switch string(e.Conversation) {
	case "":
	case "null":
		conversation, err = confer.NewConversation()
	default:
		conversation, err = confer.ParseConversation(string(e.Conversation))
	}
	if err != nil {
		t.Fatal(err)
	}
	return conversation
}

// run reads a watch to its end. It calls opened at its first event, and closes ready when the client is to
// be closed.
func (w *vectorWatch) run(t *testing.T, client *confer.Client, opened func(), ready chan struct{}) object {
	defer opened()
	var failure error
	events, asked, isReady := []object{}, 0, false
	for event, err := range client.Watch(t.Context()) {
		opened()
		if failure = err; err != nil {
			break
		}
		shown := object{}
		reply := func(answer func(vectorReply) error) {
			statuses := []any{}
			if asked < len(w.Replies) {
				for _, reply := range w.Replies[asked] {
					statuses = append(statuses, result(answer(reply))["status"])
				}
			}
			shown["replies"] = statuses
			asked++
		}
		switch event := event.(type) {
		case confer.StageBegan:
			continue
		case confer.Connected:
			shown["type"], shown["release_changed"] = "CONFER_EVENT_CONNECTED", event.ReleaseChanged
		case confer.Disconnected:
			shown["type"], shown["error"] = "CONFER_EVENT_DISCONNECTED", result(event.Err)
		case confer.Retry:
			shown["type"], shown["attempt"], shown["error"] = "CONFER_EVENT_RETRY", event.Attempt, nil
			if event.Err != nil {
				shown["error"] = result(event.Err)
			}
		case *confer.TokenQuestion:
			shown["type"], shown["reason"] = "CONFER_EVENT_ASK_TOKEN", event.Reason.String()
			reply(func(reply vectorReply) error {
				if reply.Refuse != nil {
					return event.Refuse(*reply.Refuse)
				}
				return event.Answer(*reply.Token)
			})
		case *confer.ReleaseQuestion:
			shown["type"] = "CONFER_EVENT_ASK_RELEASE"
			reply(func(reply vectorReply) error { return event.Answer(reply.Accept) })
		case confer.Answered:
			shown["type"] = "CONFER_EVENT_ANSWERED"
		default:
			t.Errorf("unknown event %v", event)
		}
		events = append(events, shown)
		if !isReady && w.CloseAfter != nil && len(events) == *w.CloseAfter {
			isReady = true
			close(ready)
		}
	}
	if !isReady {
		close(ready)
	}
	shown := result(failure)
	shown["events"] = events
	return shown
}

func (v vector) verify(t *testing.T) object {
	var report *confer.Report
	var at time.Time
	if v.Evidence.At != nil {
		at = time.Unix(*v.Evidence.At, 0)
	}
	policy, err := confer.ParsePolicy(read(t, vectors+v.Evidence.Policy))
	if err == nil {
		report, err = confer.VerifyEvidence(read(t, vectors+v.Evidence.Export), policy, at)
	}
	shown := result(err)
	if failure := new(confer.Error); errors.As(err, &failure) {
		report = failure.Report
	}
	shown["report"] = nil
	if report != nil {
		var all object
		if err := json.Unmarshal([]byte(report.JSON), &all); err != nil {
			t.Fatal(err)
		}
		for _, check := range all["checks"].([]any) {
			for _, text := range []string{"detail", "expected", "observed"} {
				delete(check.(object), text)
			}
		}
		shown["report"] = all
	}
	return shown
}

func result(err error) object {
	shown := object{"status": "CONFER_OK", "check": nil, "http_status": nil, "progress": nil, "retryable": nil, "peer_text": nil}
	failure := new(confer.Error)
	switch {
	case errors.As(err, &failure):
		shown["status"] = failure.Status.String()
		shown["progress"], shown["retryable"] = failure.Progress.String(), failure.Retryable
		if failure.CheckID != "" {
			shown["check"] = failure.CheckID
		}
		if failure.HTTPStatus != 0 {
			shown["http_status"] = failure.HTTPStatus
		}
		if failure.PeerText != "" {
			shown["peer_text"] = failure.PeerText
		}
	case err != nil:
		shown["status"] = err.Error()
	}
	return shown
}

func (r vectorRequest) run(t *testing.T, client *confer.Client, conversation *confer.Conversation) object {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var err error
	events := []object{}
	body := func(content string) {
		if content != "" {
			events = append(events, object{"type": confer.EventBody.String(), "content": content})
		}
	}
	switch r.Kind {
	case "chat":
		events, err = r.loop(cancel, client.Chat(ctx, r.chat(conversation)))
	case "raw":
		events, err = r.loop(cancel, client.Raw(ctx, confer.RawRequest{Verb: r.Verb, Path: r.Path, Body: r.Body, Ending: constant[confer.Ending](t, r.Ending)}))
	case "embeddings":
		var values [][]float32
		values, err = client.Embed(ctx, confer.EmbeddingsRequest{Texts: r.Texts, IsQuery: r.IsQuery})
		if err == nil {
			events = append(events, object{"type": confer.EventEmbeddings.String(), "values": values})
		}
	case "extraction":
		var answer json.RawMessage
		request := confer.ExtractionRequest{Filename: r.Filename, Bytes: r.Document, Options: r.Options}
		if r.Progress {
			request.Progress = func(sent, total int64) {
				events = []object{{"type": confer.EventProgress.String(), "sent": sent, "total": total}}
			}
		}
		answer, err = client.Extract(ctx, request)
		body(string(answer))
	case "fetch":
		var page string
		page, err = client.Fetch(ctx, confer.FetchRequest{URL: r.URL, Headers: r.Headers})
		body(page)
	case "ping":
		if _, err = client.Ping(ctx); err == nil {
			events = append(events, object{"type": confer.EventPong.String()})
		}
	default:
		t.Errorf("unknown kind %s", r.Kind)
	}
	shown := result(err)
	shown["events"] = events
	return shown
}

func (r vectorRequest) chat(conversation *confer.Conversation) confer.ChatRequest {
	request := confer.ChatRequest{
		Conversation: conversation,
		Tools:        r.Tools, ToolRounds: r.ToolRounds, Properties: r.Properties, Whole: r.Streaming != nil && !*r.Streaming,
	}
	for _, message := range r.Messages {
		request.Messages = append(request.Messages, confer.Message{JSON: message})
	}
	return request
}

func (r vectorRequest) loop(cancel func(), answer iter.Seq2[confer.Event, error]) (events []object, err error) {
	events = []object{}
	for event, failure := range answer {
		if failure != nil {
			return events, failure
		}
		events = add(events, event)
		if event.WantsAnswer() {
			answer, ok := r.Answers[event.ToolCallID]
			give := event.AnswerTool
			if !ok {
				answer, give = "no answer", event.FailTool
			}
			if err := give(answer); err != nil {
				return events, err
			}
		}
		if r.CancelAfter != nil && len(events) == *r.CancelAfter {
			cancel()
		}
	}
	return events, nil
}

// add adds an event in the normal form.
func add(events []object, event confer.Event) []object {
	shown := object{"type": event.Type.String()}
	count := func(tokens int64) any {
		if tokens < 0 {
			return nil
		}
		return tokens
	}
	switch event.Type {
	case confer.EventToken, confer.EventThinking:
		shown["content"] = event.Content
	case confer.EventBody:
		if last := len(events) - 1; last >= 0 && events[last]["type"] == shown["type"] {
			events[last]["content"] = events[last]["content"].(string) + event.Content
			return events
		}
		if event.Content == "" {
			return events
		}
		shown["content"] = event.Content
	case confer.EventServerToolCall, confer.EventClientToolCall, confer.EventServerToolResponse:
		shown["tool_call_id"], shown["tool_name"] = event.ToolCallID, event.ToolName
		if event.Type == confer.EventServerToolResponse {
			shown["content"], shown["full_content"] = event.Content, event.FullContent
		} else {
			shown["tool_arguments"] = event.ToolArguments
		}
		if event.Type == confer.EventClientToolCall {
			shown["wants_answer"] = event.WantsAnswer()
		}
	case confer.EventCompletion:
		shown["pending_tool_calls"] = event.PendingToolCalls
		shown["context_tokens"], shown["max_context_tokens"] = count(event.ContextTokens), count(event.MaxContextTokens)
	default:
		shown["json"] = json.RawMessage(bytes.TrimSpace([]byte(event.JSON)))
	}
	return append(events, shown)
}
