//! The way of an application's requests to its verified enclave, over as many connections as that takes: one after the
//! other, each verified in full (`dial`), with the requests that wait in between.
//!
//! What was not sent when a connection broke is sent on the next one. What may have been sent is never repeated: its
//! stream is told how far it had come.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::change::Change;
use super::dial::{Cancel, Dialed, Dialer, cancelled};
use super::exchange::Exchange;
use super::tracked::{Job, KeptBytes, Tracked, Ways};
use crate::attestation::Evidenced;
use crate::error::{Error, Progress, Result, Status};
use crate::host::{Callbacks, Hold, Latch, Level, Runtime, watch};
use crate::lifecycle::policy::{Born, LOOK, Now, Reconnect, Renew};
use crate::net::Token;
use crate::session::{Bounds, Idle, Limits, Meter, Receiver, Request, Session, Stats, worker_gone};

const CONNECT: &str = "confer::connect";

/// Connections that end with their last request, beside the one in use; the oldest is closed for a further one.
const MAX_RETIRED: usize = 4;

/// A connection that lived for less counts as another failed attempt: a server that drops each one must not be dialled
/// in a loop.
const SETTLED: Duration = Duration::from_secs(10);

/// Counts what only a link knows.
#[derive(Default)]
pub struct Attempts {
    /// Connections that were made and verified.
    pub connected: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
}

/// What a client's handles, its connections' tasks and its requests share.
pub struct Link {
    this: Weak<Link>,
    limits: Limits,
    reconnect: Option<Reconnect>,
    renew: Renew,
    /// Of the policy, for the evidence's times.
    leeway: u64,
    provides_tokens: bool,
    /// How it ended, once every task of it has.
    pub ended: Arc<Latch>,
    /// Bytes of requests that are kept for the case that their token was refused.
    kept: Arc<AtomicUsize>,
    /// What its streams hold unread.
    pub meter: Arc<Meter>,
    /// What its connections count.
    pub stats: Arc<Stats>,
    /// What it counts itself.
    pub attempts: Attempts,
    /// The client has ended: an attempt that is under way does too.
    over: Cancel,
    /// The network changed, or someone needs a connection: the pause before an attempt ends.
    wake: Notify,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Why the connection is trusted; of the last one, once there is none.
    evidenced: Arc<Evidenced>,
    /// Counts the connections.
    serial: u64,
    /// An attempt to connect is under way.
    attempting: bool,
    /// Attempts that failed in a row, and connections that broke at once.
    failures: u32,
    /// Requests that wait for a connection, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    next: u64,
    /// Streams that wait for the application's tools.
    parked: Vec<Weak<dyn Parked>>,
    /// None once the client was closed.
    runtime: Option<Arc<Runtime>>,
    /// Connections whose place a newer one has taken, with their numbers: they end with their last request.
    retired: Vec<(u64, Session)>,
    /// What tasks need. Each keeps it; None once there will be no other task.
    kit: Option<Arc<Kit>>,
    /// Kept beyond the end of the client, so that closing can wait for it.
    callbacks: OnceLock<Arc<Callbacks>>,
}

impl State {
    /// Takes out the retired connections, with the one in use.
    fn sessions(&mut self) -> Vec<Session> {
        let retired = std::mem::take(&mut self.retired);
        let live = match &self.phase {
            Phase::Up(live) => Some(live.session.clone()),
            _ => None,
        };
        let retired = retired.into_iter().map(|(_, session)| session);
        live.into_iter().chain(retired).collect()
    }
}

enum Phase {
    Up(Live),
    /// Between two connections.
    Down,
    Over(Error),
}

impl Phase {
    /// There is a connection, and it has lived for a while.
    fn is_settled(&self) -> bool {
        matches!(self, Phase::Up(live) if live.born.age(Now::read()) >= SETTLED)
    }
}

struct Live {
    session: Session,
    serial: u64,
    born: Born,
    token: Token,
}

struct Waiting {
    job: Job,
    /// Only a connection with a greater number will do.
    after: u64,
    since: Instant,
}

impl Waiting {
    /// When it has waited for its idle limit.
    fn expires(&self, idle: &Idle) -> Instant {
        self.since + idle.of(self.job.request.pace)
    }
}

/// Whether a request has found its place; otherwise why not, and the request.
type Placed = std::result::Result<(), Box<(Error, Job)>>;

/// A stream between two exchanges.
pub trait Parked: Send + Sync {
    /// The client was closed.
    fn end(&self, error: Error);
}

/// What a link's tasks need, the application's callbacks among it. The last task to go says that all have ended.
struct Kit {
    dialer: Option<Dialer>,
    ended: Arc<Latch>,
}

impl Kit {
    fn dialer(&self) -> &Dialer {
        self.dialer.as_ref().expect("it goes with its last owner")
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if let Some(dialer) = self.dialer.take() {
            dialer.release();
        }
        self.ended.set();
    }
}

/// Keeps a link open. It closes when its keeper goes.
pub struct Keeper(Arc<Link>);

impl Keeper {
    /// Keeps `link`.
    pub fn new(link: Arc<Link>) -> Keeper {
        Keeper(link)
    }

    /// What it keeps.
    pub fn link(&self) -> &Link {
        &self.0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Link {
    /// A link over its first connection.
    pub fn new(
        dialer: Dialer,
        dialed: Dialed,
        runtime: Arc<Runtime>,
        callbacks: OnceLock<Arc<Callbacks>>,
    ) -> Arc<Link> {
        let ended = Arc::new(Latch::default());
        let link = Arc::new_cyclic(|this| Link {
            this: this.clone(),
            limits: dialer.settings.limits,
            kept: Arc::default(),
            meter: Arc::new(Meter::new(dialer.settings.limits.bounds.client)),
            reconnect: dialer.reconnect,
            renew: dialer.renew,
            leeway: dialer.settings.verifier.policy().leeway(),
            provides_tokens: dialer.provider.is_some(),
            stats: Arc::default(),
            attempts: Attempts::default(),
            over: Cancel::default(),
            wake: Notify::new(),
            state: Mutex::new(State {
                phase: Phase::Down,
                evidenced: dialed.established.evidenced.clone(),
                serial: 0,
                attempting: false,
                failures: 0,
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                next: 0,
                retired: Vec::new(),
                parked: Vec::new(),
                runtime: Some(runtime),
                kit: Some(Arc::new(Kit {
                    dialer: Some(dialer),
                    ended: ended.clone(),
                })),
                callbacks,
            }),
            ended,
        });
        link.install(dialed);
        link
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of a caller runs under the lock, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- requests -----------------------------------------------------------------------------------------------------

    /// Sends a request, or lets it wait for a connection. If this fails, the receiver was told so.
    pub fn request(
        &self,
        request: Request,
        exchange: Arc<Exchange>,
        receiver: Box<dyn Receiver>,
    ) -> Result<()> {
        let mut state = self.state();
        if state.runtime.is_none() {
            drop(state);
            receiver.refuse(closed());
            return Err(closed());
        }
        let kept = match self.keep(&request) {
            Ok(kept) => kept,
            Err(error) => {
                drop(state);
                receiver.refuse(error.clone());
                return Err(error);
            }
        };
        let order = state.next;
        state.next += 1;
        let link = self.this.clone();
        let receiver = Tracked::new(link, order, &request, &exchange, receiver, kept);
        let job = Job {
            order,
            request,
            exchange,
            receiver: Box::new(receiver),
        };
        let sent = self.send(&mut state, job, 0);
        drop(state);
        sent.map_err(|refused| {
            let (error, job) = *refused;
            job.receiver.refuse(error.clone());
            error
        })
    }

    /// Where a fresh token can help, a request is kept beyond its sending, until it is answered: so that is bounded too.
    fn keep(&self, request: &Request) -> Result<Option<KeptBytes>> {
        if !self.provides_tokens() {
            return Ok(None);
        }
        let (len, most) = (request.body.len(), self.limits.bounds.unsent);
        let kept = KeptBytes::count(&self.kept, len, most).ok_or_else(|| {
            let message = format!(
                "too many requests: at most {most} bytes of them are kept until they are answered"
            );
            Error::new(Status::TooMany, message)
        })?;
        Ok(Some(kept))
    }

    fn send(&self, state: &mut State, job: Job, after: u64) -> Placed {
        if job.exchange.cancelled() {
            return Err(Box::new((cancelled(), job)));
        }
        let mut after = after;
        match &state.phase {
            Phase::Over(error) => {
                let error = error.clone().with_progress(Progress::NotSent);
                return Err(Box::new((error, job)));
            }
            Phase::Up(live) if live.serial > after => {
                let (session, serial) = (live.session.clone(), live.serial);
                if !self.renew.due(&live.born, Now::read()) {
                    let token = live.token.clone();
                    return match place(&session, serial, &token, job) {
                        // It broke, and its end is on its way here.
                        Err(refused) if session.end().is_some() && self.reconnects() => {
                            self.wait(state, refused.1, serial)
                        }
                        placed => placed,
                    };
                }
                if !self.reconnects() {
                    session.end_with(expired()); // its end comes here by the way of all ends
                    return Err(Box::new((expired(), job)));
                }
                after = serial;
            }
            Phase::Up(_) | Phase::Down => {}
        }
        let order = job.order;
        self.wait(state, job, after)?;
        if let Err(error) = self.connect(state)
            && let Some(waiting) = state.waiting.remove(&order)
        {
            state.waiting_bytes -= waiting.job.request.body.len();
            return Err(Box::new((error, waiting.job)));
        }
        Ok(())
    }

    fn wait(&self, state: &mut State, job: Job, after: u64) -> Placed {
        let len = job.request.body.len();
        let bounds = &self.limits.bounds;
        if state.waiting.len() >= bounds.requests || state.waiting_bytes + len > bounds.unsent {
            let message = format!(
                "too many requests: {} of them, with {} bytes, wait for a connection",
                state.waiting.len(),
                state.waiting_bytes
            );
            return Err(Box::new((Error::new(Status::TooMany, message), job)));
        }
        if job.exchange.leave(job.order) {
            return Err(Box::new((cancelled(), job)));
        }
        state.waiting_bytes += len;
        let since = Instant::now();
        let waiting = Waiting { job, after, since };
        state.waiting.insert(waiting.job.order, waiting);
        Ok(())
    }

    /// A stream is between two exchanges: it is told if the client is closed.
    pub fn park(&self, stream: Weak<dyn Parked>) {
        let mut state = self.state();
        if state.runtime.is_some() {
            let other = |parked: &Weak<dyn Parked>| !Weak::ptr_eq(parked, &stream);
            state
                .parked
                .retain(|parked| parked.strong_count() > 0 && other(parked));
            return state.parked.push(stream);
        }
        drop(state);
        if let Some(stream) = stream.upgrade() {
            stream.end(closed());
        }
    }

    /// A handle that does not keep it.
    pub fn weak(&self) -> Weak<Link> {
        self.this.clone()
    }

    /// Ends a request that waits.
    pub fn drop_waiting(&self, exchange: &Arc<Exchange>) {
        let mut state = self.state();
        let order = exchange.order();
        let Some(waiting) = order.and_then(|order| state.waiting.remove(&order)) else {
            return;
        };
        state.waiting_bytes -= waiting.job.request.body.len();
        drop(state);
        waiting.job.receiver.refuse(cancelled());
    }

    // --- connections --------------------------------------------------------------------------------------------------

    /// Takes a new connection into use, and sends what waits.
    fn install(&self, dialed: Dialed) {
        let Dialed { established, token } = dialed;
        let evidenced = established.evidenced.clone();
        let (session, task) = Session::new(established, self.limits, self.stats.clone());
        count(&self.attempts.connected);
        let mut state = self.state();
        state.attempting = false;
        let (Some(runtime), Some(kit)) = (state.runtime.clone(), state.kit.clone()) else {
            return; // the client was closed meanwhile, and the session goes with its handle
        };
        let release_changed =
            state.evidenced.report.manifest_sha256 != evidenced.report.manifest_sha256;
        state.serial += 1;
        let serial = state.serial;
        let live = Live {
            session: session.clone(),
            serial,
            born: Born {
                at: Now::read(),
                // As long as the verification itself would hold.
                evidence_ends: evidenced
                    .report
                    .expires_at
                    .map(|at| at.saturating_add(self.leeway)),
                token_ends: token.ends().filter(|_| self.provides_tokens),
            },
            token: token.clone(),
        };
        let mut look_in = self.renew.left(&live.born, Now::read());
        state.evidenced = evidenced.clone();
        let old = std::mem::replace(&mut state.phase, Phase::Up(live));
        if let Phase::Up(old) = old {
            old.session.retire();
            state.retired.push((old.serial, old.session));
            if state.retired.len() > MAX_RETIRED {
                let message = "the request ran on an old connection that was closed after newer ones had replaced it";
                let oldest = state.retired.remove(0).1;
                oldest.end_with(Error::new(Status::Expired, message));
            }
        }
        let mut failed = Vec::new();
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_bytes = 0;
        for (order, waiting) in waiting {
            if waiting.after >= serial {
                state.waiting_bytes += waiting.job.request.body.len();
                state.waiting.insert(order, waiting);
            } else if waiting.job.exchange.cancelled() {
                failed.push((cancelled(), waiting.job));
            } else if let Err(refused) = place(&session, serial, &token, waiting.job) {
                failed.push(*refused);
            }
        }
        let this = self.this.clone();
        let mut task_end = TaskEnd {
            link: this.clone(),
            serial,
            why: worker_gone(),
            runtime: Some(runtime.clone()),
            kit: kit.clone(),
        };
        runtime.spawn_here(async move {
            let mut task = std::pin::pin!(task);
            let end = loop {
                let Some(wait) = look_in else {
                    break task.await;
                };
                tokio::select! {
                    end = &mut task => break end,
                    () = tokio::time::sleep(wait.min(LOOK)) => {
                        look_in = this.upgrade().and_then(|link| link.look(serial));
                    }
                }
            };
            task_end.why = end;
            drop(task_end);
        });
        if serial > 1 {
            kit.dialer().log.record(Level::Info, CONNECT, || {
                format!("verified and connected again: connection {serial}")
            });
            kit.dialer().tell(Change::Connected {
                evidenced,
                release_changed,
            });
        }
        drop(state);
        for (error, job) in failed {
            job.receiver.refuse(error);
        }
    }

    /// Replaces a connection whose time has come. When to look again, if at all.
    fn look(&self, serial: u64) -> Option<Duration> {
        let mut state = self.state();
        let Phase::Up(live) = &state.phase else {
            return None;
        };
        if live.serial != serial {
            return None;
        }
        let left = self.renew.left(&live.born, Now::read())?;
        if left > Duration::ZERO {
            return Some(left);
        }
        if self.reconnects() {
            let _ = self.connect(&mut state);
            return Some(LOOK); // it may fail
        }
        live.session.end_with(expired());
        None
    }

    /// A connection has ended.
    fn broke(&self, serial: u64, why: Error, dialer: &Dialer) {
        dialer.log.record(Level::Info, "confer::session", || {
            format!("the connection ended: {why}")
        });
        let mut state = self.state();
        state.retired.retain(|(retired, _)| *retired != serial);
        let current = matches!(&state.phase, Phase::Up(live) if live.serial == serial);
        if !current {
            return; // a retired one
        }
        match state.phase.is_settled() {
            true => state.failures = 0,
            // The first one is no attempt.
            false => state.failures += u32::from(serial > 1),
        }
        let most = self.reconnect.map_or(0, |reconnect| reconnect.attempts);
        if state.failures >= most || !why.retryable() {
            let waiting = self.end(&mut state, why);
            drop(state);
            return waiting.tell();
        }
        state.phase = Phase::Down;
        dialer.tell(Change::Lost(why));
        if let Err(error) = self.connect(&mut state) {
            let waiting = self.without_attempt(&mut state, error);
            drop(state);
            waiting.tell();
        }
    }

    /// No attempt could begin. If that can pass, the client stays without a connection, and the next request tries again.
    #[must_use]
    fn without_attempt(&self, state: &mut State, error: Error) -> Told {
        if !error.retryable() {
            return self.end(state, error);
        }
        state.waiting_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        Told { waiting, error }
    }

    /// Begins to connect, unless that is under way. Fails if there is no worker for it.
    fn connect(&self, state: &mut State) -> Result<()> {
        if state.attempting {
            return Ok(());
        }
        let (Some(runtime), Some(kit), Some(this)) = (
            state.runtime.clone(),
            state.kit.clone(),
            self.this.upgrade(),
        ) else {
            return Ok(());
        };
        if state.phase.is_settled() {
            state.failures = 0; // those of long ago
        }
        let hold = state.callbacks.get().map(|callbacks| callbacks.hold());
        let held = runtime.clone();
        let again = this.clone();
        let (watched, starting) = watch(move || again.attempt_again());
        runtime.spawn(async move {
            let attempt = crate::panics::caught(this.attempt(kit.dialer())).await;
            if let Err(panic) = attempt {
                this.give_up(panic);
            }
            watched.done();
            drop((this, hold));
            drop(held);
            drop(kit);
        })?;
        if !starting.started() {
            return Err(worker_gone());
        }
        state.attempting = true;
        Ok(())
    }

    /// The worker died during an attempt: that counts as a failed one.
    fn attempt_again(&self) {
        let mut state = self.state();
        state.attempting = false;
        state.failures += 1;
        let most = self.reconnect.map_or(0, |reconnect| reconnect.attempts);
        if state.failures >= most {
            drop(state);
            return self.give_up(worker_gone());
        }
        if let Err(error) = self.connect(&mut state) {
            let waiting = self.without_attempt(&mut state, error);
            drop(state);
            waiting.tell();
        }
    }

    /// Connects until there is a connection, or until that is hopeless.
    async fn attempt(&self, dialer: &Dialer) {
        let mut asked: Option<Duration> = None;
        loop {
            let (number, before, replacing) = {
                let state = self.state();
                let replacing = match &state.phase {
                    Phase::Up(live) => live.session.end().is_none(),
                    Phase::Down => false,
                    Phase::Over(_) => return,
                };
                (state.failures + 1, state.evidenced.clone(), replacing)
            };
            let pause = self.pause(number, replacing).max(asked.unwrap_or_default());
            dialer.log.record(Level::Info, CONNECT, || {
                let pause = pause.as_millis();
                format!("connecting again in {pause} ms, attempt {number}")
            });
            dialer.tell(Change::Attempt { number, pause });
            let dialed = tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                never = self.expire_waiting() => match never {},
                dialed = async {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.wake.notified() => {}
                    }
                    dialer.dial(Some(&before), &|_| ()).await
                } => dialed,
            };
            let error = match dialed {
                Ok(dialed) => return self.install(dialed),
                Err(error) => error,
            };
            count(&self.attempts.failed);
            dialer.log.record(Level::Warn, CONNECT, || {
                format!("attempt {number} failed: {error}")
            });
            dialer.tell(Change::Failed(error.clone()));
            asked = error.retry_delay();
            let mut state = self.state();
            state.failures += 1;
            let most = self.reconnect.map_or(0, |reconnect| reconnect.attempts);
            if state.failures >= most || !error.retryable() {
                drop(state);
                return self.give_up(error);
            }
        }
    }

    /// Ends requests that have waited for as long as one may be silent, whenever there is one.
    async fn expire_waiting(&self) -> Infallible {
        let idle = self.limits.idle;
        loop {
            let now = Instant::now();
            let (expired, next) = {
                let mut state = self.state();
                let expired: Vec<u64> = state
                    .waiting
                    .iter()
                    .filter(|(_, waiting)| now >= waiting.expires(&idle))
                    .map(|(order, _)| *order)
                    .collect();
                let expired: Vec<Waiting> = expired
                    .into_iter()
                    .filter_map(|order| state.waiting.remove(&order))
                    .collect();
                for waiting in &expired {
                    state.waiting_bytes -= waiting.job.request.body.len();
                }
                // A request that comes meanwhile expires no earlier than this.
                let coming = now + idle.events.min(idle.pieces);
                let waiting = state.waiting.values();
                let next = waiting.map(|waiting| waiting.expires(&idle)).min();
                (expired, next.map_or(coming, |next| next.min(coming)))
            };
            for waiting in expired {
                let pace = waiting.job.request.pace;
                let (limit, setting) = (idle.of(pace).as_millis(), pace.limit_name());
                let message = format!(
                    "the request waited {limit} ms for a connection, its idle limit, and got none \
                     ({setting})"
                );
                waiting
                    .job
                    .receiver
                    .refuse(Error::new(Status::StreamIdle, message));
            }
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// The pause before an attempt. A connection that only replaces one is not waited for.
    fn pause(&self, number: u32, replacing: bool) -> Duration {
        match self.reconnect {
            Some(reconnect) if number > 1 || !replacing => reconnect.pause(number, dice()),
            _ => Duration::ZERO,
        }
    }

    /// There will be no new connection. Where the old one still works, only those who need a new one are told.
    fn give_up(&self, error: Error) {
        let mut state = self.state();
        state.attempting = false;
        state.failures = 0;
        let usable = match &state.phase {
            // Kept although it may be due: requests do not go there then, and what is under way comes to its end.
            Phase::Up(_) => error.retryable(),
            Phase::Down => false,
            Phase::Over(_) => return,
        };
        // A later look, or the next request that needs one, tries again.
        if usable {
            let waiting = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
            drop(state);
            return Told { waiting, error }.tell();
        }
        let sessions = state.sessions();
        let waiting = self.end(&mut state, error.clone());
        drop(state);
        sessions.iter().for_each(|it| it.end_with(error.clone()));
        waiting.tell();
    }

    /// The client has ended: nothing more is sent.
    #[must_use]
    fn end(&self, state: &mut State, error: Error) -> Told {
        if !matches!(state.phase, Phase::Over(_)) {
            if let Some(kit) = &state.kit {
                kit.dialer().tell(Change::Ended(error.clone()));
            }
            state.phase = Phase::Over(error.clone());
        }
        self.over.cancel();
        state.attempting = false;
        state.waiting_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        state.kit = None; // the tasks that still run keep theirs
        Told { waiting, error }
    }

    fn reconnects(&self) -> bool {
        self.reconnect.is_some()
    }

    /// Whether there can be a connection with a fresh token.
    fn provides_tokens(&self) -> bool {
        self.provides_tokens && self.reconnects()
    }

    // --- the application ----------------------------------------------------------------------------------------------

    /// The application says that the network changed: the connection is probed, or made again without a pause.
    pub fn network_changed(&self) {
        let state = self.state();
        match &state.phase {
            Phase::Up(live) => live.session.probe(),
            Phase::Down => self.wake.notify_one(),
            Phase::Over(_) => {}
        }
    }

    /// Why the connection, or the last one, was trusted.
    pub fn evidenced(&self) -> Arc<Evidenced> {
        self.state().evidenced.clone()
    }

    /// Why the client ended, if it has.
    pub fn end_error(&self) -> Option<Error> {
        match &self.state().phase {
            Phase::Over(error) => Some(error.clone()),
            Phase::Up(live) if !self.reconnects() => live.session.end(),
            _ => None,
        }
    }

    /// Whether there is a connection now.
    pub fn connected(&self) -> bool {
        matches!(&self.state().phase, Phase::Up(live) if live.session.end().is_none())
    }

    /// The thread for callbacks, started when it is first needed, and held for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        let state = self.state();
        if state.runtime.is_none() {
            return Err(closed());
        }
        let callbacks = match state.callbacks.get() {
            Some(callbacks) => callbacks.clone(),
            None => {
                let callbacks = Callbacks::start()?;
                let _ = state.callbacks.set(callbacks.clone());
                callbacks
            }
        };
        // Under the lock, and so before `close` looks at the thread.
        let hold = callbacks.hold();
        Ok((callbacks, hold))
    }

    /// The bounds of its memory.
    pub fn bounds(&self) -> Bounds {
        self.limits.bounds
    }

    /// The runtime, for what is done beside the connections.
    pub fn runtime(&self) -> Result<Arc<Runtime>> {
        let state = self.state();
        state.runtime.clone().ok_or_else(closed)
    }

    /// Ends the connection and every request. The threads go when the tasks have ended.
    pub fn close(&self) {
        self.meter.close();
        let mut state = self.state();
        let sessions = state.sessions();
        let waiting = self.end(&mut state, closed());
        let runtime = state.runtime.take();
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        let parked = parked.iter().filter_map(Weak::upgrade);
        parked.for_each(|stream| stream.end(closed()));
        sessions.iter().for_each(Session::close);
        waiting.tell();
        drop(runtime);
    }

    /// The client's callback thread, if it has one.
    pub fn callback_thread(&self) -> Option<Arc<Callbacks>> {
        self.state().callbacks.get().cloned()
    }
}

impl Ways for Link {
    fn again(&self, job: Job, after: u64) {
        let mut state = self.state();
        if let Err(refused) = self.send(&mut state, job, after) {
            drop(state);
            let (error, job) = *refused;
            job.receiver.refuse(error);
        }
    }

    fn token_was_refused(&self, token: &Token, now: u64) {
        let kit = self.state().kit.clone();
        if let Some(kit) = kit {
            kit.dialer().note_refused_request(token, now);
        }
    }

    fn reconnects(&self) -> bool {
        Link::reconnects(self)
    }

    fn provides_tokens(&self) -> bool {
        Link::provides_tokens(self)
    }
}

/// Tells the link that a connection's task has ended, also if its worker died.
struct TaskEnd {
    link: Weak<Link>,
    serial: u64,
    why: Error,
    runtime: Option<Arc<Runtime>>,
    kit: Arc<Kit>,
}

impl Drop for TaskEnd {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            link.broke(self.serial, self.why.clone(), self.kit.dialer());
        }
        // Before the kit: whoever closes waits for the tasks' end, and then for workers that are not needed any more.
        self.runtime = None;
    }
}

/// Requests that end unsent. They are told outside the lock: what they do then is not the link's to know.
struct Told {
    waiting: BTreeMap<u64, Waiting>,
    error: Error,
}

impl Told {
    fn tell(self) {
        for waiting in self.waiting.into_values() {
            let error = self.error.clone().with_progress(Progress::NotSent);
            waiting.job.receiver.refuse(error);
        }
    }
}

/// Gives a request to a connection.
fn place(session: &Session, serial: u64, token: &Token, job: Job) -> Placed {
    let Job {
        order,
        request,
        exchange,
        receiver,
    } = job;
    exchange
        .place(session, serial, token, || {
            session.request(request, receiver)
        })
        .map_err(|refused| {
            let (error, request, receiver) = *refused;
            let exchange = exchange.clone();
            let job = Job {
                order,
                request,
                exchange,
                receiver,
            };
            Box::new((error, job))
        })
}

/// From 0 to 1.
fn dice() -> f64 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn expired() -> Error {
    Error::new(
        Status::Expired,
        "the connection reached its maximum age, or its evidence expired, and reconnecting is off",
    )
}

/// How what an application asks of a closed client ends.
pub fn closed() -> Error {
    Error::new(Status::Closed, "the client was closed")
}
