//! Intel Trust Authority: from a key set and a token to claims that Intel vouches for.
//!
//! ```text
//! keys    a key set, and the key that a token names
//! chain   that key's certificates, up to a root that the policy lists
//! token   the token's form and signature
//! claims  what the token says, and when
//! ```
//! Nothing of a token is believed before its signature holds, and it never follows `jku`.

mod chain;
mod claims;
mod keys;
mod token;

pub use keys::{JwkSet, KeySetError, Kid, MAX_KEY_SET};

pub(super) use chain::trusted_key;
pub(super) use claims::{ClaimError, Claims, issuer, time};
pub(super) use keys::Jwk;
pub(super) use token::Token;

#[cfg(test)]
pub(super) use chain::rsa_components_of;
