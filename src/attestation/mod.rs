//! Attestation: turns evidence and a policy into a report.
//!
//! Verification is a pure function of the evidence, the handshake's key, the policy, a key set and
//! a time. It does no I/O and reads no clock, so it can be replayed, fuzzed and timed.
//! (`sigstore-verify` does read the system's clock, to refuse log entries from the future, and keys
//! and authorities that are not valid yet.) No switch turns verification off: another enclave needs
//! another policy.
//!
//! ```text
//! evidence ─► evidence.format
//!     ├─ platform
//!     ├─ token ──► ita::keys ─► ita::chain ─► ita::token ─► ita::claims ─► tdx
//!     └─ manifest, bundle ──► release::guard ─► sigstore-verify ─► release::log ─┘
//! ```
//! Every check runs, even after a failure, unless its input is missing. This module knows nothing
//! of sockets, sessions or the C ABI. Of a token or signature, only digests, claims and sentences
//! leave it.

mod evidence;
mod export;
mod hex;
mod ita;
mod json;
mod memory;
mod plain;
mod policy;
mod release;
mod report;
mod tdx;
mod verified;
mod verifier;
#[cfg(test)]
mod world;

pub use evidence::MAX_EVIDENCE;
pub use export::{Export, ExportError, MAX_EXPORT};
pub use ita::{JwkSet, KeySetError, Kid, MAX_KEY_SET};
pub use json::{JsonError, ShapeError};
pub use policy::{MAX_POLICY, Policy, PolicyError};
pub use report::{
    Check, CheckId, LogFacts, Outcome, Passing, PolicyName, ReleaseFacts, Report, TdxFacts, Verdict,
};
pub use verified::{Evidenced, Verified};
pub use verifier::Verifier;
