//! The initiator of `Noise_XX_25519_AESGCM_SHA256` (protocol section 2). Pure.
//!
//! The handshake is a chain of types, so code that sends before verification does not compile:
//!
//! ```text
//! Initiator ──message 2──► Unverified ──accept(Verified)──► Channel
//! ```
//!
//! [`Unverified`] holds the evidence and the server's static key, and cannot send. To get message 3
//! and a [`Channel`] from it, the caller needs an
//! [`attestation::Verified`](crate::attestation::Verified), which exists only for a report with the
//! verdict *verified*. This module never judges evidence.

mod channel;
mod handshake;
mod resolver;

pub use channel::{Channel, MAX_NOISE_MESSAGE, TAG_LEN};
pub use handshake::{Initiator, Unverified};

/// The error of a Noise operation. Each of these ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Message 2 is malformed, fails authentication, or holds a key of low order.
    Handshake,
    /// A message fails authentication: it was altered, truncated, replayed or reordered.
    Decrypt,
    /// The evidence was verified for a different static key.
    OtherKey,
    /// The system has no random bytes, or a nonce counter reached its end.
    Exhausted,
}

/// Both sides of a channel without socket or evidence, for tests of other modules.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::handshake::testing::pair;
}
