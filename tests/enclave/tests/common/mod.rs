//! Starts local enclaves, and has a small client: the protocol on snow, without the library.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use serde_json::Value;
use snow::{Builder, HandshakeState, StatelessTransportState};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

pub mod schema {
    include!(concat!(env!("OUT_DIR"), "/confer.rs"));
}
use schema::{NoiseTransportFrame, StreamChunk, WebsocketRequest, WebsocketResponse};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// Limit of a whole test. Connecting and sending have no limit themselves, and each message that
/// arrives extends `PATIENCE`.
const LONGEST: Duration = Duration::from_secs(300);

/// A running enclave. Dropping this value ends it.
pub struct Enclave {
    process: Child,
    pub url: String,
    pub token: String,
    pub policy_path: PathBuf,
}

impl Enclave {
    /// Starts it in the world that all enclaves of this process share. Making a world takes a
    /// second, and faults never change the kept part of one.
    pub fn start(arguments: &[&str]) -> Self {
        static WORLD: LazyLock<PathBuf> = LazyLock::new(|| scratch("world"));
        let world = WORLD.to_str().expect("UTF-8");
        Self::start_alone(&[arguments, &["--state", world]].concat())
    }

    /// Starts it in the world that the arguments name, or in a new one.
    pub fn start_alone(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confer-enclave"));
        Self::run(command.args(arguments))
    }

    /// Starts it from a shell with a low limit of open files.
    pub fn start_with_few_files() -> Self {
        const FEW: &str = "ulimit -Sn 256 && exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        Self::run(command.args(["-c", FEW, env!("CARGO_BIN_EXE_confer-enclave")]))
    }

    fn run(command: &mut Command) -> Self {
        let mut process = command
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the enclave starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("its stdout");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its line");
        let line: Value = serde_json::from_str(&line).expect("one JSON line");
        let text = |name: &str| line[name].as_str().expect("a string").to_owned();
        Self {
            process,
            url: text("url"),
            token: text("token"),
            policy_path: text("policy").into(),
        }
    }

    pub fn with_fault(fault: &str) -> Self {
        Self::start(&["--fault", fault])
    }

    pub fn policy(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.policy_path).expect("the policy"))
            .expect("JSON")
    }

    pub fn address(&self) -> &str {
        self.url
            .strip_prefix("ws://")
            .and_then(|rest| rest.split('/').next())
            .expect("ws://HOST/…")
    }

    /// Returns the ports of the enclave and of its key server.
    pub fn ports(&self) -> [String; 2] {
        let policy = self.policy();
        let keys = policy["ita"]["jwks_url"].as_str().expect("a URL");
        [self.url.as_str(), keys].map(|url| {
            let rest = url.rsplit_once(':').expect("a port").1;
            rest.split('/').next().expect("a port").to_owned()
        })
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it by closing its stdin, as for an orphan. Returns whether it exited with success.
    pub fn stop(&mut self) -> bool {
        drop(self.process.stdin.take());
        self.process.wait().expect("it ends").success()
    }
}

impl Drop for Enclave {
    /// Ends it by closing its stdin, so that it removes its files.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

pub type WebSocket = WebSocketStream<TcpStream>;

pub async fn upgrade(enclave: &Enclave, token: &str) -> Result<WebSocket, Error> {
    let stream = TcpStream::connect(enclave.address()).await?;
    let url = format!("{}?token={token}", enclave.url);
    Ok(tokio_tungstenite::client_async(url, stream).await?.0)
}

/// A client that has read message 2 and not sent message 3.
pub struct Waiting {
    pub websocket: WebSocket,
    state: HandshakeState,
    pub evidence: Vec<u8>,
    pub ephemeral: [u8; 32],
    pub server_key: [u8; 32],
}

pub async fn hello(enclave: &Enclave) -> Waiting {
    hello_as(enclave, &enclave.token).await
}

pub async fn hello_as(enclave: &Enclave, token: &str) -> Waiting {
    let websocket = upgrade(enclave, token).await.expect("an upgrade");
    greet(websocket, PATIENCE).await.expect("message 2")
}

/// Sends message 1 and reads message 2. An error is the status that a client would return.
pub async fn greet(mut websocket: WebSocket, patience: Duration) -> Result<Waiting, &'static str> {
    let builder = Builder::new("Noise_XX_25519_AESGCM_SHA256".parse().expect("a pattern"));
    let private = builder.generate_keypair().expect("a key").private;
    let mut state = builder
        .local_private_key(&private)
        .expect("once")
        .build_initiator()
        .expect("a state");
    let mut buffer = vec![0; 65_535];
    let length = state.write_message(&[], &mut buffer).expect("message 1");
    if websocket
        .send(Message::binary(buffer[..length].to_vec()))
        .await
        .is_err()
    {
        return Err("CONFER_E_CONNECTION_LOST");
    }
    let message = match tokio::time::timeout(patience, websocket.next()).await {
        Err(_) => return Err("CONFER_E_STAGE_TIMEOUT"),
        Ok(Some(Ok(Message::Binary(message)))) if message.len() > 65_535 => {
            return Err("CONFER_E_LIMIT");
        }
        Ok(Some(Ok(Message::Binary(message)))) => message,
        Ok(Some(Ok(Message::Text(_)))) => return Err("CONFER_E_PROTOCOL"),
        Ok(_) => return Err("CONFER_E_CONNECTION_LOST"),
    };
    let length = state
        .read_message(&message, &mut buffer)
        .map_err(|_| "CONFER_E_HANDSHAKE")?;
    let server_key = state
        .get_remote_static()
        .and_then(|key| key.try_into().ok())
        .expect("32 bytes");
    let ephemeral = message[..32].try_into().expect("32 bytes");
    Ok(Waiting {
        websocket,
        state,
        evidence: buffer[..length].to_vec(),
        ephemeral,
        server_key,
    })
}

impl Waiting {
    pub fn evidence(&self) -> Value {
        serde_json::from_slice(&self.evidence).expect("evidence is JSON")
    }

    pub async fn finish(mut self) -> Client {
        let mut buffer = vec![0; 1_024];
        let length = self
            .state
            .write_message(&[], &mut buffer)
            .expect("message 3");
        // If the enclave has hung up, the first read fails.
        let _ = self
            .websocket
            .send(Message::binary(buffer[..length].to_vec()))
            .await;
        let transport = self
            .state
            .into_stateless_transport_mode()
            .expect("a transport");
        Client {
            websocket: self.websocket,
            transport,
            sent: 0,
            received: 0,
            unfinished: HashMap::new(),
            totals: HashMap::new(),
        }
    }
}

pub struct Client {
    pub websocket: WebSocket,
    transport: StatelessTransportState,
    sent: u64,
    received: u64,
    /// For each `chunk_id`, the chunks by index.
    unfinished: HashMap<i64, BTreeMap<u32, Bytes>>,
    totals: HashMap<i64, u32>,
}

/// Why nothing more was received.
#[derive(Debug, PartialEq)]
pub enum End {
    Closed(Option<u16>),
    Undecryptable,
    Text,
    Frame,
    Limit,
    Silence,
}

impl Client {
    pub async fn connect(enclave: &Enclave) -> Self {
        Self::connect_as(enclave, &enclave.token).await
    }

    pub async fn connect_as(enclave: &Enclave, token: &str) -> Self {
        hello_as(enclave, token).await.finish().await
    }

    pub async fn send_plaintext(&mut self, plaintext: &[u8]) {
        let mut buffer = vec![0; plaintext.len() + 16];
        self.transport
            .write_message(self.sent, plaintext, &mut buffer)
            .expect("it fits");
        self.sent += 1;
        let _ = self.websocket.send(Message::binary(buffer)).await;
    }

    pub async fn send(&mut self, request: &WebsocketRequest) {
        let message = request.encode_to_vec();
        let pieces: Vec<_> = message.chunks(65_489).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let frame = NoiseTransportFrame {
                chunk_id: Some(request.id.unwrap_or(0) ^ 0x5a5a),
                chunk_index: Some(index as u32),
                total_chunks: Some(pieces.len().max(1) as u32),
                payload: Some(piece.to_vec().into()),
            };
            self.send_plaintext(&frame.encode_to_vec()).await;
        }
    }

    pub async fn ask(&mut self, id: i64, verb: &str, path: &str, body: &str) {
        let request = WebsocketRequest {
            id: Some(id),
            verb: Some(verb.into()),
            path: Some(path.into()),
            body: Some(body.to_owned().into()),
            chunk: None,
        };
        self.send(&request).await;
    }

    pub async fn chat(&mut self, id: i64, content: &str, stream: bool) {
        let message = serde_json::json!({ "role": "user", "content": content });
        self.converse(id, &[message], stream).await;
    }

    /// Sends a chat with a history.
    pub async fn converse(&mut self, id: i64, messages: &[Value], stream: bool) {
        let body = serde_json::json!({ "messages": messages, "model": "m", "stream": stream });
        self.ask(id, "POST", "/v1/vllm/chat/completions", &body.to_string())
            .await;
    }

    /// Receives the next plaintext, which is a frame if the enclave is honest.
    pub async fn plaintext(&mut self, patience: Duration) -> Result<Vec<u8>, End> {
        let message = loop {
            match tokio::time::timeout(patience, self.websocket.next()).await {
                Err(_) => return Err(End::Silence),
                Ok(Some(Ok(Message::Binary(message)))) if message.len() > 65_535 => {
                    return Err(End::Limit);
                }
                Ok(Some(Ok(Message::Binary(message)))) => break message,
                Ok(Some(Ok(Message::Close(frame)))) => {
                    return Err(End::Closed(frame.map(|frame| frame.code.into())));
                }
                Ok(Some(Ok(Message::Text(_)))) => return Err(End::Text),
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(_)) | None) => return Err(End::Closed(None)),
            }
        };
        let mut buffer = vec![0; message.len()];
        let read = self
            .transport
            .read_message(self.received, &message, &mut buffer);
        let length = read.map_err(|_| End::Undecryptable)?;
        self.received += 1;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Receives the next message and joins its frames, by the rules and limits of section 3.
    pub async fn message(&mut self, patience: Duration) -> Result<Bytes, End> {
        loop {
            let plaintext = self.plaintext(patience).await?;
            let frame =
                NoiseTransportFrame::decode(plaintext.as_slice()).map_err(|_| End::Frame)?;
            let (id, index) = (frame.chunk_id.unwrap_or(0), frame.chunk_index.unwrap_or(0));
            let (total, payload) = (
                frame.total_chunks.unwrap_or(0),
                frame.payload.unwrap_or_default(),
            );
            if total == 0 || index >= total {
                return Err(End::Frame);
            }
            let chunks = self.unfinished.entry(id).or_default();
            let known = *self.totals.entry(id).or_insert(total);
            if known != total || chunks.get(&index).is_some_and(|known| *known != payload) {
                return Err(End::Frame);
            }
            chunks.insert(index, payload);
            if chunks.len() == total as usize {
                self.totals.remove(&id);
                let chunks = self.unfinished.remove(&id).unwrap_or_default();
                return Ok(chunks.into_values().flatten().collect());
            }
            let bytes: usize = self
                .unfinished
                .values()
                .flat_map(BTreeMap::values)
                .map(Bytes::len)
                .sum();
            if total > 4_096 || self.unfinished.len() > 64 || bytes > 64 << 20 {
                return Err(End::Limit);
            }
        }
    }

    /// Receives the next response.
    pub async fn receive(&mut self) -> Result<WebsocketResponse, End> {
        let message = self.message(PATIENCE).await?;
        Ok(WebsocketResponse::decode(message).expect("a response"))
    }

    /// Receives the next response. Returns its status and body.
    pub async fn answer(&mut self) -> (i32, String) {
        let response = self.receive().await.expect("an answer");
        let body = String::from_utf8(response.body.unwrap_or_default().to_vec()).expect("UTF-8");
        (response.status.expect("a status"), body)
    }

    /// Receives the events of a streamed chat, up to `completion`. Skips responses to other
    /// requests.
    pub async fn events(&mut self, id: i64) -> Vec<Value> {
        let mut bytes = Vec::new();
        loop {
            let response = self.receive().await.expect("an event");
            if response.id != Some(id) {
                continue;
            }
            assert_eq!(response.status, Some(200));
            bytes.extend_from_slice(&response.body.unwrap_or_default());
            let events: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&bytes)
                .into_iter()
                .collect();
            if let Ok(events) = events
                && events
                    .last()
                    .is_some_and(|event| event["type"] == "completion")
            {
                return events;
            }
        }
    }
}

/// Makes a chunk of an upload.
pub fn chunk(id: i64, seq: u32, data: &[u8], last: bool) -> WebsocketRequest {
    let chunk = StreamChunk {
        data: Some(data.to_vec().into()),
        r#final: Some(last),
        seq: Some(seq),
    };
    WebsocketRequest {
        id: Some(id),
        chunk: Some(chunk),
        ..Default::default()
    }
}

/// Makes the message that opens an upload.
pub fn opening(id: i64, options: &Value, first: &[u8], last: bool) -> WebsocketRequest {
    WebsocketRequest {
        verb: Some("POST".into()),
        path: Some("/v1/document/extract".into()),
        body: Some(options.to_string().into()),
        ..chunk(id, 0, first, last)
    }
}

/// Joins the contents of all token events.
pub fn said(events: &[Value]) -> String {
    let tokens = events.iter().filter(|event| event["type"] == "token");
    tokens
        .filter_map(|event| event["content"].as_str())
        .collect()
}

/// Reads the lines of a log.
pub fn log_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the log");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

/// Returns the path of a file for this test in the build folder.
pub fn scratch(name: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs a test. Panics if it takes longer than `LONGEST`.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(LONGEST, test).await })
        .expect("the test ends in time")
}
