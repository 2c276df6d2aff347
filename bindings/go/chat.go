package confer

// This file holds chats: requests, events, and the loop between them.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"iter"
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

// Request is a chat request.
type Request struct {
	Messages []Message
	// Model is the service's default if it is empty.
	Model string
	// WebSearch allows the enclave to send search queries, which it makes from the conversation, to a search service
	// outside.
	WebSearch bool
	// Properties are further properties of the request, such as "temperature" or "clientTools": any JSON values.
	Properties map[string]any
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
	EventBody           EventType = C.CONFER_EVENT_BODY             // never of a chat: a piece of another answer
	EventProgress       EventType = C.CONFER_EVENT_PROGRESS         // never of a chat: more of an upload was sent
	EventEmbeddings     EventType = C.CONFER_EVENT_EMBEDDINGS       // never of a chat
	EventPong           EventType = C.CONFER_EVENT_PONG             // never of a chat
)

// Event is one event of a streamed answer. Fields that do not belong to its type are zero.
type Event struct {
	Type EventType
	// JSON is the event as it came.
	JSON string

	Content, FullContent                string
	ToolCallID, ToolName, ToolArguments string

	// PendingToolCalls tells whether the application has tools to run and to send a new request with their results.
	PendingToolCalls bool
	// ContextTokens of at most MaxContextTokens are in use; -1 if the server does not say.
	ContextTokens, MaxContextTokens int64
}

// Chat sends a request and yields the events of its answer. It fails at most once, with an error as the last thing that
// it yields. When ctx ends, so does the stream; leaving the loop gives the rest of the answer up. Each use of the
// sequence sends the request anew.
//
// While it waits, a stream occupies one thread.
func (c *Client) Chat(ctx context.Context, request Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		stream, err := c.start(ctx, request)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer C.confer_stream_free(stream)
		defer whenDone(ctx, func() { C.confer_stream_cancel(stream) })()
		for {
			var event *C.confer_event
			var failure *C.confer_error
			switch status := C.confer_stream_next(stream, -1, &event, &failure); status {
			case C.CONFER_OK:
				if !yield(readEvent(event), nil) {
					return
				}
			case C.CONFER_TIMEOUT:
				// Not to be expected of a wait without limit; waiting again is right all the same.
			case C.CONFER_END:
				return
			default:
				yield(Event{}, takeError(status, failure).because(ctx))
				return
			}
		}
	}
}

func (c *Client) start(ctx context.Context, request Request) (*C.confer_stream, error) {
	if ctx.Err() != nil {
		return nil, madeHere(ErrCancelled, ErrCancelled.Error()).because(ctx)
	}
	native, err := request.native()
	if err != nil {
		return nil, err
	}
	defer C.confer_chat_request_free(native)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return nil, madeHere(ErrClosed, ErrClosed.Error())
	}
	var stream *C.confer_stream
	var failure *C.confer_error
	if status := C.confer_chat_pull(c.handle, native, &stream, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure).because(ctx)
	}
	return stream, nil
}

func (r Request) native() (*C.confer_chat_request, error) {
	properties := make(map[string]string, len(r.Properties))
	for name, value := range r.Properties {
		document, err := json.Marshal(value)
		if err != nil {
			// Its text could repeat the value.
			return nil, madeHere(ErrInvalidJSON, "the property "+name+" has no JSON form")
		}
		properties[name] = string(document)
	}

	var native *C.confer_chat_request
	var failure *C.confer_error
	status := C.confer_chat_request_new(&native, &failure)
	for _, message := range r.Messages {
		if status != C.CONFER_OK {
			break
		}
		if len(message.JSON) > 0 {
			text, length := bytesOf(string(message.JSON))
			status = C.confer_chat_request_add_message_json(native, text, length, &failure)
		} else {
			text, length := bytesOf(message.Content)
			status = C.confer_chat_request_add_message(native, C.int32_t(message.Role), text, length, &failure)
		}
	}
	if status == C.CONFER_OK && r.Model != "" {
		text, length := bytesOf(r.Model)
		status = C.confer_chat_request_set_model(native, text, length, &failure)
	}
	if status == C.CONFER_OK {
		status = C.confer_chat_request_set_web_search(native, C.bool(r.WebSearch), &failure)
	}
	for name, document := range properties {
		if status != C.CONFER_OK {
			break
		}
		key, keyLength := bytesOf(name)
		text, length := bytesOf(document)
		status = C.confer_chat_request_set_property(native, key, keyLength, text, length, &failure)
	}
	if status != C.CONFER_OK {
		C.confer_chat_request_free(native)
		return nil, takeError(status, failure)
	}
	return native, nil
}

// readEvent copies an event, which is lent until the next one is taken.
func readEvent(event *C.confer_event) Event {
	read := Event{
		Type:             EventType(C.confer_event_type(event)),
		JSON:             textOf(func(n *C.size_t) *C.char { return C.confer_event_json(event, n) }),
		ContextTokens:    -1,
		MaxContextTokens: -1,
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
	}
	return read
}
