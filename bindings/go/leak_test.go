package confer_test

// Nothing is left of clients and streams, however they end. test.sh runs this test a second time
// with the address sanitizer, which reports memory of C that nothing refers to any more.

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"libconfer/confer"
)

// endings are ways in which a client and its streams end. Each connects once.
var endings = map[string]func(t *testing.T, config confer.Config){
	"closed": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		if _, err := client.Collect(t.Context(), ask("hello")); err != nil {
			t.Error(err)
		}
		closed(t, client)
	},
	"closed with a log and open streams": func(t *testing.T, config confer.Config) {
		config.Log = func(confer.LogLevel, string, string) {}
		client := connected(t, config)
		next, stop := iter.Pull2(client.Chat(t.Context(), ask("/slow 1 100000")))
		next()
		closed(t, client)
		stop()
	},
	"closed while watches are open": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		whileOpen(t, client.Watch(t.Context()), func() { closed(t, client) })
	},
	"closed while a tool runs": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		running := make(chan bool, 1)
		run := func(ctx context.Context, _ string) (string, error) {
			running <- true
			<-ctx.Done()
			return "", ctx.Err()
		}
		go func() { <-running; closed(t, client) }()
		if err := lastError(client.Chat(t.Context(), withTools("/client-tools 1 clock {}", run))); !errors.Is(err, confer.ErrClosed) {
			t.Error(err)
		}
		closed(t, client)
	},
	"dropped": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		if _, err := client.Report(); err != nil {
			t.Error(err)
		}
	},
	"dropped while it connects": func(t *testing.T, config confer.Config) {
		if _, err := confer.Start(config); err != nil {
			t.Error(err)
		}
	},
	"dropped with its functions": func(t *testing.T, config confer.Config) {
		token := config.Token
		config.Token = ""
		config.TokenProvider = func(context.Context, confer.TokenReason) (string, error) { return token, nil }
		config.AcceptRelease = func(context.Context, *confer.Report, *confer.Report) bool { return false }
		config.Log = func(confer.LogLevel, string, string) {}
		connected(t, config)
	},
	"dropped while a watch is open": func(t *testing.T, config confer.Config) {
		ctx, cancel := context.WithCancel(t.Context())
		whileOpen(t, connected(t, config).Watch(ctx), cancel)
	},
	"dropped with an unanswered question": func(t *testing.T, config confer.Config) {
		config.Token, config.Ask = "", confer.AskToken
		client, err := confer.Start(config)
		if err != nil {
			t.Fatal(err)
		}
		for event := range client.Watch(t.Context()) {
			if _, asked := event.(*confer.TokenQuestion); asked {
				break
			}
		}
	},
	"cancelled before it connects": func(t *testing.T, config confer.Config) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := confer.Connect(ctx, config); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	},
	"cancelled while it connects": func(t *testing.T, config confer.Config) {
		ctx, cancel := context.WithCancel(t.Context())
		config.Token = ""
		config.TokenProvider = func(asked context.Context, _ confer.TokenReason) (string, error) {
			cancel()
			<-asked.Done()
			return "", asked.Err()
		}
		if _, err := confer.Connect(ctx, config); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	},
	"cancelled after it connected": func(t *testing.T, config confer.Config) {
		ctx, cancel := context.WithCancel(t.Context())
		client, err := confer.Connect(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		whileOpen(t, client.Chat(ctx, ask("/slow 1 100000")), cancel)
		for what, call := range calls(client) {
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
		}
	},
	"cancelled by its tool": func(t *testing.T, config confer.Config) {
		ctx, cancel := context.WithCancel(t.Context())
		run := func(context.Context, string) (string, error) { cancel(); return "noon", nil }
		client := connected(t, config)
		if err := lastError(client.Chat(ctx, withTools("/endless-tool clock {}", run))); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	},
	"a loop left early": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		for range client.Chat(t.Context(), ask("/slow 1 100000")) {
			break
		}
		for range client.Chat(t.Context(), withTools("/endless-tool clock {}", noon)) {
			break
		}
		closed(t, client)
	},
	"a loop ended by Goexit": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		over := make(chan bool)
		go func() {
			defer close(over)
			for range client.Chat(t.Context(), withTools("/client-tools 1 clock {}", noon)) {
				runtime.Goexit()
			}
		}()
		<-over
	},
	"a loop ended by a panic": func(t *testing.T, config confer.Config) {
		client := connected(t, config)
		defer func() { _ = recover() }()
		for range client.Chat(t.Context(), ask("/slow 1 100000")) {
			panic("of the test")
		}
	},
	"a call that is never answered": func(t *testing.T, config confer.Config) {
		request := withTools("/client-tools 2 clock {}", nil)
		request.ToolRounds = 1
		for event := range connected(t, config).Chat(t.Context(), request) {
			if event.WantsAnswer() {
				break
			}
		}
	},
	"a chat that fails": func(t *testing.T, config confer.Config) {
		conversation, err := confer.NewConversation()
		if err != nil {
			t.Fatal(err)
		}
		request := ask("/status-midstream 500")
		request.Conversation = conversation
		if _, err := connected(t, config).Collect(t.Context(), request); err == nil {
			t.Error("the chat did not fail")
		}
	},
	"an upload whose reader fails": func(t *testing.T, config confer.Config) {
		source, sink := io.Pipe()
		go func() {
			sink.Write([]byte("the beginning"))
			sink.CloseWithError(errors.New("the disk is gone"))
		}()
		_, err := connected(t, config).Extract(t.Context(), confer.ExtractionRequest{Filename: "a.txt", Reader: source, Length: 1 << 20})
		if !errors.Is(err, confer.ErrCancelled) {
			t.Error(err)
		}
	},
	"a configuration that is refused": func(t *testing.T, config confer.Config) {
		config.Log, config.LogLevel = func(confer.LogLevel, string, string) {}, 99
		if _, err := confer.Start(config); !errors.Is(err, confer.ErrInvalidArgument) {
			t.Error(err)
		}
		closed(t, connected(t, confer.Config{Endpoint: config.Endpoint, Token: config.Token, Policy: config.Policy}))
	},
	"a policy of its own": func(t *testing.T, config confer.Config) {
		policy, err := confer.ParsePolicy(config.Policy.JSON())
		if err != nil {
			t.Fatal(err)
		}
		config.Policy = policy
		report, err := connected(t, config).Report()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := confer.VerifyEvidence(report.Evidence, nil, time.Time{}); !errors.Is(err, confer.ErrRejected) {
			t.Error(err)
		}
	},
}

// connected returns a client that the test does not close.
func connected(t *testing.T, config confer.Config) *confer.Client {
	t.Helper()
	client, err := confer.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func closed(t *testing.T, client *confer.Client) {
	t.Helper()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// whileOpen reads a sequence in two goroutines, calls end when both have an item, and waits for
// them.
func whileOpen[E any](t *testing.T, events iter.Seq2[E, error], end func()) {
	t.Helper()
	var readers sync.WaitGroup
	begun := make(chan bool)
	for range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			items := 0
			for range events {
				if items++; items == 1 {
					begun <- true
				}
			}
		}()
	}
	<-begun
	<-begun
	end()
	readers.Wait()
}

// left lists what a test can leave: goroutines, threads and descriptors.
type left struct{ goroutines, threads, descriptors int }

func present(t *testing.T) left {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return left{runtime.NumGoroutine(), libraryThreads(t), len(open)}
}

func TestNothingIsLeftHoweverClientsEnd(t *testing.T) {
	config := startEnclave(t, "none")
	refusing := startEnclave(t, "binding-other-key")
	closed(t, connected(t, config)) // what the process opens once
	collectGarbage()
	if over, err := confer.WaitForThreads(-1); !over || err != nil {
		t.Fatal(err)
	}
	before := present(t)
	for clients := 0; clients < 200; clients += len(endings) + 1 {
		for what, end := range endings {
			if end(t, config); t.Failed() {
				t.Fatal(what)
			}
		}
		if _, err := confer.Connect(t.Context(), refusing); !errors.Is(err, confer.ErrRejected) {
			t.Fatal(err)
		}
	}
	// The limit of `go test` shows the goroutines that remain.
	for now := before; ; {
		collectGarbage()
		if now = present(t); now.goroutines <= before.goroutines && now.threads == 0 && now.descriptors <= before.descriptors {
			break
		}
	}
	if over, err := confer.WaitForThreads(-1); !over || err != nil {
		t.Error(err)
	}
}
