//! The events of streams: those of a chat (protocol section 5), and for other routes pieces of the
//! answer, embeddings, and the progress of transfers.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use self::details::NONE;
use self::fields::Fields;
use super::inbox::Weighted;
use super::token;
use super::tool::Owed;
use crate::error::{Error, Result, Status};

mod details;
mod fields;
mod news;
mod question;
mod scan;
mod splitter;

pub use details::{Details, Matrix, Text};
pub use news::ClientEvent;
pub use scan::MAX_EVENT_DEPTH;
pub use splitter::{Split, Splitter};

/// The largest event (protocol section 5).
pub const MAX_EVENT: usize = 16 << 20;
/// Up to this size, a clone copies its event out of the message, which can be 65,535 bytes long.
const MAX_COPIED: usize = 4 << 10;

/// The kind of an event. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// An unknown or missing type; see the JSON.
    Other = 0,
    /// Text to append.
    Token = 1,
    /// Reasoning text.
    Thinking = 2,
    /// The server runs one of its tools.
    ServerToolCall = 3,
    /// The result of the server's tool.
    ServerToolResponse = 4,
    /// The application must run this tool.
    ClientToolCall = 5,
    /// The end of the answer.
    Completion = 6,
    /// A piece of an answer that has no events.
    Body = 7,
    /// More of an upload was sent.
    Progress = 8,
    /// The answer to an embeddings request.
    Embeddings = 9,
    /// The answer to a ping.
    Pong = 10,
    /// A stage of connecting began.
    Stage = 100,
    /// The client has a verified connection.
    Connected = 101,
    /// The connection broke.
    Disconnected = 102,
    /// The client connects again after a delay.
    Retry = 103,
    /// The client needs a token.
    AskToken = 104,
    /// The enclave's release has changed, and the client asks whether to accept it.
    AskRelease = 105,
    /// A question is over.
    Answered = 106,
}

impl Kind {
    fn of(name: &str) -> Kind {
        match name {
            "token" => Kind::Token,
            "thinking" => Kind::Thinking,
            "tool_call" => Kind::ServerToolCall,
            "tool_response" => Kind::ServerToolResponse,
            "client_tool_call" => Kind::ClientToolCall,
            "completion" => Kind::Completion,
            _ => Kind::Other,
        }
    }
}

/// One event. Owns its data.
pub struct Event {
    kind: Kind,
    /// The event's JSON or the piece, a view of the received message.
    json: Bytes,
    content: Content,
    details: Option<Arc<Details>>,
    json_text: OnceLock<Text>,
    /// The answer that it wants.
    owed: Option<Arc<Owed>>,
}

/// `content`, which C borrows NUL-terminated.
#[derive(Clone)]
enum Content {
    Absent,
    /// Copied when the event was parsed, because it has escapes.
    Made(Text),
    /// Copied from the JSON at the first call of a getter. So the connection's task copies nothing,
    /// and the reader's thread both allocates and frees the text.
    Within(Range<usize>, OnceLock<Text>),
    /// All bytes of a piece, which may not be text, NUL-terminated. Copied at the first call.
    Piece(OnceLock<Box<[u8]>>),
}

impl Content {
    fn of(content: Option<Cow<'_, str>>, json: &str) -> Content {
        match content {
            None => Content::Absent,
            Some(Cow::Owned(text)) => Content::Made(Text::new(&text)),
            Some(Cow::Borrowed(text)) => {
                // `text` is a part of `json`.
                let start = text.as_ptr().addr() - json.as_ptr().addr();
                Content::Within(start..start + text.len(), OnceLock::new())
            }
        }
    }
}

impl Event {
    /// Parses one JSON object.
    fn parse(json: Bytes) -> Result<Event> {
        let text =
            simdutf8::basic::from_utf8(&json).map_err(|_| broken("an event is not UTF-8"))?;
        // serde_json's message could quote the answer, its position cannot.
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| {
            broken(&format!(
                "an event is not JSON (line {} column {})",
                e.line(),
                e.column()
            ))
        })?;
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Text::new(&text));
        let kind = fields.kind.as_deref().map_or(Kind::Other, Kind::of);
        let mut content = Content::of(fields.content, text);
        let details = match kind {
            Kind::Token | Kind::Thinking => {
                // An absent content is an empty text. Applications append it unchecked, and NULL
                // would crash them.
                if let Content::Absent = content {
                    content = Content::Made(Text::new(""));
                }
                None
            }
            _ => Some(Arc::new(Details {
                type_name: own(fields.kind),
                tool_call_id: own(fields.tool_call_id),
                tool_name: own(fields.tool_name),
                tool_arguments: own(fields.tool_arguments),
                full_content: own(fields.full_content),
                pending_tool_calls: fields.pending_tool_calls,
                context_tokens: fields.context_tokens,
                max_context_tokens: fields.max_context_tokens,
                ..Details::default()
            })),
        };
        Ok(Event {
            kind,
            content,
            details,
            json_text: OnceLock::new(),
            owed: None,
            json,
        })
    }

    /// Reads a token from the start of `rest`, if it is complete and in the usual form.
    fn take_token(rest: &mut Bytes) -> Option<Event> {
        let found = token::find(rest).filter(|found| found.len <= MAX_EVENT)?;
        Some(Event {
            kind: match found.thinking {
                true => Kind::Thinking,
                false => Kind::Token,
            },
            content: match found.unescaped {
                Some(text) => Content::Made(Text::new(&text)),
                None => Content::Within(found.content, OnceLock::new()),
            },
            details: None,
            json_text: OnceLock::new(),
            owed: None,
            json: rest.split_to(found.len),
        })
    }

    /// Makes an event for a piece of an answer.
    pub(super) fn body(piece: Bytes, received: u64, total: Option<u64>) -> Event {
        Event {
            json: piece,
            content: Content::Piece(OnceLock::new()),
            ..Event::with(
                Kind::Body,
                Details {
                    received: Some((received, total)),
                    ..Details::default()
                },
            )
        }
    }

    /// Makes an event without JSON.
    pub(super) fn with(kind: Kind, details: Details) -> Event {
        Event {
            kind,
            json: Bytes::new(),
            content: Content::Absent,
            details: Some(Arc::new(details)),
            json_text: OnceLock::new(),
            owed: None,
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the bytes of a piece, NUL-terminated.
    pub fn piece(&self) -> Option<&[u8]> {
        let Content::Piece(piece) = &self.content else {
            return None;
        };
        Some(piece.get_or_init(|| [&self.json[..], &[0]].concat().into()))
    }

    /// Returns `content` without copying, for the connection's task, which sees each event of a
    /// conversation.
    pub(super) fn content_str(&self) -> &str {
        match &self.content {
            Content::Absent | Content::Piece(_) => "",
            Content::Made(text) => text.as_str(),
            Content::Within(range, _) => utf8(&self.json[range.clone()]),
        }
    }

    /// Returns what it adds to an answer's text: the text of a token, or a piece.
    pub(super) fn answer(&self) -> &[u8] {
        match self.kind {
            Kind::Token => self.content_str().as_bytes(),
            Kind::Body => &self.json,
            _ => &[],
        }
    }

    /// Returns the event's JSON without copying.
    pub(super) fn json_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Returns `content`, NUL-terminated.
    pub fn content(&self) -> Option<&Text> {
        match &self.content {
            Content::Absent | Content::Piece(_) => None,
            Content::Made(text) => Some(text),
            Content::Within(range, text) => {
                Some(text.get_or_init(|| Text::new(utf8(&self.json[range.clone()]))))
            }
        }
    }

    /// Makes it ask the application for an answer. Its clones ask for the same one.
    pub(super) fn owe(&mut self, owed: Owed) {
        self.owed = Some(Arc::new(owed));
    }

    /// Returns the answer that it wants from the application.
    pub fn owed(&self) -> Option<&Owed> {
        self.owed.as_deref()
    }

    /// Returns the other known properties.
    pub fn details(&self) -> &Details {
        self.details.as_deref().unwrap_or(&NONE)
    }

    /// Returns the event's exact JSON, if it has any.
    pub fn json(&self) -> Option<&Text> {
        if self.kind as i32 >= Kind::Body as i32 {
            return None;
        }
        let text = || Text::new(utf8(&self.json));
        Some(self.json_text.get_or_init(text))
    }
}

/// Returns the text of bytes that were UTF-8 when the event was parsed.
fn utf8(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

/// Clones live as long as the application likes. So a clone of a small event does not keep the
/// event's whole message.
impl Clone for Event {
    fn clone(&self) -> Event {
        let json = match self.json.len() {
            ..=MAX_COPIED => Bytes::copy_from_slice(&self.json),
            _ => self.json.clone(),
        };
        Event {
            kind: self.kind,
            json,
            content: self.content.clone(),
            details: self.details.clone(),
            json_text: self.json_text.clone(),
            owed: self.owed.clone(),
        }
    }
}

impl Weighted for Event {
    /// Keeps only the latest progress, so that it cannot pile up while a reader pauses.
    fn replaces(&self, older: &Event) -> bool {
        self.kind == Kind::Progress && older.kind == Kind::Progress
    }

    fn weight(&self) -> usize {
        /// The event, and the overhead of its allocations.
        const FIXED: usize = 160;
        let details = self.details.as_ref().map_or(0, |details| details.weight());
        let content = match &self.content {
            Content::Made(text) => text.weight(),
            // Copied only for the event that is being read.
            Content::Absent | Content::Within(..) | Content::Piece(_) => 0,
        };
        FIXED + self.json.len() + content + details
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?}, {} bytes)", self.kind, self.json.len())
    }
}

fn broken(why: &str) -> Error {
    Error::new(Status::Event, why)
}
