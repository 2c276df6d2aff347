//! The thread on which one client's callbacks run: one at a time, in order, and never on a worker of the runtime.
//!
//! A client without callbacks has no such thread; one client's slow callback holds up no other client.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::threads::{self, Kind, Stay};
use crate::error::Result;
use crate::panics;

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs callbacks, so that waiting on it could never end.
pub fn on_callback_thread() -> bool {
    HERE.get()
}

/// A source of callbacks.
pub trait Pump: Send + Sync {
    /// Makes the callbacks that are due, a bounded number of them. True: there are more, after others had their turn.
    fn run(&self) -> bool;
}

enum Job {
    Once(Box<dyn FnOnce() + Send>),
    Pump(Arc<dyn Pump>),
}

/// One client's callback thread. It ends when the last handle is dropped and all that was posted has run.
pub struct Callbacks {
    queue: Arc<Queue>,
    stay: Stay,
}

/// Keeps a callback thread until what it is held for was posted: without it a close on another thread could end the
/// thread between the promise of a callback and the callback.
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
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closing: bool,
    holds: usize,
    waiting: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, job: Job) {
        let mut state = self.state();
        state.jobs.push_back(job);
        if state.waiting {
            drop(state);
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
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
            // What runs here is the application's code behind the C ABI, which cannot unwind, and a little of ours.
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

    /// Runs `call` after what was posted before.
    pub fn post(&self, call: impl FnOnce() + Send + 'static) {
        self.queue.post(Job::Once(Box::new(call)));
    }

    /// Runs `pump` until it has nothing more to do.
    pub fn post_pump(&self, pump: Arc<dyn Pump>) {
        self.queue.post(Job::Pump(pump));
    }

    /// Keeps the thread while there is more to post.
    pub fn hold(&self) -> Hold {
        self.queue.state().holds += 1;
        Hold(self.queue.clone())
    }

    fn finish(&self) {
        self.queue.state().closing = true;
        self.queue.changed.notify_all();
        self.stay.leave();
    }

    /// Lets the thread run what was posted and what is still held for, and waits for its end until `deadline`. True if
    /// it has ended.
    pub fn join(&self, deadline: Option<Instant>) -> bool {
        self.finish();
        self.stay.wait(deadline)
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.finish(); // and no join: the last handle may be dropped in a callback
    }
}
