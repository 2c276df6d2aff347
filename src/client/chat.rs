//! A chat: the request that an application builds (protocol section 5).

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::argument::{invalid, not_blank};
use super::document;
use super::history::{Conversation, Message, Role};
use super::json;
use super::size::{self, Size, too_large};
use super::tool::{MAX_ROUNDS, Rounds};
use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

/// The published server's model. Newer servers ignore the name (protocol section 5).
const DEFAULT_MODEL: &str = "Qwen/Qwen3-235B-A22B-Instruct-2507-tput";

/// Properties with another setter. The library sets `stream`.
const OWN_PROPERTIES: [&str; 4] = ["messages", "model", "webSearch", "stream"];
/// Properties that are set as a whole, or entry by entry.
const TOOLS: &str = "clientTools";
const DOCUMENTS: &str = "documents";

/// The most tools of a request that newer servers take (protocol section 5).
pub const MAX_TOOLS: usize = 128;
/// The most documents of a request that newer servers take (protocol section 5).
pub const MAX_DOCUMENTS: usize = 1_000;
/// Further bounds of newer servers. They silently drop a tool with the name of a server tool.
const MAX_TOOL_NAME: usize = 64;
const SERVER_TOOLS: [&str; 8] = [
    "web_search",
    "page_fetch",
    "exec_command",
    "publish_file",
    "file_overview",
    "file_search",
    "file_read",
    "file_view",
];

/// A numeric property, with the bounds of newer servers (protocol section 5). The numbers are those
/// of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Number {
    Temperature,
    TopP,
    MinP,
    TopK,
    PresencePenalty,
    FrequencyPenalty,
    RepetitionPenalty,
    MaxTokens,
}

impl Number {
    /// Returns the property's name, its bounds in words, and a check of them.
    fn rule(self) -> (&'static str, &'static str, fn(f64) -> bool) {
        match self {
            Number::Temperature => ("temperature", "at least 0", |n| n >= 0.0),
            Number::TopP => ("topP", "above 0, up to 1", |n| n > 0.0 && n <= 1.0),
            Number::MinP => ("minP", "0 to 1", |n| (0.0..=1.0).contains(&n)),
            Number::TopK => ("topK", "-1, or at least 1", |n| n == -1.0 || n >= 1.0),
            Number::PresencePenalty => ("presencePenalty", "-2 to 2", |n| n.abs() <= 2.0),
            Number::FrequencyPenalty => ("frequencyPenalty", "-2 to 2", |n| n.abs() <= 2.0),
            Number::RepetitionPenalty => ("repetitionPenalty", "above 0", |n| n > 0.0),
            Number::MaxTokens => ("maxTokens", "1 to 2147483647", |n| {
                (1.0..=f64::from(i32::MAX)).contains(&n)
            }),
        }
    }

    /// Returns the property's name if a number is within its bounds.
    fn admit(self, value: f64) -> Result<&'static str> {
        let (name, bounds, holds) = self.rule();
        if value.is_finite() && holds(value) {
            return Ok(name);
        }
        invalid(format!("{name}: invalid value {value} (expected {bounds})"))
    }
}

/// A chat request under construction.
#[derive(Clone)]
pub struct ChatRequest {
    pub(super) messages: Vec<Message>,
    model: String,
    web_search: bool,
    stream: bool,
    tools: Vec<ClientTool>,
    documents: Vec<Box<RawValue>>,
    /// Other properties, as JSON, in the order in which they were set.
    others: Vec<(String, Box<RawValue>)>,
    conversation: Option<Conversation>,
    /// `None`: the application sends the answers to tool calls with its next request.
    pub(super) rounds: Option<Rounds>,
    /// Approximate size of the request.
    size: Size,
}

/// A tool that the model may call.
#[derive(Clone)]
struct ClientTool {
    name: String,
    description: String,
    parameters: Box<RawValue>,
}

impl Serialize for ClientTool {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.serialize_entry("parameters", &self.parameters)?;
        map.end()
    }
}

impl Default for ChatRequest {
    fn default() -> ChatRequest {
        ChatRequest {
            messages: Vec::new(),
            model: DEFAULT_MODEL.into(),
            web_search: false,
            stream: true,
            tools: Vec::new(),
            documents: Vec::new(),
            others: Vec::new(),
            conversation: None,
            rounds: None,
            size: Size::of(DEFAULT_MODEL),
        }
    }
}

impl ChatRequest {
    /// Appends a message.
    pub fn add_message(&mut self, role: Role, content: &str) -> Result<()> {
        size::text("content", content)?;
        self.size.grow(content.len())?;
        self.messages.push(Message::Text {
            role,
            content: content.into(),
        });
        Ok(())
    }

    /// Appends a message given as a JSON object, for properties that have no setter.
    pub fn add_message_json(&mut self, json: &str) -> Result<()> {
        let message = Message::json(json)?;
        self.size.grow(json.len())?;
        self.messages.push(message);
        Ok(())
    }

    /// Continues a conversation: sends its messages first, and adds the answer to it.
    pub fn set_conversation(&mut self, conversation: Option<Conversation>) {
        self.conversation = conversation;
    }

    /// Sets the model.
    pub fn set_model(&mut self, model: &str) -> Result<()> {
        not_blank("model", model)?;
        size::text("model", model)?;
        self.size.replace(self.model.len(), model.len())?;
        self.model = model.into();
        Ok(())
    }

    /// Sets whether the enclave may send queries to a search service.
    pub fn set_web_search(&mut self, allowed: bool) {
        self.web_search = allowed;
    }

    /// Sets whether the answer comes in events, or as one text.
    pub fn set_streaming(&mut self, stream: bool) {
        self.stream = stream;
    }

    /// Sets a property to a number within its bounds.
    pub fn set_number(&mut self, number: Number, value: f64) -> Result<()> {
        self.set_property(number.admit(value)?, &value.to_string())
    }

    /// Sets a property to a whole number within its bounds.
    pub fn set_integer(&mut self, number: Number, value: i64) -> Result<()> {
        self.set_property(number.admit(value as f64)?, &value.to_string()) // all of its digits
    }

    /// Sets a property to true or false.
    pub fn set_flag(&mut self, name: &'static str, value: bool) -> Result<()> {
        self.set_property(name, if value { "true" } else { "false" })
    }

    /// Adds a tool.
    pub fn add_tool(&mut self, name: &str, description: &str, parameters: &str) -> Result<()> {
        not_blank("name", name)?;
        if name.len() > MAX_TOOL_NAME {
            let len = name.len();
            return invalid(format!(
                "name: {len} bytes (expected at most {MAX_TOOL_NAME})"
            ));
        }
        if SERVER_TOOLS.contains(&name) {
            return invalid(format!(
                "name: {name} is a tool of the server, which ignores another one of this name (choose another)"
            ));
        }
        if self.tools.iter().any(|tool| tool.name == name) {
            return invalid("name: the request already has a tool of this name".into());
        }
        if self.tools.len() == MAX_TOOLS {
            return invalid(format!(
                "name: the request already has {MAX_TOOLS} tools, the most that servers take"
            ));
        }
        size::text("description", description)?;
        self.given_by_entry(TOOLS)?;
        let parameters = json::object("parameters", parameters)?;
        self.size
            .grow(name.len() + description.len() + parameters.get().len())?;
        self.tools.push(ClientTool {
            name: name.into(),
            description: description.into(),
            parameters,
        });
        Ok(())
    }

    /// Turns rounds on: the application answers each call on the same stream. Sets the number of
    /// rounds, and the time for each answer.
    pub fn set_tool_rounds(&mut self, max_rounds: u32, limit: Duration) -> Result<()> {
        if max_rounds > MAX_ROUNDS {
            return invalid(format!(
                "max_rounds: {max_rounds}; the bound is {MAX_ROUNDS}"
            ));
        }
        let most = max_rounds;
        self.rounds = Some(Rounds { most, limit });
        Ok(())
    }

    /// Adds a stored document, a JSON object.
    pub fn add_document_json(&mut self, json: &str) -> Result<()> {
        let document = document::check(json)?;
        if self.documents.len() == MAX_DOCUMENTS {
            return invalid(format!(
                "document: the request already has {MAX_DOCUMENTS} documents, the most that servers take"
            ));
        }
        self.given_by_entry(DOCUMENTS)?;
        self.size.grow(document.get().len())?;
        self.documents.push(document);
        Ok(())
    }

    /// Sets any other property to a JSON value; setting it again replaces it.
    pub fn set_property(&mut self, name: &str, json: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "name: it is empty"));
        }
        if OWN_PROPERTIES.contains(&name) {
            let message = format!("name: {name} has another setter, or is set by the library");
            return Err(Error::new(Status::InvalidArgument, message));
        }
        if (name == TOOLS && !self.tools.is_empty())
            || (name == DOCUMENTS && !self.documents.is_empty())
        {
            let message = format!("name: {name} already has entries that were added one by one");
            return Err(Error::new(Status::InvalidArgument, message));
        }
        let value = json::raw("json", json)?;
        let known = self.others.iter().position(|(known, _)| known == name);
        let old = known.map_or(0, |at| name.len() + self.others[at].1.get().len());
        self.size.replace(old, name.len() + value.get().len())?;
        match known {
            Some(at) => self.others[at].1 = value,
            None => self.others.push((name.into(), value)),
        }
        Ok(())
    }

    /// Refuses an entry for a property that was set as a whole.
    fn given_by_entry(&self, name: &str) -> Result<()> {
        if self.others.iter().any(|(known, _)| known == name) {
            let message = format!(
                "{name}: it was already set as a whole by confer_chat_request_set_property()"
            );
            return Err(Error::new(Status::InvalidArgument, message));
        }
        Ok(())
    }

    /// Whether the request has this tool. Does not check a list that was set as a whole.
    pub(super) fn names(&self, name: &str) -> bool {
        let whole = |(known, _): &(String, _)| known == TOOLS;
        self.tools.iter().any(|tool| tool.name == name) || self.others.iter().any(whole)
    }

    /// Returns the JSON of the request. Always has `webSearch`, because servers treat a missing one
    /// as true.
    pub(super) fn body(&self) -> Result<Bytes> {
        let body = serde_json::to_vec(self);
        let body = body.map_err(|_| {
            Error::new(Status::InvalidJson, "request: it cannot be written as JSON")
        })?;
        if body.len() > MAX_BODY {
            return Err(too_large());
        }
        Ok(body.into())
    }

    /// Returns the request with all its messages, ready to be sent.
    ///
    /// # Errors
    /// `InvalidArgument` for a request without a message.
    pub fn prepare(&self) -> Result<PreparedChat> {
        let conversation = self.conversation.clone();
        let follows = self.stream && (conversation.is_some() || self.rounds.is_some());
        let with_history = conversation.as_ref().map(|conversation| {
            let mut whole = self.clone();
            whole.messages = conversation.followed_by(&self.messages);
            whole
        });
        let whole = with_history.as_ref().unwrap_or(self);
        if whole.messages.is_empty() {
            return Err(Error::new(
                Status::InvalidArgument,
                "request: it has no message",
            ));
        }
        Ok(PreparedChat {
            body: whole.body()?,
            stream: self.stream,
            follow: follows.then(|| Follow {
                whole: with_history.unwrap_or_else(|| self.clone()),
                asked: match &conversation {
                    Some(_) => self.messages.clone(),
                    None => Vec::new(),
                },
                conversation,
            }),
        })
    }
}

impl Serialize for ChatRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("stream", &self.stream)?;
        map.serialize_entry("webSearch", &self.web_search)?;
        for (name, value) in &self.others {
            map.serialize_entry(name, value)?;
        }
        if !self.tools.is_empty() {
            map.serialize_entry(TOOLS, &self.tools)?;
        }
        if !self.documents.is_empty() {
            map.serialize_entry(DOCUMENTS, &self.documents)?;
        }
        map.serialize_entry("messages", &self.messages)?;
        map.end()
    }
}

/// A chat request ready to be sent.
pub struct PreparedChat {
    pub(super) body: Bytes,
    pub(super) stream: bool,
    pub(super) follow: Option<Follow>,
}

impl PreparedChat {
    /// Whether no tool wants an answer from the application.
    pub(super) fn collects(&self) -> bool {
        let follow = self.follow.as_ref();
        follow.is_none_or(|follow| follow.whole.rounds.is_none())
    }
}

/// Data that a chat needs after its first answer.
pub(super) struct Follow {
    /// The request with all messages.
    pub(super) whole: ChatRequest,
    /// The conversation to which the answer is added.
    pub(super) conversation: Option<Conversation>,
    /// The request's messages, which are added to it too.
    pub(super) asked: Vec<Message>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_sets_stream_and_always_writes_web_search() {
        let mut request = ChatRequest::default();
        request.add_message(Role::User, "hi \"there\"").unwrap();
        request
            .add_message_json(r#"{"role":"assistant","content":"x","imageRefs":["a"]}"#)
            .unwrap();
        request
            .set_property("temperature", "0.10000000000000000001")
            .unwrap();
        request.set_property("temperature", "1e-3").unwrap();
        let body = request.prepare().unwrap().body;
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            concat!(
                r#"{"model":"Qwen/Qwen3-235B-A22B-Instruct-2507-tput","stream":true,"webSearch":false,"temperature":1e-3,"#,
                r#""messages":[{"role":"user","content":"hi \"there\""},{"role":"assistant","content":"x","imageRefs":["a"]}]}"#
            )
        );
        request.set_web_search(true);
        assert!(
            String::from_utf8_lossy(&request.prepare().unwrap().body)
                .contains(r#""webSearch":true"#)
        );
    }

    #[test]
    fn what_the_library_sets_cannot_be_set_as_json() {
        let mut request = ChatRequest::default();
        for name in OWN_PROPERTIES {
            assert_eq!(
                request.set_property(name, "true").unwrap_err().status(),
                Status::InvalidArgument
            );
        }
    }

    #[test]
    fn tools_are_given_whole_or_one_by_one_and_not_both() {
        let mut request = ChatRequest::default();
        request.add_message(Role::User, "x").unwrap();
        request.set_property("clientTools", "[]").unwrap();
        assert!(request.add_tool("a", "d", "{}").is_err());
        assert!(
            String::from_utf8_lossy(&request.prepare().unwrap().body)
                .contains(r#""clientTools":[]"#)
        );
        let mut request = ChatRequest::default();
        request.add_tool("a", "d", "{}").unwrap();
        assert!(request.set_property("clientTools", "[]").is_err());
    }

    #[test]
    fn bad_json_is_refused_with_its_position_and_is_not_quoted() {
        let mut request = ChatRequest::default();
        for bad in ["", "{", "secret", "1 2", "{\"a\":1}}"] {
            let error = request.set_property("x", bad).unwrap_err();
            assert_eq!(error.status(), Status::InvalidJson, "{bad}");
            assert!(
                error.message().contains("column") && !error.message().contains("secret"),
                "{error}"
            );
        }
        assert!(request.add_message_json("[]").is_err());
        assert!(request.prepare().is_err(), "a request has a message");
    }
}
