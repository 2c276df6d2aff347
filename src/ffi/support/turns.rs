//! Calls on one handle: they take turns, and fail after one of them panicked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result, Status};
use crate::panics;

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
