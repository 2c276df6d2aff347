package confer

import "fmt"

// Printing a request or an event, with whatever verb, shows no prompt and no answer: printed values
// end in logs.

// Format writes the role, and not the content, whatever the verb.
func (m Message) Format(to fmt.State, _ rune) { fmt.Fprintf(to, "confer.Message{Role: %s}", m.Role) }

// Format writes the model and the number of messages, and no content, whatever the verb.
func (r ChatRequest) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.ChatRequest{Model: %q, Messages: %d}", r.Model, len(r.Messages))
}

// Format writes the number of texts, and no text, whatever the verb.
func (r EmbeddingsRequest) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.EmbeddingsRequest{Texts: %d}", len(r.Texts))
}

// Format omits the content, whatever the verb.
func (r FetchRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.FetchRequest") }

// Format omits the content, whatever the verb.
func (r RawRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.RawRequest") }

// Format omits the content, whatever the verb.
func (r ExtractionRequest) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.ExtractionRequest") }

// Format writes the type, and no content, whatever the verb.
func (e Event) Format(to fmt.State, _ rune) { fmt.Fprintf(to, "confer.Event{Type: %s}", e.Type) }
