//! Reads the claims of a token with a valid signature: their place, type and times.
//!
//! A missing, wrong or duplicate claim fails the check that reads it. There are no defaults.

use serde_json::{Map, Value};

use crate::attestation::hex;
use crate::attestation::report::{Finding, Passing};
use crate::clock::in_words;

/// The longest validity of a token, in seconds: twice the usual, and the most in Intel's documents.
const MAX_LIFETIME: u64 = 3_600;

/// A token's payload.
pub(in crate::attestation) struct Claims(Map<String, Value>);

/// The error for an unusable claim. Fails the check that reads it.
#[derive(Debug)]
pub(in crate::attestation) struct ClaimError(String);

impl From<ClaimError> for Finding {
    fn from(error: ClaimError) -> Finding {
        Finding::fail(error.0)
    }
}

type Result<T> = std::result::Result<T, ClaimError>;

fn refuse<T>(name: &str, problem: &str) -> Result<T> {
    Err(ClaimError(format!(
        "The claim {name} of the Intel token {problem}."
    )))
}

impl Claims {
    pub(in crate::attestation) fn new(payload: Map<String, Value>) -> Claims {
        Claims(payload)
    }

    /// Returns a claim about the token, which is at the top level in every version.
    fn registered(&self, name: &str) -> Result<&Value> {
        self.0
            .get(name)
            .map_or_else(|| refuse(name, "is missing"), Ok)
    }

    /// Returns a claim about the machine. It is at the top level in version 1 and under `tdx` in
    /// version 2. Only `ver` decides. A claim in the other place is an error, whether it is in both
    /// places or only there.
    fn machine(&self, name: &str) -> Result<Option<&Value>> {
        let flat = self.0.get(name);
        let nested = self.0.get("tdx").and_then(|tdx| tdx.get(name));
        if flat.is_some() && nested.is_some() {
            return refuse(name, "appears twice, at the top level and under tdx");
        }
        let (here, elsewhere) = match self.registered("ver")?.as_str() {
            Some("1.0.0") => (flat, nested),
            Some("2.0.0") => (nested, flat),
            _ => return refuse("ver", "is neither 1.0.0 nor 2.0.0"),
        };
        match (here, elsewhere) {
            (None, Some(_)) => refuse(name, "is in the wrong place for the token's version"),
            (here, _) => Ok(here),
        }
    }

    fn required(&self, name: &str) -> Result<&Value> {
        self.machine(name)?
            .map_or_else(|| refuse(name, "is missing"), Ok)
    }

    pub(in crate::attestation) fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N]> {
        match self.required(name)?.as_str().and_then(hex::decode) {
            Some(bytes) => Ok(bytes),
            None => refuse(name, &format!("is not {} lower-case hex digits", 2 * N)),
        }
    }

    pub(in crate::attestation) fn number(&self, name: &str) -> Result<u64> {
        self.required(name)?
            .as_u64()
            .map_or_else(|| refuse(name, "is not a whole number"), Ok)
    }

    pub(in crate::attestation) fn boolean(&self, name: &str) -> Result<bool> {
        self.required(name)?
            .as_bool()
            .map_or_else(|| refuse(name, "is not true or false"), Ok)
    }

    pub(in crate::attestation) fn text(&self, name: &str) -> Result<&str> {
        self.required(name)?
            .as_str()
            .map_or_else(|| refuse(name, "is not a string"), Ok)
    }

    /// Returns an optional list of strings.
    pub(in crate::attestation) fn texts(&self, name: &str) -> Result<Vec<&str>> {
        let Some(value) = self.machine(name)? else {
            return Ok(Vec::new());
        };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map_or_else(|| refuse(name, "is not a list of strings"), Ok)
    }

    /// Returns the optional debug status of RFC 9711 (`dbgstat`). It is about neither the token nor
    /// the machine, so it may be in either place.
    pub(in crate::attestation) fn debug_status(&self) -> Result<Option<&str>> {
        const NAME: &str = "dbgstat";
        let nested = self.0.get("tdx").and_then(|tdx| tdx.get(NAME));
        let value = match (self.0.get(NAME), nested) {
            (Some(_), Some(_)) => {
                return refuse(NAME, "appears twice, at the top level and under tdx");
            }
            (None, None) => return Ok(None),
            (Some(value), None) | (None, Some(value)) => value,
        };
        value
            .as_str()
            .map_or_else(|| refuse(NAME, "is not a string"), |text| Ok(Some(text)))
    }

    fn seconds(&self, name: &str) -> Result<u64> {
        self.registered(name)?
            .as_u64()
            .map_or_else(|| refuse(name, "is not a whole number of seconds"), Ok)
    }

    /// Returns when the token expires, if it says so.
    pub(in crate::attestation) fn expires_at(&self) -> Option<u64> {
        self.seconds("exp").ok()
    }
}

/// `ita.issuer`
pub(in crate::attestation) fn issuer(claims: &Claims, listed: &[String]) -> Result<Finding> {
    let Some(issuer) = claims.registered("iss")?.as_str() else {
        return refuse("iss", "is not a string");
    };
    Ok(if listed.iter().any(|listed| listed == issuer) {
        Finding::pass("The Intel token comes from an issuer that the policy lists.")
            .observed(issuer)
    } else {
        Finding::fail("The Intel token comes from an issuer that the policy does not list.")
            .expected(listed.join(" or "))
            .observed(issuer)
    })
}

/// `ita.time`
pub(in crate::attestation) fn time(claims: &Claims, now: u64, leeway: u64) -> Result<Finding> {
    let (issued, begins, ends) = (
        claims.seconds("iat")?,
        claims.seconds("nbf")?,
        claims.seconds("exp")?,
    );
    let from = issued.max(begins);
    if ends <= issued {
        return Ok(
            Finding::fail("The Intel token expires before it was issued.")
                .expected("an expiry after the time of issue")
                .observed(lifetime(issued, ends)),
        );
    }
    if ends - issued > MAX_LIFETIME {
        return Ok(Finding::fail("The Intel token is valid for too long.")
            .expected(format!("at most {MAX_LIFETIME} s"))
            .observed(lifetime(issued, ends)));
    }
    let finding = if now.saturating_add(leeway) < from {
        Finding::fail("The Intel token is not valid yet.").passing(Passing::Clock)
    } else if ends.saturating_add(leeway) <= now {
        Finding::fail("The Intel token has expired.").passing(Passing::Clock)
    } else {
        Finding::pass("The Intel token is valid now.")
    };
    Ok(finding
        .expected(format!(
            "a time from {} to before {}, give or take {leeway} s",
            in_words(from),
            in_words(ends)
        ))
        .observed(in_words(now)))
}

fn lifetime(issued: u64, ends: u64) -> String {
    format!("issued {}, expires {}", in_words(issued), in_words(ends))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attestation::report::{CheckId, Outcome};
    use crate::attestation::world::{self, NOW};

    fn claims(value: Value) -> Claims {
        match value {
            Value::Object(object) => Claims::new(object),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn version_decides_the_place_of_a_claim() {
        let at_the_top = claims(json!({ "ver": "1.0.0", "a": "x" }));
        let nested = claims(json!({ "ver": "2.0.0", "tdx": { "a": "x" } }));
        assert_eq!(at_the_top.text("a").unwrap(), "x");
        assert_eq!(nested.text("a").unwrap(), "x");
        for other in [
            json!({ "ver": "2.0.0", "a": "x" }),
            json!({ "ver": "2.0.0", "a": ["x"], "tdx": {} }),
            json!({ "ver": "1.0.0", "tdx": { "a": ["x"] } }),
            json!({ "ver": "1.0.0", "tdx": { "a": "x" } }),
            json!({ "ver": "1.0.0", "a": "x", "tdx": { "a": "x" } }),
            json!({ "ver": "2.0.0", "a": "x", "tdx": { "a": "x" } }),
            json!({ "ver": "2.0.0", "tdx": "a" }),
            json!({ "ver": "3.0.0", "a": "x" }),
            json!({ "ver": "1", "a": "x" }),
            json!({ "ver": 1, "a": "x" }),
            json!({ "a": "x" }),
        ] {
            assert!(claims(other.clone()).text("a").is_err(), "{other}");
            // A list is optional, but one in the wrong place is an error.
            let is_nowhere = other["a"].is_null() && other["tdx"]["a"].is_null();
            assert!(
                claims(other.clone()).texts("a").is_err() || is_nowhere,
                "{other}"
            );
        }
    }

    #[test]
    fn claim_of_another_type_is_an_error() {
        let all = claims(
            json!({ "ver": "1.0.0", "n": -1, "f": 1.0, "s": "1", "b": "true", "h": "AA", "l": ["x", 1] }),
        );
        assert!(all.number("n").is_err());
        assert!(all.number("f").is_err());
        assert!(all.number("s").is_err());
        assert!(all.boolean("b").is_err());
        assert!(all.bytes::<1>("h").is_err());
        assert!(all.text("n").is_err());
        assert!(all.texts("l").is_err());
        assert!(all.texts("s").is_err());
        assert_eq!(all.texts("absent").unwrap(), Vec::<&str>::new());
        assert!(all.text("absent").is_err());
    }

    fn at(change: impl FnOnce(&mut Value), now: u64) -> Outcome {
        let mut value = world::claims();
        change(&mut value);
        let finding = time(&claims(value), now, 60).unwrap_or_else(Finding::from);
        finding.at(CheckId::ItaTime).outcome()
    }

    #[test]
    fn token_is_valid_from_start_to_end_with_leeway() {
        for (now, outcome) in [
            (NOW - 121, Outcome::Fail),
            (NOW - 120, Outcome::Pass),
            (NOW + 299, Outcome::Pass),
            (NOW + 300, Outcome::Fail),
            (0, Outcome::Fail),
            (u64::MAX, Outcome::Fail),
        ] {
            assert_eq!(at(|_| {}, now), outcome, "{now}");
        }
        // The later of the two start times counts.
        assert_eq!(
            at(|claims| claims["nbf"] = (NOW + 61).into(), NOW),
            Outcome::Fail
        );
        assert_eq!(
            at(|claims| claims["nbf"] = (NOW + 60).into(), NOW),
            Outcome::Pass
        );
        assert_eq!(
            at(|claims| claims["iat"] = (NOW + 61).into(), NOW),
            Outcome::Fail
        );
    }

    #[test]
    fn token_is_valid_for_at_most_an_hour() {
        assert_eq!(
            at(|claims| claims["exp"] = (NOW - 60 + 3_600).into(), NOW),
            Outcome::Pass
        );
        assert_eq!(
            at(|claims| claims["exp"] = (NOW - 60 + 3_601).into(), NOW),
            Outcome::Fail
        );
        assert_eq!(
            at(|claims| claims["exp"] = u64::MAX.into(), NOW),
            Outcome::Fail
        );
        assert_eq!(
            at(|claims| claims["exp"] = (NOW - 60).into(), NOW),
            Outcome::Fail
        );
        for name in ["iat", "nbf", "exp"] {
            let wrong = [Value::Null, 1.5.into(), (-1).into(), NOW.to_string().into()];
            for wrong in wrong {
                assert_eq!(
                    at(|claims| claims[name] = wrong.clone(), NOW),
                    Outcome::Fail,
                    "{name} {wrong}"
                );
            }
            assert_eq!(
                at(
                    |claims| drop(claims.as_object_mut().unwrap().remove(name)),
                    NOW
                ),
                Outcome::Fail
            );
        }
    }

    #[test]
    fn issuer_must_equal_a_listed_one_exactly() {
        let outcome = |issuer: Value| {
            let claims = claims(json!({ "iss": issuer }));
            let listed = ["https://portal.trustauthority.intel.com".to_owned()];
            super::issuer(&claims, &listed)
                .unwrap_or_else(Finding::from)
                .at(CheckId::ItaIssuer)
                .outcome()
        };
        assert_eq!(
            outcome("https://portal.trustauthority.intel.com".into()),
            Outcome::Pass
        );
        for other in [
            json!("https://portal.trustauthority.intel.com/"),
            json!(""),
            json!(null),
            json!(["x"]),
        ] {
            assert_eq!(outcome(other), Outcome::Fail);
        }
    }
}
