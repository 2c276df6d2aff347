//! The thread for one client's callbacks: one at a time, in order, never on a worker.
//!
//! A client without callbacks has no such thread. One client's slow callback does not delay other
//! clients.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::threads::{self, Kind, Stay};
use crate::error::Result;
use crate::panics;

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether the calling thread runs callbacks, so that waiting for callbacks would deadlock.
pub fn on_callback_thread() -> bool {
    HERE.get()
}

/// A source of callbacks.
pub trait Pump: Send + Sync {
    /// Whether its callbacks go before those of other sources.
    fn urgent(&self) -> bool;
    /// Makes a bounded number of callbacks. Returns true if more are due; they wait until other
    /// jobs had their turn.
    fn run(&self) -> bool;
}

enum Job {
    Once(Box<dyn FnOnce() + Send>),
    Pump(Arc<dyn Pump>),
}

impl Job {
    fn urgent(&self) -> bool {
        match self {
            Job::Once(_) => false,
            Job::Pump(pump) => pump.urgent(),
        }
    }
}

/// One client's callback thread. Ends when the last handle is dropped and all jobs have run.
pub struct Callbacks {
    queue: Arc<Queue>,
    stay: Stay,
}

/// Keeps a callback thread running until the job of its holder was posted. Without it, a close on
/// another thread could end the callback thread before that.
pub struct Hold(Arc<Queue>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state().holds -= 1;
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// An urgent job waits. Changed under the lock.
    urgent: AtomicBool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Jobs that go before all others.
    urgent: VecDeque<Job>,
    closing: bool,
    holds: usize,
    waiting: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, job: Job) {
        let urgent = job.urgent();
        let mut state = self.state();
        if urgent {
            state.urgent.push_back(job);
            self.urgent.store(true, Ordering::Relaxed);
        } else {
            state.jobs.push_back(job);
        }
        if state.waiting {
            drop(state);
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.urgent.pop_front() {
                self.urgent
                    .store(!state.urgent.is_empty(), Ordering::Relaxed);
                return Some(job);
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closing && state.holds == 0 {
                return None;
            }
            state.waiting = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting = false;
        }
    }

    fn run(&self) {
        HERE.set(true);
        while let Some(job) = self.next() {
            // This is mostly the application's code, called through the C ABI, which cannot unwind.
            let _ = panics::catch(|| match job {
                Job::Once(call) => call(),
                Job::Pump(pump) => {
                    if pump.run() {
                        self.post(Job::Pump(pump));
                    }
                }
            });
        }
    }
}

impl Callbacks {
    /// Starts the thread.
    pub fn start() -> Result<Arc<Callbacks>> {
        let (queue, stay) = (Arc::new(Queue::default()), Stay::default());
        let own = queue.clone();
        threads::start(Kind::Callback, &stay, move || own.run())?;
        Ok(Arc::new(Callbacks { queue, stay }))
    }

    /// Whether an urgent source waits, so that others should end their turn.
    pub fn urgent_waits(&self) -> bool {
        self.queue.urgent.load(Ordering::Relaxed)
    }

    /// Runs `call` after all earlier jobs.
    pub fn post(&self, call: impl FnOnce() + Send + 'static) {
        self.queue.post(Job::Once(Box::new(call)));
    }

    /// Runs `pump` until it has no more callbacks.
    pub fn post_pump(&self, pump: Arc<dyn Pump>) {
        self.queue.post(Job::Pump(pump));
    }

    /// Keeps the thread running while the hold lives.
    pub fn hold(&self) -> Hold {
        self.queue.state().holds += 1;
        Hold(self.queue.clone())
    }

    fn finish(&self) {
        self.queue.state().closing = true;
        self.queue.changed.notify_all();
        self.stay.leave();
    }

    /// Lets the thread finish its jobs and holds, and waits for its end until `deadline`. Returns
    /// whether it has ended.
    pub fn join(&self, deadline: Option<Instant>) -> bool {
        self.finish();
        self.stay.wait(deadline)
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.finish(); // does not join: a callback may drop the last handle
    }
}
