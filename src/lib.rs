//! An open client for Confer's attested inference service: a Rust core behind a C ABI.
//!
//! ```text
//! ffi/          the C ABI: handles, guard, errors; no logic of its own
//! client/       what an application asks for: configure, connect, each kind of request, close
//! link/         a client's way to its enclave, over as many connections as that takes
//! lifecycle/    when to connect again and when to replace a connection           (pure)
//! session/      one verified connection: requests and answers, keepalive, limits
//! net/          sockets: TCP, proxies, TLS, WebSocket, key-set fetch
//! host/         the process: workers, helpers, threads for callbacks, the log
//! noise/        handshake and transport                     (pure)
//! attestation/  evidence → policy → report                  (pure)
//! wire/         protobuf messages, frames, reassembly       (pure)
//! ```
//!
//! A room imports only from rooms below it. `noise` stands above `attestation` because its last handshake message is made
//! from the proof of a verification. `error`, `clock`, `panics` and `fork` are the common vocabulary. The Rust items are public for
//! this crate's own tests; the interface for applications is `include/confer.h`.

pub mod attestation;
pub mod client;
pub mod clock;
pub mod error;
pub mod ffi;
pub mod fork;
pub mod host;
pub(crate) mod lifecycle;
pub mod link;
pub mod net;
pub mod noise;
pub mod panics;
pub mod session;
pub mod wire;
