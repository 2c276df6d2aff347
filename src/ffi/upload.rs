//! Uploads. Writing a document in pieces while its request runs.

use super::status::confer_status;
use super::support::handle::{self, Out};
use super::support::{guard, text};
use super::types::{confer_error, confer_stream};
use crate::client::deadline;
use crate::error::Status;

/// Writes the next bytes of a document that confer_extraction_request_set_document_stream()
/// announced. The library keeps at most 1 MiB of it. This call takes bytes until that space is
/// full, and then waits for more space. Any thread, but one at a time.
///
/// `timeout_ms`: 0 does not wait; negative waits until all bytes are taken or the upload ends.
/// After a CONFER_EVENT_PROGRESS there may be space.
/// `written`: receives the number of taken bytes.
///
/// Returns CONFER_OK if all bytes were taken; CONFER_TIMEOUT if not all were.
/// Errors, which do not end the stream: CONFER_E_STALE if the upload has ended, because the answer
/// came early, or the stream failed or was cancelled (bytes may still be taken for a moment after
/// confer_stream_cancel()); CONFER_E_INVALID_ARGUMENT for more bytes than the document still has,
/// none of which are taken, after confer_stream_finish(), and for other streams; CONFER_E_BUSY if
/// another thread writes; CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_write(
    stream: *mut confer_stream,
    bytes: *const u8,
    len: usize,
    timeout_ms: i64,
    written: *mut usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        // SAFETY: `stream` is NULL or live; `written` is NULL or writable; `bytes` is NULL or
        // readable.
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        let out = unsafe { Out::new(written, "written") }?;
        let bytes = unsafe { text::data(bytes, len) }?;
        if timeout_ms != 0 {
            guard::may_wait("confer_stream_write")?;
        }
        let taken = stream
            .poison
            .guard(|| stream.stream.writes()?.write(bytes, deadline(timeout_ms)))?;
        out.set(taken);
        Ok(match taken == len {
            true => Status::Ok,
            false => Status::Timeout,
        })
    })
}

/// Ends the document of confer_stream_write(). A document with a known length ends with its last
/// byte and does not need this call. Calling it again changes nothing. Never waits. Any thread.
///
/// Errors: CONFER_E_INVALID_ARGUMENT if bytes of a known length are missing, which ends the stream,
/// and for other streams; CONFER_E_STALE if the upload has ended before; CONFER_E_BUSY if another
/// thread writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_finish(
    stream: *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        stream.poison.guard(|| stream.stream.writes()?.finish())
    })
}
