//! Tool calls. Answers of the application to the model's calls of its tools.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_event};
use crate::client::Owed;
use crate::error::{Error, Result, Status};

/// Returns whether the event wants an answer from the application. True for CONFER_EVENT_ASK_TOKEN,
/// CONFER_EVENT_ASK_RELEASE, and CONFER_EVENT_CLIENT_TOOL_CALL in a chat with
/// confer_chat_request_set_tool_rounds(); false for other events. Answer a tool call with
/// confer_event_answer_tool() or confer_event_fail_tool(), at once or later, from any thread, on
/// the event or a clone of it.
///
/// If the event and its last clone are freed without an answer, the tool call fails. The library
/// frees a lent event when `on_event` returns, at the next confer_stream_next(), or with its
/// stream. To answer later, clone the event first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_wants_answer(event: *const confer_event) -> bool {
    // SAFETY: NULL or a live event.
    guard::get(false, || {
        unsafe { handle::peek(event) }.map(|e| e.event.owed().is_some() || e.event.is_question())
    })
}

/// # Safety
/// `event` is NULL or live.
unsafe fn answer(event: *const confer_event, give: impl FnOnce(&Owed) -> Result<()>) -> Result<()> {
    let invalid = |why| Error::new(Status::InvalidArgument, why);
    // SAFETY: passed on.
    let event = unsafe { handle::peek(event) }.ok_or_else(|| invalid("event: it is NULL"))?;
    give(
        event
            .event
            .owed()
            .ok_or_else(|| invalid("event: it wants no answer"))?,
    )
}

/// Answers a tool call with the tool's result. Never waits. If the stream has ended, returns
/// CONFER_OK and drops the answer.
///
/// `content`: any text, also JSON; at most 20,000,000 characters when written as a JSON string.
/// Errors: CONFER_E_STALE if the call was answered before, or failed at its time limit;
/// CONFER_E_INVALID_ARGUMENT for an event that wants no answer; CONFER_E_INVALID_UTF8 and
/// CONFER_E_TOO_LARGE, after which the call still wants its answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_answer_tool(
    event: *const confer_event,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live event; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { answer(event, |owed| owed.answer(content)) }
    })
}

/// Answers a tool call with a failure. The model reads "Error: " and the reason, and continues.
/// Otherwise like confer_event_answer_tool().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_fail_tool(
    event: *const confer_event,
    reason: *const c_char,
    reason_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live event; `reason` is as the contract of texts says.
        let reason = unsafe { text::read(reason, reason_len, "reason") }?;
        unsafe { answer(event, |owed| owed.fail(reason)) }
    })
}
