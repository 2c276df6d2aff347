//! The proof that an enclave was verified. `noise` requires it to create message 3.

use super::{Export, JwkSet, Report, Verdict, Verifier};

/// Proves that a live verification of a handshake's evidence had the verdict *verified*, for the
/// server key of that handshake. [`Verifier::admit`] is its only constructor, so code that sends
/// without it does not compile. A replay returns no proof.
#[derive(Debug)]
pub struct Verified {
    server_key: [u8; 32],
}

impl Verified {
    /// The Noise static key in the evidence.
    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }
}

impl Verifier {
    /// Does what [`Verifier::verify`] does, and returns the proof if the verdict is *verified*.
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

/// A report with its inputs, to repeat the verification elsewhere.
pub struct Evidenced {
    /// The result of the verification.
    pub report: Report,
    /// The inputs, for [`Export::replay`].
    pub export: Export,
}
