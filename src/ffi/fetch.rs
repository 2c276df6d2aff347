//! Fetch requests. Pages that the enclave fetches.

use std::ffi::c_char;

use super::error::confer_error;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::{handle, text};
use crate::client::FetchRequest;
use crate::error::Result;

/// A request for a page, which the enclave fetches. The page's server and observers of the
/// enclave's traffic learn that it was fetched, but not for whom. Any thread may use it; calls on
/// one request take turns. Starting it copies it, so it can be changed, sent again or freed at once
/// afterwards. A failed setter keeps the old value.
#[allow(non_camel_case_types)]
pub struct confer_fetch_request(Turns<FetchRequest>);

impl confer_fetch_request {
    /// # Safety
    /// `request` is NULL or a live handle.
    pub(super) unsafe fn with<T>(
        request: *const confer_fetch_request,
        work: impl FnOnce(&mut FetchRequest) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        unsafe { handle::borrow(request, "request") }?.0.with(work)
    }
}

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
        out.set(handle::give(confer_fetch_request(Turns::new(request))));
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
