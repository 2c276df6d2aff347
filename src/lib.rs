//! An open client for Confer's attested inference service: a Rust core behind a C ABI.
//!
//! ```text
//! ffi/          the C ABI: handles, guard, errors; no other logic
//! client/       what an application asks for: configure, connect, each kind of request, close
//! lifecycle/    a client's life over several connections    (its core is pure)
//! session/      one verified connection: requests and answers, keepalive, limits
//! net/          sockets: TCP, proxies, TLS, WebSocket, key-set fetch
//! host/         the process: workers, helpers, threads for callbacks, the log
//! noise/        handshake and transport                     (pure)
//! attestation/  evidence → policy → report                  (pure)
//! wire/         protobuf messages, frames, reassembly       (pure)
//! ```
//!
//! A module imports only from modules below it. `noise` stands above `attestation` because its last
//! handshake message needs the proof of a verification. All modules share `error`, `clock`, `panics`
//! and `fork`. The Rust items are public for this crate's tests; applications use
//! `include/confer.h`.

pub mod attestation;
pub mod client;
pub mod clock;
pub mod error;
pub mod ffi;
pub mod fork;
pub mod host;
pub(crate) mod lifecycle;
pub mod net;
pub mod noise;
pub mod panics;
pub(crate) mod random;
pub mod session;
pub mod wire;
