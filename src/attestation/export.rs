//! The evidence export: one JSON file to repeat a verification offline, with the same result. Pure.
//!
//! The file is not authenticated: whoever writes it chooses its time and key. A replay says what
//! the evidence proves, and not that anyone talked to that enclave.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::evidence::{self, MAX_EVIDENCE};
use super::hex;
use super::ita::{JwkSet, MAX_KEY_SET, Token};
use super::json::{self, JsonError, Node, ShapeError};
use super::report::Report;
use super::verifier::{Verifier, readable_token};

/// The largest readable export: a key set, the evidence in base64, and the rest.
pub const MAX_EXPORT: usize = MAX_KEY_SET + 2 * MAX_EVIDENCE;

/// The inputs of a verification, except the policy.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// Time of the verification, in Unix seconds.
    pub captured_at: u64,
    /// The Noise static key of the handshake.
    pub server_key: [u8; 32],
    /// The unchanged payload of message 2.
    pub evidence: Vec<u8>,
    /// The Intel keys used.
    pub jwks: Option<JwkSet>,
}

impl Export {
    /// Writes the file's content.
    pub fn to_json(&self) -> String {
        json!({
            "version": 1,
            "captured_at": self.captured_at,
            "server_key": hex::encode(&self.server_key),
            "evidence_base64": STANDARD.encode(&self.evidence),
            "jwks": self.jwks.as_ref().map(JwkSet::to_value),
        })
        .to_string()
    }

    /// Reads a file of at most [`MAX_EXPORT`] bytes.
    ///
    /// # Errors
    /// Names the position of invalid JSON, or the missing, unknown or invalid key.
    pub fn parse(text: &[u8]) -> Result<Export, ExportError> {
        let value = json::parse(text, MAX_EXPORT).map_err(ExportError::Json)?;
        Export::read(&value).map_err(ExportError::Shape)
    }

    fn read(value: &Value) -> Result<Export, ShapeError> {
        let root = Node::root("evidence", value);
        let root = root.exactly(
            &[
                "version",
                "captured_at",
                "server_key",
                "evidence_base64",
                "jwks",
            ],
            &[],
        )?;
        let version = root.get("version")?;
        if version.integer()? != 1 {
            return Err(version.error("must be 1, the only version that this library supports"));
        }
        let key = root.get("server_key")?;
        let evidence = root.get("evidence_base64")?;
        Ok(Export {
            captured_at: root.get("captured_at")?.integer()?,
            server_key: hex::decode(key.string()?)
                .ok_or_else(|| key.error("must be 64 lower-case hex digits"))?,
            evidence: STANDARD
                .decode(evidence.string()?)
                .map_err(|_| evidence.error("must be base64"))?,
            jwks: root
                .optional("jwks")?
                .map(|set| JwkSet::read(&set))
                .transpose()?,
        })
    }

    /// Verifies again, at `at` or `captured_at`. The verifier does not remember the release.
    pub fn replay(&self, verifier: &Verifier, at: Option<u64>) -> Report {
        verifier.replay(
            &self.evidence,
            &self.server_key,
            self.jwks.as_ref(),
            at.unwrap_or(self.captured_at),
        )
    }
}

impl Verifier {
    /// Returns the inputs to repeat a verification.
    pub fn export(
        &self,
        evidence: &[u8],
        server_key: &[u8; 32],
        fetched: Option<&JwkSet>,
        captured_at: u64,
    ) -> Export {
        let (read, _) = evidence::read(evidence);
        let kid = readable_token(&read).and_then(|token| Token::new(token).kid());
        Export {
            captured_at,
            server_key: *server_key,
            evidence: evidence.to_vec(),
            jwks: kid.and_then(|kid| self.key(&kid, fetched)).map(JwkSet::of),
        }
    }
}

/// Omits the evidence, which is long and unreadable.
impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("captured_at", &self.captured_at)
            .field("evidence", &format_args!("{} bytes", self.evidence.len()))
            .finish_non_exhaustive()
    }
}

/// The error for a text that is not an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportError {
    /// Invalid JSON.
    Json(JsonError),
    /// A key is missing or unknown, or its value is invalid.
    Shape(ShapeError),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Json(error) => write!(f, "evidence: {error}"),
            ExportError::Shape(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExportError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::world::{self, Intel, NOW, SERVER_KEY};

    fn export() -> Export {
        let intel = Intel::new();
        Export {
            captured_at: NOW,
            server_key: SERVER_KEY,
            evidence: world::evidence(&intel.token(&world::claims())),
            jwks: Some(intel.key_set()),
        }
    }

    #[test]
    fn written_export_is_read_back() {
        let export = export();
        assert_eq!(Export::parse(export.to_json().as_bytes()).unwrap(), export);
        let any_bytes = Export {
            evidence: (0..=255).collect(),
            jwks: None,
            ..export
        };
        assert_eq!(
            Export::parse(any_bytes.to_json().as_bytes()).unwrap(),
            any_bytes
        );
    }

    #[test]
    fn invalid_export_is_an_error_that_names_the_key() {
        let good: Value = serde_json::from_str(&export().to_json()).unwrap();
        for (key, value, problem) in [
            ("version", 2.into(), "evidence.version must be 1"),
            (
                "captured_at",
                (-1).into(),
                "evidence.captured_at must be a whole number",
            ),
            (
                "server_key",
                "AB".repeat(32).into(),
                "evidence.server_key must be 64 lower-case hex digits",
            ),
            (
                "evidence_base64",
                "*".into(),
                "evidence.evidence_base64 must be base64",
            ),
            ("jwks", json!([]), "evidence.jwks must be an object"),
            ("more", 1.into(), "evidence has an unknown key \"more\""),
        ] {
            let mut other = good.clone();
            other[key] = value;
            let error = Export::parse(other.to_string().as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(problem), "{error}");
        }
        assert!(Export::parse(&vec![b' '; MAX_EXPORT + 1]).is_err());
    }

    #[test]
    fn replay_has_the_same_result_only_at_the_same_time() {
        let mut policy = Intel::new().policy();
        policy["ita"]["jwks"] = Value::Null;
        let verifier = world::verifier(&policy);
        let export = export();
        let live = verifier.verify(
            &export.evidence,
            &export.server_key,
            export.jwks.as_ref(),
            NOW,
        );
        assert_eq!(export.replay(&verifier, None), live);
        assert_ne!(export.replay(&verifier, Some(NOW + 3_600)), live);
    }

    #[test]
    fn debug_output_omits_the_evidence() {
        assert_eq!(
            format!(
                "{:?}",
                Export {
                    evidence: vec![1; 3],
                    jwks: None,
                    ..export()
                }
            ),
            format!("Export {{ captured_at: {NOW}, evidence: 3 bytes, .. }}")
        );
    }
}
