//! A chat: the request that an application builds, and the stream of events that comes back (protocol section 5).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::connect::Client;
use super::event::{Event, Split, Splitter};
use crate::error::{Error, Result, Status};
use crate::session::{Flow, Inbox, MAX_BODY, Next, Receiver, Request, Session, Signal};

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

/// What the plan names; newer servers serve their own model whatever is asked for (protocol section 5).
const DEFAULT_MODEL: &str = "Qwen/Qwen3-235B-A22B-Instruct-2507-tput";

/// Properties that have setters of their own; `stream` is the library's.
const OWN_PROPERTIES: [&str; 4] = ["messages", "model", "webSearch", "stream"];

/// A chat request under construction.
#[derive(Clone)]
pub struct ChatRequest {
    messages: Vec<Message>,
    model: String,
    web_search: bool,
    /// Set by the application as JSON, in order.
    others: Vec<(String, Box<RawValue>)>,
    /// What all of it comes to, about.
    size: usize,
}

#[derive(Clone)]
enum Message {
    Text {
        role: Role,
        content: String,
    },
    /// As the application wrote it.
    Json(Box<RawValue>),
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

impl Default for ChatRequest {
    fn default() -> ChatRequest {
        ChatRequest {
            messages: Vec::new(),
            model: DEFAULT_MODEL.into(),
            web_search: false,
            others: Vec::new(),
            size: DEFAULT_MODEL.len(),
        }
    }
}

impl ChatRequest {
    fn grow(&mut self, by: usize) -> Result<()> {
        self.replace(0, by)
    }

    /// Accounts for a part that takes the place of another.
    fn replace(&mut self, old: usize, by: usize) -> Result<()> {
        let rest = self.size - old;
        if by > MAX_BODY - rest.min(MAX_BODY) {
            return Err(Error::new(
                Status::TooLarge,
                format!("a chat request of more than {MAX_BODY} bytes"),
            ));
        }
        self.size = rest + by;
        Ok(())
    }

    /// Appends a message.
    pub fn add_message(&mut self, role: Role, content: &str) -> Result<()> {
        self.grow(content.len())?;
        self.messages.push(Message::Text {
            role,
            content: content.into(),
        });
        Ok(())
    }

    /// Appends a message given as a JSON object, for properties that have no setter.
    pub fn add_message_json(&mut self, json: &str) -> Result<()> {
        let value = raw("message", json)?;
        if !value.get().starts_with('{') {
            return Err(Error::new(
                Status::InvalidJson,
                "message: it is no JSON object",
            ));
        }
        self.grow(json.len())?;
        self.messages.push(Message::Json(value));
        Ok(())
    }

    /// Names the model.
    pub fn set_model(&mut self, model: &str) -> Result<()> {
        if model.trim().is_empty() {
            return Err(Error::new(Status::InvalidArgument, "model: it is blank"));
        }
        self.replace(self.model.len(), model.len())?;
        self.model = model.into();
        Ok(())
    }

    /// Whether the enclave may send queries to a search service.
    pub fn set_web_search(&mut self, allowed: bool) {
        self.web_search = allowed;
    }

    /// Sets any other property to a JSON value; setting it again replaces it.
    pub fn set_property(&mut self, name: &str, json: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "name: it is empty"));
        }
        if OWN_PROPERTIES.contains(&name) {
            let message = format!("name: {name} has a setter of its own, or is set by the library");
            return Err(Error::new(Status::InvalidArgument, message));
        }
        let value = raw("json", json)?;
        let known = self.others.iter().position(|(known, _)| known == name);
        let old = known.map_or(0, |at| name.len() + self.others[at].1.get().len());
        self.replace(old, name.len() + value.get().len())?;
        match known {
            Some(at) => self.others[at].1 = value,
            None => self.others.push((name.into(), value)),
        }
        Ok(())
    }

    /// The request as it will be sent. `webSearch` is always written: the server takes its absence for consent.
    ///
    /// # Errors
    /// `InvalidArgument` for a request without a message.
    pub fn prepare(&self) -> Result<PreparedChat> {
        if self.messages.is_empty() {
            return Err(Error::new(
                Status::InvalidArgument,
                "request: it has no message",
            ));
        }
        serde_json::to_vec(self)
            .map(|body| PreparedChat(body.into()))
            .map_err(|_| Error::new(Status::InvalidJson, "request: no JSON form"))
    }
}

impl Serialize for ChatRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("stream", &true)?;
        map.serialize_entry("webSearch", &self.web_search)?;
        for (name, value) in &self.others {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("messages", &self.messages)?;
        map.end()
    }
}

/// Reads a JSON value, and keeps it as it was written: numbers lose no digit. Errors tell a position and quote nothing.
fn raw(argument: &str, json: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(json).map_err(|e| {
        let why = match e.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            _ => "not JSON",
        };
        Error::new(
            Status::InvalidJson,
            format!(
                "{argument}: {why}, at line {} column {}",
                e.line(),
                e.column()
            ),
        )
    })
}

/// A chat request that can be sent: its JSON.
pub struct PreparedChat(Bytes);

/// The events of one answer. Dropping it cancels.
pub struct ChatStream {
    /// Streams keep their connection: a client may be dropped first.
    client: Client,
    session: Session,
    id: i64,
    inbox: Arc<Inbox<Event>>,
}

impl ChatStream {
    pub(super) fn start(
        client: Client,
        session: &Session,
        PreparedChat(body): PreparedChat,
    ) -> Result<ChatStream> {
        let reader = session.downgrade();
        let inbox = Arc::new(Inbox::new(move || reader.resume()));
        let receiver = Events {
            splitter: Splitter::default(),
            batch: Vec::new(),
            inbox: inbox.clone(),
        };
        let request = Request {
            verb: "POST",
            path: "/v1/vllm/chat/completions",
            body,
        };
        let id = session.request(request, Box::new(receiver))?;
        Ok(ChatStream {
            client,
            session: session.clone(),
            id,
            inbox,
        })
    }

    /// The next event, waiting for it until `deadline`.
    pub fn next(&self, deadline: Option<Instant>) -> Next<Event> {
        self.inbox.next(deadline)
    }

    /// Gives the answer up: nothing more is delivered but the end. Never waits; again changes nothing.
    pub fn cancel(&self) {
        self.inbox.discard();
        self.session.cancel(self.id);
    }

    /// Installs what is told when there is something to take.
    pub fn set_signal(&self, signal: Arc<dyn Signal>) {
        self.inbox.set_signal(signal);
    }

    /// The client that it belongs to.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for ChatStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The connection's end of a chat stream.
struct Events {
    splitter: Splitter,
    batch: Vec<Event>,
    inbox: Arc<Inbox<Event>>,
}

impl Drop for Events {
    /// A stream comes to an end however the connection's task does. Only the first end counts.
    fn drop(&mut self) {
        self.inbox.end(Err(Error::new(
            Status::Panic,
            "the connection's task ended without a word",
        )));
    }
}

impl Receiver for Events {
    fn piece(&mut self, mut body: Bytes) -> Flow {
        loop {
            match self.splitter.push(&mut body, &mut self.batch) {
                Ok(Split::More) => return Flow::More,
                Ok(Split::Complete) => return Flow::Done,
                Err(error) => return Flow::Broken(error),
                Ok(Split::Slice) => {
                    if let Err(error) = self.flush() {
                        return Flow::Broken(error);
                    }
                }
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.inbox.deliver(&mut self.batch)
    }

    fn pause_if_full(&self) -> bool {
        self.inbox.pause_if_full()
    }

    fn end(self: Box<Self>, result: Result<()>) {
        self.inbox.end(result);
    }
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
        let body = request.prepare().unwrap().0;
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            concat!(
                r#"{"model":"Qwen/Qwen3-235B-A22B-Instruct-2507-tput","stream":true,"webSearch":false,"temperature":1e-3,"#,
                r#""messages":[{"role":"user","content":"hi \"there\""},{"role":"assistant","content":"x","imageRefs":["a"]}]}"#
            )
        );
        request.set_web_search(true);
        assert!(
            String::from_utf8_lossy(&request.prepare().unwrap().0).contains(r#""webSearch":true"#)
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
