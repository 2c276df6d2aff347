//! One attempt to connect: pause, token, dial, release question.

use std::time::{Duration, Instant};

use super::interface::{AttemptId, Notice, TokenReason};
use crate::error::Error;
use crate::net::Token;
use crate::session::Stage;

/// An attempt to connect.
pub(super) struct Attempt {
    /// Counts attempts in a row, from 1.
    pub(super) number: u32,
    pub(super) step: Step,
    /// The stage of connecting that it has reached.
    pub(super) stage: Option<Stage>,
}

/// The step of an attempt.
pub(super) enum Step {
    Pausing {
        until: Instant,
        delay: Duration,
        /// The error of the attempt before.
        error: Option<Error>,
    },
    AskingToken {
        question: u64,
        reason: TokenReason,
        due: Instant,
    },
    Dialing {
        attempt: AttemptId,
        token: Token,
        /// The enclave is verified and its release accepted: the handshake may be completed.
        approved: bool,
    },
    AskingRelease {
        attempt: AttemptId,
        token: Token,
        question: u64,
        due: Instant,
    },
    /// Only for the moment in which the step changes.
    Between,
}

impl Attempt {
    pub(super) fn new(number: u32) -> Attempt {
        Attempt {
            number,
            step: Step::Between,
            stage: None,
        }
    }

    /// What it is doing, as news for somebody who has seen none.
    pub(super) fn present(&self) -> Option<Notice> {
        match &self.step {
            Step::Pausing { delay, error, .. } => Some(Notice::Attempt {
                number: self.number,
                delay: *delay,
                error: error.clone(),
            }),
            _ => self.stage.map(Notice::Stage),
        }
    }

    /// The time at which its step ends, unless something else ends it first. A dial has its own
    /// limits.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.step {
            Step::Pausing { until, .. } => Some(*until),
            Step::AskingToken { due, .. } | Step::AskingRelease { due, .. } => Some(*due),
            Step::Dialing { .. } | Step::Between => None,
        }
    }

    pub(super) fn is_pausing(&self) -> bool {
        matches!(self.step, Step::Pausing { .. })
    }

    pub(super) fn is_dialing(&self, attempt: AttemptId) -> bool {
        self.dialing() == Some(attempt)
    }

    pub(super) fn dialing(&self) -> Option<AttemptId> {
        match &self.step {
            Step::Dialing { attempt, .. } | Step::AskingRelease { attempt, .. } => Some(*attempt),
            _ => None,
        }
    }

    pub(super) fn question(&self) -> Option<u64> {
        match &self.step {
            Step::AskingToken { question, .. } | Step::AskingRelease { question, .. } => {
                Some(*question)
            }
            _ => None,
        }
    }

    /// The token that it dialled with.
    pub(super) fn token(&self) -> Option<Token> {
        match &self.step {
            Step::Dialing { token, .. } | Step::AskingRelease { token, .. } => Some(token.clone()),
            _ => None,
        }
    }

    /// The token of an attempt that may complete its handshake.
    pub(super) fn approved_token(&self, id: AttemptId) -> Option<Token> {
        match &self.step {
            Step::Dialing {
                attempt,
                token,
                approved: true,
            } if *attempt == id => Some(token.clone()),
            _ => None,
        }
    }

    /// Whether it waits for the verification.
    pub(super) fn is_unverified(&self, id: AttemptId) -> bool {
        matches!(&self.step, Step::Dialing { attempt, approved: false, .. } if *attempt == id)
    }

    pub(super) fn approve(&mut self) {
        if let Step::Dialing { approved, .. } = &mut self.step {
            *approved = true;
        }
    }

    pub(super) fn ask_release(&mut self, question: u64, due: Instant) {
        self.step = match std::mem::replace(&mut self.step, Step::Between) {
            Step::Dialing { attempt, token, .. } => Step::AskingRelease {
                attempt,
                token,
                question,
                due,
            },
            other => other,
        };
    }
}
