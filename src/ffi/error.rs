//! Errors. The reason why a call or a stream failed, and whether a retry may help.

use std::ffi::c_char;

use super::status::{CONFER_OK, confer_status};
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_report};

/// Nothing of the request was sent.
pub const CONFER_PROGRESS_NOT_SENT: i32 = 0;
/// At least a part of the request was handed to the network, so the enclave may have acted on it.
pub const CONFER_PROGRESS_MAYBE_SENT: i32 = 1;
/// The enclave had begun to answer. A refusal by a status is an answer too: its status says whether
/// the enclave carried the request out.
pub const CONFER_PROGRESS_PARTLY_ANSWERED: i32 = 2;

/// Returns the status that the failed call returned. CONFER_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_status(error: *const confer_error) -> confer_status {
    // SAFETY: the contract of every getter: NULL or a live handle.
    guard::get(CONFER_OK, || {
        unsafe { handle::peek(error) }.map(|e| e.status() as confer_status)
    })
}

/// Returns what happened: the argument or check, what was expected and what was found. English, for
/// developers and logs. Never contains a token, prompt, answer or key, and therefore not the
/// enclave's reason for a refusal: see confer_error_peer_text(). NULL for NULL. Borrowed from the
/// error, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_message(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(error).map(|e| &e.0.message), len) })
    })
}

/// Returns the id of the deciding check, such as "tdx.key_binding", for CONFER_E_REJECTED, or NULL.
/// Borrowed from the error. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_check_id(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(error).and_then(|e| e.0.check.as_ref()), len) })
    })
}

/// Returns the HTTP status of a refused upgrade or tunnel, or the enclave's status for a refused
/// request. 0 without such a status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_http_status(error: *const confer_error) -> i32 {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(error) }
            .and_then(|e| e.0.error.http_status())
            .map(i32::from)
    })
}

/// Returns whether the same call may succeed later, unchanged. This does not mean that repeating is
/// harmless; see confer_error_progress(). A client that reconnects follows the same rule: it
/// retries after a retryable error, and ends with any other.
///
///     Error                                          Retryable
///     -------------------------------------------    --------------------------------------------
///     CONFER_E_INVALID_ARGUMENT, _INVALID_UTF8,      no: a mistake of the caller
///       _INVALID_URL, _INVALID_JSON,
///       _INVALID_POLICY, _WOULD_DEADLOCK,
///       _FORKED, _FILE, _TOO_LARGE, _STALE,
///       _NOT_CONNECTED
///     CONFER_E_BUSY, _TOO_MANY                       yes
///     CONFER_E_SYSTEM                                yes; no if the process is ending, or the
///                                                    system refuses random bytes, because
///                                                    a sandbox filter stays
///     CONFER_E_CANCELLED, _CLOSED, _STOPPED,         no
///       _PANIC
///     CONFER_E_TOKEN                                 yes: asks for a token again; no if nobody
///                                                    can be asked, or the application refused
///     CONFER_E_EXPIRED                               yes: with a new client
///     CONFER_E_RESOLVE, _CONNECT, _STAGE_TIMEOUT,    yes
///       _CONNECTION_LOST, _DEAD_PEER
///     CONFER_E_TLS                                   yes; no for an untrusted certificate, unless
///                                                    only its dates are wrong: the device's clock
///                                                    may be wrong for a while
///     CONFER_E_UPGRADE                               yes; with an HTTP status, only for 408, 429
///                                                    and 5xx
///       HTTP status 401, 402, 403, and 500 for an    no, unless the application gives another
///       expired token                                token
///     CONFER_E_PROXY                                 yes; with an HTTP status, only for 408, 429
///                                                    and 5xx: not for 407, because proxies lock
///                                                    accounts; no if it refuses the credentials
///                                                    or the target by SOCKS5, or if its answer
///                                                    is not HTTP
///     CONFER_E_PROTOCOL, _HANDSHAKE, _DECRYPT,       yes: the bytes may have been damaged in
///       _FRAME, _LIMIT                               transit
///     CONFER_E_EVENT                                 no
///     CONFER_E_REJECTED                              no, unless every failed check can pass
///                                                    later: Intel gave the enclave no token,
///                                                    Intel's key set cannot be fetched, or the
///                                                    device's clock seems to be wrong
///     CONFER_E_RELEASE_REFUSED                       no; yes if nobody answered in time
///     CONFER_E_REFUSED                               no, except with status 429, 502, 503 or 504
///     CONFER_E_UNAUTHORIZED, _PAYMENT_REQUIRED       no: connect with a fresh token
///     CONFER_E_STREAM_IDLE                           yes
///     CONFER_E_SLOW_CONSUMER, _TOOL_ROUNDS           no
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_retryable(error: *const confer_error) -> bool {
    // SAFETY: NULL or a live handle.
    guard::get(false, || {
        unsafe { handle::peek(error) }.map(|e| e.0.error.retryable())
    })
}

/// Returns the delay before a retry that the peer requested, in milliseconds, at most one hour; -1
/// if it requested none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_retry_delay_ms(error: *const confer_error) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live handle.
        let delay = unsafe { handle::peek(error) }.and_then(|e| e.0.error.retry_delay());
        delay.and_then(|delay| i64::try_from(delay.as_millis()).ok())
    })
}

/// Returns how far the request got, one of CONFER_PROGRESS_*. A request that was not sent can be
/// sent again safely. For any other, the application must know whether repeating is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_progress(error: *const confer_error) -> i32 {
    // SAFETY: NULL or a live handle.
    guard::get(CONFER_PROGRESS_NOT_SENT, || {
        unsafe { handle::peek(error) }.map(|e| e.0.error.progress() as i32)
    })
}

/// Returns the enclave's reason for refusing a request or closing the connection, or NULL if it
/// gave none. At most 1,024 bytes, without control characters. It may repeat parts of the request:
/// show it to the user, but do not log it. Borrowed from the error. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_peer_text(
    error: *const confer_error,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe {
            text::lend(
                handle::peek(error).and_then(|e| e.0.peer_text.as_ref()),
                len,
            )
        })
    })
}

/// Returns the report of the refused enclave, for CONFER_E_REJECTED, or NULL. It belongs to the
/// error: do not free it, and do not use it after the error was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_report(error: *const confer_error) -> *const confer_report {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(error) }
            .and_then(|e| e.0.report.as_ref())
            .map(std::ptr::from_ref)
    })
}

/// Returns a new handle for an error, which may be a lent one. Both handles share the error. Free
/// it with confer_error_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_clone(error: *const confer_error) -> *mut confer_error {
    guard::get(std::ptr::null_mut(), || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(error) }.map(|error| handle::give(error.clone()))
    })
}

/// Frees an error from a failed call, or a clone. NULL is allowed. Do not free an error that a
/// callback receives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_error_free(error: *mut confer_error) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(error) }));
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Status};

    /// Parses the header's table into rows: the names, and the text after the first of them.
    fn table() -> Vec<(Vec<String>, String)> {
        let source = include_str!("error.rs");
        let lines = source
            .lines()
            .filter_map(|line| line.strip_prefix("///     "));
        let mut rows: Vec<(Vec<String>, String)> = Vec::new();
        for line in lines.skip_while(|line| !line.starts_with("---")).skip(1) {
            let names = line.split_once("    ").map_or(line, |(names, _)| names);
            let names: Vec<String> = names
                .split([',', ' '])
                .filter(|name| name.starts_with('_') || name.starts_with("CONFER_E_"))
                .map(|name| format!("CONFER_E{}", name.trim_start_matches("CONFER_E")))
                .collect();
            match (line.starts_with("CONFER_E_"), rows.last_mut()) {
                (true, _) => rows.push((names, line.trim_start_matches(|c| c != ' ').to_owned())),
                (false, Some(row)) => row.0.extend(names),
                (false, None) => panic!("{line}"),
            }
        }
        rows
    }

    #[test]
    fn header_says_for_each_error_whether_it_is_retried() {
        let rows = table();
        let errors = Status::ALL
            .iter()
            .filter(|(_, name, _)| name.starts_with("CONFER_E_"));
        for (status, name, _) in errors {
            let rows: Vec<_> = rows
                .iter()
                .filter(|(names, _)| names.iter().any(|listed| listed == name))
                .collect();
            let [(_, text)] = rows[..] else {
                panic!("{name} has {} rows", rows.len());
            };
            let answer = text.split("    ").last().unwrap_or_default().trim();
            let retryable = Error::new(*status, "x").retryable();
            assert_eq!(answer.starts_with("yes"), retryable, "{name}: {answer}");
            assert_eq!(answer.starts_with("no"), !retryable, "{name}: {answer}");
        }
    }
}
