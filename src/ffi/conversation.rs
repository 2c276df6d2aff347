//! Conversations. Histories of messages, which chats continue and extend.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::status::confer_status;
use super::support::turns::Poison;
use super::support::{guard, handle, text};
use super::types::{confer_conversation, confer_error};
use crate::client::{Conversation, Role, Text};
use crate::error::{Error, Result, Status};

impl confer_conversation {
    fn give(conversation: Conversation) -> *mut confer_conversation {
        handle::give(confer_conversation {
            conversation,
            lent: Mutex::default(),
            poison: Poison::default(),
        })
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

/// The user.
pub const CONFER_ROLE_USER: i32 = 0;
/// An earlier answer of the model.
pub const CONFER_ROLE_ASSISTANT: i32 = 1;
/// Instructions of the system.
pub const CONFER_ROLE_SYSTEM: i32 = 2;
/// Instructions of the developer.
pub const CONFER_ROLE_DEVELOPER: i32 = 3;
/// A call of a tool by the model. The content is JSON text with `toolCallId`, `toolName` and
/// `toolArguments`.
pub const CONFER_ROLE_TOOL_CALL: i32 = 4;
/// A tool's result. The content is JSON text with `toolCallId`, `toolName` and `content`.
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

/// Creates a conversation without messages; free it with confer_conversation_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_new(
    conversation: *mut *mut confer_conversation,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `conversation` is NULL or writable.
    let out = unsafe { handle::out(conversation, "conversation") };
    guard::gives(error, out, |out| {
        out.set(confer_conversation::give(Conversation::default()));
        Ok(())
    })
}

/// Parses the result of confer_conversation_json(), at most 256 MiB. Puts each tool's response
/// directly after its call, and drops responses without a call.
///
/// Errors: CONFER_E_INVALID_JSON for invalid JSON, an unknown key or an unknown version, with the
/// position or the number of the wrong message; CONFER_E_TOO_LARGE.
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
        out.set(confer_conversation::give(Conversation::from_json(json)?));
        Ok(())
    })
}

/// Returns the conversation as a JSON document, `{"version": 1, "messages": […], "context_tokens":
/// n, "max_context_tokens": n}`. The numbers are null before the first completion. It contains all
/// messages: protect it accordingly. Borrowed until the next call of this function on the same
/// conversation: two threads must not call it at once. NUL-terminated. `len` may be NULL.
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

/// Appends a message, with `role` and `content` as in confer_chat_request_add_message(). A
/// conversation holds at most 32 MiB. A message with CONFER_ROLE_TOOL_RESPONSE goes directly after
/// the call with its `toolCallId`.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for an unknown role, and for a response whose call is unknown
/// or already answered; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
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

/// Drops all messages after the first `count`. A tool call that loses its response waits for
/// another one.
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

/// Returns the number of messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_conversation_message_count(
    conversation: *const confer_conversation,
) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { guard::unlocked(conversation) }.map(|it| it.conversation.count())
    })
}

/// Returns the number of tokens at the last completion, or -1 before the first.
///
/// `max`: receives the maximum number of tokens, or -1 if unknown. May be NULL.
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
