package confer_test

// Clumsy and hostile uses: each gets a clear error, and never a crash, a hang or a leak.

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libconfer/confer"
)

// calls has a call of each function that takes a context.
func calls(client *confer.Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Wait":    client.Wait,
		"Watch":   func(ctx context.Context) error { return lastError(client.Watch(ctx)) },
		"Chat":    func(ctx context.Context) error { return lastError(client.Chat(ctx, ask("hello"))) },
		"Tools":   func(ctx context.Context) error { return lastError(client.Chat(ctx, withTools("hello", noon))) },
		"Raw":     func(ctx context.Context) error { return lastError(client.Raw(ctx, pingRequest)) },
		"Collect": func(ctx context.Context) error { _, err := client.Collect(ctx, ask("hello")); return err },
		"Ping":    func(ctx context.Context) error { _, err := client.Ping(ctx); return err },
		"Embed": func(ctx context.Context) error {
			_, err := client.Embed(ctx, confer.EmbeddingsRequest{Texts: []string{"a"}})
			return err
		},
		"Fetch": func(ctx context.Context) error {
			_, err := client.Fetch(ctx, confer.FetchRequest{URL: "https://a.test/"})
			return err
		},
		"Extract": func(ctx context.Context) error {
			_, err := client.Extract(ctx, confer.ExtractionRequest{Filename: "a.txt", Reader: strings.NewReader("a"), Length: 1})
			return err
		},
	}
}

var pingRequest = confer.RawRequest{Verb: "GET", Path: "/ping"}

// lastError uses a sequence and returns its last error.
func lastError[E any](events iter.Seq2[E, error]) (err error) {
	for _, err = range events {
	}
	return err
}

// others has a call of each function of a client without a context that can fail.
func others(client *confer.Client) map[string]func() error {
	return map[string]func() error{
		"Err":            client.Err,
		"Report":         func() error { _, err := client.Report(); return err },
		"SetToken":       func() error { return client.SetToken("token") },
		"NetworkChanged": client.NetworkChanged,
	}
}

func expect(t *testing.T, what string, err error, want confer.Status) *confer.Error {
	t.Helper()
	var failure *confer.Error
	if !errors.Is(err, want) || !errors.As(err, &failure) {
		t.Errorf("%s: got %v", what, err)
		return new(confer.Error)
	}
	return failure
}

func TestNilContextIsAnInvalidArgument(t *testing.T) {
	config := startEnclave(t, "none")
	client := connect(t, config)
	var none context.Context
	for what, call := range calls(client) {
		expect(t, what, call(none), confer.ErrInvalidArgument)
	}
	_, err := confer.Connect(none, config)
	expect(t, "Connect", err, confer.ErrInvalidArgument)
}

func TestClosedAndZeroClientsFail(t *testing.T) {
	closed := connect(t, startEnclave(t, "none"))
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, client := range []*confer.Client{closed, new(confer.Client)} {
		for what, call := range calls(client) {
			if what != "Watch" {
				expect(t, what, call(t.Context()), confer.ErrClosed)
			} else if err := call(t.Context()); err != nil {
				t.Errorf("the watch ended with %v", err)
			}
		}
		for what, call := range others(client) {
			expect(t, what, call(), confer.ErrClosed)
		}
		if client.State() != confer.StateEnded || client.Counters() != (confer.Counters{}) || client.Close() != nil {
			t.Error("the client lives")
		}
	}
}

func TestZeroValuesAreNoDefaults(t *testing.T) {
	config := startEnclave(t, "none")
	client := connect(t, config)
	report, err := client.Report()
	if err != nil {
		t.Fatal(err)
	}
	// A zero policy must not become the production policy, nor a zero conversation none.
	_, err = confer.VerifyEvidence(report.Evidence, new(confer.Policy), time.Time{})
	expect(t, "VerifyEvidence", err, confer.ErrInvalidArgument)
	config.Policy = new(confer.Policy)
	_, err = confer.Start(config)
	expect(t, "Start", err, confer.ErrInvalidArgument)
	if config.Policy.JSON() != "" || config.Policy.Name() != "" || config.Policy.SHA256() != "" {
		t.Error("a zero policy has content")
	}
	none := new(confer.Conversation)
	request := ask("hello")
	request.Conversation = none
	_, err = client.Collect(t.Context(), request)
	expect(t, "Chat", err, confer.ErrInvalidArgument)
	expect(t, "Add", none.Add(confer.RoleUser, "hello"), confer.ErrInvalidArgument)
	expect(t, "Truncate", none.Truncate(0), confer.ErrInvalidArgument)
	if used, most := none.ContextTokens(); none.JSON() != "" || none.Len() != 0 || used != -1 || most != -1 {
		t.Error("a zero conversation has content")
	}
	for what, err := range map[string]error{
		"AnswerTool":   confer.Event{}.AnswerTool("noon"),
		"FailTool":     confer.Event{}.FailTool("it stands"),
		"answer token": new(confer.TokenQuestion).Answer("token"),
		"refuse token": new(confer.TokenQuestion).Refuse("no"),
		"answer":       new(confer.ReleaseQuestion).Answer(true),
		"ChatRequest":  lastError(client.Chat(t.Context(), confer.ChatRequest{})),
		"RawRequest":   lastError(client.Raw(t.Context(), confer.RawRequest{})),
		"unnamed tool": lastError(client.Chat(t.Context(), confer.ChatRequest{Tools: []confer.Tool{{}}})),
	} {
		expect(t, what, err, confer.ErrInvalidArgument)
	}
	expect(t, "document", lastError(client.Chat(t.Context(), confer.ChatRequest{Documents: []confer.StoredDocument{""}})), confer.ErrInvalidJSON)
	_, err = client.Embed(t.Context(), confer.EmbeddingsRequest{})
	expect(t, "Embed", err, confer.ErrInvalidArgument)
	_, err = client.Fetch(t.Context(), confer.FetchRequest{})
	expect(t, "Fetch", err, confer.ErrInvalidArgument)
	_, err = client.Extract(t.Context(), confer.ExtractionRequest{})
	expect(t, "Extract", err, confer.ErrInvalidArgument)
	_, err = confer.Start(confer.Config{})
	expect(t, "Start", err, confer.ErrInvalidArgument)
	if new(confer.Report).Verified() || new(confer.Error).Error() == "" || new(confer.Error).Unwrap() == nil {
		t.Error("a zero report or error is wrong")
	}
	for _, text := range []string{
		confer.Status(-1).String(), confer.Status(-1).Error(), confer.Role(-1).String(), confer.EventType(-1).String(),
		confer.Progress(-1).String(), confer.Ending(-1).String(), confer.Roots(-1).String(), confer.Stage(-1).String(),
		confer.State(-1).String(), confer.TokenReason(-1).String(), confer.DurationKey(-1).String(),
		confer.LimitKey(-1).String(), confer.LogLevel(-1).String(),
	} {
		if text == "" {
			t.Error("an unknown number has no name")
		}
	}
}

// A copy of a struct outlives the original, whose garbage must not free the copy's handle.
func TestCopiesShareTheirHandle(t *testing.T) {
	config := startEnclave(t, "none")
	policy := func() confer.Policy { return *config.Policy }()
	config.Policy = &policy
	conversation := func() confer.Conversation {
		made, err := confer.NewConversation()
		if err != nil {
			t.Fatal(err)
		}
		return *made
	}()
	client := func() confer.Client { return *connect(t, config) }()
	collectGarbage()
	request := ask("hello")
	request.Conversation = &conversation
	if text, err := client.Collect(t.Context(), request); err != nil || text != "You said: hello" || conversation.Len() != 2 {
		t.Errorf("got %q, %v, %d messages", text, err, conversation.Len())
	}
	other := client
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	expect(t, "the copy", other.Err(), confer.ErrClosed)
	again, err := confer.ParsePolicy(policy.JSON())
	if err != nil || again.SHA256() != policy.SHA256() {
		t.Errorf("got %v", err)
	}
}

func TestTextsThatCCannotHaveAreRefused(t *testing.T) {
	config := startEnclave(t, "none")
	client := connect(t, config)
	conversation, err := confer.NewConversation()
	if err != nil {
		t.Fatal(err)
	}
	const binary = "a\xff\x00b"
	starts := func(set func(*confer.Config)) error {
		changed := config
		set(&changed)
		started, err := confer.Start(changed)
		if err == nil {
			started.Close()
		}
		return err
	}
	chats := func(set func(*confer.ChatRequest)) error {
		request := ask("hello")
		set(&request)
		return lastError(client.Chat(t.Context(), request))
	}
	parsed := func(_ any, err error) error { return err }
	for what, err := range map[string]error{
		"endpoint":      starts(func(c *confer.Config) { c.Endpoint = binary }),
		"token":         starts(func(c *confer.Config) { c.Token = binary }),
		"file":          starts(func(c *confer.Config) { c.JWKSCacheFile = binary }),
		"proxy":         starts(func(c *confer.Config) { c.Proxy = binary }),
		"roots":         starts(func(c *confer.Config) { c.RootsPEM = binary }),
		"SetToken":      client.SetToken(binary),
		"message":       lastError(client.Chat(t.Context(), ask(binary))),
		"message JSON":  chats(func(r *confer.ChatRequest) { r.Messages[0].JSON = []byte(binary) }),
		"model":         chats(func(r *confer.ChatRequest) { r.Model = binary }),
		"document":      chats(func(r *confer.ChatRequest) { r.Documents = []confer.StoredDocument{binary} }),
		"tool":          chats(func(r *confer.ChatRequest) { r.Tools = []confer.Tool{{Name: binary}} }),
		"tool's text":   chats(func(r *confer.ChatRequest) { r.Tools = []confer.Tool{{Name: "a", Description: binary}} }),
		"tool's schema": chats(func(r *confer.ChatRequest) { r.Tools = []confer.Tool{{Name: "a", Parameters: []byte(binary)}} }),
		"property":      chats(func(r *confer.ChatRequest) { r.Properties = map[string]any{binary: 1} }),
		"Add":           conversation.Add(confer.RoleUser, binary),
		"conversation":  parsed(confer.ParseConversation(binary)),
		"policy's file": parsed(confer.LoadPolicy(binary)),
		"text":          parsed(client.Embed(t.Context(), confer.EmbeddingsRequest{Texts: []string{binary}})),
		"URL":           parsed(client.Fetch(t.Context(), confer.FetchRequest{URL: binary})),
		"header":        parsed(client.Fetch(t.Context(), confer.FetchRequest{URL: "https://a.test/", Headers: map[string]string{binary: "a"}})),
		"header value":  parsed(client.Fetch(t.Context(), confer.FetchRequest{URL: "https://a.test/", Headers: map[string]string{"a": binary}})),
		"verb":          lastError(client.Raw(t.Context(), confer.RawRequest{Verb: binary, Path: "/ping"})),
		"path":          lastError(client.Raw(t.Context(), confer.RawRequest{Verb: "GET", Path: binary})),
		"filename":      parsed(client.Extract(t.Context(), confer.ExtractionRequest{Filename: binary, Bytes: []byte("a")})),
		"upload's path": parsed(client.Extract(t.Context(), confer.ExtractionRequest{Filename: "a", Path: binary})),
		"option":        parsed(client.Extract(t.Context(), confer.ExtractionRequest{Filename: "a", Bytes: []byte("a"), Options: map[string]any{binary: 1}})),
	} {
		if failure := expect(t, what, err, confer.ErrInvalidUTF8); strings.Contains(failure.Error(), binary) {
			t.Errorf("%s: the message repeats it", what)
		}
	}
	expect(t, "policy", parsed(confer.ParsePolicy(binary)), confer.ErrInvalidPolicy)
	expect(t, "evidence", parsed(confer.VerifyEvidence(binary, nil, time.Time{})), confer.ErrInvalidJSON)
	// NUL is text, except in names and files.
	for what, err := range map[string]error{
		"file":          starts(func(c *confer.Config) { c.JWKSCacheFile = "a\x00b" }),
		"token":         starts(func(c *confer.Config) { c.Token = "a\x00b" }),
		"policy's file": parsed(confer.LoadPolicy("a\x00b")),
		"upload's path": parsed(client.Extract(t.Context(), confer.ExtractionRequest{Filename: "a", Path: "a\x00b"})),
		"verb":          lastError(client.Raw(t.Context(), confer.RawRequest{Verb: "G\x00T", Path: "/ping"})),
	} {
		var failure *confer.Error
		if !errors.As(err, &failure) {
			t.Errorf("NUL in %s: got %v", what, err)
		}
	}
	if text, err := client.Collect(t.Context(), ask("a\x00b")); err != nil || text != "You said: a\x00b" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := conversation.Add(confer.RoleUser, ""); err != nil || conversation.Len() != 1 {
		t.Errorf("an empty message: %v", err)
	}
	empty := func(context.Context, string) (string, error) { return "", nil }
	if text, err := client.Collect(t.Context(), withTools("/client-tools 1 clock {}", empty)); err != nil || text != "The tools answered: " {
		t.Errorf("an empty result: got %q, %v", text, err)
	}
}

func TestNumbersBeyondBoundsAreRefused(t *testing.T) {
	config := startEnclave(t, "none")
	client := connect(t, config)
	chats := func(set func(*confer.ChatRequest)) error {
		request := withTools("hello", noon)
		set(&request)
		return lastError(client.Chat(t.Context(), request))
	}
	extracts := func(request confer.ExtractionRequest) error {
		request.Filename, request.Reader = "a.txt", strings.NewReader("a")
		_, err := client.Extract(t.Context(), request)
		return err
	}
	conversation, err := confer.ParseConversation(`{"version":1,"messages":[],"context_tokens":null,"max_context_tokens":null}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := conversation.Add(confer.RoleUser, "kept"); err != nil {
		t.Fatal(err)
	}
	verified := func(at time.Time) error {
		report, err := client.Report()
		if err == nil {
			_, err = confer.VerifyEvidence(report.Evidence, config.Policy, at)
		}
		return err
	}
	for what, err := range map[string]error{
		"rounds":           chats(func(r *confer.ChatRequest) { r.ToolRounds = math.MaxUint32 }),
		"negative timeout": chats(func(r *confer.ChatRequest) { r.ToolTimeout = -1 }),
		"long timeout":     chats(func(r *confer.ChatRequest) { r.ToolTimeout = math.MaxInt64 }),
		"temperature":      chats(func(r *confer.ChatRequest) { r.Temperature = confer.Ptr(math.NaN()) }),
		"top p":            chats(func(r *confer.ChatRequest) { r.TopP = confer.Ptr(math.Inf(1)) }),
		"top k":            chats(func(r *confer.ChatRequest) { r.TopK = confer.Ptr(int32(math.MinInt32)) }),
		"max tokens":       chats(func(r *confer.ChatRequest) { r.MaxTokens = confer.Ptr(int64(math.MinInt64)) }),
		"tools":            chats(func(r *confer.ChatRequest) { r.Tools = append(r.Tools, r.Tools...) }),
		"answer":           extracts(confer.ExtractionRequest{MaxAnswer: -1}),
		"Truncate":         conversation.Truncate(-1),
		"role":             conversation.Add(math.MaxInt32, "hello"),
		"1969":             verified(time.Unix(-1, 0)),
		"workers":          confer.SetWorkers(math.MaxInt),
		"no workers":       confer.SetWorkers(math.MinInt),
		"unread":           confer.SetUnreadLimit(math.MaxUint64),
		"ending":           lastError(client.Raw(t.Context(), confer.RawRequest{Verb: "GET", Path: "/ping", Ending: -1})),
	} {
		expect(t, what, err, confer.ErrInvalidArgument)
	}
	if unknown := extracts(confer.ExtractionRequest{Length: math.MinInt64}); !errors.Is(unknown, confer.ErrRefused) {
		t.Errorf("a negative length: %v", unknown)
	}
	expect(t, "the year 292277026596", verified(time.Unix(math.MaxInt64, 0)), confer.ErrRejected)
	if err := conversation.Truncate(math.MaxInt); err != nil || conversation.Len() != 1 {
		t.Errorf("%d messages, %v", conversation.Len(), err)
	}
}

// runtime.Goexit, which testing.T.FailNow calls, ends a function without a result.
func TestFunctionsThatEndTheirGoroutine(t *testing.T) {
	enclave := launch(t)
	config := enclave.config
	client := connect(t, config)
	quits := func(context.Context, string) (string, error) { runtime.Goexit(); return "", nil }
	if text, err := client.Collect(t.Context(), withTools("/client-tools 2 clock {}", quits)); err != nil || !strings.Contains(text, "did not return") {
		t.Errorf("got %q, %v", text, err)
	}
	_, err := client.Extract(t.Context(), confer.ExtractionRequest{Filename: "a.txt", Length: 1 << 20, Reader: readerFunc(func([]byte) (int, error) {
		runtime.Goexit()
		return 0, nil
	})})
	expect(t, "Extract", err, confer.ErrCancelled)
	// The loops and a progress function end the caller's own goroutine.
	var ended sync.WaitGroup
	for _, use := range []func(){
		func() {
			for range client.Chat(t.Context(), ask("/slow 1 100000")) {
				runtime.Goexit()
			}
		},
		func() {
			for range client.Chat(t.Context(), withTools("/client-tools 1 clock {}", noon)) {
				runtime.Goexit()
			}
		},
		func() {
			for range client.Watch(t.Context()) {
				runtime.Goexit()
			}
		},
		func() {
			request := confer.ExtractionRequest{Filename: "a.txt", Reader: strings.NewReader("a"), Length: 1}
			request.Progress = func(int64, int64) { runtime.Goexit() }
			_, _ = client.Extract(t.Context(), request)
		},
	} {
		ended.Add(1)
		go func() {
			defer ended.Done()
			use()
			t.Error("the goroutine continues")
		}()
	}
	ended.Wait()
	if _, err := client.Ping(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}

	config = enclave.retrying()
	config.Token = ""
	config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { runtime.Goexit(); return "", nil }
	_, err = confer.Connect(t.Context(), config)
	expect(t, "TokenProvider", err, confer.ErrToken)

	config = enclave.retrying()
	config.AcceptRelease = func(context.Context, *confer.Report, *confer.Report) bool { runtime.Goexit(); return true }
	client = connect(t, config)
	events := watching(t, client)
	enclave.kill(t)
	enclave.again(t, "--release", "9.9.9")
	expect(t, "AcceptRelease", events.end(), confer.ErrReleaseRefused)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(buffer []byte) (int, error) { return f(buffer) }

// panics are functions that panic. Each ends the program with a trace, as in any goroutine.
var panics = map[string]func(*testing.T, confer.Config){
	"tool": func(t *testing.T, config confer.Config) {
		run := func(context.Context, string) (string, error) { panic("of the test") }
		_, _ = connect(t, config).Collect(t.Context(), withTools("/client-tools 1 clock {}", run))
	},
	"TokenProvider": func(t *testing.T, config confer.Config) {
		config.Token = ""
		config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { panic("of the test") }
		connect(t, config)
	},
	"Log": func(t *testing.T, config confer.Config) {
		config.Log = func(confer.LogLevel, string, string) { panic("of the test") }
		connect(t, config).Close()
	},
	"Reader": func(t *testing.T, config confer.Config) {
		reader := readerFunc(func([]byte) (int, error) { panic("of the test") })
		_, _ = connect(t, config).Extract(t.Context(), confer.ExtractionRequest{Filename: "a.txt", Length: 1 << 20, Reader: reader})
	},
}

func TestPanicInAGoroutineEndsTheProgram(t *testing.T) {
	if name := os.Getenv("CONFER_TEST_PANIC"); name != "" {
		panics[name](t, startEnclave(t, "none"))
		return
	}
	for name := range panics {
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), "CONFER_TEST_PANIC="+name)
		output, err := command.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(output), "panic: of the test") ||
			!strings.Contains(string(output), "hostile_test.go") {
			t.Errorf("%s: %v: %s", name, err, output)
		}
	}
}

func TestPanicInALoopCanBeRecovered(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	for what, use := range map[string]func(){
		"Chat": func() {
			for range client.Chat(t.Context(), withTools("/endless-tool clock {}", noon)) {
				panic("of the test")
			}
		},
		"Watch": func() {
			for range client.Watch(t.Context()) {
				panic("of the test")
			}
		},
		"Progress": func() {
			request := confer.ExtractionRequest{Filename: "a.txt", Reader: strings.NewReader("a"), Length: 1}
			request.Progress = func(int64, int64) { panic("of the test") }
			_, _ = client.Extract(t.Context(), request)
		},
	} {
		func() {
			defer func() {
				if recover() != "of the test" {
					t.Errorf("%s: no panic", what)
				}
			}()
			use()
		}()
	}
	if text, err := client.Collect(t.Context(), ask("still here")); err != nil || text != "You said: still here" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestCloseInsideOfFunctions(t *testing.T) {
	enclave := launch(t)
	config := enclave.config
	client := connect(t, config)
	for event, err := range client.Chat(t.Context(), ask("/slow 1 100000")) {
		if err == nil {
			closed(t, client)
		} else if event.Type != 0 || !errors.Is(err, confer.ErrClosed) {
			t.Errorf("a chat's loop: %v, %v", event, err)
		}
	}
	client = connect(t, config)
	for _, err := range client.Watch(t.Context()) {
		if closed(t, client); err != nil {
			t.Errorf("a watch's loop: %v", err)
		}
	}
	client = connect(t, config)
	closing := func(context.Context, string) (string, error) { closed(t, client); return "noon", nil }
	expect(t, "a tool", lastError(client.Chat(t.Context(), withTools("/client-tools 1 clock {}", closing))), confer.ErrClosed)
	client = connect(t, config)
	request := confer.ExtractionRequest{Filename: "a.txt", Bytes: make([]byte, 1<<20), Progress: func(int64, int64) { closed(t, client) }}
	_, err := client.Extract(t.Context(), request)
	expect(t, "Progress", err, confer.ErrClosed)
	client = connect(t, config)
	closer := readerFunc(func(buffer []byte) (int, error) { closed(t, client); return len(buffer), nil })
	_, err = client.Extract(t.Context(), confer.ExtractionRequest{Filename: "a.txt", Length: 1 << 20, Reader: closer})
	expect(t, "Reader", err, confer.ErrClosed)

	started := make(chan *confer.Client, 1)
	asking := config
	asking.Token = ""
	asking.TokenProvider = func(context.Context, confer.TokenReason) (string, error) {
		closed(t, <-started)
		return config.Token, nil
	}
	client = start(t, asking)
	started <- client
	expect(t, "TokenProvider", client.Wait(t.Context()), confer.ErrClosed)

	// The log's thread cannot wait for itself.
	logging := config
	var once sync.Once
	refused := make(chan error, 1)
	logging.Log = func(confer.LogLevel, string, string) {
		once.Do(func() { refused <- (<-started).Close() })
	}
	client = start(t, logging)
	started <- client
	expect(t, "Log", <-refused, confer.ErrWouldDeadlock)
}

func TestCloseRacesEverything(t *testing.T) {
	enclave := launch(t)
	config := enclave.retrying()
	config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { return enclave.config.Token, nil }
	config.Log = func(confer.LogLevel, string, string) {}
	for n := range 20 {
		client, err := confer.Start(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var users sync.WaitGroup
		use := func(what string, call func() error) {
			users.Add(1)
			go func() {
				defer users.Done()
				for range 100 {
					if err := call(); errors.Is(err, confer.ErrClosed) || errors.Is(err, context.Canceled) {
						return
					} else if err != nil && !errors.Is(err, confer.ErrNotConnected) && !errors.Is(err, confer.ErrTooMany) {
						t.Errorf("%s: %v", what, err)
						return
					}
				}
			}()
		}
		for what, call := range calls(client) {
			if what != "Watch" {
				use(what, func() error { return call(ctx) })
			}
		}
		for what, call := range others(client) {
			use(what, call)
		}
		use("Watch", func() error { lastError(client.Watch(ctx)); return ctx.Err() })
		use("State", func() error { client.State(); client.Counters(); return nil })
		use("GC", func() error { runtime.GC(); return client.Err() })
		if n%2 == 0 {
			if err := client.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		users.Add(2)
		go func() { defer users.Done(); client.Close() }()
		go func() { defer users.Done(); cancel() }()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		users.Wait()
		cancel()
	}
}

func TestSequencesCanBeUsedAgainAndAtOnce(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	chat := client.Chat(t.Context(), withTools("/client-tools 1 clock {}", noon))
	raw := client.Raw(t.Context(), pingRequest)
	watch := client.Watch(t.Context())
	var users sync.WaitGroup
	for range 8 {
		users.Add(1)
		go func() {
			defer users.Done()
			for range 3 {
				if text, err := textOf(chat); err != nil || text != "The tools answered: noon" {
					t.Errorf("got %q, %v", text, err)
				}
				if err := lastError(raw); err != nil {
					t.Error(err)
				}
				for event, err := range watch {
					if _, connected := event.(confer.Connected); err != nil || !connected {
						t.Errorf("got %v, %v", event, err)
					}
					break
				}
			}
		}()
	}
	users.Wait()
}

func TestManyGoroutinesShareAStreamAndAnAnswer(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	next, stop := iter.Pull2(client.Chat(t.Context(), ask("/tokens 1000 4")))
	defer stop()
	var mu sync.Mutex
	var users sync.WaitGroup
	tokens := 0
	for range 8 {
		users.Add(1)
		go func() {
			defer users.Done()
			for {
				mu.Lock()
				event, err, more := next()
				if err != nil {
					t.Error(err)
				}
				if event.Type == confer.EventToken {
					tokens++
				}
				mu.Unlock()
				if !more {
					return
				}
			}
		}()
	}
	users.Wait()
	if tokens != 1000 {
		t.Errorf("%d tokens", tokens)
	}

	request := withTools("/client-tools 1 clock {}", nil)
	request.ToolRounds = 1
	for event, err := range client.Chat(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		if !event.WantsAnswer() {
			continue
		}
		var taken atomic.Int32
		for range 8 {
			users.Add(1)
			go func() {
				defer users.Done()
				if err := event.AnswerTool("noon"); err == nil {
					taken.Add(1)
				} else if !errors.Is(err, confer.ErrStale) {
					t.Error(err)
				}
			}()
		}
		users.Wait()
		if taken.Load() != 1 {
			t.Errorf("%d answers were taken", taken.Load())
		}
	}
}

// useEverything uses a client in most ways.
func useEverything(t *testing.T, client *confer.Client) {
	t.Helper()
	conversation, err := confer.NewConversation()
	if err != nil {
		t.Fatal(err)
	}
	request := withTools("/tool-rounds 3 clock {}", noon)
	request.Conversation = conversation
	if text, err := client.Collect(t.Context(), request); err != nil || text != "The tools answered: noon | noon | noon" || conversation.Len() != 8 {
		t.Errorf("got %q, %v, %d messages", text, err, conversation.Len())
	}
	open := withTools("/client-tools 2 clock {}", nil)
	open.ToolRounds = 1
	for event, err := range client.Chat(t.Context(), open) {
		if err != nil {
			t.Error(err)
		} else if event.WantsAnswer() {
			if err := event.AnswerTool("noon"); err != nil {
				t.Error(err)
			}
		}
	}
	for what, call := range calls(client) {
		if what == "Watch" {
			continue
		}
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if report, err := client.Report(); err != nil || !report.Verified() {
		t.Error(err)
	}
}

func TestOneProcessorAndConstantGarbageCollection(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	config := startEnclave(t, "none")
	config.Log = func(confer.LogLevel, string, string) { runtime.GC() }
	var users sync.WaitGroup
	for range 8 {
		users.Add(1)
		go func() {
			defer users.Done()
			// The thread ends with its goroutine.
			runtime.LockOSThread()
			client, err := confer.Connect(t.Context(), config)
			if err != nil {
				t.Error(err)
				return
			}
			runtime.GC()
			useEverything(t, client)
			runtime.GC()
		}()
	}
	users.Wait()
	collectGarbage()
}

func TestChildrenInheritNoDescriptor(t *testing.T) {
	// descriptors counts those of a child.
	descriptors := func() (int, string) {
		listed, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
		if err != nil {
			t.Skip("no /proc")
		}
		return strings.Count(string(listed), " -> "), string(listed)
	}
	config := startEnclave(t, "none")
	config.JWKSCacheFile = filepath.Join(t.TempDir(), "keys.json")
	own, _ := descriptors()
	connect(t, config)
	stop := make(chan bool)
	var connecting sync.WaitGroup
	connecting.Add(1)
	go func() {
		defer connecting.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if client, err := confer.Connect(t.Context(), config); err != nil {
				t.Error(err)
			} else {
				client.Close()
			}
		}
	}()
	for range 50 {
		if count, listed := descriptors(); count != own {
			t.Errorf("a child has %s", listed)
			break
		}
	}
	close(stop)
	connecting.Wait()
}

// A reader that breaks its contract fails the upload.
func TestReadersThatBreakTheirContract(t *testing.T) {
	client := connect(t, startEnclave(t, "none"))
	for what, reader := range map[string]struct {
		read   func([]byte) (int, error)
		status confer.Status
		cause  error // nil: none
	}{
		"unexpected end": {func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }, confer.ErrCancelled, io.ErrUnexpectedEOF},
		"no bytes":       {func([]byte) (int, error) { return 0, io.EOF }, confer.ErrInvalidArgument, nil},
		"nothing":        {func([]byte) (int, error) { return 0, nil }, confer.ErrCancelled, io.ErrNoProgress},
		"endless":        {func(buffer []byte) (int, error) { return len(buffer), nil }, confer.ErrCancelled, confer.ErrInvalidArgument},
	} {
		request := confer.ExtractionRequest{Filename: "a.txt", Length: 1 << 20, Reader: readerFunc(reader.read)}
		_, err := client.Extract(t.Context(), request)
		if !errors.Is(err, reader.status) || reader.cause != nil && !errors.Is(err, reader.cause) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
