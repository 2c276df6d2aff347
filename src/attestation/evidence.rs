//! Reads the evidence: the JSON object in the handshake's second message (`evidence.format`).
//!
//! Nothing in it is trusted. A missing or wrong part fails the check. The other parts are returned,
//! so that the other checks can still run.

use serde_json::Value;

use super::json;
use super::report::{Finding, Passing};

/// The longest evidence: a Noise message minus the keys and tags of message 2
/// (65,535 − 32 `e` − 48 `s` − 16 tag of the payload).
pub const MAX_EVIDENCE: usize = 65_439;

/// The four strings, if present.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) platform: Option<String>,
    pub(super) attestation: Option<String>,
    pub(super) manifest: Option<String>,
    pub(super) bundle: Option<String>,
}

/// Reads the evidence and checks its form.
pub(super) fn read(bytes: &[u8]) -> (Evidence, Finding) {
    let no_object = |problem: String| {
        let finding = Finding::fail("The evidence is not one well-formed JSON object.");
        (
            Evidence::default(),
            finding
                .expected("a JSON object of four strings")
                .observed(problem),
        )
    };
    let mut object = match json::parse(bytes, MAX_EVIDENCE) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return no_object("a JSON value of another type".into()),
        Err(error) => return no_object(error.to_string()),
    };

    // The published server sends null where Intel's service gave it no token.
    let no_token = match object.get("attestation") {
        Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    };
    if no_token {
        object.remove("attestation");
    }
    let mut missing = Vec::new();
    let mut string = |name: &'static str| match object.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => {
            missing.push(name);
            None
        }
    };
    let evidence = Evidence {
        platform: string("platform"),
        attestation: string("attestation"),
        manifest: string("manifest"),
        bundle: string("manifestBundle"),
    };
    let finding = if missing.is_empty() {
        Finding::pass("The evidence is complete and well formed.")
    } else if no_token && missing == ["attestation"] {
        Finding::fail(
            "The server has no Intel token: Intel's service gave it none. It may have one later; this says nothing about the enclave.",
        )
        .expected("an Intel token as attestation")
        .observed("no attestation")
        .passing(Passing::NoToken)
    } else {
        Finding::fail("The evidence lacks a part, or has it as something else than a string.")
            .expected("the strings platform, attestation, manifest and manifestBundle")
            .observed(format!("no string {}", missing.join(", ")))
    };
    (evidence, finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::report::{CheckId, Outcome};

    fn outcome(text: impl AsRef<[u8]>) -> Outcome {
        read(text.as_ref()).1.at(CheckId::EvidenceFormat).outcome()
    }

    const WHOLE: &str =
        r#"{"platform":"TDX","attestation":"a","manifest":"m","manifestBundle":"b"}"#;

    #[test]
    fn four_strings_are_required_and_other_keys_ignored() {
        assert_eq!(outcome(WHOLE), Outcome::Pass);
        assert_eq!(
            outcome(WHOLE.replacen('{', r#"{"more":[{"x":null}],"#, 1)),
            Outcome::Pass
        );
    }

    #[test]
    fn missing_manifest_fails_and_the_rest_is_read() {
        let (evidence, finding) =
            read(br#"{"platform":"TDX","attestation":"a","manifest":null,"manifestBundle":null}"#);
        assert_eq!(finding.at(CheckId::EvidenceFormat).outcome(), Outcome::Fail);
        assert_eq!(evidence.attestation.as_deref(), Some("a"));
        assert!(evidence.manifest.is_none() && evidence.bundle.is_none());
    }

    #[test]
    fn missing_intel_token_has_its_own_message() {
        for attestation in ["null", r#""""#] {
            let text = WHOLE.replacen(r#""a""#, attestation, 1);
            let (evidence, finding) = read(text.as_bytes());
            let check = finding.at(CheckId::EvidenceFormat);
            assert_eq!(check.outcome(), Outcome::Fail);
            assert_eq!(check.passing(), Some(Passing::NoToken));
            assert!(check.detail().contains("Intel's service gave it none"));
            assert!(evidence.attestation.is_none() && evidence.manifest.is_some());
            // A server without a manifest is refused for good.
            let text = text.replacen(r#""m""#, "null", 1);
            let check = read(text.as_bytes()).1.at(CheckId::EvidenceFormat);
            assert_eq!(check.passing(), None);
            assert_eq!(check.observed(), Some("no string attestation, manifest"));
        }
    }

    #[test]
    fn malformed_object_or_duplicate_key_gives_nothing() {
        for text in [
            "",
            "[]",
            "\u{feff}{}",
            "{} {}",
            &WHOLE.replacen('{', r#"{"platform":"TDX","#, 1),
            &WHOLE.replacen('{', r#"{"x":{"y":1,"y":2},"#, 1),
            &WHOLE.replacen("\"a\"", "1", 1),
        ] {
            assert_eq!(outcome(text), Outcome::Fail, "{text}");
        }
        assert_eq!(outcome(b"{\"platform\":\"\xff\"}"), Outcome::Fail);
    }

    #[test]
    fn limits_are_exact() {
        let padded = |length: usize| {
            let mut text = WHOLE.as_bytes().to_vec();
            text.resize(length, b' ');
            text
        };
        assert_eq!(outcome(padded(MAX_EVIDENCE)), Outcome::Pass);
        assert_eq!(outcome(padded(MAX_EVIDENCE + 1)), Outcome::Fail);
        let nested = |levels: usize| {
            let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            WHOLE.replacen('{', &format!(r#"{{"x":{value},"#), 1)
        };
        assert_eq!(outcome(nested(63)), Outcome::Pass);
        assert_eq!(outcome(nested(64)), Outcome::Fail);
    }
}
