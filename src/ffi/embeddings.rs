//! Embeddings requests. Texts whose embeddings the enclave computes.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_embeddings_request, confer_error};
use crate::client::EmbeddingsRequest;

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
        out.set(confer_embeddings_request::give(request));
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
