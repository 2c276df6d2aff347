//! Connecting for the first time, as something to wait for and to cancel.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::client::Client;
use super::config::Config;
use super::inbox::{Inbox, Next, Signal, Weighted};
use super::meter::Meter;
use super::sinks::{Cancel, Sinks};
use crate::error::{Error, Result, Status};
use crate::host::{self, Callbacks, Runtime, Which};
use crate::lifecycle::{Lifecycle, News, Notice, Observer, QuestionKind, cancelled};
use crate::session::{Bounds, Stage};

/// Time that a failed attempt waits for its threads. They end at once, except for a name lookup that hangs
/// in the system, and for a callback that takes its time.
const LINGER: Duration = Duration::from_millis(100);

/// Time by which an outcome may be late: writing the key-set cache takes up to a second, and a busy
/// machine is slow. After that the worker counts as dead.
const GRACE: Duration = Duration::from_secs(5);

/// A client that connects for the first time. Dropping it cancels.
pub struct Connecting {
    outcome: Arc<Outcome>,
    life: Arc<Lifecycle>,
    limit: Duration,
    /// When the outcome is overdue.
    overdue: Instant,
}

struct Connected(Client);

impl Weighted for Connected {
    fn weight(&self) -> usize {
        0
    }
}

impl Connecting {
    /// Begins to connect. The configuration is read now and can be changed or dropped afterwards. `cancel`
    /// is shared with others. `store` gets the result before any callback runs.
    pub fn start<T>(
        config: &Config,
        cancel: Cancel,
        store: impl FnOnce(Connecting) -> T,
    ) -> Result<T> {
        config.check()?;
        let callbacks = OnceLock::new();
        if config.needs_callbacks() {
            let _ = callbacks.set(Callbacks::start()?);
        }
        let runtime = Runtime::shared()?;
        let result = Inbox::new(Bounds::default(), Arc::new(Meter::new(usize::MAX)), || ());
        let outcome = Arc::new(Outcome {
            result,
            stage: AtomicI32::new(Stage::Resolve as i32),
        });
        let (rules, token) = config.rules();
        let observer = Settler {
            outcome: outcome.clone(),
            sinks: callbacks.get().map(|thread| config.sinks(thread)),
        };
        let means = config.means(callbacks.get(), vec![Arc::new(observer)]);
        let life = Lifecycle::new(rules, token, means, runtime, callbacks);
        let limit = config.limits.connect;
        let stored = store(Connecting {
            outcome,
            life: life.clone(),
            limit,
            overdue: Instant::now() + limit + GRACE,
        });
        cancel.concerns(&life);
        life.start();
        Ok(stored)
    }

    /// Waits for the outcome until `deadline`; without one, for as long as the time limits allow. `None`: there
    /// is no outcome yet. The outcome is given out once; afterwards the answer is an error.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<Option<Client>> {
        let until = deadline.map_or(self.overdue, |deadline| deadline.min(self.overdue));
        match self.outcome.result.next(Some(until)) {
            Next::Item(Connected(client)) => Ok(Some(client)),
            Next::Empty if Instant::now() >= self.overdue => Err(self.late()),
            Next::Empty => Ok(None),
            Next::End(Err(error)) => Err(error),
            Next::End(Ok(())) | Next::Over => Err(Error::new(
                Status::InvalidArgument,
                "connecting: its result was already taken",
            )),
        }
    }

    /// Waits for the outcome, and after a failure for the threads that only this attempt needed: the caller
    /// gets no client to close.
    pub fn finish(self) -> Result<Client> {
        let outcome = self.wait(None);
        drop(self);
        if outcome.is_err() {
            host::wait(Which::Leaving, Some(Instant::now() + LINGER));
        }
        outcome?.ok_or_else(|| {
            Error::new(
                Status::Panic,
                "connecting ended without a result: a defect in libconfer",
            )
        })
    }

    /// The time limit is over, and the worker did not report it.
    fn late(&self) -> Error {
        let message = format!(
            "connecting: no result within {} ms, and the library's worker thread does not answer",
            self.limit.as_millis()
        );
        Error::new(Status::StageTimeout, message)
    }

    /// The stage that it is in, or was in when it ended.
    pub fn stage(&self) -> i32 {
        self.outcome.stage.load(Ordering::Relaxed)
    }

    /// Gives up. The outcome is then `Cancelled`, unless it was decided already.
    pub fn cancel(&self) {
        self.life.stop_connecting(cancelled());
    }

    /// Installs what is signalled when there is an outcome.
    pub fn set_signal(&self, signal: Arc<dyn Signal>) {
        self.outcome.result.set_signal(signal);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.cancel();
        self.outcome.result.discard(); // closes a client that nobody took
    }
}

/// The outcome of the first attempt, and the stage that it is in.
struct Outcome {
    result: Inbox<Connected>,
    stage: AtomicI32,
}

/// Sets the outcome, and passes news on to the callbacks.
struct Settler {
    outcome: Arc<Outcome>,
    sinks: Option<Sinks>,
}

impl Settler {
    fn settle(&self, outcome: Result<Client>) {
        let result = &self.outcome.result;
        let end = match outcome {
            Ok(client) => result.deliver(&mut vec![Connected(client)]),
            Err(error) => Err(error),
        };
        result.end(end); // only the first end counts
    }

    fn note(&self, client: &Lifecycle, news: &News<'_>) {
        let stage = &self.outcome.stage;
        match news {
            News::Notice(Notice::Stage(entered)) => {
                stage.store(*entered as i32, Ordering::Relaxed);
            }
            News::Asked(question) if matches!(question.kind, QuestionKind::Token(_)) => {
                stage.store(Stage::Token as i32, Ordering::Relaxed);
            }
            News::Notice(Notice::Connected { first: true, .. }) => {
                if let Some(client) = client.weak().upgrade() {
                    self.settle(Ok(Client::new(client)));
                }
            }
            News::Notice(Notice::Ended(error)) => self.settle(Err(error.clone())),
            _ => {}
        }
    }
}

impl Observer for Settler {
    fn notice(&self, client: &Lifecycle, news: &News<'_>) {
        // Whoever takes the client may close it at once, and with it the callback thread, which must still
        // report the end of the stages.
        let _hold = self.sinks.as_ref().map(|sinks| sinks.thread.hold());
        self.note(client, news);
        if let Some(sinks) = &self.sinks {
            sinks.notice(client, news);
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.settle(Err(Error::new(
            Status::System,
            "connecting ended early: the library's worker thread is gone",
        )));
    }
}
