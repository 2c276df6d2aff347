package confer_test

// A local enclave for a test, a separate process that ends with its stdin.

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"libconfer/confer"
)

// startEnclave starts an enclave with a fault ("none" for no fault) and further options, and
// returns a configuration for it.
func startEnclave(t *testing.T, fault string, options ...string) confer.Config {
	t.Helper()
	program, state := os.Getenv("CONFER_ENCLAVE"), os.Getenv("CONFER_ENCLAVE_STATE")
	if program == "" || state == "" {
		t.Fatal("CONFER_ENCLAVE and CONFER_ENCLAVE_STATE are not set: run test.sh")
	}
	options = append([]string{"--exit-with-stdin", "--state", state, "--fault", fault}, options...)
	command := exec.Command(program, options...)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		command.Wait()
	})
	var started struct{ URL, Token, Policy string }
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &started)
	}
	if err != nil {
		t.Fatalf("the enclave did not start: %v", err)
	}
	policy, err := confer.LoadPolicy(started.Policy)
	if err != nil {
		t.Fatal(err)
	}
	return confer.Config{Endpoint: started.URL, Token: started.Token, Policy: policy}
}

func connect(t *testing.T, config confer.Config) *confer.Client {
	t.Helper()
	client, err := confer.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}
