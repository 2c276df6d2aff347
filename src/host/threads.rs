//! The library's threads. [`start`] starts each of them, and an application can wait for its end
//! before it unloads the library.
//!
//! A thread ends when the last handle that needs it goes. That may be in a callback or on one of
//! the library's own threads, which must not wait. So every thread is listed here, and a thread
//! that may wait joins it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::latch::Latch;
use crate::error::{Error, Result, Status};
use crate::panics;

static THREADS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The purpose of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs tasks.
    Worker,
    /// Waits for the system: looks up names, reads and writes files.
    Helper,
    /// Runs one client's callbacks.
    Callback,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Worker => "confer-worker",
            Kind::Helper => "confer-helper",
            Kind::Callback => "confer-callback",
        }
    }
}

/// Selects the threads to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Workers that no client needs, and helpers if no client is left.
    Runtime,
    /// The same, and callback threads of clients that are gone. They may be in an application's
    /// slow callback.
    Leaving,
    /// All.
    All,
}

/// The state of one thread.
#[derive(Clone, Default)]
pub struct Stay {
    /// The thread is no longer needed: it ends after its last work.
    leaving: Arc<AtomicBool>,
    /// Its work is over.
    ended: Arc<Latch>,
    /// The thread was joined.
    joined: Arc<Latch>,
}

impl Stay {
    /// Marks the thread as no longer needed.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Returns whether the thread ends soon or has ended.
    pub fn leaves(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Waits until the thread has ended or until `deadline`, and joins it. Returns whether it has
    /// ended.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        if !self.ended.wait(deadline) {
            return false;
        }
        join_ended(|entry| Arc::ptr_eq(&entry.stay.joined, &self.joined));
        self.joined.wait(deadline)
    }
}

struct Entry {
    kind: Kind,
    stay: Stay,
    /// `None` while another thread joins it.
    thread: Option<JoinHandle<()>>,
}

impl Entry {
    /// `idle`: no worker is needed, and therefore no helper.
    fn concerns(&self, which: Which, idle: bool) -> bool {
        match (which, self.kind) {
            (Which::All, _) => true,
            (Which::Runtime, Kind::Callback) => false,
            (_, Kind::Helper) => idle,
            (_, Kind::Worker | Kind::Callback) => self.stay.leaves(),
        }
    }
}

fn threads() -> MutexGuard<'static, Vec<Entry>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread. Every thread of the library starts here. A panic of `work` ends the thread and
/// prints nothing.
pub fn start(kind: Kind, stay: &Stay, work: impl FnOnce() + Send + 'static) -> Result<()> {
    // Keeps the list short in a process that never calls `wait`.
    join_ended(|entry| entry.kind != Kind::Callback);
    let mut threads = threads();
    let own = stay.clone();
    let body = move || {
        let _ = panics::catch(work);
        own.leave();
        own.ended.set();
    };
    let thread = spawn(kind.name(), body).map_err(|e| refused(kind, &e))?;
    let stay = stay.clone();
    let thread = Some(thread);
    threads.push(Entry { kind, stay, thread });
    Ok(())
}

/// Runs a function while the calling thread blocks the signals that the library's threads must not
/// receive. `ffi` provides it.
type WithoutSignals = fn(&mut dyn FnMut());
static WITHOUT_SIGNALS: OnceLock<WithoutSignals> = OnceLock::new();

/// Sets the function that blocks signals while a thread is started. The thread inherits the blocked
/// signals.
pub fn block_signals_with(without_signals: WithoutSignals) {
    let _ = WITHOUT_SIGNALS.set(without_signals);
}

/// The stack of each thread, whatever `RUST_MIN_STACK` says. Callbacks run on it (`confer.h`).
const STACK: usize = 2 << 20;

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let (mut body, mut thread) = (Some(body), None);
    let mut start = || {
        let body = body.take().expect("it is called once");
        thread = Some(
            Builder::new()
                .name(name.into())
                .stack_size(STACK)
                .spawn(body),
        );
    };
    match WITHOUT_SIGNALS.get() {
        Some(without_signals) => without_signals(&mut start),
        None => start(),
    }
    thread.expect("it was called")
}

fn refused(kind: Kind, why: &io::Error) -> Error {
    let purpose = match kind {
        Kind::Worker => "to serve connections",
        Kind::Helper => "to look up a name or to use a file",
        Kind::Callback => "to run callbacks",
    };
    let message = format!(
        "the system refused a thread {purpose}: {why}; try again when this process may have more threads"
    );
    Error::new(Status::System, message)
}

/// Waits until these threads have ended or until `deadline`. Returns whether they have.
pub fn wait(which: Which, deadline: Option<Instant>) -> bool {
    if deadline.is_none() {
        join_ended(|_| true);
    }
    loop {
        let next = {
            let threads = threads();
            let needed = |entry: &Entry| entry.kind == Kind::Worker && !entry.stay.leaves();
            let idle = !threads.iter().any(needed);
            let mut concerned = threads.iter().filter(|entry| entry.concerns(which, idle));
            concerned.next().map(|entry| entry.stay.clone())
        };
        match next {
            None => return true,
            Some(stay) if !stay.wait(deadline) => return false,
            Some(_) => {}
        }
    }
}

/// Joins threads that have ended. Joins outside the lock, because a callback thread runs the
/// application's thread-local destructors at its end. They may take long or call the library. Each
/// thread stays in the list until it was joined, so an empty list means that no thread runs.
fn join_ended(which: impl Fn(&Entry) -> bool) {
    loop {
        let (thread, joined) = {
            let mut threads = threads();
            let mut ended = threads
                .iter_mut()
                .filter(|entry| entry.stay.ended.is_set() && which(entry));
            let next = ended.find_map(|entry| Some((entry.thread.take()?, &entry.stay.joined)));
            let Some((thread, joined)) = next else {
                return;
            };
            (thread, joined.clone())
        };
        // `join` panics if a thread-local destructor of this same thread calls it.
        let _ = panics::catch(|| thread.join());
        threads().retain(|entry| !Arc::ptr_eq(&entry.stay.joined, &joined));
        joined.set();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Holds up the end of its thread until the latch is set.
    struct Slow(Arc<Latch>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait(None);
        }
    }

    thread_local! {
        static SLOW: RefCell<Option<Slow>> = const { RefCell::new(None) };
    }

    fn listed(stay: &Stay) -> Option<bool> {
        let threads = threads();
        let mut entries = threads.iter();
        let own = entries.find(|entry| Arc::ptr_eq(&entry.stay.ended, &stay.ended));
        own.map(|entry| entry.thread.is_some())
    }

    #[test]
    fn slow_destructor_of_a_thread_holds_up_no_other() {
        let (slow, may_end) = (Stay::default(), Arc::new(Latch::default()));
        let until = may_end.clone();
        let work = move || SLOW.set(Some(Slow(until)));
        start(Kind::Callback, &slow, work).unwrap();
        slow.ended.wait(None);

        let (told, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let quick = Stay::default();
            start(Kind::Callback, &quick, || ()).unwrap();
            told.send(quick.wait(None)).unwrap();
            start(Kind::Helper, &quick, || ()).unwrap();
            told.send(true).unwrap();
        });
        for _ in 0..2 {
            assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(true));
        }

        assert_eq!(listed(&slow), Some(true));
        let own = slow.clone();
        let joins = std::thread::spawn(move || own.wait(None));
        while listed(&slow) == Some(true) {
            std::thread::yield_now();
        }
        assert!(!slow.wait(Some(Instant::now())), "it still runs");
        assert!(!wait(Which::All, Some(Instant::now())));
        may_end.set();
        assert!(joins.join().unwrap());
        assert_eq!(listed(&slow), None);
    }
}
