//! Raw requests. Requests of any route, with a body of any bytes.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_raw_request};
use crate::client::{Ending, RawRequest};
use crate::error::{Error, Result, Status};

/// The answer is one response, in one CONFER_EVENT_BODY.
pub const CONFER_ENDING_ONE_RESPONSE: i32 = 0;
/// The answer comes in events, like that of a chat, and ends with CONFER_EVENT_COMPLETION.
pub const CONFER_ENDING_COMPLETION: i32 = 1;
/// The answer comes in pieces, each a CONFER_EVENT_BODY, and ends after Content-Length bytes.
pub const CONFER_ENDING_CONTENT_LENGTH: i32 = 2;

fn read_ending(ending: i32) -> Result<Ending> {
    let known = Ending::ALL.iter().find(|known| **known as i32 == ending);
    known.copied().ok_or_else(|| {
        Error::new(
            Status::InvalidArgument,
            format!("ending: invalid value {ending} (expected a CONFER_ENDING_* constant)"),
        )
    })
}

/// Creates a request without a body. Send it with confer_raw_stream().
///
/// `verb`: at most 32 bytes. `path`: at most 2,048 bytes. `ending`: the end of the answer, one of
/// CONFER_ENDING_*. The protocol does not mark an end: a wrong `ending` loses the rest of an
/// answer, or waits until the idle limit.
/// (`POST /v2/document/extract`, for a stored document, needs CONFER_ENDING_CONTENT_LENGTH.)
/// `request`: receives the request; free it with confer_raw_request_free().
/// Errors: CONFER_E_INVALID_ARGUMENT for an invalid verb, path or ending; CONFER_E_INVALID_UTF8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_raw_request_new(
    verb: *const c_char,
    verb_len: usize,
    path: *const c_char,
    path_len: usize,
    ending: i32,
    request: *mut *mut confer_raw_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        let ending = read_ending(ending)?;
        // SAFETY: the texts are as their contract says.
        let verb = unsafe { text::read(verb, verb_len, "verb") }?;
        let path = unsafe { text::read(path, path_len, "path") }?;
        let request = RawRequest::new(verb, path, ending)?;
        out.set(confer_raw_request::give(request));
        Ok(())
    })
}

/// Sets the body: UTF-8, copied, at most 32 MiB. Default: no body.
///
/// Errors: CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_raw_request_set_body(
    request: *mut confer_raw_request,
    body: *const c_char,
    body_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `body` is as the contract of texts says.
        let body = unsafe { text::read(body, body_len, "body") }?;
        unsafe { confer_raw_request::with(request, |request| request.set_body(body)) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_raw_request_free(request: *mut confer_raw_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}

const _: () = {
    assert!(Ending::OneResponse as i32 == CONFER_ENDING_ONE_RESPONSE);
    assert!(Ending::Completion as i32 == CONFER_ENDING_COMPLETION);
    assert!(Ending::ContentLength as i32 == CONFER_ENDING_CONTENT_LENGTH);
};
