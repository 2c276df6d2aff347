//! What a stream brings: the events of a chat (protocol section 5), found in the bytes of the answer and read; and, of
//! other routes, pieces of the answer, numbers, and how far a transfer has come.
//!
//! The published server writes one event to a response body; several in one body, and one over several, are accepted
//! too. An event's end is found by a state machine that looks at each byte once, so that one-byte bodies cost no more.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::token;
use crate::error::{Error, Result, Status};
use crate::session::Weighted;

/// The longest event (protocol section 5).
pub const MAX_EVENT: usize = 16 << 20;
/// The deepest nesting of an event, its own braces included (protocol section 5).
pub const MAX_EVENT_DEPTH: u32 = 64;

/// White space that events may keep alive, beside a quarter of their own size.
const MAX_BLANK: usize = 256;

/// What an event is. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// A type that this version does not know, or none: see the JSON.
    Other = 0,
    /// Text to append.
    Token = 1,
    /// Reasoning text.
    Thinking = 2,
    /// The server runs one of its own tools.
    ToolCall = 3,
    /// That tool's result.
    ToolResponse = 4,
    /// The application must run this tool.
    ClientToolCall = 5,
    /// The end of the answer.
    Completion = 6,
    /// A piece of an answer that does not come in events.
    Body = 7,
    /// More of an upload was sent.
    Progress = 8,
    /// The answer to an embeddings request.
    Embeddings = 9,
    /// The answer to a ping.
    Pong = 10,
}

impl Kind {
    fn of(name: &str) -> Kind {
        match name {
            "token" => Kind::Token,
            "thinking" => Kind::Thinking,
            "tool_call" => Kind::ToolCall,
            "tool_response" => Kind::ToolResponse,
            "client_tool_call" => Kind::ClientToolCall,
            "completion" => Kind::Completion,
            _ => Kind::Other,
        }
    }
}

/// Text with a NUL behind it, so that C can borrow it.
#[derive(Clone)]
pub struct Text(Box<str>);

impl Text {
    /// Copies `text` and appends the NUL.
    pub fn new(text: &str) -> Text {
        let mut owned = String::with_capacity(text.len() + 1);
        owned.push_str(text);
        owned.push('\0');
        Text(owned.into_boxed_str())
    }

    /// The text without its NUL.
    pub fn as_str(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }
}

/// One event, owned.
pub struct Event {
    kind: Kind,
    /// A view of the message that it came in: its JSON, or the piece that it is.
    json: Bytes,
    content: Content,
    details: Option<Box<Details>>,
    json_text: OnceLock<Text>,
}

/// `content`, which C borrows with a NUL behind it.
enum Content {
    Absent,
    /// Made when it was parsed, for it has escapes.
    Made(Text),
    /// As it stands in the JSON, and copied from there when it is asked for: on the thread that reads, so that the
    /// connection's task copies nothing, and what is allocated is freed on the same thread.
    Within(Range<usize>, OnceLock<Text>),
    /// All of the bytes, which need not be text, with a NUL behind them; copied as above.
    Piece(OnceLock<Box<[u8]>>),
}

impl Content {
    fn of(content: Option<Cow<'_, str>>, json: &str) -> Content {
        match content {
            None => Content::Absent,
            Some(Cow::Owned(text)) => Content::Made(Text::new(&text)),
            Some(Cow::Borrowed(text)) => {
                // It was borrowed from there.
                let start = text.as_ptr().addr() - json.as_ptr().addr();
                Content::Within(start..start + text.len(), OnceLock::new())
            }
        }
    }
}

/// What only some events have.
#[derive(Default)]
pub struct Details {
    /// The type's name, as it came.
    pub type_name: Option<Text>,
    /// Which call.
    pub tool_call_id: Option<Text>,
    /// Which tool.
    pub tool_name: Option<Text>,
    /// The arguments, a JSON text.
    pub tool_arguments: Option<Text>,
    /// The whole result, for the history.
    pub full_content: Option<Text>,
    /// The application has tools to run.
    pub pending_tool_calls: Option<bool>,
    /// Tokens of the conversation so far.
    pub context_tokens: Option<i64>,
    /// The most that a conversation can have.
    pub max_context_tokens: Option<i64>,
    /// Bytes of the upload that were sent, and all that it has, if that is known.
    pub sent: Option<(u64, Option<u64>)>,
    /// Bytes of the answer that came, this piece included, and all that were announced, if they were.
    pub received: Option<(u64, Option<u64>)>,
    /// How long a ping took.
    pub round_trip: Option<Duration>,
    /// Embeddings.
    pub matrix: Option<Matrix>,
}

/// One row for each text, of equal length.
pub struct Matrix {
    /// Row after row.
    pub values: Box<[f32]>,
    /// How many texts.
    pub rows: usize,
    /// The length of a row.
    pub columns: usize,
}

impl Details {
    fn weight(&self) -> usize {
        let texts = [
            &self.type_name,
            &self.tool_call_id,
            &self.tool_name,
            &self.tool_arguments,
            &self.full_content,
        ];
        let matrix = self.matrix.as_ref().map_or(0, |m| size_of_val(&*m.values));
        size_of::<Details>() + matrix + texts.map(weight).iter().sum::<usize>()
    }
}

fn weight(text: &Option<Text>) -> usize {
    text.as_ref().map_or(0, |text| text.0.len())
}

static NONE: Details = Details {
    type_name: None,
    tool_call_id: None,
    tool_name: None,
    tool_arguments: None,
    full_content: None,
    pending_tool_calls: None,
    context_tokens: None,
    max_context_tokens: None,
    sent: None,
    received: None,
    round_trip: None,
    matrix: None,
};

impl Event {
    /// Reads one JSON object.
    fn parse(json: Bytes) -> Result<Event> {
        let text =
            simdutf8::basic::from_utf8(&json).map_err(|_| broken("an event is not UTF-8"))?;
        // serde_json's message would quote the answer; its position does not.
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
                // Whoever appends what a token brings may do so without a look: a peer that sends none ends no process.
                if let Content::Absent = content {
                    content = Content::Made(Text::new(""));
                }
                None
            }
            _ => Some(Box::new(Details {
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
            json,
        })
    }

    /// Takes a token from the beginning of `rest`, if it stands there whole and in the usual form.
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
            json: rest.split_to(found.len),
        })
    }

    /// A piece of an answer.
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

    /// An event that has no JSON.
    pub(super) fn with(kind: Kind, details: Details) -> Event {
        Event {
            kind,
            json: Bytes::new(),
            content: Content::Absent,
            details: Some(Box::new(details)),
            json_text: OnceLock::new(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The bytes of a piece, with a NUL behind them.
    pub fn piece(&self) -> Option<&[u8]> {
        let Content::Piece(piece) = &self.content else {
            return None;
        };
        Some(piece.get_or_init(|| [&self.json[..], &[0]].concat().into()))
    }

    /// `content`, without a copy: for the connection's task, which sees each event of a conversation.
    pub(super) fn content_str(&self) -> &str {
        match &self.content {
            Content::Absent | Content::Piece(_) => "",
            Content::Made(text) => text.as_str(),
            Content::Within(range, _) => utf8(&self.json[range.clone()]),
        }
    }

    /// The event as it came, without a copy.
    pub(super) fn json_bytes(&self) -> &[u8] {
        &self.json
    }

    /// `content`.
    pub fn content(&self) -> Option<&Text> {
        match &self.content {
            Content::Absent | Content::Piece(_) => None,
            Content::Made(text) => Some(text),
            Content::Within(range, text) => {
                Some(text.get_or_init(|| Text::new(utf8(&self.json[range.clone()]))))
            }
        }
    }

    /// The rest of what this library knows.
    pub fn details(&self) -> &Details {
        self.details.as_deref().unwrap_or(&NONE)
    }

    /// The event as it came, byte for byte; none where it did not come as JSON.
    pub fn json(&self) -> Option<&Text> {
        if self.kind as i32 >= Kind::Body as i32 {
            return None;
        }
        let text = || Text::new(utf8(&self.json));
        Some(self.json_text.get_or_init(text))
    }
}

/// The text of bytes that were UTF-8 when their event was read.
fn utf8(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

impl Weighted for Event {
    /// Only the latest progress counts: a reader that pauses must not collect it without end.
    fn replaces(&self, older: &Event) -> bool {
        self.kind == Kind::Progress && older.kind == Kind::Progress
    }

    fn weight(&self) -> usize {
        /// The event itself, and the allocations' own cost.
        const FIXED: usize = 160;
        let details = self.details.as_ref().map_or(0, |details| details.weight());
        let content = match &self.content {
            Content::Made(text) => text.0.len(),
            // Made for the one event that is being read.
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

/// The properties that are read. One of an unexpected type counts as absent, and of doubled ones the last counts: the
/// application has the JSON.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    content: Option<Cow<'a, str>>,
    tool_call_id: Option<Cow<'a, str>>,
    tool_name: Option<Cow<'a, str>>,
    tool_arguments: Option<Cow<'a, str>>,
    full_content: Option<Cow<'a, str>>,
    pending_tool_calls: Option<bool>,
    context_tokens: Option<i64>,
    max_context_tokens: Option<i64>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Scalar::Text(name)) = map.next_key()? {
                    match &*name {
                        "type" => fields.kind = map.next_value::<Scalar<'de>>()?.text(),
                        "content" => fields.content = map.next_value::<Scalar<'de>>()?.text(),
                        "tool_call_id" => {
                            fields.tool_call_id = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "tool_name" => fields.tool_name = map.next_value::<Scalar<'de>>()?.text(),
                        "tool_arguments" => {
                            fields.tool_arguments = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "full_content" => {
                            fields.full_content = map.next_value::<Scalar<'de>>()?.text()
                        }
                        "pending_tool_calls" => {
                            fields.pending_tool_calls = map.next_value::<Scalar<'de>>()?.flag()
                        }
                        "context_tokens" => {
                            fields.context_tokens = map.next_value::<Scalar<'de>>()?.number()
                        }
                        "max_context_tokens" => {
                            fields.max_context_tokens = map.next_value::<Scalar<'de>>()?.number()
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A value of any type, of which text, flags and whole numbers are kept.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Flag(bool),
    Number(i64),
    Other,
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Scalar::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }
    fn flag(self) -> Option<bool> {
        if let Scalar::Flag(flag) = self {
            Some(flag)
        } else {
            None
        }
    }
    fn number(self) -> Option<i64> {
        if let Scalar::Number(number) = self {
            Some(number)
        } else {
            None
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.into())))
            }
            fn visit_bool<E>(self, flag: bool) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_i64<E>(self, number: i64) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_u64<E>(self, number: u64) -> std::result::Result<Scalar<'de>, E> {
                Ok(i64::try_from(number).map_or(Scalar::Other, Scalar::Number))
            }
            fn visit_f64<E>(self, _: f64) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> std::result::Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Finds the events in the bodies of one answer.
#[derive(Default)]
pub struct Splitter {
    /// The beginning of an event whose end has not come yet.
    partial: BytesMut,
    scan: Scan,
}

/// Events are handed over once they weigh this much: a body may hold millions of them, and each takes far more memory
/// than the two bytes that are enough for one.
pub const SLICE: usize = 64 << 10;

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Split {
    /// All of the body was read, and the answer goes on.
    More,
    /// There is more in the body, after these events were handed over.
    Slice,
    /// A `completion` was among the events; what follows it is ignored.
    Complete,
}

impl Splitter {
    /// Takes from `body`, and appends the events that end in what it took. On an error, those before it are in `events`.
    pub fn push(&mut self, body: &mut Bytes, events: &mut Vec<Event>) -> Result<Split> {
        let (len, before) = (body.len(), events.len());
        let result = self.split(body, events);
        // White space between events must not be kept with them: nothing counts it.
        let (taken, events) = (len - body.len(), &mut events[before..]);
        let kept: usize = events.iter().map(|event| event.json.len()).sum();
        if taken > kept + kept / 4 + MAX_BLANK {
            for event in events {
                event.json = Bytes::copy_from_slice(&event.json);
            }
        }
        result
    }

    fn split(&mut self, rest: &mut Bytes, events: &mut Vec<Event>) -> Result<Split> {
        let mut weight = 0;
        loop {
            if self.scan.depth == 0 {
                let blank = rest
                    .iter()
                    .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
                    .count();
                let _ = rest.split_to(blank);
                match rest.first() {
                    None => return Ok(Split::More),
                    Some(b'{') => {}
                    Some(_) => {
                        return Err(broken(
                            "unexpected bytes between two events (expected a JSON object)",
                        ));
                    }
                }
                if let Some(event) = Event::take_token(rest) {
                    weight += event.weight();
                    events.push(event);
                    if weight >= SLICE && !rest.is_empty() {
                        return Ok(Split::Slice);
                    }
                    continue;
                }
            }
            let end = self.scan.advance(rest)?;
            let len = end.unwrap_or(rest.len());
            if self.partial.len() + len > MAX_EVENT {
                return Err(broken(&format!(
                    "an event is larger than {MAX_EVENT} bytes"
                )));
            }
            let part = rest.split_to(len);
            if end.is_none() {
                self.partial.extend_from_slice(&part);
                return Ok(Split::More);
            }
            let json = if self.partial.is_empty() {
                part
            } else {
                self.partial.extend_from_slice(&part);
                std::mem::take(&mut self.partial).freeze()
            };
            let event = Event::parse(json)?;
            let complete = event.kind == Kind::Completion;
            weight += event.weight();
            events.push(event);
            if complete {
                return Ok(Split::Complete);
            }
            if weight >= SLICE && !rest.is_empty() {
                return Ok(Split::Slice);
            }
        }
    }
}

/// Where in an event the last byte was.
#[derive(Default)]
struct Scan {
    /// Open braces and brackets; that they match is for the JSON reader to see.
    depth: u32,
    string: Str,
}

#[derive(Default, Clone, Copy)]
enum Str {
    /// Not in a string.
    #[default]
    Outside,
    /// In a string; `high`: right behind an escaped high surrogate, which only an escaped low one may follow.
    Inside { high: bool },
    /// Behind a backslash.
    Escape { high: bool },
    /// In the digits of `\uXXXX`.
    Unicode { high: bool, digits: u8, value: u16 },
}

impl Scan {
    /// Looks at `bytes`, which begin where the last call ended. `Some(n)`: the event ends with the n-th of them.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut at = 0;
        while at < bytes.len() {
            if let Str::Inside { high: false } = self.string {
                // The bulk of an event is text without escapes.
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    Some(skipped) => at += skipped,
                    None => return Ok(None),
                }
            }
            let byte = bytes[at];
            at += 1;
            self.string = match self.string {
                Str::Outside => match byte {
                    b'"' => Str::Inside { high: false },
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth > MAX_EVENT_DEPTH {
                            return Err(broken(&format!(
                                "an event is nested more than {MAX_EVENT_DEPTH} levels deep"
                            )));
                        }
                        Str::Outside
                    }
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Ok(Some(at));
                        }
                        Str::Outside
                    }
                    _ => Str::Outside,
                },
                Str::Inside { high } => match byte {
                    b'\\' => Str::Escape { high },
                    _ if high => return Err(lone_surrogate()),
                    b'"' => Str::Outside,
                    _ => Str::Inside { high },
                },
                Str::Escape { high } => match byte {
                    b'u' => Str::Unicode {
                        high,
                        digits: 0,
                        value: 0,
                    },
                    _ if high => return Err(lone_surrogate()),
                    _ => Str::Inside { high: false },
                },
                Str::Unicode {
                    high,
                    digits,
                    value,
                } => {
                    let digit = (byte as char).to_digit(16).ok_or_else(|| {
                        broken("an event has a \\u escape without four hex digits")
                    })?;
                    let value = value << 4 | digit as u16;
                    if digits < 3 {
                        Str::Unicode {
                            high,
                            digits: digits + 1,
                            value,
                        }
                    } else {
                        match (high, value) {
                            (false, 0xd800..=0xdbff) => Str::Inside { high: true },
                            (true, 0xdc00..=0xdfff) => Str::Inside { high: false },
                            (true, _) | (_, 0xdc00..=0xdfff) => return Err(lone_surrogate()),
                            _ => Str::Inside { high: false },
                        }
                    }
                }
            };
        }
        Ok(None)
    }
}

fn lone_surrogate() -> Error {
    broken("an event has a lone surrogate")
}

fn broken(why: &str) -> Error {
    Error::new(Status::Event, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(bodies: &[&[u8]]) -> Result<(Vec<Event>, Split)> {
        let (mut splitter, mut events) = (Splitter::default(), Vec::new());
        let mut last = Split::More;
        for body in bodies {
            let mut body = Bytes::copy_from_slice(body);
            loop {
                last = splitter.push(&mut body, &mut events)?;
                if last != Split::Slice {
                    break;
                }
            }
            if last == Split::Complete {
                break;
            }
        }
        Ok((events, last))
    }

    fn contents(events: &[Event]) -> Vec<&str> {
        events
            .iter()
            .filter_map(|e| e.content().map(Text::as_str))
            .collect()
    }

    #[test]
    fn one_body_may_hold_several_events_and_several_bodies_one() {
        let (events, _) = split(&[
            br#"{"type":"token","content":"a"}{"type":"token","content":"b"}"#,
            br#" {"type":"tok"#,
            br#"en","content":"c}\"{"}"#,
            b"\n\t",
        ])
        .unwrap();
        assert_eq!(contents(&events), ["a", "b", "c}\"{"]);
    }

    #[test]
    fn an_event_keeps_no_white_space_alive() {
        let mut body = br#"{"type":"token","content":"a"}"#.to_vec();
        body.resize(64 << 10, b' ');
        let body = Bytes::from(body);
        let mut events = Vec::new();
        Splitter::default()
            .push(&mut body.clone(), &mut events)
            .unwrap();
        assert_eq!(contents(&events), ["a"]);
        assert!(!body.as_ptr_range().contains(&events[0].json.as_ptr()));
    }

    #[test]
    fn all_that_an_event_holds_is_in_its_weight() {
        let long = "x".repeat(10_000);
        let json =
            format!(r#"{{"type":"tool_response","content":"{long}","full_content":"{long}"}}"#);
        let (events, _) = split(&[json.as_bytes()]).unwrap();
        assert!(events[0].weight() > 30_000);
    }

    #[test]
    fn a_body_of_many_events_comes_in_slices() {
        let mut body = Bytes::from("{}".repeat(1 << 20));
        let (mut splitter, mut events, mut total) = (Splitter::default(), Vec::new(), 0);
        while splitter.push(&mut body, &mut events).unwrap() == Split::Slice {
            let weight: usize = events.iter().map(Event::weight).sum();
            assert!((SLICE..2 * SLICE).contains(&weight), "{weight}");
            total += events.len();
            events.clear();
        }
        assert_eq!(total + events.len(), 1 << 20);
    }

    #[test]
    fn a_token_always_has_a_content() {
        for json in [
            r#"{"type":"token"}"#,
            r#"{"type":"thinking","content":5}"#,
            r#"{"content":null,"type":"token"}"#,
        ] {
            let (events, _) = split(&[json.as_bytes()]).unwrap();
            assert_eq!(contents(&events), [""], "{json}");
        }
    }

    #[test]
    fn bytes_after_completion_are_ignored() {
        let (events, end) =
            split(&[br#"{"type":"completion","context_tokens":5,"max_context_tokens":9,"pending_tool_calls":true}junk"#])
                .unwrap();
        assert_eq!(end, Split::Complete);
        let details = events[0].details();
        assert_eq!(
            (details.context_tokens, details.max_context_tokens),
            (Some(5), Some(9))
        );
        assert_eq!(details.pending_tool_calls, Some(true));
    }

    #[test]
    fn a_missing_unknown_or_odd_type_is_passed_on() {
        for json in [
            r#"{}"#,
            r#"{"type":"later"}"#,
            r#"{"type":7,"content":[1]}"#,
            r#"{"type":null,"x":{"y":[]}}"#,
        ] {
            let (events, end) = split(&[json.as_bytes()]).unwrap();
            assert_eq!((events[0].kind(), end), (Kind::Other, Split::More));
            assert_eq!(events[0].json().unwrap().as_str(), json);
        }
    }

    #[test]
    fn bytes_that_are_no_json_object_end_the_stream() {
        for bad in [
            "x",
            "[]",
            "\"a\"",
            "1",
            "{]",
            "{\"a\":}",
            "{} x",
            "{\"a\":\"\\q\"}",
            "{\"a\" 1}",
            "}",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert_eq!(
                split(&[bad.as_bytes()]).unwrap_err().status(),
                Status::Event,
                "{bad}"
            );
        }
        assert!(split(&[b"{\"content\":\"\xff\"}"]).is_err());
        assert!(split(&[b"{\"ignored\":\"\xff\"}"]).is_err());
    }

    #[test]
    fn a_lone_surrogate_ends_the_stream_wherever_it_stands() {
        for bad in [
            r"\ud800",
            r"\udc00",
            r"\ud800x",
            r"\ud800\n",
            r"\ud800A",
            r"\ud800\ud800",
            r"\udbff\ue000",
        ] {
            for key in ["content", "ignored"] {
                let json = format!(r#"{{"{key}":"{bad}"}}"#);
                assert_eq!(
                    split(&[json.as_bytes()]).unwrap_err().status(),
                    Status::Event,
                    "{json}"
                );
            }
        }
        let (events, _) = split(&[br#"{"type":"token","content":"\ud83d\ude00"}"#]).unwrap();
        assert_eq!(contents(&events), ["😀"]);
    }

    #[test]
    fn nesting_ends_at_64_levels() {
        let nested = |levels: usize| {
            format!(
                "{}{}{}{}",
                "{\"a\":",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1),
                "}"
            )
        };
        assert!(split(&[nested(64).as_bytes()]).is_ok());
        assert!(split(&[nested(65).as_bytes()]).is_err());
    }

    #[test]
    fn an_event_ends_at_16_mib_however_it_is_cut() {
        let event = |len: usize| {
            let head = br#"{"type":"token","content":""#;
            [&head[..], &vec![b'x'; len - head.len() - 2], b"\"}"].concat()
        };
        assert_eq!(split(&[&event(MAX_EVENT)]).unwrap().0.len(), 1);
        assert!(split(&[&event(MAX_EVENT + 1)]).is_err());
        let whole = event(MAX_EVENT);
        let bytes: Vec<&[u8]> = whole.chunks(1).collect(); // would take hours if it were quadratic
        assert_eq!(split(&bytes).unwrap().0.len(), 1);
    }

    #[test]
    fn an_error_does_not_quote_the_answer() {
        let error = split(&[br#"{"type":"token","content":"secret" oops}"#]).unwrap_err();
        assert!(
            !error.message().contains("secret") && !error.message().contains("oops"),
            "{error}"
        );
    }

    proptest! {
        /// The reader of tokens and the general one agree on whatever the first accepts.
        #[test]
        fn both_readers_read_the_same(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"", "\"type\"", "\"content\"", "\"token\"", "\"thinking\"", ":", ",", " ", "\n", "x",
                "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud800", "\u{1}", "é", "\\", "7",
                "{\"type\":\"token\",\"content\":\"", "\"}",
            ]), 0..12),
        ) {
            let json = parts.concat();
            if let Some(found) = token::find(json.as_bytes()) {
                let general = Event::parse(Bytes::from(json[..found.len].to_owned())).unwrap();
                let mut rest = Bytes::from(json);
                let own = Event::take_token(&mut rest).unwrap();
                prop_assert_eq!(own.kind(), general.kind());
                let text = |event: &Event| event.content().map(|text| text.as_str().to_owned());
                prop_assert_eq!(text(&own), text(&general));
                prop_assert_eq!(own.json_bytes(), general.json_bytes());
            }
        }

        /// However a stream of events is cut into bodies, the same events come out.
        #[test]
        fn cutting_changes_nothing(texts in prop::collection::vec(any::<String>(), 0..8), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16)) {
            let whole: Vec<u8> = texts.iter()
                .flat_map(|text| serde_json::json!({"type": "token", "content": text}).to_string().into_bytes()).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let bodies: Vec<&[u8]> = at.windows(2).map(|w| &whole[w[0]..w[1]]).collect();
            let (events, _) = split(&bodies).unwrap();
            prop_assert_eq!(contents(&events), texts);
        }

        /// Bytes of a hostile peer never panic.
        #[test]
        fn any_bytes_are_answered(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32), 0..8)) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let _ = split(&bodies);
            let braced: Vec<Vec<u8>> = bodies.iter().map(|b| [b"{", *b].concat()).collect();
            let _ = split(&braced.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
