//! Verifies the release: who signed the enclave's manifest, and the log entry of the signature.
//!
//! `sigstore-verify` verifies signatures, certificates, proofs and timestamps. Before it, [`guard`]
//! checks the bundle's text, because the typed bundle no longer shows unknown keys, duplicate keys
//! and odd spellings. [`log`] checks what the crate leaves to its caller. This file also checks
//! identity and digest, independently of the crate.

mod guard;
mod known;
mod log;
mod signer;

#[cfg(test)]
pub(super) use guard::tests::REKOR_V2;

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::Value;
use sigstore_verify::types::Bundle;
use sigstore_verify::{Error, IdentityMatcher, VerificationPolicy, VerificationResult};

use self::guard::Guarded;
use self::known::Known;
use self::log::Logs;
use self::signer::Signer;
use super::evidence::MAX_EVIDENCE;
use super::hex;
use super::json;
use super::memory::Memory;
use super::plain::plain;
use super::policy::{Measurement, SigstorePolicy};
use super::report::{Finding, LogFacts, Passing, ReleaseFacts, shown};
use crate::clock::in_words;

/// Most verified releases that a [`Releases`] remembers. A service runs one or two at a time.
const MAX_REMEMBERED: usize = 16;

/// The results of the four checks of a release.
pub(super) struct Appraisal {
    pub(super) signature: Finding,
    pub(super) identity: Finding,
    pub(super) log: Finding,
    pub(super) digest: Finding,
    /// The manifest, if it is a JSON object. The TDX checks use its measurements even if its
    /// signature is invalid: the enclave is refused then, but the report can still say what it
    /// runs.
    pub(super) manifest: Option<Manifest>,
    /// The proven facts. Empty unless all four checks hold.
    pub(super) facts: ReleaseFacts,
}

/// Content of the manifest.
pub(super) struct Manifest {
    image_version: Option<String>,
    proxy_version: Option<String>,
    pub(super) rtmr1: Option<Measurement>,
    pub(super) rtmr2: Option<Measurement>,
}

/// Verifies releases for one policy.
pub(super) struct Releases {
    sigstore: sigstore_verify::Verifier,
    logs: Logs,
    known: Known,
    policy: VerificationPolicy,
    identity: String,
    issuer: String,
    remembered: Mutex<Vec<Remembered>>,
}

/// A verified release. Each verification checks again what depends on the time.
#[derive(Clone, Copy)]
struct Remembered {
    /// SHA-256 over manifest and bundle.
    name: [u8; 32],
    proven: Proven,
}

/// The facts that `sigstore-verify` proved.
#[derive(Clone, Copy)]
struct Proven {
    /// The earliest and latest authenticated signing time, in Unix seconds.
    signed_at: [u64; 2],
}

/// The proof, or the check that `sigstore-verify`'s first error belongs to, and its message.
type Proof = Result<Proven, (Part, String)>;

/// The check that an error of `sigstore-verify` belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Signature,
    Identity,
    Log,
    Digest,
}

impl Releases {
    /// # Errors
    /// A sentence, if the trusted root is unusable.
    pub(super) fn new(policy: &SigstorePolicy) -> Result<Releases, String> {
        let sigstore = sigstore_verify::Verifier::new(&policy.trusted_root)
            .map_err(|error| shown(&error.to_string()))?;
        let identity = IdentityMatcher::Email(policy.identity.clone());
        Ok(Releases {
            sigstore,
            logs: Logs::new(&policy.trusted_root)?,
            known: Known::new(policy),
            policy: VerificationPolicy::new(identity, policy.issuer.clone()),
            identity: policy.identity.clone(),
            issuer: policy.issuer.clone(),
            remembered: Mutex::new(Vec::new()),
        })
    }

    /// Runs the four checks. `now` is in Unix seconds, `leeway` in seconds.
    pub(super) fn appraise(
        &self,
        manifest: &str,
        bundle: &str,
        now: u64,
        leeway: u64,
        memory: Memory,
    ) -> Appraisal {
        let stated = Manifest::read(manifest);
        let guarded = match guard::read(bundle) {
            Ok(guarded) => guarded,
            Err(problem) => return Appraisal::unreadable(stated, &problem.to_string()),
        };

        let name = name(manifest, bundle);
        let recalled = if memory == Memory::Use {
            self.recall(&name)
        } else {
            None
        };
        let (logged, proven) = match recalled {
            Some(proven) => (Ok(()), Ok(proven)),
            None => {
                let proven = self.prove(manifest, bundle);
                (self.logged(&guarded, &proven), proven)
            }
        };

        let signer = Signer::read(&guarded.certificate);
        let mut appraisal = Appraisal {
            signature: self.signature(&guarded, &proven),
            identity: self.identity(signer.as_ref(), &proven),
            log: log_entry(&guarded, logged, &proven, now, leeway),
            digest: digests(manifest, &stated, &guarded, &proven),
            manifest: stated.ok(),
            facts: ReleaseFacts::default(),
        };
        let holds = [
            &appraisal.signature,
            &appraisal.identity,
            &appraisal.log,
            &appraisal.digest,
        ];
        if holds.into_iter().all(Finding::holds) {
            appraisal.facts =
                self.facts(appraisal.manifest.as_ref(), signer.ok().as_ref(), &guarded);
            if let (Memory::Use, None, Ok(proven)) = (memory, recalled, proven) {
                self.remember(Remembered { name, proven });
            }
        }
        appraisal
    }

    /// Checks what this module requires of the log.
    fn logged(&self, guarded: &Guarded, proven: &Proof) -> Result<(), Finding> {
        self.logs.check(guarded, &self.known)?;
        if let Err((Part::Log, error)) = proven
            && let Some(missing) = self.known.missing_for_timestamps(&guarded.timestamps)
        {
            return Err(Finding::fail(missing).observed(error));
        }
        let times = proven.as_ref().map_or(&[][..], |proven| &proven.signed_at);
        times
            .iter()
            .try_for_each(|time| self.logs.valid_at(&guarded.entry.log_id, *time))
    }

    fn recall(&self, name: &[u8; 32]) -> Option<Proven> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered
            .iter()
            .find(|release| release.name == *name)
            .map(|release| release.proven)
    }

    fn remember(&self, release: Remembered) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() == MAX_REMEMBERED {
            remembered.remove(0);
        }
        remembered.push(release);
    }

    /// Verifies certificate chain, SCT, signature, entry, proof, checkpoint and timestamps with
    /// `sigstore-verify`, without any of its `skip_…` options. It stops at its first error.
    fn prove(&self, manifest: &str, bundle: &str) -> Proof {
        let bundle = Bundle::from_json(bundle).map_err(|error| (Part::Log, error.to_string()))?;
        let result = self
            .sigstore
            .verify(manifest.as_bytes(), &bundle, &self.policy)
            .map_err(|error| (part(&error), plain(&error.to_string())))?;
        complete(&result)
            .ok_or_else(|| (Part::Signature, "the verification was not complete".into()))
    }

    fn signature(&self, guarded: &Guarded, proven: &Proof) -> Finding {
        match proven {
            Ok(_) => Finding::pass(
                "The manifest's signature verifies, with a certificate from an authority that the trusted root lists.",
            ),
            Err((Part::Signature, error)) => {
                let missing = self.known.missing_for_certificate(&guarded.certificate);
                let forged =
                    || "The manifest's signature or its certificate does not verify.".to_owned();
                Finding::fail(missing.unwrap_or_else(forged)).observed(error)
            }
            Err(_) => not_reached(),
        }
    }

    fn identity(&self, signer: Result<&Signer, &Finding>, proven: &Proof) -> Finding {
        let expected = format!("{} by {}", self.identity, self.issuer);
        let signer = match signer {
            Ok(signer) => signer,
            Err(finding) => return finding.clone().expected(expected),
        };
        let refused = matches!(proven, Err((Part::Identity, _)));
        let finding = if signer.email == self.identity && signer.issuer == self.issuer && !refused {
            Finding::pass("The release's signer is the one that the policy names.")
        } else {
            Finding::fail("The release's signer is not the one that the policy names.")
        };
        finding
            .expected(expected)
            .observed(format!("{} by {}", signer.email, signer.issuer))
    }

    fn facts(
        &self,
        manifest: Option<&Manifest>,
        signer: Option<&Signer>,
        guarded: &Guarded,
    ) -> ReleaseFacts {
        ReleaseFacts {
            image_version: manifest.and_then(|manifest| manifest.image_version.clone()),
            proxy_version: manifest.and_then(|manifest| manifest.proxy_version.clone()),
            signer: signer.map(|signer| shown(&signer.email)),
            issuer: signer.map(|signer| shown(&signer.issuer)),
            log: LogFacts {
                url: self.logs.url(&guarded.entry.log_id).map(shown),
                index: Some(guarded.entry.log_index),
                integrated_time: guarded.entry.integrated_time,
            },
        }
    }
}

impl Appraisal {
    /// Makes the results for a malformed bundle. It is not passed on, and nothing in it is used.
    fn unreadable(manifest: Result<Manifest, Finding>, problem: &str) -> Appraisal {
        let skip = || Finding::skip("Not evaluated: the release's bundle is not well formed.");
        let (digest, manifest) = match manifest {
            Ok(manifest) => (skip(), Some(manifest)),
            Err(finding) => (finding, None),
        };
        Appraisal {
            signature: skip(),
            identity: skip(),
            log: Finding::fail("The release's bundle is malformed, or not in the one form that this library accepts.")
                .observed(problem),
            digest,
            manifest,
            facts: ReleaseFacts::default(),
        }
    }

    /// Makes the results for evidence without manifest or bundle. A manifest without bundle still
    /// says what the enclave claims to run.
    pub(super) fn incomplete(manifest: Option<&str>) -> Appraisal {
        let skip = || Finding::skip("Not evaluated: the evidence has no manifest with a bundle.");
        Appraisal {
            signature: skip(),
            identity: skip(),
            log: skip(),
            digest: skip(),
            manifest: manifest.and_then(|manifest| Manifest::read(manifest).ok()),
            facts: ReleaseFacts::default(),
        }
    }
}

fn not_reached() -> Finding {
    Finding::skip("Not evaluated: another check of the release failed first.")
}

/// `release.log`. `logged` is the result of this module's checks of the log.
fn log_entry(
    guarded: &Guarded,
    logged: Result<(), Finding>,
    proven: &Proof,
    now: u64,
    leeway: u64,
) -> Finding {
    if let Err(problem) = logged {
        return problem;
    }
    // sigstore-verify compares signing times with the system's clock. This pure function compares
    // them with `now`, and does so first, so that a time in the future always gives the same
    // result.
    let latest = now.saturating_add(leeway);
    let proven_time = proven.as_ref().ok().map(|proven| proven.signed_at[1]);
    let signed_at = guarded.entry.integrated_time.max(proven_time);
    if let Some(time) = signed_at.filter(|time| *time > latest) {
        return Finding::fail("The release was signed after the time of this verification.")
            .expected(format!(
                "a signature before {}, give or take {leeway} s",
                in_words(now)
            ))
            .observed(in_words(time))
            .passing(Passing::Clock);
    }
    match proven {
        Ok(_) => {}
        Err((Part::Log, error)) => {
            return Finding::fail("The release's log entry does not verify.").observed(error);
        }
        Err(_) => return not_reached(),
    }
    Finding::pass("The signature is in a public log that the policy's trusted root lists.")
        .observed(format!("entry {}", guarded.entry.log_index))
}

/// `release.digest`: the digests are equal, and the manifest can be read in only one way.
fn digests(
    manifest: &str,
    stated: &Result<Manifest, Finding>,
    guarded: &Guarded,
    proven: &Proof,
) -> Finding {
    if let Err(finding) = stated {
        return finding.clone();
    }
    let actual = digest(&SHA256, manifest.as_bytes());
    for (whose, other) in [
        ("bundle", &guarded.digest),
        ("log entry", &guarded.entry.digest),
    ] {
        if actual.as_ref() != other {
            return Finding::fail(format!(
                "The manifest's digest differs from the one in the {whose}."
            ))
            .expected(hex::encode(other))
            .observed(hex::encode(actual.as_ref()));
        }
    }
    match proven {
        Err((Part::Digest, error)) => {
            Finding::fail("The manifest is not the one that was signed.").observed(error)
        }
        _ => Finding::pass("Manifest, bundle and log entry have the same digest.")
            .observed(hex::encode(actual.as_ref())),
    }
}

/// Identifies a release. The length separates manifest and bundle.
fn name(manifest: &str, bundle: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&(manifest.len() as u64).to_le_bytes());
    context.update(manifest.as_bytes());
    context.update(bundle.as_bytes());
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}

/// Returns the check that an error belongs to. A new kind of error belongs to the signature, so
/// that it fails closed.
fn part(error: &Error) -> Part {
    match error {
        Error::IdentityMismatch { .. } | Error::IssuerMismatch { .. } => Part::Identity,
        Error::ArtifactMismatch(_) | Error::UnsupportedArtifact(_) | Error::ArtifactRead(_) => {
            Part::Digest
        }
        Error::TransparencyLog(_)
        | Error::Timestamp(_)
        | Error::InvalidBundle(_)
        | Error::UnsupportedBundle(_)
        | Error::Bundle(_)
        | Error::Types(_) => Part::Log,
        _ => Part::Signature,
    }
}

/// Returns the proven facts if the crate skipped no step, as its options could make it do.
fn complete(result: &VerificationResult) -> Option<Proven> {
    let all = result.certificate_verified()
        && result.sct_verified()
        && result.tlog_verified()
        && result.identity_policy_checked();
    let times = || {
        let times = result.verified_timestamps().iter();
        times.map(|time| time.as_second())
    };
    let seconds = |time: i64| u64::try_from(time).ok();
    all.then_some(Proven {
        signed_at: [seconds(times().min()?)?, seconds(times().max()?)?],
    })
}

impl Manifest {
    fn read(text: &str) -> Result<Manifest, Finding> {
        let problem = match json::parse(text.as_bytes(), MAX_EVIDENCE) {
            Ok(Value::Object(manifest)) => {
                let word = |name: &str| manifest.get(name).and_then(Value::as_str).map(shown);
                let measurements = manifest.get("tdxMeasurements");
                let register = |name: &str| hex::decode(measurements?.get(name)?.as_str()?);
                return Ok(Manifest {
                    image_version: word("imageVersion"),
                    proxy_version: word("proxyVersion"),
                    rtmr1: register("rtmr1"),
                    rtmr2: register("rtmr2"),
                });
            }
            Ok(_) => "a JSON value of another type".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(
            Finding::fail("The manifest is not one well-formed JSON object.")
                .expected("a JSON object")
                .observed(problem),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sigstore_verify::trust_root::{
        SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT,
    };

    use super::*;
    use crate::attestation::Policy;
    use crate::attestation::report::{CheckId, Outcome};

    const ARTIFACT: &str = include_str!("release/testdata/staging-rekor-v2.txt");
    /// After its timestamp of 2025-06-09T11:57:38Z.
    const NOW: u64 = 1_749_470_258;

    fn releases(identity: &str, issuer: &str) -> Releases {
        releases_by(identity, issuer, |_| ())
    }

    fn releases_by(identity: &str, issuer: &str, change: impl FnOnce(&mut Value)) -> Releases {
        let mut policy: Value = serde_json::from_str(Policy::production().json()).unwrap();
        let mut root: Value = serde_json::from_str(SIGSTORE_STAGING_TRUSTED_ROOT).unwrap();
        change(&mut root);
        policy["sigstore"] =
            json!({ "trusted_root": root, "identity": identity, "issuer": issuer });
        Releases::new(
            &Policy::parse(policy.to_string().as_bytes())
                .unwrap()
                .sigstore,
        )
        .unwrap()
    }

    fn appraise(manifest: &str, bundle: &str, now: u64) -> [Outcome; 4] {
        let releases = releases("jku@goto.fi", "https://github.com/login/oauth");
        outcomes(releases.appraise(manifest, bundle, now, 0, Memory::Use))
    }

    fn outcomes(appraisal: Appraisal) -> [Outcome; 4] {
        let Appraisal {
            signature,
            identity,
            log,
            digest,
            ..
        } = appraisal;
        [signature, identity, log, digest].map(|finding| finding.at(CheckId::ReleaseLog).outcome())
    }

    use Outcome::{Fail, Pass, Skip};

    /// The artifact of this bundle is not a manifest, so only `release.digest` fails.
    #[test]
    fn real_rekor_v2_entry_verifies_by_proof_and_timestamp() {
        assert_eq!(appraise(ARTIFACT, REKOR_V2, NOW), [Pass, Pass, Pass, Fail]);
    }

    /// `sigstore-verify` checks this only for v1 entries.
    #[test]
    fn log_key_outside_its_validity_is_refused() {
        let long_ago = "2020-01-01T00:00:00Z";
        for (period, outcome) in [
            (
                json!({ "start": long_ago, "end": "2025-06-09T11:57:37Z" }),
                Fail,
            ),
            (
                json!({ "start": long_ago, "end": "2025-06-09T11:57:39Z" }),
                Pass,
            ),
            (json!({ "start": "2025-06-09T11:57:39Z" }), Fail),
        ] {
            let releases = releases_by("jku@goto.fi", "https://github.com/login/oauth", |root| {
                for log in root["tlogs"].as_array_mut().unwrap() {
                    log["publicKey"]["validFor"] = period.clone();
                }
            });
            let appraisal = releases.appraise(ARTIFACT, REKOR_V2, NOW, 0, Memory::Leave);
            assert_eq!(outcomes(appraisal)[2], outcome, "{period}");
        }
    }

    /// As after a rotation of one part of Sigstore.
    #[test]
    fn unknown_logs_and_authorities_are_named_with_the_root() {
        let production: Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
        for (list, check, what) in [
            (
                "tlogs",
                CheckId::ReleaseLog,
                "The log of the release's signature",
            ),
            (
                "timestampAuthorities",
                CheckId::ReleaseLog,
                "The authority of the release's timestamp",
            ),
            (
                "certificateAuthorities",
                CheckId::ReleaseSignature,
                "The authority that issued the signing certificate",
            ),
            (
                "ctlogs",
                CheckId::ReleaseSignature,
                "The certificate log of the signing certificate",
            ),
        ] {
            let older = |root: &mut Value| root[list] = production[list].clone();
            let mut releases = releases_by("jku@goto.fi", "https://github.com/login/oauth", older);
            for (built_in, why) in [
                (
                    true,
                    "this version's built-in root is of 2026-10-23; a newer library or policy may know it.",
                ),
                (
                    false,
                    "the policy's own sigstore.trusted_root does not list it; a newer one may.",
                ),
            ] {
                releases.known.built_in = built_in;
                let appraisal = releases.appraise(ARTIFACT, REKOR_V2, NOW, 0, Memory::Leave);
                let finding = match check {
                    CheckId::ReleaseLog => appraisal.log,
                    _ => appraisal.signature,
                };
                let found = finding.at(check);
                assert_eq!(found.outcome(), Outcome::Fail, "{list}");
                assert_eq!(found.detail(), format!("{what} is unknown: {why}"));
            }
        }
    }

    #[test]
    fn timestamp_after_now_is_refused() {
        assert_eq!(
            appraise(ARTIFACT, REKOR_V2, NOW - 1),
            [Pass, Pass, Fail, Fail]
        );
    }

    #[test]
    fn unsigned_manifest_fails_its_digest() {
        assert_eq!(appraise("{}", REKOR_V2, NOW), [Skip, Pass, Skip, Fail]);
    }

    #[test]
    fn malformed_bundle_is_not_passed_on() {
        for bundle in [
            "",
            "{}",
            "null",
            &REKOR_V2.replacen("bundle.v0.3+json", "bundle+json;version=0.1", 1),
        ] {
            assert_eq!(appraise("{}", bundle, NOW), [Skip, Skip, Fail, Skip]);
            assert_eq!(appraise("[]", bundle, NOW), [Skip, Skip, Fail, Fail]);
        }
    }

    #[test]
    fn signer_and_issuer_must_match_the_policy() {
        for (identity, issuer) in [
            ("jku@goto.fi ", "https://github.com/login/oauth"),
            ("JKU@goto.fi", "https://github.com/login/oauth"),
            ("jku@goto.fi", "https://github.com/login/oauth/"),
        ] {
            let appraisal =
                releases(identity, issuer).appraise(ARTIFACT, REKOR_V2, NOW, 0, Memory::Use);
            assert_eq!(outcomes(appraisal), [Skip, Fail, Skip, Fail]);
        }
    }

    /// Even if `sigstore-verify` accepted them, this file checks signer and digest too.
    #[test]
    fn signer_and_digest_are_checked_here_too() {
        let releases = releases("jku@goto.fi", "https://github.com/login/oauth");
        let proven = Ok(Proven { signed_at: [0; 2] });
        let identity = |email: &str, issuer: &str| {
            let (email, issuer) = (email.to_owned(), issuer.to_owned());
            let finding = releases.identity(Ok(&Signer { email, issuer }), &proven);
            finding.at(CheckId::ReleaseIdentity).outcome()
        };
        assert_eq!(
            identity("jku@goto.fi", "https://github.com/login/oauth"),
            Pass
        );
        assert_eq!(
            identity("jku@goto.fj", "https://github.com/login/oauth"),
            Fail
        );
        assert_eq!(identity("jku@goto.fi", "https://accounts.google.com"), Fail);

        let digests = |manifest: &str, change: &dyn Fn(&mut Guarded)| {
            let mut guarded = guard::read(REKOR_V2).ok().unwrap();
            let actual = digest(&SHA256, manifest.as_bytes())
                .as_ref()
                .try_into()
                .unwrap();
            (guarded.digest, guarded.entry.digest) = (actual, actual);
            change(&mut guarded);
            digests(manifest, &Manifest::read(manifest), &guarded, &proven)
                .at(CheckId::ReleaseDigest)
                .outcome()
        };
        assert_eq!(digests("{}", &|_| {}), Pass);
        assert_eq!(digests("[]", &|_| {}), Fail);
        assert_eq!(digests("{}", &|guarded| guarded.digest[31] ^= 1), Fail);
        assert_eq!(digests("{}", &|guarded| guarded.entry.digest[0] ^= 1), Fail);
    }

    /// Flips the first and last bit of every base64 value of the bundle.
    #[test]
    fn changed_value_in_a_rekor_v2_bundle_is_refused() {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let material = "/verificationMaterial";
        let entry = format!("{material}/tlogEntries/0");
        for pointer in [
            format!("{material}/certificate/rawBytes"),
            format!("{entry}/logId/keyId"),
            format!("{entry}/inclusionProof/rootHash"),
            format!("{entry}/inclusionProof/hashes/0"),
            format!("{entry}/inclusionProof/hashes/3"),
            format!("{entry}/canonicalizedBody"),
            format!("{material}/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp"),
            "/messageSignature/messageDigest/digest".into(),
            "/messageSignature/signature".into(),
        ] {
            for last in [false, true] {
                let mut bundle: Value = serde_json::from_str(REKOR_V2).unwrap();
                let value = bundle.pointer_mut(&pointer).unwrap();
                let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
                let index = if last { bytes.len() - 1 } else { 0 };
                bytes[index] ^= if last { 1 } else { 0x80 };
                *value = STANDARD.encode(bytes).into();
                let [signature, identity, log, _] = appraise(ARTIFACT, &bundle.to_string(), NOW);
                let digest_alone = pointer.ends_with("digest");
                assert!(
                    digest_alone || [signature, identity, log] != [Pass; 3],
                    "{pointer} {last}"
                );
                assert!(!digest_alone || signature == Skip, "{pointer} {last}");
                // By the specification, a time that no authority signed fails the log check.
                let timestamp = pointer.ends_with("signedTimestamp");
                assert!(!timestamp || log == Fail, "{pointer} {last}");
            }
        }
    }

    #[test]
    fn few_releases_are_remembered_and_no_replays() {
        let releases = releases("a@b.c", "https://d.e");
        let release = |index: u8| Remembered {
            name: [index; 32],
            proven: Proven { signed_at: [0; 2] },
        };
        for index in 0..=MAX_REMEMBERED as u8 {
            releases.remember(release(index));
        }
        assert!(releases.recall(&[0; 32]).is_none());
        assert!(releases.recall(&[1; 32]).is_some());
        assert_eq!(releases.remembered.lock().unwrap().len(), MAX_REMEMBERED);
    }

    #[test]
    fn only_connections_use_remembered_releases() {
        let releases = releases("jku@goto.fi", "https://github.com/login/oauth");
        let appraise = |memory| outcomes(releases.appraise("{}", REKOR_V2, NOW, 0, memory));
        assert_eq!(appraise(Memory::Use), [Skip, Pass, Skip, Fail]);
        // A remembered release skips the signatures, but no other check.
        releases.remember(Remembered {
            name: name("{}", REKOR_V2),
            proven: Proven { signed_at: [0; 2] },
        });
        assert_eq!(appraise(Memory::Use), [Pass, Pass, Pass, Fail]);
        assert_eq!(appraise(Memory::Leave), [Skip, Pass, Skip, Fail]);
    }

    #[test]
    fn signing_certificate_has_one_email_and_one_issuer() {
        use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
        const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
        let email = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
        let read = |names: Vec<SanType>, issuers: &[&str]| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            params.custom_extensions = issuers
                .iter()
                .map(|issuer| {
                    let utf8 = [&[0x0c, issuer.len() as u8], issuer.as_bytes()].concat();
                    CustomExtension::from_oid_content(&ISSUER, utf8)
                })
                .collect();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            Signer::read(certificate.der())
                .map(|signer| (signer.email, signer.issuer))
                .ok()
        };
        assert_eq!(
            read(vec![email("a@b.c")], &["https://d.e"]),
            Some(("a@b.c".into(), "https://d.e".into()))
        );
        for (names, issuers) in [
            (vec![email("a@b.c"), email("a@b.c")], &["https://d.e"][..]),
            (
                vec![email("a@b.c"), SanType::DnsName("b.c".try_into().unwrap())],
                &["https://d.e"],
            ),
            (
                vec![SanType::URI("a@b.c".try_into().unwrap())],
                &["https://d.e"],
            ),
            (vec![], &["https://d.e"]),
            (vec![email("a@b.c")], &[]),
            (vec![email("a@b.c")], &["https://d.e", "https://d.e"]),
        ] {
            assert_eq!(read(names, issuers), None);
        }
        assert!(Signer::read(b"no certificate").is_err());
    }

    #[test]
    fn release_id_separates_manifest_and_bundle() {
        assert_ne!(name("a", "bc"), name("ab", "c"));
        assert_eq!(name("a", "bc"), name("a", "bc"));
    }

    #[test]
    fn manifest_is_an_object_with_optional_measurements() {
        for text in ["", "[]", "null", "\"x\"", r#"{"a":1,"a":1}"#, "{} x"] {
            assert!(Manifest::read(text).is_err(), "{text}");
        }
        let of = |measurements: Value| {
            Manifest::read(&json!({ "tdxMeasurements": measurements }).to_string())
                .ok()
                .unwrap()
                .rtmr1
        };
        assert_eq!(of(json!({ "rtmr1": "ab".repeat(48) })), Some([0xab; 48]));
        for other in [
            json!({ "rtmr1": "AB".repeat(48) }),
            json!({ "rtmr1": "ab".repeat(47) }),
            json!({ "rtmr1": 1 }),
            json!({}),
            json!([]),
            json!(null),
        ] {
            assert_eq!(of(other), None);
        }
    }
}
