//! Fetch requests. Pages that the enclave fetches.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_fetch_request};
use crate::client::FetchRequest;

/// Creates a request for a page. Send it with confer_fetch_stream().
///
/// `url`: not empty. `request`: receives the request; free it with confer_fetch_request_free().
/// Errors: CONFER_E_INVALID_ARGUMENT for an empty URL; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_fetch_request_new(
    url: *const c_char,
    url_len: usize,
    request: *mut *mut confer_fetch_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        // SAFETY: `url` is as the contract of texts says.
        let request = FetchRequest::new(unsafe { text::read(url, url_len, "url") }?)?;
        out.set(confer_fetch_request::give(request));
        Ok(())
    })
}

/// Sets a header of the fetch; at most 64. Setting one again replaces it.
///
/// Errors: CONFER_E_INVALID_ARGUMENT without a name; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE for
/// the 65th, and for more than 32 MiB in all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_fetch_request_set_header(
    request: *mut confer_fetch_request,
    name: *const c_char,
    name_len: usize,
    value: *const c_char,
    value_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let name = unsafe { text::read(name, name_len, "name") }?;
        let value = unsafe { text::read(value, value_len, "value") }?;
        unsafe { confer_fetch_request::with(request, |request| request.set_header(name, value)) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_fetch_request_free(request: *mut confer_fetch_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
