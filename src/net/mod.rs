//! Sockets: name resolution, TCP, TLS, the WebSocket, and the fetch of Intel's key set.
//!
//! The only room that opens connections. It must never know what a Noise message holds, nor decide whether an enclave is
//! trusted; TLS here protects the token and the metadata, while confidentiality comes from Noise and attestation.

mod dial;
mod endpoint;
mod keys;
mod websocket;

pub use dial::{Stream, connect, resolve, secure};
pub use endpoint::{Endpoint, Token};
pub use keys::{KeySource, KeySources};
pub use websocket::{Socket, upgrade};
