//! Events: the section "Event" of the header.

use std::ffi::c_char;

use super::{guard, handle, text};
use crate::client::{Event, Kind, Text};

/// One event of a streamed answer. Lent by a stream or a callback; immutable while it lives.
#[allow(non_camel_case_types)]
pub struct confer_event(pub(super) Event);

/// A type that this version does not know, or none: see confer_event_json(). Not an error.
pub const CONFER_EVENT_OTHER: i32 = 0;
/// Text to append to the answer: confer_event_content().
pub const CONFER_EVENT_TOKEN: i32 = 1;
/// Reasoning text: confer_event_content().
pub const CONFER_EVENT_THINKING: i32 = 2;
/// The server runs one of its own tools: confer_event_tool_name() and so on.
pub const CONFER_EVENT_TOOL_CALL: i32 = 3;
/// That tool's result: confer_event_content(), confer_event_full_content().
pub const CONFER_EVENT_TOOL_RESPONSE: i32 = 4;
/// The application must run this tool and send its result with the next request.
pub const CONFER_EVENT_CLIENT_TOOL_CALL: i32 = 5;
/// The end of the answer; the stream is complete after it.
pub const CONFER_EVENT_COMPLETION: i32 = 6;

/// What the event is: one of CONFER_EVENT_*. New numbers can appear in later versions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_type(event: *const confer_event) -> i32 {
    // SAFETY: NULL or a live event.
    guard::get(CONFER_EVENT_OTHER, || {
        unsafe { handle::peek(event) }.map(|e| e.0.kind() as i32)
    })
}

/// The event as it came, a JSON object. Borrowed from the event, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_json(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(event).map(|e| e.0.json()), len) })
    })
}

/// # Safety
/// `event` is NULL or live; `len` is NULL or writable.
unsafe fn part(
    event: *const confer_event,
    len: *mut usize,
    get: impl FnOnce(&Event) -> Option<&Text>,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: passed on.
        Some(unsafe { text::lend(handle::peek(event).and_then(|e| get(&e.0)), len) })
    })
}

/// The text of a token, a thought or a tool's result. Of CONFER_EVENT_TOKEN and CONFER_EVENT_THINKING never NULL: empty
/// if the event has none; of others NULL then. It may hold NUL characters: use `len`. Borrowed from the event, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_content(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event; `len` is NULL or writable.
    guard::get(std::ptr::null(), || {
        Some(unsafe { part(event, len, Event::content) })
    })
}

/// A tool's whole result, for the history when client tools follow; NULL if there is none. Borrowed from the event.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_full_content(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event; `len` is NULL or writable.
    guard::get(std::ptr::null(), || {
        Some(unsafe { part(event, len, |e| e.details().full_content.as_ref()) })
    })
}

/// Which tool call the event is about; NULL if about none. Borrowed from the event. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_tool_call_id(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event; `len` is NULL or writable.
    guard::get(std::ptr::null(), || {
        Some(unsafe { part(event, len, |e| e.details().tool_call_id.as_ref()) })
    })
}

/// The tool's name; NULL if there is none. Borrowed from the event. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_tool_name(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event; `len` is NULL or writable.
    guard::get(std::ptr::null(), || {
        Some(unsafe { part(event, len, |e| e.details().tool_name.as_ref()) })
    })
}

/// The tool's arguments, a JSON text; NULL if there are none. Borrowed from the event. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_tool_arguments(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live event; `len` is NULL or writable.
    guard::get(std::ptr::null(), || {
        Some(unsafe { part(event, len, |e| e.details().tool_arguments.as_ref()) })
    })
}

/// Of a completion: whether the application has tools to run and to send a new request with their results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_pending_tool_calls(event: *const confer_event) -> bool {
    // SAFETY: NULL or a live event.
    guard::get(false, || {
        unsafe { handle::peek(event) }.and_then(|e| e.0.details().pending_tool_calls)
    })
}

/// Of a completion: how many tokens the conversation has now; -1 if it does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_context_tokens(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        unsafe { handle::peek(event) }.and_then(|e| e.0.details().context_tokens)
    })
}

/// Of a completion: how many tokens a conversation can have; -1 if it does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_max_context_tokens(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        unsafe { handle::peek(event) }.and_then(|e| e.0.details().max_context_tokens)
    })
}

const _: () = {
    assert!(Kind::Other as i32 == CONFER_EVENT_OTHER && Kind::Token as i32 == CONFER_EVENT_TOKEN);
    assert!(
        Kind::Thinking as i32 == CONFER_EVENT_THINKING
            && Kind::ToolCall as i32 == CONFER_EVENT_TOOL_CALL
    );
    assert!(Kind::ToolResponse as i32 == CONFER_EVENT_TOOL_RESPONSE);
    assert!(Kind::ClientToolCall as i32 == CONFER_EVENT_CLIENT_TOOL_CALL);
    assert!(Kind::Completion as i32 == CONFER_EVENT_COMPLETION);
};
