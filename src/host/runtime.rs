//! The one tokio runtime of a process: made at first use, shared by all clients, ended when the last one goes, so that
//! an application can unload the library.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::ending::{self, Stay, Which};
use crate::error::{Error, Result, Status};
use crate::{fork, panics};

/// Worker threads, unless set otherwise. A worker decrypts about as fast as a network delivers; a second one keeps a
/// verification, which takes a millisecond or two, from delaying another connection's tokens.
const DEFAULT_WORKERS: usize = 2;
/// More workers than this serve nothing here.
pub const MAX_WORKERS: usize = 64;
/// Threads for name resolution and the cache file, which end after this when they have nothing to do.
const IDLE_HELPER: Duration = Duration::from_secs(2);
const MAX_HELPERS: usize = 8;

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    runtime: Weak::new(),
    running: 0,
});
/// Told when a runtime was let go of.
static GONE: Condvar = Condvar::new();

struct Shared {
    runtime: Weak<Runtime>,
    /// Runtimes that were made and not let go of.
    running: usize,
}

fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORKERS: AtomicUsize = AtomicUsize::new(DEFAULT_WORKERS);

/// The shared runtime.
pub struct Runtime(Option<tokio::runtime::Runtime>);

/// Sets the number of workers of the next runtime. Fails if there is one already.
pub fn set_workers(count: usize) -> Result<()> {
    if !(1..=MAX_WORKERS).contains(&count) {
        let message = format!("worker_threads: {count}; the bounds are 1 and {MAX_WORKERS}");
        return Err(Error::new(Status::InvalidArgument, message));
    }
    let shared = shared();
    if shared.runtime.strong_count() > 0 && WORKERS.load(Ordering::Relaxed) != count {
        let message = "worker_threads: the runtime is running; set it before the first connection";
        return Err(Error::new(Status::Busy, message));
    }
    WORKERS.store(count, Ordering::Relaxed);
    Ok(())
}

impl Runtime {
    /// The runtime of this process, made if there is none.
    pub fn shared() -> Result<Arc<Runtime>> {
        let mut shared = shared();
        if let Some(runtime) = shared.runtime.upgrade() {
            return Ok(runtime);
        }
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(WORKERS.load(Ordering::Relaxed))
            .max_blocking_threads(MAX_HELPERS)
            .thread_keep_alive(IDLE_HELPER)
            .thread_name("confer-worker")
            .enable_io()
            .enable_time();
        // tokio panics where the system refuses it a worker thread.
        let runtime = panics::catch(|| builder.build())
            .map_err(|_| Error::new(Status::System, "no thread for the runtime"))?
            .map_err(|e| Error::new(Status::System, format!("no runtime: {e}")))?;
        let runtime = Arc::new(Runtime(Some(runtime)));
        shared.runtime = Arc::downgrade(&runtime);
        shared.running += 1;
        Ok(runtime)
    }

    /// Runs a task. A task that holds the runtime lets go of it before it ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Runtime {
    /// Runs `work` after a while, unless it is given up before.
    pub fn after(
        &self,
        wait: Duration,
        work: impl FnOnce() + Send + 'static,
    ) -> tokio::task::AbortHandle {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        let timer = async move {
            tokio::time::sleep(wait).await;
            work();
        };
        runtime.spawn(timer).abort_handle()
    }
}

impl Drop for Runtime {
    /// Never waits: the last user may be one of the runtime's own tasks. Its threads are joined by one that does nothing
    /// else, and that can be waited for.
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        if fork::in_child() {
            return std::mem::forget(runtime); // its threads are not in this process
        }
        let (stay, slot) = (Stay::default(), Arc::new(Mutex::new(Some(runtime))));
        stay.leave();
        let own = slot.clone();
        let reaper = ending::start("confer-reaper", true, stay, move || {
            let runtime = own.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(runtime) = runtime {
                let _ = panics::catch(|| runtime.shutdown_timeout(Duration::MAX / 4));
            }
        });
        match reaper {
            Ok(()) => {}
            // No thread to be had: the runtime's own end by themselves, unseen.
            Err(_) => {
                let runtime = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                runtime
                    .into_iter()
                    .for_each(tokio::runtime::Runtime::shutdown_background);
            }
        }
        shared().running -= 1; // after it was entered: whoever waits sees the one or the other
        GONE.notify_all();
    }
}

/// Waits until no thread of the library runs, or until `deadline`. True if none does; false also while a client lives
/// that needs one.
pub fn wait_for_threads(deadline: Option<Instant>) -> bool {
    let mut shared = shared();
    while shared.running > 0 {
        let left = match deadline {
            None => Duration::MAX,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        };
        if left == Duration::ZERO {
            return false;
        }
        shared = GONE
            .wait_timeout(shared, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    drop(shared);
    ending::wait(Which::All, deadline)
}
