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
	Exchange *struct {
		IdleMS          int64  `json:"idle_ms"`
		UnfinishedBytes uint64 `json:"unfinished_bytes"`
		Together        bool
		Requests        []vectorRequest
	}
	Results []any
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
	Filename, Document       string
	URL                      string
	Headers                  map[string]string
	Verb, Path, Body, Ending string
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
				shown, _ := json.MarshalIndent(results, "", " ")
				t.Errorf("these results are not those of the vector: %s", shown)
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
	enclave := launch(t, "--script", file)
	config := enclave.config
	if idle := time.Duration(v.Exchange.IdleMS) * time.Millisecond; idle > 0 {
		config.Durations = map[confer.DurationKey]time.Duration{confer.DurationIdleEvents: idle, confer.DurationIdleOther: idle}
	}
	if v.Exchange.UnfinishedBytes > 0 {
		config.Limits = map[confer.LimitKey]uint64{confer.LimitUnfinished: v.Exchange.UnfinishedBytes}
	}
	client, err := confer.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	results := make([]object, len(v.Exchange.Requests))
	var running sync.WaitGroup
	for n, request := range v.Exchange.Requests {
		running.Add(1)
		go func() {
			defer running.Done()
			results[n] = request.run(t, client)
		}()
		if !v.Exchange.Together {
			running.Wait()
		}
	}
	running.Wait()
	client.Close()
	if enclave.end(); !enclave.command.ProcessState.Success() {
		t.Error("the script failed")
	}
	return results
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

func (r vectorRequest) run(t *testing.T, client *confer.Client) object {
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
		events, err = r.loop(cancel, client.Chat(ctx, r.chat()))
	case "raw":
		events, err = r.loop(cancel, client.Raw(ctx, confer.RawRequest{Verb: r.Verb, Path: r.Path, Body: r.Body, Ending: ending(r.Ending)}))
	case "embeddings":
		var values [][]float32
		values, err = client.Embed(ctx, confer.EmbeddingsRequest{Texts: r.Texts, IsQuery: r.IsQuery})
		if err == nil {
			events = append(events, object{"type": confer.EventEmbeddings.String(), "values": values})
		}
	case "extraction":
		var answer json.RawMessage
		answer, err = client.Extract(ctx, confer.ExtractionRequest{Filename: r.Filename, Bytes: []byte(r.Document), Options: r.Options})
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

func ending(name string) confer.Ending {
	ending := confer.EndingOneResponse
	for ending.String() != name {
		ending++
	}
	return ending
}

func (r vectorRequest) chat() confer.ChatRequest {
	request := confer.ChatRequest{
		Tools: r.Tools, ToolRounds: r.ToolRounds, Properties: r.Properties, Whole: r.Streaming != nil && !*r.Streaming,
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
			if err := event.AnswerTool(r.Answers[event.ToolCallID]); err != nil {
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
	case confer.EventProgress:
		return events
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
