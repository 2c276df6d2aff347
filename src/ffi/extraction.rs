//! Extraction requests. Uploads of documents, from memory, a file or a callback, or in pieces.

use std::ffi::{c_char, c_void};
use std::path::Path;

use super::status::confer_status;
use super::support::user_data::UserData;
use super::support::{guard, handle, text};
use super::types::{confer_destroy_fn, confer_error, confer_extraction_request};
use crate::client::{Document, ExtractionRequest, Read};
use crate::error::{Error, Result, Status};

/// Reads up to `size` bytes of the document into `buffer`, and returns their number; 0 at the end
/// of the document; a negative number to stop, which ends the stream with CONFER_E_STOPPED. Called
/// on the client's callback thread until 1 MiB is read or the document ends. A slow one delays the
/// client's other callbacks.
///
/// `size` varies: it is the rest of that 1 MiB, or the rest of a document with a `total_length`, if
/// that is less. Never write more than `size`.
#[allow(non_camel_case_types)]
pub type confer_read_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, buffer: *mut u8, size: usize) -> i64>;

/// Creates a request without a document. Set one, and send it with confer_extraction_stream().
/// CONFER_EVENT_PROGRESS reports the progress of the upload, and the content comes as JSON in
/// pieces, CONFER_EVENT_BODY. An answer or a refusal can come during the upload, which then stops.
///
/// A server takes documents of up to 50 MiB, a newer one of 1 byte to 256 MiB. A connection takes
/// 10 uploads at once. Further ones wait, in order, for at most the idle limit. A cancelled upload
/// counts until its final chunk was sent.
///
/// `filename`: not empty. `request`: receives the request; free it with
/// confer_extraction_request_free().
/// Errors: CONFER_E_INVALID_ARGUMENT for an empty name; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_new(
    filename: *const c_char,
    filename_len: usize,
    request: *mut *mut confer_extraction_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        // SAFETY: `filename` is as the contract of texts says.
        let filename = unsafe { text::read(filename, filename_len, "filename") }?;
        let request = ExtractionRequest::new(filename)?;
        out.set(confer_extraction_request::give(request));
        Ok(())
    })
}

/// Sets an option to a JSON value: "content_type" and "image_export_mode" (strings), "ocr",
/// "table_structure" and "include_images" (true or false), or an option of later servers. Default:
/// the server's.
///
/// Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT without a name, and
/// for "filename" and "total_length", which the library sets; CONFER_E_INVALID_UTF8;
/// CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_set_option(
    request: *mut confer_extraction_request,
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
        unsafe {
            confer_extraction_request::with(request, |request| request.set_option(name, json))
        }
    })
}

/// # Safety
/// `request` is NULL or a live handle.
unsafe fn set_document(
    request: *const confer_extraction_request,
    document: Document,
) -> Result<()> {
    let mut document = Some(document);
    // SAFETY: passed on.
    let replaced = unsafe {
        confer_extraction_request::with(request, |request| {
            Ok(document.take().and_then(|new| request.set_document(new)))
        })
    };
    // Dropped outside the lock: `destroy` is the application's.
    drop(document);
    replaced.map(drop)
}

/// Sets the document from memory, and copies it. Newer servers refuse an empty document with status
/// 400.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for SIZE_MAX: a document needs its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_set_document_bytes(
    request: *mut confer_extraction_request,
    bytes: *const u8,
    len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `bytes` is readable for `len` bytes.
        unsafe { set_document(request, memory(bytes, len)?) }
    })
}

/// # Safety
/// `bytes` is NULL or readable for `len` bytes.
unsafe fn memory(bytes: *const u8, len: usize) -> Result<Document> {
    // SAFETY: passed on.
    let bytes = unsafe { text::data(bytes, len) }?;
    Ok(Document::Memory(bytes.to_vec().into()))
}

/// Sets the document from a regular file. This call opens the file, sending reads it, and it is
/// closed when neither the request nor a stream needs it. If the file becomes shorter, the stream
/// ends with CONFER_E_FILE; appended bytes are ignored. Newer servers refuse an empty document with
/// status 400.
///
/// Errors: CONFER_E_FILE if it cannot be opened or is not a regular file; CONFER_E_INVALID_ARGUMENT
/// for an empty path.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_set_document_file(
    request: *mut confer_extraction_request,
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

fn file(path: &str) -> Result<Document> {
    if path.is_empty() || path.contains('\0') {
        let message = "path: it is empty or contains a NUL character";
        return Err(Error::new(Status::InvalidArgument, message));
    }
    Document::open(Path::new(path))
}

struct ReadCallback {
    call: unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> i64,
    user_data: UserData,
}

impl Read for ReadCallback {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the application gave both together; the buffer is writable during the call.
        let read =
            unsafe { (self.call)(self.user_data.pointer(), buffer.as_mut_ptr(), buffer.len()) };
        usize::try_from(read)
            .map_err(|_| Error::new(Status::Stopped, "the read callback stopped the upload"))
    }
}

/// Sets a callback that reads the document. It serves one start, even a start that fails with
/// CONFER_E_TOO_MANY; set it again for another. The library cannot read the document a second time,
/// so it never repeats such a request.
///
/// `total_length`: the document's length in bytes, or -1 if unknown. Newer servers refuse an
/// unknown length and an empty document with status 400. If the document ends before its length,
/// the stream ends with CONFER_E_INVALID_ARGUMENT.
/// `user_data`: passed to `read`. `destroy`: runs once when `user_data` is no longer needed: on the
/// callback thread after the upload, complete or not, or in the call that drops a document that was
/// never sent. If this call fails, it runs before the call returns.
/// Errors: CONFER_E_INVALID_ARGUMENT without `read`, or for a `total_length` below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_set_document_callback(
    request: *mut confer_extraction_request,
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

fn callback(total_length: i64, read: confer_read_fn, user_data: UserData) -> Result<Document> {
    let call = read.ok_or_else(|| Error::new(Status::InvalidArgument, "read: it is NULL"))?;
    let read = Box::new(ReadCallback { call, user_data });
    Ok(Document::callback(read, length(total_length)?))
}

fn length(total: i64) -> Result<Option<u64>> {
    if total == -1 {
        return Ok(None);
    }
    let length = u64::try_from(total).map_err(|_| {
        let message = format!("total_length: invalid value {total} (expected bytes, or -1)");
        Error::new(Status::InvalidArgument, message)
    })?;
    Ok(Some(length))
}

/// Announces a document that the application writes to the stream with confer_stream_write(). Write
/// it again for each stream that the request starts. The library does not repeat the request after
/// a refused token.
///
/// `total_length`: the document's length in bytes, or -1 if it is unknown. Newer servers refuse an
/// unknown length and an empty document with status 400.
/// Errors: CONFER_E_INVALID_ARGUMENT for a `total_length` below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_set_document_stream(
    request: *mut confer_extraction_request,
    total_length: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let document = Document::Written(length(total_length)?);
        // SAFETY: NULL or a live handle.
        unsafe { set_document(request, document) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_request_free(request: *mut confer_extraction_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
