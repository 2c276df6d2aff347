package confer

// Conversations.

/*
#include <confer.h>
*/
import "C"

// Conversation is a history of messages. It exists only in this process: the library stores
// nothing.
type Conversation struct {
	owner *owner[*C.confer_conversation]
}

// NewConversation returns a conversation without messages.
func NewConversation() (*Conversation, error) {
	return newConversation(func(handle **C.confer_conversation, e **C.confer_error) C.confer_status {
		return C.confer_conversation_new(handle, e)
	})
}

// ParseConversation parses the result of [Conversation.JSON].
func ParseConversation(document string) (*Conversation, error) {
	return newConversation(func(handle **C.confer_conversation, e **C.confer_error) C.confer_status {
		text, length := bytesOf(document)
		return C.confer_conversation_parse(text, length, handle, e)
	})
}

func newConversation(make func(**C.confer_conversation, **C.confer_error) C.confer_status) (*Conversation, error) {
	var handle *C.confer_conversation
	if err := do(func(e **C.confer_error) C.confer_status { return make(&handle, e) }); err != nil {
		return nil, err
	}
	return &Conversation{own(handle, func(handle *C.confer_conversation) { C.confer_conversation_free(handle) })}, nil
}

// JSON returns the conversation with all messages, so protect it like them.
func (c *Conversation) JSON() string {
	if c.owner == nil {
		return ""
	}
	// The text is lent until another call for it.
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	return textOf(func(n *C.size_t) *C.char { return C.confer_conversation_json(c.owner.handle, n) })
}

// Add appends a message. A conversation holds at most 32 MiB.
func (c *Conversation) Add(role Role, content string) error {
	return c.owner.do(func(conversation *C.confer_conversation, e **C.confer_error) C.confer_status {
		text, length := bytesOf(content)
		return C.confer_conversation_add_message(conversation, C.int32_t(role), text, length, e)
	})
}

// Truncate drops all messages after the first count.
func (c *Conversation) Truncate(count int) error {
	if count < 0 {
		return madeHere(ErrInvalidArgument, "count: it is negative")
	}
	return c.owner.do(func(conversation *C.confer_conversation, e **C.confer_error) C.confer_status {
		return C.confer_conversation_truncate(conversation, C.size_t(count), e)
	})
}

// Len returns the number of messages.
func (c *Conversation) Len() (count int) {
	c.owner.use(func(conversation *C.confer_conversation) {
		count = int(C.confer_conversation_message_count(conversation))
	})
	return count
}

// ContextTokens returns the tokens at the last completion, and the maximum; -1 if unknown.
func (c *Conversation) ContextTokens() (used, most int64) {
	maximum := C.int64_t(-1)
	c.owner.use(func(conversation *C.confer_conversation) {
		used = int64(C.confer_conversation_context_tokens(conversation, &maximum))
	})
	return used, int64(maximum)
}
