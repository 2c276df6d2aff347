package confer

// This file holds chats: what is asked, and the events of an answer.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"runtime"
)

// Role says who speaks.
type Role int32

const (
	RoleUser      Role = C.CONFER_ROLE_USER
	RoleAssistant Role = C.CONFER_ROLE_ASSISTANT
	RoleSystem    Role = C.CONFER_ROLE_SYSTEM
	RoleDeveloper Role = C.CONFER_ROLE_DEVELOPER
	// RoleToolCall has a JSON text with toolCallId, toolName and toolArguments as its content.
	RoleToolCall Role = C.CONFER_ROLE_TOOL_CALL
	// RoleToolResponse has a JSON text with toolCallId, toolName and content as its content.
	RoleToolResponse Role = C.CONFER_ROLE_TOOL_RESPONSE
)

// Message is one message of a conversation.
type Message struct {
	Role    Role
	Content string
	// JSON, if it is not empty, is sent in the place of role and content: a message with imageRefs, for instance.
	JSON json.RawMessage
}

// Request is a chat request. What is left zero, or nil, has the default, which is the server's where nothing is said; Ptr
// makes pointers. Bounds are those of newer servers, and what lies outside is ErrInvalidArgument.
type Request struct {
	Messages []Message
	// Model is the service's default if it is empty.
	Model string
	// WebSearch allows the enclave to send search queries, which it makes from the conversation, to a search service
	// outside.
	WebSearch bool
	// Whole asks for the answer in one piece, an EventBody, in the place of events. Tools are not run for it, and no
	// conversation is continued.
	Whole bool

	Temperature       *float64 // how freely the model chooses: 0 or more
	TopP              *float64 // the share of probability from which tokens are chosen: above 0, up to 1
	MinP              *float64 // the least probability of a token, as a share of that of the likeliest: 0 to 1
	TopK              *int32   // from how many of the likeliest tokens is chosen: 1 or more, or -1 for all
	PresencePenalty   *float64 // what a token loses that occurred already: -2 to 2
	FrequencyPenalty  *float64 // what a token loses for each time that it occurred already: -2 to 2
	RepetitionPenalty *float64 // by what the weight of a token is divided that occurred already: above 0
	MaxTokens         *int64   // the most tokens that the answer may have: 1 or more
	JSON              *bool    // whether the answer is to be JSON
	Thinking          *bool    // whether the model reasons before it answers, in EventThinking

	// Documents are stored ones that the chat is about.
	Documents []StoredDocument
	// Tools are those that the model may call: as EventClientToolCall of Chat, or run by ChatWithTools.
	Tools []Tool
	// MaxRounds is how many answers' tools ChatWithTools runs before it fails with ErrToolRounds. Default: 16.
	MaxRounds int
	// Conversation is continued: its messages go in front, and a complete answer adds the request's messages, and what
	// the model said and did. An answer that fails, or is given up, adds nothing.
	Conversation *Conversation

	// Properties are further properties of the request: any JSON values, such as those that later servers know.
	Properties map[string]any
}

// Ptr returns a pointer to a value, for those fields of a Request that can be left out.
func Ptr[T any](value T) *T { return &value }

// StoredDocument names a document that the service keeps. Servers need all of it.
type StoredDocument struct {
	AttachmentID          string
	Filename, ContentType string
	SourceBytes           int64
	SourceObjectKey       string
	// EncryptionKey is for the enclave alone. Printing a StoredDocument does not show it.
	EncryptionKey string `json:"-"`
}

// Format leaves the key out, whatever the verb.
func (d StoredDocument) Format(to fmt.State, _ rune) {
	fmt.Fprintf(to, "confer.StoredDocument{AttachmentID: %q}", d.AttachmentID)
}

// EventType says what an Event is. New ones can appear in later versions.
type EventType int32

const (
	EventOther          EventType = C.CONFER_EVENT_OTHER            // a type that is not known: see JSON
	EventToken          EventType = C.CONFER_EVENT_TOKEN            // text to append to the answer: Content
	EventThinking       EventType = C.CONFER_EVENT_THINKING         // reasoning text: Content
	EventToolCall       EventType = C.CONFER_EVENT_TOOL_CALL        // the server runs one of its own tools
	EventToolResponse   EventType = C.CONFER_EVENT_TOOL_RESPONSE    // that tool's result: Content, FullContent
	EventClientToolCall EventType = C.CONFER_EVENT_CLIENT_TOOL_CALL // the application must run this tool
	EventCompletion     EventType = C.CONFER_EVENT_COMPLETION       // the end of the answer
	EventBody           EventType = C.CONFER_EVENT_BODY             // a piece of an answer that has no events: Content, Transferred, Total
	EventProgress       EventType = C.CONFER_EVENT_PROGRESS         // more of an upload was sent: Transferred, Total
	EventEmbeddings     EventType = C.CONFER_EVENT_EMBEDDINGS       // see Client.Embed
	EventPong           EventType = C.CONFER_EVENT_PONG             // see Client.Ping
)

// Event is one event of an answer. Fields that do not belong to its type are zero.
type Event struct {
	Type EventType
	// JSON is the event as it came; empty for EventBody and those after it, which come otherwise.
	JSON string

	// Content of an EventBody holds bytes, which need not be text and can end within a character.
	Content, FullContent                string
	ToolCallID, ToolName, ToolArguments string

	// PendingToolCalls tells whether the application has tools to run and to send a new request with their results.
	PendingToolCalls bool
	// ContextTokens of at most MaxContextTokens are in use; -1 if the server does not say.
	ContextTokens, MaxContextTokens int64

	// Transferred is how many bytes of the answer have come, or of the document were given to the network, of Total; -1
	// if that is not known, and for other events.
	Transferred, Total int64
}

// Chat sends a request and yields the events of its answer. It fails at most once, with an error as the last thing that
// it yields. When ctx ends, so does the stream; leaving the loop gives the rest of the answer up. Each use of the
// sequence sends the request anew.
//
// While it waits, a stream occupies one thread.
func (c *Client) Chat(ctx context.Context, request Request) iter.Seq2[Event, error] {
	return c.events(ctx, request.native)
}

// native makes the request's handle.
func (r Request) native() (sendable, error) {
	properties, err := documentsOf(r.Properties, "property")
	if err != nil {
		return nil, err
	}
	var native *C.confer_chat_request
	var a attempt
	a.call(func(e **C.confer_error) C.confer_status { return C.confer_chat_request_new(&native, e) })
	for _, message := range r.Messages {
		a.call(func(e **C.confer_error) C.confer_status {
			if len(message.JSON) > 0 {
				text, length := bytesOf(string(message.JSON))
				return C.confer_chat_request_add_message_json(native, text, length, e)
			}
			text, length := bytesOf(message.Content)
			return C.confer_chat_request_add_message(native, C.int32_t(message.Role), text, length, e)
		})
	}
	if r.Model != "" {
		a.call(func(e **C.confer_error) C.confer_status {
			text, length := bytesOf(r.Model)
			return C.confer_chat_request_set_model(native, text, length, e)
		})
	}
	a.call(func(e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_web_search(native, C.bool(r.WebSearch), e)
	})
	a.call(func(e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_stream(native, C.bool(!r.Whole), e)
	})
	optional(&a, r.Temperature, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_temperature(native, C.double(value), e)
	})
	optional(&a, r.TopP, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_top_p(native, C.double(value), e)
	})
	optional(&a, r.MinP, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_min_p(native, C.double(value), e)
	})
	optional(&a, r.TopK, func(value int32, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_top_k(native, C.int32_t(value), e)
	})
	optional(&a, r.PresencePenalty, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_presence_penalty(native, C.double(value), e)
	})
	optional(&a, r.FrequencyPenalty, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_frequency_penalty(native, C.double(value), e)
	})
	optional(&a, r.RepetitionPenalty, func(value float64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_repetition_penalty(native, C.double(value), e)
	})
	optional(&a, r.MaxTokens, func(value int64, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_max_tokens(native, C.int64_t(value), e)
	})
	optional(&a, r.JSON, func(value bool, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_json(native, C.bool(value), e)
	})
	optional(&a, r.Thinking, func(value bool, e **C.confer_error) C.confer_status {
		return C.confer_chat_request_set_thinking(native, C.bool(value), e)
	})
	for _, document := range r.Documents {
		a.call(func(e **C.confer_error) C.confer_status {
			id, idLength := bytesOf(document.AttachmentID)
			name, nameLength := bytesOf(document.Filename)
			kind, kindLength := bytesOf(document.ContentType)
			source, sourceLength := bytesOf(document.SourceObjectKey)
			key, keyLength := bytesOf(document.EncryptionKey)
			return C.confer_chat_request_add_document(native, id, idLength, name, nameLength, kind, kindLength,
				C.int64_t(document.SourceBytes), source, sourceLength, key, keyLength, e)
		})
	}
	for _, tool := range r.Tools {
		a.call(func(e **C.confer_error) C.confer_status {
			name, nameLength := bytesOf(tool.Name)
			description, descriptionLength := bytesOf(tool.Description)
			parameters, parametersLength := bytesOf(tool.parameters())
			return C.confer_chat_request_add_tool(native, name, nameLength, description, descriptionLength, parameters,
				parametersLength, nil, nil, nil, e)
		})
	}
	if r.Conversation != nil {
		history := r.Conversation.now()
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_chat_request_set_conversation(native, history.handle, e)
		})
		runtime.KeepAlive(history)
	}
	for name, document := range properties {
		a.call(func(e **C.confer_error) C.confer_status {
			key, keyLength := bytesOf(name)
			text, length := bytesOf(document)
			return C.confer_chat_request_set_property(native, key, keyLength, text, length, e)
		})
	}
	if err := a.err(); err != nil {
		C.confer_chat_request_free(native)
		return nil, err
	}
	return chatHandle{native}, nil
}

type chatHandle struct{ handle *C.confer_chat_request }

func (h chatHandle) send(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
	return C.confer_chat_pull(client, h.handle, stream, e)
}

func (h chatHandle) free() { C.confer_chat_request_free(h.handle) }

// optional sets what is not left out.
func optional[T any](a *attempt, value *T, set func(T, **C.confer_error) C.confer_status) {
	if value != nil {
		a.call(func(e **C.confer_error) C.confer_status { return set(*value, e) })
	}
}

// documentsOf gives the JSON of each value; `what` they are is for the error, which does not repeat them.
func documentsOf(values map[string]any, what string) (map[string]string, error) {
	documents := make(map[string]string, len(values))
	for name, value := range values {
		document, err := json.Marshal(value)
		if err != nil {
			return nil, madeHere(ErrInvalidJSON, "the "+what+" "+name+" has no JSON form")
		}
		documents[name] = string(document)
	}
	return documents, nil
}

// readEvent copies an event, which is lent until the next one is taken.
func readEvent(event *C.confer_event) Event {
	read := Event{
		Type:             EventType(C.confer_event_type(event)),
		JSON:             textOf(func(n *C.size_t) *C.char { return C.confer_event_json(event, n) }),
		ContextTokens:    -1,
		MaxContextTokens: -1,
		Transferred:      -1,
		Total:            -1,
	}
	switch read.Type {
	case EventToken, EventThinking:
		read.Content = textOf(func(n *C.size_t) *C.char { return C.confer_event_content(event, n) })
	case EventToolCall, EventToolResponse, EventClientToolCall:
		read.Content = textOf(func(n *C.size_t) *C.char { return C.confer_event_content(event, n) })
		read.FullContent = textOf(func(n *C.size_t) *C.char { return C.confer_event_full_content(event, n) })
		read.ToolCallID = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_call_id(event, n) })
		read.ToolName = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_name(event, n) })
		read.ToolArguments = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_arguments(event, n) })
	case EventCompletion:
		read.PendingToolCalls = bool(C.confer_event_pending_tool_calls(event))
		read.ContextTokens = int64(C.confer_event_context_tokens(event))
		read.MaxContextTokens = int64(C.confer_event_max_context_tokens(event))
	case EventBody:
		var total C.int64_t
		read.Content = textOf(func(n *C.size_t) *C.char { return C.confer_event_content(event, n) })
		read.Transferred = int64(C.confer_event_received(event, &total))
		read.Total = int64(total)
	case EventProgress:
		var total C.int64_t
		read.Transferred = int64(C.confer_event_sent(event, &total))
		read.Total = int64(total)
	}
	return read
}
