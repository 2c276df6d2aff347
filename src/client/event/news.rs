//! The events of a client: what a watch delivers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Details, Event, Kind};
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Lifecycle, Question, QuestionKind, TokenReason};
use crate::net::Token;
use crate::session::Stage;

/// Most characters of a reason that an error repeats.
const MAX_REASON: usize = 1_024;

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
    client: Weak<Lifecycle>,
    pub(crate) id: u64,
}

impl ClientEvent {
    pub(crate) fn question(client: Weak<Lifecycle>, question: &Question) -> ClientEvent {
        let asked = Asked {
            client,
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

    pub(crate) fn into_event(self) -> Event {
        let kind = match &self {
            ClientEvent::Stage(_) => Kind::Stage,
            ClientEvent::Connected { .. } => Kind::Connected,
            ClientEvent::Disconnected(_) => Kind::Disconnected,
            ClientEvent::Retry { .. } => Kind::Retry,
            ClientEvent::AskToken { .. } => Kind::AskToken,
            ClientEvent::AskRelease { .. } => Kind::AskRelease,
            ClientEvent::Answered(_) => Kind::Answered,
        };
        let details = Details {
            client: Some(Arc::new(self)),
            ..Details::default()
        };
        Event::with(kind, details)
    }
}

impl Asked {
    fn client(&self) -> Result<Arc<Lifecycle>> {
        let over = || Error::new(Status::Stale, "the question is over");
        self.client.upgrade().ok_or_else(over)
    }
}

impl Event {
    /// Returns the client's event, if it is one.
    pub fn client(&self) -> Option<&ClientEvent> {
        self.details().client.as_deref()
    }

    /// Whether it asks the application something about the client.
    pub fn is_question(&self) -> bool {
        matches!(self.kind(), Kind::AskToken | Kind::AskRelease)
    }

    fn token_question(&self) -> Result<&Asked> {
        match self.client() {
            Some(ClientEvent::AskToken { asked, .. }) => Ok(asked),
            _ => Err(Error::new(
                Status::InvalidArgument,
                "event: it is not CONFER_EVENT_ASK_TOKEN",
            )),
        }
    }

    /// Answers a token question.
    pub fn answer_token(&self, token: &str) -> Result<()> {
        let asked = self.token_question()?;
        let token = Token::new(token)?;
        asked.client()?.answer_token(asked.id, Ok(token))
    }

    /// Answers that the application gives no token, for a reason without secrets.
    pub fn refuse_token(&self, reason: &str) -> Result<()> {
        let asked = self.token_question()?;
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let message = format!("the application gave no token: {reason}");
        let answer = Err(Error::new(Status::Token, message));
        asked.client()?.answer_token(asked.id, answer)
    }

    /// Answers a release question.
    pub fn answer_release(&self, accept: bool) -> Result<()> {
        let Some(ClientEvent::AskRelease { asked, .. }) = self.client() else {
            return Err(Error::new(
                Status::InvalidArgument,
                "event: it is not CONFER_EVENT_ASK_RELEASE",
            ));
        };
        asked.client()?.answer_release(asked.id, accept)
    }
}
