//! Version and runtime. The library's version, and the threads and memory that all clients share.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::guard;
use super::types::confer_error;
use crate::client::{
    BOUND_BYTES, bounded, deadline, set_process_unread, set_workers, wait_for_threads,
};
use crate::error::Status;

/// Major version: changes when something is removed. While it is 0, see the CHANGELOG.
pub const CONFER_VERSION_MAJOR: u32 = 0;
/// Minor version: changes when something is added.
pub const CONFER_VERSION_MINOR: u32 = 1;
/// Patch version.
pub const CONFER_VERSION_PATCH: u32 = 0;
/// The header's version as one number: major * 1,000,000 + minor * 1,000 + patch.
pub const CONFER_VERSION_NUMBER: u32 = 1_000;

/// Returns the library's version as one number, like CONFER_VERSION_NUMBER. Compare both to check
/// that the header matches the loaded library. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn confer_version_number() -> u32 {
    guard::get(0, || Some(CONFER_VERSION_NUMBER))
}

/// Returns the library's version as text, such as "0.1.0". Static, NUL-terminated. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn confer_version_string() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    guard::get(std::ptr::null(), || Some(VERSION.as_ptr().cast()))
}

/// Sets the number of the library's worker threads: 1 to 64, default 2. They start with the first
/// connection, serve all clients of the process, and end with the last client. Each connection
/// stays on one worker. If the system refuses some of the threads, the others serve all
/// connections, and the next connection starts the missing ones. If it refuses all, connecting
/// fails with CONFER_E_SYSTEM.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds; CONFER_E_BUSY while another number of
/// workers runs. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_runtime_set_workers(
    count: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || set_workers(count))
}

/// Sets how many unread bytes all streams of the process may have together: 64 KiB to 1 TiB,
/// default 1 GiB. Above this, streams with more than an equal share fail with
/// CONFER_E_SLOW_CONSUMER. Takes effect at once. Any thread.
///
/// Errors: CONFER_E_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_runtime_set_unread_limit(
    bytes: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        bounded("bytes", bytes, &BOUND_BYTES)?;
        set_process_unread(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(())
    })
}

/// Waits until no thread of the library runs, so that the library can be unloaded. Needed after the
/// last client was freed, after a failed connection, and after handles were freed without
/// confer_close().
///
/// `timeout_ms`: 0 returns at once; negative waits without a limit.
///
/// Returns CONFER_OK, or CONFER_TIMEOUT while a thread runs, as it does while a client is open.
/// Errors: CONFER_E_WOULD_DEADLOCK in a callback. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_runtime_wait(
    timeout_ms: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        guard::may_wait("confer_runtime_wait")?;
        let none = wait_for_threads(deadline(timeout_ms));
        Ok(if none { Status::Ok } else { Status::Timeout })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macros_are_the_packages_version() {
        let text = format!("{CONFER_VERSION_MAJOR}.{CONFER_VERSION_MINOR}.{CONFER_VERSION_PATCH}");
        assert_eq!(text, env!("CARGO_PKG_VERSION"));
        let number =
            CONFER_VERSION_MAJOR * 1_000_000 + CONFER_VERSION_MINOR * 1_000 + CONFER_VERSION_PATCH;
        assert_eq!(
            (number, confer_version_number()),
            (CONFER_VERSION_NUMBER, CONFER_VERSION_NUMBER)
        );
    }
}
