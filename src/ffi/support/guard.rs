//! Guards every exported function: forks, panics, and the error output.
//!
//! One guard is for calls that return a status, others for getters and freeing. `tests/exports.rs`
//! fails for an export without a guard.

use super::handle::{self, Out};
use super::{process, randomness};
use crate::error::{Error, Result, Status};
use crate::ffi::types::confer_error;
use crate::{fork, panics};

/// Guards a call that returns a status, as its number in C. `work` returns the status of its
/// success, mostly `Ok`.
pub(crate) fn status(error: *mut *mut confer_error, work: impl FnOnce() -> Result<Status>) -> i32 {
    if !error.is_null() {
        // SAFETY: a non-NULL `error` is writable by the contract of every function that has one.
        unsafe { error.write(std::ptr::null_mut()) };
    }
    process::note_use();
    let result = if fork::in_child() {
        Err(Error::new(
            Status::Forked,
            "this process was forked from one that used the library: use it in the parent, or fork before its first use",
        ))
    } else {
        randomness::probe().and_then(|()| panics::catch(work).and_then(|result| result))
    };
    let status = match result {
        Ok(status) => status,
        Err(failure) => {
            let status = failure.status();
            if !error.is_null() {
                // SAFETY: as above.
                unsafe { error.write(handle::give(confer_error::new(failure))) };
            }
            status
        }
    };
    status as i32
}

/// Guards a call whose success is always `Ok`.
pub(crate) fn done(error: *mut *mut confer_error, work: impl FnOnce() -> Result<()>) -> i32 {
    status(error, || work().map(|()| Status::Ok))
}

/// Guards a call that returns a handle in `out`. The output is written first, so it is NULL unless
/// `work` sets it, even in a forked child.
pub(crate) fn gives<T>(
    error: *mut *mut confer_error,
    out: Result<Out<*mut T>>,
    work: impl FnOnce(&Out<*mut T>) -> Result<()>,
) -> i32 {
    done(error, || work(&out?))
}

/// Guards a getter, which returns `otherwise` without a value.
pub(crate) fn get<T>(otherwise: T, work: impl FnOnce() -> Option<T>) -> T {
    match panics::catch(work) {
        Ok(Some(value)) => value,
        Ok(None) | Err(_) => otherwise,
    }
}

/// Guards freeing and cancelling. Does nothing in a forked child: locks and threads are the
/// parent's.
pub(crate) fn quiet(work: impl FnOnce()) {
    if !fork::in_child() {
        let _ = panics::catch(work);
    }
}

/// Borrows a handle during a getter that takes a lock. Returns None in a forked child, where a
/// thread of the parent may hold the lock.
///
/// # Safety
/// As [`handle::peek`].
pub(crate) unsafe fn unlocked<'a, T>(handle: *const T) -> Option<&'a T> {
    if fork::in_child() {
        return None;
    }
    // SAFETY: passed on.
    unsafe { handle::peek(handle) }
}

/// Refuses a call that waits in a callback, where the wait could never end.
pub(crate) fn may_wait(what: &str) -> Result<()> {
    if crate::client::on_callback_thread() {
        return Err(Error::new(
            Status::WouldDeadlock,
            format!("{what} waits, so it cannot be called from a callback"),
        ));
    }
    Ok(())
}
