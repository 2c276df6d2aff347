//! Tools: the section "Tools" of the header.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::error::confer_error;
use super::event::confer_event;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::user_data::UserData;
use super::support::{handle, text};
use crate::client::{Owed, Text, Tool, ToolCall};
use crate::error::{Error, Result, Status};

/// A call of a tool by the model, to be answered once. Any thread. Freed without an answer, it
/// tells the model that there is none.
#[allow(non_camel_case_types)]
pub struct confer_tool_call {
    call: Turns<ToolCall>,
    id: Text,
    name: Text,
    arguments: Text,
}

/// Returns whether the event wants an answer from the application: a call of a tool, see
/// confer_chat_request_set_tool_rounds(), CONFER_EVENT_ASK_TOKEN, or CONFER_EVENT_ASK_RELEASE. False
/// for other events. Answer a call with confer_event_answer_tool() or confer_event_fail_tool(), at
/// once or later, from any thread, on the event or a clone of it.
///
/// If the event and its last clone are freed without an answer, the call fails. A loan ends when
/// on_event returns, at the next confer_stream_next(), or when its stream is freed. To answer
/// later, clone the event first.
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
/// `content`: at most 20,000,000 characters as JSON.
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

/// Runs a tool. `call` now belongs to the application: answer it with confer_tool_call_answer() or
/// confer_tool_call_fail(), at once or later and from any thread, and free it with
/// confer_tool_call_free(). Called on the client's callback thread: a tool that takes its time
/// holds up the client's other callbacks, unless it answers later.
#[allow(non_camel_case_types)]
pub type confer_tool_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, call: *mut confer_tool_call)>;

struct ToolCallback {
    call: unsafe extern "C" fn(*mut c_void, *mut confer_tool_call),
    user_data: UserData,
}

impl Tool for ToolCallback {
    fn call(&self, call: ToolCall) {
        let handle = handle::give(confer_tool_call {
            id: Text::new(call.id()),
            name: Text::new(call.name()),
            arguments: Text::new(call.arguments()),
            call: Turns::new(call),
        });
        // SAFETY: the application gave function and user data together, and the call becomes its
        // own.
        unsafe { (self.call)(self.user_data.pointer(), handle) };
    }
}

/// The tool that an application gave, if it gave one.
pub(super) fn tool(
    call: Option<unsafe extern "C" fn(*mut c_void, *mut confer_tool_call)>,
    user_data: UserData,
) -> Option<Arc<dyn Tool>> {
    call.map(|call| Arc::new(ToolCallback { call, user_data }) as Arc<dyn Tool>)
}

/// The call's id. Borrowed from the call, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_id(
    call: *const confer_tool_call,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(call).map(|call| &call.id), len) })
    })
}

/// The tool's name. Borrowed from the call, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_name(
    call: *const confer_tool_call,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(call).map(|call| &call.name), len) })
    })
}

/// The arguments, a text that the model wrote: it should be JSON by the tool's schema, and need not
/// be. Borrowed from the call, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_arguments(
    call: *const confer_tool_call,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(call).map(|call| &call.arguments), len) })
    })
}

/// # Safety
/// `call` is NULL or a live handle.
unsafe fn with<T>(
    call: *const confer_tool_call,
    work: impl FnOnce(&mut ToolCall) -> Result<T>,
) -> Result<T> {
    // SAFETY: passed on.
    unsafe { handle::borrow(call, "call") }?.call.with(work)
}

/// The tool's result, for the model. The stream may have ended meanwhile: that is no error.
///
/// Errors: CONFER_E_STALE for a second answer; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE for more
/// than 20,000,000 characters as JSON: the call then still waits for its answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_answer(
    call: *mut confer_tool_call,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { with(call, |call| call.owed().answer(content)) }
    })
}

/// The tool failed. The model is told "Error: " and the reason, and goes on. As
/// confer_tool_call_answer() otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_fail(
    call: *mut confer_tool_call,
    reason: *const c_char,
    reason_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `reason` is as the contract of texts says.
        let reason = unsafe { text::read(reason, reason_len, "reason") }?;
        unsafe { with(call, |call| call.owed().fail(reason)) }
    })
}

/// Frees a call. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_tool_call_free(call: *mut confer_tool_call) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(call) }));
}
