//! The one tokio runtime of a process: made at first use, shared by all clients, ended when the last one goes, so that
//! an application can unload the library.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Status};
use crate::fork;

/// Worker threads, unless set otherwise. A worker decrypts about as fast as a network delivers; a second one keeps a
/// verification, which takes a millisecond or two, from delaying another connection's tokens.
const DEFAULT_WORKERS: usize = 2;
/// More workers than this serve nothing here.
pub const MAX_WORKERS: usize = 64;
/// Threads for name resolution and the cache file, which end after this when they have nothing to do.
const IDLE_HELPER: Duration = Duration::from_secs(2);
const MAX_HELPERS: usize = 8;

static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());
static WORKERS: AtomicUsize = AtomicUsize::new(DEFAULT_WORKERS);

/// The shared runtime.
pub struct Runtime(Option<tokio::runtime::Runtime>);

/// Sets the number of workers of the next runtime. Fails if there is one already.
pub fn set_workers(count: usize) -> Result<()> {
    if !(1..=MAX_WORKERS).contains(&count) {
        let message = format!("worker_threads: {count}; the bounds are 1 and {MAX_WORKERS}");
        return Err(Error::new(Status::InvalidArgument, message));
    }
    let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.strong_count() > 0 && WORKERS.load(Ordering::Relaxed) != count {
        let message = "worker_threads: the runtime is running; set it before the first connection";
        return Err(Error::new(Status::Busy, message));
    }
    WORKERS.store(count, Ordering::Relaxed);
    Ok(())
}

impl Runtime {
    /// The runtime of this process, made if there is none.
    pub fn shared() -> Result<Arc<Runtime>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = shared.upgrade() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS.load(Ordering::Relaxed))
            .max_blocking_threads(MAX_HELPERS)
            .thread_keep_alive(IDLE_HELPER)
            .thread_name("confer-worker")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| Error::new(Status::System, format!("no runtime: {e}")))?;
        let runtime = Arc::new(Runtime(Some(runtime)));
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    /// Runs a task. A task that holds the runtime lets go of it before it ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }

    /// Lets go of the runtime; whoever is the last waits until its threads have ended, or until `deadline`.
    pub fn release(self: Arc<Runtime>, deadline: Option<Instant>) {
        let Some(mut last) = Arc::into_inner(self) else {
            return;
        };
        if let Some(runtime) = last.0.take() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            runtime.shutdown_timeout(left.unwrap_or(Duration::MAX / 4));
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        if fork::in_child() {
            std::mem::forget(runtime); // its threads are not in this process
        } else {
            runtime.shutdown_background(); // never waits: the last user may be one of its own tasks
        }
    }
}
