//! Threads for work that waits for the system: name look-ups and files. Workers must not wait.
//!
//! Each kind of work has its own threads, up to a bound, so a name server that does not answer
//! delays no file. A thread starts with a job and ends after the last one. A system call cannot be
//! stopped: a cancelled job keeps its thread, and counts, until the call returns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::threads::{self, Kind, Stay};
use crate::error::{Error, Result, Status};
use crate::panics;

/// Name look-ups. More than a few run at once only if the name server is slow or silent; glibc
/// gives up after 10 to 30 s.
pub static LOOKUPS: Helpers = Helpers::new("name look-ups", 32);
/// Reads and writes of files.
pub static FILES: Helpers = Helpers::new("reads and writes of files", 8);

/// The threads for one kind of work.
pub struct Helpers {
    what: &'static str,
    most: usize,
    state: Mutex<State>,
}

struct State {
    threads: usize,
    queue: VecDeque<Job>,
    /// One entry for each running job, alive while a waiter exists.
    running: Vec<Weak<()>>,
}

impl State {
    /// The number of running jobs that nobody waits for.
    fn hanging(&self) -> usize {
        let hanging = self.running.iter().filter(|it| it.strong_count() == 0);
        hanging.count()
    }
}

struct Job {
    waiter: Weak<()>,
    work: Box<dyn FnOnce(Result<Running>) + Send>,
}

impl Job {
    fn given_up(&self) -> bool {
        self.waiter.strong_count() == 0
    }
}

/// Marks a job as running. Drop it before passing the result on.
pub struct Running {
    helpers: &'static Helpers,
    waiter: Weak<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = &mut self.helpers.state().running;
        if let Some(at) = running.iter().position(|it| it.ptr_eq(&self.waiter)) {
            running.swap_remove(at);
        }
    }
}

/// The future result of a job. Dropping it cancels the job.
pub struct Asked<T> {
    result: oneshot::Receiver<Result<T>>,
    _waiter: Arc<()>,
}

impl<T> Asked<T> {
    /// Waits for the result.
    pub async fn result(self) -> Result<T> {
        let lost = |_| {
            let message = "a helper thread of the library ended before its job";
            Err(Error::new(Status::System, message))
        };
        self.result.await.unwrap_or_else(lost)
    }
}

impl Helpers {
    const fn new(what: &'static str, most: usize) -> Helpers {
        Helpers {
            what,
            most,
            state: Mutex::new(State {
                threads: 0,
                queue: VecDeque::new(),
                running: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a helper thread. Returns its future result.
    pub fn ask<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Asked<T> {
        let waiter = Arc::new(());
        let (give, result) = oneshot::channel();
        self.run(&waiter, move |thread| {
            let done = thread.and_then(|running| {
                let done = panics::catch(work);
                drop(running);
                done?
            });
            let _ = give.send(done);
        });
        Asked {
            result,
            _waiter: waiter,
        }
    }

    /// Calls `work` on a helper thread. Calls it at once with an error if the system refuses the
    /// thread. Drops it without a call if `waiter` is dropped before its turn.
    pub fn run(
        &'static self,
        waiter: &Arc<()>,
        work: impl FnOnce(Result<Running>) + Send + 'static,
    ) {
        let job = Job {
            waiter: Arc::downgrade(waiter),
            work: Box::new(work),
        };
        if let Err((job, error)) = self.accept(job) {
            (job.work)(Err(error));
        }
    }

    /// Queues a job, and starts a thread unless all of them run.
    fn accept(&'static self, job: Job) -> std::result::Result<(), (Job, Error)> {
        let mut state = self.state();
        let given_up = drop_given_up(&mut state.queue);
        let hanging = state.hanging();
        if hanging >= self.most {
            drop(state);
            drop(given_up);
            return Err((job, self.hang(hanging)));
        }
        state.queue.push_back(job);
        if state.threads < self.most {
            match threads::start(Kind::Helper, &Stay::default(), || self.serve()) {
                Ok(()) => state.threads += 1,
                // Another thread takes the job when it has done its own.
                Err(_) if state.threads > hanging => {}
                Err(error) => {
                    let job = state.queue.pop_back().expect("it was pushed above");
                    return Err((job, error));
                }
            }
        }
        drop(state); // before the cancelled jobs: dropping them may call back into here
        drop(given_up);
        Ok(())
    }

    fn hang(&self, hanging: usize) -> Error {
        let message = format!(
            "{hanging} {} that were given up still hang in the system, which is the most that may; \
             try again when it has answered some",
            self.what
        );
        Error::new(Status::System, message)
    }

    /// Runs jobs until the queue is empty.
    fn serve(&'static self) {
        while let Some((job, running)) = self.next() {
            let _ = panics::catch(|| (job.work)(Ok(running)));
        }
    }

    fn next(&'static self) -> Option<(Job, Running)> {
        let mut state = self.state();
        let given_up = drop_given_up(&mut state.queue);
        let next = state.queue.pop_front();
        match &next {
            Some(job) => state.running.push(job.waiter.clone()),
            None => state.threads -= 1,
        }
        drop(state);
        drop(given_up);
        let job = next?;
        let running = Running {
            helpers: self,
            waiter: job.waiter.clone(),
        };
        Some((job, running))
    }
}

/// Takes out the jobs without a waiter. The caller drops them outside the lock.
fn drop_given_up(queue: &mut VecDeque<Job>) -> VecDeque<Job> {
    let (given_up, waited_for) = queue.drain(..).partition(Job::given_up);
    *queue = waited_for;
    given_up
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn cancelled_jobs_are_counted_and_bounded() {
        static TWO: Helpers = Helpers::new("tests", 2);
        let (began, begins) = mpsc::channel();
        let hang = || {
            let (release, released) = mpsc::channel::<()>();
            let began = began.clone();
            let asked = TWO.ask(move || {
                began.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            });
            begins.recv_timeout(SOON).unwrap();
            (release, asked)
        };
        let (one, two) = (hang(), hang());
        let waits = TWO.ask(|| Ok(7)); // both hang, but someone waits for them
        drop((one.1, two.1));
        let error = TWO.ask(|| Ok(8)).result.blocking_recv().unwrap();
        let error = error.unwrap_err();
        assert_eq!(error.status(), Status::System);
        assert!(error.retryable());
        assert!(error.message().starts_with("2 tests"), "{error}");

        drop(one.0); // the system answers one: its thread is free
        assert_eq!(waits.result.blocking_recv().unwrap().unwrap(), 7);
        let after = TWO.ask(|| Ok(9)).result.blocking_recv().unwrap();
        assert_eq!(after.unwrap(), 9);
        drop(two.0);
    }

    #[test]
    fn job_cancelled_before_its_turn_never_runs() {
        static ONE: Helpers = Helpers::new("tests", 1);
        let (release, released) = mpsc::channel::<()>();
        let first = ONE.ask(move || {
            let _ = released.recv();
            Ok(())
        });
        let (ran, runs) = mpsc::channel();
        drop(ONE.ask(move || {
            ran.send(()).unwrap();
            Ok(())
        }));
        drop(release);
        first.result.blocking_recv().unwrap().unwrap();
        let last = ONE.ask(|| Ok(())).result.blocking_recv().unwrap();
        last.unwrap();
        assert!(runs.try_recv().is_err());
    }
}
