//! Checks a token's form and signature, and returns its claims (RFC 7515, RFC 7519).
//!
//! jsonwebtoken checks only the signature. It would accept `crit` and duplicate keys, and read the
//! system's clock. So this module checks the form, and `claims` the times.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::chain::TrustedKey;
use super::claims::Claims;
use super::keys::{ALGORITHM, Kid};
use crate::attestation::json;
use crate::attestation::report::Finding;

/// The largest readable token: at least as large as evidence can contain.
pub(in crate::attestation) const MAX_TOKEN: usize = 64 * 1024;

/// A token whose signature is unverified.
pub(in crate::attestation) struct Token<'a> {
    text: &'a str,
    header: Result<Map<String, Value>, Finding>,
}

impl<'a> Token<'a> {
    /// Checks the header's form.
    pub(in crate::attestation) fn new(text: &'a str) -> Token<'a> {
        let header = text.split('.').next().unwrap_or_default();
        Token {
            text,
            header: object(header, "header"),
        }
    }

    /// Returns the header's key id, if the header is readable and the id has the right form.
    pub(in crate::attestation) fn kid(&self) -> Option<Kid> {
        Kid::parse(self.header.as_ref().ok()?.get("kid")?.as_str()?)
    }

    /// Returns whether the header is readable. If not, `ita.signature` fails.
    pub(in crate::attestation) fn has_header(&self) -> bool {
        self.header.is_ok()
    }

    /// Checks for three parts, and a header that requires PS384 and nothing else.
    pub(in crate::attestation) fn form(&self) -> Result<(), Finding> {
        let header = self.header.as_ref().map_err(Finding::clone)?;
        let parts = self.text.split('.').count();
        if parts != 3 {
            return Err(Finding::fail("The Intel token does not have three parts.")
                .expected("3")
                .observed(format!("{parts}")));
        }
        match header.get("alg").and_then(Value::as_str) {
            Some(ALGORITHM) => {}
            other => {
                let finding =
                    Finding::fail("The Intel token is not signed with PS384.").expected(ALGORITHM);
                return Err(finding.observed(other.unwrap_or("none")));
            }
        }
        if header.contains_key("crit") {
            return Err(Finding::fail(
                "The Intel token requires an extension (crit) that this library does not support.",
            ));
        }
        Ok(())
    }

    /// Returns the claims if the signature over the exact text is valid.
    pub(in crate::attestation) fn claims(&self, key: &TrustedKey) -> Result<Claims, Finding> {
        self.form()?;
        let forged =
            || Finding::fail("The Intel token's signature does not verify with Intel's key.");
        let (message, signature) = self.text.rsplit_once('.').ok_or_else(forged)?;
        let valid =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.0, Algorithm::PS384);
        if !valid.unwrap_or(false) {
            return Err(forged());
        }
        let payload = message
            .split_once('.')
            .map(|(_, payload)| payload)
            .ok_or_else(forged)?;
        object(payload, "payload").map(Claims::new)
    }
}

/// Decodes a part of a token: base64url without padding, of a JSON object without duplicate keys.
fn object(part: &str, name: &str) -> Result<Map<String, Value>, Finding> {
    let unreadable = |problem: String| {
        Finding::fail(format!("The Intel token's {name} cannot be read.")).observed(problem)
    };
    let text = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| unreadable("not base64url without padding".into()))?;
    match json::parse(&text, MAX_TOKEN).map_err(|error| unreadable(error.to_string()))? {
        Value::Object(object) => Ok(object),
        _ => Err(unreadable("not a JSON object".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::ita::trusted_key;
    use crate::attestation::report::{CheckId, Outcome};
    use crate::attestation::world::{self, Intel, NOW};

    fn read(intel: &Intel, text: &str) -> Result<Claims, Finding> {
        let set = intel.key_set();
        let jwk = set.find(&Kid::parse(&intel.kid).unwrap()).unwrap();
        let (key, _) = trusted_key(jwk, &[intel.root_sha256], NOW).unwrap();
        Token::new(text).claims(&key)
    }

    #[track_caller]
    fn refused(intel: &Intel, text: &str) {
        match read(intel, text) {
            Ok(_) => panic!("accepted"),
            Err(finding) => assert_eq!(finding.at(CheckId::ItaSignature).outcome(), Outcome::Fail),
        }
    }

    #[test]
    fn signed_token_is_read() {
        let intel = Intel::new();
        let claims = read(&intel, &intel.token(&world::claims())).unwrap();
        assert_eq!(claims.text("attester_type").unwrap(), "TDX");
    }

    #[test]
    fn invalid_form_fails_despite_a_valid_signature() {
        let intel = Intel::new();
        let (header, payload) = (intel.header().to_string(), world::claims().to_string());
        let header_with = |text: &str| header.replacen('{', &format!("{{{text},"), 1);
        assert!(read(&intel, &intel.sign(&header, &payload)).is_ok());

        refused(&intel, &intel.sign(&header_with(r#""crit":[]"#), &payload));
        refused(
            &intel,
            &intel.sign(&header_with(r#""alg":"PS384""#), &payload),
        );
        refused(
            &intel,
            &intel.sign(&header_with(r#""x":{"y":1,"y":1}"#), &payload),
        );
        refused(
            &intel,
            &intel.sign(&header, &payload.replacen('{', r#"{"tdx_mrtd":"x","#, 1)),
        );
        refused(&intel, &intel.sign(&header, "[]"));
        refused(&intel, &intel.sign(&header, ""));
        refused(&intel, &intel.sign("[]", &payload));
        for algorithm in ["RS256", "PS256", "PS512", "none", "HS256", "ps384", ""] {
            refused(
                &intel,
                &intel.sign(&header.replacen("PS384", algorithm, 1), &payload),
            );
        }

        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        refused(
            &intel,
            &intel.sign_parts(&format!("{}.{}=", part(&header), part(&payload))),
        );
        refused(
            &intel,
            &intel.sign_parts(&format!("{}=.{}", part(&header), part(&payload))),
        );
        refused(
            &intel,
            &intel.sign_parts(&format!("{}.{}.", part(&header), part(&payload))),
        );
        refused(&intel, &intel.sign_parts(&part(&header)));
        let token = intel.sign(&header, &payload);
        for text in [
            format!("{token}="),
            format!("{token}."),
            format!("{token}.x"),
            format!("{token} "),
        ] {
            refused(&intel, &text);
        }
    }

    #[test]
    fn signature_of_another_key_is_refused() {
        let (intel, impostor) = (Intel::new(), Intel::impostor());
        let token = intel.token(&world::claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        refused(&intel, &format!("{message}.{}", "A".repeat(342)));
        refused(&intel, &format!("{message}."));
        match read(&impostor, &token) {
            Ok(_) => panic!("accepted"),
            Err(finding) => assert_eq!(finding.at(CheckId::ItaSignature).outcome(), Outcome::Fail),
        }
    }

    #[test]
    fn key_id_of_another_form_is_ignored() {
        let intel = Intel::new();
        let token =
            |kid: &str| intel.sign(&intel.header().to_string().replace(&intel.kid, kid), "{}");
        assert_eq!(Token::new(&token(&intel.kid)).kid(), Kid::parse(&intel.kid));
        for other in [
            intel.kid.to_uppercase().as_str(),
            "",
            "../../etc/passwd",
            &intel.kid[1..],
        ] {
            assert_eq!(Token::new(&token(other)).kid(), None);
        }
        for text in ["", ".", "..", "a.b.c", "eyJraWQiOjF9..", "\u{e9}.a.b"] {
            assert_eq!(Token::new(text).kid(), None, "{text}");
        }
    }
}
