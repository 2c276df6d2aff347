//! Does what the core of a client's life asks for, and reports the results to it.
//!
//! Every input takes the client's one lock, changes the core, and then performs the core's actions
//! in order. Only one thread does that at a time: the others leave their actions to it. Code that
//! may call back into the client (the ends of requests, observers) runs outside the lock.
//!
//! ```text
//! mod           the client's state, and the reports of requests, attempts and connections
//! actions       what the core asks for
//! application   the calls of an application
//! ```

mod actions;
mod application;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::core::{
    AttemptId, Connected, ConnectionId, Core, Ended, Phase, Question, RequestId, Rules, closed,
};
use super::observer::Observer;
use super::policy::Now;
use super::request::{Counted, Exchange, Job, Owner, Parts};
use super::tasks::{Dial, Means, Reports};
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Latch, Runtime};
use crate::net::Token;
use crate::random;
use crate::session::{Bounds, Limits, MAX_BODY, Receiver, Request, Session, Stage, Stats};

/// Counters of a client that its connections do not have.
#[derive(Default)]
pub struct Attempts {
    /// Verified connections.
    pub connected: AtomicU64,
    /// Attempts to connect again that failed.
    pub failed: AtomicU64,
}

/// The state that a client's handles, tasks and requests share.
pub struct Lifecycle {
    this: Weak<Lifecycle>,
    limits: Limits,
    /// Bytes of requests that were not sent.
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
    /// A thread performs the actions.
    acting: bool,
    /// Observers, which may be dropped at any time.
    watches: Vec<Weak<dyn Observer>>,
    /// Those that have not seen the present state yet.
    new_watches: Vec<Arc<dyn Observer>>,
    /// The time at which the timer's task calls the core, if it runs.
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
    callbacks: Option<Arc<Callbacks>>,
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
        callbacks: Option<Arc<Callbacks>>,
    ) -> Arc<Lifecycle> {
        let limits = means.settings.limits;
        Arc::new_cyclic(|this| Lifecycle {
            this: this.clone(),
            limits,
            unsent: Arc::default(),
            kept: Arc::default(),
            ended: means.ended.clone(),
            stats: means.stats.clone(),
            attempts: Attempts::default(),
            earlier: Arc::default(),
            state: Mutex::new(State {
                core: Core::new(rules, token, random::seed(), Now::read()),
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

    /// Gives the core an input, then performs its actions.
    fn input<T>(&self, input: impl FnOnce(&mut Core, Now) -> T) -> T {
        let mut state = self.state();
        let given = input(&mut state.core, Now::read());
        self.act(state);
        given
    }

    /// Creates the handle of a request that was not sent yet.
    pub fn exchange(&self) -> Exchange {
        Exchange::new(self.weak())
    }

    /// Sends a request, or lets it wait for a connection. If this fails, the receiver gets the
    /// error too.
    pub fn request(
        &self,
        request: Request,
        exchange: &Exchange,
        receiver: Box<dyn Receiver>,
    ) -> Result<()> {
        let mut state = self.state();
        let pace = request.pace;
        let id = state.last_request + 1;
        let admitted = self.admit(&state, &request, exchange.began());
        let admitted = match admitted.and_then(|counted| exchange.enter(id).map(|()| counted)) {
            Ok(admitted) => admitted,
            Err(error) => {
                drop(state);
                receiver.end(Err(error.clone()));
                return Err(error);
            }
        };
        state.last_request = id;
        let job = Job {
            receiver,
            parts: Some(Parts::new(request, admitted.kept)),
            unsent: Some(admitted.unsent),
        };
        state.requests.insert(id, Place::Here(job));
        let patience = self.limits.idle.of(pace);
        state.core.submit(id, patience, Now::read());
        self.act(state);
        Ok(())
    }

    /// Counts a request, or says why it is refused. No later place refuses one for a limit.
    /// `goes_on`: its stream had a request before, so that the limits do not refuse this one.
    fn admit(&self, state: &State, request: &Request, goes_on: bool) -> Result<Admitted> {
        if let Some(error) = self.end_of(state) {
            return Err(error);
        }
        let Bounds {
            requests, unsent, ..
        } = self.limits.bounds;
        let too_many = |message| Error::new(Status::TooMany, message);
        if state.requests.len() >= requests && !goes_on {
            let message = format!("the client already has {requests} open requests, its limit");
            return Err(too_many(message));
        }
        let len = request.body.len();
        let most = MAX_BODY.min(unsent);
        if len > most {
            let whose = if unsent < MAX_BODY {
                ", CONFER_LIMIT_UNSENT"
            } else {
                ""
            };
            let message = format!("the request has {len} bytes (at most {most}{whose})");
            return Err(Error::new(Status::TooLarge, message));
        }
        let bound = if goes_on { usize::MAX } else { unsent };
        let waiting = Counted::new(&self.unsent, len, bound).ok_or_else(|| {
            too_many(format!(
                "{unsent} bytes of requests at most wait to be sent, and this one has {len}"
            ))
        })?;
        // Kept to be sent again with a fresh token, if the token was refused.
        let kept = match state.core.can_get_token() {
            false => None,
            true => Some(Counted::new(&self.kept, len, bound).ok_or_else(|| {
                too_many(format!(
                    "{unsent} bytes of requests at most are kept until they are answered, and this one has {len}"
                ))
            })?),
        };
        Ok(Admitted {
            unsent: waiting,
            kept,
        })
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
}

impl Owner for Lifecycle {
    fn cancel(&self, exchange: &Exchange) {
        let mut state = self.state();
        state.core.cancel(exchange.refuse());
        self.act(state);
    }

    fn resume(&self, request: RequestId) {
        let state = self.state();
        if let Some(Place::On { connection, .. }) = state.requests.get(&request)
            && let Some(session) = state.connections.get(connection)
        {
            session.resume();
        }
    }

    fn came_back(&self, id: RequestId, job: Job, result: Result<()>, lost: bool) {
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
}

impl Reports for Lifecycle {
    fn entered(&self, attempt: AttemptId, stage: Stage) {
        self.input(|core, _| core.entered(attempt, stage));
    }

    fn verified(&self, attempt: AttemptId, evidenced: Arc<Evidenced>) {
        self.input(|core, now| core.verified(attempt, evidenced, now));
    }

    fn is_first(&self) -> bool {
        self.phase() == Phase::Connecting
    }

    fn attempt_failed(&self, attempt: AttemptId, error: Error) {
        let mut state = self.state();
        state.dials.remove(&attempt);
        state.core.attempt_failed(attempt, error, Now::read());
        self.act(state);
    }

    fn connected(
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

    fn lost(&self, connection: ConnectionId, why: Error) {
        let mut state = self.state();
        // Dropped outside the lock: it may hold requests, which come back here.
        let session = state.connections.remove(&connection);
        state.core.connection_lost(connection, why, Now::read());
        self.act(state);
        drop(session);
    }

    fn tick(&self) -> Option<Instant> {
        let mut state = self.state();
        state.timer = None;
        state.core.tick(Now::read());
        // This task waits for the next deadline, so no other one is started.
        state.timer = state.core.poll_timeout();
        let timer = state.timer;
        self.act(state);
        timer
    }

    fn timer_ended(&self) {
        let mut state = self.state();
        state.timer = None;
        self.act(state);
    }
}

/// The bytes of a request that was taken, as they count against the bounds.
struct Admitted {
    unsent: Counted,
    kept: Option<Counted>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
