//! Does what the core of a client's life asks for, and reports the results to it.
//!
//! Every input takes the client's one lock, changes the core, and then works off the core's actions
//! in order. Only one thread does that at a time: the others leave their actions to it. Code that
//! may call back into the client (the ends of requests, observers) runs outside the lock.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::core::{
    Action, AttemptId, Connected, ConnectionId, Core, Ended, Notice, Phase, Question, RequestId,
    Rules, TokenAnswer, closed,
};
use super::observer::{News, Observer};
use super::policy::Now;
use super::request::{Counted, Exchange, Job, Parts};
use super::tasks::{self, Dial, Means};
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Hold, Latch, Level, Runtime};
use crate::net::Token;
use crate::panics;
use crate::session::{Bounds, Limits, Receiver, Request, Session, Stage, Stats};

/// Counters of a client that its connections do not have.
#[derive(Default)]
pub struct Attempts {
    /// Verified connections.
    pub connected: AtomicU64,
    /// Attempts to connect again that failed.
    pub failed: AtomicU64,
}

/// A client: what its handles, tasks and requests share.
pub struct Lifecycle {
    this: Weak<Lifecycle>,
    limits: Limits,
    reconnects: bool,
    /// Keeps requests until their answer: a fresh token can help a refused one.
    keeps_requests: bool,
    /// Bytes of requests that have not left.
    unsent: Arc<AtomicUsize>,
    /// Bytes of requests kept until their answer.
    kept: Arc<AtomicUsize>,
    /// Set when the client and all its tasks have ended.
    pub ended: Arc<Latch>,
    /// Counters of its connections.
    pub stats: Arc<Stats>,
    pub attempts: Attempts,
    /// Wakes the timer: the core has something to do earlier.
    pub(super) earlier: Arc<Notify>,
    state: Mutex<State>,
    /// The phase has changed.
    changed: Condvar,
}

struct State {
    core: Core,
    /// The phase that waiting threads know.
    phase: Phase,
    /// A thread works off the actions.
    acting: bool,
    /// Observers that come and go.
    watches: Vec<Weak<dyn Observer>>,
    /// Those that have not seen the present state yet.
    new_watches: Vec<Arc<dyn Observer>>,
    /// When the timer's task looks at the core, if it runs.
    timer: Option<Instant>,
    dials: BTreeMap<AttemptId, Dial>,
    connections: BTreeMap<ConnectionId, Session>,
    requests: HashMap<RequestId, Place>,
    last_request: RequestId,
    /// The question that is open.
    question: Option<Question>,
    /// Streams that wait for the application's tools.
    parked: Vec<Weak<dyn Parked>>,
    /// `None` once the client was closed.
    runtime: Option<Arc<Runtime>>,
    /// Tasks keep it too. `None` once no further task begins.
    means: Option<Arc<Means>>,
    /// Kept beyond the end of the client, so that closing can wait for it.
    callbacks: OnceLock<Arc<Callbacks>>,
}

/// The place of a request.
enum Place {
    /// It is on no connection.
    Here(Job),
    /// It is on this connection, which has given it a number.
    On { connection: ConnectionId, id: i64 },
}

/// A stream between two requests.
pub trait Parked: Send + Sync {
    /// The client was closed.
    fn end(&self, error: Error);
}

impl Lifecycle {
    /// A client that does nothing yet: see [`Lifecycle::start`].
    pub fn new(
        rules: Rules,
        token: Option<Token>,
        means: Means,
        runtime: Arc<Runtime>,
        callbacks: OnceLock<Arc<Callbacks>>,
    ) -> Arc<Lifecycle> {
        let limits = means.settings.limits;
        let reconnects = rules.reconnect.is_some();
        let keeps_requests = reconnects && rules.asks_token;
        Arc::new_cyclic(|this| Lifecycle {
            this: this.clone(),
            limits,
            reconnects,
            keeps_requests,
            unsent: Arc::default(),
            kept: Arc::default(),
            ended: means.ended.clone(),
            stats: Arc::default(),
            attempts: Attempts::default(),
            earlier: Arc::default(),
            state: Mutex::new(State {
                core: Core::new(rules, token, seed(), Now::read()),
                phase: Phase::Connecting,
                acting: false,
                watches: Vec::new(),
                new_watches: Vec::new(),
                timer: None,
                dials: BTreeMap::new(),
                connections: BTreeMap::new(),
                requests: HashMap::new(),
                last_request: 0,
                question: None,
                parked: Vec::new(),
                runtime: Some(runtime),
                means: Some(Arc::new(means)),
                callbacks,
            }),
            changed: Condvar::new(),
        })
    }

    /// Begins to connect.
    pub fn start(&self) {
        self.act(self.state());
    }

    /// A handle that does not keep the client.
    pub fn weak(&self) -> Weak<Lifecycle> {
        self.this.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of a caller runs under the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the core an input, then works off its actions.
    fn input<T>(&self, input: impl FnOnce(&mut Core, Now) -> T) -> T {
        let mut state = self.state();
        let given = input(&mut state.core, Now::read());
        self.act(state);
        given
    }

    // --- requests -------------------------------------------------------------------------------

    /// Sends a request, or lets it wait for a connection. If this fails, the receiver gets the
    /// error too.
    pub fn request(
        &self,
        request: Request,
        exchange: &Exchange,
        receiver: Box<dyn Receiver>,
    ) -> Result<()> {
        let mut state = self.state();
        let (pace, admitted) = (request.pace, self.admit(&state, request));
        let id = state.last_request + 1;
        let parts = match admitted.and_then(|parts| exchange.enter(id).map(|()| parts)) {
            Ok(parts) => parts,
            Err(error) => {
                drop(state);
                receiver.refuse(error.clone());
                return Err(error);
            }
        };
        state.last_request = id;
        let parts = Some(parts);
        let job = Job { receiver, parts };
        state.requests.insert(id, Place::Here(job));
        let patience = self.limits.idle.of(pace);
        state.core.submit(id, patience, Now::read());
        self.act(state);
        Ok(())
    }

    /// Counts a request, or says why it is refused.
    fn admit(&self, state: &State, request: Request) -> Result<Parts> {
        if let Some(error) = self.end_of(state) {
            return Err(error);
        }
        let Bounds {
            requests, unsent, ..
        } = self.limits.bounds;
        let too_many = |message| Error::new(Status::TooMany, message);
        if state.requests.len() >= requests {
            let message = format!("the client already has {requests} open requests, its limit");
            return Err(too_many(message));
        }
        let len = request.body.len();
        let waiting = Counted::new(&self.unsent, len, unsent).ok_or_else(|| {
            too_many(format!(
                "{unsent} bytes of requests at most wait to be sent, and this one has {len}"
            ))
        })?;
        let kept = match self.keeps_requests {
            false => None,
            true => Some(Counted::new(&self.kept, len, unsent).ok_or_else(|| {
                too_many(format!(
                    "{unsent} bytes of requests at most are kept until they are answered, and this one has {len}"
                ))
            })?),
        };
        Ok(Parts::new(request, waiting, kept))
    }

    /// Cancels the request that `request` names, under the lock.
    pub(super) fn cancel(&self, request: impl FnOnce() -> RequestId) {
        let mut state = self.state();
        let request = request();
        state.core.cancel(request);
        self.act(state);
    }

    /// Called when the reader of a request's answer has made room.
    pub(super) fn resume(&self, request: RequestId) {
        let state = self.state();
        if let Some(Place::On { connection, .. }) = state.requests.get(&request)
            && let Some(session) = state.connections.get(connection)
        {
            session.downgrade().resume();
        }
    }

    /// Takes back a request that has ended on its connection.
    pub(super) fn came_back(&self, id: RequestId, job: Job, result: Result<()>, lost: bool) {
        let mut state = self.state();
        let ended = Ended {
            result,
            lost,
            repeatable: job.is_repeatable(),
        };
        state.requests.insert(id, Place::Here(job));
        state.core.request_ended(id, ended, Now::read());
        self.act(state);
    }

    /// Registers a stream between two requests: a close of the client ends it.
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

    // --- attempts and connections ---------------------------------------------------------------

    pub(super) fn entered(&self, attempt: AttemptId, stage: Stage) {
        self.input(|core, _| core.entered(attempt, stage));
    }

    pub(super) fn verified(&self, attempt: AttemptId, evidenced: Arc<Evidenced>) {
        self.input(|core, now| core.verified(attempt, evidenced, now));
    }

    pub(super) fn attempt_failed(&self, attempt: AttemptId, error: Error) {
        let mut state = self.state();
        state.dials.remove(&attempt);
        state.core.attempt_failed(attempt, error, Now::read());
        self.act(state);
    }

    /// An attempt made a connection. `None`: nobody wants it any more.
    pub(super) fn connected(
        &self,
        attempt: AttemptId,
        session: &Session,
        evidenced: Arc<Evidenced>,
    ) -> Option<ConnectionId> {
        let mut state = self.state();
        state.dials.remove(&attempt);
        let connected = Connected { attempt, evidenced };
        let connection = state.core.connected(connected, Now::read())?;
        count(&self.attempts.connected);
        state.connections.insert(connection, session.clone());
        self.act(state);
        Some(connection)
    }

    /// A connection has ended, after its requests.
    pub(super) fn lost(&self, connection: ConnectionId, why: Error, means: &Means) {
        means.log.record(Level::Info, "confer::session", || {
            format!("the connection ended: {why}")
        });
        let mut state = self.state();
        // Dropped outside the lock: it may hold requests, which come back here.
        let session = state.connections.remove(&connection);
        state.core.connection_lost(connection, why, Now::read());
        self.act(state);
        drop(session);
    }

    /// Acts on what is due, and says when to look again.
    pub(super) fn tick(&self) -> Option<Instant> {
        let mut state = self.state();
        state.timer = None;
        state.core.tick(Now::read());
        // This task looks again, so no other one is started.
        state.timer = state.core.poll_timeout();
        let timer = state.timer;
        self.act(state);
        timer
    }

    /// The timer's task has ended.
    pub(super) fn timer_ended(&self) {
        let mut state = self.state();
        state.timer = None;
        self.act(state);
    }

    // --- actions --------------------------------------------------------------------------------

    /// Works off the core's actions, unless another thread does.
    fn act<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.acting {
            return;
        }
        state.acting = true;
        // Whoever waits for the client's end also waits for these actions.
        let means = state.means.clone();
        loop {
            let work = match panics::catch(|| self.next_work(&mut state)) {
                Ok(Some(work)) => work,
                Ok(None) => break,
                Err(_) if state.core.phase() == Phase::Ended => break,
                Err(panic) => {
                    state.core.fail(panic);
                    continue;
                }
            };
            drop(state);
            let _ = panics::catch(work);
            state = self.state();
        }
        state.acting = false;
        let phase = state.core.phase();
        if state.phase != phase {
            state.phase = phase;
            self.changed.notify_all();
        }
        drop(state);
        drop(means);
    }

    /// Performs actions up to one that has work outside the lock, which it returns. `None`: all is
    /// done, and the timer is set.
    fn next_work(&self, state: &mut State) -> Option<Box<dyn FnOnce() + '_>> {
        loop {
            while let Some(action) = state.core.poll_action() {
                if let Some(work) = self.perform(state, action) {
                    return Some(work);
                }
            }
            if let Some(watch) = state.new_watches.pop() {
                return Some(self.introduce(state, watch));
            }
            let Err(error) = self.set_timer(state) else {
                return None;
            };
            // Without a thread nothing can be waited for.
            state.core.finish_waiting(&error);
            if state.core.poll_timeout().is_some() {
                state.core.fail(error);
            }
        }
    }

    /// Tells a new observer the present state.
    fn introduce(&self, state: &mut State, watch: Arc<dyn Observer>) -> Box<dyn FnOnce() + '_> {
        state.watches.retain(|watch| watch.strong_count() > 0);
        state.watches.push(Arc::downgrade(&watch));
        let (present, question) = (state.core.present(), state.question.clone());
        Box::new(move || {
            for notice in &present {
                watch.notice(self, &News::Notice(notice));
            }
            if let Some(question) = &question {
                watch.notice(self, &News::Asked(question));
            }
        })
    }

    /// Passes news to the observers, outside the lock.
    fn telling<'a>(
        &'a self,
        state: &State,
        means: Arc<Means>,
        tell: impl Fn(&dyn Fn(&News<'_>)) + 'a,
    ) -> Option<Box<dyn FnOnce() + 'a>> {
        let watches: Vec<_> = state.watches.iter().filter_map(Weak::upgrade).collect();
        Some(Box::new(move || {
            tell(&|news| {
                means.tell(self, news);
                for watch in &watches {
                    watch.notice(self, news);
                }
            });
        }))
    }

    /// Performs an action. Returns the part of it that must run outside the lock.
    fn perform(&self, state: &mut State, action: Action) -> Option<Box<dyn FnOnce() + '_>> {
        match action {
            Action::Dial { attempt, token } => self.dial(state, attempt, token),
            Action::Approve { attempt } => {
                state.dials.get_mut(&attempt)?.approve();
                None
            }
            Action::Abort { attempt } => {
                let dial = state.dials.remove(&attempt);
                Some(Box::new(move || drop(dial)))
            }
            Action::Send {
                request,
                connection,
                again,
            } => self.send(state, request, connection, again),
            Action::Cancel { request } => {
                if let Some(Place::On { connection, id }) = state.requests.get(&request)
                    && let Some(session) = state.connections.get(connection)
                {
                    session.cancel(*id);
                }
                None
            }
            Action::Finish { request, result } => {
                let Some(Place::Here(job)) = state.requests.remove(&request) else {
                    return None;
                };
                Some(Box::new(move || job.receiver.end(result)))
            }
            Action::Probe { connection } => {
                state.connections.get(&connection)?.probe();
                None
            }
            Action::Retire { connection } => {
                state.connections.get(&connection)?.retire();
                None
            }
            Action::Close { connection, why } => {
                state.connections.get(&connection)?.end_with(why);
                None
            }
            Action::Ask(question) => {
                state.question = Some(question.clone());
                let means = state.means.clone()?;
                self.telling(state, means, move |tell| tell(&News::Asked(&question)))
            }
            Action::Withdraw { question } => {
                state.question = None;
                let means = state.means.clone()?;
                self.telling(state, means, move |tell| tell(&News::Over(question)))
            }
            Action::Notify(notice) => {
                // After the end no task begins.
                let means = match &notice {
                    Notice::Ended(_) => state.means.take()?,
                    _ => state.means.clone()?,
                };
                if matches!(notice, Notice::Failed(_)) && self.was_connected() {
                    count(&self.attempts.failed);
                }
                self.telling(state, means, move |tell| tell(&News::Notice(&notice)))
            }
        }
    }

    fn dial(
        &self,
        state: &mut State,
        attempt: AttemptId,
        token: Token,
    ) -> Option<Box<dyn FnOnce() + '_>> {
        let (runtime, means) = (state.runtime.clone()?, state.means.clone()?);
        let hold = state.callbacks.get().map(|callbacks| callbacks.hold());
        let (dial, orders) = Dial::new();
        state.dials.insert(attempt, dial);
        Some(Box::new(move || {
            let began = tasks::dial(self.weak(), attempt, token, orders, runtime, means, hold);
            if let Err(error) = began {
                self.attempt_failed(attempt, error);
            }
        }))
    }

    fn send(
        &self,
        state: &mut State,
        request: RequestId,
        connection: ConnectionId,
        again: bool,
    ) -> Option<Box<dyn FnOnce() + '_>> {
        let Some(Place::Here(job)) = state.requests.remove(&request) else {
            return None;
        };
        let Some(session) = state.connections.get(&connection) else {
            // It broke between the core's decision and this.
            let message = "connection lost before the request was sent";
            let error = Error::new(Status::ConnectionLost, message);
            return Some(Box::new(move || {
                self.came_back(request, job, Err(error), true);
            }));
        };
        let boarded = job.board(self.weak(), request, session.downgrade(), again);
        let (message, carrier) = boarded?;
        match session.request(message, carrier) {
            Ok(id) => {
                let place = Place::On { connection, id };
                state.requests.insert(request, place);
                None
            }
            Err(refused) => {
                let (error, _, receiver) = *refused;
                Some(Box::new(move || receiver.refuse(error)))
            }
        }
    }

    /// Makes the timer's task call the core in time.
    fn set_timer(&self, state: &mut State) -> Result<()> {
        let Some(due) = state.core.poll_timeout() else {
            return Ok(());
        };
        if state.timer.is_some_and(|set| set <= due) {
            return Ok(());
        }
        let Some(runtime) = &state.runtime else {
            return Ok(());
        };
        if state.timer.is_none() {
            let start = || tasks::timer(self.weak(), self.earlier.clone(), runtime);
            start().or_else(|_| start())?; // a worker may die just now
        } else {
            self.earlier.notify_one();
        }
        state.timer = Some(due);
        Ok(())
    }

    // --- the application ------------------------------------------------------------------------

    /// The application says that the network changed: probes the connection, or connects without a
    /// pause.
    pub fn network_changed(&self) {
        self.input(|core, now| core.network_changed(now));
    }

    /// Answers a token question. Fails if it is over.
    pub fn answer_token(&self, question: u64, answer: TokenAnswer) -> Result<()> {
        self.input(|core, now| core.answer_token(question, answer, now))
    }

    /// Answers a release question. Fails if it is over.
    pub fn answer_release(&self, question: u64, accept: bool) -> Result<()> {
        self.input(|core, now| core.answer_release(question, accept, now))
    }

    /// Gives a fresh token unasked.
    pub fn set_token(&self, token: Token) {
        self.input(|core, now| core.set_token(token, now));
    }

    /// Adds an observer, which first receives the present state. The client does not keep it.
    pub fn watch(&self, watch: Arc<dyn Observer>) {
        let mut state = self.state();
        state.new_watches.push(watch);
        self.act(state);
    }

    /// Waits until the client is connected, or until `deadline`. Returns whether it is. Fails with
    /// the client's error if it ends.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut state = self.state();
        loop {
            if let Some(error) = self.end_of(&state) {
                return Err(error);
            }
            if state.core.phase() == Phase::Connected {
                return Ok(true);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Ends a client that has not connected yet.
    pub fn stop_connecting(&self, why: Error) {
        self.input(|core, _| {
            if core.phase() == Phase::Connecting {
                core.fail(why);
            }
        });
    }

    /// Why the connection in use, or the last one, was trusted.
    pub fn evidenced(&self) -> Option<Arc<Evidenced>> {
        self.state().core.evidenced().cloned()
    }

    /// Whether there was a connection at any time.
    pub fn was_connected(&self) -> bool {
        self.attempts.connected.load(Ordering::Relaxed) > 0
    }

    /// The client's state.
    pub fn phase(&self) -> Phase {
        self.state().core.phase()
    }

    /// The error with which the client ended.
    pub fn end_error(&self) -> Option<Error> {
        self.end_of(&self.state())
    }

    fn end_of(&self, state: &State) -> Option<Error> {
        if let Some(error) = state.core.end_error() {
            return Some(error.clone());
        }
        // The end of the only connection may still be on its way here.
        let current = state.core.current().filter(|_| !self.reconnects)?;
        state.connections.get(&current)?.end()
    }

    /// The client's bounds.
    pub fn bounds(&self) -> Bounds {
        self.limits.bounds
    }

    /// The runtime. Fails once the client was closed.
    pub fn runtime(&self) -> Result<Arc<Runtime>> {
        self.state().runtime.clone().ok_or_else(closed)
    }

    /// The thread for callbacks, started at first use, and held for the caller.
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

    /// The client's callback thread, if it has one.
    pub fn callback_thread(&self) -> Option<Arc<Callbacks>> {
        self.state().callbacks.get().cloned()
    }

    /// Ends the client and every request. The threads go when the tasks have ended.
    pub fn close(&self) {
        let mut state = self.state();
        state.core.close();
        let runtime = state.runtime.take();
        let parked = std::mem::take(&mut state.parked);
        self.act(state);
        let parked = parked.iter().filter_map(Weak::upgrade);
        parked.for_each(|stream| stream.end(closed()));
        self.earlier.notify_one(); // ends the timer's task
        drop(runtime);
    }
}

/// Spreads the pauses of many clients.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
