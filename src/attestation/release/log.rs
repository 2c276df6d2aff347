//! Checks that a checkpoint belongs to the log in the entry, which `sigstore-verify` does not
//! check.
//!
//! The crate accepts a checkpoint of any log in the trusted root, with any origin. For Rekor v2 it
//! also accepts an expired log key. This file knows nothing of signers and manifests.

use jiff::Timestamp;
use sigstore_verify::crypto::VerificationKey;
use sigstore_verify::trust_root::{TimeRange, TrustedRoot};
use sigstore_verify::types::SignatureBytes;
use url::Url;

use super::guard::{Guarded, Rekor};
use super::known::Known;
use crate::attestation::hex;
use crate::attestation::report::{Finding, shown};
use crate::clock::in_words;

/// The logs of a trusted root.
pub(super) struct Logs(Vec<Log>);

struct Log {
    id: [u8; 32],
    url: String,
    host: String,
    key: VerificationKey,
    /// Validity of its key.
    valid_for: Option<TimeRange>,
}

impl Logs {
    /// # Errors
    /// A sentence, if a log has no usable identifier, address or key.
    pub(super) fn new(root: &TrustedRoot) -> Result<Logs, String> {
        let log = |log: &sigstore_verify::trust_root::TransparencyLog| {
            let unusable = |problem: &str| format!("the log {} {problem}", shown(&log.base_url));
            let id = log
                .log_id
                .key_id
                .as_bytes()
                .try_into()
                .map_err(|_| unusable("has no identifier of 32 bytes"))?;
            let host = Url::parse(&log.base_url)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned));
            Ok(Log {
                id,
                url: log.base_url.clone(),
                host: host.ok_or_else(|| unusable("has no host in its address"))?,
                key: VerificationKey::from_spki(&log.public_key.raw_bytes)
                    .map_err(|_| unusable("has no usable key"))?,
                valid_for: log.public_key.valid_for,
            })
        };
        root.tlogs
            .iter()
            .map(log)
            .collect::<Result<_, _>>()
            .map(Logs)
    }

    fn find(&self, id: &[u8; 32]) -> Option<&Log> {
        self.0.iter().find(|log| log.id == *id)
    }

    /// Returns the base URL of a log.
    pub(super) fn url(&self, id: &[u8; 32]) -> Option<&str> {
        self.find(id).map(|log| log.url.as_str())
    }

    /// Checks that the log's key was valid at a proven signing time, in Unix seconds.
    /// `sigstore-verify` does so only for the promise of a v1 entry, so this checks every entry.
    pub(super) fn valid_at(&self, id: &[u8; 32], time: u64) -> Result<(), Finding> {
        let instant = i64::try_from(time)
            .ok()
            .and_then(|time| Timestamp::from_second(time).ok());
        let valid = self.find(id).zip(instant).is_some_and(|(log, instant)| {
            let period = log.valid_for.as_ref();
            period.is_none_or(|period| period.contains(instant))
        });
        if valid {
            return Ok(());
        }
        Err(
            Finding::fail("The log's key was not valid when the release was signed.")
                .observed(format!("signed at {}", in_words(time))),
        )
    }

    /// Checks that the checkpoint belongs to the entry's log and to the proof's tree.
    pub(super) fn check(&self, guarded: &Guarded, known: &Known) -> Result<(), Finding> {
        let entry = &guarded.entry;
        let checkpoint = &entry.checkpoint;
        let Some(log) = self.find(&entry.log_id) else {
            let listed: Vec<_> = self.0.iter().map(|log| log.host.as_str()).collect();
            return Err(
                Finding::fail(known.lacks("The log of the release's signature"))
                    .expected(listed.join(" or "))
                    .observed(format!(
                        "{}, log id {}",
                        checkpoint.origin,
                        hex::encode(&entry.log_id)
                    )),
            );
        };

        let named = match entry.rekor {
            Rekor::V1 => checkpoint
                .origin
                .strip_prefix(&log.host)
                .and_then(|rest| rest.strip_prefix(" - "))
                .is_some_and(|tree| {
                    !tree.is_empty() && tree.bytes().all(|digit| digit.is_ascii_digit())
                }),
            Rekor::V2 => checkpoint.origin == log.host,
        };
        if !named {
            return Err(
                Finding::fail("The checkpoint is from another log than the entry names.")
                    .expected(&log.host)
                    .observed(&checkpoint.origin),
            );
        }
        if checkpoint.tree_size != entry.tree_size || checkpoint.root_hash != entry.root_hash {
            return Err(Finding::fail(
                "The checkpoint is about another tree than the inclusion proof.",
            )
            .expected(format!(
                "size {}, root {}",
                checkpoint.tree_size,
                hex::encode(&checkpoint.root_hash)
            ))
            .observed(format!(
                "size {}, root {}",
                entry.tree_size,
                hex::encode(&entry.root_hash)
            )));
        }

        // Witnesses may sign too, with other names. Exactly one signature has the log's name.
        let mut own = checkpoint
            .signatures
            .iter()
            .filter(|signature| signature.name == log.host);
        let (Some(signature), None) = (own.next(), own.next()) else {
            return Err(Finding::fail(
                "The checkpoint does not have exactly one signature by its log.",
            )
            .expected(&log.host));
        };
        let bytes = SignatureBytes::from_bytes(&signature.signature);
        if log.id[..4] != signature.key_hint
            || log.key.verify(checkpoint.text.as_bytes(), &bytes).is_err()
        {
            return Err(Finding::fail(
                "The checkpoint's signature does not verify with its log's key.",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::super::guard::{Checkpoint, Entry, NoteSignature};
    use super::*;
    use crate::attestation::report::CheckId;

    const HOST: &str = "log.example";
    const ROOT: [u8; 32] = [7; 32];
    const SIZE: u64 = 42;

    struct Signer {
        key: EcdsaKeyPair,
        spki: Vec<u8>,
        id: [u8; 32],
    }

    impl Signer {
        fn new() -> Signer {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
                .unwrap()
                .as_ref()
                .to_vec();
            let id = digest(&SHA256, &spki).as_ref().try_into().unwrap();
            Signer { key, spki, id }
        }

        fn log(&self, url: &str) -> serde_json::Value {
            json!({
                "baseUrl": url, "hashAlgorithm": "SHA2_256",
                "publicKey": { "rawBytes": STANDARD.encode(&self.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256" },
                "logId": { "keyId": STANDARD.encode(self.id) },
            })
        }

        fn sign(&self, name: &str, text: &str) -> NoteSignature {
            let signature = self
                .key
                .sign(&SystemRandom::new(), text.as_bytes())
                .unwrap();
            NoteSignature {
                name: name.into(),
                key_hint: self.id[..4].try_into().unwrap(),
                signature: signature.as_ref().to_vec(),
            }
        }
    }

    fn logs(entries: Vec<serde_json::Value>) -> Logs {
        let root = json!({ "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": entries });
        Logs::new(&TrustedRoot::from_json(&root.to_string()).unwrap()).unwrap()
    }

    /// Makes a bundle whose checkpoint states this origin, with a valid signature of `signer`.
    fn guarded(rekor: Rekor, origin: &str, signer: &Signer) -> Guarded {
        let text = format!("{origin}\n{SIZE}\n{}\n", STANDARD.encode(ROOT));
        Guarded {
            certificate: Vec::new(),
            digest: [0; 32],
            timestamps: Vec::new(),
            entry: Entry {
                rekor,
                log_id: signer.id,
                log_index: 1,
                integrated_time: None,
                digest: [0; 32],
                tree_size: SIZE,
                root_hash: ROOT,
                checkpoint: Checkpoint {
                    origin: origin.into(),
                    tree_size: SIZE,
                    root_hash: ROOT,
                    signatures: vec![signer.sign(HOST, &text)],
                    text,
                },
            },
        }
    }

    fn checked(logs: &Logs, guarded: &Guarded) -> Result<(), Finding> {
        logs.check(guarded, &Known::default())
    }

    fn detail(result: Result<(), Finding>) -> String {
        result
            .expect_err("accepted")
            .at(CheckId::ReleaseLog)
            .detail()
            .to_owned()
    }

    #[test]
    fn checkpoint_must_name_the_host_of_its_log() {
        let signer = Signer::new();
        let logs = logs(vec![signer.log("https://log.example/api")]);
        assert!(checked(&logs, &guarded(Rekor::V2, "log.example", &signer)).is_ok());
        assert!(
            checked(
                &logs,
                &guarded(Rekor::V1, "log.example - 8202293616175992157", &signer)
            )
            .is_ok()
        );
        for (rekor, origin) in [
            (Rekor::V2, "log.example - 1"),
            (Rekor::V2, "other.example"),
            (Rekor::V2, "log.example.org"),
            (Rekor::V2, "LOG.example"),
            (Rekor::V1, "log.example"),
            (Rekor::V1, "log.example - "),
            (Rekor::V1, "log.example - 1a"),
            (Rekor::V1, "log.example - 1 - 2"),
            (Rekor::V1, "log.example.org - 1"),
            (Rekor::V1, "other.example - 1"),
        ] {
            assert_eq!(
                detail(checked(&logs, &guarded(rekor, origin, &signer))),
                "The checkpoint is from another log than the entry names.",
                "{origin}"
            );
        }
    }

    #[test]
    fn checkpoint_of_another_listed_log_is_refused() {
        let (named, other) = (Signer::new(), Signer::new());
        let logs = logs(vec![
            named.log("https://log.example"),
            other.log("https://log.example"),
        ]);
        let mut forged = guarded(Rekor::V2, HOST, &other);
        forged.entry.log_id = named.id;
        assert_eq!(
            detail(checked(&logs, &forged)),
            "The checkpoint's signature does not verify with its log's key."
        );
        forged.entry.checkpoint.signatures[0].key_hint = named.id[..4].try_into().unwrap();
        assert_eq!(
            detail(checked(&logs, &forged)),
            "The checkpoint's signature does not verify with its log's key."
        );

        forged.entry.log_id = [9; 32];
        assert_eq!(
            detail(checked(&logs, &forged)),
            "The log of the release's signature is unknown: the policy's own sigstore.trusted_root does not list it; a newer one may."
        );
    }

    #[test]
    fn proof_and_checkpoint_must_be_of_one_tree() {
        let signer = Signer::new();
        let logs = logs(vec![signer.log("https://log.example")]);
        for change in [
            |entry: &mut Entry| entry.tree_size += 1,
            |entry: &mut Entry| entry.root_hash[0] ^= 1,
        ] {
            let mut other = guarded(Rekor::V2, HOST, &signer);
            change(&mut other.entry);
            assert_eq!(
                detail(checked(&logs, &other)),
                "The checkpoint is about another tree than the inclusion proof."
            );
        }
    }

    #[test]
    fn checkpoint_has_one_log_signature_and_any_witnesses() {
        let signer = Signer::new();
        let logs = logs(vec![signer.log("https://log.example")]);
        let mut witnessed = guarded(Rekor::V2, HOST, &signer);
        let text = witnessed.entry.checkpoint.text.clone();
        witnessed
            .entry
            .checkpoint
            .signatures
            .insert(0, Signer::new().sign("witness.example", &text));
        assert!(checked(&logs, &witnessed).is_ok());

        let one = "The checkpoint does not have exactly one signature by its log.";
        let mut doubled = guarded(Rekor::V2, HOST, &signer);
        doubled
            .entry
            .checkpoint
            .signatures
            .push(signer.sign(HOST, &text));
        assert_eq!(detail(checked(&logs, &doubled)), one);
        let mut renamed = guarded(Rekor::V2, HOST, &signer);
        renamed.entry.checkpoint.signatures[0].name = "log.example.org".into();
        assert_eq!(detail(checked(&logs, &renamed)), one);

        let mut misnamed = guarded(Rekor::V2, HOST, &signer);
        misnamed.entry.checkpoint.signatures[0].key_hint[3] ^= 1;
        let unverified = "The checkpoint's signature does not verify with its log's key.";
        assert_eq!(detail(checked(&logs, &misnamed)), unverified);

        let mut altered = guarded(Rekor::V2, HOST, &signer);
        altered.entry.checkpoint.text.push_str("more\n");
        assert_eq!(
            detail(checked(&logs, &altered)),
            "The checkpoint's signature does not verify with its log's key."
        );
    }
}
