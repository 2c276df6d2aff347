//! Reads key sets (RFC 7517) and the ids of their keys.
//!
//! A key set proves nothing and may come from anyone: a `kid` is the SHA-384 of a certificate,
//! which `chain` verifies. So an unreadable entry is skipped.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::attestation::hex;
use crate::attestation::json::{self, JsonError, Node, ShapeError};

/// The largest readable key set. The real one has 12 KiB.
pub const MAX_KEY_SET: usize = 1 << 20;

/// Most certificates of a chain. The real one has 3.
const MAX_CHAIN: usize = 5;

/// The largest certificate. The real ones have 1.5 KiB.
const MAX_CERTIFICATE: usize = 8 * 1024;

/// The only algorithm for signing tokens.
pub(super) const ALGORITHM: &str = "PS384";

/// The id of a key: the SHA-384 of its certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kid([u8; 48]);

impl Kid {
    /// Reads 96 lower-case hex digits. Returns `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Kid> {
        hex::decode(text).map(Kid)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kid({self})")
    }
}

/// A PS384 key and its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::attestation) struct Jwk {
    pub(super) kid: Kid,
    /// The modulus, big-endian.
    pub(super) n: Vec<u8>,
    /// The exponent, big-endian.
    pub(super) e: Vec<u8>,
    /// Certificates in DER, from leaf to root.
    pub(super) x5c: Vec<Vec<u8>>,
}

impl Jwk {
    fn read(entry: &Value) -> Option<Jwk> {
        let text = |key: &str| entry.get(key)?.as_str();
        if text("kty")? != "RSA" || text("alg")? != ALGORITHM {
            return None;
        }
        let x5c = entry.get("x5c")?.as_array()?;
        if x5c.len() > MAX_CHAIN {
            return None;
        }
        let certificate = |value: &Value| {
            let der = STANDARD.decode(value.as_str()?).ok()?;
            (der.len() <= MAX_CERTIFICATE).then_some(der)
        };
        Some(Jwk {
            kid: Kid::parse(text("kid")?)?,
            n: URL_SAFE_NO_PAD.decode(text("n")?).ok()?,
            e: URL_SAFE_NO_PAD.decode(text("e")?).ok()?,
            x5c: x5c.iter().map(certificate).collect::<Option<_>>()?,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "kty": "RSA",
            "alg": ALGORITHM,
            "kid": self.kid.to_string(),
            "n": URL_SAFE_NO_PAD.encode(&self.n),
            "e": URL_SAFE_NO_PAD.encode(&self.e),
            "x5c": self.x5c.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>(),
        })
    }
}

/// The PS384 keys of a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwkSet {
    /// Shared with the exports of connections that used them.
    keys: Vec<Arc<Jwk>>,
}

impl JwkSet {
    /// Reads `{"keys": [...]}` of at most [`MAX_KEY_SET`] bytes. Skips unreadable entries.
    ///
    /// # Errors
    /// If the text is not JSON, has a duplicate key, or has no list `keys`.
    pub fn parse(text: &[u8]) -> Result<JwkSet, KeySetError> {
        let value = json::parse(text, MAX_KEY_SET).map_err(KeySetError::Json)?;
        JwkSet::read(&Node::root("key set", &value)).map_err(KeySetError::Shape)
    }

    pub(in crate::attestation) fn read(node: &Node<'_>) -> Result<JwkSet, ShapeError> {
        let entries = node.get("keys")?.list()?;
        Ok(JwkSet {
            keys: entries
                .iter()
                .filter_map(|entry| Jwk::read(entry.value()).map(Arc::new))
                .collect(),
        })
    }

    /// Finds a key by its id. Intel lists an id once for each algorithm. The first PS384 entry
    /// counts.
    pub(in crate::attestation) fn find(&self, kid: &Kid) -> Option<&Arc<Jwk>> {
        self.keys.iter().find(|key| key.kid == *kid)
    }

    /// Makes a set of one key.
    pub(in crate::attestation) fn of(key: &Arc<Jwk>) -> JwkSet {
        JwkSet {
            keys: vec![key.clone()],
        }
    }

    /// Writes a key set that [`JwkSet::parse`] can read.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(in crate::attestation) fn to_value(&self) -> Value {
        json!({ "keys": self.keys.iter().map(|key| key.to_json()).collect::<Vec<_>>() })
    }
}

/// The error for a text that is not a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySetError {
    /// Invalid JSON.
    Json(JsonError),
    /// JSON of another shape.
    Shape(ShapeError),
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySetError::Json(error) => write!(f, "key set: {error}"),
            KeySetError::Shape(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeySetError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::world::Intel;

    #[test]
    fn unreadable_entries_are_skipped() {
        let intel = Intel::new();
        let kid = Kid::parse(&intel.kid).unwrap();
        let good = intel.jwk();
        let with = |name: &str, value: Value| {
            let mut other = good.clone();
            other[name] = value;
            other
        };
        let unreadable = [
            Value::Null,
            json!({}),
            json!([]),
            with("kty", "EC".into()),
            with("alg", "RS256".into()),
            with("alg", Value::Null),
            with("kid", intel.kid.to_uppercase().into()),
            with("kid", 1.into()),
            with("n", "*".into()),
            with("e", "AQAB=".into()),
            with("x5c", json!(["*"])),
            with("x5c", json!("*")),
            with("x5c", json!(vec![good["x5c"][0].clone(); MAX_CHAIN + 1])),
            with(
                "x5c",
                json!([STANDARD.encode(vec![0; MAX_CERTIFICATE + 1])]),
            ),
        ];
        for entry in &unreadable {
            let alone = json!({ "keys": [entry] }).to_string();
            assert!(
                JwkSet::parse(alone.as_bytes())
                    .unwrap()
                    .find(&kid)
                    .is_none(),
                "{entry}"
            );
        }
        let mut all = unreadable.to_vec();
        all.push(good);
        let set = JwkSet::parse(json!({ "keys": all, "more": 1 }).to_string().as_bytes()).unwrap();
        assert_eq!(set, intel.key_set());
    }

    #[test]
    fn invalid_key_set_is_an_error_that_says_why() {
        for (text, problem) in [
            ("", "key set: EOF"),
            (
                r#"{"keys":[],"keys":[]}"#,
                "key set: the key \"keys\" appears twice",
            ),
            (r#"{}"#, "key set lacks the key \"keys\""),
            (r#"{"keys":{}}"#, "key set.keys must be a list"),
            (r#"[]"#, "key set must be an object"),
        ] {
            let error = JwkSet::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
        let long = vec![b' '; MAX_KEY_SET + 1];
        assert!(JwkSet::parse(&long).is_err());
    }
}
