// Chat asks Confer one question: chat [-url URL] [-policy FILE] PROMPT, with the token in
// CONFER_TOKEN. It writes the verification to stderr and the answer to stdout. Exit status: 0
// answered, 2 usage, 3 enclave refused, 1 anything else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"libconfer/confer"
)

func main() {
	url := flag.String("url", "", "the WebSocket's URL; default: Confer's own service")
	policy := flag.String("policy", "", "a policy file; default: the production policy")
	flag.Parse()
	// Go's options end at the first other word. One after it would become a part of the prompt.
	misplaced := slices.ContainsFunc(flag.Args(), func(word string) bool {
		name, isOption := strings.CutPrefix(strings.Replace(word, "--", "-", 1), "-")
		return isOption && flag.Lookup(strings.SplitN(name, "=", 2)[0]) != nil
	})
	if flag.NArg() == 0 || misplaced {
		fmt.Fprintln(os.Stderr, "usage: chat [-url URL] [-policy FILE] PROMPT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := chat(ctx, *url, *policy, strings.Join(flag.Args(), " ")); err != nil {
		var failure *confer.Error
		if errors.As(err, &failure) && failure.Report != nil {
			checklist(failure.Report)
		}
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, confer.ErrRejected) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func chat(ctx context.Context, url, policyFile, prompt string) error {
	config := confer.Config{Endpoint: url, Token: os.Getenv("CONFER_TOKEN")}
	if policyFile != "" {
		policy, err := confer.LoadPolicy(policyFile)
		if err != nil {
			return err
		}
		config.Policy = policy
	}
	client, err := confer.Connect(ctx, config)
	if err != nil {
		return err
	}
	defer client.Close()
	report, err := client.Report()
	if err != nil {
		return err
	}
	checklist(report)
	request := confer.ChatRequest{Messages: []confer.Message{{Content: prompt}}}
	for event, err := range client.Chat(ctx, request) {
		if err != nil {
			return err
		}
		if event.Type == confer.EventToken {
			fmt.Print(event.Content)
		}
	}
	fmt.Println()
	return nil
}

func checklist(report *confer.Report) {
	marks := map[confer.Outcome]string{"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}
	for _, check := range report.Checks {
		fmt.Fprintf(os.Stderr, "%s %-20s %s\n", marks[check.Outcome], check.ID, check.Detail)
	}
}
