//! Errors: the section "Errors" of the header.

use std::ffi::c_char;

use super::report::confer_report;
use super::status::{CONFER_OK, confer_status};
use super::{guard, handle, text};
use crate::client::Text;
use crate::error::Error;

/// Why a call or a stream failed. Immutable: any thread may read it, also several at once.
#[allow(non_camel_case_types)]
pub struct confer_error {
    error: Error,
    message: Text,
    check: Option<Text>,
    peer_text: Option<Text>,
    report: Option<confer_report>,
}

impl confer_error {
    pub(super) fn new(error: Error) -> confer_error {
        confer_error {
            message: Text::new(error.message()),
            check: error.check().map(Text::new),
            peer_text: error.peer_text().map(Text::new),
            report: error
                .report()
                .map(|evidenced| confer_report::new(evidenced.clone())),
            error,
        }
    }

    pub(super) fn status(&self) -> confer_status {
        self.error.status() as confer_status
    }

    pub(super) fn give(error: Error) -> *mut confer_error {
        handle::give(confer_error::new(error))
    }
}

/// Nothing of the request left this process.
pub const CONFER_PROGRESS_NOT_SENT: i32 = 0;
/// Some or all of the request was handed to the network: the enclave may have acted on it.
pub const CONFER_PROGRESS_MAYBE_SENT: i32 = 1;
/// The enclave had begun to answer.
pub const CONFER_PROGRESS_PARTLY_ANSWERED: i32 = 2;

/// The status: the same as the failed call returned. CONFER_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_status(error: *const confer_error) -> confer_status {
    // SAFETY: the contract of every getter: NULL or a live handle.
    guard::get(CONFER_OK, || {
        unsafe { handle::peek(error) }.map(confer_error::status)
    })
}

/// What happened: the argument or check, what was expected and what was found. English, for developers and logs; never
/// a token, a prompt, an answer or a key. Borrowed from the error, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_message(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(error).map(|e| &e.message), len) })
    })
}

/// For CONFER_E_REJECTED, the id of the verification check that decided, such as "tdx.key_binding"; otherwise NULL.
/// Borrowed from the error. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_check_id(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(error).and_then(|e| e.check.as_ref()), len) })
    })
}

/// The HTTP status of a refused upgrade or tunnel, or the status with which the enclave refused a request; 0 if there is
/// none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_http_status(error: *const confer_error) -> i32 {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(error) }
            .and_then(|e| e.error.http_status())
            .map(i32::from)
    })
}

/// Whether the same call may succeed later, unchanged. It does not say that repeating is harmless: for that, see
/// confer_error_progress().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_retryable(error: *const confer_error) -> bool {
    // SAFETY: NULL or a live handle.
    guard::get(false, || {
        unsafe { handle::peek(error) }.map(|e| e.error.retryable())
    })
}

/// How long the peer asked to wait before a retry, in milliseconds, at most an hour; -1 if it did not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_retry_delay_ms(error: *const confer_error) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live handle.
        let delay = unsafe { handle::peek(error) }.and_then(|e| e.error.retry_delay());
        delay.and_then(|delay| i64::try_from(delay.as_millis()).ok())
    })
}

/// How far the request had come: one of CONFER_PROGRESS_*. What was not sent can be sent again without doubt; whether
/// what may have been sent can, is for the application to know.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_progress(error: *const confer_error) -> i32 {
    // SAFETY: NULL or a live handle.
    guard::get(CONFER_PROGRESS_NOT_SENT, || {
        unsafe { handle::peek(error) }.map(|e| e.error.progress() as i32)
    })
}

/// Why the enclave refused a request or closed the connection, in its own words; NULL if it gave none. At most 1,024 bytes,
/// without control characters. It may repeat parts of the request: show it to the user, and do not log it. Borrowed from
/// the error.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_peer_text(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(error).and_then(|e| e.peer_text.as_ref()), len) })
    })
}

/// For CONFER_E_REJECTED, the report of the enclave that was refused; otherwise NULL. It belongs to the error: do not
/// free it, and do not use it after the error was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_report(error: *const confer_error) -> *const confer_report {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(error) }
            .and_then(|e| e.report.as_ref())
            .map(std::ptr::from_ref)
    })
}

/// Frees an error that a call wrote. NULL is allowed. Not for errors that a callback lends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_free(error: *mut confer_error) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(error) }));
}
