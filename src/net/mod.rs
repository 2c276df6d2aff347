//! Sockets: name resolution, TCP, proxies, TLS, the WebSocket, and the fetch of Intel's key set.
//!
//! The only room that opens connections. It must never know what a Noise message holds, nor decide whether an enclave is
//! trusted; TLS here protects the token and the metadata, while confidentiality comes from Noise and attestation.

mod dial;
mod endpoint;
mod keys;
mod proxy;
mod roots;
mod route;
mod tcp;
mod tunnel;
mod websocket;

pub use dial::{Counted, Moved, Stream, secure};
pub use endpoint::{Endpoint, Token};
pub use keys::{KeySource, KeySources};
pub use proxy::{Proxies, Proxy};
pub use route::{Roots, Route};
pub use tcp::{connect, resolve};
pub use tunnel::tunnel;
pub use websocket::{Socket, upgrade};
