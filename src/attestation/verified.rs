//! The proof that an enclave was verified, as a value: what `noise` demands before it makes message 3.

use super::{Export, JwkSet, Report, Verdict, Verifier};

/// Exists only where a verification of evidence from a handshake, made now, came to the verdict *verified*; and only for
/// that handshake's server key. It has no other constructor, so a connection that can send cannot be written without it;
/// a replay gives none.
#[derive(Debug)]
pub struct Verified {
    server_key: [u8; 32],
}

impl Verified {
    /// The Noise static key that the evidence is bound to.
    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }
}

impl Verifier {
    /// [`Verifier::verify`], with the proof if the verdict is *verified*.
    pub fn admit(
        &self,
        evidence: &[u8],
        server_key: &[u8; 32],
        fetched: Option<&JwkSet>,
        now: u64,
    ) -> (Report, Option<Verified>) {
        let report = self.verify(evidence, server_key, fetched, now);
        let proof = (report.verdict() == Verdict::Verified).then_some(Verified {
            server_key: *server_key,
        });
        (report, proof)
    }
}

/// A report with what it was made from, so that it can be repeated elsewhere.
pub struct Evidenced {
    /// What came of the verification.
    pub report: Report,
    /// The material, as [`Export::replay`] takes it.
    pub export: Export,
}
