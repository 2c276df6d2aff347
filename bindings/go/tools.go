package confer

// This file holds conversations, and chats whose tools run here. The library keeps the history; the loop of rounds is in
// Go, so that a tool runs in the goroutine that asked for it, with its context.

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

// Conversation holds messages, in this process alone: the library stores nothing. Several goroutines may use it; but what
// others add while a chat with tools continues it, is gone when that is complete.
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

// NewConversation is one without messages.
func NewConversation() (*Conversation, error) {
	return newConversation(func(handle **C.confer_conversation, e **C.confer_error) C.confer_status {
		return C.confer_conversation_new(handle, e)
	})
}

// ParseConversation reads what Conversation.JSON gave.
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

// JSON is the whole conversation. It holds what was said: keep it as you would keep that.
func (c *Conversation) JSON() string {
	// The text is lent until the next such call.
	c.mu.Lock()
	defer c.mu.Unlock()
	return textOf(func(n *C.size_t) *C.char { return C.confer_conversation_json(c.history.handle, n) })
}

// Add appends a message. A conversation holds 32 MiB at most.
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

// Truncate drops all messages but the first count.
func (c *Conversation) Truncate(count int) error {
	history := c.now()
	defer runtime.KeepAlive(history)
	var failure *C.confer_error
	if status := C.confer_conversation_truncate(history.handle, C.size_t(max(count, 0)), &failure); status != C.CONFER_OK {
		return takeError(status, failure)
	}
	return nil
}

// Len is how many messages it has.
func (c *Conversation) Len() int {
	history := c.now()
	defer runtime.KeepAlive(history)
	return int(C.confer_conversation_message_count(history.handle))
}

// ContextTokens is how many tokens it had at its last completion, and how many it can have; -1 where that is not known.
func (c *Conversation) ContextTokens() (used, most int64) {
	history := c.now()
	defer runtime.KeepAlive(history)
	var max C.int64_t
	used = int64(C.confer_conversation_context_tokens(history.handle, &max))
	return used, int64(max)
}

// Tool is one that the model may call.
type Tool struct {
	Name        string // unique in a request
	Description string // for the model
	// Parameters is the JSON Schema of the arguments, an object. Default: any.
	Parameters json.RawMessage
}

func (t Tool) parameters() string {
	if len(t.Parameters) == 0 {
		return `{"type":"object"}`
	}
	return string(t.Parameters)
}

// ToolFunc runs a tool. The arguments are a text that the model wrote: it should be JSON by the tool's schema, and need
// not be. An error is told to the model, which goes on.
type ToolFunc = func(ctx context.Context, arguments string) (string, error)

const maxRounds = 16

// ChatWithTools is Chat, and runs the tools that the model calls: one after another, in the goroutine of the loop, with
// its context. Their results go out with the next request, until an answer calls no tools: all of it is one sequence, with
// an EventCompletion at the end of each answer. A tool that has no function here is answered with that.
func (c *Client) ChatWithTools(ctx context.Context, request Request, tools map[string]ToolFunc) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := c.rounds(ctx, request, tools, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

func (c *Client) rounds(ctx context.Context, request Request, tools map[string]ToolFunc, yield func(Event, error) bool) (err error) {
	// The rounds have a conversation of their own, so that a chat that fails adds nothing to the application's, not even
	// those of its rounds that went well.
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
			// Who leaves at the very end has the whole answer, and so has the conversation once the stream says so, too.
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
		// The conversation has them now.
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
