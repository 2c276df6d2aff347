//! Guards every exported function: forks, panics, poisoned handles, and the error output.
//!
//! One guard is for calls that return a status, others for getters and freeing. `tests/exports.rs`
//! fails for an export without a guard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::handle::{self, Out};
use super::{process, randomness};
use crate::error::{Error, Result, Status};
use crate::ffi::callbacks::{Table, confer_stream_callbacks};
use crate::ffi::error::confer_error;
use crate::ffi::status::{CONFER_OK, confer_status};
use crate::ffi::stream::confer_stream;
use crate::{fork, panics};

/// Guards a call that returns a status. `work` returns the status of its success, mostly
/// `CONFER_OK`.
pub(crate) fn status(
    error: *mut *mut confer_error,
    work: impl FnOnce() -> Result<confer_status>,
) -> confer_status {
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
    match result {
        Ok(status) => status,
        Err(failure) => {
            let status = failure.status() as confer_status;
            if !error.is_null() {
                // SAFETY: as above.
                unsafe { error.write(confer_error::give(failure)) };
            }
            status
        }
    }
}

/// Guards a call whose success is always `CONFER_OK`.
pub(crate) fn done(
    error: *mut *mut confer_error,
    work: impl FnOnce() -> Result<()>,
) -> confer_status {
    status(error, || work().map(|()| CONFER_OK))
}

/// Guards a call that returns a handle in `out`. The output is written first, so it is NULL unless
/// `work` sets it, even in a forked child.
pub(crate) fn gives<T>(
    error: *mut *mut confer_error,
    out: Result<Out<*mut T>>,
    work: impl FnOnce(&Out<*mut T>) -> Result<()>,
) -> confer_status {
    done(error, || work(&out?))
}

/// Guards a call that starts a stream. Reads the table first, so that `destroy` runs on every failure,
/// and then sets `stream` to NULL. `work` gets the table, unless it is NULL, and the output.
pub(crate) fn starts(
    error: *mut *mut confer_error,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    work: impl FnOnce(Result<Option<Table>>, Option<Out<*mut confer_stream>>) -> Result<()>,
) -> confer_status {
    // SAFETY: by the contract of every function that starts a stream, the table is NULL or readable
    // for the size that it says.
    let table = unsafe { confer_stream_callbacks::read(callbacks) };
    // SAFETY: by the same contract, `stream` is NULL or writable.
    let out = unsafe { handle::out_or_none(stream) };
    done(error, || work(table, out))
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

/// Set when a call on a handle panicked. Later calls on it fail, because its state may be
/// inconsistent.
#[derive(Default)]
pub(crate) struct Poison(AtomicBool);

impl Poison {
    /// Runs `work` on a handle.
    pub(crate) fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::new(
                Status::Panic,
                "this handle is unusable: an earlier call on it met a defect in libconfer; free it",
            ));
        }
        panics::catch(work).unwrap_or_else(|panic| {
            self.0.store(true, Ordering::Relaxed);
            Err(panic)
        })
    }
}

/// The content of a handle whose calls take turns.
pub(crate) struct Turns<T> {
    value: Mutex<T>,
    poison: Poison,
}

impl<T> Turns<T> {
    pub(crate) fn new(value: T) -> Turns<T> {
        Turns {
            value: Mutex::new(value),
            poison: Poison::default(),
        }
    }

    /// Runs `work` on the content, under the lock.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        self.poison
            .guard(|| work(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
