//! Notices that a task was dropped before it ended, because its worker died.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const STARTING: u8 = 0;
const RUNNING: u8 = 1;
const LOST: u8 = 2;
const DONE: u8 = 3;

/// Lives in a task. Calls `lost` if it is dropped while the task runs.
pub struct Watched<F: FnOnce()> {
    state: Arc<AtomicU8>,
    lost: Option<F>,
}

/// Stays with the code that starts the task.
pub struct Starting(Arc<AtomicU8>);

/// Watches a task that is about to be started. `lost` is never called inside the start itself, so
/// the starter may hold a lock that `lost` takes.
pub fn watch<F: FnOnce()>(lost: F) -> (Watched<F>, Starting) {
    let state = Arc::new(AtomicU8::new(STARTING));
    let watched = Watched {
        state: state.clone(),
        lost: Some(lost),
    };
    (watched, Starting(state))
}

impl<F: FnOnce()> Watched<F> {
    /// The task has ended normally.
    pub fn done(self) {
        self.state.store(DONE, Ordering::Release);
    }
}

impl<F: FnOnce()> Drop for Watched<F> {
    fn drop(&mut self) {
        let running = |now| (now != DONE).then_some(LOST);
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, running);
        if before == Ok(RUNNING)
            && let Some(lost) = self.lost.take()
        {
            lost();
        }
    }
}

impl Starting {
    /// The task was handed to a worker. Returns false if it was dropped already; `lost` is not
    /// called then.
    pub fn started(&self) -> bool {
        let starting =
            self.0
                .compare_exchange(STARTING, RUNNING, Ordering::AcqRel, Ordering::Acquire);
        starting != Err(LOST)
    }

    /// The task is no longer needed: its end is not reported.
    pub fn forget(&self) {
        self.0.store(DONE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_a_running_task_that_is_dropped_is_reported() {
        let lost = Cell::new(0);
        let new = || watch(|| lost.set(lost.get() + 1));

        let (watched, starting) = new();
        drop(watched);
        assert!(!starting.started(), "dropped before it started");
        assert_eq!(lost.get(), 0);

        let (watched, starting) = new();
        watched.done();
        assert!(starting.started(), "it has ended already");

        let (watched, starting) = new();
        assert!(starting.started());
        starting.forget();
        drop(watched);
        assert_eq!(lost.get(), 0);

        let (watched, starting) = new();
        assert!(starting.started());
        drop(watched);
        assert_eq!(lost.get(), 1);
    }
}
