//! Reads answers, by the ending of their route (protocol section 4).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::event::{Details, Event, Kind, Matrix, Split, Splitter};
use super::inbox::Inbox;
use super::upload::{MAX_DOCUMENT, NEWER_MAX_DOCUMENT};
use crate::error::{Error, Progress, Result, Status};
use crate::session::{Flow, Left, Pace, Piece, Receiver};

/// The ending of an answer. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Ending {
    /// Ends with the first response.
    OneResponse = 0,
    /// Ends with the event `completion`.
    Completion = 1,
    /// Ends after as many bytes as `Content-Length` announces.
    ContentLength = 2,
}

impl Ending {
    /// All endings, by number.
    pub const ALL: [Ending; 3] = [
        Ending::OneResponse,
        Ending::Completion,
        Ending::ContentLength,
    ];

    pub(super) fn reading(self) -> Reading {
        match self {
            Ending::OneResponse => Reading::OneResponse,
            Ending::Completion => Reading::Events(Splitter::default(), None),
            Ending::ContentLength => Reading::Counted {
                length: None,
                received: 0,
            },
        }
    }
}

/// Follows a chat: receives its events, and decides at the end of an exchange whether the stream
/// ends.
pub(super) trait Sequel: Send {
    /// Receives events: those of the batch from `from` on.
    fn events(&mut self, batch: &mut Vec<Event>, from: usize);
    /// The last event of the batch completes the answer.
    fn complete(&mut self, batch: &mut Vec<Event>);
    /// The exchange has ended. Returns the stream's result if the stream ends too, or None if
    /// another round follows.
    fn end(self: Box<Self>, result: Result<()>) -> Option<Result<()>>;
}

/// The form of an answer.
pub(super) enum Reading {
    /// One response with any content.
    OneResponse,
    /// Events up to `completion`.
    Events(Splitter, Option<Box<dyn Sequel>>),
    /// As many bytes as announced.
    Counted { length: Option<u64>, received: u64 },
    /// One response with a row for each text.
    Embeddings { texts: usize },
    /// One response, and the time of its request.
    Ping { sent: Option<Instant> },
}

impl Reading {
    /// Progress of reading the answer.
    pub(super) fn pace(&self) -> Pace {
        match self {
            Reading::Events(..) => Pace::Events,
            _ => Pace::Pieces,
        }
    }
}

/// The connection's side of a stream.
pub(super) struct Answer {
    reading: Reading,
    upload: Option<Transfer>,
    batch: Vec<Event>,
    inbox: Arc<Inbox<Event>>,
    ended: bool,
}

/// Progress of the upload.
pub(super) struct Transfer {
    pub(super) sent: u64,
    pub(super) total: Option<u64>,
}

impl Transfer {
    /// Adds likely reasons why a server refused the document, because the server's text may not say
    /// so (protocol section 6).
    fn explain(&self, error: Error) -> Error {
        let code = match (error.status(), error.http_status()) {
            (Status::Refused, Some(code @ (400 | 413 | 500))) => code,
            _ => return error,
        };
        let size = self.total.unwrap_or(self.sent);
        let mut hints = Vec::new();
        if code == 400 && self.total == Some(0) {
            hints.push("the document is empty, and newer servers refuse that".to_owned());
        }
        if code == 400 && self.total.is_none() {
            hints.push("the document's length was not given, and newer servers need it".to_owned());
        }
        if code == 413 || size > MAX_DOCUMENT {
            let (most, newer) = (MAX_DOCUMENT >> 20, NEWER_MAX_DOCUMENT >> 20);
            let size = match self.total {
                Some(total) => format!("{total} bytes"),
                None => format!("more than {} bytes", self.sent),
            };
            hints.push(format!(
                "the document has {size}: a server takes {most} MiB, a newer one {newer} MiB"
            ));
        }
        hints
            .iter()
            .fold(error, |error, hint| error.adding(&format!("({hint})")))
    }
}

impl Answer {
    pub(super) fn new(
        reading: Reading,
        upload: Option<Transfer>,
        inbox: Arc<Inbox<Event>>,
    ) -> Box<Answer> {
        Box::new(Answer {
            reading,
            upload,
            batch: Vec::new(),
            inbox,
            ended: false,
        })
    }

    /// The exchange has ended, and the stream too, unless another round follows.
    fn conclude(&mut self, result: Result<()>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let sequel = match &mut self.reading {
            Reading::Events(_, sequel) => sequel.take(),
            _ => None,
        };
        let result = match sequel {
            Some(sequel) => sequel.end(result),
            None => Some(result),
        };
        if let Some(result) = result {
            self.inbox.end(result);
        }
    }

    fn read(&mut self, piece: Piece) -> Result<Flow> {
        match &mut self.reading {
            Reading::OneResponse => {
                let len = piece.body.len() as u64;
                self.batch.push(Event::body(piece.body, len, Some(len)));
                Ok(Flow::Done)
            }
            Reading::Events(..) => self.read_events(piece),
            Reading::Counted { length, received } => {
                let announced = content_length(&piece)?;
                if length.is_some_and(|length| length != announced) {
                    return Err(broken(
                        "Content-Length changed between two responses of the same answer",
                    ));
                }
                *length = Some(announced);
                *received += piece.body.len() as u64;
                if *received > announced {
                    let message = format!(
                        "received {received} bytes, more than the Content-Length of {announced}"
                    );
                    return Err(broken(&message));
                }
                let flow = if *received == announced {
                    Flow::Done
                } else {
                    Flow::More
                };
                if !piece.body.is_empty() {
                    let event = Event::body(piece.body, *received, Some(announced));
                    self.batch.push(event);
                }
                Ok(flow)
            }
            Reading::Embeddings { texts } => {
                let matrix = Some(read_matrix(&piece.body, *texts)?);
                let details = Details {
                    matrix,
                    ..Details::default()
                };
                self.batch.push(Event::with(Kind::Embeddings, details));
                Ok(Flow::Done)
            }
            Reading::Ping { sent } => {
                let sent = sent.unwrap_or(piece.at);
                let round_trip = Some(piece.at.saturating_duration_since(sent));
                let details = Details {
                    round_trip,
                    ..Details::default()
                };
                self.batch.push(Event::with(Kind::Pong, details));
                Ok(Flow::Done)
            }
        }
    }

    fn read_events(&mut self, mut piece: Piece) -> Result<Flow> {
        loop {
            let Reading::Events(splitter, sequel) = &mut self.reading else {
                return Ok(Flow::More);
            };
            let before = self.batch.len();
            let split = splitter.push(&mut piece.body, &mut self.batch);
            if let Some(sequel) = sequel {
                sequel.events(&mut self.batch, before);
            }
            match split? {
                Split::More => return Ok(Flow::More),
                Split::Complete => {
                    if let Some(sequel) = sequel {
                        sequel.complete(&mut self.batch);
                    }
                    return Ok(Flow::Done);
                }
                Split::Slice => self.flush()?,
            }
        }
    }
}

impl Drop for Answer {
    /// Ends the stream even if the connection's task was dropped.
    fn drop(&mut self) {
        let message = "the request ended without a result: a defect in libconfer";
        // The request may have been sent.
        let error = Error::new(Status::Panic, message).with_progress(Progress::MaybeSent);
        self.conclude(Err(error));
    }
}

impl Receiver for Answer {
    fn sent(&mut self, left: Left, now: Instant) -> bool {
        if let Reading::Ping { sent } = &mut self.reading {
            *sent = Some(now);
        }
        let Some(upload) = &mut self.upload else {
            return false;
        };
        if left.data == 0 && upload.total != Some(0) {
            return false;
        }
        upload.sent += left.data as u64;
        let details = Details {
            sent: Some((upload.sent, upload.total)),
            ..Details::default()
        };
        // Progress that was not read yet is outdated.
        self.batch.retain(|event| event.kind() != Kind::Progress);
        self.batch.push(Event::with(Kind::Progress, details));
        true
    }

    fn restart(&mut self) {
        if let Some(upload) = &mut self.upload {
            upload.sent = 0;
        }
    }

    fn pieces(&mut self, pieces: &mut Vec<Piece>) -> Flow {
        for piece in pieces.drain(..) {
            match self.read(piece) {
                Ok(Flow::More) => {}
                Ok(end) => return end,
                Err(error) => return Flow::Broken(error),
            }
        }
        Flow::More
    }

    fn flush(&mut self) -> Result<()> {
        self.inbox.deliver(&mut self.batch)
    }

    fn pause_if_full(&self) -> bool {
        self.inbox.pause_if_full()
    }

    fn end(mut self: Box<Self>, result: Result<()>) {
        let result = result.map_err(|error| match &self.upload {
            Some(upload) => upload.explain(error),
            None => error,
        });
        self.conclude(result);
    }
}

/// Reads `Content-Length`, which every piece has (protocol section 4).
fn content_length(piece: &Piece) -> Result<u64> {
    /// No document is longer.
    const MAX_DIGITS: usize = 12;
    let mut found = None;
    for (name, value) in &piece.headers {
        if !name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let length = (digits && (1..=MAX_DIGITS).contains(&value.len()))
            .then(|| value.parse().ok())
            .flatten()
            .ok_or_else(|| broken("Content-Length is not 1 to 12 digits"))?;
        if found.is_some_and(|found| found != length) {
            return Err(broken("a response has two different Content-Lengths"));
        }
        found = Some(length);
    }
    found.ok_or_else(|| broken("a response has no Content-Length"))
}

/// Reads `{"embeddings": [[float…]…], "dimension": int}` (protocol section 4) into one allocation.
/// With a vector for each row, a peer could multiply the memory for its bytes.
fn read_matrix(body: &[u8], texts: usize) -> Result<Matrix> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        embeddings: &'a RawValue,
        dimension: usize,
    }
    // serde_json's message could quote the answer, its position cannot.
    let no_json = |e: serde_json::Error| {
        let (line, column) = (e.line(), e.column());
        broken(&format!(
            "the answer is not a list of embeddings of one dimension (line {line} column {column})"
        ))
    };
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(no_json)?;
    let (columns, mut values) = (answer.dimension, Vec::new());
    let rows = Rows {
        columns,
        values: &mut values,
    };
    let mut json = serde_json::Deserializer::from_str(answer.embeddings.get());
    let rows = rows.deserialize(&mut json).map_err(no_json)?;
    if rows != texts {
        return Err(broken(&format!(
            "received {rows} embeddings for {texts} texts"
        )));
    }
    Ok(Matrix {
        values: values.into(),
        rows,
        columns,
    })
}

/// Reads rows of equal length, and counts them.
struct Rows<'a> {
    columns: usize,
    values: &'a mut Vec<f32>,
}

/// Reads one row.
struct Row<'a>(&'a mut Vec<f32>);

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<usize, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of embeddings")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<usize, A::Error> {
        let mut rows = 0;
        while let Some(len) = seq.next_element_seed(Row(self.values))? {
            rows += 1;
            if len != self.columns {
                return Err(serde::de::Error::custom("another dimension"));
            }
            if len == 0 {
                return Err(serde::de::Error::custom("an empty embedding"));
            }
        }
        Ok(rows)
    }
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<usize, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an embedding")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<usize, A::Error> {
        let before = self.0.len();
        while let Some(value) = seq.next_element::<f32>()? {
            if !value.is_finite() {
                return Err(serde::de::Error::custom("a number that no float can be"));
            }
            self.0.push(value);
        }
        Ok(self.0.len() - before)
    }
}

fn broken(why: &str) -> Error {
    Error::new(Status::Protocol, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(json: &str, texts: usize) -> Result<Matrix> {
        read_matrix(json.as_bytes(), texts)
    }

    #[test]
    fn embeddings_have_one_row_for_each_text() {
        let read = matrix(
            r#"{"embeddings":[[1,2.5],[-3e-2,0]],"dimension":2,"more":1}"#,
            2,
        );
        let read = read.unwrap();
        assert_eq!((read.rows, read.columns), (2, 2));
        assert_eq!(*read.values, [1.0, 2.5, -0.03, 0.0]);
    }

    #[test]
    fn error_explains_why_servers_refuse_a_document() {
        let message = |code, sent, total| {
            let error = Error::new(Status::Refused, "status").with_http_status(code);
            let told = Transfer { sent, total }.explain(error);
            told.message().to_owned()
        };
        let (empty, length) = ("is empty", "length was not given");
        let large = "a server takes 50 MiB, a newer one 256 MiB";
        for (code, sent, total, hints) in [
            (400, 0, Some(0), &[empty] as &[&str]),
            (400, 5, None, &[length]),
            (400, 51 << 20, None, &[length, large]),
            (400, 1 << 20, Some(51 << 20), &[large]),
            (413, 0, Some(5), &[large]),
            (500, 1, Some(51 << 20), &[large]),
            (400, 5, Some(5), &[]),
            (500, 5, None, &[]),
            (415, 0, Some(0), &[]),
        ] {
            let message = message(code, sent, total);
            for hint in [empty, length, large] {
                assert_eq!(message.contains(hint), hints.contains(&hint), "{message}");
            }
        }
    }

    #[test]
    fn invalid_embeddings_are_a_protocol_error_without_quotes() {
        for bad in [
            "",
            "[]",
            r#"{"embeddings":[[1]]}"#,
            r#"{"embeddings":[[1]],"dimension":1}"#,
            r#"{"embeddings":[[1],[2],[3]],"dimension":1}"#,
            r#"{"embeddings":[[1],[2,3]],"dimension":1}"#,
            r#"{"embeddings":[[],[]],"dimension":0}"#,
            r#"{"embeddings":[[1],[1e39]],"dimension":1}"#,
            r#"{"embeddings":[[1],["secret"]],"dimension":1}"#,
            r#"{"embeddings":[[1],[[2]]],"dimension":1}"#,
            r#"{"embeddings":{},"dimension":1}"#,
            r#"{"embeddings":[[1],[2]],"dimension":-1}"#,
        ] {
            let error = matrix(bad, 2).err().unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(error.status(), Status::Protocol, "{bad}");
            assert!(!error.message().contains("secret"));
        }
    }
}
