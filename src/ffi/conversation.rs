//! Conversations: the section "Conversation" of the header.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::error::confer_error;
use super::status::confer_status;
use super::support::guard::{self, Poison};
use super::support::{handle, text};
use crate::client::{Conversation, Role, Text};
use crate::error::{Error, Result, Status};

/// The messages of a conversation, in this process alone: the library stores nothing. Any thread. Give it to a request
/// with confer_chat_request_set_conversation().
///
/// A server refuses a history in which a tool call is not directly followed by its response. So a conversation keeps pairs:
/// a response goes directly behind its call, responses without a call are dropped, and calls of the server's tools that got
/// no response too. Calls of the application's tools wait for their responses until the next answer is complete.
#[allow(non_camel_case_types)]
pub struct confer_conversation {
    pub(super) conversation: Conversation,
    /// What confer_conversation_json() lent last.
    lent: Mutex<Option<Text>>,
    poison: Poison,
}

impl confer_conversation {
    fn new(conversation: Conversation) -> confer_conversation {
        confer_conversation {
            conversation,
            lent: Mutex::default(),
            poison: Poison::default(),
        }
    }

    /// # Safety
    /// `conversation` is NULL or a live handle.
    unsafe fn with<T>(
        conversation: *const confer_conversation,
        work: impl FnOnce(&Conversation) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        let conversation = unsafe { handle::borrow(conversation, "conversation") }?;
        conversation
            .poison
            .guard(|| work(&conversation.conversation))
    }
}

/// The person who asks.
pub const CONFER_ROLE_USER: i32 = 0;
/// The model's earlier answer.
pub const CONFER_ROLE_ASSISTANT: i32 = 1;
/// Instructions of the system.
pub const CONFER_ROLE_SYSTEM: i32 = 2;
/// Instructions of the developer.
pub const CONFER_ROLE_DEVELOPER: i32 = 3;
/// A tool that the model called; the content is a JSON text with `toolCallId`, `toolName` and `toolArguments`.
pub const CONFER_ROLE_TOOL_CALL: i32 = 4;
/// A tool's result; the content is a JSON text with `toolCallId`, `toolName` and `content`.
pub const CONFER_ROLE_TOOL_RESPONSE: i32 = 5;

pub(super) fn read_role(role: i32) -> Result<Role> {
    let known = Role::ALL.iter().find(|known| **known as i32 == role);
    known.copied().ok_or_else(|| {
        Error::new(
            Status::InvalidArgument,
            format!("role: invalid value {role} (expected a CONFER_ROLE_* constant)"),
        )
    })
}

/// A new conversation without messages; free it with confer_conversation_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_new(
    conversation: *mut *mut confer_conversation,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `conversation` is NULL or writable.
    let out = unsafe { handle::out(conversation, "conversation") };
    guard::gives(error, out, |out| {
        out.set(handle::give(confer_conversation::new(
            Conversation::default(),
        )));
        Ok(())
    })
}

/// Reads what confer_conversation_json() wrote. At most 256 MiB. Puts each tool's response directly behind its call, and drops
/// responses without a call.
///
/// Errors: CONFER_E_INVALID_JSON, with the position or the message that is wrong, also for unknown keys and for another
/// version; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_parse(
    json: *const c_char,
    json_len: usize,
    conversation: *mut *mut confer_conversation,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `conversation` is NULL or writable.
    let out = unsafe { handle::out(conversation, "conversation") };
    guard::gives(error, out, |out| {
        // SAFETY: `json` is as the contract of texts says.
        let json = unsafe { text::read(json, json_len, "json") }?;
        out.set(handle::give(confer_conversation::new(
            Conversation::from_json(json)?,
        )));
        Ok(())
    })
}

/// The whole conversation as one JSON document, `{"version": 1, "messages": […], "context_tokens": n,
/// "max_context_tokens": n}`, the last two null before the first completion. It holds what was said: keep it as you would
/// keep that. Borrowed until the next call of this function on the same conversation, so not for two threads at once. NUL-terminated;
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_json(
    conversation: *const confer_conversation,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let Some(it) = (unsafe { guard::unlocked(conversation) }) else {
            return Some(unsafe { text::lend(None, len) });
        };
        let json = Text::new(&it.conversation.to_json());
        let mut lent = it.lent.lock().unwrap_or_else(PoisonError::into_inner);
        Some(unsafe { text::lend(Some(lent.insert(json)), len) })
    })
}

/// Appends a message; `role` and `content` as in confer_chat_request_add_message(). A conversation holds 32 MiB at most. A
/// message of CONFER_ROLE_TOOL_RESPONSE goes directly behind the call with its `toolCallId`.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a role that there is not, and for a response to no call that waits for one;
/// CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_add_message(
    conversation: *mut confer_conversation,
    role: i32,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let role = read_role(role)?;
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { confer_conversation::with(conversation, |it| it.add_message(role, content)) }
    })
}

/// Drops all messages but the first `count`. A tool call whose response is cut off waits for another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_truncate(
    conversation: *mut confer_conversation,
    count: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_conversation::with(conversation, |it| {
                it.truncate(count);
                Ok(())
            })
        }
    })
}

/// How many messages it has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_message_count(
    conversation: *const confer_conversation,
) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { guard::unlocked(conversation) }.map(|it| it.conversation.count())
    })
}

/// How many tokens the conversation had at its last completion; -1 before the first.
///
/// `max`: receives how many it can have, or -1. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_context_tokens(
    conversation: *const confer_conversation,
    max: *mut i64,
) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live handle.
        let it = unsafe { guard::unlocked(conversation) };
        let (tokens, most) = it.map_or((None, None), |it| it.conversation.context_tokens());
        if !max.is_null() {
            // SAFETY: not NULL, and so writable by the contract.
            unsafe { max.write(most.unwrap_or(-1)) };
        }
        tokens
    })
}

/// Frees a conversation. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_free(conversation: *mut confer_conversation) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(conversation) }));
}
