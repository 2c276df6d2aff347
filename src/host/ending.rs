//! The library's threads that have a beginning and an end, so that an application can wait for them before it unloads the
//! library.
//!
//! A thread ends when the last handle that needs it goes. That may be in a callback or on one of the runtime's own
//! threads, where nothing can wait; so each is entered here when it starts, and whoever may wait joins it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::latch::Latch;

static THREADS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// Which threads to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that end runtimes that have no client left.
    Runtime,
    /// All that nothing needs any more. A client's callback thread may be in an application's slow callback.
    Leaving,
    /// All.
    All,
}

/// A thread's own entry.
#[derive(Clone, Default)]
pub struct Stay {
    /// Nothing needs it any more: it ends when it has done what there is.
    leaving: Arc<AtomicBool>,
    ended: Arc<Latch>,
}

impl Stay {
    /// Nothing needs the thread any more.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// The thread has nothing left to do: its last deed.
    pub fn end(&self) {
        self.ended.set();
    }

    /// Waits for the thread's end until `deadline`. True if it has ended, and was joined.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        if !self.ended.wait(deadline) {
            return false;
        }
        join_ended(&mut threads());
        true
    }
}

struct Entry {
    runtime: bool,
    stay: Stay,
    thread: JoinHandle<()>,
}

fn threads() -> MutexGuard<'static, Vec<Entry>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread; `runtime`: one that ends a runtime.
pub fn start(
    name: &str,
    runtime: bool,
    stay: Stay,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let mut threads = threads();
    join_ended(&mut threads); // so that the list does not grow where nobody waits
    let own = stay.clone();
    let thread = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            work();
            own.end();
        })?;
    threads.push(Entry {
        runtime,
        stay,
        thread,
    });
    Ok(())
}

/// Waits until such threads have ended; until `deadline`. True if they have.
pub fn wait(which: Which, deadline: Option<Instant>) -> bool {
    loop {
        let next = {
            let mut threads = threads();
            join_ended(&mut threads);
            let mut concerned = threads.iter().filter(|entry| match which {
                Which::Runtime => entry.runtime,
                Which::Leaving => entry.stay.leaving.load(Ordering::Acquire),
                Which::All => true,
            });
            concerned.next().map(|entry| entry.stay.ended.clone())
        };
        match next {
            None => return true,
            Some(ended) if !ended.wait(deadline) => return false,
            Some(_) => {}
        }
    }
}

/// Joined under the lock, so that whoever finds the list empty knows that all have ended. It does not take long: what
/// is left of such a thread is its return.
fn join_ended(threads: &mut Vec<Entry>) {
    let ended = threads.extract_if(.., |entry| entry.stay.ended.is_set());
    for entry in ended {
        let _ = entry.thread.join();
    }
}
