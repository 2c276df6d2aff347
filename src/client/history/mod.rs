//! Conversations: the history of messages that an application keeps (protocol section 5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::message::Side;
use self::pairs::Pairs;
use super::{json, size};
use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

mod message;
mod pairs;
mod turn;

pub use message::Role;
pub(super) use message::{Call, Message};
pub(super) use pairs::answered;
pub(super) use turn::Turn;

/// A conversation. Clones share it.
#[derive(Clone, Default)]
pub struct Conversation(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    size: usize,
    context_tokens: Option<i64>,
    max_context_tokens: Option<i64>,
}

impl State {
    /// Refuses messages that do not fit.
    fn admit<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Result<()> {
        let new: usize = messages.into_iter().map(Message::size).sum();
        if self.size.saturating_add(new) > MAX_BODY {
            let message = format!("the conversation would exceed {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        Ok(())
    }

    fn set(&mut self, messages: Vec<Message>) {
        self.size = messages.iter().map(Message::size).sum();
        self.messages = messages;
    }
}

/// The longest JSON of a conversation. An escaped character takes six times its size, and escapes
/// within JSON text take more.
const MAX_JSON: usize = 8 * MAX_BODY;
/// The version of the JSON format.
const VERSION: u32 = 1;

impl Conversation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parses the result of [`Conversation::to_json`].
    pub fn from_json(json: &str) -> Result<Conversation> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document<'a> {
            version: u32,
            #[serde(borrow)]
            messages: Vec<&'a RawValue>,
            context_tokens: Option<i64>,
            max_context_tokens: Option<i64>,
        }
        if json.len() > MAX_JSON {
            let message = format!("json: it has {} bytes (at most {MAX_JSON})", json.len());
            return Err(Error::new(Status::TooLarge, message));
        }
        let document: Document<'_> =
            serde_json::from_str(json).map_err(|e| json::invalid("json", &e))?;
        let invalid = |why: String| Error::new(Status::InvalidJson, format!("json: {why}"));
        if document.version != VERSION {
            let version = document.version;
            return Err(invalid(format!(
                "unknown version {version} (expected {VERSION})"
            )));
        }
        let mut messages = Vec::new();
        for (at, message) in document.messages.iter().enumerate() {
            let message = Message::parse(message.get());
            messages.push(message.map_err(|_| invalid(format!("message {at} is not an object")))?);
        }
        let mut state = State {
            context_tokens: document.context_tokens,
            max_context_tokens: document.max_context_tokens,
            ..State::default()
        };
        state.admit(&messages)?;
        state.set(Pairs::of(messages).messages(true));
        Ok(Conversation(Arc::new(Mutex::new(state))))
    }

    /// Returns the conversation as a JSON document.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            version: u32,
            messages: &'a [Message],
            context_tokens: Option<i64>,
            max_context_tokens: Option<i64>,
        }
        let state = self.state();
        serde_json::to_string(&Document {
            version: VERSION,
            messages: &state.messages,
            context_tokens: state.context_tokens,
            max_context_tokens: state.max_context_tokens,
        })
        .unwrap_or_default()
    }

    /// Appends a message. Puts a tool's response directly after its call.
    pub fn add_message(&self, role: Role, content: &str) -> Result<()> {
        size::text("content", content)?;
        let content = content.to_owned();
        let message = Message::Text { role, content };
        let mut state = self.state();
        state.admit([&message])?;
        if !matches!(role, Role::ToolResponse) {
            state.size += message.size();
            state.messages.push(message);
            return Ok(());
        }
        let mut pairs = Pairs::of(std::mem::take(&mut state.messages));
        let answers = pairs.push(message);
        state.set(pairs.messages(true));
        if !answers {
            let message = "content: no tool_call with this toolCallId waits for a response";
            return Err(Error::new(Status::InvalidArgument, message));
        }
        Ok(())
    }

    /// Returns the conversation's messages, followed by those of a request. Puts a response to a
    /// call of the conversation directly after that call, and keeps the request's other messages
    /// unchanged. Omits the conversation's calls without a response.
    pub(super) fn followed_by(&self, asked: &[Message]) -> Vec<Message> {
        let mut pairs = Pairs::of(self.state().messages.iter().cloned());
        let mut rest = Vec::new();
        for message in asked.iter().cloned() {
            rest.extend(match message.tool_id() {
                Some((Side::Response, id)) => pairs.answer(message, &id, false),
                _ => Some(message),
            });
        }
        let mut messages = pairs.messages(false);
        messages.extend(rest);
        messages
    }

    /// Appends the messages of a turn, and stores its token counts. Drops calls still without a
    /// response, except the turn's.
    pub(super) fn add_turn(
        &self,
        asked: Vec<Message>,
        answer: &[Message],
        turn: &Turn,
    ) -> Result<()> {
        let mut state = self.state();
        state.admit(asked.iter().chain(answer))?;
        let mut pairs = Pairs::of(std::mem::take(&mut state.messages));
        for message in asked {
            pairs.push(message);
        }
        let mut messages = pairs.messages(false);
        messages.extend_from_slice(answer);
        state.set(messages);
        state.context_tokens = turn.context_tokens.or(state.context_tokens);
        state.max_context_tokens = turn.max_context_tokens.or(state.max_context_tokens);
        Ok(())
    }

    /// Drops all messages after the first `count`.
    pub fn truncate(&self, count: usize) {
        let mut state = self.state();
        let mut messages = std::mem::take(&mut state.messages);
        messages.truncate(count);
        state.set(messages);
    }

    /// Returns the number of messages.
    pub fn count(&self) -> usize {
        self.state().messages.len()
    }

    /// Returns the tokens at the last completion, and the maximum.
    pub fn context_tokens(&self) -> (Option<i64>, Option<i64>) {
        let state = self.state();
        (state.context_tokens, state.max_context_tokens)
    }
}
