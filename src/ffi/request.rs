//! Chat requests: the section "Chat request" of the header.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use super::error::confer_error;
use super::guard::{self, Poison};
use super::status::confer_status;
use super::{handle, text};
use crate::client::{ChatRequest, Role};
use crate::error::{Error, Result, Status};

/// A chat request. Any thread may use it; calls on one request take turns. Starting a chat copies it, so it can be
/// changed, sent again or freed at once afterwards.
#[allow(non_camel_case_types)]
pub struct confer_chat_request {
    request: Mutex<ChatRequest>,
    poison: Poison,
}

impl confer_chat_request {
    /// # Safety
    /// `request` is NULL or a live handle.
    pub(super) unsafe fn with<T>(
        request: *const confer_chat_request,
        work: impl FnOnce(&mut ChatRequest) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        let request = unsafe { handle::borrow(request, "request") }?;
        request.poison.guard(|| {
            work(
                &mut request
                    .request
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            )
        })
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

/// A new chat request: no message yet, the model "Qwen/Qwen3-235B-A22B-Instruct-2507-tput", no web search.
///
/// `request`: receives the request; free it with confer_chat_request_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_new(
    request: *mut *mut confer_chat_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        out.set(handle::give(confer_chat_request {
            request: Mutex::new(ChatRequest::default()),
            poison: Poison::default(),
        }));
        Ok(())
    })
}

/// Appends a message. `role`: one of CONFER_ROLE_*. `content`: copied. A request holds 32 MiB at most, all in all.
///
/// Errors: CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE; CONFER_E_INVALID_ARGUMENT for a role that there is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_message(
    request: *mut confer_chat_request,
    role: i32,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let role = Role::ALL
            .iter()
            .find(|known| **known as i32 == role)
            .copied();
        let role =
            role.ok_or_else(|| Error::new(Status::InvalidArgument, "role: there is no such role"))?;
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { confer_chat_request::with(request, |request| request.add_message(role, content)) }
    })
}

/// Appends a message that is given as a JSON object, such as one with `imageRefs`. It is sent as it is written.
///
/// Errors: CONFER_E_INVALID_JSON, with the position, or for what is no object; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_message_json(
    request: *mut confer_chat_request,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `json` is as the contract of texts says.
        let json = unsafe { text::read(json, json_len, "json") }?;
        unsafe { confer_chat_request::with(request, |request| request.add_message_json(json)) }
    })
}

/// Names the model; not blank. Default "Qwen/Qwen3-235B-A22B-Instruct-2507-tput". Newer servers serve their own model
/// whatever is asked for.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a blank one, CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_model(
    request: *mut confer_chat_request,
    model: *const c_char,
    model_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `model` is as the contract of texts says.
        let model = unsafe { text::read(model, model_len, "model") }?;
        unsafe { confer_chat_request::with(request, |request| request.set_model(model)) }
    })
}

/// Whether the enclave may send search queries, which it makes from the conversation, to a search service outside.
/// Default false. The library always writes it: a server takes its absence for true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_web_search(
    request: *mut confer_chat_request,
    allowed: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_web_search(allowed);
                Ok(())
            })
        }
    })
}

/// Sets any other property, such as "temperature" or "clientTools", to a JSON value, which is sent as it is written.
/// Setting it again replaces it.
///
/// Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT for "messages", "model" and "webSearch",
/// which have functions of their own, for "stream", which the library sets, and for no name; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_property(
    request: *mut confer_chat_request,
    name: *const c_char,
    name_len: usize,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let name = unsafe { text::read(name, name_len, "name") }?;
        let json = unsafe { text::read(json, json_len, "json") }?;
        unsafe { confer_chat_request::with(request, |request| request.set_property(name, json)) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_free(request: *mut confer_chat_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
