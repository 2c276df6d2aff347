//! What every exported function goes through: forks, panics, poisoned handles, and errors on their way out.
//!
//! There is one guard for calls that return a status and one for getters and freeing. `tests/exports.rs` fails for an
//! export without a guard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::handle::{self, Out};
use super::{process, randomness};
use crate::error::{Error, Result, Status};
use crate::ffi::error::confer_error;
use crate::ffi::status::{CONFER_OK, confer_status};
use crate::{fork, panics};

/// Guards a call that returns a status. `work` returns the status of its success, mostly `CONFER_OK`.
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

/// Guards a call that gives a handle through `out`, which is made before anything else: so the output is NULL unless
/// `work` sets it, also in a forked child.
pub(crate) fn gives<T>(
    error: *mut *mut confer_error,
    out: Result<Out<*mut T>>,
    work: impl FnOnce(&Out<*mut T>) -> Result<()>,
) -> confer_status {
    done(error, || work(&out?))
}

/// Guards a getter, which answers `otherwise` where there is nothing to get.
pub(crate) fn get<T>(otherwise: T, work: impl FnOnce() -> Option<T>) -> T {
    match panics::catch(work) {
        Ok(Some(value)) => value,
        Ok(None) | Err(_) => otherwise,
    }
}

/// Guards freeing and cancelling. In a forked child nothing is touched: locks and threads are the parent's.
pub(crate) fn quiet(work: impl FnOnce()) {
    if !fork::in_child() {
        let _ = panics::catch(work);
    }
}

/// Looks at a handle for the time of a getter that takes a lock: in a forked child there is nothing to see, for a thread
/// that is not there may hold it.
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

/// A call that waits, made where waiting could never end.
pub(crate) fn may_wait(what: &str) -> Result<()> {
    if crate::host::on_callback_thread() {
        return Err(Error::new(
            Status::WouldDeadlock,
            format!("{what} waits, so it cannot be called from a callback"),
        ));
    }
    Ok(())
}

/// Set when a call on a handle panicked: its state may be half changed, so it answers nothing but that any more.
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

/// What a handle holds whose calls take turns.
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

    /// Runs `work` on it, when it is its turn.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        self.poison
            .guard(|| work(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
