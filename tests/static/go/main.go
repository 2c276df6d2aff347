// Beside is a Go program with libconfer.a and another static library: both work.
package main

// int neighbour(void);
import "C"

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"

	"libconfer/confer"
)

func main() {
	enclave := exec.Command(os.Getenv("CONFER_ENCLAVE"), "--exit-with-stdin", "--state", os.Getenv("CONFER_ENCLAVE_STATE"))
	enclave.Stderr = os.Stderr
	stdin, err := enclave.StdinPipe()
	check(err)
	stdout, err := enclave.StdoutPipe()
	check(err)
	check(enclave.Start())
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	check(err)
	var started struct{ URL, Token, Policy string }
	check(json.Unmarshal(line, &started))
	policy, err := confer.LoadPolicy(started.Policy)
	check(err)

	ctx := context.Background()
	client, err := confer.Connect(ctx, confer.Config{Endpoint: started.URL, Token: started.Token, Policy: policy})
	check(err)
	chat := func() {
		request := confer.ChatRequest{Messages: []confer.Message{{Content: "beside"}}}
		answer, err := client.Collect(ctx, request)
		check(err)
		if answer != "You said: beside" {
			log.Fatal("the answer is ", answer)
		}
	}
	chat()
	if C.neighbour() != 0 {
		log.Fatal("the other library fails")
	}
	chat()
	client.Close()
	stdin.Close()
	check(enclave.Wait())
	fmt.Println("both work")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
