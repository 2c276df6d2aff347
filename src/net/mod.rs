//! Sockets: name resolution, TCP, proxies, TLS, the WebSocket, and fetching Intel's key set.
//!
//! Only this module opens connections. It never reads a Noise message and never decides whether an
//! enclave is trusted. TLS protects the token and the metadata; Noise and attestation protect the
//! rest.

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
