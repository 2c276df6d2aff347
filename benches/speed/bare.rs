//! The comparison for streams: a bare thread that does only the necessary work. tokio-tungstenite
//! reads, aws-lc-rs decrypts, prost decodes, serde_json parses the event. It has no verification
//! and no limits.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde::Deserialize;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, TransportState};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Enclave;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/confer.rs"));
}

/// The library's Noise primitives.
#[path = "../../src/noise/resolver.rs"]
mod resolver;

const TAG_LEN: usize = 16;
const MAX_MESSAGE: usize = 65_535;

/// The parsed part of an event.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Cow<'a, str>,
}

pub type Socket = WebSocketStream<TcpStream>;

/// A connection after the handshake, on a single-threaded runtime.
pub struct Bare {
    runtime: Runtime,
    socket: Socket,
    transport: TransportState,
    /// The enclave's sending key, and the number of messages it sent.
    key: LessSafeKey,
    counter: u64,
    next_id: i64,
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Opens a WebSocket.
pub async fn upgrade(enclave: &Enclave, url: &str) -> Socket {
    let address = url.trim_start_matches("ws://").split('/').next().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("{url}?token={}", enclave.token);
    tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap()
        .0
}

/// Reads the next binary message.
pub async fn binary(socket: &mut Socket) -> Bytes {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) => return message,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => panic!("the enclave ended the connection"),
        }
    }
}

/// Encodes a chat request as one frame.
pub fn chat(id: i64, prompt: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "model": "m", "stream": true, "webSearch": false, "messages": [{ "role": "user", "content": prompt }],
    });
    let request = pb::WebsocketRequest {
        id: Some(id),
        verb: Some("POST".into()),
        path: Some("/v1/vllm/chat/completions".into()),
        body: Some(body.to_string().into()),
        chunk: None,
    };
    let frame = pb::NoiseTransportFrame {
        chunk_id: Some(id),
        chunk_index: Some(0),
        total_chunks: Some(1),
        payload: Some(request.encode_to_vec().into()),
    };
    frame.encode_to_vec()
}

impl Bare {
    /// Connects and completes the handshake.
    pub fn connect(enclave: &Enclave, url: &str) -> Bare {
        let runtime = runtime();
        let last_key = Arc::new(Mutex::new([0; 32]));
        let (socket, transport) = runtime.block_on(handshake(enclave, url, last_key.clone()));
        // `Split()` sets the initiator's key, then the responder's (Noise specification, section
        // 5.2).
        let key = UnboundKey::new(&AES_256_GCM, &*last_key.lock().unwrap()).unwrap();
        Bare {
            runtime,
            socket,
            transport,
            key: LessSafeKey::new(key),
            counter: 0,
            next_id: 1,
        }
    }

    /// Sends a prompt and calls `on_token` for each token until the answer is complete.
    pub fn ask(&mut self, prompt: &str, mut on_token: impl FnMut(&str)) {
        let Bare {
            runtime,
            socket,
            transport,
            key,
            counter,
            next_id,
        } = self;
        let id = *next_id;
        *next_id += 1;
        let plaintext = chat(id, prompt);
        let mut message = vec![0; plaintext.len() + TAG_LEN];
        transport.write_message(&plaintext, &mut message).unwrap();
        runtime.block_on(async {
            socket.send(Message::Binary(message.into())).await.unwrap();
            loop {
                let message = binary(socket).await;
                let frame = pb::NoiseTransportFrame::decode(open(key, *counter, &message)).unwrap();
                *counter += 1;
                assert_eq!(
                    frame.total_chunks(),
                    1,
                    "the answers here are in one frame each"
                );
                let response = pb::WebsocketResponse::decode(frame.payload.unwrap()).unwrap();
                assert_eq!((response.id(), response.status()), (id, 200));
                let body = response.body.unwrap();
                let event: Event<'_> = serde_json::from_slice(&body).unwrap();
                match &*event.kind {
                    "token" => on_token(&event.content),
                    "completion" => return,
                    other => panic!("an event of type {other}"),
                }
            }
        });
    }
}

fn open(key: &LessSafeKey, counter: u64, message: &[u8]) -> Bytes {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    let (text, tag) = message.split_at(message.len() - TAG_LEN);
    let mut plaintext = vec![0; text.len()];
    key.open_separate_gather(
        Nonce::assume_unique_for_key(nonce),
        Aad::empty(),
        text,
        tag,
        &mut plaintext,
    )
    .unwrap();
    plaintext.into()
}

async fn handshake(
    enclave: &Enclave,
    url: &str,
    last_key: Arc<Mutex<[u8; 32]>>,
) -> (Socket, TransportState) {
    let mut socket = upgrade(enclave, url).await;
    let suite = "Noise_XX_25519_AESGCM_SHA256".parse().unwrap();
    let mut state = Builder::with_resolver(suite, Box::new(Tap(last_key)))
        .local_private_key(&[7; 32])
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut buffer = vec![0; MAX_MESSAGE];
    let len = state.write_message(&[], &mut buffer).unwrap();
    socket
        .send(Message::Binary(buffer[..len].to_vec().into()))
        .await
        .unwrap();
    state
        .read_message(&binary(&mut socket).await, &mut buffer)
        .unwrap();
    let len = state.write_message(&[], &mut buffer).unwrap();
    socket
        .send(Message::Binary(buffer[..len].to_vec().into()))
        .await
        .unwrap();
    (socket, state.into_transport_mode().unwrap())
}

/// Gives snow the library's primitives, and records the last cipher key.
struct Tap(Arc<Mutex<[u8; 32]>>);

impl CryptoResolver for Tap {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        resolver::AwsLc.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        resolver::AwsLc.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        resolver::AwsLc.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let inner = resolver::AwsLc.resolve_cipher(choice)?;
        Some(Box::new(Tapped {
            inner,
            last_key: self.0.clone(),
        }))
    }
}

struct Tapped {
    inner: Box<dyn Cipher>,
    last_key: Arc<Mutex<[u8; 32]>>,
}

impl Cipher for Tapped {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn set(&mut self, key: &[u8; 32]) {
        *self.last_key.lock().unwrap() = *key;
        self.inner.set(key);
    }
    fn encrypt(&self, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.inner.encrypt(nonce, ad, plaintext, out)
    }
    fn decrypt(
        &self,
        nonce: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        self.inner.decrypt(nonce, ad, ciphertext, out)
    }
}
