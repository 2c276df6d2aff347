//! A script: plays the server's side of one connection after its handshake (tests/vectors).
//!
//! A vector's file has its steps, and its schema defines them. Steps run in order, each once. Knows
//! messages and frames; the connection's reader and writer do the rest.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};

use crate::Failure;
use crate::answer::{Outbox, Outgoing, send};
use crate::connection::is_ping;
use crate::wire::{Asked, Frame, Response, cut, response, split};

/// Time for an expected message of the client, and for the connection's end. Only a failing test
/// waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Script {
    steps: Vec<Value>,
    /// The outcome, once the connection has ended.
    outcome: watch::Sender<Option<Result<(), String>>>,
}

impl Script {
    /// Reads the steps of a vector.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let named = |why: String| format!("{}: {why}", file.display());
        let text = std::fs::read(file).map_err(|error| named(error.to_string()))?;
        let vector: Value =
            serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
        let steps = vector["exchange"]["script"]
            .as_array()
            .ok_or_else(|| named("no exchange.script".into()))?;
        Ok(Self {
            steps: steps.clone(),
            outcome: watch::Sender::new(None),
        })
    }

    /// Plays the steps to a client. Ends with the connection.
    pub(crate) async fn play(&self, asked: mpsc::UnboundedReceiver<Asked>, outbox: Outbox) {
        let mut player = Player {
            asked,
            outbox,
            waiting: VecDeque::new(),
            ids: HashMap::new(),
        };
        let mut outcome = Ok(());
        for (at, step) in self.steps.iter().enumerate() {
            if let Err(why) = player.step(step).await {
                outcome = Err(format!("step {at}: {why}: {step}"));
                // The client must notice that the exchange has failed.
                let _ = send(&player.outbox, Outgoing::Drop).await;
                break;
            }
        }
        if outcome.is_ok() {
            outcome = player.leave().await;
        }
        self.outcome.send_replace(Some(outcome));
    }

    /// Waits for the end of the connection, and returns why the exchange failed, if it did.
    pub(crate) async fn outcome(&self) -> Result<(), Failure> {
        let mut outcome = self.outcome.subscribe();
        let ended = outcome.wait_for(Option::is_some);
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(outcome)) => Ok((*outcome).clone().unwrap_or(Ok(()))?),
            _ => Err("script: the client did not connect, or did not leave".into()),
        }
    }
}

struct Player {
    asked: mpsc::UnboundedReceiver<Asked>,
    outbox: Outbox,
    /// Messages that no step has expected yet.
    waiting: VecDeque<Asked>,
    /// Ids of the requests, by the names that the script gives them.
    ids: HashMap<String, i64>,
}

impl Player {
    async fn step(&mut self, step: &Value) -> Result<(), String> {
        let step = step.as_object().ok_or("a step is an object")?;
        if step.contains_key("expect") {
            return self.expect(step).await;
        }
        let outgoing = if step.contains_key("respond") {
            return self.respond(step).await;
        } else if let Some(frame) = step.get("frame") {
            Outgoing::Frames(frames(frame, step.get("times"))?)
        } else if let Some(plaintext) = step.get("plaintext") {
            Outgoing::Plaintext(base64(plaintext)?)
        } else if let Some(message) = step.get("binary") {
            Outgoing::Binary(base64(message)?)
        } else if let Some(text) = step.get("text") {
            Outgoing::Text(string(text)?)
        } else if let Some(code) = step.get("close") {
            Outgoing::Close(number(code)?)
        } else if step.contains_key("drop") {
            Outgoing::Drop
        } else {
            return Err("an unknown step".into());
        };
        self.send(outgoing).await
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(), String> {
        let sent = send(&self.outbox, outgoing).await;
        sent.map_err(|_| "the connection has ended".to_owned())
    }

    /// Waits for a message that has these fields. The order of requests that the client starts at
    /// once does not matter.
    async fn expect(&mut self, step: &Map<String, Value>) -> Result<(), String> {
        let name = string(&step["expect"])?;
        let known = self.ids.get(&name).copied();
        loop {
            let fits = |asked: &Asked| fits(asked, known, step);
            if let Some(at) = self.waiting.iter().position(fits) {
                if let Some(Asked::Open { id, .. }) = self.waiting.remove(at) {
                    self.ids.insert(name, id);
                }
                return Ok(());
            }
            match tokio::time::timeout(PATIENCE, self.asked.recv()).await {
                Ok(Some(asked)) => self.waiting.push_back(asked),
                Ok(None) => {
                    return Err(format!("the client has left; waiting: {:?}", self.waiting));
                }
                Err(_) => return Err(format!("no such message; waiting: {:?}", self.waiting)),
            }
        }
    }

    /// Sends a response, whole, in pieces or in chosen frames.
    async fn respond(&self, step: &Map<String, Value>) -> Result<(), String> {
        let name = string(&step["respond"])?;
        let id = *self
            .ids
            .get(&name)
            .ok_or("a response to an unknown request")?;
        let body = body(step)?;
        let each = step.get("each").map_or(Ok(body.len().max(1)), number)?;
        let count = body.len().div_ceil(each).max(1);
        for piece in 0..count {
            let part = body.slice(piece * each..body.len().min((piece + 1) * each));
            let response = altered(response(id, 200, part), step)?;
            self.send(framed(&response, step)?).await?;
        }
        Ok(())
    }

    /// Waits until the client leaves. It must not send more than the script expects.
    async fn leave(&mut self) -> Result<(), String> {
        while let Some(asked) = self.asked.recv().await {
            self.waiting.push_back(asked);
        }
        self.waiting.retain(|asked| !is_ping(asked));
        match self.waiting.front() {
            Some(asked) => Err(format!("the script does not expect {asked:?}")),
            None => Ok(()),
        }
    }
}

/// Returns whether a message has the fields of an `expect` step. `known` is the id that the script
/// has given this name to.
fn fits(asked: &Asked, known: Option<i64>, step: &Map<String, Value>) -> bool {
    let is = |key: &str, text: &str| step.get(key).and_then(Value::as_str) == Some(text);
    let chunk = match asked {
        Asked::Open {
            verb,
            path,
            body,
            chunk,
            ..
        } => {
            let body = step.get("body").is_none_or(|wanted| has(body, wanted));
            if known.is_some() || !is("verb", verb) || !is("path", path) || !body {
                return false;
            }
            chunk.as_ref()
        }
        Asked::Continue { id, chunk } => {
            if step.contains_key("verb") || known != Some(*id) {
                return false;
            }
            Some(chunk)
        }
    };
    match (step.get("chunk"), chunk) {
        (None, None) => true,
        (Some(wanted), Some(chunk)) => {
            let data = chunk.data.as_deref().unwrap_or_default();
            let actual = json!({
                "seq": chunk.seq.unwrap_or(0), "final": chunk.r#final.unwrap_or(false),
                "data": String::from_utf8_lossy(data),
            });
            *wanted == actual
        }
        _ => false,
    }
}

/// Returns whether a body is this text, or JSON that contains this value.
fn has(body: &str, wanted: &Value) -> bool {
    match wanted {
        Value::String(text) => body == text,
        _ => serde_json::from_str(body).is_ok_and(|body| contains(&body, wanted)),
    }
}

/// Compares JSON, but ignores properties that `wanted` does not have. A null stands for an absent
/// property too, and an object for a text that is this object as JSON.
fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(_), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| contains(&actual[key.as_str()], wanted)),
        (Value::String(text), Value::Object(_)) => has(text, wanted),
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, b)| contains(a, b))
        }
        _ => actual == wanted,
    }
}

/// Changes a response as a `respond` step demands. A null removes `id` or `status`.
fn altered(mut response: Response, step: &Map<String, Value>) -> Result<Response, String> {
    match step.get("id") {
        None => {}
        Some(Value::Null) => response.id = None,
        Some(id) => response.id = Some(number(id)?),
    }
    match step.get("status") {
        None => {}
        Some(Value::Null) => response.status = None,
        Some(status) => response.status = Some(number(status)?),
    }
    for (name, value) in step
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        response.headers.insert(name.clone(), string(value)?);
    }
    Ok(response)
}

/// Splits a response into frames, and picks those that the step names.
fn framed(response: &Response, step: &Map<String, Value>) -> Result<Outgoing, String> {
    let message = response.encode_to_vec().into();
    let chunk_id = step.get("chunk_id");
    let is_absent = chunk_id == Some(&Value::Null);
    let chunk_id = chunk_id.filter(|_| !is_absent).map_or(Ok(0), number)?;
    let mut frames = match step.get("cut") {
        Some(size) => cut(&message, chunk_id, number(size)?),
        None => split(&message, chunk_id),
    };
    for frame in frames.iter_mut().filter(|_| is_absent) {
        frame.chunk_id = None;
        frame.chunk_index = frame.chunk_index.filter(|index| *index > 0);
    }
    let Some(chosen) = step.get("frames").and_then(Value::as_array) else {
        return Ok(Outgoing::Frames(frames));
    };
    let pick = |index: &Value| {
        let frame = frames.get(number::<usize>(index)?);
        frame
            .cloned()
            .ok_or_else(|| format!("{} frames", frames.len()))
    };
    Ok(Outgoing::Frames(
        chosen.iter().map(pick).collect::<Result<_, _>>()?,
    ))
}

/// Makes a frame, or `times` frames with consecutive chunk ids.
fn frames(frame: &Value, times: Option<&Value>) -> Result<Vec<Frame>, String> {
    fn field<N: TryFrom<i64>>(frame: &Value, key: &str) -> Result<Option<N>, String> {
        frame.get(key).map(number).transpose()
    }
    let first = Frame {
        chunk_id: field(frame, "chunk_id")?,
        chunk_index: field(frame, "chunk_index")?,
        total_chunks: field(frame, "total_chunks")?,
        payload: frame.get("payload").map(bytes).transpose()?,
    };
    let times = times.map_or(Ok(1), number::<i64>)?;
    let nth = |n| Frame {
        chunk_id: first.chunk_id.map(|id| id + n),
        ..first.clone()
    };
    Ok((0..times).map(nth).collect())
}

/// Returns the body of a `respond` step.
fn body(step: &Map<String, Value>) -> Result<Bytes, String> {
    match (step.get("json"), step.get("body"), step.get("base64")) {
        (Some(json), None, None) => Ok(json.to_string().into()),
        (None, Some(body), None) => bytes(body),
        (None, None, Some(body)) => Ok(base64(body)?.into()),
        (None, None, None) => Ok(Bytes::new()),
        _ => Err("json, body or base64".into()),
    }
}

/// Reads a text, or a list of texts and of `{"repeat": text, "times": n}`.
fn bytes(value: &Value) -> Result<Bytes, String> {
    let mut text = String::new();
    for part in value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
    {
        match part.get("repeat") {
            Some(repeated) => text += &string(repeated)?.repeat(number(&part["times"])?),
            None => text += &string(part)?,
        }
    }
    Ok(text.into())
}

fn base64(value: &Value) -> Result<Vec<u8>, String> {
    let decoded = BASE64_STANDARD.decode(string(value)?);
    decoded.map_err(|error| error.to_string())
}

fn string(value: &Value) -> Result<String, String> {
    let text = value.as_str();
    text.map(str::to_owned)
        .ok_or_else(|| format!("{value} is no text"))
}

fn number<N: TryFrom<i64>>(value: &Value) -> Result<N, String> {
    let number = value.as_i64().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("{value} is no number, or out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_may_have_more_than_expected() {
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
        let step = json!({ "cut": 4, "frames": [1, 0, 1], "chunk_id": -3 });
        let response = altered(response(7, 200, "0123456789"), step.as_object().unwrap()).unwrap();
        let whole = response.encode_to_vec();
        let Ok(Outgoing::Frames(frames)) = framed(&response, step.as_object().unwrap()) else {
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
        assert_eq!(
            bytes(&json!(["a", { "repeat": "bc", "times": 3 }, "d"])),
            Ok("abcbcbcd".into())
        );
        assert!(bytes(&json!(["a", 1])).is_err());
    }
}
