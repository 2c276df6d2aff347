package confer

// Conversations, and chats whose tools run in this process. The library keeps the history. The loop
// of rounds is in Go, so that a tool runs in the caller's goroutine with its context.

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
	"sync"
)

// Conversation is a history of messages. It exists only in this process: the library stores
// nothing. Several goroutines may use it, but a chat with tools discards messages that others add
// while it runs.
type Conversation struct {
	mu      sync.Mutex
	history *history
}

// history owns a handle.
type history struct{ handle *C.confer_conversation }

func (c *Conversation) now() *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history
}

// NewConversation returns a conversation without messages.
func NewConversation() (*Conversation, error) {
	return newConversation(func(handle **C.confer_conversation, e **C.confer_error) C.confer_status {
		return C.confer_conversation_new(handle, e)
	})
}

// ParseConversation parses the result of Conversation.JSON.
func ParseConversation(document string) (*Conversation, error) {
	return newConversation(func(handle **C.confer_conversation, e **C.confer_error) C.confer_status {
		text, length := bytesOf(document)
		return C.confer_conversation_parse(text, length, handle, e)
	})
}

func newConversation(make func(**C.confer_conversation, **C.confer_error) C.confer_status) (*Conversation, error) {
	var handle *C.confer_conversation
	var failure *C.confer_error
	if status := make(&handle, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure)
	}
	owner := &history{handle}
	runtime.AddCleanup(owner, func(handle *C.confer_conversation) { C.confer_conversation_free(handle) }, handle)
	return &Conversation{history: owner}, nil
}

// JSON returns the conversation with all messages, so protect it like them.
func (c *Conversation) JSON() string {
	// The text is lent until the next such call.
	c.mu.Lock()
	defer c.mu.Unlock()
	return textOf(func(n *C.size_t) *C.char { return C.confer_conversation_json(c.history.handle, n) })
}

// Add appends a message. A conversation holds at most 32 MiB.
func (c *Conversation) Add(role Role, content string) error {
	history := c.now()
	defer runtime.KeepAlive(history)
	var failure *C.confer_error
	text, length := bytesOf(content)
	status := C.confer_conversation_add_message(history.handle, C.int32_t(role), text, length, &failure)
	if status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
}

// Truncate drops all messages after the first count.
func (c *Conversation) Truncate(count int) error {
	history := c.now()
	defer runtime.KeepAlive(history)
	var failure *C.confer_error
	if status := C.confer_conversation_truncate(history.handle, C.size_t(max(count, 0)), &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
}

// Len returns the number of messages.
func (c *Conversation) Len() int {
	history := c.now()
	defer runtime.KeepAlive(history)
	return int(C.confer_conversation_message_count(history.handle))
}

// ContextTokens returns the tokens at the last completion, and the maximum; -1 if unknown.
func (c *Conversation) ContextTokens() (used, most int64) {
	history := c.now()
	defer runtime.KeepAlive(history)
	var max C.int64_t
	used = int64(C.confer_conversation_context_tokens(history.handle, &max))
	return used, int64(max)
}

// Tool is a tool that the model may call.
type Tool struct {
	Name        string // unique in a request
	Description string // for the model
	// Parameters is the JSON Schema of the arguments, an object. Default: any object.
	Parameters json.RawMessage
}

func (t Tool) parameters() string {
	if len(t.Parameters) == 0 {
		return `{"type":"object"}`
	}
	return string(t.Parameters)
}

// ToolFunc runs a tool. The arguments are text from the model. They should be JSON according to the
// tool's schema, but may not be. The model receives an error as the result, and continues.
type ToolFunc = func(ctx context.Context, arguments string) (string, error)

const maxRounds = 16

// ChatWithTools is like Chat, but runs the tools that the model calls, one after another, in the
// caller's goroutine with its context. It sends their results with the next request, until an
// answer calls no tool. All rounds are one sequence, with an EventCompletion at the end of each
// answer. If a called tool has no function, the model receives an error.
func (c *Client) ChatWithTools(ctx context.Context, request Request, tools map[string]ToolFunc) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := c.rounds(ctx, request, tools, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

func (c *Client) rounds(ctx context.Context, request Request, tools map[string]ToolFunc, yield func(Event, error) bool) (err error) {
	// The rounds use a separate conversation, so a failing chat adds nothing to the application's, not
	// even its successful rounds.
	whole := request.Conversation
	if whole == nil {
		request.Conversation, err = NewConversation()
	} else {
		request.Conversation, err = ParseConversation(whole.JSON())
	}
	if err != nil {
		return err
	}
	most := request.MaxRounds
	if most == 0 {
		most = maxRounds
	}
	for round := 0; ; round++ {
		var calls []Event
		pending, left := false, false
		for event, failure := range c.Chat(ctx, request) {
			if failure != nil && left {
				return nil
			}
			if failure != nil {
				if failed, ok := failure.(*Error); ok && round > 0 {
					failed.Progress = PartlyAnswered
				}
				return failure
			}
			switch event.Type {
			case EventClientToolCall:
				calls = append(calls, event)
			case EventCompletion:
				pending = event.PendingToolCalls
			}
			if left = left || !yield(event, nil); left && (event.Type != EventCompletion || pending) {
				return nil
			}
			// A caller that leaves at the last event has the whole answer. So does the conversation, if the
			// stream agrees.
		}
		if !pending || len(calls) == 0 {
			if whole != nil {
				whole.mu.Lock()
				defer whole.mu.Unlock()
				whole.history = request.Conversation.history
			}
			return nil
		}
		if round >= most {
			tooMany := madeHere(ErrToolRounds, fmt.Sprintf("after %d rounds, the model calls %d more tools", most, len(calls)))
			tooMany.Progress = PartlyAnswered
			return tooMany
		}
		for _, call := range calls {
			answer := run(ctx, tools[call.ToolName], call.ToolArguments)
			if ctx.Err() != nil {
				given := madeHere(ErrCancelled, ErrCancelled.Error()).because(ctx)
				given.Progress = PartlyAnswered
				return given
			}
			content, err := json.Marshal(map[string]string{
				"toolCallId": call.ToolCallID, "toolName": call.ToolName, "content": answer,
			})
			if err == nil {
				err = request.Conversation.Add(RoleToolResponse, string(content))
			}
			if err != nil {
				return err
			}
		}
		// The conversation has these messages now.
		request.Messages = nil
	}
}

func run(ctx context.Context, tool ToolFunc, arguments string) string {
	if tool == nil {
		return "Error: there is no tool of this name"
	}
	answer, err := tool(ctx, arguments)
	if err != nil {
		return "Error: " + err.Error()
	}
	return answer
}
