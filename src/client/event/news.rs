//! The events of a client: what a watch delivers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Asker, Question, QuestionKind, TokenReason};
use crate::session::Stage;

/// One event of a client.
pub enum ClientEvent {
    /// A stage of connecting began.
    Stage(Stage),
    /// The client has a verified connection.
    Connected {
        /// The evidence and the report.
        evidenced: Arc<Evidenced>,
        /// The release has changed since the last such event of this watch, even if it has changed
        /// back.
        release_changed: bool,
    },
    /// The connection broke.
    Disconnected(Error),
    /// The client connects again after a delay.
    Retry {
        /// Counts attempts in a row, from 1.
        number: u32,
        /// Time until the attempt begins.
        delay: Duration,
        /// The error of the previous attempt.
        error: Option<Error>,
    },
    /// The client needs a token.
    AskToken {
        /// The reason.
        reason: TokenReason,
        /// The question.
        asked: Asked,
    },
    /// The enclave's release differs from the previous one.
    AskRelease {
        /// The report of the previous connection.
        before: Arc<Evidenced>,
        /// The report of the new enclave.
        now: Arc<Evidenced>,
        /// The question.
        asked: Asked,
    },
    /// The question with this number is over.
    Answered(u64),
}

/// A question that can be answered.
pub struct Asked {
    asker: Weak<dyn Asker>,
    pub(crate) id: u64,
}

impl ClientEvent {
    pub(crate) fn question(question: &Question, asker: Weak<dyn Asker>) -> ClientEvent {
        let asked = Asked {
            asker,
            id: question.id,
        };
        match &question.kind {
            QuestionKind::Token(reason) => ClientEvent::AskToken {
                reason: *reason,
                asked,
            },
            QuestionKind::Release { before, now } => ClientEvent::AskRelease {
                before: before.clone(),
                now: now.clone(),
                asked,
            },
        }
    }
}

impl Asked {
    /// Returns the client that asks.
    pub(super) fn asker(&self) -> Result<Arc<dyn Asker>> {
        let over = || Error::new(Status::Stale, "the question is over");
        self.asker.upgrade().ok_or_else(over)
    }
}
