//! Chat answers from an OpenAI-compatible server (`--upstream`), streamed.
//!
//! Translates a chat request (protocol.md section 5) into that API, and its chunks into our events.
//! Uses plain HTTP, because the server is on this machine. On a failure the client receives only a
//! status, never the server's text.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::answer::{Step, Steps};
use crate::routes::chat::{Chat, token};

/// Limits on the server's answer and time.
const MAX_LINE: usize = 1 << 20;
const MAX_HEADERS: usize = 64;
const MAX_TOOL_CALLS: usize = 64;
const CONNECT: Duration = Duration::from_secs(5);
/// A model may think for a long time before its first token.
const SILENCE: Duration = Duration::from_secs(120);
/// Steps waiting for the connection's writer.
const WAITING: usize = 64;
/// `completion` needs this number, which OpenAI's API does not provide.
const MAX_CONTEXT_TOKENS: u64 = 32_768;

/// Our property, and the server's name for it.
const PROPERTIES: [(&str, &str); 8] = [
    ("temperature", "temperature"),
    ("topP", "top_p"),
    ("minP", "min_p"),
    ("topK", "top_k"),
    ("presencePenalty", "presence_penalty"),
    ("frequencyPenalty", "frequency_penalty"),
    ("repetitionPenalty", "repetition_penalty"),
    ("maxTokens", "max_tokens"),
];

/// The server, and the model to use instead of the request's.
pub(crate) struct Upstream {
    authority: String,
    path: String,
    model: Option<String>,
}

impl Upstream {
    /// Parses a base URL such as `http://127.0.0.1:8000/v1`.
    pub(crate) fn new(url: &str, model: Option<String>) -> Result<Self, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or("--upstream takes an http:// URL")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty()
            || authority.contains('@')
            || url.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err("--upstream takes a URL of host, port and path".into());
        }
        let path = format!("/{}", path.trim_end_matches('/'));
        let path = format!("{}/chat/completions", path.trim_end_matches('/'));
        Ok(Self {
            authority: authority.into(),
            path,
            model,
        })
    }

    /// Sends the chat to the server. The steps arrive as it answers.
    pub(crate) fn answer(&self, chat: &Chat) -> Steps {
        let (steps, mut answer) = mpsc::channel(WAITING);
        let body = self.request(chat).to_string();
        let (authority, path) = (self.authority.clone(), self.path.clone());
        tokio::spawn(async move {
            if let Err(error) = ask(&authority, &path, &body, &steps).await {
                eprintln!("confer-enclave: upstream: {error}");
                let _ = steps
                    .send(Step::Fail(502, "the model server failed".into()))
                    .await;
            }
        });
        Box::pin(futures_util::stream::poll_fn(move |context| {
            answer.poll_recv(context)
        }))
    }

    fn request(&self, chat: &Chat) -> Value {
        let asked = &chat.request;
        let mut request = Map::new();
        request.insert("stream".into(), true.into());
        request.insert("stream_options".into(), json!({ "include_usage": true }));
        let model = self
            .model
            .as_deref()
            .or_else(|| asked.get("model")?.as_str());
        request.insert("model".into(), model.unwrap_or_default().into());
        request.insert(
            "messages".into(),
            chat.messages().iter().map(message).collect(),
        );
        for (ours, theirs) in PROPERTIES {
            if let Some(value) = asked.get(ours).filter(|value| !value.is_null()) {
                request.insert(theirs.into(), value.clone());
            }
        }
        if asked.get("json") == Some(&Value::Bool(true)) {
            request.insert("response_format".into(), json!({ "type": "json_object" }));
        }
        if let Some(Value::Bool(thinking)) = asked.get("thinking") {
            request.insert(
                "chat_template_kwargs".into(),
                json!({ "enable_thinking": thinking }),
            );
        }
        if let Some(tools) = asked
            .get("clientTools")
            .and_then(Value::as_array)
            .filter(|tools| !tools.is_empty())
        {
            let tools = tools
                .iter()
                .map(|tool| json!({ "type": "function", "function": tool }));
            request.insert("tools".into(), tools.collect());
        }
        request.into()
    }
}

/// Translates a message of the history. Tool calls and results are JSON texts in ours, structures
/// in theirs.
fn message(message: &Value) -> Value {
    let content = message["content"].as_str().unwrap_or_default();
    let inner: Value = serde_json::from_str(content).unwrap_or_default();
    match message["role"].as_str().unwrap_or_default() {
        "tool_call" => json!({ "role": "assistant", "content": null, "tool_calls": [{
            "id": inner["toolCallId"],
            "type": "function",
            "function": { "name": inner["toolName"], "arguments": inner["toolArguments"] },
        }] }),
        "tool_response" => {
            json!({ "role": "tool", "tool_call_id": inner["toolCallId"], "content": inner["content"] })
        }
        // Few servers know the name `developer`.
        "developer" => json!({ "role": "system", "content": content }),
        role => json!({ "role": role, "content": content }),
    }
}

async fn ask(
    authority: &str,
    path: &str,
    body: &str,
    steps: &mpsc::Sender<Step>,
) -> io::Result<()> {
    let address = if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut stream = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await??;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
         Accept: text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut stream = BufReader::new(stream);
    let chunked = read_head(&mut stream).await?;

    let mut body = Body {
        stream,
        left: if chunked { 0 } else { usize::MAX },
        chunked,
    };
    let mut translation = Translation::default();
    let mut line = Vec::new();
    while body.read_line(&mut line).await? {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            continue;
        };
        if data == b"[DONE]" {
            break;
        }
        let chunk = serde_json::from_slice(data).map_err(io::Error::other)?;
        for event in translation.take(&chunk)? {
            if steps.send(Step::Event(event)).await.is_err() {
                return Ok(()); // nobody listens any more
            }
        }
    }
    for event in translation.end()? {
        let _ = steps.send(Step::Event(event)).await;
    }
    Ok(())
}

/// Reads the answer's head. Returns whether the body is chunked. Any status but 200 is an error.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = limited_line(stream, &mut head).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    answer.parse(&head).map_err(io::Error::other)?;
    match answer.code {
        Some(200) => Ok(answer.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding")
                && header.value.to_ascii_lowercase().ends_with(b"chunked")
        })),
        status => Err(io::Error::other(format!(
            "status {}",
            status.unwrap_or_default()
        ))),
    }
}

/// Appends one line with its line end, up to `MAX_LINE` bytes in total.
async fn limited_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    let room = MAX_LINE.saturating_sub(line.len()) as u64;
    let mut limited = stream.take(room);
    let read = tokio::time::timeout(SILENCE, limited.read_until(b'\n', line)).await??;
    if read as u64 == room {
        return Err(io::Error::other("a line is too long"));
    }
    Ok(read)
}

/// An answer's body, read line by line: to the end of the connection, or in chunks (RFC 9112, 7.1).
struct Body {
    stream: BufReader<TcpStream>,
    /// Bytes left in this chunk.
    left: usize,
    chunked: bool,
}

impl Body {
    /// Reads the next line, without its line end. Returns false at the end of the body.
    async fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        loop {
            if self.left == 0 && !self.next_chunk().await? {
                return Ok(!line.is_empty());
            }
            let available = tokio::time::timeout(SILENCE, self.stream.fill_buf()).await??;
            if available.is_empty() {
                // A chunked body marks its end; without the mark it was cut off.
                let whole = !self.chunked;
                return if whole {
                    Ok(!line.is_empty())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            let part = &available[..available.len().min(self.left)];
            let end = part.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(part.len(), |end| end + 1);
            line.extend_from_slice(&part[..used]);
            self.stream.consume(used);
            if self.chunked {
                self.left -= used;
            }
            if line.len() > MAX_LINE {
                return Err(io::Error::other("a line is too long"));
            }
            if end.is_some() {
                let length = line.trim_ascii_end().len();
                line.truncate(length);
                return Ok(true);
            }
        }
    }

    /// Starts the next chunk. Returns false after the last.
    async fn next_chunk(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        limited_line(&mut self.stream, &mut line).await?;
        if line == b"\r\n" {
            // The line end of the previous chunk.
            line.clear();
            limited_line(&mut self.stream, &mut line).await?;
        }
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => {
                self.left = usize::try_from(size).map_err(io::Error::other)?;
                Ok(size > 0)
            }
            _ => Err(io::Error::other("a chunk without a size")),
        }
    }
}

/// Translates their chunks into our events. Tool calls come in pieces and are passed on when
/// complete.
#[derive(Default)]
struct Translation {
    calls: BTreeMap<u64, Call>,
    context_tokens: u64,
    finished: bool,
}

#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

impl Translation {
    fn take(&mut self, chunk: &Value) -> io::Result<Vec<Value>> {
        if let Some(tokens) = chunk["usage"]["total_tokens"].as_u64() {
            self.context_tokens = tokens;
        }
        let choice = &chunk["choices"][0];
        self.finished |= choice["finish_reason"].is_string();
        let delta = &choice["delta"];
        let mut events = Vec::new();
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = delta[name].as_str().filter(|text| !text.is_empty()) {
                events.push(json!({ "type": "thinking", "content": text }));
            }
        }
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            events.push(token(text));
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap_or(0);
            if self.calls.len() == MAX_TOOL_CALLS && !self.calls.contains_key(&index) {
                return Err(io::Error::other("too many tool calls"));
            }
            let call = self.calls.entry(index).or_default();
            call.id.push_str(piece["id"].as_str().unwrap_or_default());
            call.name
                .push_str(piece["function"]["name"].as_str().unwrap_or_default());
            call.arguments
                .push_str(piece["function"]["arguments"].as_str().unwrap_or_default());
            if call.arguments.len() > MAX_LINE {
                return Err(io::Error::other("a tool call is too long"));
            }
        }
        Ok(events)
    }

    /// Returns the last events. An answer without a finish reason was cut off, which is an error.
    fn end(self) -> io::Result<Vec<Value>> {
        if !self.finished {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut end = json!({
            "type": "completion",
            "context_tokens": self.context_tokens,
            "max_context_tokens": MAX_CONTEXT_TOKENS,
        });
        if !self.calls.is_empty() {
            end["pending_tool_calls"] = true.into();
        }
        let calls = self.calls.into_values().map(|call| {
            json!({
                "type": "client_tool_call", "tool_call_id": call.id, "tool_name": call.name,
                "tool_arguments": call.arguments,
            })
        });
        Ok(calls.chain([end]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::chat::read;
    use crate::server::Server;

    #[test]
    fn request_is_translated_for_the_server() {
        let upstream =
            Upstream::new("http://127.0.0.1:8000/v1/", Some("tiny".into())).expect("a URL");
        assert_eq!(upstream.path, "/v1/chat/completions");
        let body = json!({
            "messages": [
                { "role": "developer", "content": "be brief" },
                { "role": "tool_call", "content":
                    r#"{"toolCallId":"c","toolName":"clock","toolArguments":"{}"}"# },
                { "role": "tool_response", "content":
                    r#"{"toolCallId":"c","toolName":"clock","content":"noon"}"# },
            ],
            "model": "big", "stream": true, "topP": 0.5, "maxTokens": 9, "json": true, "minP": null,
            "clientTools": [{ "name": "clock", "description": "d", "parameters": {} }],
        });
        let request =
            upstream.request(&read(Server::Newer, &body.to_string()).expect("a good request"));
        assert_eq!(request["model"], "tiny");
        assert_eq!(request["messages"][0]["role"], "system");
        assert_eq!(
            request["messages"][1]["tool_calls"][0]["function"]["name"],
            "clock"
        );
        assert_eq!(
            request["messages"][2],
            json!({ "role": "tool", "tool_call_id": "c", "content": "noon" })
        );
        assert_eq!(
            (&request["top_p"], &request["max_tokens"]),
            (&json!(0.5), &json!(9))
        );
        assert_eq!(request["tools"][0]["function"]["name"], "clock");
        assert_eq!(request["response_format"]["type"], "json_object");
        assert!(request.get("min_p").is_none());
    }

    #[test]
    fn tool_call_in_pieces_becomes_one_event() {
        let mut translation = Translation::default();
        for chunk in [
            json!({ "choices": [{ "delta": { "content": "" } }] }),
            json!({ "choices": [{ "delta": { "tool_calls": [
                { "index": 0, "id": "c", "function": { "name": "clock", "arguments": "{\"zo" } }] } }] }),
            json!({ "choices": [{ "delta": { "tool_calls": [
                { "index": 0, "function": { "arguments": "ne\":1}" } }] }, "finish_reason": "tool_calls" }] }),
            json!({ "choices": [], "usage": { "total_tokens": 12 } }),
        ] {
            assert_eq!(translation.take(&chunk).expect("good"), Vec::<Value>::new());
        }
        let end = translation.end().expect("finished");
        assert_eq!(end[0]["tool_arguments"], "{\"zone\":1}");
        assert_eq!(
            (&end[1]["pending_tool_calls"], &end[1]["context_tokens"]),
            (&json!(true), &json!(12))
        );
    }

    #[test]
    fn cut_off_answer_has_no_completion() {
        let mut translation = Translation::default();
        translation
            .take(&json!({ "choices": [{ "delta": { "content": "half" } }] }))
            .expect("good");
        assert!(translation.end().is_err());
    }
}
