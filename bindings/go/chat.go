package confer

// Chat requests, and the events of an answer.

/*
#include <confer.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Role is the author of a message.
type Role int32

const (
	RoleUser      Role = C.CONFER_ROLE_USER
	RoleAssistant Role = C.CONFER_ROLE_ASSISTANT
	RoleSystem    Role = C.CONFER_ROLE_SYSTEM
	RoleDeveloper Role = C.CONFER_ROLE_DEVELOPER
	// RoleToolCall has JSON text with toolCallId, toolName and toolArguments as its content.
	RoleToolCall Role = C.CONFER_ROLE_TOOL_CALL
	// RoleToolResponse has JSON text with toolCallId, toolName and content as its content.
	RoleToolResponse Role = C.CONFER_ROLE_TOOL_RESPONSE
)

// String returns the name of the constant in confer.h, such as "CONFER_ROLE_USER".
func (r Role) String() string { return C.GoString(C.confer_role_name(C.int32_t(r))) }

// Message is one message of a conversation.
type Message struct {
	Role    Role
	Content string
	// JSON, if not empty, is sent instead of role and content. Use it for a message with imageRefs,
	// for example.
	JSON json.RawMessage
}

// ChatRequest is a chat request. A field that is zero or nil has its default, which is the server's
// unless stated; [Ptr] makes pointers. Values outside the bounds of newer servers are
// [ErrInvalidArgument].
type ChatRequest struct {
	Messages []Message
	// Model defaults to the service's model.
	Model string
	// WebSearch allows the enclave to send search queries, made from the conversation, to an
	// external search service.
	WebSearch bool
	// Whole requests the answer as one EventBody instead of events. It runs no tools and continues
	// no conversation.
	Whole bool

	Temperature       *float64 // randomness of the choice: 0 or more
	TopP              *float64 // samples from tokens with this share of the probability: above 0, up to 1
	MinP              *float64 // least probability of a token, relative to the likeliest: 0 to 1
	TopK              *int32   // samples from this many most likely tokens: 1 or more, or -1 for all
	PresencePenalty   *float64 // penalty for a token that has occurred: -2 to 2
	FrequencyPenalty  *float64 // penalty for each occurrence of a token: -2 to 2
	RepetitionPenalty *float64 // divides the weight of a token that has occurred: above 0
	MaxTokens         *int64   // most tokens of the answer: 1 or more
	JSON              *bool    // the answer must be JSON
	Thinking          *bool    // the model reasons before it answers, in EventThinking

	// Documents are stored documents for the chat.
	Documents []StoredDocument `json:"-"`
	// Tools are the tools that the model may call.
	Tools []Tool
	// ToolRounds, if not 0, answers calls of tools in this chat: each EventClientToolCall of a tool
	// without Run then wants an answer. All rounds are one sequence, with an EventCompletion at the
	// end of each. If the model still calls tools after this many rounds, the chat fails with
	// ErrToolRounds. Default: 16 if a tool has Run. Otherwise the chat ends with the calls, and the
	// application sends the results with its next request.
	ToolRounds uint32
	// ToolTimeout limits the time of each call. Default: 5 minutes.
	ToolTimeout time.Duration
	// Conversation is continued by this chat: its messages are sent first, and a complete answer
	// adds the request's messages and the model's. A failed or cancelled answer adds nothing.
	Conversation *Conversation

	// Properties are further properties of the request, with any JSON values, such as those of
	// later servers.
	Properties map[string]any
}

// Ptr returns a pointer to a value, for optional fields of a [ChatRequest].
func Ptr[T any](value T) *T { return &value }

// StoredDocument names a document that the service stores, as a JSON object. Servers need
// "attachmentId", "filename", "contentType", "sourceObjectKey", "encryptionKey" and "sourceBytes".
// Printing it shows nothing, because it contains a key, which only the enclave receives.
type StoredDocument string

// Format omits the content, whatever the verb.
func (d StoredDocument) Format(to fmt.State, _ rune) { fmt.Fprint(to, "confer.StoredDocument") }

// EventType is the type of an [Event]. Later versions may add types.
type EventType int32

const (
	EventOther              EventType = C.CONFER_EVENT_OTHER                // an unknown type: see JSON
	EventToken              EventType = C.CONFER_EVENT_TOKEN                // text to append to the answer: Content
	EventThinking           EventType = C.CONFER_EVENT_THINKING             // reasoning text: Content
	EventServerToolCall     EventType = C.CONFER_EVENT_SERVER_TOOL_CALL     // the server runs one of its tools
	EventServerToolResponse EventType = C.CONFER_EVENT_SERVER_TOOL_RESPONSE // the server tool's result: Content, FullContent
	EventClientToolCall     EventType = C.CONFER_EVENT_CLIENT_TOOL_CALL     // the application must run this tool
	EventCompletion         EventType = C.CONFER_EVENT_COMPLETION           // the end of the answer
	EventBody               EventType = C.CONFER_EVENT_BODY                 // a piece of an answer that has no events: Content, Transferred, Total
	EventProgress           EventType = C.CONFER_EVENT_PROGRESS             // more of an upload was sent: Transferred, Total
	EventEmbeddings         EventType = C.CONFER_EVENT_EMBEDDINGS           // see Client.Embed
	EventPong               EventType = C.CONFER_EVENT_PONG                 // see Client.Ping
)

// String returns the name of the constant in confer.h, such as "CONFER_EVENT_TOKEN".
func (t EventType) String() string { return C.GoString(C.confer_event_type_name(C.int32_t(t))) }

// Event is one event of an answer. Fields of other types are zero.
type Event struct {
	Type EventType
	// JSON is the event's exact JSON. It is empty for EventBody and higher numbers, which have no
	// JSON.
	JSON string

	// The Content of an EventBody need not be text, and may end inside a character. FullContent is
	// a server tool's whole result: put it into the history if calls of client tools follow.
	Content, FullContent                string
	ToolCallID, ToolName, ToolArguments string

	// PendingToolCalls says that the model's answer calls tools of the application. With ToolRounds
	// the stream continues when all are answered; otherwise the next request has the results.
	PendingToolCalls bool
	// ContextTokens and MaxContextTokens are the used and available tokens, -1 if the server does
	// not state them.
	ContextTokens, MaxContextTokens int64

	// Transferred is the number of bytes received, or sent of a document, out of Total. Both are -1
	// if unknown, and for other events.
	Transferred, Total int64

	kept *kept
}

// Chat sends a request and yields the events of its answer. An error, if any, is the last item.
// When ctx ends, the stream ends too. Leaving the loop cancels the rest of the answer. Each use of
// the sequence sends the request again.
//
// A goroutine that waits for an event occupies a thread of the system.
func (c *Client) Chat(ctx context.Context, request ChatRequest) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := ended(ctx)
		if err == nil {
			err = c.chat(ctx, request, yield)
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

func (c *Client) chat(ctx context.Context, request ChatRequest, yield func(Event, error) bool) error {
	tools := newToolRunner(ctx, request)
	defer tools.end()
	return c.pull(ctx, request.native, func(lent *C.confer_event) bool { return yield(tools.take(readEvent(lent)), nil) })
}

// Collect sends a request and returns the whole text of its answer, without reasoning, at most
// 32 MiB. After rounds of tools it is the text of the last one. If the chat fails, Collect also
// returns the text that arrived.
//
// With rounds of tools, each tool needs Run. Otherwise Collect returns [ErrInvalidArgument] at
// once, because only a loop over Chat can answer the calls.
func (c *Client) Collect(ctx context.Context, request ChatRequest) (string, error) {
	if !request.runsItsTools() {
		return c.collect(ctx, request.native)
	}
	var text strings.Builder
	over := false
	for event, err := range c.Chat(ctx, request) {
		switch {
		case err != nil:
			return text.String(), err
		case event.Type == EventCompletion:
			if over { // a round without a text
				text.Reset()
			}
			over = true
		case event.Type != EventToken && event.Type != EventBody:
		default:
			if over {
				text.Reset()
				over = false
			}
			if text.Len()+len(event.Content) > maxCollected {
				tooLong := madeHere(ErrTooLarge, tooLongMessage)
				tooLong.Progress = PartlyAnswered
				return text.String(), tooLong
			}
			text.WriteString(event.Content)
		}
	}
	return text.String(), nil
}

// The limit and the message of confer_stream_collect(), which answers no calls of tools.
const (
	maxCollected   = 32 << 20
	tooLongMessage = "the answer is larger than 33554432 bytes; read its events one by one"
)

// native makes the request's handle.
func (r ChatRequest) native() (sendable, error) {
	properties, err := documentsOf(r.Properties, "property")
	if err == nil && r.Conversation != nil {
		err = r.Conversation.owner.made("conversation")
	}
	if err != nil {
		return sendable{}, err
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
		return C.confer_chat_request_set_streaming(native, C.bool(!r.Whole), e)
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
			text, length := bytesOf(string(document))
			return C.confer_chat_request_add_document_json(native, text, length, e)
		})
	}
	for _, tool := range r.Tools {
		a.call(func(e **C.confer_error) C.confer_status {
			name, nameLength := bytesOf(tool.Name)
			description, descriptionLength := bytesOf(tool.Description)
			parameters, parametersLength := bytesOf(tool.parameters())
			return C.confer_chat_request_add_tool(native, name, nameLength, description, descriptionLength, parameters,
				parametersLength, e)
		})
	}
	if rounds := r.rounds(); rounds > 0 {
		a.call(func(e **C.confer_error) C.confer_status {
			return C.confer_chat_request_set_tool_rounds(native, C.uint32_t(rounds), milliseconds(r.toolTimeout()), e)
		})
	}
	if r.Conversation != nil {
		r.Conversation.owner.use(func(conversation *C.confer_conversation) {
			a.call(func(e **C.confer_error) C.confer_status {
				return C.confer_chat_request_set_conversation(native, conversation, e)
			})
		})
	}
	for name, document := range properties {
		a.call(func(e **C.confer_error) C.confer_status {
			key, keyLength := bytesOf(name)
			text, length := bytesOf(document)
			return C.confer_chat_request_set_property(native, key, keyLength, text, length, e)
		})
	}
	return made(&a, sendable{
		send: func(client *C.confer_client, stream **C.confer_stream, e **C.confer_error) C.confer_status {
			return C.confer_chat_stream(client, native, nil, stream, e)
		},
		free: func() { C.confer_chat_request_free(native) },
	})
}

// optional sets a value unless it is nil.
func optional[T any](a *attempt, value *T, set func(T, **C.confer_error) C.confer_status) {
	if value != nil {
		a.call(func(e **C.confer_error) C.confer_status { return set(*value, e) })
	}
}

// documentsOf returns the JSON of each value. An error names the value, and does not contain it.
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

// readEvent copies an event, which is lent until the next one.
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
	case EventServerToolCall, EventServerToolResponse, EventClientToolCall:
		read.Content = textOf(func(n *C.size_t) *C.char { return C.confer_event_content(event, n) })
		read.FullContent = textOf(func(n *C.size_t) *C.char { return C.confer_event_full_content(event, n) })
		read.ToolCallID = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_call_id(event, n) })
		read.ToolName = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_name(event, n) })
		read.ToolArguments = textOf(func(n *C.size_t) *C.char { return C.confer_event_tool_arguments(event, n) })
		if C.confer_event_wants_answer(event) {
			read.kept = keep(event)
		}
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
