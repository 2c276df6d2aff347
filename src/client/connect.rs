//! A client from its first stage to its last thread: connecting, which can be watched and cancelled; the verified
//! connection; closing.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::callbacks::{Callbacks, Hold};
use super::chat::{ChatStream, PreparedChat};
use super::config::Config;
use super::ending::{self, Which};
use super::latch::Latch;
use super::log::{Level, Log};
use super::runtime::Runtime;
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::panics;
use crate::session::{Inbox, Next, Session, Settings, Signal, Stage, Weighted, establish};

/// A wish to stop, from any thread; it holds for all that it was given to.
#[derive(Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Asks to stop. Never waits; asking again changes nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    async fn cancelled(&self) {
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}

/// How long a failed connection waits for its threads. They end at once, but for a name lookup that the system does not
/// let go of, and for a callback that takes its time.
const LINGER: Duration = Duration::from_millis(100);

/// A connection under way. Dropping it cancels.
pub struct Connecting {
    result: Arc<Inbox<Connected>>,
    stage: Arc<AtomicI32>,
    /// This attempt's own: the wish that an application shares between attempts is expressed by the application alone.
    cancel: Cancel,
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
        let settings = config.settings()?;
        let callbacks = OnceLock::new();
        if config.log.is_some() || config.stages.is_some() {
            let _ = callbacks.set(Callbacks::start()?);
        }
        let log = match (&config.log, callbacks.get()) {
            (Some((level, sink)), Some(thread)) => Log::new(*level, sink.clone(), thread.clone()),
            _ => Log::default(),
        };
        let watcher = Watcher {
            stage: Arc::new(AtomicI32::new(Stage::Resolve as i32)),
            log: log.clone(),
            stages: config.stages.clone().zip(callbacks.get().cloned()),
        };
        let runtime = Runtime::shared()?;
        // Whoever takes the client may close it at once, and with it the callback thread; but the end is still to be told.
        let hold = callbacks.get().map(|callbacks| callbacks.hold());
        let outcome = Outcome(Arc::new(Inbox::new(|| ())));
        let own = Cancel::default();
        let stored = store(Connecting {
            result: outcome.0.clone(),
            stage: watcher.stage.clone(),
            cancel: own.clone(),
        });
        let held = runtime.clone();
        runtime.spawn(async move {
            let attempt = connect(&settings, &watcher, held, callbacks, [&own, &cancel]);
            let result = panics::caught(attempt).await.and_then(|result| result);
            tell_outcome(&log, &settings, &result);
            if result.is_ok() {
                tokio::select! {
                    kept = settings.keys.kept() => if let Some(failure) = kept {
                        log.record(Level::Warn, "confer::connect", || failure);
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
        match self.result.next(deadline) {
            Next::Item(Connected(client)) => Ok(Some(client)),
            Next::Empty => Ok(None),
            Next::End(Err(error)) => Err(error),
            Next::End(Ok(())) | Next::Over => Err(Error::new(
                Status::InvalidArgument,
                "connecting: its outcome was taken before",
            )),
        }
    }

    /// Waits for the outcome, and after a failure for the threads that only this attempt needed: there will be no client
    /// to close.
    pub fn finish(self) -> Result<Client> {
        let outcome = self.wait(None);
        if outcome.is_err() {
            ending::wait(None, Some(Instant::now() + LINGER));
        }
        outcome?.ok_or_else(|| Error::new(Status::Panic, "connecting ended without an outcome"))
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
            Status::Panic,
            "connecting ended without an outcome",
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

fn tell_outcome(log: &Log, settings: &Settings, outcome: &Result<Client>) {
    match outcome {
        Ok(client) => log.record(Level::Info, "confer::connect", || {
            let release = &client.evidenced().report.release.image_version;
            let release = release.as_deref().unwrap_or("without a version");
            format!(
                "verified and connected: {}, release {release}",
                settings.endpoint
            )
        }),
        Err(error) => log.record(Level::Error, "confer::connect", || error.to_string()),
    }
}

async fn connect(
    settings: &Settings,
    watcher: &Watcher,
    runtime: Arc<Runtime>,
    callbacks: OnceLock<Arc<Callbacks>>,
    [own, shared]: [&Cancel; 2],
) -> Result<Client> {
    let watch = |stage| watcher.entered(stage);
    let cancelled = || Error::new(Status::Cancelled, "connecting was cancelled");
    let established = tokio::select! {
        biased;
        () = own.cancelled() => return Err(cancelled()),
        () = shared.cancelled() => return Err(cancelled()),
        established = establish(settings, &watch) => established?,
    };
    let evidenced = established.evidenced.clone();
    let (session, task) = Session::new(established, settings.limits);
    let ended = Arc::new(Latch::default());
    runtime.spawn({
        let ended = SetOnDrop(ended.clone());
        let (runtime, log) = (runtime.clone(), watcher.log.clone());
        async move {
            let end = task.await;
            log.record(Level::Info, "confer::session", || {
                format!("the connection ended: {end}")
            });
            // Order matters: whoever closes waits for `ended`, and then for the end of runtimes that were let go of.
            log.release();
            drop(runtime);
            drop(ended);
        }
    });
    let resources = Resources {
        runtime: Some(runtime),
        callbacks,
    };
    Ok(Client(Arc::new(Shared {
        session,
        evidenced,
        ended,
        resources: Mutex::new(resources),
    })))
}

/// Sets a latch however the task that owns it ends.
struct SetOnDrop(Arc<Latch>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A connection to a verified enclave. Clones share it; it closes when the last of them and of its streams is dropped.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    session: Session,
    evidenced: Arc<Evidenced>,
    /// The connection's task has ended.
    ended: Arc<Latch>,
    resources: Mutex<Resources>,
}

struct Resources {
    /// None once the client was closed.
    runtime: Option<Arc<Runtime>>,
    callbacks: OnceLock<Arc<Callbacks>>,
}

impl Client {
    fn resources(&self) -> MutexGuard<'_, Resources> {
        self.0
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection was trusted.
    pub fn evidenced(&self) -> &Arc<Evidenced> {
        &self.0.evidenced
    }

    /// Sends a chat and returns the stream of its events.
    pub fn chat(&self, chat: PreparedChat) -> Result<ChatStream> {
        if self.resources().runtime.is_none() {
            return Err(closed());
        }
        ChatStream::start(self.clone(), &self.0.session, chat)
    }

    /// The thread for callbacks, started when it is first needed, and held for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        let resources = self.resources();
        if resources.runtime.is_none() {
            return Err(closed());
        }
        let callbacks = match resources.callbacks.get() {
            Some(callbacks) => callbacks.clone(),
            None => {
                let callbacks = Callbacks::start()?;
                let _ = resources.callbacks.set(callbacks.clone());
                callbacks
            }
        };
        // Under the lock, and so before `close` looks at the thread.
        let hold = callbacks.hold();
        Ok((callbacks, hold))
    }

    /// Ends the connection and every stream, lets the callbacks finish, and ends the threads that only this client
    /// needed; until `deadline`. False: it goes on ending behind. It can be called again, also by several at once.
    pub fn close(&self, deadline: Option<Instant>) -> bool {
        self.0.session.close();
        // The connection's task holds the runtime as long as it needs it.
        let runtime = self.resources().runtime.take();
        drop(runtime);
        if !self.0.ended.wait(deadline) {
            return false;
        }
        let callbacks = self.resources().callbacks.get().cloned();
        if callbacks.is_some_and(|callbacks| !callbacks.join(deadline)) {
            return false;
        }
        ending::wait(Some(Which::Runtime), deadline)
    }

    /// Why the connection ended, if it has.
    pub fn end(&self) -> Option<Error> {
        self.0.session.end()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.session.close();
    }
}

fn closed() -> Error {
    Error::new(Status::Closed, "the client was closed")
}

/// A deadline from a wait in milliseconds; negative waits for ever.
pub fn deadline(timeout_ms: i64) -> Option<Instant> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).ok()?);
    Some(Instant::now() + wait.min(Duration::from_secs(u32::MAX.into())))
}
