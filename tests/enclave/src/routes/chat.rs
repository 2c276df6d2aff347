//! `POST /v1/vllm/chat/completions`: what a request must be, and the built-in generator that answers it.
//!
//! Specification: protocol.md section 5. The generator is deterministic. A user message may begin with a
//! directive (README.md lists them), so that a test gets the answer it needs without a fault.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::tools::{self, Turn};
use crate::answer::Step;

const ROLES: [&str; 6] = [
    "user",
    "assistant",
    "system",
    "developer",
    "tool_call",
    "tool_response",
];
const MAX_CONTEXT_TOKENS: usize = 32_768;
/// Bounds on what a directive can ask for.
const MAX_TOKENS: usize = 10_000_000;
const MAX_TOKEN_BYTES: usize = 64 << 20;
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// An answer, made while it is played.
type Script = Box<dyn Iterator<Item = Step> + Send>;

/// A request that keeps the rules.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) request: Map<String, Value>,
    pub(crate) stream: bool,
}

/// Reads a request, or says why it is refused with status 400.
pub(crate) fn read(body: &str) -> Result<Chat, String> {
    let Ok(Value::Object(request)) = serde_json::from_str(body) else {
        return Err("body is not a JSON object".into());
    };
    let messages = request
        .get("messages")
        .and_then(Value::as_array)
        .ok_or("messages must be a list")?;
    if messages.is_empty() {
        return Err("messages must not be empty".into());
    }
    for message in messages {
        if !message["role"]
            .as_str()
            .is_some_and(|role| ROLES.contains(&role))
        {
            return Err("a message has an unknown role".into());
        }
        if !message["content"].is_string() {
            return Err("a message has no content".into());
        }
        if !matches!(
            message.get("imageRefs"),
            None | Some(Value::Null | Value::Array(_))
        ) {
            return Err("imageRefs must be a list".into());
        }
    }
    if request
        .get("model")
        .and_then(Value::as_str)
        .is_none_or(|model| model.trim().is_empty())
    {
        return Err("model must not be blank".into());
    }
    let stream = request
        .get("stream")
        .and_then(Value::as_bool)
        .ok_or("stream must be true or false")?;
    let in_range = |name: &str, holds: fn(f64) -> bool| match request.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64().is_some_and(holds) => Ok(()),
        Some(_) => Err(format!("{name} is out of range")),
    };
    in_range("temperature", |value| value >= 0.0)?;
    in_range("topP", |value| value > 0.0 && value <= 1.0)?;
    in_range("minP", |value| (0.0..=1.0).contains(&value))?;
    in_range("topK", |value| {
        value.fract() == 0.0 && (value == -1.0 || value >= 1.0)
    })?;
    in_range("presencePenalty", |value| (-2.0..=2.0).contains(&value))?;
    in_range("frequencyPenalty", |value| (-2.0..=2.0).contains(&value))?;
    in_range("repetitionPenalty", |value| value > 0.0)?;
    in_range("maxTokens", |value| value.fract() == 0.0 && value >= 1.0)?;
    for name in ["json", "thinking", "webSearch"] {
        if !matches!(request.get(name), None | Some(Value::Null | Value::Bool(_))) {
            return Err(format!("{name} must be true or false"));
        }
    }
    for tool in list(&request, "clientTools")? {
        if !(tool["name"].is_string()
            && tool["description"].is_string()
            && tool["parameters"].is_object())
        {
            return Err("a client tool needs name, description and parameters".into());
        }
    }
    for document in list(&request, "documents")? {
        if !document["attachmentId"].is_string() {
            return Err("a document needs an attachmentId".into());
        }
    }
    Ok(Chat { stream, request })
}

fn list<'a>(request: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], String> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{name} must be a list")),
    }
}

impl Chat {
    pub(crate) fn messages(&self) -> &[Value] {
        self.request
            .get("messages")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn content(message: &Value) -> &str {
        message["content"].as_str().unwrap_or_default()
    }

    /// Words, the generator's tokens, of the whole history.
    fn context_tokens(&self) -> usize {
        self.messages()
            .iter()
            .map(|message| Self::content(message).split_whitespace().count())
            .sum()
    }

    /// The built-in generator's answer. `body` is the request as it came.
    pub(crate) fn answer(&self, body: &str) -> Script {
        let messages = self.messages();
        let at = messages
            .iter()
            .rposition(|message| message["role"] == "user");
        let asked = at.map_or("", |at| Self::content(&messages[at]));
        let since = &messages[at.map_or(0, |at| at + 1)..];
        match self.answer_to(asked, since, body) {
            Ok(steps) => steps,
            Err(reason) => Box::new([Step::Refuse(400, reason)].into_iter()),
        }
    }

    /// The answer to a user's message, given the messages after it; an error is a refusal's reason.
    fn answer_to(&self, asked: &str, since: &[Value], body: &str) -> Result<Script, String> {
        let line = asked.lines().next().unwrap_or_default();
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        // These rule what comes after them too.
        if let Some(turn) = tools::turn(name, rest, since)? {
            return Ok(match turn {
                Turn::Call(events) => self.pending(events),
                Turn::Answer(text) => self.say(&text),
            });
        }
        if name == "/echo-messages" {
            let messages = Value::from(self.messages()).to_string();
            return Ok(self.ended(vec![Step::Event(token(&messages))]));
        }
        if let Some(last) = since.last()
            && last["role"] == "tool_response"
        {
            let result: Value = serde_json::from_str(Self::content(last)).unwrap_or_default();
            let result = result["content"].as_str().unwrap_or_default();
            return Ok(self.say(&format!("The tool answered: {result}")));
        }
        Ok(match self.directive(name, rest, body)? {
            Some(steps) => steps,
            None if asked.is_empty() => self.say("You said nothing."),
            None => self.say(&format!("You said: {asked}")),
        })
    }

    /// Events, then the end that waits for tools.
    fn pending(&self, events: Vec<Value>) -> Script {
        let mut end = completion(self.context_tokens());
        end["pending_tool_calls"] = true.into();
        Box::new(events.into_iter().chain([end]).map(Step::Event))
    }

    /// Words as token events, then the end.
    fn say(&self, text: &str) -> Script {
        let words: Vec<_> = text
            .split_inclusive(' ')
            .map(|word| Step::Event(token(word)))
            .collect();
        self.ended(words)
    }

    fn ended(&self, steps: Vec<Step>) -> Script {
        let context = self.context_tokens() + steps.len();
        Box::new(steps.into_iter().chain([Step::Event(completion(context))]))
    }

    /// The steps that a message's first line asks for; an error says how that directive is written.
    fn directive(
        &self,
        name: &str,
        rest: &str,
        body: &str,
    ) -> Result<Option<Script>, &'static str> {
        let mut numbers = rest
            .split_whitespace()
            .map(|number| number.parse::<usize>().ok());
        let mut number = |most: usize| numbers.next().flatten().filter(|number| *number <= most);
        let text = |text: &str| Step::Event(token(text));
        Ok(Some(match name {
            "/tokens" => {
                const USAGE: &str = "/tokens N SIZE";
                let (count, size) = (
                    number(MAX_TOKENS).ok_or(USAGE)?,
                    number(MAX_TOKEN_BYTES).ok_or(USAGE)?,
                );
                let event = token(&filler(size));
                let context = self.context_tokens() + count;
                Box::new(
                    std::iter::repeat_n(event, count)
                        .chain([completion(context)])
                        .map(Step::Event),
                )
            }
            "/big" => {
                let size = number(MAX_TOKEN_BYTES).ok_or("/big BYTES")?;
                let around = token("").to_string().len();
                self.ended(vec![text(&filler(size.saturating_sub(around)))])
            }
            "/slow" => {
                const USAGE: &str = "/slow MS N";
                let (pause, count) = (
                    number(MAX_PAUSE.as_millis() as usize).ok_or(USAGE)?,
                    number(MAX_TOKENS).ok_or(USAGE)?,
                );
                let pause = Duration::from_millis(pause as u64);
                let context = self.context_tokens() + count;
                Box::new(
                    (0..count)
                        .flat_map(move |at| {
                            [Step::Wait(pause), Step::Event(token(&format!("slow{at} ")))]
                        })
                        .chain([Step::Event(completion(context))]),
                )
            }
            "/repeat" => {
                const USAGE: &str = "/repeat N PAUSE_MS TEXT";
                let (count, pause) = (
                    number(MAX_TOKENS).ok_or(USAGE)?,
                    number(MAX_PAUSE.as_millis() as usize).ok_or(USAGE)?,
                );
                let text = rest.splitn(3, ' ').nth(2).ok_or(USAGE)?.to_owned();
                let pause = (pause > 0).then(|| Duration::from_millis(pause as u64));
                let context = self.context_tokens() + count;
                Box::new(
                    (0..count)
                        .flat_map(move |at| {
                            let token = Step::Event(token(&format!("{text}{at}")));
                            pause.map(Step::Wait).into_iter().chain([token])
                        })
                        .chain([Step::Event(completion(context))]),
                )
            }
            "/silent" => Box::new([text("before the silence ")].into_iter()),
            "/status" => {
                let status = number(599).ok_or("/status N")?;
                Box::new(
                    [Step::Refuse(
                        status as i32,
                        format!("status {status} as asked"),
                    )]
                    .into_iter(),
                )
            }
            "/status-midstream" => {
                let status = number(599).ok_or("/status-midstream N")?;
                let refusal = Step::Refuse(status as i32, format!("status {status} as asked"));
                Box::new([text("one "), text("two "), refusal].into_iter())
            }
            "/thinking-status" => {
                let status = number(599).ok_or("/thinking-status N")?;
                let thought = json!({ "type": "thinking", "content": "Let me think. " });
                let refusal = Step::Refuse(status as i32, format!("status {status} as asked"));
                Box::new([Step::Event(thought), refusal].into_iter())
            }
            "/thinking" => self.ended(vec![
                Step::Event(json!({ "type": "thinking", "content": "Let me think. " })),
                Step::Event(json!({ "type": "thinking", "content": "Done." })),
                text("Thought "),
                text("through."),
            ]),
            "/unknown-event" => self.ended(vec![
                text("before "),
                Step::Event(json!({ "type": "weather", "forecast": { "sky": "clear" } })),
                Step::Event(json!({ "no_type": true })),
                text("after"),
            ]),
            "/client-tool" => {
                let (tool, arguments) = tools::tool_of(rest).ok_or("/client-tool NAME JSON")?;
                self.pending(vec![tools::client_call("call-1", tool, arguments)])
            }
            "/server-tool" => {
                let mut steps: Vec<_> = tools::server_search("call-1").map(Step::Event).into();
                steps.push(text("The sky is clear."));
                self.ended(steps)
            }
            "/pack" => {
                let events =
                    [token("one "), token("two "), token("three")].map(|event| event.to_string());
                let end = completion(self.context_tokens() + events.len());
                let body = format!("{}{} \n\t{}\r\n{end}", events[0], events[1], events[2]);
                Box::new([Step::Body(body.into())].into_iter())
            }
            "/split" => {
                // Also within a character of several bytes and within an escape.
                let event = format!(
                    "{}{}",
                    token("cut \u{e9}\u{1f600} \"here\" "),
                    completion(1)
                );
                let bytes = Bytes::from(event);
                Box::new((0..bytes.len()).map(move |at| Step::Body(bytes.slice(at..at + 1))))
            }
            "/unicode" => self.ended(vec![
                text("Gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f469}\u{200d}\u{1f680} "),
                text("\u{0}\u{1f}\u{7f}\u{2028}\u{feff}\u{10ffff} "),
                Step::Body(Bytes::from_static(
                    br#"{"type":"token","content":"\ud83d\ude00 \u0000 \"\\\/ {[}]"}"#,
                )),
            ]),
            "/websearch" => {
                let seen = match self.request.get("webSearch") {
                    None => "absent".to_owned(),
                    Some(value) => value.to_string(),
                };
                self.ended(vec![text(&format!("webSearch={seen}"))])
            }
            "/echo-request" => self.ended(vec![text(body)]),
            _ => return Ok(None),
        }))
    }
}

pub(crate) fn token(content: &str) -> Value {
    json!({ "type": "token", "content": content })
}

pub(crate) fn completion(context_tokens: usize) -> Value {
    json!({
        "type": "completion", "context_tokens": context_tokens, "max_context_tokens": MAX_CONTEXT_TOKENS,
    })
}

/// Text of exactly this many bytes.
fn filler(size: usize) -> String {
    "lorem ipsum ".chars().cycle().take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(content: &str) -> Chat {
        let body = json!({ "messages": [{ "role": "user", "content": content }], "model": "m", "stream": true });
        read(&body.to_string()).expect("a good request")
    }

    fn events(content: &str) -> Vec<Value> {
        chat(content)
            .answer("{}")
            .filter_map(|step| match step {
                Step::Event(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn an_answer_echoes_and_ends_with_completion() {
        let events = events("hello there");
        let said: String = events
            .iter()
            .filter_map(|event| event["content"].as_str())
            .collect();
        assert_eq!(said, "You said: hello there");
        assert_eq!(events.last().expect("an end")["type"], "completion");
    }

    #[test]
    fn tokens_are_as_many_and_as_long_as_asked() {
        let events = events("/tokens 3 20");
        assert_eq!(events.len(), 4);
        assert!(
            events[..3]
                .iter()
                .all(|event| event["content"].as_str().map(str::len) == Some(20))
        );
    }

    #[test]
    fn a_big_event_has_exactly_the_size_asked() {
        assert_eq!(events("/big 100000")[0].to_string().len(), 100_000);
    }

    #[test]
    fn a_directive_written_wrong_is_refused() {
        assert!(matches!(
            chat("/tokens many").answer("{}").next(),
            Some(Step::Refuse(400, _))
        ));
    }

    #[test]
    fn each_bound_of_section_5_is_enforced() {
        let good = json!({ "messages": [{ "role": "user", "content": "" }], "model": "m", "stream": false });
        assert!(read(&good.to_string()).is_ok());
        for (name, bad) in [
            ("messages", json!([])),
            ("messages", json!([{ "role": "king", "content": "" }])),
            ("messages", json!([{ "role": "user" }])),
            ("model", json!("  ")),
            ("stream", Value::Null),
            ("temperature", json!(-0.1)),
            ("topP", json!(0)),
            ("minP", json!(1.1)),
            ("topK", json!(0)),
            ("topK", json!(1.5)),
            ("presencePenalty", json!(-2.1)),
            ("frequencyPenalty", json!("1")),
            ("repetitionPenalty", json!(0)),
            ("maxTokens", json!(0)),
            ("webSearch", json!("yes")),
            (
                "clientTools",
                json!([{ "name": "n", "description": "d", "parameters": 1 }]),
            ),
            ("documents", json!({})),
        ] {
            let mut request = good.clone();
            request[name] = bad.clone();
            assert!(read(&request.to_string()).is_err(), "{name}: {bad}");
        }
    }
}
