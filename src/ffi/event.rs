//! Events. Types and fields of the events of a request.

use std::ffi::c_char;

use super::support::{guard, handle, text};
use super::types::confer_event;
use crate::client::{Event, Kind, Text};

/// An event of an unknown type or without a type: see confer_event_json(). Not an error.
pub const CONFER_EVENT_OTHER: i32 = 0;
/// Text to append to the answer: confer_event_content().
pub const CONFER_EVENT_TOKEN: i32 = 1;
/// Reasoning text: confer_event_content().
pub const CONFER_EVENT_THINKING: i32 = 2;
/// The server runs one of its tools: confer_event_tool_name() and so on.
pub const CONFER_EVENT_SERVER_TOOL_CALL: i32 = 3;
/// That tool's result: confer_event_content(), confer_event_full_content().
pub const CONFER_EVENT_SERVER_TOOL_RESPONSE: i32 = 4;
/// The application must run this tool: see confer_chat_request_add_tool() and
/// confer_event_wants_answer().
pub const CONFER_EVENT_CLIENT_TOOL_CALL: i32 = 5;
/// The end of an answer of the model. The stream ends after it, unless a round of tools follows:
/// see confer_chat_request_set_tool_rounds().
pub const CONFER_EVENT_COMPLETION: i32 = 6;

/// A piece of an answer that does not come in events: a chat without streaming, a page, a document,
/// any other response. See confer_event_content(), whose bytes may be no text and may end within a
/// character, and confer_event_received().
pub const CONFER_EVENT_BODY: i32 = 7;
/// A part of an upload was sent: confer_event_sent().
pub const CONFER_EVENT_PROGRESS: i32 = 8;
/// The answer to an embeddings request: confer_event_embeddings().
pub const CONFER_EVENT_EMBEDDINGS: i32 = 9;
/// The answer to a ping: confer_event_round_trip_us().
pub const CONFER_EVENT_PONG: i32 = 10;

/// Returns the type of the event, one of CONFER_EVENT_*. Later versions may add numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_type(event: *const confer_event) -> i32 {
    // SAFETY: NULL or a live event.
    guard::get(CONFER_EVENT_OTHER, || {
        unsafe { handle::peek(event) }.map(|e| e.event.kind() as i32)
    })
}

/// Returns the received event, a JSON object, or NULL for CONFER_EVENT_BODY and higher numbers.
/// Borrowed from the event, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_json(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(event).and_then(|e| e.event.json()), len) })
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
        Some(unsafe { text::lend(handle::peek(event).and_then(|e| get(&e.event)), len) })
    })
}

/// Returns the text of a token, of reasoning or of a tool's result, or the bytes of a piece. If the
/// event has no content: empty for CONFER_EVENT_TOKEN, CONFER_EVENT_THINKING and CONFER_EVENT_BODY,
/// and NULL for other events. It may contain NUL characters: use `len`. Borrowed from the event,
/// NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_content(
    event: *const confer_event,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event; `len` is NULL or writable.
        let event = unsafe { handle::peek(event) };
        Some(match event.and_then(|e| e.event.piece()) {
            Some(piece) => unsafe { text::lend_bytes(piece, len) },
            None => unsafe { text::lend(event.and_then(|e| e.event.content()), len) },
        })
    })
}

/// Returns the complete result of a server's tool, which a message history needs, or NULL without
/// one. confer_event_content() can be a shorter text for display. Borrowed from the event. `len`
/// may be NULL.
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

/// Returns the id of the event's tool call, or NULL without one. Borrowed from the event. `len` may
/// be NULL.
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

/// Returns the tool's name, or NULL without one. Borrowed from the event. `len` may be NULL.
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

/// Returns the tool's arguments, a JSON text, or NULL without them. Borrowed from the event. `len`
/// may be NULL.
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

/// For a completion, returns whether the model's answer calls tools of the application. With
/// confer_chat_request_set_tool_rounds(), the stream continues when all calls are answered. Without
/// it, the application sends the results with its next request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_pending_tool_calls(event: *const confer_event) -> bool {
    // SAFETY: NULL or a live event.
    guard::get(false, || {
        unsafe { handle::peek(event) }.and_then(|e| e.event.details().pending_tool_calls)
    })
}

/// For a completion, returns the number of tokens of the conversation, or -1 if unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_context_tokens(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        unsafe { handle::peek(event) }.and_then(|e| e.event.details().context_tokens)
    })
}

/// For a completion, returns the maximum number of tokens of a conversation, or -1 if unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_max_context_tokens(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        unsafe { handle::peek(event) }.and_then(|e| e.event.details().max_context_tokens)
    })
}

/// # Safety
/// `total` is NULL or writable.
unsafe fn transfer(transfer: Option<(u64, Option<u64>)>, total: *mut i64) -> i64 {
    let signed = |bytes: Option<u64>| bytes.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1);
    if !total.is_null() {
        // SAFETY: not NULL, and so writable by the contract.
        unsafe { total.write(signed(transfer.and_then(|(_, total)| total))) };
    }
    signed(transfer.map(|(bytes, _)| bytes))
}

/// For CONFER_EVENT_PROGRESS, returns the number of sent bytes of the document; -1 for other
/// events.
///
/// `total`: receives the length of the document, or -1 if unknown. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_sent(event: *const confer_event, total: *mut i64) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live event; `total` is NULL or writable.
        Some(unsafe {
            transfer(
                handle::peek(event).and_then(|e| e.event.details().sent),
                total,
            )
        })
    })
}

/// For CONFER_EVENT_BODY, returns the number of received bytes of the answer, with this piece; -1
/// for other events.
///
/// `total`: receives the length of the answer, or -1 if unknown. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_received(event: *const confer_event, total: *mut i64) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live event; `total` is NULL or writable.
        let received = unsafe { handle::peek(event) }.and_then(|e| e.event.details().received);
        Some(unsafe { transfer(received, total) })
    })
}

/// For CONFER_EVENT_EMBEDDINGS, returns the embeddings, one row for each text in the order of the
/// request. All values are finite. NULL for other events. Borrowed from the event.
///
/// `rows`, `columns`: receive the number of texts and the dimension. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_embeddings(
    event: *const confer_event,
    rows: *mut usize,
    columns: *mut usize,
) -> *const f32 {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let matrix = unsafe { handle::peek(event) }.and_then(|e| e.event.details().matrix.as_ref());
        let size = matrix.map_or((0, 0), |matrix| (matrix.rows, matrix.columns));
        for (out, value) in [(rows, size.0), (columns, size.1)] {
            if !out.is_null() {
                // SAFETY: not NULL, and so writable by the contract.
                unsafe { out.write(value) };
            }
        }
        matrix.map(|matrix| matrix.values.as_ptr())
    })
}

/// For CONFER_EVENT_PONG, returns the round-trip time in microseconds; -1 for other events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_round_trip_us(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        let round_trip = unsafe { handle::peek(event) }.and_then(|e| e.event.details().round_trip);
        round_trip.and_then(|it| i64::try_from(it.as_micros()).ok())
    })
}

/// Returns a copy of an event. It stays valid when a lent event does not. Free it with
/// confer_event_free(). It does not count as unread. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_clone(event: *const confer_event) -> *mut confer_event {
    guard::get(std::ptr::null_mut(), || {
        // SAFETY: NULL or a live event.
        unsafe { handle::peek(event) }
            .map(|event| handle::give(confer_event::new(event.event.clone())))
    })
}

/// Frees a clone. NULL is allowed. Do not free an event that a stream or a callback lends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_free(event: *mut confer_event) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(event) }));
}

const _: () = {
    assert!(Kind::Body as i32 == CONFER_EVENT_BODY && Kind::Pong as i32 == CONFER_EVENT_PONG);
    assert!(Kind::Progress as i32 == CONFER_EVENT_PROGRESS);
    assert!(Kind::Embeddings as i32 == CONFER_EVENT_EMBEDDINGS);
    assert!(Kind::Other as i32 == CONFER_EVENT_OTHER && Kind::Token as i32 == CONFER_EVENT_TOKEN);
    assert!(
        Kind::Thinking as i32 == CONFER_EVENT_THINKING
            && Kind::ServerToolCall as i32 == CONFER_EVENT_SERVER_TOOL_CALL
    );
    assert!(Kind::ServerToolResponse as i32 == CONFER_EVENT_SERVER_TOOL_RESPONSE);
    assert!(Kind::ClientToolCall as i32 == CONFER_EVENT_CLIENT_TOOL_CALL);
    assert!(Kind::Completion as i32 == CONFER_EVENT_COMPLETION);
};
