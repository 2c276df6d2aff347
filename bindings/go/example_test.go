package confer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"

	"libconfer/confer"
)

// local returns a configuration for an enclave on this machine. For Confer's service,
// confer.Config{Token: token} is enough.
var local = sync.OnceValue(func() confer.Config { return enclaveFor("none") })

// enclavesOfExamples run until the program ends. As garbage, their pipes would be closed, which ends
// them.
var enclavesOfExamples []*enclave

func enclaveFor(fault string) confer.Config {
	launched, err := newEnclave("--fault", fault)
	if err != nil {
		log.Fatal(err)
	}
	enclavesOfExamples = append(enclavesOfExamples, launched)
	return launched.config
}

func Example() {
	ctx := context.Background()
	client, err := confer.Connect(ctx, local())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	report, err := client.Report()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Platform, report.Verdict)
	request := confer.ChatRequest{Messages: []confer.Message{{Content: "Hello!"}}}
	for event, err := range client.Chat(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		if event.Type == confer.EventToken {
			fmt.Print(event.Content)
		}
	}
	// Output:
	// TDX verified
	// You said: Hello!
}

// A refused enclave receives no request. The error has the check that decided, and the report.
func ExampleError() {
	config := enclaveFor("binding-other-key") // an enclave whose evidence names another key
	_, err := confer.Connect(context.Background(), config)
	var failure *confer.Error
	switch {
	case errors.Is(err, confer.ErrRejected) && errors.As(err, &failure):
		fmt.Println("refused by", failure.CheckID)
		for _, check := range failure.Report.Checks {
			if check.Outcome == confer.OutcomeFail {
				fmt.Println(check.ID, "failed")
			}
		}
	case errors.Is(err, confer.ErrUnauthorized):
		fmt.Println("sign in again")
	case errors.As(err, &failure) && failure.Retryable:
		fmt.Println("try again later")
	}
	// Output:
	// refused by tdx.key_binding
	// tdx.key_binding failed
}

// The model calls a function of this program, and answers with its result.
func ExampleTool() {
	ctx := context.Background()
	client, err := confer.Connect(ctx, local())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	clock := confer.Tool{
		Name:        "clock",
		Description: "The time in a zone",
		Parameters:  json.RawMessage(`{"type":"object","properties":{"zone":{"type":"string"}}}`),
		Run: func(ctx context.Context, arguments string) (string, error) {
			var call struct{ Zone string }
			if err := json.Unmarshal([]byte(arguments), &call); err != nil {
				return "", err // the model reads the error
			}
			return "noon in " + call.Zone, nil
		},
	}
	text, err := client.Collect(ctx, confer.ChatRequest{
		// The local enclave's way to call a tool once.
		Messages: []confer.Message{{Content: `/client-tools 1 clock {"zone":"Lima"}`}},
		Tools:    []confer.Tool{clock},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output: The tools answered: noon in Lima
}

// A conversation sends its messages with each request, and grows with each complete answer.
func ExampleConversation() {
	ctx := context.Background()
	client, err := confer.Connect(ctx, local())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	conversation, err := confer.NewConversation()
	if err != nil {
		log.Fatal(err)
	}
	for _, prompt := range []string{"Hello!", "And again."} {
		text, err := client.Collect(ctx, confer.ChatRequest{
			Messages:     []confer.Message{{Content: prompt}},
			Conversation: conversation,
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(text)
	}
	fmt.Println(conversation.Len(), "messages")
	// Output:
	// You said: Hello!
	// You said: And again.
	// 4 messages
}

// A watch shows the client's events, and can answer its questions.
func ExampleClient_Watch() {
	config := local()
	token := config.Token
	config.Token, config.Ask = "", confer.AskToken
	client, err := confer.Start(config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for event, err := range client.Watch(context.Background()) {
		if err != nil {
			log.Fatal(err) // the error with which the client ended
		}
		switch event := event.(type) {
		case *confer.TokenQuestion:
			fmt.Println(event.Reason)
			if err := event.Answer(token); err != nil {
				log.Fatal(err)
			}
		case confer.Connected:
			fmt.Println("connected:", event.Report.Verdict)
			return // ends the watch
		}
	}
	// Output:
	// CONFER_TOKEN_FIRST
	// connected: verified
}

// A document can come from any io.Reader.
func ExampleClient_Extract() {
	ctx := context.Background()
	client, err := confer.Connect(ctx, local())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	document := strings.NewReader("a line of text\n")
	answer, err := client.Extract(ctx, confer.ExtractionRequest{
		Filename: "notes.txt",
		Reader:   document,
		Length:   document.Size(),
		Options:  map[string]any{"content_type": "text/plain"},
	})
	if err != nil {
		log.Fatal(err)
	}
	var extracted struct {
		Document struct {
			Text string `json:"md_content"`
		}
	}
	if err := json.Unmarshal(answer, &extracted); err != nil {
		log.Fatal(err)
	}
	fmt.Print(extracted.Document.Text)
	// Output: a line of text
}
