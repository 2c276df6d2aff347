//! `POST /v1/vllm/chat/completions`: the rules for requests, and the built-in generator of answers.
//!
//! Specification: protocol.md section 5. The generator is deterministic. A user message may begin
//! with a directive (README.md lists them), so that a test gets the answer it needs without a
//! fault.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::tools::{self, Turn};
use crate::answer::{Outgoing, Step};
use crate::connection::FAILED;
use crate::server::Server;

const ROLES: [&str; 6] = [
    "user",
    "assistant",
    "system",
    "developer",
    "tool_call",
    "tool_response",
];
const MAX_CONTEXT_TOKENS: usize = 32_768;
/// Limits on directives.
const MAX_TOKENS: usize = 10_000_000;
const MAX_TOKEN_BYTES: usize = 64 << 20;
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// The steps of an answer, created while they are played.
type Script = Box<dyn Iterator<Item = Step> + Send>;

/// The properties that version 0.1.14 reads from a request, and from a message. It drops all
/// others.
const READ_BY_0_1_14: [&str; 8] = [
    "messages",
    "model",
    "temperature",
    "maxTokens",
    "stream",
    "json",
    "webSearch",
    "clientTools",
];
const READ_OF_MESSAGES_BY_0_1_14: [&str; 2] = ["role", "content"];
/// The names of newer servers' tools.
const RESERVED_TOOLS: [&str; 8] = [
    "web_search",
    "page_fetch",
    "exec_command",
    "publish_file",
    "file_overview",
    "file_search",
    "file_read",
    "file_view",
];
/// The servers' limits (section 5).
const MAX_STRING: usize = 20_000_000;
const MAX_TOOLS: usize = 128;
const MAX_TOOL_NAME: usize = 64;
const MAX_DOCUMENTS: usize = 1_000;
const MAX_ATTACHMENT_ID: usize = 200;
const MAX_FILENAME: usize = 1_024;
const MAX_SOURCE: u64 = 256 << 20;

/// An accepted request.
#[derive(Debug)]
pub(crate) struct Chat {
    server: Server,
    /// The request without the properties that the server drops.
    pub(crate) request: Map<String, Value>,
    pub(crate) stream: bool,
    /// Why the model fails, if it does.
    pub(crate) failure: Option<String>,
}

/// Parses a request, or returns the status and reason of its refusal.
pub(crate) fn read(server: Server, body: &str) -> Result<Chat, (i32, String)> {
    let refused = |reason: String| (400, reason);
    let Ok(Value::Object(mut request)) = serde_json::from_str(body) else {
        return Err(refused("body is not a JSON object".into()));
    };
    if request.values().any(has_long_string) {
        return Err(refused("a string is too long".into()));
    }
    if server == Server::V0_1_14 {
        request.retain(|name, _| READ_BY_0_1_14.contains(&name.as_str()));
        let messages = request.get_mut("messages").and_then(Value::as_array_mut);
        for message in messages.into_iter().flatten() {
            if let Value::Object(message) = message {
                message.retain(|name, _| READ_OF_MESSAGES_BY_0_1_14.contains(&name.as_str()));
            }
        }
    }
    well_typed(&request).map_err(refused)?;
    let stream = request.get("stream").and_then(Value::as_bool);
    let failure = match (server, within_bounds(&request)) {
        // This server leaves the limits to the model. A missing `stream` makes the server fail.
        (Server::V0_1_14, bounds) => {
            if stream.is_none() {
                return Err((500, "Internal Server Error".into()));
            }
            bounds.err()
        }
        (Server::Newer, bounds) => {
            bounds.map_err(refused)?;
            None
        }
    };
    if server == Server::Newer
        && let Some(Value::Array(tools)) = request.get_mut("clientTools")
    {
        let reserved = |tool: &Value| {
            tool["name"]
                .as_str()
                .is_some_and(|name| RESERVED_TOOLS.contains(&name))
        };
        tools.retain(|tool| !reserved(tool));
    }
    Ok(Chat {
        server,
        request,
        stream: stream.unwrap_or_default(),
        failure,
    })
}

fn has_long_string(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > MAX_STRING && text.chars().count() > MAX_STRING,
        Value::Array(list) => list.iter().any(has_long_string),
        Value::Object(object) => object.values().any(has_long_string),
        _ => false,
    }
}

/// Checks that each property has its type, or is absent or null.
fn well_typed(request: &Map<String, Value>) -> Result<(), String> {
    let typed = |name: &str, kind: &str, is: fn(&Value) -> bool| match request.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if is(value) => Ok(()),
        Some(_) => Err(format!("{name} must be {kind}")),
    };
    for name in ["model", "toolChoice"] {
        typed(name, "a string", Value::is_string)?;
    }
    for name in ["stream", "json", "thinking", "webSearch"] {
        typed(name, "true or false", Value::is_boolean)?;
    }
    for name in [
        "temperature",
        "topP",
        "minP",
        "presencePenalty",
        "frequencyPenalty",
        "repetitionPenalty",
    ] {
        typed(name, "a number", Value::is_number)?;
    }
    for name in ["topK", "maxTokens"] {
        let is_int32 = |value: &Value| value.as_i64().is_some_and(|int| i32::try_from(int).is_ok());
        typed(name, "a whole number of 32 bits", is_int32)?;
    }
    for message in list(request, "messages")? {
        if !message["role"]
            .as_str()
            .is_some_and(|role| ROLES.contains(&role))
        {
            return Err("a message has an unknown role".into());
        }
        if !matches!(message["content"], Value::Null | Value::String(_)) {
            return Err("a message's content must be a string".into());
        }
        let images = message.get("imageRefs");
        if !matches!(images, None | Some(Value::Null | Value::Array(_))) {
            return Err("imageRefs must be a list".into());
        }
    }
    for tool in list(request, "clientTools")? {
        let typed = tool["name"].is_string() && tool["parameters"].is_object();
        let description = matches!(tool["description"], Value::Null | Value::String(_));
        if !(typed && description) {
            return Err("a client tool needs name, description and parameters".into());
        }
    }
    list(request, "documents").map(|_| ())
}

/// Checks that each property is within the limits of section 5.
fn within_bounds(request: &Map<String, Value>) -> Result<(), String> {
    let messages = list(request, "messages")?;
    if messages.is_empty() {
        return Err("messages must not be empty".into());
    }
    for message in messages {
        if !message["content"].is_string() {
            return Err("a message has no content".into());
        }
        let images = message["imageRefs"].as_array();
        if message["role"] == "user" && images.into_iter().flatten().any(|image| !is_image(image)) {
            return Err("an image needs s3Key, encryptionKey and an image mediaType".into());
        }
        if images.is_some() && message["role"] != "user" {
            return Err("only a user's message may have imageRefs".into());
        }
    }
    tools::paired(messages)?;
    if !request.get("model").is_some_and(is_text) {
        return Err("model must not be blank".into());
    }
    if !request.get("stream").is_some_and(Value::is_boolean) {
        return Err("stream must be true or false".into());
    }
    let in_range = |name: &str, holds: fn(f64) -> bool| match request.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64().is_some_and(holds) => Ok(()),
        Some(_) => Err(format!("{name} is out of range")),
    };
    in_range("temperature", |value| value >= 0.0)?;
    in_range("topP", |value| value > 0.0 && value <= 1.0)?;
    in_range("minP", |value| (0.0..=1.0).contains(&value))?;
    in_range("topK", |value| value == -1.0 || value >= 1.0)?;
    in_range("presencePenalty", |value| (-2.0..=2.0).contains(&value))?;
    in_range("frequencyPenalty", |value| (-2.0..=2.0).contains(&value))?;
    in_range("repetitionPenalty", |value| value > 0.0)?;
    in_range("maxTokens", |value| value >= 1.0)?;
    if !matches!(
        request.get("toolChoice").and_then(Value::as_str),
        None | Some("auto" | "none")
    ) {
        return Err("toolChoice must be auto or none".into());
    }
    let tools = list(request, "clientTools")?;
    if tools.len() > MAX_TOOLS {
        return Err(format!("at most {MAX_TOOLS} client tools"));
    }
    for tool in tools {
        let name = tool["name"].as_str().unwrap_or_default();
        if name.trim().is_empty() || name.len() > MAX_TOOL_NAME {
            return Err("a client tool's name is blank or too long".into());
        }
        if tool["description"].is_null() {
            return Err("a client tool has no description".into());
        }
    }
    let documents = list(request, "documents")?;
    if documents.len() > MAX_DOCUMENTS {
        return Err(format!("at most {MAX_DOCUMENTS} documents"));
    }
    match documents.iter().all(is_document) {
        true => Ok(()),
        false => Err("a document's reference is incomplete or out of bounds".into()),
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn is_image(image: &Value) -> bool {
    let media_type = image["mediaType"].as_str().unwrap_or_default();
    is_text(&image["s3Key"]) && is_text(&image["encryptionKey"]) && media_type.starts_with("image/")
}

fn is_document(document: &Value) -> bool {
    let id = document["attachmentId"].as_str().unwrap_or_default();
    let filename = document["filename"].as_str().unwrap_or_default();
    let texts = [
        "filename",
        "contentType",
        "sourceObjectKey",
        "encryptionKey",
    ];
    (1..=MAX_ATTACHMENT_ID).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && filename.chars().count() <= MAX_FILENAME
        && texts.iter().all(|name| is_text(&document[*name]))
        && document["sourceBytes"]
            .as_u64()
            .is_some_and(|size| (1..=MAX_SOURCE).contains(&size))
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

    /// Returns the number of words, the generator's tokens, in the whole history.
    fn context_tokens(&self) -> usize {
        self.messages()
            .iter()
            .map(|message| Self::content(message).split_whitespace().count())
            .sum()
    }

    /// Returns the built-in generator's answer. `body` is the request as received.
    pub(crate) fn answer(&self, body: &str) -> Script {
        if let Some(reason) = &self.failure {
            return Box::new([Step::Fail(400, reason.clone())].into_iter());
        }
        if self.context_tokens() > MAX_CONTEXT_TOKENS {
            let reason = "the prompt exceeds the model's context".to_owned();
            return Box::new([Step::Fail(413, reason)].into_iter());
        }
        let messages = self.messages();
        // Images of a tool's result come in a user's message, which is not a question.
        let at = (0..messages.len()).rfind(|at| {
            let of_a_tool = *at > 0
                && messages[*at]["imageRefs"].is_array()
                && messages[at - 1]["role"] == "tool_response";
            messages[*at]["role"] == "user" && !of_a_tool
        });
        let asked = at.map_or("", |at| Self::content(&messages[at]));
        let since = &messages[at.map_or(0, |at| at + 1)..];
        match self.answer_to(asked, since, body) {
            Ok(steps) => steps,
            Err(reason) => Box::new([Step::Refuse(400, reason)].into_iter()),
        }
    }

    /// Answers a user's message, given the messages after it. An error is the reason of a refusal.
    fn answer_to(&self, asked: &str, since: &[Value], body: &str) -> Result<Script, String> {
        let line = asked.lines().next().unwrap_or_default();
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        // These directives also apply to the messages after them.
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

    /// Sends events, then the completion that waits for tools.
    fn pending(&self, events: Vec<Value>) -> Script {
        let mut end = completion(self.context_tokens());
        end["pending_tool_calls"] = true.into();
        Box::new(events.into_iter().chain([end]).map(Step::Event))
    }

    /// Sends words as token events, then the completion.
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

    /// Returns the steps for the directive in a message's first line. An error explains the
    /// directive's syntax.
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
            "/unanswered-tool" => self.ended(vec![
                Step::Event(tools::server_call(tools::SWITCHED_OFF)),
                text("It is switched off."),
            ]),
            "/pack" => {
                let events =
                    [token("one "), token("two "), token("three")].map(|event| event.to_string());
                let end = completion(self.context_tokens() + events.len());
                let body = format!("{}{} \n\t{}\r\n{end}", events[0], events[1], events[2]);
                Box::new([Step::Body(body.into())].into_iter())
            }
            "/split" => {
                // Splits characters of several bytes and escapes too.
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
            "/echo-read" => {
                let read = Value::from(self.request.clone());
                self.ended(vec![text(&read.to_string())])
            }
            "/model-error" => {
                let failure = Step::Fail(500, "Internal Server Error".into());
                Box::new([text("one "), text("two "), failure].into_iter())
            }
            "/stream-error" => {
                let failure = match self.server {
                    Server::V0_1_14 => Step::Fail(500, "Internal Server Error".into()),
                    Server::Newer => Step::Send(Outgoing::Close(FAILED)),
                };
                Box::new([text("one "), text("two "), failure].into_iter())
            }
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

/// Returns a text of exactly this many bytes.
fn filler(size: usize) -> String {
    "lorem ipsum ".chars().cycle().take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(content: &str) -> Chat {
        let body = json!({ "messages": [{ "role": "user", "content": content }], "model": "m", "stream": true });
        read(Server::Newer, &body.to_string()).expect("a good request")
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
    fn tokens_have_the_requested_number_and_size() {
        let events = events("/tokens 3 20");
        assert_eq!(events.len(), 4);
        assert!(
            events[..3]
                .iter()
                .all(|event| event["content"].as_str().map(str::len) == Some(20))
        );
    }

    #[test]
    fn big_event_has_exactly_the_requested_size() {
        assert_eq!(events("/big 100000")[0].to_string().len(), 100_000);
    }

    #[test]
    fn wrong_directive_is_refused() {
        assert!(matches!(
            chat("/tokens many").answer("{}").next(),
            Some(Step::Refuse(400, _))
        ));
    }

    fn good() -> Value {
        json!({ "messages": [{ "role": "user", "content": "" }], "model": "m", "stream": false })
    }

    /// Returns the status of the refusal, or the reason why the model fails.
    fn judged(server: Server, request: &Value) -> Result<Option<String>, i32> {
        let chat = read(server, &request.to_string());
        chat.map(|chat| chat.failure).map_err(|(status, _)| status)
    }

    #[test]
    fn newer_servers_refuse_what_is_out_of_bounds_and_0_1_14_fails_at_it() {
        let tool = |name: &str| json!({ "name": name, "description": "", "parameters": {} });
        assert_eq!(judged(Server::Newer, &good()), Ok(None));
        assert_eq!(judged(Server::V0_1_14, &good()), Ok(None));
        for (name, bad) in [
            ("messages", json!([])),
            ("messages", Value::Null),
            ("messages", json!([{ "role": "user" }])),
            ("messages", json!([{ "role": "user", "content": null }])),
            ("model", json!("  ")),
            ("model", Value::Null),
            ("temperature", json!(-0.1)),
            ("maxTokens", json!(0)),
            ("clientTools", Value::from(vec![tool("t"); 129])),
            ("clientTools", json!([tool("")])),
            ("clientTools", json!([tool(&"t".repeat(65))])),
            (
                "clientTools",
                json!([{ "name": "t", "description": null, "parameters": {} }]),
            ),
        ] {
            let mut request = good();
            request[name] = bad.clone();
            assert_eq!(judged(Server::Newer, &request), Err(400), "{name}: {bad}");
            let older = judged(Server::V0_1_14, &request);
            assert!(matches!(older, Ok(Some(_))), "{name}: {bad}");
        }
        let mut request = good();
        request["stream"] = Value::Null;
        assert_eq!(judged(Server::Newer, &request), Err(400));
        assert_eq!(judged(Server::V0_1_14, &request), Err(500));
    }

    #[test]
    fn bounds_of_properties_that_0_1_14_does_not_read_hold_for_newer_servers() {
        let document = json!({
            "attachmentId": "a-Z_9", "filename": "f", "contentType": "text/plain", "sourceBytes": 256 << 20,
            "sourceObjectKey": "k", "encryptionKey": "e", "hasExtraction": false,
        });
        let with = |name: &str, value: Value| {
            let mut document = document.clone();
            document[name] = value;
            json!([document])
        };
        let image = |media_type: &str| {
            let image = json!({ "s3Key": "k", "encryptionKey": "e", "mediaType": media_type });
            json!([{ "role": "user", "content": "", "imageRefs": [image] }])
        };
        for (name, value, status) in [
            ("topP", json!(0), Some(400)),
            ("topP", json!(1), None),
            ("minP", json!(1.1), Some(400)),
            ("minP", json!(0), None),
            ("topK", json!(0), Some(400)),
            ("topK", json!(1.5), Some(400)),
            ("topK", json!(-1), None),
            ("presencePenalty", json!(-2.1), Some(400)),
            ("frequencyPenalty", json!("1"), Some(400)),
            ("repetitionPenalty", json!(0), Some(400)),
            ("toolChoice", json!("required"), Some(400)),
            ("toolChoice", json!("none"), None),
            ("thinking", json!("yes"), Some(400)),
            ("documents", json!({}), Some(400)),
            (
                "documents",
                Value::from(vec![document.clone(); 1_001]),
                Some(400),
            ),
            (
                "documents",
                Value::from(vec![document.clone(); 1_000]),
                None,
            ),
            ("documents", with("attachmentId", json!("a.b")), Some(400)),
            (
                "documents",
                with("attachmentId", json!("a".repeat(201))),
                Some(400),
            ),
            (
                "documents",
                with("filename", json!("f".repeat(1_025))),
                Some(400),
            ),
            ("documents", with("sourceObjectKey", json!(" ")), Some(400)),
            ("documents", with("sourceBytes", json!(0)), Some(400)),
            (
                "documents",
                with("sourceBytes", json!((256 << 20) + 1)),
                Some(400),
            ),
            ("messages", image("image/png"), None),
            ("messages", image("text/plain"), Some(400)),
        ] {
            let mut request = good();
            request[name] = value.clone();
            let newer = judged(Server::Newer, &request);
            assert_eq!(newer, status.map_or(Ok(None), Err), "{name}: {value}");
            assert_eq!(
                judged(Server::V0_1_14, &request),
                Ok(None),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn every_server_refuses_wrong_types_and_endless_strings() {
        let long = "x".repeat(MAX_STRING + 1);
        for (name, bad) in [
            ("messages", json!("hello")),
            ("messages", json!([{ "role": "king", "content": "" }])),
            ("messages", json!([{ "role": "user", "content": 1 }])),
            ("messages", json!([{ "role": "user", "content": long }])),
            ("temperature", json!("warm")),
            ("maxTokens", json!(1_i64 << 31)),
            ("maxTokens", json!(1.5)),
            ("webSearch", json!("yes")),
            (
                "clientTools",
                json!([{ "name": "n", "description": "d", "parameters": 1 }]),
            ),
        ] {
            let mut request = good();
            request[name] = bad;
            for server in [Server::V0_1_14, Server::Newer] {
                assert_eq!(judged(server, &request), Err(400), "{name}");
            }
        }
    }

    #[test]
    fn each_server_drops_unread_properties() {
        let tools = ["web_search", "clock"]
            .map(|name| json!({ "name": name, "description": "", "parameters": {} }));
        let mut request = good();
        request["messages"][0]["imageRefs"] = json!([]);
        request["clientTools"] = json!(tools);
        request["topK"] = 5.into();
        let read = |server| {
            let chat = read(server, &request.to_string()).expect("a good request");
            Value::from(chat.request)
        };
        let mut older = request.clone();
        older.as_object_mut().expect("an object").remove("topK");
        older["messages"] = good()["messages"].clone();
        assert_eq!(read(Server::V0_1_14), older);
        let mut newer = request.clone();
        newer["clientTools"] = json!([tools[1]]);
        assert_eq!(read(Server::Newer), newer);
    }
}
