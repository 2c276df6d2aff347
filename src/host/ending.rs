//! Threads that are about to end, so that an application can wait for them before it unloads the library.
//!
//! A thread of the library ends when the last handle that needs it goes. That may be in a callback or on one of the
//! runtime's own threads, where nothing can wait; so what goes is entered here, and whoever may wait joins it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::latch::Latch;

static ENDING: Mutex<Vec<Ending>> = Mutex::new(Vec::new());

/// Which threads to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those of runtimes that have no client left.
    Runtime,
    /// A client's callback thread. It may be in an application's slow callback, for which no other client waits.
    Callbacks,
}

struct Ending {
    which: Which,
    /// Set when the thread has nothing left to do.
    ended: Arc<Latch>,
    thread: JoinHandle<()>,
}

fn ending() -> MutexGuard<'static, Vec<Ending>> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a thread that will set `ended` as its last deed.
pub fn enter(which: Which, ended: Arc<Latch>, thread: JoinHandle<()>) {
    let mut ending = ending();
    join_ended(&mut ending); // so that the list does not grow where nobody waits
    ending.push(Ending {
        which,
        ended,
        thread,
    });
}

/// Waits until the threads that are entered, or those of one kind, have ended; until `deadline`. True if they have.
pub fn wait(which: Option<Which>, deadline: Option<Instant>) -> bool {
    loop {
        let next = {
            let mut ending = ending();
            join_ended(&mut ending);
            let mut concerned = ending
                .iter()
                .filter(|entry| which.is_none_or(|which| which == entry.which));
            concerned.next().map(|entry| entry.ended.clone())
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
fn join_ended(ending: &mut Vec<Ending>) {
    let ended = ending.extract_if(.., |entry| entry.ended.is_set());
    for entry in ended {
        let _ = entry.thread.join();
    }
}
