//! The messages of a conversation, and what a turn of the model adds to them (protocol section 5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::event::{Event, Kind, Text};
use super::json;
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

    /// A message of the server's, with the references to images that it came with.
    fn with_images(role: Role, content: String, images: Option<&RawValue>) -> Message {
        let Some(images) = images else {
            return Message::Text { role, content };
        };
        let json = json!({ "role": role.name(), "content": content, "imageRefs": images });
        match serde_json::value::to_raw_value(&json) {
            Ok(json) => Message::Json(json),
            Err(_) => Message::Text { role, content },
        }
    }

    /// What a tool was called with; `arguments` is a JSON text.
    pub(super) fn tool_call(id: &str, name: &str, arguments: &str) -> Message {
        let content = json!({ "toolCallId": id, "toolName": name, "toolArguments": arguments });
        Message::Text {
            role: Role::ToolCall,
            content: content.to_string(),
        }
    }

    fn tool_response_content(id: &str, name: &str, content: &str) -> String {
        json!({ "toolCallId": id, "toolName": name, "content": content }).to_string()
    }

    /// What a tool answered.
    pub(super) fn tool_response(id: &str, name: &str, content: &str) -> Message {
        Message::Text {
            role: Role::ToolResponse,
            content: Message::tool_response_content(id, name, content),
        }
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
    messages: Vec<Message>,
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
                let content = Message::tool_response_content(&id, &name, content);
                let images = images(event.json_bytes());
                self.push(Message::with_images(Role::ToolResponse, content, images));
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

    fn push(&mut self, message: Message) {
        self.close_text();
        self.size += message.size();
        self.messages.push(message);
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.messages.push(Message::Text {
                role: Role::Assistant,
                content: std::mem::take(&mut self.text),
            });
        }
    }

    /// What it adds to the history.
    pub(super) fn messages(&mut self) -> Result<Vec<Message>> {
        if self.size > MAX_BODY {
            let message = format!("the answer is too long for a history of {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        self.close_text();
        Ok(std::mem::take(&mut self.messages))
    }
}

/// `image_refs` of a tool's result (protocol section 5).
fn images(json: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Images<'a> {
        #[serde(borrow)]
        image_refs: Option<&'a RawValue>,
    }
    let images: Images<'_> = serde_json::from_slice(json).ok()?;
    let list = images.image_refs?;
    (list.get().starts_with('[') && list.get() != "[]").then_some(list)
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
        let conversation = Conversation::default();
        for (at, message) in document.messages.iter().enumerate() {
            let message = Message::parse(message.get());
            let message = message.map_err(|_| invalid(format!("message {at} is no object")))?;
            conversation.add([message])?;
        }
        let mut state = conversation.state();
        state.context_tokens = document.context_tokens;
        state.max_context_tokens = document.max_context_tokens;
        drop(state);
        Ok(conversation)
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

    fn add(&self, messages: impl IntoIterator<Item = Message>) -> Result<()> {
        let (mut state, messages) = (self.state(), Vec::from_iter(messages));
        let size = state.size + messages.iter().map(Message::size).sum::<usize>();
        if size > MAX_BODY {
            let message = format!("a conversation of more than {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        state.size = size;
        state.messages.extend(messages);
        Ok(())
    }

    /// Appends a message.
    pub fn add_message(&self, role: Role, content: &str) -> Result<()> {
        let content = content.to_owned();
        self.add([Message::Text { role, content }])
    }

    /// Appends what a turn added, and notes what it says of the context.
    pub(super) fn add_turn(&self, messages: &[Message], turn: &Turn) -> Result<()> {
        self.add(messages.iter().cloned())?;
        let mut state = self.state();
        state.context_tokens = turn.context_tokens.or(state.context_tokens);
        state.max_context_tokens = turn.max_context_tokens.or(state.max_context_tokens);
        Ok(())
    }

    /// Drops all but the first `count` messages.
    pub fn truncate(&self, count: usize) {
        let mut state = self.state();
        state.messages.truncate(count);
        state.size = state.messages.iter().map(Message::size).sum();
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

    pub(super) fn messages(&self) -> Vec<Message> {
        self.state().messages.clone()
    }
}
