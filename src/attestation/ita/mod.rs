//! Intel Trust Authority: turns a key set and a token into claims that Intel signed.
//!
//! ```text
//! keys    reads a key set and finds a token's key
//! chain   verifies that key's certificates, up to a root that the policy lists
//! memory  remembers verified keys
//! token   checks the token's form and signature
//! claims  checks the token's content and times
//! ```
//! Uses nothing of a token before its signature is verified, and never follows `jku`.

mod chain;
mod claims;
mod keys;
mod memory;
mod token;

pub use keys::{JwkSet, KeySetError, Kid, MAX_KEY_SET};

pub(super) use claims::{ClaimError, Claims, issuer, time};
pub(super) use keys::Jwk;
pub(super) use memory::Keys;
pub(super) use token::Token;

#[cfg(test)]
pub(super) use chain::rsa_components_of;
#[cfg(test)]
pub(super) use chain::trusted_key;
