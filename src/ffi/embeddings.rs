//! Embeddings requests. Texts whose embeddings the enclave computes.

use std::ffi::c_char;

use super::error::confer_error;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::{handle, text};
use crate::client::EmbeddingsRequest;
use crate::error::Result;

/// A request for the embeddings of 1 to 64 texts. Any thread may use it; calls on one request take
/// turns. Starting it copies it, so it can be changed, sent again or freed at once afterwards. A
/// failed setter keeps the old value.
#[allow(non_camel_case_types)]
pub struct confer_embeddings_request(Turns<EmbeddingsRequest>);

impl confer_embeddings_request {
    /// # Safety
    /// `request` is NULL or a live handle.
    pub(super) unsafe fn with<T>(
        request: *const confer_embeddings_request,
        work: impl FnOnce(&mut EmbeddingsRequest) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        unsafe { handle::borrow(request, "request") }?.0.with(work)
    }
}

/// Creates an embeddings request without texts. Send it with confer_embeddings_stream().
///
/// `request`: receives the request; free it with confer_embeddings_request_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_embeddings_request_new(
    request: *mut *mut confer_embeddings_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        let request = EmbeddingsRequest::default();
        out.set(handle::give(confer_embeddings_request(Turns::new(request))));
        Ok(())
    })
}

/// Adds a text, which is copied.
///
/// Errors: CONFER_E_TOO_LARGE for the 65th, and for more than 32 MiB in all; CONFER_E_INVALID_UTF8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_embeddings_request_add_text(
    request: *mut confer_embeddings_request,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { confer_embeddings_request::with(request, |request| request.add_text(content)) }
    })
}

/// Sets whether the texts are queries. Default false: they are texts to search.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_embeddings_request_set_is_query(
    request: *mut confer_embeddings_request,
    is_query: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_embeddings_request::with(request, |request| {
                request.set_is_query(is_query);
                Ok(())
            })
        }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_embeddings_request_free(request: *mut confer_embeddings_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
