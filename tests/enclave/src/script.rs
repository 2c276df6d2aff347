//! A script: plays the server's side of an exchange (tests/vectors).
//!
//! A vector's file has its steps, and its schema defines them. Steps run in order, each once. Each
//! connection has its own steps, which begin after its handshake. Knows messages and frames; the
//! connection's reader and writer do the rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use prost::Message as _;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::Failure;
use crate::answer::{Outbox, Outgoing, send};
use crate::connection::is_ping;
use crate::faults::{self, Twist};
use crate::wire::{Asked, Chunk, Frame, Response, cut, response, split};

/// Time for an expected message of the client, and for the connection's end. Only a failing test
/// waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

// ---- the steps, as schema.json defines them ----------------------------------------------------

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Connection(Begin),
    Request(ExpectRequest),
    Chunk(ExpectChunk),
    Respond(Respond),
    Frame(SendFrame),
    Plaintext(Sealed),
    Binary(Binary),
    Text(SendText),
    Close(Close),
    Drop(Drop),
    Pings(Pings),
}

/// The steps after it are those of the next connection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    connection: Object<Greeting>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Greeting {
    #[serde(default)]
    fault: Fault,
    #[serde(default, deserialize_with = "present")]
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectRequest {
    expect: String,
    verb: String,
    path: String,
    #[serde(default, deserialize_with = "present")]
    body: Option<Body>,
    #[serde(default, deserialize_with = "present")]
    chunk: Option<Object<Piece>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectChunk {
    expect: String,
    chunk: Object<Piece>,
}

/// A body: this text, or JSON that contains this object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Json(Map<String, Value>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    seq: u32,
    r#final: bool,
    data: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Respond {
    respond: String,
    #[serde(default, deserialize_with = "present")]
    id: Option<Option<i64>>,
    #[serde(default, deserialize_with = "present")]
    status: Option<Option<i32>>,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default, deserialize_with = "present")]
    json: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    body: Option<Text>,
    #[serde(default, deserialize_with = "present")]
    base64: Option<Base64>,
    #[serde(default, deserialize_with = "present")]
    each: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "present")]
    cut: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "present")]
    frames: Option<Vec<u32>>,
    #[serde(default, deserialize_with = "present")]
    chunk_id: Option<Option<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendFrame {
    frame: Object<Fields>,
    #[serde(default, deserialize_with = "present")]
    times: Option<NonZeroU32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "present")]
    chunk_id: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    chunk_index: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    total_chunks: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    payload: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    plaintext: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary {
    binary: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendText {
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    close: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drop {
    #[serde(rename = "drop")]
    _drop: True,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pings {
    pings: bool,
}

/// A JSON object: serde would also read the fields from a list.
struct Object<T>(T);

/// The value `true`.
struct True;

struct Base64(Vec<u8>);

/// The twists of a fault's name.
#[derive(Default)]
struct Fault(&'static [Twist]);

/// A text, or a list of texts and repeated texts, joined.
struct Text(String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Parts {
    One(String),
    Many(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Once(String),
    Repeated(Object<Repeated>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeated {
    repeat: String,
    times: u32,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let object = Map::<String, Value>::deserialize(from)?;
        let read = T::deserialize(Value::Object(object));
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let is_true = bool::deserialize(from)?;
        is_true.then_some(True).ok_or(D::Error::custom("false"))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let decoded = BASE64_STANDARD.decode(String::deserialize(from)?);
        decoded.map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fault = faults::find(&String::deserialize(from)?);
        let twists = fault.ok_or(D::Error::custom("unknown fault"))?.twists;
        if twists.iter().any(Twist::is_worldwide) {
            return Err(D::Error::custom("a fault of all connections"));
        }
        Ok(Self(twists))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let shown = |part: Part| match part {
            Part::Once(text) => text,
            Part::Repeated(Object(part)) => part.repeat.repeat(part.times as usize),
        };
        Ok(Self(match Parts::deserialize(from)? {
            Parts::One(text) => text,
            Parts::Many(parts) => parts.into_iter().map(shown).collect(),
        }))
    }
}

/// Reads a property that is there, so that null is not the same as an absent one.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Step {
    fn read(step: &Value) -> Result<Self, String> {
        let refused = |why: &str| format!("{why} (see schema.json): {step}");
        let read = Object::<Self>::deserialize(step).map(|read| read.0);
        let read = read.map_err(|error| refused(&error.to_string()))?;
        if let Self::Respond(Respond {
            json, body, base64, ..
        }) = &read
            && usize::from(json.is_some())
                + usize::from(body.is_some())
                + usize::from(base64.is_some())
                > 1
        {
            return Err(refused("more than one of json, body and base64"));
        }
        Ok(read)
    }
}

// ---- the script --------------------------------------------------------------------------------

pub(crate) struct Script {
    connections: Vec<Scripted>,
    /// The client has made more connections than the script has.
    surpassed: AtomicBool,
}

/// One connection.
struct Scripted {
    greeting: Greeting,
    /// Each with its JSON, for errors.
    steps: Vec<(String, Step)>,
    progress: watch::Sender<Progress>,
}

enum Progress {
    Expected,
    Playing,
    Ended(Result<(), String>),
}

impl Scripted {
    fn new(greeting: Greeting) -> Self {
        Self {
            greeting,
            steps: Vec::new(),
            progress: watch::Sender::new(Progress::Expected),
        }
    }
}

impl Script {
    /// Reads the steps of a vector.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let named = |why: String| format!("{}: {why}", file.display());
        let text = std::fs::read(file).map_err(|error| named(error.to_string()))?;
        let vector: Value =
            serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
        let script = vector["exchange"].get("script");
        Self::parse(script.ok_or_else(|| named("no exchange.script".into()))?).map_err(named)
    }

    /// Null is a script without a connection.
    fn parse(script: &Value) -> Result<Self, String> {
        let mut connections = Vec::new();
        let none = Vec::new();
        let steps = match script {
            Value::Array(steps) => steps,
            Value::Null => &none,
            _ => return Err("exchange.script is no list".into()),
        };
        let begins = |step: &Value| step.get("connection").is_some();
        if script.is_array() && !steps.first().is_some_and(begins) {
            connections.push(Scripted::new(Greeting::default()));
        }
        for (at, step) in steps.iter().enumerate() {
            match (Step::read(step)?, connections.last_mut()) {
                (Step::Connection(begin), _) => connections.push(Scripted::new(begin.connection.0)),
                (read, Some(connection)) => {
                    connection.steps.push((format!("step {at}, {step}"), read));
                }
                (_, None) => return Err("a step without a connection".into()),
            }
        }
        if connections.iter().filter(|it| it.changes_release()).count() > 1 {
            return Err("more than one fault changes the release".into());
        }
        Ok(Self {
            connections,
            surpassed: AtomicBool::new(false),
        })
    }

    fn connection(&self, number: u64) -> Option<&Scripted> {
        self.connections.get(usize::try_from(number).ok()? - 1)
    }

    /// Returns the twists of a connection.
    pub(crate) fn twists(&self, number: u64) -> &'static [Twist] {
        self.connection(number)
            .map_or(&[], |it| it.greeting.fault.0)
    }

    /// Returns the twists of the connection whose fault changes the release, if there is one.
    pub(crate) fn twists_of_release(&self) -> &'static [Twist] {
        let mut connections = self.connections.iter();
        let changing = connections.find(|it| it.changes_release());
        changing.map_or(&[], |it| it.greeting.fault.0)
    }

    /// Returns the token that a connection must bring, if the script names one.
    pub(crate) fn token(&self, number: u64) -> Option<&str> {
        self.connection(number)?.greeting.token.as_deref()
    }

    /// Takes a new connection, unless the script has no more.
    pub(crate) fn begins(&self, number: u64) -> Result<(), Failure> {
        match self.connection(number) {
            Some(_) => Ok(()),
            None => {
                self.surpassed.store(true, Ordering::Relaxed);
                Err("the script has no more connections".into())
            }
        }
    }

    /// Notes that a connection has ended. Its steps may still be played.
    pub(crate) fn ended(&self, number: u64) {
        let Some(connection) = self.connection(number) else {
            return;
        };
        connection.progress.send_if_modified(|progress| {
            let unplayed = matches!(progress, Progress::Expected);
            if unplayed {
                let skipped = connection.steps.first();
                let why = skipped.map(|(step, _)| format!("it ended before {step}"));
                *progress = Progress::Ended(why.map_or(Ok(()), Err));
            }
            unplayed
        });
    }

    /// Plays a connection's steps to the client. The returned future ends with the connection.
    pub(crate) fn play(
        self: Arc<Self>,
        number: u64,
        asked: mpsc::UnboundedReceiver<Asked>,
        outbox: Outbox,
    ) -> impl Future<Output = ()> {
        if let Some(connection) = self.connection(number) {
            connection.progress.send_replace(Progress::Playing);
        }
        async move {
            let Some(connection) = self.connection(number) else {
                return;
            };
            let mut player = Player {
                asked,
                outbox,
                answers_pings: true,
                waiting: VecDeque::new(),
                ids: HashMap::new(),
                answered: HashSet::new(),
            };
            let played = player.play(&connection.steps).await;
            connection.progress.send_replace(Progress::Ended(played));
        }
    }

    /// Waits for the end of all connections, and returns why the exchange failed, if it did.
    pub(crate) async fn outcome(&self) -> Result<(), Failure> {
        for (number, connection) in (1..).zip(&self.connections) {
            let mut progress = connection.progress.subscribe();
            let ended = progress.wait_for(|progress| matches!(progress, Progress::Ended(_)));
            let why = match tokio::time::timeout(PATIENCE, ended).await {
                Ok(Ok(progress)) => match &*progress {
                    Progress::Ended(Err(why)) => why.clone(),
                    _ => continue,
                },
                _ => "the client did not connect, or did not leave".into(),
            };
            return Err(format!("script: connection {number}: {why}").into());
        }
        if self.surpassed.load(Ordering::Relaxed) {
            return Err("script: the client connected too often".into());
        }
        Ok(())
    }
}

impl Scripted {
    fn changes_release(&self) -> bool {
        self.greeting.fault.0.iter().any(Twist::changes_release)
    }
}

// ---- playing it --------------------------------------------------------------------------------

struct Player {
    asked: mpsc::UnboundedReceiver<Asked>,
    outbox: Outbox,
    answers_pings: bool,
    /// Messages that no step has expected yet.
    waiting: VecDeque<Asked>,
    /// Ids of the requests, by the names that the script gives them.
    ids: HashMap<String, i64>,
    /// Ids of the requests with a response.
    answered: HashSet<i64>,
}

impl Player {
    async fn play(&mut self, steps: &[(String, Step)]) -> Result<(), String> {
        for (shown, step) in steps {
            if let Err(why) = self.step(step).await {
                // The client must notice that the exchange has failed.
                let _ = send(&self.outbox, Outgoing::Drop).await;
                return Err(format!("{shown}: {why}"));
            }
        }
        self.leave().await
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let outgoing = match step {
            Step::Request(wanted) => {
                let fits = |asked: &Asked, known| wanted.fits(asked, known);
                return self.expect(&wanted.expect, fits).await;
            }
            Step::Chunk(wanted) => {
                let fits = |asked: &Asked, known| wanted.fits(asked, known);
                return self.expect(&wanted.expect, fits).await;
            }
            Step::Respond(step) => return self.respond(step).await,
            Step::Pings(step) => {
                self.answers_pings = step.pings;
                return Ok(());
            }
            Step::Connection(_) => return Err("this connection has begun".into()),
            Step::Frame(step) => Outgoing::Frames(step.frames()),
            Step::Plaintext(step) => Outgoing::Plaintext(step.plaintext.0.clone()),
            Step::Binary(step) => Outgoing::Binary(step.binary.0.clone()),
            Step::Text(step) => Outgoing::Text(step.text.clone()),
            Step::Close(step) => Outgoing::Close(step.close),
            Step::Drop(_) => Outgoing::Drop,
        };
        self.send(outgoing).await
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(), String> {
        let sent = send(&self.outbox, outgoing).await;
        sent.map_err(|_| "the connection has ended".to_owned())
    }

    /// Receives the next message. Answers pings, as every server does, unless the script forbids
    /// it.
    async fn next(&mut self) -> Option<Asked> {
        loop {
            let asked = self.asked.recv().await?;
            match asked {
                Asked::Open { id, .. } if self.answers_pings && is_ping(&asked) => {
                    let pong = Outgoing::Response(response(id, 200, "PONG"));
                    let _ = send(&self.outbox, pong).await; // the connection may have ended
                }
                asked => return Some(asked),
            }
        }
    }

    /// Waits for a message that fits, given the id of the request with this name, if it is known.
    /// The order of requests that the client starts at once does not matter.
    async fn expect(
        &mut self,
        name: &str,
        fits: impl Fn(&Asked, Option<i64>) -> bool,
    ) -> Result<(), String> {
        let known = self.ids.get(name).copied();
        loop {
            if let Some(at) = self.waiting.iter().position(|asked| fits(asked, known)) {
                if let Some(Asked::Open { id, .. }) = self.waiting.remove(at) {
                    self.ids.insert(name.to_owned(), id);
                }
                return Ok(());
            }
            match tokio::time::timeout(PATIENCE, self.next()).await {
                Ok(Some(asked)) => self.waiting.push_back(asked),
                Ok(None) => return Err(format!("the client has left; waiting: {}", self.shown())),
                Err(_) => return Err(format!("no such message; waiting: {}", self.shown())),
            }
        }
    }

    /// Sends a response, whole, in pieces or in chosen frames.
    async fn respond(&mut self, step: &Respond) -> Result<(), String> {
        let id = *self
            .ids
            .get(&step.respond)
            .ok_or("a response to an unknown request")?;
        self.answered.insert(id);
        let body = step.body();
        let each = step
            .each
            .map_or(body.len().max(1), |each| each.get() as usize);
        let count = body.len().div_ceil(each).max(1);
        for piece in 0..count {
            let part = body.slice(piece * each..body.len().min((piece + 1) * each));
            self.send(step.framed(&step.altered(response(id, 200, part)))?)
                .await?;
        }
        Ok(())
    }

    /// Waits until the client leaves. It must not send more than the script expects, except pings,
    /// and chunks of an upload that has been answered.
    async fn leave(&mut self) -> Result<(), String> {
        while let Some(asked) = self.next().await {
            self.waiting.push_back(asked);
        }
        let answered = &self.answered;
        self.waiting.retain(|asked| match asked {
            Asked::Continue { id, .. } => !answered.contains(id),
            asked => !is_ping(asked),
        });
        match self.waiting.is_empty() {
            true => Ok(()),
            false => Err(format!("the script does not expect {}", self.shown())),
        }
    }

    /// Shows the messages that no step has expected.
    fn shown(&self) -> String {
        format!("{:.2000}", format!("{:?}", self.waiting))
    }
}

impl ExpectRequest {
    /// Returns whether a message has these fields. `known` is the id that the script has given this
    /// name to.
    fn fits(&self, asked: &Asked, known: Option<i64>) -> bool {
        let Asked::Open {
            verb,
            path,
            body,
            chunk,
            ..
        } = asked
        else {
            return false;
        };
        let has_body = self.body.as_ref().is_none_or(|wanted| wanted.is_in(body));
        let has_chunk = match (&self.chunk, chunk) {
            (None, None) => true,
            (Some(wanted), Some(chunk)) => wanted.0.is(chunk),
            _ => false,
        };
        known.is_none() && *verb == self.verb && *path == self.path && has_body && has_chunk
    }
}

impl ExpectChunk {
    fn fits(&self, asked: &Asked, known: Option<i64>) -> bool {
        matches!(asked, Asked::Continue { id, chunk } if known == Some(*id) && self.chunk.0.is(chunk))
    }
}

impl Piece {
    fn is(&self, chunk: &Chunk) -> bool {
        chunk.seq.unwrap_or(0) == self.seq
            && chunk.r#final.unwrap_or(false) == self.r#final
            && chunk.data.as_deref().unwrap_or_default() == self.data.0.as_bytes()
    }
}

impl Body {
    /// Returns whether a body is this text, or JSON that contains this object.
    fn is_in(&self, body: &str) -> bool {
        match self {
            Self::Text(text) => body == text,
            Self::Json(wanted) => contains_object(body, wanted),
        }
    }
}

fn contains_object(text: &str, wanted: &Map<String, Value>) -> bool {
    serde_json::from_str(text).is_ok_and(|actual: Value| {
        let has = |(key, wanted): (&String, &Value)| contains(&actual[key.as_str()], wanted);
        actual.is_object() && wanted.iter().all(has)
    })
}

/// Compares JSON, but ignores properties that `wanted` does not have. A null stands for an absent
/// property too, and an object for a text that is this object as JSON.
fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(_), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| contains(&actual[key.as_str()], wanted)),
        (Value::String(text), Value::Object(wanted)) => contains_object(text, wanted),
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, b)| contains(a, b))
        }
        _ => actual == wanted,
    }
}

impl Respond {
    fn body(&self) -> Bytes {
        match (&self.json, &self.body, &self.base64) {
            (Some(json), ..) => json.to_string().into(),
            (_, Some(body), _) => body.0.clone().into(),
            (.., Some(body)) => body.0.clone().into(),
            (None, None, None) => Bytes::new(),
        }
    }

    /// Changes a response as this step demands. A null removes `id` or `status`.
    fn altered(&self, mut response: Response) -> Response {
        response.id = self.id.unwrap_or(response.id);
        response.status = self.status.unwrap_or(response.status);
        response.headers.extend(self.headers.clone());
        response
    }

    /// Splits a response into frames, and picks those that the step names.
    fn framed(&self, response: &Response) -> Result<Outgoing, String> {
        let message = response.encode_to_vec().into();
        let chunk_id = self.chunk_id.unwrap_or(Some(0));
        let mut frames = match self.cut {
            Some(size) => cut(&message, chunk_id.unwrap_or(0), size.get() as usize),
            None => split(&message, chunk_id.unwrap_or(0)),
        };
        if chunk_id.is_none() {
            for frame in &mut frames {
                frame.chunk_id = None;
                frame.chunk_index = frame.chunk_index.filter(|index| *index > 0);
            }
        }
        let Some(chosen) = &self.frames else {
            return Ok(Outgoing::Frames(frames));
        };
        let pick = |index: &u32| frames.get(*index as usize).cloned();
        let picked: Option<_> = chosen.iter().map(pick).collect();
        let picked = picked.ok_or_else(|| format!("{} frames", frames.len()))?;
        Ok(Outgoing::Frames(picked))
    }
}

impl SendFrame {
    /// Makes the frame, or `times` frames with consecutive chunk ids.
    fn frames(&self) -> Vec<Frame> {
        let fields = &self.frame.0;
        let nth = |n| Frame {
            chunk_id: fields.chunk_id.map(|id| id.wrapping_add(i64::from(n))),
            chunk_index: fields.chunk_index,
            total_chunks: fields.total_chunks,
            payload: fields.payload.as_ref().map(|text| text.0.clone().into()),
        };
        (0..self.times.map_or(1, NonZeroU32::get))
            .map(nth)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn respond(step: Value) -> Respond {
        match Step::read(&step) {
            Ok(Step::Respond(step)) => step,
            _ => panic!("{step}"),
        }
    }

    #[test]
    fn body_may_have_more_than_expected() {
        let has = |body: &str, wanted: &Value| Body::deserialize(wanted).unwrap().is_in(body);
        let body = r#"{"a":[1,{"b":"{\"c\":2,\"d\":3}"}],"e":5}"#;
        for wanted in [
            json!(body),
            json!({ "e": 5 }),
            json!({ "a": [1, { "b": { "c": 2 } }], "absent": null }),
        ] {
            assert!(has(body, &wanted), "{wanted}");
        }
        for wanted in [
            json!("{}"),
            json!({ "e": "5" }),
            json!({ "a": [1] }),
            json!({ "absent": 1 }),
            json!({ "a": [1, { "b": { "c": 3 } }] }),
        ] {
            assert!(!has(body, &wanted), "{wanted}");
        }
    }

    #[test]
    fn response_is_cut_into_the_chosen_frames() {
        let step =
            respond(json!({ "respond": "a", "cut": 4, "frames": [1, 0, 1], "chunk_id": -3 }));
        let response = step.altered(response(7, 200, "0123456789"));
        let whole = response.encode_to_vec();
        let Ok(Outgoing::Frames(frames)) = step.framed(&response) else {
            panic!("no frames")
        };
        let shown: Vec<_> = frames
            .iter()
            .map(|frame| (frame.chunk_id, frame.chunk_index, frame.payload.as_deref()))
            .collect();
        let (first, second) = (Some(&whole[..4]), Some(&whole[4..8]));
        assert_eq!(
            shown,
            [
                (Some(-3), Some(1), second),
                (Some(-3), Some(0), first),
                (Some(-3), Some(1), second)
            ]
        );
    }

    #[test]
    fn text_may_repeat() {
        let text = json!(["a", { "repeat": "bc", "times": 3 }, "d"]);
        let step = respond(json!({ "respond": "a", "body": text }));
        assert_eq!(step.body(), "abcbcbcd");
    }

    #[test]
    fn null_removes_id_and_status() {
        let step = respond(json!({ "respond": "a", "id": null, "status": null, "json": null }));
        let altered = step.altered(response(7, 200, step.body()));
        assert_eq!((altered.id, altered.status), (None, None));
        assert_eq!(altered.body.as_deref(), Some(&b"null"[..]));
    }

    #[test]
    fn scripts_of_all_vectors_are_accepted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors");
        let mut scripts = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            let text = std::fs::read(&file).unwrap_or_default(); // of a folder
            let vector: Value = serde_json::from_slice(&text).unwrap_or_default();
            if vector["exchange"].is_object() {
                scripts += 1;
                Script::read(&file).map(drop).unwrap();
            }
        }
        assert!(scripts >= 20);
    }

    /// tests/vectors/test.py checks that schema.json refuses them too.
    #[test]
    fn malformed_steps_are_refused() {
        let steps: Value =
            serde_json::from_str(include_str!("../../vectors/malformed/steps.json")).unwrap();
        for step in steps.as_array().unwrap() {
            assert!(Script::parse(&json!([step])).is_err(), "{step}");
        }
    }
}
