//! `Noise_XX_25519_AESGCM_SHA256` as the initiator (protocol section 2). Pure: no I/O, no clock.
//!
//! The handshake is a chain of types, so that sending early does not compile:
//!
//! ```text
//! Initiator ──message 2──► Unverified ──accept(Verified)──► Channel
//! ```
//!
//! [`Unverified`] holds the evidence and the server's static key and can send nothing. Only
//! [`attestation::Verified`](crate::attestation::Verified), which a report with the verdict *verified* alone yields,
//! turns it into message 3 and a [`Channel`]. This room must never judge evidence itself.

mod channel;
mod handshake;
mod resolver;

pub use channel::{Channel, MAX_NOISE_MESSAGE, TAG_LEN};
pub use handshake::{Initiator, Unverified};

/// Why a Noise operation failed. Whichever it is, the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Message 2 is malformed, does not authenticate, or holds a key of low order.
    Handshake,
    /// A transport message does not authenticate: altered, truncated, replayed or out of order.
    Decrypt,
    /// The evidence was verified for another static key than this handshake's.
    OtherKey,
    /// The system gave no random bytes, or a nonce counter is used up.
    Exhausted,
}

/// A channel and its other side, for the tests of rooms above: the handshake without a socket or evidence.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::handshake::testing::pair;
}
