//! Connecting for the first time, which can be watched and cancelled.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::client::Client;
use super::config::Config;
use crate::error::{Error, Result, Status};
use crate::host::{self, Callbacks, Level, Log, Runtime, Which};
use crate::link::{Cancel, Dialed, Dialer, Link, cancelled};
use crate::panics;
use crate::session::{Bounds, Inbox, Meter, Next, Signal, Stage, Weighted};

/// How long a failed connection waits for its threads. They end at once, but for a name lookup that the system does not
/// let go of, and for a callback that takes its time.
const LINGER: Duration = Duration::from_millis(100);

/// How much later than the time limit an outcome may come: writing the key-set cache takes up to a second, and a busy
/// machine its time. After that the worker is taken for dead.
const GRACE: Duration = Duration::from_secs(5);

/// A connection under way. Dropping it cancels.
pub struct Connecting {
    result: Arc<Inbox<Connected>>,
    stage: Arc<AtomicI32>,
    /// This attempt's own: the wish that an application shares between attempts is expressed by the application alone.
    cancel: Cancel,
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
    /// Begins to connect. The configuration is read now and can be changed or dropped afterwards. `cancel` is a wish
    /// that others can express. What connects is given to `store` before it does anything, and so before any callback.
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
        let dialer = config.dialer(callbacks.get());
        let log = dialer.log.clone();
        let watcher = Watcher {
            stage: Arc::new(AtomicI32::new(Stage::Resolve as i32)),
            log: log.clone(),
            stages: config.stages.clone().zip(callbacks.get().cloned()),
        };
        let runtime = Runtime::shared()?;
        // Whoever takes the client may close it at once, and with it the callback thread; but the end is still to be told.
        let hold = callbacks.get().map(|callbacks| callbacks.hold());
        let outcome = Outcome(Arc::new(Inbox::new(
            Bounds::default(),
            Arc::new(Meter::new(usize::MAX)),
            || (),
        )));
        let own = Cancel::default();
        let limit = dialer.settings.limits.connect;
        let stored = store(Connecting {
            result: outcome.0.clone(),
            stage: watcher.stage.clone(),
            cancel: own.clone(),
            limit,
            overdue: Instant::now() + limit + GRACE,
        });
        let held = runtime.clone();
        // If there is no worker any more, the outcome is dropped with the task, and says so.
        let _ = runtime.spawn(async move {
            let keys = dialer.settings.keys.clone();
            // Boxed, because the application's thread, whose stack may be small, moves this task a few times.
            let work = connect(dialer, &watcher, held, callbacks, [&own, &cancel]);
            let result = Box::pin(work).await;
            if result.is_ok() {
                tokio::select! {
                    kept = keys.kept() => if let Some(failure) = kept {
                        log.record(Level::Warn, "confer::keys", || failure);
                    },
                    () = own.cancelled() => {}
                    () = cancel.cancelled() => {}
                }
            }
            outcome.set(result);
            watcher.end();
            log.release();
            drop(hold);
        });
        Ok(stored)
    }

    /// Waits for the outcome until `deadline`; without one, for as long as the time limits allow. `None`: not yet. The
    /// outcome is given out once; afterwards the answer is an error.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<Option<Client>> {
        let until = deadline.map_or(self.overdue, |deadline| deadline.min(self.overdue));
        match self.result.next(Some(until)) {
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

    /// Waits for the outcome, and after a failure for the threads that only this attempt needed: there will be no client
    /// to close.
    pub fn finish(self) -> Result<Client> {
        let outcome = self.wait(None);
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

    /// The time limit is over, and the worker did not say so.
    fn late(&self) -> Error {
        let message = format!(
            "connecting: no result within {} ms, and the library's worker thread does not answer",
            self.limit.as_millis()
        );
        Error::new(Status::StageTimeout, message)
    }

    /// The stage that it is in, or was in when it ended.
    pub fn stage(&self) -> i32 {
        self.stage.load(Ordering::Relaxed)
    }

    /// Gives up. The outcome is then `Cancelled`, unless it was decided already.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Installs what is told when there is an outcome.
    pub fn set_signal(&self, signal: Arc<dyn Signal>) {
        self.result.set_signal(signal);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.cancel();
        self.result.discard(); // a client that nobody took is closed
    }
}

/// Where the outcome goes. It comes to an end however the task that owns it does.
struct Outcome(Arc<Inbox<Connected>>);

impl Outcome {
    fn set(self, result: Result<Client>) {
        let end = match result {
            Ok(client) => self.0.deliver(&mut vec![Connected(client)]),
            Err(error) => Err(error),
        };
        self.0.end(end);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // Only the first end counts.
        self.0.end(Err(Error::new(
            Status::System,
            "connecting ended early: the library's worker thread is gone",
        )));
    }
}

struct Watcher {
    stage: Arc<AtomicI32>,
    log: Log,
    stages: Option<(super::config::StageSink, Arc<Callbacks>)>,
}

impl Watcher {
    fn entered(&self, stage: Stage) {
        self.stage.store(stage as i32, Ordering::Relaxed);
        self.log.record(Level::Debug, "confer::connect", || {
            format!("stage {}", stage.name())
        });
        self.tell(Some(stage));
    }

    fn tell(&self, stage: Option<Stage>) {
        if let Some((sink, callbacks)) = &self.stages {
            let sink = sink.clone();
            callbacks.post(move || sink(stage));
        }
    }

    fn end(self) {
        self.log.release();
        if let Some((sink, callbacks)) = self.stages {
            callbacks.post(move || sink(None));
        }
    }
}

fn tell_outcome(dialer: &Dialer, outcome: &Result<Dialed>) {
    let log = &dialer.log;
    match outcome {
        Ok(dialed) => log.record(Level::Info, "confer::connect", || {
            let report = &dialed.established.evidenced.report;
            let release = report.release.image_version.as_deref();
            let release = release.unwrap_or("without a version");
            let endpoint = &dialer.settings.endpoint;
            format!("verified and connected: {endpoint}, release {release}")
        }),
        Err(error) => log.record(Level::Error, "confer::connect", || error.to_string()),
    }
}

async fn connect(
    dialer: Dialer,
    watcher: &Watcher,
    runtime: Arc<Runtime>,
    callbacks: OnceLock<Arc<Callbacks>>,
    [own, shared]: [&Cancel; 2],
) -> Result<Client> {
    let watch = |stage| watcher.entered(stage);
    let attempt = async {
        tokio::select! {
            biased;
            () = own.cancelled() => Err(cancelled()),
            () = shared.cancelled() => Err(cancelled()),
            dialed = dialer.dial(None, &watch) => dialed,
        }
    };
    let dialed = panics::caught(attempt).await.and_then(|dialed| dialed);
    tell_outcome(&dialer, &dialed);
    match dialed {
        Ok(dialed) => Ok(Client::new(Link::new(dialer, dialed, runtime, callbacks))),
        Err(error) => {
            dialer.release();
            Err(error)
        }
    }
}
