package confer_test

// A local enclave for a test, a separate process that ends with its stdin.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"libconfer/confer"
)

// enclave is a running enclave, and a configuration for it.
type enclave struct {
	config  confer.Config
	command *exec.Cmd
	end     func() // waits for its end
}

// startEnclave starts an enclave with a fault ("none" for no fault) and further options, and
// returns a configuration for it.
func startEnclave(t *testing.T, fault string, options ...string) confer.Config {
	t.Helper()
	return launch(t, append([]string{"--fault", fault}, options...)...).config
}

func launch(t *testing.T, options ...string) *enclave {
	t.Helper()
	launched, err := newEnclave(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(launched.end)
	return launched
}

func newEnclave(options ...string) (*enclave, error) {
	program, state := os.Getenv("CONFER_ENCLAVE"), os.Getenv("CONFER_ENCLAVE_STATE")
	if program == "" || state == "" {
		return nil, errors.New("CONFER_ENCLAVE and CONFER_ENCLAVE_STATE are not set: run test.sh")
	}
	command := exec.Command(program, append([]string{"--exit-with-stdin", "--state", state}, options...)...)
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	end := func() {
		stdin.Close()
		command.Wait()
	}
	var started struct{ URL, Token, Policy string }
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &started)
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("the enclave did not start: %w", err)
	}
	policy, err := confer.LoadPolicy(started.Policy)
	if err != nil {
		end()
		return nil, err
	}
	return &enclave{confer.Config{Endpoint: started.URL, Token: started.Token, Policy: policy}, command, end}, nil
}

// kill ends the enclave as in a crash.
func (e *enclave) kill(t *testing.T) {
	t.Helper()
	if err := e.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	e.end()
}

// again starts another enclave on the port of a killed one, with the same token and keys.
func (e *enclave) again(t *testing.T, options ...string) *enclave {
	t.Helper()
	address, err := url.Parse(e.config.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, append([]string{"--port", address.Port(), "--token", e.config.Token}, options...)...)
}

// retrying returns the configuration with retries that hardly pause.
func (e *enclave) retrying() confer.Config {
	config := e.config
	config.Limits = map[confer.LimitKey]uint64{confer.LimitAttempts: 1_000_000}
	config.Durations = map[confer.DurationKey]time.Duration{
		confer.DurationFirstRetry: time.Millisecond, confer.DurationLongestRetry: 20 * time.Millisecond,
	}
	return config
}

func connect(t *testing.T, config confer.Config) *confer.Client {
	t.Helper()
	return closing(t)(confer.Connect(t.Context(), config))
}

// start returns a client that begins to connect.
func start(t *testing.T, config confer.Config) *confer.Client {
	t.Helper()
	return closing(t)(confer.Start(config))
}

func closing(t *testing.T) func(*confer.Client, error) *confer.Client {
	return func(client *confer.Client, err error) *confer.Client {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closed(t, client) })
		return client
	}
}
