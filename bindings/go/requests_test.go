package confer_test

// Requests other than chats, tools that this process runs, and reconnecting.

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"libconfer/confer"
)

func TestPingReportsItsRoundTrip(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	before := client.Counters()
	// On one machine it may be shorter than the clock's resolution.
	if took, err := client.Ping(t.Context()); err != nil || took < 0 || took > time.Minute {
		t.Errorf("got %v, %v", took, err)
	}
	after := client.Counters()
	if before.Connections != 1 || after.MessagesSent != before.MessagesSent+1 || after.MessagesReceived != before.MessagesReceived+1 ||
		after.FailedAttempts != 0 {
		t.Errorf("from %+v to %+v", before, after)
	}
	// Bytes are counted after their content was handled.
	for after.BytesSent == 0 || after.BytesReceived == 0 {
		runtime.Gosched()
		after = client.Counters()
	}
}

func TestTextsHaveEmbeddingsInTheirOrder(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	rows, err := client.Embed(t.Context(), []string{"a", "b", "a"}, true)
	if err != nil || len(rows) != 3 || len(rows[0]) != 64 {
		t.Fatalf("got %d rows, %v", len(rows), err)
	}
	norm := 0.0
	for at, value := range rows[1] {
		norm += float64(value) * float64(value)
		if rows[0][at] != rows[2][at] {
			t.Error("equal texts have other embeddings")
		}
	}
	if math.Abs(norm-1) > 1e-5 || rows[0][0] == rows[1][0] {
		t.Errorf("a norm of %v", norm)
	}
	passages, err := client.Embed(t.Context(), []string{"a"}, false)
	if err != nil || passages[0][0] == rows[0][0] {
		t.Errorf("a passage is a query: %v", err)
	}
	if _, err := client.Embed(t.Context(), make([]string, 65), false); !errors.Is(err, confer.ErrTooLarge) {
		t.Errorf("65 texts: %v", err)
	}
	if _, err := client.Embed(t.Context(), nil, false); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("no text: %v", err)
	}
}

func TestPageIsFetchedAndRefusalHasAReason(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	page, err := client.FetchHTML(t.Context(), "https://a.test/?q=<b>", map[string]string{"Accept": "text/html"})
	if err != nil || !strings.Contains(page, "<code>https://a.test/?q=&lt;b&gt;</code>") {
		t.Errorf("got %q, %v", page, err)
	}
	_, err = client.FetchHTML(t.Context(), "http://unreachable.test/", nil)
	var refused *confer.Error
	if !errors.As(err, &refused) || refused.HTTPStatus != 502 || refused.PeerText == "" {
		t.Errorf("got %v", err)
	}
}

func TestDocumentIsUploadedFromMemoryAndFile(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	text := strings.Repeat("a line of text\n", 200_000)
	path := filepath.Join(t.TempDir(), "lines.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options := map[string]any{"content_type": "text/plain", "ocr": false}
	var told []int64
	progress := func(sent, total int64) {
		if told = append(told, sent); total != int64(len(text)) {
			t.Errorf("%d of %d", sent, total)
		}
	}
	for _, document := range []confer.Document{
		{Filename: "lines.txt", Bytes: []byte(text), Options: options, Progress: progress},
		{Path: path, Options: options, Progress: progress},
		{Filename: "lines.txt", Path: path, Options: options},
	} {
		extracted, err := client.Extract(t.Context(), document)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Document struct {
				Text string `json:"md_content"`
			}
		}
		if err := json.Unmarshal(extracted, &read); err != nil {
			t.Fatal(err)
		}
		if read.Document.Text != text {
			t.Errorf("extracted %d bytes", len(read.Document.Text))
		}
	}
	if len(told) < 2 || told[len(told)-1] != int64(len(text)) {
		t.Errorf("told %v", told)
	}
	var bounded *confer.Error
	if _, err := client.Extract(t.Context(), confer.Document{Filename: "empty.txt"}); !errors.As(err, &bounded) || bounded.HTTPStatus != 400 {
		t.Errorf("an empty document: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.Document{Filename: "x.txt", Bytes: []byte("x"), MaxAnswer: 10}); !errors.As(err, &bounded) ||
		bounded.Status != confer.ErrLimit || bounded.Progress != confer.PartlyAnswered {
		t.Errorf("an answer beyond its bound: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.Document{Path: "/nonexistent"}); !errors.Is(err, confer.ErrFile) {
		t.Errorf("no file: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.Document{Filename: "x", Bytes: []byte("x"), Options: map[string]any{"content_type": "x/y"}}); !errors.Is(err, confer.ErrRefused) {
		t.Errorf("a type that there is not: %v", err)
	}
}

func TestContextCancelsAnUpload(t *testing.T) {
	client := connect(t, startEnclave(t, "upload-not-read"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client.Extract(ctx, confer.Document{
		Filename: "zeros.pdf",
		Bytes:    make([]byte, 20<<20),
		Progress: func(int64, int64) { cancel() },
	})
	if !errors.Is(err, confer.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAnyRouteWorks(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	collect := func(verb, path, body string, ending confer.Ending) (text string, pieces int, err error) {
		for event, err := range client.Do(t.Context(), verb, path, body, ending) {
			if err != nil {
				return text, pieces, err
			}
			text, pieces = text+event.Content, pieces+1
		}
		return text, pieces, nil
	}
	if _, pieces, err := collect("GET", "/ping", "", confer.EndingOneResponse); err != nil || pieces != 1 {
		t.Errorf("%d pieces, %v", pieces, err)
	}
	chat := `{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true,"webSearch":false}`
	if text, _, err := collect("POST", "/v1/vllm/chat/completions", chat, confer.EndingCompletion); err != nil || text != "You said: hello" {
		t.Errorf("got %q, %v", text, err)
	}
	stored := `{"filename":"a.pdf","total_length":9,"source_object_key":"k","encryption_key":"e"}`
	if text, pieces, err := collect("POST", "/v2/document/extract", stored, confer.EndingContentLength); err != nil ||
		pieces < 2 || !json.Valid([]byte(text)) {
		t.Errorf("%d pieces: %q, %v", pieces, text, err)
	}
	if _, _, err := collect("GET", "/nowhere", "", confer.EndingOneResponse); !errors.Is(err, confer.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if _, _, err := collect("", "/ping", "", confer.EndingOneResponse); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

func withTools(prompt string) confer.Request {
	request := ask(prompt)
	request.Tools = []confer.Tool{{Name: "clock", Parameters: json.RawMessage(`{"type":"object","properties":{"zone":{"type":"string"}}}`)}}
	return request
}

func TestToolsRunUntilAnAnswerCallsNone(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	calls, completions := 0, 0
	clock := func(ctx context.Context, arguments string) (string, error) {
		if calls++; arguments != `{"zone":"UTC"}` || ctx.Err() != nil {
			t.Errorf("called with %s", arguments)
		}
		return []string{"noon", "night", "dawn"}[calls-1], nil
	}
	tools := map[string]confer.ToolFunc{"clock": clock}
	text := ""
	for event, err := range client.ChatWithTools(t.Context(), withTools(`/client-tools 2 clock {"zone":"UTC"}`), tools) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == confer.EventCompletion {
			completions++
		}
		text += event.Content
	}
	if calls != 2 || completions != 2 || text != "The tools answered: noon | night" {
		t.Errorf("%d calls, %d completions: %q", calls, completions, text)
	}

	// The server's tool calls are part of the history.
	calls = 0
	if text, err := textOf(client.ChatWithTools(t.Context(), withTools(`/mixed-tools clock {"zone":"UTC"}`), tools)); err != nil ||
		!strings.Contains(text, "noon") {
		t.Errorf("got %q, %v", text, err)
	}
	// The model receives an error for a failing tool and for an unknown one.
	failing := map[string]confer.ToolFunc{"clock": func(context.Context, string) (string, error) { return "", errors.New("it stands") }}
	if text, err := textOf(client.ChatWithTools(t.Context(), withTools(`/client-tools 1 clock {}`), failing)); err != nil || text != "The tools answered: Error: it stands" {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := textOf(client.ChatWithTools(t.Context(), withTools(`/client-tools 1 clock {}`), nil)); err != nil || !strings.Contains(text, "Error: there is no tool") {
		t.Errorf("got %q, %v", text, err)
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
	in := func(request confer.Request) confer.Request {
		request.Conversation = conversation
		return request
	}
	tools := map[string]confer.ToolFunc{"clock": func(context.Context, string) (string, error) { return "noon", nil }}
	if _, err := textOf(client.Chat(t.Context(), in(ask("hello")))); err != nil || conversation.Len() != 2 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
	// The question, the call, the result, the answer.
	if _, err := textOf(client.ChatWithTools(t.Context(), in(withTools("/tool-rounds 3 clock {}")), tools)); err != nil || conversation.Len() != 10 {
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

	endless := in(withTools("/endless-tool clock {}"))
	endless.MaxRounds = 3
	var failure *confer.Error
	if _, err := textOf(client.ChatWithTools(t.Context(), endless, tools)); !errors.Is(err, confer.ErrToolRounds) ||
		!errors.As(err, &failure) || failure.Progress != confer.PartlyAnswered {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelling := map[string]confer.ToolFunc{"clock": func(context.Context, string) (string, error) { cancel(); return "", nil }}
	if _, err := textOf(client.ChatWithTools(ctx, in(withTools("/endless-tool clock {}")), cancelling)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	rounds := 0
	for event := range client.ChatWithTools(t.Context(), in(withTools("/endless-tool clock {}")), tools) {
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
	for event := range client.ChatWithTools(t.Context(), in(ask("bye")), tools) {
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

func TestBrokenConnectionIsReplaced(t *testing.T) {
	config := startEnclave(t, "stream-drop", "--fault-until", "1")
	if _, err := textOf(connect(t, config).Chat(t.Context(), ask("x"))); !errors.Is(err, confer.ErrConnectionLost) {
		t.Errorf("got %v", err)
	}
	config = startEnclave(t, "stream-drop", "--fault-until", "1")
	config.Reconnect = confer.Reconnect{Attempts: 10, FirstDelay: 10 * time.Millisecond}
	config.RenewWithEvidence = true
	client := connect(t, config)
	var failure *confer.Error
	if _, err := textOf(client.Chat(t.Context(), ask("x"))); !errors.Is(err, confer.ErrConnectionLost) || !errors.As(err, &failure) || failure.Progress == confer.NotSent {
		t.Errorf("got %v", err)
	}
	if text, err := textOf(client.Chat(t.Context(), ask("again"))); err != nil || text != "You said: again" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Check(); err != nil || !client.Connected() || client.Counters().Connections != 2 {
		t.Errorf("%v, %+v", err, client.Counters())
	}
	if report, err := client.Report(); err != nil || !report.Verified() {
		t.Errorf("got %v", err)
	}
}

func TestChangedNetworkIsProbedAtOnce(t *testing.T) {
	config := startEnclave(t, "mute", "--fault-until", "1")
	config.Reconnect.Attempts = 10
	config.Reconnect.MaxDelay = 10 * time.Millisecond
	config.ProbeTimeout = 50 * time.Millisecond
	client := connect(t, config)
	if err := client.NetworkChanged(); err != nil {
		t.Error(err)
	}
	for client.Counters().Connections < 2 {
		if t.Context().Err() != nil || client.Check() != nil {
			t.Fatalf("%v, %+v", client.Check(), client.Counters())
		}
		runtime.Gosched()
	}
	if text, err := textOf(client.Chat(t.Context(), ask("again"))); err != nil || text != "You said: again" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := client.NetworkChanged(); !errors.Is(err, confer.ErrClosed) || client.Connected() || client.Counters() != (confer.Counters{}) {
		t.Errorf("got %v", err)
	}
}

func TestInvalidSettingsAreRefusedByName(t *testing.T) {
	config := startEnclave(t, "none")
	refused := func(want error, set func(*confer.Config)) {
		t.Helper()
		changed := config
		set(&changed)
		client, err := confer.Connect(t.Context(), changed)
		if !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
		if client != nil {
			client.Close()
		}
	}
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.MaxAge = time.Second })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.MaxAge = time.Microsecond })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.MaxAge = -time.Microsecond })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.ProbeTimeout = -1 * time.Second })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.Reconnect = confer.Reconnect{Attempts: 1, FirstDelay: -time.Second} })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.Limits.Unfinished = 1 })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.Roots = -1 })
	refused(confer.ErrInvalidArgument, func(c *confer.Config) { c.RootsPEM = "none" })
	refused(confer.ErrInvalidURL, func(c *confer.Config) { c.Proxy = "ftp://proxy.test" })
	// A proxy cannot lead to this machine.
	refused(confer.ErrInvalidURL, func(c *confer.Config) { c.Proxy = "socks5://proxy.test" })
	t.Setenv("HTTPS_PROXY", "ftp://proxy.test")
	refused(nil, func(c *confer.Config) {})
	refused(confer.ErrInvalidURL, func(c *confer.Config) { c.ProxyFromEnvironment = true })
	t.Setenv("HTTPS_PROXY", "http://proxy.test")
	refused(nil, func(c *confer.Config) { c.ProxyFromEnvironment = true })
	t.Setenv("SSL_CERT_FILE", "/nonexistent")
	t.Setenv("SSL_CERT_DIR", "/nonexistent")
	refused(confer.ErrFile, func(c *confer.Config) { c.Roots = confer.RootsSystem })

	config.Limits.Requests = 1
	client := connect(t, config)
	for _, err := range client.Chat(t.Context(), ask("/silent")) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Ping(t.Context()); !errors.Is(err, confer.ErrTooMany) {
			t.Errorf("got %v", err)
		}
		break
	}
}
