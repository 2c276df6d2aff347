//! The workers of a process. All clients share them. They start at first use and end with the last
//! client, so that an application can unload the library.
//!
//! Each worker is a thread with an event loop. A task stays on its worker.

use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::exit;
use super::latch::Latch;
use super::threads::{self, Kind, Stay, Which};
use crate::error::{Error, Result, Status};
use crate::{fork, panics};

/// Default number of workers. A worker decrypts about as fast as a network delivers. A second one
/// keeps a verification of a millisecond or two from delaying another connection's tokens.
const DEFAULT_WORKERS: usize = 2;
/// More workers would not help.
pub const MAX_WORKERS: usize = 64;

static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());

fn shared() -> MutexGuard<'static, Weak<Runtime>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORKERS: AtomicUsize = AtomicUsize::new(DEFAULT_WORKERS);

thread_local! {
    /// The worker that runs on this thread.
    static HERE: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// The workers that all clients share.
#[derive(Default)]
pub struct Runtime {
    workers: Mutex<Vec<Worker>>,
}

/// Sets the number of workers of the next runtime. Fails while a runtime with another number
/// exists.
pub fn set_workers(count: usize) -> Result<()> {
    if !(1..=MAX_WORKERS).contains(&count) {
        let message = format!("worker_threads: {count}; the bounds are 1 and {MAX_WORKERS}");
        return Err(Error::new(Status::InvalidArgument, message));
    }
    let shared = shared();
    if shared.strong_count() > 0 && WORKERS.load(Ordering::Relaxed) != count {
        let message = "worker_threads: the runtime is running; set it before the first connection";
        return Err(Error::new(Status::Busy, message));
    }
    WORKERS.store(count, Ordering::Relaxed);
    Ok(())
}

impl Runtime {
    /// Returns the runtime of this process, and makes it if needed. Starts missing workers. One
    /// worker is enough: if the system refuses another one, the next call tries again.
    pub fn shared() -> Result<Arc<Runtime>> {
        let mut shared = shared();
        let runtime = shared.upgrade().unwrap_or_default();
        fill(&mut runtime.workers())?;
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task on the worker with the fewest tasks. A task that holds the runtime must drop it
    /// before it ends. Fails, and drops the task, if no worker lives and none can be started. A
    /// worker that dies drops its tasks too.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let seat = self.seat()?;
        #[cfg(test)]
        testing::chosen(self);
        seat.spawn(task);
        Ok(())
    }

    /// Runs a task on the calling worker, whose event loop has its socket.
    pub fn spawn_here(&self, task: impl Future<Output = ()> + Send + 'static) {
        let seat = HERE.with_borrow(Clone::clone);
        seat.expect("called by a task of a worker").spawn(task);
    }

    /// Runs `work` after `wait`, unless it is aborted before.
    pub fn after(
        &self,
        wait: Duration,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<AbortHandle> {
        let timer = async move {
            tokio::time::sleep(wait).await;
            work();
        };
        Ok(self.seat()?.spawn(timer))
    }

    /// Returns the worker with the fewest tasks.
    fn seat(&self) -> Result<Seat> {
        let mut workers = self.workers();
        if workers.iter().all(|worker| worker.stay.leaves()) {
            fill(&mut workers)?;
        }
        let alive = workers.iter().filter(|worker| !worker.stay.leaves());
        let least = alive.min_by_key(|worker| worker.seat.tasks.load(Ordering::Relaxed));
        let none = || {
            Error::new(
                Status::System,
                "no worker thread of the library is left to serve connections",
            )
        };
        least.map(|worker| worker.seat.clone()).ok_or_else(none)
    }
}

impl Drop for Runtime {
    /// Stops the workers and never waits: the last user may be one of their tasks.
    fn drop(&mut self) {
        let workers = std::mem::take(&mut *self.workers());
        if fork::in_child() {
            return std::mem::forget(workers); // its threads are not in this process
        }
        for worker in workers {
            worker.stay.leave();
        }
    }
}

/// Replaces dead workers and starts missing ones. Fails if no worker lives then.
fn fill(workers: &mut Vec<Worker>) -> Result<()> {
    workers.retain(|worker| !worker.stay.leaves());
    while workers.len() < WORKERS.load(Ordering::Relaxed) {
        match Worker::start() {
            Ok(worker) => workers.push(worker),
            Err(error) if workers.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(())
}

/// A worker thread. Dropping it stops the thread.
struct Worker {
    seat: Seat,
    stay: Stay,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// Starts a thread and waits until it has its event loop or failed to make one.
    fn start() -> Result<Worker> {
        let stay = Stay::default();
        let (stop, stopped) = oneshot::channel();
        let begun = Arc::new((Latch::default(), Mutex::new(None)));
        let (own_stay, own_begun) = (stay.clone(), begun.clone());
        threads::start(Kind::Worker, &stay, move || {
            let (latch, seat) = &*own_begun;
            let events = exit::draw_first().and_then(|()| Events::new());
            let own_seat = events.as_ref().map(Events::seat).map_err(Error::clone);
            HERE.set(own_seat.clone().ok());
            *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(own_seat);
            latch.set();
            if let Ok(events) = events {
                let _ = panics::catch(|| events.run(stopped));
                // If it died, this drops its tasks, and each reports that. Tasks that they start
                // run on other workers.
                own_stay.leave();
                HERE.take();
                drop(events);
            }
        })?;
        let (latch, seat) = &*begun;
        latch.wait(None);
        let seat = seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Worker {
            seat: seat.expect("it was set before the latch")?,
            stay,
            _stop: stop,
        })
    }
}

/// A handle for spawning tasks on a worker.
#[derive(Clone)]
struct Seat {
    events: Handle,
    tasks: Arc<AtomicUsize>,
}

impl Seat {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let counted = Counted::new(&self.tasks);
        let task = task.map(move |()| drop(counted));
        self.events.spawn(task).abort_handle()
    }
}

/// Counts a task until it ends or is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(tasks: &Arc<AtomicUsize>) -> Counted {
        tasks.fetch_add(1, Ordering::Relaxed);
        Counted(tasks.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One event loop. Its blocking threads are never used: tokio panics when the system refuses one.
struct Events(Option<tokio::runtime::Runtime>);

impl Events {
    /// Call it on the thread that will run it: tokio keeps a handle of that thread.
    fn new() -> Result<Events> {
        let build = || {
            Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
        };
        let what = "the system gave no event loop to serve connections";
        let died =
            |panic: Error| Error::new(Status::System, format!("{what}: {}", panic.message()));
        let built = panics::catch(build).map_err(died)?;
        let runtime = built.map_err(|e| Error::io(Status::System, what, &e))?;
        Ok(Events(Some(runtime)))
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }

    fn seat(&self) -> Seat {
        Seat {
            events: self.runtime().handle().clone(),
            tasks: Arc::default(),
        }
    }

    fn run(&self, stopped: oneshot::Receiver<()>) {
        let _ = self.runtime().block_on(stopped);
    }
}

impl Drop for Events {
    /// `shutdown_background` also works on a thread that runs another event loop.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until no thread of the library runs or until `deadline`. Returns whether none runs. While
/// a client lives, some do.
pub fn wait_for_threads(deadline: Option<Instant>) -> bool {
    threads::wait(Which::All, deadline)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static DEATHS: Cell<u32> = const { Cell::new(0) };
    }

    /// Each of the next `tasks` tasks that the calling thread starts is given to a worker that has
    /// just died.
    pub(crate) fn kill_chosen_workers(tasks: u32) {
        DEATHS.set(tasks);
    }

    /// A worker was chosen for a task, and does not have it yet.
    pub(super) fn chosen(runtime: &Runtime) {
        let Some(left) = DEATHS.get().checked_sub(1) else {
            return;
        };
        DEATHS.set(left);
        let stop = |worker: &mut Worker| {
            worker._stop = oneshot::channel().0;
            worker.stay.clone()
        };
        let stopped: Vec<Stay> = runtime.workers().iter_mut().map(stop).collect();
        for stay in stopped {
            stay.wait(None);
        }
    }
}
