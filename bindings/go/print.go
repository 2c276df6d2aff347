package confer

import "fmt"

// Printing a request or an event, with whatever verb, shows no prompt and no answer: printed values
// end in logs.

func (m Message) Format(to fmt.State, _ rune) { fmt.Fprintf(to, "confer.Message{Role: %s}", m.Role) }

func (r ChatRequest) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.ChatRequest{Model: %q, Messages: %d}", r.Model, len(r.Messages))
}

func (r EmbeddingsRequest) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.EmbeddingsRequest{Texts: %d}", len(r.Texts))
}

func (r FetchRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.FetchRequest") }

func (r RawRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.RawRequest") }

func (r ExtractionRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.ExtractionRequest") }

func (e Event) Format(to fmt.State, _ rune) { fmt.Fprintf(to, "confer.Event{Type: %s}", e.Type) }
