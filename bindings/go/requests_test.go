package confer_test

// Requests other than chats, and reconnecting.

import (
	"context"
	"encoding/json"
	"errors"
	"io"
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
	rows, err := client.Embed(t.Context(), confer.EmbeddingsRequest{Texts: []string{"a", "b", "a"}, IsQuery: true})
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
	passages, err := client.Embed(t.Context(), confer.EmbeddingsRequest{Texts: []string{"a"}})
	if err != nil || passages[0][0] == rows[0][0] {
		t.Errorf("a passage is a query: %v", err)
	}
	if _, err := client.Embed(t.Context(), confer.EmbeddingsRequest{Texts: make([]string, 65)}); !errors.Is(err, confer.ErrTooLarge) {
		t.Errorf("65 texts: %v", err)
	}
	if _, err := client.Embed(t.Context(), confer.EmbeddingsRequest{}); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("no text: %v", err)
	}
}

func TestPageIsFetchedAndRefusalHasAReason(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	page, err := client.Fetch(t.Context(), confer.FetchRequest{URL: "https://a.test/?q=<b>", Headers: map[string]string{"Accept": "text/html"}})
	if err != nil || !strings.Contains(page, "<code>https://a.test/?q=&lt;b&gt;</code>") {
		t.Errorf("got %q, %v", page, err)
	}
	_, err = client.Fetch(t.Context(), confer.FetchRequest{URL: "http://unreachable.test/"})
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
	for _, document := range []confer.ExtractionRequest{
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
	if _, err := client.Extract(t.Context(), confer.ExtractionRequest{Filename: "empty.txt"}); !errors.As(err, &bounded) || bounded.HTTPStatus != 400 {
		t.Errorf("an empty document: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.ExtractionRequest{Filename: "x.txt", Bytes: []byte("x"), MaxAnswer: 10}); !errors.As(err, &bounded) ||
		bounded.Status != confer.ErrLimit || bounded.Progress != confer.PartlyAnswered {
		t.Errorf("an answer beyond its bound: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.ExtractionRequest{Path: "/nonexistent"}); !errors.Is(err, confer.ErrFile) {
		t.Errorf("no file: %v", err)
	}
	if _, err := client.Extract(t.Context(), confer.ExtractionRequest{Filename: "x", Bytes: []byte("x"), Options: map[string]any{"content_type": "x/y"}}); !errors.Is(err, confer.ErrRefused) {
		t.Errorf("a type that there is not: %v", err)
	}
}

func TestContextCancelsAnUpload(t *testing.T) {
	client := connect(t, startEnclave(t, "upload-not-read"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client.Extract(ctx, confer.ExtractionRequest{
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
		for event, err := range client.Raw(t.Context(), confer.RawRequest{Verb: verb, Path: path, Body: body, Ending: ending}) {
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

func TestBrokenConnectionIsReplaced(t *testing.T) {
	config := startEnclave(t, "stream-drop", "--fault-until", "1")
	if _, err := textOf(connect(t, config).Chat(t.Context(), ask("x"))); !errors.Is(err, confer.ErrConnectionLost) {
		t.Errorf("got %v", err)
	}
	config = startEnclave(t, "stream-drop", "--fault-until", "1")
	config.Limits = map[confer.LimitKey]uint64{confer.LimitAttempts: 10}
	config.Durations = map[confer.DurationKey]time.Duration{confer.DurationFirstRetry: 10 * time.Millisecond}
	config.RenewWithEvidence = true
	client := connect(t, config)
	var failure *confer.Error
	if _, err := textOf(client.Chat(t.Context(), ask("x"))); !errors.Is(err, confer.ErrConnectionLost) || !errors.As(err, &failure) || failure.Progress == confer.NotSent {
		t.Errorf("got %v", err)
	}
	if text, err := textOf(client.Chat(t.Context(), ask("again"))); err != nil || text != "You said: again" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Err(); err != nil || client.State() != confer.StateConnected || client.Counters().Connections != 2 {
		t.Errorf("%v, %+v", err, client.Counters())
	}
	if report, err := client.Report(); err != nil || !report.Verified() {
		t.Errorf("got %v", err)
	}
}

func TestChangedNetworkIsProbedAtOnce(t *testing.T) {
	config := startEnclave(t, "mute", "--fault-until", "1")
	config.Limits = map[confer.LimitKey]uint64{confer.LimitAttempts: 10}
	config.Durations = map[confer.DurationKey]time.Duration{
		confer.DurationLongestRetry: 10 * time.Millisecond, confer.DurationProbe: 50 * time.Millisecond,
	}
	client := connect(t, config)
	if err := client.NetworkChanged(); err != nil {
		t.Error(err)
	}
	for client.Counters().Connections < 2 {
		if t.Context().Err() != nil || client.Err() != nil {
			t.Fatalf("%v, %+v", client.Err(), client.Counters())
		}
		runtime.Gosched()
	}
	if text, err := textOf(client.Chat(t.Context(), ask("again"))); err != nil || text != "You said: again" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := client.NetworkChanged(); !errors.Is(err, confer.ErrClosed) || client.State() != confer.StateEnded || client.Counters() != (confer.Counters{}) {
		t.Errorf("got %v", err)
	}
}

func TestInvalidSettingsAreRefusedByName(t *testing.T) {
	config := startEnclave(t, "none")
	// The message begins with the name of the argument or key.
	refused := func(want confer.Status, named string, set func(*confer.Config)) {
		t.Helper()
		changed := config
		set(&changed)
		var failure *confer.Error
		if client, err := confer.Connect(t.Context(), changed); err == nil {
			t.Error("connected")
			client.Close()
		} else if !errors.As(err, &failure) || failure.Status != want || !strings.HasPrefix(failure.Message, named+": ") {
			t.Errorf("%s: got %v", named, err)
		}
	}
	accepted := func(set func(*confer.Config)) {
		t.Helper()
		changed := config
		set(&changed)
		if client, err := confer.Connect(t.Context(), changed); err != nil {
			t.Error(err)
		} else {
			client.Close()
		}
	}
	lasting := func(key confer.DurationKey, value time.Duration) func(*confer.Config) {
		return func(c *confer.Config) { c.Durations = map[confer.DurationKey]time.Duration{key: value} }
	}
	limited := func(key confer.LimitKey, value uint64) func(*confer.Config) {
		return func(c *confer.Config) { c.Limits = map[confer.LimitKey]uint64{key: value} }
	}
	refused(confer.ErrInvalidArgument, "CONFER_DURATION_MAX_AGE", lasting(confer.DurationMaxAge, time.Second))
	refused(confer.ErrInvalidArgument, "CONFER_DURATION_MAX_AGE", lasting(confer.DurationMaxAge, time.Microsecond))
	refused(confer.ErrInvalidArgument, "CONFER_DURATION_MAX_AGE", lasting(confer.DurationMaxAge, -time.Microsecond))
	accepted(lasting(confer.DurationMaxAge, 0))
	refused(confer.ErrInvalidArgument, "CONFER_DURATION_PROBE", lasting(confer.DurationProbe, -1*time.Second))
	refused(confer.ErrInvalidArgument, "CONFER_DURATION_FIRST_RETRY", lasting(confer.DurationFirstRetry, -time.Second))
	refused(confer.ErrInvalidArgument, "duration", lasting(-1, time.Second))
	refused(confer.ErrInvalidArgument, "CONFER_LIMIT_UNFINISHED", limited(confer.LimitUnfinished, 1))
	refused(confer.ErrInvalidArgument, "limit", limited(-1, 1))
	refused(confer.ErrInvalidArgument, "questions", func(c *confer.Config) { c.Ask = 1 << 20 })
	refused(confer.ErrInvalidArgument, "token", func(c *confer.Config) { c.Token = "" })
	refused(confer.ErrInvalidArgument, "level", func(c *confer.Config) { c.Log, c.LogLevel = func(confer.LogLevel, string, string) {}, 99 })
	refused(confer.ErrInvalidArgument, "roots", func(c *confer.Config) { c.Roots = -1 })
	refused(confer.ErrInvalidArgument, "pem", func(c *confer.Config) { c.RootsPEM = "none" })
	refused(confer.ErrInvalidURL, "proxy", func(c *confer.Config) { c.Proxy = "ftp://proxy.test" })
	// A proxy cannot lead to this machine.
	refused(confer.ErrInvalidURL, "endpoint", func(c *confer.Config) { c.Proxy = "socks5://proxy.test" })
	t.Setenv("HTTPS_PROXY", "ftp://proxy.test")
	accepted(func(c *confer.Config) {})
	refused(confer.ErrInvalidURL, "HTTPS_PROXY", func(c *confer.Config) { c.ProxyFromEnvironment = true })
	t.Setenv("HTTPS_PROXY", "http://proxy.test")
	accepted(func(c *confer.Config) { c.ProxyFromEnvironment = true })
	t.Setenv("SSL_CERT_FILE", "/nonexistent")
	t.Setenv("SSL_CERT_DIR", "/nonexistent")
	refused(confer.ErrFile, "roots", func(c *confer.Config) { c.Roots = confer.RootsSystem })

	limited(confer.LimitRequests, 1)(&config)
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

// pieces reads a document in small pieces, and fails after it if err is not nil.
type pieces struct {
	rest string
	err  error
}

func (p *pieces) Read(buffer []byte) (int, error) {
	n := copy(buffer, p.rest[:min(len(p.rest), 4099)])
	switch p.rest = p.rest[n:]; {
	case n > 0:
		return n, nil
	case p.err != nil:
		return 0, p.err
	}
	return 0, io.EOF
}

func TestDocumentIsUploadedFromAReader(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	text := strings.Repeat("a line of text\n", 200_000)
	extract := func(length int, reader io.Reader) (json.RawMessage, error) {
		return client.Extract(t.Context(), confer.ExtractionRequest{Filename: "lines.txt", Reader: reader, Length: int64(length)})
	}
	for _, reader := range []io.Reader{strings.NewReader(text), &pieces{rest: text}} {
		var read struct {
			Document struct {
				Text string `json:"md_content"`
			}
		}
		if extracted, err := extract(len(text), reader); err != nil || json.Unmarshal(extracted, &read) != nil || read.Document.Text != text {
			t.Errorf("extracted %d bytes, %v", len(read.Document.Text), err)
		}
	}
	var refused *confer.Error
	if _, err := extract(0, &pieces{rest: "x"}); !errors.As(err, &refused) || refused.HTTPStatus != 400 {
		t.Errorf("an unknown length: %v", err)
	}
	broken := errors.New("the disk is gone")
	if _, err := extract(len(text), &pieces{text[:100_000], broken}); !errors.Is(err, broken) || !errors.Is(err, confer.ErrCancelled) || errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := extract(len(text)-1, strings.NewReader(text)); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("more than its length: %v", err)
	}
	if _, err := extract(len(text)+1, strings.NewReader(text)); !errors.Is(err, confer.ErrInvalidArgument) {
		t.Errorf("less than its length: %v", err)
	}
	if _, err := client.Ping(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestReaderThatWaitsIsClosed(t *testing.T) {
	client := connect(t, startEnclave(t, "upload-refused-midway"))
	// A refusal ends the upload, although the next read of the document's source never returns.
	source, sink := io.Pipe()
	go sink.Write(make([]byte, 19<<20))
	var refused *confer.Error
	_, err := client.Extract(t.Context(), confer.ExtractionRequest{Filename: "x.pdf", Reader: source, Length: 20 << 20})
	if !errors.As(err, &refused) || refused.HTTPStatus != 422 {
		t.Errorf("got %v", err)
	}
	if _, err := source.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the reader is open: %v", err)
	}
	// The end of a context closes the reader too.
	stalled, end := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		end.Write([]byte("the beginning"))
		cancel()
	}()
	_, err = client.Extract(ctx, confer.ExtractionRequest{Filename: "x.pdf", Reader: stalled, Length: 1 << 20})
	if !errors.Is(err, confer.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// A request that is not sent closes it too.
	unread, _ := io.Pipe()
	if _, err := client.Extract(ctx, confer.ExtractionRequest{Filename: "x.pdf", Reader: unread}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the reader is open: %v", err)
	}
}
