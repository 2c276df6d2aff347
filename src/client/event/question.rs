//! A client's news as an event of a stream, and the answers to its questions.

use std::sync::Arc;

use super::news::{Asked, ClientEvent};
use super::{Details, Event, Kind};
use crate::error::{Error, Result, Status};
use crate::net::Token;

/// Most characters of a reason that an error repeats.
const MAX_REASON: usize = 1_024;

impl ClientEvent {
    /// Makes the event of a stream.
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
        asked.asker()?.answer_token(asked.id, Ok(token))
    }

    /// Answers that the application gives no token, for a reason without secrets.
    pub fn refuse_token(&self, reason: &str) -> Result<()> {
        let asked = self.token_question()?;
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let message = format!("the application gave no token: {reason}");
        let answer = Err(Error::new(Status::Token, message));
        asked.asker()?.answer_token(asked.id, answer)
    }

    /// Answers a release question.
    pub fn answer_release(&self, accept: bool) -> Result<()> {
        let Some(ClientEvent::AskRelease { asked, .. }) = self.client() else {
            return Err(Error::new(
                Status::InvalidArgument,
                "event: it is not CONFER_EVENT_ASK_RELEASE",
            ));
        };
        asked.asker()?.answer_release(asked.id, accept)
    }
}
