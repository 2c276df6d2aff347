//! The messages of a conversation, and what a turn of the model adds to them (protocol section 5).

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::event::{Event, Kind, Text};
use super::json;
use super::size;
use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

/// Who wrote a message. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Role {
    User = 0,
    Assistant = 1,
    System = 2,
    Developer = 3,
    ToolCall = 4,
    ToolResponse = 5,
}

impl Role {
    /// All of them, by number.
    pub const ALL: [Role; 6] = [
        Role::User,
        Role::Assistant,
        Role::System,
        Role::Developer,
        Role::ToolCall,
        Role::ToolResponse,
    ];

    fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Developer => "developer",
            Role::ToolCall => "tool_call",
            Role::ToolResponse => "tool_response",
        }
    }
}

/// One message.
#[derive(Clone)]
pub(super) enum Message {
    Text {
        role: Role,
        content: String,
    },
    /// As it was written.
    Json(Box<RawValue>),
}

impl Message {
    pub(super) fn json(json: &str) -> Result<Message> {
        json::object("message", json).map(Message::Json)
    }

    /// Shows the model the images of a tool's result. Servers read `imageRefs` on `user` messages only.
    fn images(references: &[&RawValue]) -> Option<Message> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Images<'a> {
            role: &'a str,
            content: &'a str,
            image_refs: &'a [&'a RawValue],
        }
        let images = Images {
            role: Role::User.name(),
            content: "Images of a tool's result.",
            image_refs: references,
        };
        let json = serde_json::value::to_raw_value(&images).ok()?;
        (!references.is_empty()).then_some(Message::Json(json))
    }

    /// What a tool was called with; `arguments` is a JSON text.
    pub(super) fn tool_call(id: &str, name: &str, arguments: &str) -> Message {
        let content = json!({ "toolCallId": id, "toolName": name, "toolArguments": arguments });
        Message::Text {
            role: Role::ToolCall,
            content: content.to_string(),
        }
    }

    /// What a tool answered.
    pub(super) fn tool_response(id: &str, name: &str, content: &str) -> Message {
        let content = json!({ "toolCallId": id, "toolName": name, "content": content });
        Message::Text {
            role: Role::ToolResponse,
            content: content.to_string(),
        }
    }

    /// Refuses a text that is longer than any server reads.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Message::Text { content, .. } => size::text("content", content),
            Message::Json(_) => Ok(()),
        }
    }

    /// The id of the call that this message makes or answers. None for any other message, and for a content without id.
    fn tool_id(&self) -> Option<(Side, String)> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            role: Cow<'a, str>,
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "toolCallId")]
            id: String,
        }
        let (role, content) = match self {
            Message::Text { role, content } => (role.name(), Cow::from(content)),
            Message::Json(json) => {
                let whole: Whole<'_> = serde_json::from_str(json.get()).ok()?;
                let role = Role::ALL.iter().find(|role| role.name() == whole.role)?;
                (role.name(), whole.content)
            }
        };
        let side = match role {
            "tool_call" => Side::Call,
            "tool_response" => Side::Response,
            _ => return None,
        };
        let content: Content = serde_json::from_str(&content).ok()?;
        Some((side, content.id))
    }

    /// What it counts for: its text, and what a message takes beside it.
    pub(super) fn size(&self) -> usize {
        const FIXED: usize = 64;
        FIXED
            + match self {
                Message::Text { content, .. } => content.len(),
                Message::Json(json) => json.get().len(),
            }
    }

    /// Reads a message as [`Serialize`] writes it: one with a role and a text alone is kept so.
    fn parse(json: &str) -> Result<Message> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            role: String,
            content: String,
        }
        if let Ok(Plain { role, content }) = serde_json::from_str(json)
            && let Some(role) = Role::ALL.iter().find(|known| known.name() == role)
        {
            let role = *role;
            return Ok(Message::Text { role, content });
        }
        Message::json(json)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Message::Json(json) => json.serialize(serializer),
            Message::Text { role, content } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("role", role.name())?;
                map.serialize_entry("content", content)?;
                map.end()
            }
        }
    }
}

/// A message's side in a pair.
enum Side {
    Call,
    Response,
}

/// Puts each response directly behind its call, which is the only order that servers accept (protocol section 5). Doubled
/// ids are answered in the order of the calls.
#[derive(Default)]
struct Pairs {
    entries: Vec<Entry>,
    /// Entries of calls without a response, by id. A tree, for ids come from a peer.
    open: BTreeMap<String, VecDeque<usize>>,
}

enum Entry {
    Message(Message),
    Call(Message, Option<Message>),
}

impl Pairs {
    /// Reads a history that was kept. There, a response belongs to the call directly before it if that has its id.
    fn of(messages: impl IntoIterator<Item = Message>) -> Pairs {
        let mut pairs = Pairs::default();
        for message in messages {
            pairs.place(message, true);
        }
        pairs
    }

    /// Adds a message. Returns false for a response without a call: that is dropped.
    fn push(&mut self, message: Message) -> bool {
        self.place(message, false).is_none()
    }

    /// Adds a message, or gives back a response without a call.
    fn place(&mut self, message: Message, kept: bool) -> Option<Message> {
        let at = self.entries.len();
        match message.tool_id() {
            Some((Side::Call, id)) => {
                self.open.entry(id).or_default().push_back(at);
                self.entries.push(Entry::Call(message, None));
            }
            Some((Side::Response, id)) => return self.answer(message, &id, kept),
            None => self.entries.push(Entry::Message(message)),
        }
        None
    }

    fn answer(&mut self, message: Message, id: &str, kept: bool) -> Option<Message> {
        let Some(calls) = self.open.get_mut(id) else {
            return Some(message);
        };
        let call = match calls.back() {
            Some(last) if kept && last + 1 == self.entries.len() => calls.pop_back(),
            _ => calls.pop_front(),
        };
        if calls.is_empty() {
            self.open.remove(id);
        }
        match call.and_then(|at| self.entries.get_mut(at)) {
            Some(Entry::Call(_, response)) => response.replace(message),
            _ => Some(message),
        }
    }

    /// The messages in order, without open calls unless these are kept.
    fn messages(self, keep_open: bool) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            match entry {
                Entry::Message(message) => messages.push(message),
                Entry::Call(call, Some(response)) => messages.extend([call, response]),
                Entry::Call(call, None) if keep_open => messages.push(call),
                Entry::Call(_, None) => {}
            }
        }
        messages
    }
}

/// A history with the responses to its open calls, in the order of the calls. Calls without one are left out.
pub(super) fn answered(history: Vec<Message>, responses: Vec<Message>) -> Vec<Message> {
    let mut pairs = Pairs::of(history);
    for response in responses {
        pairs.push(response);
    }
    pairs.messages(false)
}

/// A tool that the application is to run.
#[derive(Clone, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// One answer of the model, as the history has it.
#[derive(Default)]
pub(super) struct Turn {
    text: String,
    messages: Pairs,
    pub(super) calls: Vec<Call>,
    pub(super) pending: bool,
    pub(super) context_tokens: Option<i64>,
    pub(super) max_context_tokens: Option<i64>,
    size: usize,
}

impl Turn {
    /// Notes what an event adds.
    pub(super) fn note(&mut self, event: &Event) {
        if self.size > MAX_BODY {
            return; // too long for any request: `messages` says so
        }
        let details = event.details();
        let text = |text: &Option<Text>| text.as_ref().map_or("", Text::as_str).to_owned();
        let (id, name) = (text(&details.tool_call_id), text(&details.tool_name));
        match event.kind() {
            Kind::Token => {
                let content = event.content_str();
                self.size += content.len();
                self.text += content;
            }
            Kind::ToolCall => {
                let arguments = text(&details.tool_arguments);
                self.push(Message::tool_call(&id, &name, &arguments));
            }
            Kind::ToolResponse => {
                // The whole of it is for the history; what is shown may be less.
                let full = details.full_content.as_ref().map(Text::as_str);
                let content = full.unwrap_or_else(|| event.content_str());
                let answers = self.push(Message::tool_response(&id, &name, content));
                if answers && let Some(images) = images(event.json_bytes()) {
                    self.push(images);
                }
            }
            Kind::ClientToolCall => {
                let arguments = text(&details.tool_arguments);
                self.push(Message::tool_call(&id, &name, &arguments));
                self.calls.push(Call {
                    id,
                    name,
                    arguments,
                });
            }
            Kind::Completion => {
                self.pending = details.pending_tool_calls == Some(true);
                self.context_tokens = details.context_tokens;
                self.max_context_tokens = details.max_context_tokens;
            }
            _ => {}
        }
    }

    /// Adds a message. Returns false for a response without a call: that is dropped.
    fn push(&mut self, message: Message) -> bool {
        self.close_text();
        self.size += message.size();
        self.messages.push(message)
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.messages.push(Message::Text {
                role: Role::Assistant,
                content: std::mem::take(&mut self.text),
            });
        }
    }

    /// What it adds to the history: pairs of calls and responses, and, where the server waits for the application's tools,
    /// the calls that are still open.
    pub(super) fn messages(&mut self) -> Result<Vec<Message>> {
        if self.size > MAX_BODY {
            let message = format!("the answer is too long for a history of {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        self.close_text();
        let messages = std::mem::take(&mut self.messages).messages(self.pending);
        messages.iter().try_for_each(Message::check)?;
        Ok(messages)
    }
}

/// The message with `image_refs` of a tool's result (protocol section 5). Leaves out what a server would refuse, and with it
/// the whole history.
fn images(json: &[u8]) -> Option<Message> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        image_refs: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Reference<'a> {
        #[serde(borrow)]
        s3_key: Cow<'a, str>,
        #[serde(borrow)]
        encryption_key: Cow<'a, str>,
        #[serde(borrow)]
        media_type: Cow<'a, str>,
    }
    let event: Event<'_> = serde_json::from_slice(json).ok()?;
    let mut references = event.image_refs?;
    references.retain(|reference| {
        serde_json::from_str(reference.get())
            .is_ok_and(|it: Reference<'_>| it.media_type.starts_with("image/"))
    });
    Message::images(&references)
}

/// A conversation that an application keeps. Clones share it.
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
    /// Refuses messages for which there is no room.
    fn admit<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Result<()> {
        let new: usize = messages.into_iter().map(Message::size).sum();
        if self.size.saturating_add(new) > MAX_BODY {
            let message = format!("a conversation of more than {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        Ok(())
    }

    fn set(&mut self, messages: Vec<Message>) {
        self.size = messages.iter().map(Message::size).sum();
        self.messages = messages;
    }
}

/// The longest JSON of a conversation: a character that is escaped takes six times its room, and one that ends a text
/// within a text more.
const MAX_JSON: usize = 8 * MAX_BODY;
/// The version of a conversation's JSON.
const VERSION: u32 = 1;

impl Conversation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what [`Conversation::to_json`] wrote.
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
            let message = format!("json: {} bytes; the bound is {MAX_JSON}", json.len());
            return Err(Error::new(Status::TooLarge, message));
        }
        let document: Document<'_> =
            serde_json::from_str(json).map_err(|e| json::invalid("json", &e))?;
        let invalid = |why: String| Error::new(Status::InvalidJson, format!("json: {why}"));
        if document.version != VERSION {
            let version = document.version;
            return Err(invalid(format!("version {version}; this is {VERSION}")));
        }
        let mut messages = Vec::new();
        for (at, message) in document.messages.iter().enumerate() {
            let message = Message::parse(message.get());
            messages.push(message.map_err(|_| invalid(format!("message {at} is no object")))?);
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

    /// The whole conversation as one JSON document.
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

    /// Appends a message. A tool's response goes directly behind its call.
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

    /// Its messages with a request's behind them. A response to a call of the conversation goes directly behind that call;
    /// the request's other messages stay as they are. Calls of the conversation without a response are left out.
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

    /// Appends what was asked and answered in a turn, and notes what the turn says of the context. Drops calls that have no
    /// response by now, except those of the turn.
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

    /// Drops all but the first `count` messages.
    pub fn truncate(&self, count: usize) {
        let mut state = self.state();
        let mut messages = std::mem::take(&mut state.messages);
        messages.truncate(count);
        state.set(messages);
    }

    /// How many messages it has.
    pub fn count(&self) -> usize {
        self.state().messages.len()
    }

    /// The tokens that it had at the last completion, and the most that it can have.
    pub fn context_tokens(&self) -> (Option<i64>, Option<i64>) {
        let state = self.state();
        (state.context_tokens, state.max_context_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Message {
        Message::tool_call(id, "tool", "{}")
    }

    fn response(id: &str, content: &str) -> Message {
        Message::tool_response(id, "tool", content)
    }

    fn text(content: &str) -> Message {
        Message::Text {
            role: Role::User,
            content: content.into(),
        }
    }

    /// Calls as `id?`, responses as `id=content`, others as their content.
    fn outline(messages: &[Message]) -> String {
        let outline = messages.iter().map(|message| {
            let whole = serde_json::to_value(message).unwrap();
            let content = whole["content"].as_str().unwrap().to_owned();
            let tool: serde_json::Value = serde_json::from_str(&content).unwrap_or_default();
            let id = tool["toolCallId"].as_str().unwrap_or_default();
            match message.tool_id() {
                Some((Side::Call, _)) => format!("{id}?"),
                Some((Side::Response, _)) => format!("{id}={}", tool["content"].as_str().unwrap()),
                None => content,
            }
        });
        outline.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn responses_go_directly_behind_their_calls() {
        let history = || vec![call("a"), text("t"), call("b"), call("c")];
        let responses = vec![response("c", "3"), response("x", "0"), response("a", "1")];
        assert_eq!(outline(&answered(history(), responses)), "a? a=1 t c? c=3");
        assert_eq!(outline(&Pairs::of(history()).messages(true)), "a? t b? c?");
    }

    #[test]
    fn doubled_ids_are_answered_in_the_order_of_the_calls() {
        let responses = vec![response("x", "1"), response("x", "2"), response("x", "3")];
        let messages = answered(vec![call("x"), call("x")], responses);
        assert_eq!(outline(&messages), "x? x=1 x? x=2");
    }

    #[test]
    fn kept_response_stays_behind_its_call() {
        let kept = [
            call("x"),
            text("t"),
            call("x"),
            response("x", "1"),
            text("u"),
        ];
        assert_eq!(
            outline(&Pairs::of(kept.clone()).messages(true)),
            "x? t x? x=1 u"
        );
        assert_eq!(outline(&Pairs::of(kept).messages(false)), "t x? x=1 u");
    }

    #[test]
    fn images_go_on_a_user_message() {
        let image = r#"{"s3Key":"a","encryptionKey":"b","mediaType":"image/png","new":1}"#;
        let event = format!(
            r#"{{"image_refs":[{image},{{"s3Key":"a","encryptionKey":"b","mediaType":"text/html"}},{{}},7]}}"#
        );
        let shown = serde_json::to_string(&images(event.as_bytes()).unwrap()).unwrap();
        assert!(
            shown.contains(&format!(r#""imageRefs":[{image}]"#)),
            "{shown}"
        );
        assert!(shown.contains(r#""role":"user""#), "{shown}");
        for none in [
            "{}",
            r#"{"image_refs":[]}"#,
            r#"{"image_refs":[1]}"#,
            r#"{"image_refs":null}"#,
        ] {
            assert!(images(none.as_bytes()).is_none(), "{none}");
        }
    }
}
