//! Connections: how attempts become connections, and when connections are replaced or lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::errors::{closed, expired};
use super::interface::{
    Action, AttemptId, Connected, ConnectionId, Notice, Question, QuestionKind,
};
use super::{Core, Live, State};
use crate::attestation::Evidenced;
use crate::error::{Error, Status};
use crate::lifecycle::policy::{Born, LOOK, Now};
use crate::session::Approved;

/// Most replaced connections that may finish their requests. Before another one is added, the
/// oldest is closed.
pub(super) const MAX_RETIRED: usize = 4;

/// A connection that lived for less counts as a failed attempt, so that a server that drops each
/// connection at once is not dialled in a loop.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

impl Core {
    /// The enclave of an attempt satisfies the policy; the handshake is not complete yet.
    pub fn verified(&mut self, attempt: AttemptId, evidenced: Arc<Evidenced>, now: Now) {
        let before = self.evidenced.clone();
        let number = self.next_number();
        let (asks, limit) = (self.rules.asks_release, self.rules.answer);
        let Some(current) = self.attempt_mut().filter(|it| it.is_unverified(attempt)) else {
            return;
        };
        let before = before.filter(|before| differs(before, &evidenced));
        let (true, Some(before)) = (asks, before) else {
            current.approve();
            return self.approve(attempt);
        };
        let due = now.monotonic + limit;
        current.ask_release(number, due);
        self.actions.push_back(Action::Ask(Question {
            id: number,
            kind: QuestionKind::Release {
                before,
                now: evidenced,
            },
        }));
    }

    /// Lets an attempt complete its handshake.
    pub(super) fn approve(&mut self, attempt: AttemptId) {
        let approved = Approved::grant();
        self.actions
            .push_back(Action::Approve { attempt, approved });
    }

    /// An approved attempt made a connection. Returns its number; the driver runs it from now on.
    /// `None`: the attempt is over or was not approved, and the connection must be dropped.
    pub fn connected(&mut self, connected: Connected, now: Now) -> Option<ConnectionId> {
        let Connected { attempt, evidenced } = connected;
        let token = self.attempt()?.approved_token(attempt)?;
        let first = matches!(self.state, State::Connecting(_));
        let connection = self.next_number();
        let ends = evidenced.report.expires_at;
        let born = Born {
            at: now,
            evidence_ends: ends.map(|at| at.saturating_add(self.rules.leeway)),
            token_ends: token.ends().filter(|_| self.can_get_token()),
        };
        let look = self.look_at(&born, now);
        let live = Live {
            connection,
            born,
            renewal: None,
            renewal_error: None,
            look,
        };
        if let State::Connected(old) = std::mem::replace(&mut self.state, State::Connected(live)) {
            self.retire(old.connection);
        }
        self.tokens.insert(connection, token);
        self.replaced_one = !first;
        self.evidenced = Some(evidenced.clone());
        self.actions
            .push_back(Action::Notify(Notice::Connected { evidenced, first }));
        for request in self.requests.waiting_for(connection) {
            self.send(request, connection);
        }
        Some(connection)
    }

    fn retire(&mut self, connection: ConnectionId) {
        self.retired.push(connection);
        self.actions.push_back(Action::Retire { connection });
        if self.retired.len() > MAX_RETIRED {
            let connection = self.retired.remove(0);
            let message = "the request ran on a connection that was replaced several times since";
            let why = Error::new(Status::Expired, message);
            self.actions.push_back(Action::Close { connection, why });
        }
    }

    /// An attempt failed.
    pub fn attempt_failed(&mut self, attempt: AttemptId, error: Error, now: Now) {
        let is_current = self.attempt().is_some_and(|it| it.is_dialing(attempt));
        if is_current {
            let question = self.attempt().and_then(Attempt::question);
            let withdraw = |question| Action::Withdraw { question };
            self.actions.extend(question.map(withdraw));
            self.fail_attempt(error, now);
        }
    }

    /// A connection has ended, after the ends of its requests were reported.
    pub fn connection_lost(&mut self, connection: ConnectionId, error: Error, now: Now) {
        self.retired.retain(|retired| *retired != connection);
        self.tokens.remove(&connection);
        let State::Connected(live) = &mut self.state else {
            return;
        };
        if live.connection != connection {
            return;
        }
        if live.born.age(now) >= SETTLED {
            self.failures = 0;
        } else if self.replaced_one {
            self.failures += 1;
        }
        let renewal = live.renewal.take();
        if self.rules.reconnect.is_none() || self.gives_up_after(&error) {
            if let Some(attempt) = renewal {
                self.abort(&attempt);
            }
            return self.end(error);
        }
        self.lost = Some(error.clone());
        self.actions
            .push_back(Action::Notify(Notice::Disconnected(error.clone())));
        // An attempt that was about to replace it continues.
        let begun = renewal.is_some();
        let number = self.failures + 1;
        let attempt = renewal.unwrap_or_else(|| Attempt::new(number));
        self.state = State::Reconnecting(attempt);
        if !begun {
            self.pause(None, now);
        }
    }

    /// The network changed, or the machine has slept: probes the connection, or ends the pause.
    pub fn network_changed(&mut self, now: Now) {
        match &mut self.state {
            State::Connected(live) => {
                let connection = live.connection;
                self.actions.push_back(Action::Probe { connection });
            }
            State::Connecting(attempt) | State::Reconnecting(attempt) => {
                if attempt.is_pausing() {
                    self.next_step(now);
                }
            }
            State::Ended(_) => {}
        }
    }

    /// The application closes the client.
    pub fn close(&mut self) {
        self.end(closed());
    }

    /// Something in the driver failed for good.
    pub fn fail(&mut self, error: Error) {
        self.end(error);
    }

    /// Acts on what is due.
    pub fn tick(&mut self, now: Now) {
        for (request, limit) in self.requests.expired(now) {
            let message = format!(
                "the request waited {} ms for a connection, its idle limit, and got none \
                 (CONFER_DURATION_IDLE_EVENTS, CONFER_DURATION_IDLE_OTHER)",
                limit.as_millis()
            );
            self.finish(request, Err(Error::new(Status::StreamIdle, message)));
        }
        if self
            .attempt()
            .and_then(Attempt::due)
            .is_some_and(|due| due <= now.monotonic)
        {
            self.step_is_due(now);
        }
        self.look(now);
    }

    /// Replaces the connection in use when its time has come.
    fn look(&mut self, now: Now) {
        let State::Connected(live) = &mut self.state else {
            return;
        };
        if live.look.is_none_or(|look| look > now.monotonic) {
            return;
        }
        let left = self.rules.renew.left(&live.born, now);
        if left.is_some_and(|left| left.is_zero()) {
            live.look = Some(now.monotonic + LOOK); // the renewal may fail
            if self.rules.reconnect.is_some() {
                return self.renew(now);
            }
            live.look = None;
            let (connection, why) = (live.connection, expired());
            return self.actions.push_back(Action::Close { connection, why });
        }
        live.look = left.map(|left| now.monotonic + left.min(LOOK));
    }

    fn look_at(&self, born: &Born, now: Now) -> Option<Instant> {
        let left = self.rules.renew.left(born, now)?;
        Some(now.monotonic + left.min(LOOK))
    }

    /// Begins to replace the connection in use, unless that is under way.
    pub(super) fn renew(&mut self, now: Now) {
        let State::Connected(live) = &mut self.state else {
            return;
        };
        if live.renewal.is_some() {
            return;
        }
        if live.born.age(now) >= SETTLED {
            self.failures = 0;
        }
        let number = self.failures + 1;
        live.renewal = Some(Attempt::new(number));
        let error = live.renewal_error.take();
        if number == 1 {
            self.notify_attempt(number, Duration::ZERO, error);
            return self.next_step(now); // no pause while a connection works
        }
        self.pause(error, now);
    }
}

fn differs(before: &Evidenced, now: &Evidenced) -> bool {
    before.report.manifest_sha256 != now.report.manifest_sha256
}
