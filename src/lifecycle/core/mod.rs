//! A client's life over several connections, as a state machine without I/O.
//!
//! The driver reports what happened through the methods of [`Core`], then does what
//! [`Core::poll_action`] returns, and calls [`Core::tick`] when [`Core::poll_timeout`] has passed.
//!
//! ```text
//!                    failed, may be retried           failed for good, or closed
//!              ┌──────────────────────────┐        ┌──────────────────────────────► Ended
//!              ▼                          │        │
//!  Connecting(attempt) ──connected──► Connected(live, renewal?) ──lost──► Reconnecting(attempt)
//!                                         ▲                                    │
//!                                         └─────────────connected──────────────┘
//! ```
//!
//! Every attempt passes the same steps: pause, token, dial and verify, release question. The driver
//! completes a handshake only after [`Action::Approve`].

mod attempt;
mod connections;
mod errors;
mod interface;
mod requests;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attestation::Evidenced;
use crate::error::{Error, Progress, Result, Status};
use crate::lifecycle::policy::{Born, Now};
use crate::net::Token;
use crate::random::Random;

use attempt::Attempt;
use errors::expired;
pub use errors::{cancelled, closed};
pub use interface::{
    Action, AttemptId, Connected, ConnectionId, Ended, Notice, Phase, Question, QuestionKind,
    RequestId, Rules, TokenReason,
};
use requests::{Place, Requests};

/// The client's state. It has one owner: this enum.
enum State {
    /// No connection has been made yet.
    Connecting(Attempt),
    /// A verified connection takes requests.
    Connected(Live),
    /// The connection broke; requests wait for the next one.
    Reconnecting(Attempt),
    /// The client has ended. Nothing leaves it.
    Ended(Error),
}

/// The connection in use.
struct Live {
    connection: ConnectionId,
    born: Born,
    /// An attempt to replace it.
    renewal: Option<Attempt>,
    /// The error with which the last renewal failed.
    renewal_error: Option<Error>,
    /// The next time to check whether it must be replaced.
    look: Option<Instant>,
}

/// See the module.
pub struct Core {
    rules: Rules,
    state: State,
    requests: Requests,
    /// Replaced connections that finish their requests, oldest first.
    retired: Vec<ConnectionId>,
    /// The token of each connection.
    tokens: BTreeMap<ConnectionId, Token>,
    /// The verified evidence of the connection in use, or of the last one.
    evidenced: Option<Arc<Evidenced>>,
    /// The error with which the last connection was lost.
    lost: Option<Error>,
    /// The token of the next attempt, unless the application is asked for one.
    token: Option<Token>,
    /// The application gave `token` without a question, so the next attempt uses it without asking.
    fresh: bool,
    /// The last token that the server refused: only another token can help.
    refused: Option<Token>,
    /// Attempts that failed in a row, and connections that broke at once.
    failures: u32,
    /// The connection in use, or the last one, is not the first.
    replaced_one: bool,
    /// The last number given to a connection, an attempt or a question.
    last_number: u64,
    random: Random,
    actions: VecDeque<Action>,
}

impl Core {
    /// A client that begins to connect. `seed` spreads the pauses of many clients.
    pub fn new(rules: Rules, token: Option<Token>, seed: u64, now: Now) -> Core {
        let mut core = Core {
            rules,
            state: State::Connecting(Attempt::new(1)),
            requests: Requests::default(),
            retired: Vec::new(),
            tokens: BTreeMap::new(),
            lost: None,
            evidenced: None,
            token,
            fresh: false,
            refused: None,
            failures: 0,
            replaced_one: false,
            last_number: 0,
            random: Random::new(seed),
            actions: VecDeque::new(),
        };
        core.next_step(now);
        core
    }

    // --- outputs --------------------------------------------------------------------------------

    /// The next instruction for the driver, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The time of the next [`Core::tick`], if there is something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let live = match &self.state {
            State::Connected(live) => live.look,
            _ => None,
        };
        let attempt = self.attempt().and_then(Attempt::due);
        let waiting = self.requests.next_expiry();
        [live, attempt, waiting].into_iter().flatten().min()
    }

    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Connecting(_) => Phase::Connecting,
            State::Connected(_) => Phase::Connected,
            State::Reconnecting(_) => Phase::Reconnecting,
            State::Ended(_) => Phase::Ended,
        }
    }

    /// The connection in use.
    pub fn current(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Connected(live) => Some(live.connection),
            _ => None,
        }
    }

    /// The present state, as notices for a new observer.
    pub fn present(&self) -> Vec<Notice> {
        match &self.state {
            State::Connecting(attempt) => attempt.present().into_iter().collect(),
            State::Connected(_) => {
                let connected = |evidenced: &Arc<Evidenced>| Notice::Connected {
                    evidenced: evidenced.clone(),
                    first: !self.replaced_one,
                };
                self.evidenced.iter().map(connected).collect()
            }
            State::Reconnecting(attempt) => {
                let lost = self.lost.clone().map(Notice::Disconnected);
                lost.into_iter().chain(attempt.present()).collect()
            }
            State::Ended(error) => vec![Notice::Ended(error.clone())],
        }
    }

    /// The error with which the client ended, if it has.
    pub fn end_error(&self) -> Option<&Error> {
        match &self.state {
            State::Ended(error) => Some(error),
            _ => None,
        }
    }

    /// The verified evidence of the connection in use, or of the last one.
    pub fn evidenced(&self) -> Option<&Arc<Evidenced>> {
        self.evidenced.as_ref()
    }

    /// Whether a lost connection is replaced.
    pub fn reconnects(&self) -> bool {
        self.rules.reconnect.is_some()
    }

    /// Whether the application can give a fresh token for a request whose token was refused.
    pub fn can_get_token(&self) -> bool {
        self.rules.asks_token && self.reconnects()
    }

    // --- requests -------------------------------------------------------------------------------

    /// Takes a request: sends it, or lets it wait for a connection, for `patience` at most.
    pub fn submit(&mut self, request: RequestId, patience: Duration, now: Now) {
        self.requests.add(request, patience, now);
        self.place(request, 0, now);
    }

    /// The application cancels a request.
    pub fn cancel(&mut self, request: RequestId) {
        match self.requests.place(request) {
            None => {}
            Some(Place::On { .. }) => {
                self.requests.give_up(request);
                self.actions.push_back(Action::Cancel { request });
            }
            Some(Place::Waiting { .. }) => self.finish(request, Err(cancelled())),
        }
    }

    /// A request has ended on its connection.
    pub fn request_ended(&mut self, request: RequestId, ended: Ended, now: Now) {
        let Some(Place::On { connection }) = self.requests.place(request) else {
            return;
        };
        let Err(error) = ended.result else {
            return self.finish(request, Ok(()));
        };
        let refuses_token = is_token_refusal(&error);
        let error = match refuses_token {
            true => self.note_token_refusal(connection, error, now),
            false => error,
        };
        let unsent =
            ended.lost && error.progress() == Progress::NotSent && self.rules.reconnect.is_some();
        let refused = refuses_token && self.can_get_token() && !self.requests.was_refused(request);
        let again = ended.repeatable && (unsent || refused);
        if self.requests.is_given_up(request) || !again {
            return self.finish(request, Err(error));
        }
        if refused {
            self.requests.refuse(request, error);
        }
        let waits = self.waits(request, connection, now);
        // The loss of the connection is reported next, and begins an attempt.
        if waits && !ended.lost {
            self.renew(now);
        }
    }

    /// Ends the requests that wait for a connection.
    pub fn finish_waiting(&mut self, error: &Error) {
        for request in self.requests.waiting() {
            self.finish(request, Err(error.clone()));
        }
    }

    /// Sends a request on a connection after number `after`, or lets it wait for one, and begins to
    /// connect if nothing else does.
    fn place(&mut self, request: RequestId, after: ConnectionId, now: Now) {
        if self.waits(request, after, now) {
            self.renew(now);
        }
    }

    /// Sends a request on a connection after number `after`. Returns true if it waits for one
    /// instead.
    fn waits(&mut self, request: RequestId, after: ConnectionId, now: Now) -> bool {
        match &self.state {
            State::Ended(error) => {
                let error = error.clone();
                self.finish(request, Err(error));
                false
            }
            State::Connected(live) if live.connection > after => {
                let connection = live.connection;
                if !self.rules.renew.due(&live.born, now) {
                    self.send(request, connection);
                    return false;
                }
                if self.rules.reconnect.is_none() {
                    self.finish(request, Err(expired()));
                    let why = expired();
                    self.actions.push_back(Action::Close { connection, why });
                    return false;
                }
                self.requests.wait(request, connection, now);
                true
            }
            _ => {
                self.requests.wait(request, after, now);
                true
            }
        }
    }

    fn send(&mut self, request: RequestId, connection: ConnectionId) {
        let again = self.requests.put_on(request, connection);
        self.actions.push_back(Action::Send {
            request,
            connection,
            again,
        });
    }

    fn finish(&mut self, request: RequestId, result: Result<()>) {
        if let Some(result) = self.requests.remove(request, result) {
            self.actions.push_back(Action::Finish { request, result });
        }
    }

    // --- the end --------------------------------------------------------------------------------

    /// Ends the client. Requests on connections end with these.
    fn end(&mut self, error: Error) {
        let old = match &self.state {
            State::Ended(_) => return,
            _ => std::mem::replace(&mut self.state, State::Ended(error.clone())),
        };
        let (live, attempt) = match old {
            State::Connected(live) => (Some(live.connection), live.renewal),
            State::Connecting(attempt) | State::Reconnecting(attempt) => (None, Some(attempt)),
            State::Ended(_) => (None, None),
        };
        if let Some(attempt) = attempt {
            self.abort(&attempt);
        }
        for connection in live.into_iter().chain(std::mem::take(&mut self.retired)) {
            let why = error.clone();
            self.actions.push_back(Action::Close { connection, why });
        }
        self.finish_waiting(&error);
        self.token = None;
        self.actions.push_back(Action::Notify(Notice::Ended(error)));
    }

    /// Withdraws an attempt's question and dial.
    fn abort(&mut self, attempt: &Attempt) {
        if let Some(question) = attempt.question() {
            self.actions.push_back(Action::Withdraw { question });
        }
        let Some(attempt) = attempt.dialing() else {
            return;
        };
        let begins =
            |action: &Action| matches!(action, Action::Dial { attempt: id, .. } if *id == attempt);
        match self.actions.iter().position(begins) {
            // The driver has not begun it.
            Some(at) => drop(self.actions.remove(at)),
            None => self.actions.push_back(Action::Abort { attempt }),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn attempt(&self) -> Option<&Attempt> {
        match &self.state {
            State::Connecting(attempt) | State::Reconnecting(attempt) => Some(attempt),
            State::Connected(live) => live.renewal.as_ref(),
            State::Ended(_) => None,
        }
    }

    fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.state {
            State::Connecting(attempt) | State::Reconnecting(attempt) => Some(attempt),
            State::Connected(live) => live.renewal.as_mut(),
            State::Ended(_) => None,
        }
    }
}

/// Whether the enclave refused a request for its token, before it did anything.
fn is_token_refusal(error: &Error) -> bool {
    matches!(
        error.status(),
        Status::Unauthorized | Status::PaymentRequired
    )
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(super) mod sim;
#[cfg(test)]
mod tests;
