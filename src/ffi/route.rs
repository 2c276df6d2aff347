//! Requests of every route but the chat: the section "Other requests" of the header.

use std::ffi::{c_char, c_void};

use super::error::confer_error;
use super::extraction::{callback, confer_read_fn, file, memory};
use super::raw::read_ending;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::handle::Out;
use super::support::user_data::{UserData, confer_destroy_fn};
use super::support::{handle, text};
use crate::client::{
    Document, EmbeddingsRequest, ExtractionRequest, FetchRequest, PreparedRequest, RawRequest,
};
use crate::error::{Error, Result, Status};

/// A request of any route but the chat. Any thread may use it; calls on one request take turns.
/// Starting it copies it, so it can be changed, sent again or freed at once afterwards; only a
/// document from a callback can be sent but once.
#[allow(non_camel_case_types)]
pub struct confer_request(Turns<Route>);

enum Route {
    Raw(RawRequest),
    Ping,
    Embeddings(EmbeddingsRequest),
    Fetch(FetchRequest),
    Extraction(ExtractionRequest),
}

impl Route {
    fn not_for<T>(&self, what: &str) -> Result<T> {
        let name = match self {
            Route::Raw(_) => "a general",
            Route::Ping => "a ping",
            Route::Embeddings(_) => "an embeddings",
            Route::Fetch(_) => "a fetch",
            Route::Extraction(_) => "an extraction",
        };
        let message = format!("request: {what} cannot be set on {name} request");
        Err(Error::new(Status::InvalidArgument, message))
    }
}

impl confer_request {
    /// # Safety
    /// `request` is NULL or a live handle.
    unsafe fn with<T>(
        request: *const confer_request,
        work: impl FnOnce(&mut Route) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        unsafe { handle::borrow(request, "request") }?.0.with(work)
    }

    /// # Safety
    /// As [`confer_request::with`].
    pub(super) unsafe fn prepare(request: *const confer_request) -> Result<PreparedRequest> {
        let prepare = |route: &mut Route| match route {
            Route::Raw(request) => request.prepare(),
            Route::Ping => Ok(PreparedRequest::ping()),
            Route::Embeddings(request) => request.prepare(),
            Route::Fetch(request) => request.prepare(),
            Route::Extraction(request) => request.prepare(),
        };
        // SAFETY: passed on.
        unsafe { confer_request::with(request, prepare) }
    }
}

fn give(out: &Out<*mut confer_request>, route: Route) {
    out.set(handle::give(confer_request(Turns::new(route))));
}

/// A request of any route, such as one that this version has no function for: its verb, at most 32
/// bytes; its path, at most 2,048; and how its answer ends, one of CONFER_ENDING_*. Nothing on the
/// wire marks an end: a wrong `ending` loses the rest of an answer, or waits for one until the idle
/// limit.
///
/// `request`: receives the request; free it with confer_request_free().
/// Errors: CONFER_E_INVALID_ARGUMENT for a verb, path or ending that cannot be;
/// CONFER_E_INVALID_UTF8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_new(
    verb: *const c_char,
    verb_len: usize,
    path: *const c_char,
    path_len: usize,
    ending: i32,
    request: *mut *mut confer_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        let ending = read_ending(ending)?;
        // SAFETY: the texts are as their contract says.
        let (verb, path) = unsafe {
            (
                text::read(verb, verb_len, "verb")?,
                text::read(path, path_len, "path")?,
            )
        };
        give(out, Route::Raw(RawRequest::new(verb, path, ending)?));
        Ok(())
    })
}

/// The body of a request that was made with confer_request_new(); UTF-8, copied, at most 32 MiB.
/// Default none.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for another request; CONFER_E_INVALID_UTF8;
/// CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_body(
    request: *mut confer_request,
    body: *const c_char,
    body_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `body` is as the contract of texts says.
        let body = unsafe { text::read(body, body_len, "body") }?;
        unsafe {
            confer_request::with(request, |route| match route {
                Route::Raw(request) => request.set_body(body),
                other => other.not_for("a body"),
            })
        }
    })
}

/// `GET /ping`: brings one CONFER_EVENT_PONG with the round-trip time. (The library pings by itself
/// to keep a connection; this one is for those who want to know.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_new_ping(
    request: *mut *mut confer_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        give(out, Route::Ping);
        Ok(())
    })
}

/// `POST /v1/embeddings`: brings one CONFER_EVENT_EMBEDDINGS with a row for each text. Add 1 to 64
/// texts with confer_request_add_text().
///
/// `is_query`: the texts are queries, and not what is searched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_new_embeddings(
    is_query: bool,
    request: *mut *mut confer_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        let mut request = EmbeddingsRequest::default();
        request.set_is_query(is_query);
        give(out, Route::Embeddings(request));
        Ok(())
    })
}

/// Adds a text to an embeddings request; copied.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for another request; CONFER_E_TOO_LARGE for the 65th, and for
/// more than 32 MiB in all; CONFER_E_INVALID_UTF8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_add_text(
    request: *mut confer_request,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe {
            confer_request::with(request, |route| match route {
                Route::Embeddings(request) => request.add_text(content),
                other => other.not_for("a text"),
            })
        }
    })
}

/// `POST /v1/fetch/html`: the enclave fetches a page, and its HTML comes as one CONFER_EVENT_BODY.
/// The page's server, and whoever sees the enclave's traffic, learn that it was fetched, though not
/// by whom.
///
/// `url`: not empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_new_fetch(
    url: *const c_char,
    url_len: usize,
    request: *mut *mut confer_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        // SAFETY: `url` is as the contract of texts says.
        let url = unsafe { text::read(url, url_len, "url") }?;
        give(out, Route::Fetch(FetchRequest::new(url)?));
        Ok(())
    })
}

/// A header with which the page is fetched; at most 64. Setting one again replaces it.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for another request, and without a name;
/// CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_header(
    request: *mut confer_request,
    name: *const c_char,
    name_len: usize,
    value: *const c_char,
    value_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let (name, value) = unsafe {
            (
                text::read(name, name_len, "name")?,
                text::read(value, value_len, "value")?,
            )
        };
        unsafe {
            confer_request::with(request, |route| match route {
                Route::Fetch(request) => request.set_header(name, value),
                other => other.not_for("a header"),
            })
        }
    })
}

/// `POST /v1/document/extract`: uploads a document, of which CONFER_EVENT_PROGRESS tells how much
/// was sent, and brings its content as JSON, in pieces: CONFER_EVENT_BODY. Give it the document
/// with one of confer_request_set_document_…(). An answer, or a refusal, can come while the upload
/// still runs: then no more of it is sent.
///
/// A server takes documents of up to 50 MiB, a newer one of 1 byte to 256 MiB. It takes 10 uploads
/// at once on a connection: a further one waits, in order, until one of these has ended, for the
/// idle limit at the longest. An upload that is given up counts until the server was told so.
///
/// (`POST /v2/document/extract`, for a document that is stored already, is a confer_request_new()
/// with CONFER_ENDING_CONTENT_LENGTH.)
///
/// `filename`: not empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_new_extraction(
    filename: *const c_char,
    filename_len: usize,
    request: *mut *mut confer_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        // SAFETY: `filename` is as the contract of texts says.
        let filename = unsafe { text::read(filename, filename_len, "filename") }?;
        give(out, Route::Extraction(ExtractionRequest::new(filename)?));
        Ok(())
    })
}

/// An option of an extraction, as JSON: "content_type" and "image_export_mode" (strings), "ocr",
/// "table_structure" and "include_images" (true or false), or what later servers know. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT for another request,
/// and for "filename" and "total_length", which the library sets; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_option(
    request: *mut confer_request,
    name: *const c_char,
    name_len: usize,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let (name, json) = unsafe {
            (
                text::read(name, name_len, "name")?,
                text::read(json, json_len, "json")?,
            )
        };
        unsafe {
            confer_request::with(request, |route| match route {
                Route::Extraction(request) => request.set_option(name, json),
                other => other.not_for("an option"),
            })
        }
    })
}

/// # Safety
/// `request` is NULL or a live handle.
unsafe fn set_document(request: *const confer_request, document: Document) -> Result<()> {
    let mut document = Some(document);
    // SAFETY: passed on.
    let replaced = unsafe {
        confer_request::with(request, |route| match route {
            Route::Extraction(request) => {
                Ok(document.take().and_then(|new| request.set_document(new)))
            }
            other => other.not_for("a document"),
        })
    };
    // Dropped outside the lock: `destroy` is the application's.
    drop(document);
    replaced.map(drop)
}

/// The document, from memory; copied once, here. Newer servers refuse an empty one, with status
/// 400.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for another request than an extraction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_document_bytes(
    request: *mut confer_request,
    bytes: *const u8,
    len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `bytes` is readable for `len` bytes.
        unsafe { set_document(request, memory(bytes, len)?) }
    })
}

/// The document, from a regular file, which is opened now, read while it is sent, and closed when
/// neither the request nor a stream needs it. One that becomes shorter meanwhile ends the stream
/// with CONFER_E_FILE; what is appended is left out. Newer servers refuse an empty one, with status
/// 400.
///
/// Errors: CONFER_E_FILE if it cannot be opened or is no regular file; CONFER_E_INVALID_ARGUMENT
/// for another request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_document_file(
    request: *mut confer_request,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `path` is as the contract of texts says.
        let document = file(unsafe { text::read(path, path_len, "path") }?)?;
        unsafe { set_document(request, document) }
    })
}

/// The document, as a callback reads it. It serves one start, also one that is refused with
/// CONFER_E_TOO_MANY, and is to be set anew for another: the library never asks for the same bytes
/// again, and so never repeats such a request.
///
/// `total_length`: how many bytes it has, or -1 if that is not known. Newer servers need it, and
/// refuse a document of unknown length, or of none, with status 400.
/// `user_data`: passed to `read`. `destroy`: runs once when it is no longer needed: on the callback
/// thread after the upload, whether complete or not, or in the call that lets go of a document that
/// was never sent; also if this call fails.
/// Errors: CONFER_E_INVALID_ARGUMENT for another request than an extraction, and without `read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_document_callback(
    request: *mut confer_request,
    total_length: i64,
    read: confer_read_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe { set_document(request, callback(total_length, read, user_data)?) }
    })
}

/// Sets the document, as the application writes it to the stream: see confer_stream_write(). Each
/// start of the request has its stream, and its document. A request whose token is refused is not
/// repeated.
///
/// `total_length`: its number of bytes, or -1 if that is not known. Newer servers need it, and
/// refuse a document of unknown length, or without any bytes, with status 400.
/// Errors: CONFER_E_INVALID_ARGUMENT for another request than an extraction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_set_document_stream(
    request: *mut confer_request,
    total_length: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let document = Document::Written(u64::try_from(total_length).ok());
        // SAFETY: NULL or a live handle.
        unsafe { set_document(request, document) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_free(request: *mut confer_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
