//! Appraises evidence against a policy: runs every check, in the order of the report.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::ita::{self, Claims, Jwk, JwkSet, Keys, Kid, Token};
use super::memory::Memory;
use super::policy::{Platform, Policy, PolicyError};
use super::release::{Appraisal, Releases};
use super::report::{CheckId, Finding, Report, shown};
use super::tdx::{self, Register};
use super::{evidence, hex};

/// Verifies evidence against one policy. All connections with the policy share it. It remembers the
/// keys and releases that it verified, so that verifying one again is fast.
pub struct Verifier {
    policy: Policy,
    keys: Keys,
    releases: Releases,
}

impl Verifier {
    /// Prepares the policy's trust material.
    ///
    /// # Errors
    /// If the policy's `sigstore.trusted_root` is unusable.
    pub fn new(policy: Policy) -> Result<Verifier, PolicyError> {
        let releases = Releases::new(&policy.sigstore).map_err(PolicyError::trusted_root)?;
        Ok(Verifier {
            policy,
            keys: Keys::default(),
            releases,
        })
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the id of the key that the evidence needs, if neither the policy nor `fetched` has
    /// it. Then fetch [`Policy::jwks_url`] once, and verify with the result.
    ///
    /// Reads only the token's header, and trusts nothing in it.
    pub fn needs_keys(&self, evidence: &[u8], fetched: Option<&JwkSet>) -> Option<Kid> {
        let (evidence, _) = evidence::read(evidence);
        let kid = Token::new(readable_token(&evidence)?).kid()?;
        match self.key(&kid, fetched) {
            Some(_) => None,
            None => Some(kid),
        }
    }

    /// Verifies the evidence in message 2 of a handshake. `server_key` is the peer's static key in
    /// that handshake, `now` the Unix time.
    pub fn verify(
        &self,
        evidence: &[u8],
        server_key: &[u8; 32],
        fetched: Option<&JwkSet>,
        now: u64,
    ) -> Report {
        self.appraise(evidence, server_key, fetched, now, Memory::Use)
    }

    /// Does what [`Verifier::verify`] does, for evidence from a file. Neither uses nor adds
    /// remembered releases.
    pub(super) fn replay(
        &self,
        evidence: &[u8],
        server_key: &[u8; 32],
        fetched: Option<&JwkSet>,
        at: u64,
    ) -> Report {
        self.appraise(evidence, server_key, fetched, at, Memory::Leave)
    }

    /// Finds a key in the policy, or else in the fetched set.
    pub(super) fn key<'a>(
        &'a self,
        kid: &Kid,
        fetched: Option<&'a JwkSet>,
    ) -> Option<&'a Arc<Jwk>> {
        let own = self.policy.ita.jwks.as_ref().and_then(|set| set.find(kid));
        own.or_else(|| fetched.and_then(|set| set.find(kid)))
    }

    fn appraise(
        &self,
        evidence: &[u8],
        server_key: &[u8; 32],
        fetched: Option<&JwkSet>,
        now: u64,
        memory: Memory,
    ) -> Report {
        let (policy, leeway) = (&self.policy, self.policy.ita.leeway);
        let (evidence, format) = evidence::read(evidence);

        let (key, signature, claims) = self.token(&evidence, fetched, now, memory);
        let claims = claims.as_ref();
        let with_claims = |check: &dyn Fn(&Claims) -> Result<Finding, ita::ClaimError>| match claims
        {
            Some(claims) => check(claims).unwrap_or_else(Finding::from),
            None => tdx::without_claims(),
        };

        let release = match (&evidence.manifest, &evidence.bundle) {
            (Some(manifest), Some(bundle)) => self
                .releases
                .appraise(manifest, bundle, now, leeway, memory),
            (manifest, _) => Appraisal::incomplete(manifest.as_deref()),
        };
        let register = |register: Register| match &release.manifest {
            Some(manifest) => {
                let stated = match register {
                    Register::Rtmr1 => manifest.rtmr1,
                    Register::Rtmr2 => manifest.rtmr2,
                };
                tdx::rtmr(claims, register, stated.as_ref()).unwrap_or_else(Finding::from)
            }
            None => Finding::skip("Not evaluated: the manifest is missing or cannot be read."),
        };

        let tdx = &policy.tdx;
        let checks = vec![
            format.at(CheckId::EvidenceFormat),
            self.platform(evidence.platform.as_deref(), claims)
                .at(CheckId::Platform),
            key.at(CheckId::ItaKey),
            signature.at(CheckId::ItaSignature),
            with_claims(&|claims| ita::issuer(claims, &policy.ita.issuers)).at(CheckId::ItaIssuer),
            with_claims(&|claims| ita::time(claims, now, leeway)).at(CheckId::ItaTime),
            with_claims(&tdx::debug).at(CheckId::TdxDebug),
            with_claims(&|claims| tdx::key_binding(claims, server_key)).at(CheckId::TdxKeyBinding),
            with_claims(&|claims| tdx::mrtd(claims, &tdx.mrtd)).at(CheckId::TdxMrtd),
            with_claims(&|claims| tdx::seam_svn(claims, tdx.min_seam_svn)).at(CheckId::TdxSeamSvn),
            with_claims(&|claims| tdx::tcb_status(claims, &tdx.tcb_status))
                .at(CheckId::TdxTcbStatus),
            with_claims(&|claims| tdx::advisories(claims, &tdx.deny_advisories))
                .at(CheckId::TdxAdvisories),
            with_claims(&|claims| tdx::tcb_age(claims, tdx.max_tcb_age_days, now, leeway))
                .at(CheckId::TdxTcbAge),
            release.signature.at(CheckId::ReleaseSignature),
            release.identity.at(CheckId::ReleaseIdentity),
            release.log.at(CheckId::ReleaseLog),
            release.digest.at(CheckId::ReleaseDigest),
            register(Register::Rtmr1).at(CheckId::TdxRtmr1),
            register(Register::Rtmr2).at(CheckId::TdxRtmr2),
            with_claims(&|claims| tdx::release(claims, tdx.releases.as_deref()))
                .at(CheckId::TdxRelease),
        ];

        Report {
            platform: evidence.platform.as_deref().map(shown),
            policy: policy.for_report(),
            verified_at: now,
            expires_at: claims.and_then(Claims::expires_at),
            endpoint: None,
            server_key: *server_key,
            manifest_sha256: evidence
                .manifest
                .as_ref()
                .map(|manifest| hex::encode(digest(&SHA256, manifest.as_bytes()).as_ref())),
            release: release.facts,
            tdx: claims.map(tdx::facts).unwrap_or_default(),
            timings_us: Vec::new(),
            checks,
        }
    }

    /// `platform`. Refuses SEV-SNP even if the policy lists it: the manifest has no measurement for
    /// it, so nothing could verify the software.
    fn platform(&self, word: Option<&str>, claims: Option<&Claims>) -> Finding {
        let Some(word) = word else {
            return Finding::skip("Not evaluated: the evidence names no platform.");
        };
        match Platform::parse(word) {
            Some(Platform::Tdx) if self.policy.platforms.contains(&Platform::Tdx) => {}
            Some(Platform::SevSnp) => {
                return Finding::fail(
                    "SEV-SNP is refused: the release's manifest has no measurement to compare it with.",
                )
                .expected(Platform::TDX)
                .observed(word);
            }
            _ => {
                let listed: Vec<_> = self
                    .policy
                    .platforms
                    .iter()
                    .map(|listed| listed.as_str())
                    .collect();
                return Finding::fail(
                    "The evidence comes from a platform that the policy does not list.",
                )
                .expected(listed.join(" or "))
                .observed(word);
            }
        }
        let Some(claims) = claims else {
            return tdx::without_claims();
        };
        match claims.text("attester_type") {
            Ok(Platform::TDX) => {
                Finding::pass("The evidence comes from a TDX machine, and Intel says so too.")
            }
            Ok(other) => {
                Finding::fail("The Intel token is for another platform than the evidence names.")
                    .expected(Platform::TDX)
                    .observed(other)
            }
            Err(error) => error.into(),
        }
    }

    /// `ita.key` and `ita.signature`. Returns the claims if both hold.
    fn token(
        &self,
        evidence: &evidence::Evidence,
        fetched: Option<&JwkSet>,
        now: u64,
        memory: Memory,
    ) -> (Finding, Finding, Option<Claims>) {
        let Some(token) = readable_token(evidence) else {
            let skip = || Finding::skip("Not evaluated: the evidence has no Intel token.");
            return (skip(), skip(), None);
        };
        let token = Token::new(token);
        let key = match token.kid() {
            Some(kid) => match self.key(&kid, fetched) {
                Some(jwk) => self.keys.trusted(jwk, &self.policy.ita.roots, now, memory),
                None => Err(
                    Finding::fail("No key set has the key that the Intel token names.")
                        .expected(format!("key {kid} in the policy or in the fetched key set"))
                        .observed("none"),
                ),
            },
            None if token.has_header() => Err(Finding::fail(
                "The Intel token does not name its key by a SHA-384 (kid).",
            )),
            None => Err(Finding::skip(
                "Not evaluated: the Intel token's header cannot be read.",
            )),
        };
        let key = match key {
            Ok(key) => key,
            Err(finding) => {
                let unsigned = token.form().err();
                let skip = || {
                    Finding::skip(
                        "Not evaluated: there is no trusted key to verify the Intel token with.",
                    )
                };
                return (finding, unsigned.unwrap_or_else(skip), None);
            }
        };
        let found = Finding::pass("The token's key chains to a root that the policy lists.");
        match token.claims(&key) {
            Ok(claims) => (
                found,
                Finding::pass("The token is signed by Intel."),
                Some(claims),
            ),
            Err(finding) => (found, finding, None),
        }
    }
}

/// Returns the attestation if it can be a token. SEV-SNP sends a raw report instead.
pub(super) fn readable_token(evidence: &evidence::Evidence) -> Option<&str> {
    let platform = evidence.platform.as_deref().and_then(Platform::parse);
    if platform == Some(Platform::SevSnp) {
        None
    } else {
        evidence.attestation.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::attestation::world::{self, Intel, NOW, SERVER_KEY, claims, evidence, verifier};
    use crate::attestation::{
        Check, Export, MAX_EVIDENCE, Outcome, Passing, TdxFacts, Verdict, release,
    };

    /// Returns the ids of the checks with an outcome, except those of the release: the test world
    /// has no Sigstore.
    fn with_outcome(report: &Report, outcome: Outcome) -> Vec<&'static str> {
        let ids = report
            .checks()
            .iter()
            .filter(|check| check.outcome() == outcome)
            .map(|check| check.id().as_str());
        ids.filter(|id| !id.starts_with("release.")).collect()
    }

    fn failures(report: &Report) -> Vec<&'static str> {
        with_outcome(report, Outcome::Fail)
    }

    fn verify(evidence: &[u8]) -> Report {
        Intel::new()
            .verifier()
            .verify(evidence, &SERVER_KEY, None, NOW)
    }

    fn verify_claims(change: impl FnOnce(&mut Value)) -> Report {
        let mut claims = claims();
        change(&mut claims);
        verify(&evidence(&Intel::new().token(&claims)))
    }

    #[test]
    fn verifier_is_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Verifier>();
    }

    #[test]
    fn checks_have_the_tables_order() {
        let report = verify_claims(|_| {});
        assert!(
            report
                .checks()
                .iter()
                .map(Check::id)
                .eq(CheckId::ALL.iter().copied())
        );
        assert_eq!(failures(&report), NONE);
        assert_eq!(with_outcome(&report, Outcome::Skip), NONE);
        assert_eq!(report.verdict(), Verdict::Rejected, "its bundle is none");
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn claims_of_a_version_two_token_are_under_tdx() {
        let report = verify_claims(|claims| {
            let mut machine = claims.as_object().unwrap().clone();
            for registered in ["ver", "iss", "iat", "nbf", "exp"] {
                machine.remove(registered);
            }
            for name in machine.keys() {
                claims.as_object_mut().unwrap().remove(name);
            }
            claims["ver"] = "2.0.0".into();
            claims["tdx"] = Value::Object(machine);
        });
        assert_eq!(failures(&report), NONE);
        assert_eq!(report.tdx.seam_svn, Some(3));
    }

    #[test]
    fn each_claim_fails_only_its_check() {
        for (name, value, id) in [
            ("attester_type", json!("SGX"), "platform"),
            ("iss", json!("Intel Trust Authority"), "ita.issuer"),
            ("exp", json!(NOW - 60), "ita.time"),
            ("tdx_is_debuggable", json!(true), "tdx.debug"),
            ("tdx_report_data", json!("00".repeat(64)), "tdx.key_binding"),
            ("tdx_mrtd", json!("00".repeat(48)), "tdx.mrtd"),
            ("tdx_seamsvn", json!(0), "tdx.seam_svn"),
            ("attester_tcb_status", json!("Revoked"), "tdx.tcb_status"),
            ("attester_advisory_ids", json!([1]), "tdx.advisories"),
            ("tdx_rtmr1", json!("33".repeat(48)), "tdx.rtmr1"),
            ("tdx_rtmr2", json!("33".repeat(48)), "tdx.rtmr2"),
        ] {
            for value in [value, Value::Null, json!({})] {
                let report = verify_claims(|claims| claims[name] = value.clone());
                assert_eq!(failures(&report), [id], "{name}: {value}");
                assert_eq!(with_outcome(&report, Outcome::Skip), NONE);
                let check = report.first_failure().unwrap();
                assert!(check.detail().ends_with('.') && check.detail().len() > 20);
            }
        }
    }

    #[test]
    fn token_of_unknown_version_has_no_machine_claims() {
        let report = verify_claims(|claims| claims["ver"] = "9".into());
        let machine = [
            "platform",
            "tdx.debug",
            "tdx.key_binding",
            "tdx.mrtd",
            "tdx.seam_svn",
            "tdx.tcb_status",
        ];
        assert!(
            machine.iter().all(|id| failures(&report).contains(id)),
            "{:?}",
            failures(&report)
        );
    }

    const NEED_CLAIMS: [&str; 13] = [
        "platform",
        "ita.issuer",
        "ita.time",
        "tdx.debug",
        "tdx.key_binding",
        "tdx.mrtd",
        "tdx.seam_svn",
        "tdx.tcb_status",
        "tdx.advisories",
        "tdx.tcb_age",
        "tdx.rtmr1",
        "tdx.rtmr2",
        "tdx.release",
    ];

    #[test]
    fn token_without_a_trusted_key_is_not_used() {
        let intel = Intel::new();
        let evidence = evidence(&intel.token(&claims()));
        let mut policy = intel.policy();
        policy["ita"]["jwks"] = Value::Null;
        let no_key = verifier(&policy).verify(&evidence, &SERVER_KEY, None, NOW);
        policy["ita"]["root_sha256"] = json!(["00".repeat(32)]);
        let no_root = verifier(&policy).verify(&evidence, &SERVER_KEY, Some(&intel.key_set()), NOW);
        for report in [no_key, no_root] {
            assert_eq!(failures(&report), ["ita.key"]);
            let skipped = with_outcome(&report, Outcome::Skip);
            assert!(
                skipped.contains(&"ita.signature")
                    && NEED_CLAIMS.iter().all(|id| skipped.contains(id))
            );
            assert_eq!((report.expires_at, report.tdx), (None, TdxFacts::default()));
        }
    }

    #[test]
    fn forged_token_is_refused_and_not_shown() {
        let intel = Intel::new();
        let token = intel.token(&claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        let report = verify(&evidence(&format!("{message}.{}", "A".repeat(342))));
        assert_eq!(failures(&report), ["ita.signature"]);
        assert_eq!(with_outcome(&report, Outcome::Skip), NEED_CLAIMS);
        assert_eq!((report.expires_at, report.tdx), (None, TdxFacts::default()));
    }

    #[test]
    fn token_with_an_unreadable_header_fails_its_signature() {
        let report = verify(&evidence("no token at all"));
        assert_eq!(failures(&report), ["ita.signature"]);
        let header = Intel::new().header().to_string();
        let without_name = header.replacen("\"kid\"", "\"kit\"", 1);
        let report = verify(&evidence(
            &Intel::new().sign(&without_name, &claims().to_string()),
        ));
        assert_eq!(failures(&report), ["ita.key"]);
    }

    #[test]
    fn sev_snp_is_refused_even_if_listed() {
        let intel = Intel::new();
        let mut policy = intel.policy();
        policy["platforms"] = json!(["TDX", "SEV-SNP"]);
        let text = String::from_utf8(evidence(&intel.token(&claims()))).unwrap();
        let text = text.replacen("\"platform\":\"TDX\"", "\"platform\":\"SEV-SNP\"", 1);
        let report = verifier(&policy).verify(text.as_bytes(), &SERVER_KEY, None, NOW);
        assert_eq!(failures(&report), ["platform"]);
        assert!(
            report
                .first_failure()
                .unwrap()
                .detail()
                .starts_with("SEV-SNP is refused")
        );
        let skipped = with_outcome(&report, Outcome::Skip);
        assert!(
            ["ita.key", "ita.signature", "tdx.mrtd"]
                .iter()
                .all(|id| skipped.contains(id)),
            "{skipped:?}"
        );
        assert_eq!(verifier(&policy).needs_keys(text.as_bytes(), None), None);
    }

    #[test]
    fn unlisted_platform_is_refused() {
        let intel = Intel::new();
        let mut policy = intel.policy();
        policy["platforms"] = json!([]);
        let text = evidence(&intel.token(&claims()));
        assert_eq!(
            failures(&verifier(&policy).verify(&text, &SERVER_KEY, None, NOW)),
            ["platform"]
        );
        for other in ["tdx", "SGX", ""] {
            let text = String::from_utf8(text.clone()).unwrap();
            let text = text.replacen(
                "\"platform\":\"TDX\"",
                &format!("\"platform\":\"{other}\""),
                1,
            );
            let report = verify(text.as_bytes());
            assert_eq!(failures(&report), ["platform"]);
            // The token is readable, so its checks run.
            assert_eq!(with_outcome(&report, Outcome::Skip), NONE);
        }
    }

    #[test]
    fn manifest_must_have_both_measurements() {
        let intel = Intel::new();
        let mut text: Value = serde_json::from_slice(&evidence(&intel.token(&claims()))).unwrap();
        text["manifest"] = r#"{"tdxMeasurements":{}}"#.into();
        assert_eq!(
            failures(&verify(text.to_string().as_bytes())),
            ["tdx.rtmr1", "tdx.rtmr2"]
        );
        text["manifest"] = "[]".into();
        let report = verify(text.to_string().as_bytes());
        assert_eq!(
            with_outcome(&report, Outcome::Skip),
            ["tdx.rtmr1", "tdx.rtmr2"]
        );
        let digest = report
            .checks()
            .iter()
            .find(|check| check.id() == CheckId::ReleaseDigest)
            .unwrap();
        assert_eq!(digest.outcome(), Outcome::Fail);
    }

    #[test]
    fn missing_manifest_fails_the_format_and_skips_its_checks() {
        let intel = Intel::new();
        let mut text: Value = serde_json::from_slice(&evidence(&intel.token(&claims()))).unwrap();
        text["manifest"] = Value::Null;
        text["manifestBundle"] = Value::Null;
        let report = verify(text.to_string().as_bytes());
        assert_eq!(failures(&report), ["evidence.format"]);
        assert_eq!(
            with_outcome(&report, Outcome::Skip),
            ["tdx.rtmr1", "tdx.rtmr2"]
        );
        assert_eq!(report.manifest_sha256, None);

        let mut text: Value = serde_json::from_slice(&evidence(&intel.token(&claims()))).unwrap();
        text["manifestBundle"] = Value::Null;
        let report = verify(text.to_string().as_bytes());
        assert_eq!(failures(&report), ["evidence.format"]);
        assert_eq!(with_outcome(&report, Outcome::Skip), NONE);
    }

    #[test]
    fn evidence_without_an_intel_token_fails_by_its_form_alone() {
        let text: Value = serde_json::from_slice(&evidence("x")).unwrap();
        for attestation in [Value::Null, "".into()] {
            let mut text = text.clone();
            text["attestation"] = attestation;
            let report = verify(text.to_string().as_bytes());
            assert_eq!(failures(&report), ["evidence.format"]);
            let skipped = with_outcome(&report, Outcome::Skip);
            assert!(skipped.contains(&"ita.key") && skipped.contains(&"ita.signature"));
        }
    }

    #[test]
    fn only_trouble_with_time_can_be_the_clocks() {
        let passing = |change: &dyn Fn(&mut Value)| {
            let report = verify_claims(change);
            let check = report.first_failure().unwrap();
            (check.id().as_str(), check.passing())
        };
        let clock = Some(Passing::Clock);
        for (issued, begins, ends, expected) in [
            (NOW - 600, NOW - 600, NOW - 60, clock),
            (NOW - 60, NOW + 61, NOW + 240, clock),
            (NOW + 61, NOW - 60, NOW + 240, clock),
            (NOW - 60, NOW - 60, NOW - 61, None),
            (NOW - 60, NOW - 60, NOW + 3_600, None),
        ] {
            let found = passing(&|claims| {
                claims["iat"] = issued.into();
                claims["nbf"] = begins.into();
                claims["exp"] = ends.into();
            });
            assert_eq!(found, ("ita.time", expected), "{issued} {begins} {ends}");
        }
        assert_eq!(
            passing(&|claims| claims["exp"] = "soon".into()),
            ("ita.time", None)
        );
        assert_eq!(
            passing(&|claims| claims["tdx_seamsvn"] = 0.into()),
            ("tdx.seam_svn", None)
        );
    }

    #[test]
    fn policys_key_precedes_a_fetched_one() {
        let intel = Intel::new();
        let evidence = evidence(&intel.token(&claims()));
        let verifier = intel.verifier();
        assert_eq!(verifier.needs_keys(&evidence, None), None);
        assert_eq!(verifier.needs_keys(b"", None), None);
        let mut policy = intel.policy();
        policy["ita"]["jwks"]["keys"][0]["e"] = "Aw".into();
        let report =
            world::verifier(&policy).verify(&evidence, &SERVER_KEY, Some(&intel.key_set()), NOW);
        assert_eq!(failures(&report), ["ita.key"]);
        policy["ita"]["jwks"] = json!({ "keys": [] });
        let verifier = world::verifier(&policy);
        assert_eq!(
            verifier.needs_keys(&evidence, None).unwrap().to_string(),
            intel.kid
        );
        let other = Intel::impostor().key_set();
        assert!(verifier.needs_keys(&evidence, Some(&other)).is_some());
        assert!(
            verifier
                .needs_keys(&evidence, Some(&intel.key_set()))
                .is_none()
        );
        assert_eq!(
            verifier
                .export(&evidence, &SERVER_KEY, Some(&other), NOW)
                .jwks,
            None
        );
    }

    /// Hostile evidence up to the longest of a handshake causes no panic and takes little time.
    #[test]
    fn longest_hostile_evidence_is_refused_quickly() {
        let verifier = Intel::new().verifier();
        let room = MAX_EVIDENCE - 200;
        let of = |text: String| {
            json!({ "platform": "TDX", "attestation": text, "manifest": text, "manifestBundle": text }).to_string()
        };
        let third = room / 4;
        let nested = "[".repeat(third);
        let dots = ".".repeat(third);
        let object = format!(
            "{{{}}}",
            (0..third / 10)
                .map(|index| format!("\"{index}\":[]"))
                .collect::<Vec<_>>()
                .join(",")
        );
        let mut bundle: Value = serde_json::from_str(release::REKOR_V2).unwrap();
        let entry = bundle
            .pointer_mut("/verificationMaterial/tlogEntries/0")
            .unwrap();
        let note = entry["inclusionProof"]["checkpoint"]["envelope"]
            .as_str()
            .unwrap()
            .to_owned();
        let line = format!("{}\n", note.lines().last().unwrap());
        entry["inclusionProof"]["checkpoint"]["envelope"] =
            format!("{note}{}", line.repeat(300)).into();
        let signatures = json!({ "platform": "TDX", "attestation": "", "manifest": "", "manifestBundle": bundle.to_string() });
        for text in [
            of(nested),
            of(dots),
            of(object),
            of("\u{0}".repeat(third / 8)),
            signatures.to_string(),
            "[".repeat(MAX_EVIDENCE),
            "{\"a\":".repeat(room / 5),
            format!("[{}]", "0,".repeat(room / 2)),
            "\"".repeat(MAX_EVIDENCE),
            "1".repeat(MAX_EVIDENCE),
        ] {
            let start = Instant::now();
            let report = verifier.verify(text.as_bytes(), &SERVER_KEY, None, NOW);
            assert_eq!(report.verdict(), Verdict::Rejected);
            assert!(report.to_json().len() < 32 * 1024);
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "{:?}",
                start.elapsed()
            );
        }
    }

    /// Makes evidence with a valid token and a real bundle, to be damaged.
    fn whole() -> &'static [u8] {
        static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        WHOLE.get_or_init(|| {
            let mut text: Value =
                serde_json::from_slice(&evidence(&Intel::new().token(&claims()))).unwrap();
            text["manifestBundle"] = release::REKOR_V2.into();
            text.to_string().into_bytes()
        })
    }

    fn shared_verifier() -> &'static Verifier {
        static VERIFIER: std::sync::OnceLock<Verifier> = std::sync::OnceLock::new();
        VERIFIER.get_or_init(|| Intel::new().verifier())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn damaged_evidence_never_verifies_and_never_panics(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..8),
        ) {
            let mut bytes = whole().to_vec();
            for (place, byte, edit) in edits {
                let index = place.index(bytes.len());
                match edit {
                    0 => bytes[index] = byte,
                    1 => bytes.insert(index, byte),
                    2 => drop(bytes.remove(index)),
                    _ => {
                        let copy = bytes[index..bytes.len().min(index + usize::from(byte))].to_vec();
                        bytes.splice(index..index, copy);
                    }
                }
            }
            let report = shared_verifier().verify(&bytes, &SERVER_KEY, None, NOW);
            prop_assert_eq!(report.verdict(), Verdict::Rejected);
            prop_assert!(report.to_json().is_ascii());
            shared_verifier().needs_keys(&bytes, None);
            shared_verifier().export(&bytes, &SERVER_KEY, None, NOW);
        }

        #[test]
        fn any_bytes_as_policy_key_set_or_export_are_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Policy::parse(&bytes);
            let _ = JwkSet::parse(&bytes);
            let _ = Export::parse(&bytes);
            prop_assert_eq!(shared_verifier().verify(&bytes, &SERVER_KEY, None, NOW).verdict(), Verdict::Rejected);
        }
    }
}
