package confer

// Conversations.

/*
#include <confer.h>
*/
import "C"

import (
	"runtime"
	"sync"
)

// Conversation is a history of messages. It exists only in this process: the library stores
// nothing.
type Conversation struct {
	handle *C.confer_conversation
	// Held while the text of JSON is lent.
	lent sync.Mutex
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
	conversation := new(Conversation)
	err := do(func(e **C.confer_error) C.confer_status { return make(&conversation.handle, e) })
	if err != nil {
		return nil, err
	}
	runtime.AddCleanup(conversation, func(handle *C.confer_conversation) { C.confer_conversation_free(handle) }, conversation.handle)
	return conversation, nil
}

// JSON returns the conversation with all messages, so protect it like them.
func (c *Conversation) JSON() string {
	defer runtime.KeepAlive(c)
	c.lent.Lock()
	defer c.lent.Unlock()
	return textOf(func(n *C.size_t) *C.char { return C.confer_conversation_json(c.handle, n) })
}

// Add appends a message. A conversation holds at most 32 MiB.
func (c *Conversation) Add(role Role, content string) error {
	defer runtime.KeepAlive(c)
	return do(func(e **C.confer_error) C.confer_status {
		text, length := bytesOf(content)
		return C.confer_conversation_add_message(c.handle, C.int32_t(role), text, length, e)
	})
}

// Truncate drops all messages after the first count.
func (c *Conversation) Truncate(count int) error {
	defer runtime.KeepAlive(c)
	return do(func(e **C.confer_error) C.confer_status {
		return C.confer_conversation_truncate(c.handle, C.size_t(max(count, 0)), e)
	})
}

// Len returns the number of messages.
func (c *Conversation) Len() int {
	defer runtime.KeepAlive(c)
	return int(C.confer_conversation_message_count(c.handle))
}

// ContextTokens returns the tokens at the last completion, and the maximum; -1 if unknown.
func (c *Conversation) ContextTokens() (used, most int64) {
	defer runtime.KeepAlive(c)
	var max C.int64_t
	used = int64(C.confer_conversation_context_tokens(c.handle, &max))
	return used, int64(max)
}
