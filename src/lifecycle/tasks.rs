//! The tasks of a client: an attempt to connect, a connection, and a timer.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::core::{AttemptId, ConnectionId, Notice, cancelled};
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Hold, Latch, Level, Log, Runtime, watch};
use crate::net::Token;
use crate::panics;
use crate::session::{Approved, Established, Session, Settings, Stage, Stats, verify, worker_gone};

const CONNECT: &str = "confer::connect";

/// Receives the reports of a client's tasks.
pub(super) trait Reports: Send + Sync {
    /// An attempt entered a stage of connecting.
    fn entered(&self, attempt: AttemptId, stage: Stage);
    /// An attempt verified an enclave. It waits until [`Dial::approve`] is called.
    fn verified(&self, attempt: AttemptId, evidenced: Arc<Evidenced>);
    fn attempt_failed(&self, attempt: AttemptId, error: Error);
    /// Whether the client makes its first connection.
    fn is_first(&self) -> bool;
    /// An attempt made a connection. `None`: the attempt is over, so drop the connection.
    fn connected(
        &self,
        attempt: AttemptId,
        session: &Session,
        evidenced: Arc<Evidenced>,
    ) -> Option<ConnectionId>;
    /// A connection has ended, after its requests.
    fn lost(&self, connection: ConnectionId, why: Error);
    /// Acts on what is due, and returns the next deadline.
    fn tick(&self) -> Option<Instant>;
    /// The timer's task has ended.
    fn timer_ended(&self);
}

/// Everything that a client's tasks need. The last task to end drops it, which reports that the
/// client has ended.
pub struct Means {
    pub settings: Settings,
    pub log: Log,
    /// The thread on which `log` is dropped: it owns the application's data.
    pub callbacks: Option<Arc<Callbacks>>,
    pub stats: Arc<Stats>,
    pub ended: Arc<Latch>,
}

impl Means {
    /// Writes a notice to the log. `was_connected`: the client had a connection at any time.
    pub(super) fn record(&self, notice: &Notice, was_connected: bool) {
        let log = &self.log;
        match notice {
            Notice::Stage(stage) => {
                log.record(Level::Debug, CONNECT, || format!("stage {}", stage.name()));
            }
            Notice::Connected {
                evidenced, first, ..
            } => log.record(Level::Info, CONNECT, || {
                let release = evidenced.report.release.image_version.as_deref();
                let release = release.unwrap_or("without a version");
                let again = if *first { "" } else { " again" };
                let endpoint = &self.settings.endpoint;
                format!("verified and connected{again}: {endpoint}, release {release}")
            }),
            Notice::Attempt {
                number,
                delay,
                error,
            } => {
                if let Some(error) = error.as_ref().filter(|_| !was_connected) {
                    log.record(Level::Warn, CONNECT, || format!("attempt failed: {error}"));
                }
                log.record(Level::Info, CONNECT, || {
                    let delay = delay.as_millis();
                    format!("connecting again in {delay} ms, attempt {number}")
                });
            }
            Notice::Failed(error) if was_connected => {
                log.record(Level::Warn, CONNECT, || format!("attempt failed: {error}"));
            }
            Notice::Ended(error) if !was_connected => {
                log.record(Level::Error, CONNECT, || error.to_string());
            }
            Notice::Failed(_) | Notice::Ended(_) | Notice::Disconnected(_) => {}
        }
    }
}

impl Drop for Means {
    fn drop(&mut self) {
        let log = std::mem::take(&mut self.log);
        if let Some(callbacks) = self.callbacks.take() {
            callbacks.post(move || drop(log));
        }
        self.ended.set();
    }
}

/// The driver's hold on an attempt. Dropping it ends the attempt.
pub(super) struct Dial {
    approve: Option<oneshot::Sender<Approved>>,
    _stop: oneshot::Sender<()>,
}

/// The attempt's side of [`Dial`].
pub(super) struct Orders {
    approved: oneshot::Receiver<Approved>,
    stopped: oneshot::Receiver<()>,
}

impl Dial {
    pub(super) fn new() -> (Dial, Orders) {
        let (approve, approved) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let dial = Dial {
            approve: Some(approve),
            _stop: stop,
        };
        (dial, Orders { approved, stopped })
    }

    /// Lets the attempt complete its handshake.
    pub(super) fn approve(&mut self, approved: Approved) {
        if let Some(approve) = self.approve.take() {
            let _ = approve.send(approved);
        }
    }
}

/// Starts an attempt to connect. It reports to the client.
pub(super) fn dial(
    client: Weak<dyn Reports>,
    attempt: AttemptId,
    token: Token,
    orders: Orders,
    runtime: Arc<Runtime>,
    means: Arc<Means>,
    hold: Option<Hold>,
) -> Result<()> {
    let lost = client.clone();
    let (watched, starting) = watch(move || {
        if let Some(client) = lost.upgrade() {
            client.attempt_failed(attempt, ended_early());
        }
    });
    let held = runtime.clone();
    runtime.spawn(async move {
        let Orders { approved, stopped } = orders;
        // Boxed: the application's thread, whose stack may be small, moves this task a few times.
        let work = Box::pin(connect(&client, &means, attempt, &token, approved));
        let outcome = panics::caught(async {
            tokio::select! {
                biased;
                _ = stopped => None,
                outcome = work => Some(outcome),
            }
        });
        match outcome.await {
            Ok(Some(Ok(established))) => serve(&client, attempt, established, &held, &means),
            Ok(Some(Err(error))) | Err(error) => {
                if let Some(client) = client.upgrade() {
                    client.attempt_failed(attempt, error);
                }
            }
            Ok(None) => {}
        }
        watched.done();
        drop(hold);
        // Before `means`: a close waits for its end, and then for workers without a user.
        drop(held);
        drop(means);
    })?;
    match starting.started() {
        true => Ok(()),
        false => Err(ended_early()),
    }
}

/// The end of an attempt whose worker died.
fn ended_early() -> Error {
    let message = "connecting ended early: the library's worker thread is gone";
    Error::new(Status::System, message)
}

/// Connects and verifies, waits for the approval, and completes the handshake.
async fn connect(
    client: &Weak<dyn Reports>,
    means: &Means,
    attempt: AttemptId,
    token: &Token,
    approved: oneshot::Receiver<Approved>,
) -> Result<Established> {
    let settings = &means.settings;
    let limit = settings.limits.connect;
    let watch = |stage: Stage| {
        if let Some(client) = client.upgrade() {
            client.entered(attempt, stage);
        }
    };
    let overdue = |_| {
        let message = format!("connecting: no result within {} ms", limit.as_millis());
        Error::new(Status::StageTimeout, message)
    };
    let began = Instant::now();
    let verified = tokio::time::timeout(limit, verify(settings, token, &watch)).await;
    let proven = verified.map_err(overdue)??;
    let left = limit.saturating_sub(began.elapsed());
    if let Some(client) = client.upgrade() {
        client.verified(attempt, proven.evidenced().clone());
    }
    // The limit does not count this wait: a question has its own limit.
    let approved = approved.await.map_err(|_| cancelled())?;
    let completed = tokio::time::timeout(left, proven.complete(approved)).await;
    let established = completed.map_err(overdue)??;
    // The first connection is reported when its key set is in the cache file, for the next process.
    let first = client.upgrade().is_some_and(|client| client.is_first());
    if first && let Some(failure) = settings.keys.kept().await {
        means.log.record(Level::Warn, "confer::keys", || failure);
    }
    Ok(established)
}

/// Puts a new connection to use: starts its task on this worker, whose event loop has its socket.
fn serve(
    client: &Weak<dyn Reports>,
    attempt: AttemptId,
    established: Established,
    runtime: &Arc<Runtime>,
    means: &Arc<Means>,
) {
    let Some(owner) = client.upgrade() else {
        return;
    };
    let evidenced = established.evidenced.clone();
    let (session, task) = Session::new(established, means.settings.limits, means.stats.clone());
    let Some(connection) = owner.connected(attempt, &session, evidenced) else {
        return;
    };
    let mut end = ConnectionEnd {
        client: client.clone(),
        connection,
        why: worker_gone(),
        runtime: Some(runtime.clone()),
        means: means.clone(),
    };
    // Boxed: otherwise the task keeps a second place for it, because `await` moves it.
    let task = Box::pin(task);
    runtime.spawn_here(async move {
        end.why = task.await;
        drop(end);
    });
}

/// Reports the end of a connection, even if its worker died.
struct ConnectionEnd {
    client: Weak<dyn Reports>,
    connection: ConnectionId,
    why: Error,
    runtime: Option<Arc<Runtime>>,
    means: Arc<Means>,
}

impl Drop for ConnectionEnd {
    fn drop(&mut self) {
        if let Some(client) = self.client.upgrade() {
            let why = self.why.clone();
            self.means.log.record(Level::Info, "confer::session", || {
                format!("the connection ended: {why}")
            });
            client.lost(self.connection, why);
        }
        // Before `means`, as in `dial`.
        self.runtime = None;
    }
}

/// Starts the timer, which runs while the core has a deadline.
pub(super) fn timer(
    client: Weak<dyn Reports>,
    earlier: Arc<Notify>,
    runtime: &Runtime,
) -> Result<()> {
    let lost = client.clone();
    let (watched, starting) = watch(move || {
        if let Some(client) = lost.upgrade() {
            client.timer_ended();
        }
    });
    let tick = move || client.upgrade().and_then(|client| client.tick());
    runtime.spawn(async move {
        while let Some(due) = tick() {
            wait(due, &earlier).await;
        }
        watched.done();
    })?;
    match starting.started() {
        true => Ok(()),
        false => Err(worker_gone()),
    }
}

async fn wait(due: Instant, earlier: &Notify) {
    tokio::select! {
        () = tokio::time::sleep_until(due.into()) => {}
        () = earlier.notified() => {}
    }
}
