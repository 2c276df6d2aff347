//! Tests attestation with real material: Intel's production key set, a token of 2023, and a release
//! that Confer signed with Sigstore's staging instance in 2026. The files are in `../shared/data`,
//! outside this repository. Without them each test prints a line and checks nothing.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use confer::attestation::{
    Check, CheckId, Export, JwkSet, Outcome, Policy, Report, Verdict, Verifier,
};
use serde_json::{Value, json};
use sigstore_verify::trust_root::{
    SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT,
};

/// A time at which the token is valid.
const IN_2023: u64 = 1_701_735_000;
/// One hour after the log entry of the release.
const IN_2026: u64 = 1_786_916_892;
/// Time of the log entry of the release.
const LOGGED_AT: u64 = 1_786_913_292;

const SIGNER: &str = "worker-image-releases@conferlabs.iam.gserviceaccount.com";

struct Material {
    key_set: String,
    token: String,
    manifest: String,
    bundle: String,
    proxy_manifest: String,
    proxy_bundle: String,
}

impl Material {
    /// Returns `None` and prints a line if there is no material.
    fn get() -> Option<&'static Material> {
        static MATERIAL: OnceLock<Option<Material>> = OnceLock::new();
        let material = MATERIAL.get_or_init(|| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
            if !folder.is_dir() {
                // Not `eprintln`, which the test harness captures.
                let _ = writeln!(std::io::stderr(), "skipped: no ../shared/data");
            }
            folder.is_dir().then(|| Material {
                key_set: read("ita/jwks-production-2023-09.json"),
                token: read("ita/token-tdx-v1-2023-12-05.jwt").trim().to_owned(),
                manifest: read("confer-staging/manifest.json"),
                bundle: read("confer-staging/manifest.bundle.json"),
                proxy_manifest: read("confer-proxy-staging/manifest.json"),
                proxy_bundle: read("confer-proxy-staging/manifest.bundle.json"),
            })
        });
        material.as_ref()
    }

    fn evidence(&self) -> Vec<u8> {
        evidence(
            &self.token,
            self.manifest.as_bytes(),
            self.bundle.as_bytes(),
        )
    }

    /// The production policy, changed for the Sigstore instance and machine of the material.
    fn policy(&self) -> Value {
        let mut policy: Value = serde_json::from_str(Policy::production().json()).unwrap();
        policy["name"] = "real-material".into();
        policy["ita"]["issuers"] = json!(["Intel Trust Authority"]);
        policy["ita"]["jwks"] = serde_json::from_str(&self.key_set).unwrap();
        policy["tdx"]["mrtd"] = json!([claim(&self.token, "tdx_mrtd")]);
        policy["sigstore"]["trusted_root"] =
            serde_json::from_str(SIGSTORE_STAGING_TRUSTED_ROOT).unwrap();
        policy["sigstore"]["identity"] = SIGNER.into();
        policy
    }

    /// The server key in the token.
    fn server_key(&self) -> [u8; 32] {
        let report_data = claim(&self.token, "tdx_report_data");
        let text = report_data.as_str().unwrap();
        std::array::from_fn(|index| {
            u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap()
        })
    }

    fn verify(&self, policy: &Value, now: u64) -> Report {
        verifier(policy).verify(&self.evidence(), &self.server_key(), None, now)
    }
}

fn verifier(policy: &Value) -> Verifier {
    Verifier::new(Policy::parse(policy.to_string().as_bytes()).unwrap()).unwrap()
}

/// Makes evidence as a peer could, with manifest and bundle that may be invalid UTF-8.
fn evidence(token: &str, manifest: &[u8], bundle: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (prefix, text) in [
        ("{\"platform\":\"TDX\",\"attestation\":\"", token.as_bytes()),
        ("\",\"manifest\":\"", manifest),
        ("\",\"manifestBundle\":\"", bundle),
    ] {
        out.extend(prefix.as_bytes());
        for byte in text {
            match byte {
                b'"' | b'\\' => out.extend([b'\\', *byte]),
                0..=0x1f => out.extend(format!("\\u{byte:04x}").bytes()),
                _ => out.push(*byte),
            }
        }
    }
    out.extend(b"\"}");
    out
}

fn claim(token: &str, name: &str) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()[name].take()
}

fn check<'a>(report: &'a Report, id: &str) -> &'a Check {
    report
        .checks()
        .iter()
        .find(|check| check.id().as_str() == id)
        .unwrap()
}

#[track_caller]
fn assert_outcomes(report: &Report, expected: &[(&str, Outcome)]) {
    for (id, outcome) in expected {
        let check = check(report, id);
        assert_eq!(check.outcome(), *outcome, "{check:?}");
    }
}

const RELEASE: [&str; 4] = [
    "release.signature",
    "release.identity",
    "release.log",
    "release.digest",
];

fn release_holds(report: &Report) -> bool {
    RELEASE
        .iter()
        .all(|id| check(report, id).outcome() == Outcome::Pass)
}

#[test]
fn real_token_passes_its_checks_while_it_is_valid() {
    let Some(material) = Material::get() else {
        return;
    };
    let report = material.verify(&material.policy(), IN_2023);
    assert_outcomes(
        &report,
        &[
            ("evidence.format", Outcome::Pass),
            ("platform", Outcome::Pass),
            ("ita.key", Outcome::Pass),
            ("ita.signature", Outcome::Pass),
            ("ita.issuer", Outcome::Pass),
            ("ita.time", Outcome::Pass),
            ("tdx.debug", Outcome::Pass),
            ("tdx.key_binding", Outcome::Pass),
            ("tdx.mrtd", Outcome::Pass),
            ("tdx.seam_svn", Outcome::Pass),
            ("tdx.tcb_status", Outcome::Warn),
            ("tdx.advisories", Outcome::Pass),
            ("tdx.tcb_age", Outcome::Pass),
            // The release is from another machine, and newer than the token.
            ("release.log", Outcome::Fail),
            ("tdx.rtmr1", Outcome::Fail),
            ("tdx.rtmr2", Outcome::Fail),
            ("tdx.release", Outcome::Pass),
        ],
    );
    assert_eq!(report.verdict(), Verdict::Rejected);
    assert_eq!(report.expires_at, Some(1_701_735_250));
    assert_eq!(report.tdx.tcb_status.as_deref(), Some("OutOfDate"));
    assert_eq!(report.tdx.tcb_date.as_deref(), Some("2023-02-15T00:00:00Z"));
    assert_eq!(
        report.tdx.advisories.as_deref(),
        Some(&["INTEL-SA-00837".to_owned()][..])
    );
    assert_eq!(report.tdx.seam_svn, Some(3));
}

#[test]
fn real_token_fails_each_check_of_a_stricter_policy() {
    let Some(material) = Material::get() else {
        return;
    };
    for (pointer, value, id) in [
        ("/platforms", json!(["SEV-SNP"]), "platform"),
        (
            "/ita/issuers",
            json!(["https://portal.trustauthority.intel.com"]),
            "ita.issuer",
        ),
        ("/ita/root_sha256", json!(["00".repeat(32)]), "ita.key"),
        ("/ita/jwks", Value::Null, "ita.key"),
        ("/tdx/mrtd", json!(["00".repeat(48)]), "tdx.mrtd"),
        ("/tdx/min_seam_svn", 4.into(), "tdx.seam_svn"),
        ("/tdx/tcb_status/warn", json!([]), "tdx.tcb_status"),
        (
            "/tdx/deny_advisories",
            json!(["intel-sa-00837"]),
            "tdx.advisories",
        ),
        ("/tdx/max_tcb_age_days", 293.into(), "tdx.tcb_age"),
        (
            "/tdx/releases",
            json!([{"rtmr1": "11".repeat(48), "rtmr2": "00".repeat(48)}]),
            "tdx.release",
        ),
    ] {
        let mut policy = material.policy();
        assert_ne!(
            check(&material.verify(&policy, IN_2023), id).outcome(),
            Outcome::Fail,
            "{id}"
        );
        *policy.pointer_mut(pointer).unwrap() = value;
        let report = material.verify(&policy, IN_2023);
        assert_outcomes(&report, &[(id, Outcome::Fail)]);
        if id == "ita.key" {
            let claims = [
                ("ita.signature", Outcome::Skip),
                ("ita.time", Outcome::Skip),
                ("tdx.mrtd", Outcome::Skip),
            ];
            assert_outcomes(&report, &claims);
            assert_eq!(
                (report.expires_at, &report.tdx.mrtd),
                (None, &None),
                "nothing unproven is shown as a fact"
            );
        }
    }
    let mut policy = material.policy();
    // The patch level is 293 days and ten minutes old.
    policy["tdx"]["max_tcb_age_days"] = 294.into();
    assert_outcomes(
        &material.verify(&policy, IN_2023),
        &[("tdx.tcb_age", Outcome::Pass)],
    );

    let verifier = verifier(&material.policy());
    let report = verifier.verify(&material.evidence(), &[7; 32], None, IN_2023);
    assert_outcomes(&report, &[("tdx.key_binding", Outcome::Fail)]);
}

#[test]
fn real_token_is_valid_until_its_expiry_plus_leeway() {
    let Some(material) = Material::get() else {
        return;
    };
    for (now, outcome) in [
        (1_701_734_889, Outcome::Fail),
        (1_701_734_890, Outcome::Pass),
        (1_701_735_309, Outcome::Pass),
        (1_701_735_310, Outcome::Fail),
    ] {
        assert_outcomes(
            &material.verify(&material.policy(), now),
            &[("ita.time", outcome)],
        );
    }
}

#[test]
fn real_key_is_refused_after_its_certificate_expired() {
    let Some(material) = Material::get() else {
        return;
    };
    // 2024-09-11T11:11:51Z exactly, because certificates get no leeway.
    assert_outcomes(
        &material.verify(&material.policy(), 1_726_053_111),
        &[("ita.key", Outcome::Pass)],
    );
    for now in [1_726_053_112, IN_2026] {
        let report = material.verify(&material.policy(), now);
        assert_outcomes(
            &report,
            &[("ita.key", Outcome::Fail), ("ita.signature", Outcome::Skip)],
        );
    }
}

#[test]
fn real_key_set_is_requested_by_key_id_and_used() {
    let Some(material) = Material::get() else {
        return;
    };
    let mut policy = material.policy();
    policy["ita"]["jwks"] = Value::Null;
    let verifier = verifier(&policy);
    let (evidence, key) = (material.evidence(), material.server_key());

    let kid = verifier
        .needs_keys(&evidence, None)
        .expect("the policy has no key");
    assert!(kid.to_string().starts_with("79d80711b754cceb"));
    let fetched = JwkSet::parse(material.key_set.as_bytes()).unwrap();
    assert_eq!(verifier.needs_keys(&evidence, Some(&fetched)), None);
    let report = verifier.verify(&evidence, &key, Some(&fetched), IN_2023);
    assert_outcomes(
        &report,
        &[("ita.key", Outcome::Pass), ("ita.signature", Outcome::Pass)],
    );

    // The export contains the key, so a replay makes the same report without fetching.
    let export = verifier
        .export(&evidence, &key, Some(&fetched), IN_2023)
        .to_json();
    let replayed = Export::parse(export.as_bytes())
        .unwrap()
        .replay(&verifier, None);
    assert_eq!(replayed, report);
    assert_eq!(
        JwkSet::parse(fetched.to_json().as_bytes()).unwrap(),
        fetched
    );
}

#[test]
fn any_change_of_the_real_key_or_its_certificates_is_refused() {
    let Some(material) = Material::get() else {
        return;
    };
    let set: Value = serde_json::from_str(&material.key_set).unwrap();
    let key = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["alg"] == "PS384")
        .unwrap();
    let mut policy = material.policy();
    policy["ita"]["jwks"] = Value::Null;
    let verifier = verifier(&policy);
    let (evidence, server_key) = (material.evidence(), material.server_key());
    let passes = |key: &Value| {
        let set = JwkSet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        check(
            &verifier.verify(&evidence, &server_key, Some(&set), IN_2023),
            "ita.key",
        )
        .outcome()
            == Outcome::Pass
    };
    assert!(passes(key));

    for name in ["n", "e", "kid", "kty", "alg"] {
        let text = key[name].as_str().unwrap();
        // Every seventh character, because all of them take a minute.
        for index in (0..text.len()).step_by(if text.len() > 200 { 7 } else { 1 }) {
            let mut other = text.as_bytes().to_vec();
            other[index] ^= 1;
            let mut key = key.clone();
            key[name] = String::from_utf8(other).unwrap().into();
            assert!(!passes(&key), "{name}[{index}]");
        }
    }

    let chain = key["x5c"].as_array().unwrap();
    let with = |chain: Vec<&Value>| {
        let mut key = key.clone();
        key["x5c"] = chain.into_iter().cloned().collect();
        key
    };
    let (leaf, ca, root) = (&chain[0], &chain[1], &chain[2]);
    for other in [
        vec![],
        vec![leaf],
        vec![leaf, ca],
        vec![leaf, root],
        vec![leaf, root, ca],
        vec![ca, leaf, root],
        vec![leaf, ca, ca, root],
        vec![leaf, ca, root, root],
        vec![leaf, ca, leaf, root],
        vec![root],
        vec![root, root],
    ] {
        assert!(
            !passes(&with(other.clone())),
            "{} certificates",
            other.len()
        );
    }
}

#[test]
fn token_with_any_changed_byte_is_refused() {
    let Some(material) = Material::get() else {
        return;
    };
    let verifier = verifier(&material.policy());
    let key = material.server_key();
    let token = material.token.as_bytes();
    for index in 0..token.len() {
        let mut other = token.to_vec();
        other[index] ^= 1;
        let other = String::from_utf8(other).unwrap();
        let report = verifier.verify(&evidence(&other, b"{}", b"{}"), &key, None, IN_2023);
        assert!(
            report.tdx.mrtd.is_none() && report.expires_at.is_none(),
            "{index}"
        );
        assert_ne!(
            check(&report, "ita.signature").outcome(),
            Outcome::Pass,
            "{index}"
        );
    }
    for other in [
        format!("{}=", material.token),
        format!("{}.", material.token),
        format!("{}.{}", material.token, "AAAA"),
        format!(" {}", material.token),
        material.token.replacen('.', "..", 1),
        material.token.rsplit_once('.').unwrap().0.to_owned(),
        format!("{}.", material.token.rsplit_once('.').unwrap().0),
    ] {
        let report = verifier.verify(&evidence(&other, b"{}", b"{}"), &key, None, IN_2023);
        assert_outcomes(&report, &[("ita.signature", Outcome::Fail)]);
    }
}

#[test]
fn real_release_verifies_on_staging() {
    let Some(material) = Material::get() else {
        return;
    };
    let verifier = verifier(&material.policy());
    // Twice: the second time the release is known, and the result is the same.
    for _ in 0..2 {
        let report = verifier.verify(&material.evidence(), &material.server_key(), None, IN_2026);
        assert_outcomes(&report, &RELEASE.map(|id| (id, Outcome::Pass)));
        // Register 2 is all zero, so nothing was measured that could be compared.
        assert_outcomes(
            &report,
            &[("tdx.rtmr1", Outcome::Skip), ("tdx.rtmr2", Outcome::Fail)],
        );
        assert_eq!(report.release.image_version.as_deref(), Some("0.1.0-RC11"));
        assert_eq!(report.release.proxy_version, None);
        assert_eq!(report.release.signer.as_deref(), Some(SIGNER));
        assert_eq!(
            report.release.issuer.as_deref(),
            Some("https://accounts.google.com")
        );
        assert_eq!(
            report.release.log.url.as_deref(),
            Some("https://rekor.sigstage.dev")
        );
        assert_eq!(report.release.log.index, Some(55_636_237));
        assert_eq!(report.release.log.integrated_time, Some(LOGGED_AT));
        assert_eq!(
            report.manifest_sha256.as_deref(),
            Some("8a67234082ed420fb97c7aa792841661ec8f9f2be254343c34ac265ddd565d15")
        );
    }
}

#[test]
fn real_release_fails_with_other_signer_root_or_time() {
    let Some(material) = Material::get() else {
        return;
    };
    let with = |pointer: &str, value: Value| {
        let mut policy = material.policy();
        *policy.pointer_mut(pointer).unwrap() = value;
        material.verify(&policy, IN_2026)
    };

    for (pointer, value) in [
        (
            "/sigstore/identity",
            "releases@conferlabs.iam.gserviceaccount.com",
        ),
        (
            "/sigstore/identity",
            "WORKER-image-releases@conferlabs.iam.gserviceaccount.com",
        ),
        ("/sigstore/issuer", "https://accounts.google.com/"),
    ] {
        let report = with(pointer, value.into());
        let others = RELEASE.map(|id| check(&report, id).outcome());
        assert_eq!(
            others,
            [Outcome::Skip, Outcome::Fail, Outcome::Skip, Outcome::Pass],
            "{value}"
        );
        assert_eq!(
            report.release.signer, None,
            "nothing unproven is shown as a fact"
        );
        assert!(
            check(&report, "release.identity")
                .observed()
                .unwrap()
                .contains(SIGNER)
        );
    }

    let report = with("/sigstore/trusted_root", Value::Null);
    assert_outcomes(
        &report,
        &[
            ("release.log", Outcome::Fail),
            ("release.identity", Outcome::Pass),
        ],
    );

    // The log's key expired before the entry, so its promise does not count.
    let mut root: Value = serde_json::from_str(SIGSTORE_STAGING_TRUSTED_ROOT).unwrap();
    root["tlogs"][0]["publicKey"]["validFor"]["end"] = "2026-01-01T00:00:00Z".into();
    assert_outcomes(
        &with("/sigstore/trusted_root", root),
        &[("release.log", Outcome::Fail)],
    );

    // Signed after `now`. The policy's leeway is one minute, also for a known release.
    let verifier = verifier(&material.policy());
    for (now, outcome) in [
        (LOGGED_AT - 61, Outcome::Fail),
        (LOGGED_AT - 60, Outcome::Pass),
        (LOGGED_AT - 61, Outcome::Fail),
        (LOGGED_AT, Outcome::Pass),
    ] {
        let report = verifier.verify(&material.evidence(), &material.server_key(), None, now);
        assert_outcomes(
            &report,
            &[
                ("release.log", outcome),
                ("release.signature", Outcome::Pass),
            ],
        );
    }
}

/// A release of Confer's proxy, signed by the production identity, on a log that only Sigstore's staging root lists: as on
/// the day on which a log rotates.
#[test]
fn real_proxy_release_is_refused_with_a_hint_where_its_log_is_unknown() {
    let Some(material) = Material::get() else {
        return;
    };
    let evidence = evidence(
        &material.token,
        material.proxy_manifest.as_bytes(),
        material.proxy_bundle.as_bytes(),
    );
    let verify =
        |policy: &Value| verifier(policy).verify(&evidence, &material.server_key(), None, IN_2026);
    let production: Value = serde_json::from_str(Policy::production().json()).unwrap();
    let with_root = |root: Value| {
        let mut policy = production.clone();
        policy["sigstore"]["trusted_root"] = root;
        policy
    };

    let staging = serde_json::from_str(SIGSTORE_STAGING_TRUSTED_ROOT).unwrap();
    let report = verify(&with_root(staging));
    assert_outcomes(&report, &RELEASE.map(|id| (id, Outcome::Pass)));
    assert_eq!(report.release.image_version.as_deref(), Some("0.1.10"));
    assert_eq!(
        report.release.proxy_version.as_deref(),
        Some("0.1.18-SNAPSHOT1")
    );

    let unknown = [
        ("release.signature", Outcome::Skip),
        ("release.identity", Outcome::Pass),
        ("release.log", Outcome::Fail),
        ("release.digest", Outcome::Pass),
    ];
    let report = verify(&production);
    assert_outcomes(&report, &unknown);
    let log = check(&report, "release.log");
    assert_eq!(
        log.detail(),
        "The log of the release's signature is unknown: this version's built-in root is of 2026-10-23; a newer library or policy may know it."
    );
    assert_eq!(
        log.expected(),
        Some("rekor.sigstore.dev or log2025-1.rekor.sigstore.dev")
    );
    assert!(
        log.observed()
            .unwrap()
            .starts_with("rekor.sigstage.dev - 8202293616175992157, log id d32f30a3"),
        "{log:?}"
    );

    let own = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    let report = verify(&with_root(own));
    assert_outcomes(&report, &unknown);
    assert_eq!(
        check(&report, "release.log").detail(),
        "The log of the release's signature is unknown: the policy's own sigstore.trusted_root does not list it; a newer one may."
    );
}

const NONE: [usize; 0] = [];

/// Calls `accepted` for each of `0..count` on all cores. Returns those for which it is true.
fn those_accepted(count: usize, accepted: impl Fn(usize) -> bool + Sync) -> Vec<usize> {
    let workers = thread::available_parallelism().map_or(2, |workers| workers.get());
    thread::scope(|scope| {
        let accepted = &accepted;
        let work = |worker: usize| {
            move || {
                (worker..count)
                    .step_by(workers)
                    .filter(|&index| accepted(index))
                    .collect::<Vec<_>>()
            }
        };
        let handles: Vec<_> = (0..workers)
            .map(|worker| scope.spawn(work(worker)))
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap())
            .collect()
    })
}

/// Refuses all 8 × (5,150 + 3,231) flips: the guard accepts only one spelling of each value, and
/// the digest covers each bit of the manifest.
#[test]
fn any_bit_flip_in_the_real_bundle_or_manifest_is_refused() {
    let Some(material) = Material::get() else {
        return;
    };
    let verifier = verifier(&material.policy());
    let accepts = |manifest: &[u8], bundle: &[u8]| {
        release_holds(&verifier.verify(&evidence("", manifest, bundle), &[0; 32], None, IN_2026))
    };
    let (manifest, bundle) = (material.manifest.as_bytes(), material.bundle.as_bytes());
    assert!(accepts(manifest, bundle));

    let flip = |bytes: &[u8], bit: usize| {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    };
    let survivors = those_accepted(8 * bundle.len(), |bit| {
        accepts(manifest, &flip(bundle, bit))
    });
    assert_eq!(survivors, NONE, "bits of the bundle");
    let survivors = those_accepted(8 * manifest.len(), |bit| {
        accepts(&flip(manifest, bit), bundle)
    });
    assert_eq!(survivors, NONE, "bits of the manifest");
}

/// Only white space between JSON tokens may be added, and only white space at the end removed.
#[test]
fn truncated_or_extended_bundle_never_changes_its_meaning() {
    let Some(material) = Material::get() else {
        return;
    };
    let verifier = verifier(&material.policy());
    let (manifest, bundle) = (material.manifest.as_bytes(), material.bundle.as_bytes());
    let meaning: Value = serde_json::from_slice(bundle).unwrap();
    let acceptable = |manifest_: &[u8], bundle: &[u8]| {
        let report = verifier.verify(&evidence("", manifest_, bundle), &[0; 32], None, IN_2026);
        let same = manifest_ == manifest
            && serde_json::from_slice::<Value>(bundle).is_ok_and(|value| value == meaning);
        same || !release_holds(&report)
    };

    let changed = those_accepted(bundle.len(), |length| {
        !acceptable(manifest, &bundle[..length])
    });
    assert_eq!(changed, NONE, "truncations of the bundle");
    let changed = those_accepted(manifest.len(), |length| {
        !acceptable(&manifest[..length], bundle)
    });
    assert_eq!(changed, NONE, "truncations of the manifest");
    for inserted in *b" \n\t\0A0=,\"\\{" {
        let insert = |index: usize| {
            let mut other = bundle.to_vec();
            other.insert(index, inserted);
            other
        };
        let changed = those_accepted(bundle.len(), |index| !acceptable(manifest, &insert(index)));
        assert_eq!(changed, NONE, "insertions of {inserted:#x}");
    }
}

#[test]
fn report_omits_the_token_and_its_signature() {
    let Some(material) = Material::get() else {
        return;
    };
    let report = material.verify(&material.policy(), IN_2023);
    let (json, debug) = (report.to_json(), format!("{report:?}"));
    for part in material.token.split('.') {
        for window in part
            .as_bytes()
            .chunks(24)
            .filter(|window| window.len() == 24)
        {
            let window = std::str::from_utf8(window).unwrap();
            assert!(!json.contains(window) && !debug.contains(window));
        }
    }
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        value["checks"].as_array().unwrap().len(),
        CheckId::ALL.len()
    );
    assert_eq!(
        (&value["version"], &value["verdict"]),
        (&1.into(), &"rejected".into())
    );
    assert_eq!(
        (&value["endpoint"], &value["timings_us"]),
        (&Value::Null, &json!({}))
    );
}
