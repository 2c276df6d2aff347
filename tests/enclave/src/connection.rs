//! One connection: upgrade, handshake, then requests and answers until one side closes.
//!
//! Specification: protocol.md sections 1 to 4. `routes` makes the answers.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use serde_json::json;
use snow::{HandshakeState, StatelessTransportState};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::answer::{Outbox, Outgoing, send};
use crate::faults::{Act, Stage, Twist, Upload};
use crate::log::{sha256, shown};
use crate::noise::{MAX_HANDSHAKE_READ, MAX_MESSAGE, TAG};
use crate::routes::Routes;
use crate::tokens::Class;
use crate::upgrade::Upgrade;
use crate::wire::{Asked, Frame, Reassembly, read_request, response, split};
use crate::{Enclave, Failure, noise, world};

type WebSocket = WebSocketStream<TcpStream>;

/// Close codes (section 4).
const CANNOT_ACCEPT: u16 = 1003;
pub(crate) const FAILED: u16 = 1011;

/// Time for a client's message of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);
const LEFT: &str = "the client left during the handshake";
/// Answers waiting for the writer. When it is full, `routes` waits.
const OUTBOX: usize = 256;
/// Requests handled at the same time.
const MAX_IN_FLIGHT: usize = 4_096;
/// For faults of uploads: the delay before an upload is opened, and the most bytes that are read.
const LATE: Duration = Duration::from_millis(300);
const NOT_READ: usize = 256 << 10;

/// Serves a connection to its end, and logs the reason of the end.
pub(crate) async fn serve(stream: TcpStream, enclave: Arc<Enclave>, number: u64) {
    enclave.log.write(number, "accepted", json!({}));
    let connection = Connection {
        enclave: &enclave,
        number,
        twists: enclave.twists(number),
    };
    let why = match connection.run(stream).await {
        Ok(()) => "the client left".to_owned(),
        Err(why) => why.to_string(),
    };
    if let Some(script) = &enclave.script {
        script.ended(number);
    }
    enclave.log.write(number, "ended", json!({ "why": why }));
}

struct Connection<'a> {
    enclave: &'a Arc<Enclave>,
    number: u64,
    twists: &'static [Twist],
}

impl Connection<'_> {
    fn log(&self, event: &str, details: serde_json::Value) {
        self.enclave.log.write(self.number, event, details);
    }

    async fn run(&self, stream: TcpStream) -> Result<(), Failure> {
        if let Some(script) = &self.enclave.script {
            script.begins(self.number)?;
        }
        stream.set_nodelay(true)?;
        if self
            .twists
            .iter()
            .any(|twist| matches!(twist, Twist::Reset))
        {
            stream.set_zero_linger()?;
        }
        self.reach(Stage::Accept, None).await?;
        let upgrade = Upgrade::read(stream).await?;
        self.reach(Stage::Upgrade, None).await?;
        for twist in self.twists {
            if let Twist::UpgradeAnswer(answer, act) = twist {
                let stream = upgrade.write(*answer).await?;
                self.log("fault", json!({}));
                if let Act::Stall = act {
                    return future::pending().await;
                }
                drop(stream);
                return Err("dropped by the fault".into());
            }
        }
        let scripted = self.enclave.script.as_ref();
        let class = match scripted.and_then(|script| script.token(self.number)) {
            Some(token) => upgrade.brings(token).then_some(Class::Accepted),
            None => upgrade.class(&self.enclave.tokens, self.enclave.server),
        };
        let told = json!({ "token": class.map_or("refused", Class::name) });
        let Some(class) = class else {
            self.log("refused", told);
            return Err(match upgrade.answer(false).await {
                Ok(_) => "an unknown token was let in".into(),
                Err(why) => why,
            });
        };
        let mut websocket = upgrade.answer(true).await?;
        self.log("upgraded", told);
        self.reach(Stage::Open, Some(&mut websocket)).await?;
        let transport = self.handshake(&mut websocket).await?;
        let transport = Arc::new(transport);
        let tap = self.tap(&websocket)?;
        let (sink, source) = websocket.split();
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let writer = Writer {
            sink,
            tap,
            transport: Arc::clone(&transport),
            nonce: 0,
            connection: self,
        };
        let heard = Mutex::new(Instant::now());
        let reader = Reader {
            source,
            transport,
            nonce: 0,
            reassembly: Reassembly::default(),
            connection: self,
            heard: &heard,
            refusal: class.refusal(),
            asked: false,
            taken: 0,
            script: None,
        };
        // The first to end stops the others; answers in progress find the outbox closed.
        let served = async {
            let (reader, writer) = (Box::pin(reader.run(outbox)), Box::pin(writer.run(answers)));
            match future::select(reader, writer).await {
                Either::Left((Ok(End::Left), _)) => Ok(()),
                Either::Left((Ok(End::Refused(why)), writer)) => {
                    writer.await?;
                    Err(why.into())
                }
                Either::Left((Err(why), _)) => Err(why),
                Either::Right((written, _)) => written,
            }
        };
        match future::select(Box::pin(served), Box::pin(self.silence(&heard))).await {
            Either::Left((ended, _)) => ended,
            Either::Right((why, _)) => Err(why),
        }
    }

    /// Ends when the client has been silent for the server's limit (section 4).
    async fn silence(&self, heard: &Mutex<Instant>) -> Failure {
        let times = self.enclave.times;
        loop {
            tokio::time::sleep(times.silence_check).await;
            let heard = *heard.lock().unwrap_or_else(PoisonError::into_inner);
            if heard.elapsed() >= times.silence {
                return format!("the client sent nothing for {:?}", times.silence).into();
            }
        }
    }

    /// Returns a second handle of the socket, if a fault writes below the WebSocket.
    fn tap(&self, websocket: &WebSocket) -> Result<Option<TcpStream>, Failure> {
        if !self.twists.iter().any(|twist| matches!(twist, Twist::Tap)) {
            return Ok(None);
        }
        let socket = websocket.get_ref().as_fd().try_clone_to_owned()?;
        Ok(Some(TcpStream::from_std(socket.into())?))
    }

    /// Carries out the fault's action at this stage, if it has one.
    async fn reach(&self, stage: Stage, websocket: Option<&mut WebSocket>) -> Result<(), Failure> {
        let act = self.twists.iter().find_map(|twist| match twist {
            Twist::At(at, act) if *at == stage => Some(*act),
            _ => None,
        });
        let Some(act) = act else { return Ok(()) };
        self.log("fault", json!({}));
        match (act, websocket) {
            (Act::Stall, _) => future::pending().await,
            (Act::Close(code), Some(websocket)) => {
                self.close(websocket, code).await?;
                Err("closed by the fault".into())
            }
            _ => Err("dropped by the fault".into()),
        }
    }

    fn closed_by_client(&self, frame: Option<&CloseFrame>) {
        let code = frame.map(|frame| u16::from(frame.code));
        self.log("close", json!({ "by": "client", "code": code }));
    }

    async fn close(&self, websocket: &mut WebSocket, code: u16) -> Result<(), Failure> {
        self.log("close", json!({ "by": "server", "code": code }));
        websocket.send(close_message(code)).await?;
        Ok(())
    }

    async fn handshake(
        &self,
        websocket: &mut WebSocket,
    ) -> Result<StatelessTransportState, Failure> {
        let weak = self.twists.iter().find_map(|twist| match twist {
            Twist::Weak(weak) => Some(*weak),
            _ => None,
        });
        let mut state = noise::responder(&self.enclave.static_key, weak)?;
        self.read_handshake(&mut state, websocket).await?;
        self.log("message-1", json!({}));
        self.reach(Stage::Message1, Some(websocket)).await?;

        let shown = match weak {
            Some(noise::Weak::Static) => [0; 32],
            _ => self.enclave.static_key.public,
        };
        let evidence = self.enclave.world.evidence(&shown, self.twists)?;
        let mut buffer = message_2(&mut state, &evidence)?;
        let (mut message, mut twice) = (None, false);
        for twist in self.twists {
            match twist {
                Twist::Message2(change) => buffer = change(buffer),
                Twist::Message2Text => message = Some(Message::text("message 2")),
                Twist::Message2Twice => twice = true,
                Twist::Message2Earlier => {
                    let mut other = noise::responder(&self.enclave.static_key, None)?;
                    let mut empty = [0; MAX_HANDSHAKE_READ];
                    other.read_message(&noise::strange_message_1()?, &mut empty)?;
                    buffer = message_2(&mut other, &evidence)?;
                }
                Twist::Message2Cut(act) => return self.cut(websocket, &buffer, *act).await,
                _ => {}
            }
        }
        let message = message.unwrap_or_else(|| Message::binary(buffer));
        if twice {
            websocket.feed(message.clone()).await?;
        }
        websocket.send(message).await?;
        self.log("message-2", json!({}));
        self.reach(Stage::Message2, Some(websocket)).await?;

        self.read_handshake(&mut state, websocket).await?;
        self.log("message-3", json!({}));
        self.reach(Stage::Message3, Some(websocket)).await?;
        Ok(state.into_stateless_transport_mode()?)
    }

    /// Sends a frame that announces the whole message and contains half of it.
    async fn cut(
        &self,
        websocket: &mut WebSocket,
        message: &[u8],
        act: Act,
    ) -> Result<StatelessTransportState, Failure> {
        const BINARY: u8 = 0x82;
        const LENGTH_16: u8 = 126;
        let mut frame = vec![BINARY, LENGTH_16];
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend(&message[..message.len() / 2]);
        websocket.get_mut().write_all(&frame).await?;
        self.log("fault", json!({}));
        if let Act::Stall = act {
            return future::pending().await;
        }
        Err("dropped by the fault".into())
    }

    /// Reads one handshake message. Closes the connection if it is invalid.
    async fn read_handshake(
        &self,
        state: &mut HandshakeState,
        websocket: &mut WebSocket,
    ) -> Result<(), Failure> {
        let message = loop {
            match tokio::time::timeout(HANDSHAKE, websocket.next()).await? {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.closed_by_client(frame.as_ref());
                    return Err(LEFT.into());
                }
                None => return Err(LEFT.into()),
                Some(message) => break message?,
            }
        };
        let mut empty = [0; MAX_HANDSHAKE_READ];
        let why = match message {
            Message::Binary(message) if message.len() > MAX_HANDSHAKE_READ => {
                "a handshake message is too long"
            }
            Message::Binary(message) => match state.read_message(&message, &mut empty) {
                Ok(_) => return Ok(()),
                Err(_) => "a handshake message is invalid",
            },
            _ => "a text message in the handshake",
        };
        self.close(websocket, FAILED).await?;
        Err(why.into())
    }
}

fn message_2(state: &mut HandshakeState, evidence: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut message = vec![0; MAX_MESSAGE];
    let length = state.write_message(evidence, &mut message)?;
    message.truncate(length);
    Ok(message)
}

/// The reason in a close frame. It has a control character, which a client should not print.
const CLOSE_REASON: &str = "the enclave's own\u{7}words";

fn close_message(code: u16) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: CLOSE_REASON.into(),
    }))
}

/// Why the reader ended, if nothing broke.
enum End {
    /// The client closed the connection.
    Left,
    /// The client made a mistake, and the close frame that says so is in the outbox.
    Refused(String),
}

struct Reader<'a> {
    source: SplitStream<WebSocket>,
    transport: Arc<StatelessTransportState>,
    nonce: u64,
    reassembly: Reassembly,
    connection: &'a Connection<'a>,
    /// When the client last sent anything.
    heard: &'a Mutex<Instant>,
    /// The answer to every request, by the token's class.
    refusal: Option<(i32, &'static str)>,
    /// A request that is not a ping has come.
    asked: bool,
    /// Bytes of all frames so far.
    taken: usize,
    /// Receives all messages, if a script plays.
    script: Option<mpsc::UnboundedSender<Asked>>,
}

impl Reader<'_> {
    async fn run(mut self, outbox: Outbox) -> Result<End, Failure> {
        let routes = Routes::new(
            Arc::clone(self.connection.enclave),
            self.connection.number,
            outbox.clone(),
        );
        if let Some(script) = &self.connection.enclave.script {
            let (sender, asked) = mpsc::unbounded_channel();
            self.script = Some(sender);
            let number = self.connection.number;
            tokio::spawn(Arc::clone(script).play(number, asked, outbox.clone()));
        }
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut plaintext = vec![0; MAX_MESSAGE];
        loop {
            let next = self.source.next().await;
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let message = match next {
                Some(Ok(Message::Binary(message))) => message,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(frame))) => {
                    self.connection.closed_by_client(frame.as_ref());
                    return Ok(End::Left);
                }
                Some(Ok(_)) => return self.refuse(&outbox, CANNOT_ACCEPT, "a text message").await,
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(End::Left),
            };
            let Ok(length) = self
                .transport
                .read_message(self.nonce, &message, &mut plaintext)
            else {
                return self
                    .refuse(&outbox, FAILED, "a message that cannot be decrypted")
                    .await;
            };
            self.nonce += 1;
            self.taken += length;
            if self.taken > NOT_READ
                && self.has(|twist| matches!(twist, Twist::Upload(Upload::NotRead)))
            {
                self.connection.log("fault", json!({}));
                let _ = send(&outbox, Outgoing::Stall).await;
                return future::pending().await;
            }
            let whole = match self
                .reassembly
                .take(Bytes::copy_from_slice(&plaintext[..length]))
            {
                Ok(None) => continue,
                Ok(Some(whole)) => whole,
                Err(why) => return self.refuse(&outbox, CANNOT_ACCEPT, &why.to_string()).await,
            };
            match read_request(whole) {
                Ok(asked) => self.dispatch(asked, &routes, &in_flight, &outbox).await?,
                Err(why) => return self.refuse(&outbox, CANNOT_ACCEPT, &why.to_string()).await,
            }
        }
    }

    /// Closes with a code, and ends the reader.
    async fn refuse(&self, outbox: &Outbox, code: u16, why: &str) -> Result<End, Failure> {
        // If the writer has ended, the close frame can't be sent.
        let _ = send(outbox, Outgoing::Close(code)).await;
        Ok(End::Refused(why.to_owned()))
    }

    /// Answers each request in a separate task, so that answers interleave.
    async fn dispatch(
        &mut self,
        asked: Asked,
        routes: &Routes,
        in_flight: &Arc<Semaphore>,
        outbox: &Outbox,
    ) -> Result<(), Failure> {
        self.log(&asked);
        if let Some(script) = &self.script {
            let _ = script.send(asked); // the script may have failed
            return Ok(());
        }
        let mute = self.has(|twist| matches!(twist, Twist::Mute));
        if mute || is_ping(&asked) && self.has(|twist| matches!(twist, Twist::NoPongs)) {
            return Ok(());
        }
        if let Asked::Open { id, chunk, .. } = &asked
            && let Some((status, reason)) = self.refusal(&asked)
        {
            if chunk.is_some() {
                routes.forget_upload(*id);
            }
            let refusal = response(*id, status, reason);
            let _ = send(outbox, Outgoing::Response(refusal)).await;
            return Ok(());
        }
        let opens = matches!(asked, Asked::Open { chunk: Some(_), .. });
        let late = opens && self.has(|twist| matches!(twist, Twist::Upload(Upload::OpensLate)));
        let work = if late {
            Err(asked)
        } else {
            match routes.take(asked) {
                Some(work) => Ok(work),
                None => return Ok(()),
            }
        };
        // At the limit the reader waits, so the client has to wait too.
        let permit = Arc::clone(in_flight).acquire_owned().await?;
        let routes = routes.clone();
        tokio::spawn(async move {
            let work = match work {
                Ok(work) => Some(work),
                Err(asked) => {
                    tokio::time::sleep(LATE).await;
                    routes.take(asked)
                }
            };
            if let Some(work) = work {
                // On `Gone` the connection has ended, so nothing can be sent.
                let _ = routes.answer(work).await;
            }
            drop(permit);
        });
        Ok(())
    }

    fn has(&self, is: fn(&Twist) -> bool) -> bool {
        self.connection.twists.iter().any(is)
    }

    /// Returns the fixed answer to this request, if a fault or the token's class demands one.
    fn refusal(&mut self, asked: &Asked) -> Option<(i32, &'static str)> {
        let first = !is_ping(asked) && !std::mem::replace(&mut self.asked, true);
        let of_the_fault = self.connection.twists.iter().find_map(|twist| match twist {
            Twist::RefuseAll(status, reason) => Some((*status, *reason)),
            Twist::RefuseFirst(status, reason) if first => Some((*status, *reason)),
            _ => None,
        });
        of_the_fault.or(self.refusal)
    }

    fn log(&self, asked: &Asked) {
        let connection = self.connection;
        match asked {
            Asked::Open { id, .. } if is_ping(asked) => {
                connection.log("ping", json!({ "id": id }));
            }
            Asked::Open { id, verb, path, body, chunk } => connection.log(
                "request",
                json!({
                    "id": id, "verb": shown(verb), "path": shown(path), "body_bytes": body.len(),
                    "body_sha256": sha256(body.as_bytes()), "upload": chunk.is_some(),
                }),
            ),
            Asked::Continue { id, chunk } => connection.log(
                "chunk",
                json!({
                    "id": id, "seq": chunk.seq.unwrap_or(0), "final": chunk.r#final.unwrap_or(false),
                    "bytes": chunk.data.as_ref().map_or(0, Bytes::len),
                }),
            ),
        }
    }
}

pub(crate) fn is_ping(asked: &Asked) -> bool {
    matches!(asked, Asked::Open { verb, path, .. } if verb == "GET" && path == "/ping")
}

struct Writer<'a> {
    sink: SplitSink<WebSocket, Message>,
    tap: Option<TcpStream>,
    transport: Arc<StatelessTransportState>,
    nonce: u64,
    connection: &'a Connection<'a>,
}

impl Writer<'_> {
    /// Writes the messages of the outbox. Flushes when it is empty, so that a burst shares system
    /// calls.
    async fn run(mut self, mut answers: mpsc::Receiver<Outgoing>) -> Result<(), Failure> {
        while let Some(first) = answers.recv().await {
            let mut next = Some(first);
            while let Some(outgoing) = next {
                if !self.write(outgoing).await? {
                    return Ok(());
                }
                next = answers.try_recv().ok();
            }
            self.sink.flush().await?;
        }
        Ok(())
    }

    /// Returns false after the last message.
    async fn write(&mut self, outgoing: Outgoing) -> Result<bool, Failure> {
        match outgoing {
            Outgoing::Response(response) => {
                for frame in frames(&response) {
                    self.frame(&frame).await?;
                }
            }
            Outgoing::Frames(frames) => {
                for frame in frames {
                    self.frame(&frame).await?;
                }
            }
            Outgoing::Plaintext(plaintext) => {
                let sealed = self.seal(&plaintext)?;
                self.sink.feed(Message::binary(sealed)).await?;
            }
            Outgoing::Distorted(responses, distort) => {
                let mut sealed = Vec::new();
                for frame in responses.iter().flat_map(frames) {
                    sealed.push(self.seal(&frame.encode_to_vec())?);
                }
                for message in distort(sealed) {
                    self.sink.feed(Message::binary(message)).await?;
                }
            }
            Outgoing::Raw(bytes) => {
                self.sink.flush().await?;
                let tap = self.tap.as_mut().ok_or("this fault needs `Twist::Tap`")?;
                tap.write_all(bytes).await?;
            }
            Outgoing::Binary(message) => self.sink.feed(Message::binary(message)).await?,
            Outgoing::Text(text) => self.sink.feed(Message::text(text)).await?,
            Outgoing::Close(code) => {
                self.connection
                    .log("close", json!({ "by": "server", "code": code }));
                self.sink.send(close_message(code)).await?;
                return Ok(false);
            }
            Outgoing::Drop => {
                self.sink.flush().await?;
                return Ok(false);
            }
            Outgoing::Stall => {
                self.sink.flush().await?;
                return future::pending().await;
            }
        }
        Ok(true)
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), Failure> {
        let sealed = self.seal(&frame.encode_to_vec())?;
        Ok(self.sink.feed(Message::binary(sealed)).await?)
    }

    fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut sealed = vec![0; plaintext.len() + TAG];
        self.transport
            .write_message(self.nonce, plaintext, &mut sealed)?;
        self.nonce += 1;
        Ok(sealed)
    }
}

fn frames(response: &crate::wire::Response) -> Vec<Frame> {
    split(
        &response.encode_to_vec().into(),
        i64::from_ne_bytes(world::random()),
    )
}
