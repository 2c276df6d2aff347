//! The Sigstore part of the trust world: a Fulcio-like CA, a certificate log, a Rekor v1 log, and
//! the bundle of a manifest.
//!
//! Specified in attestation.md section 1, "The release". The bundle has the form of a real v0.3
//! one. Faults change the plan or the finished bundle. This module does not know which fault is on.

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::keys::{Key, Kind};
use super::time::{DAY, MINUTE};
use super::x509::{self, COMMON_NAME, Certificate, Name, ORGANIZATION};
use super::{Keys, der, hex, time};
use crate::Failure;

pub(crate) const SIGNER: &str = "releases@enclave.test";
pub(crate) const SIGNER_ISSUER: &str = "https://accounts.enclave.test";
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

const LOG_HOST: &str = "rekor.enclave.test";
const TREE_ID: u64 = 4_716_023_985_617_599_215;
/// Number of entries in older shards. `logIndex` counts them too.
const OLDER_ENTRIES: u64 = 31_682_412;
const TREE_SIZE: usize = 11;
const OUR_LEAF: usize = 6;

const ROOT: Name<'_> = &[
    (ORGANIZATION, "sigstore.enclave.test"),
    (COMMON_NAME, "sigstore"),
];
const INTERMEDIATE: Name<'_> = &[
    (ORGANIZATION, "sigstore.enclave.test"),
    (COMMON_NAME, "sigstore-intermediate"),
];

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// RFC 6962, 3.3.
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sct {
    Good,
    Missing,
    Altered,
    StrangerLog,
}

/// Describes how a release is signed. The default is valid.
pub(crate) struct SigningPlan {
    pub(crate) email: &'static str,
    pub(crate) issuer: &'static str,
    /// Adds a URI as a second SAN, after the email.
    pub(crate) second_san: bool,
    /// The SAN is a URI with the text of the email.
    pub(crate) uri_san: bool,
    pub(crate) code_signing: bool,
    pub(crate) sct: Sct,
    /// The certificate comes from an intermediate that the trusted root does not list.
    pub(crate) stranger_ca: bool,
    /// Signs bytes that are not the manifest's.
    pub(crate) other_bytes: bool,
    /// Time of the log entry, in seconds after the certificate's start.
    pub(crate) logged_after: i64,
    /// Start of the certificate's validity, in seconds from now.
    pub(crate) issued: i64,
    /// A key other than the log's signs the promise; below, the checkpoint.
    pub(crate) stranger_promise: bool,
    pub(crate) stranger_checkpoint: bool,
    /// The checkpoint's first line.
    pub(crate) origin: fn() -> String,
    /// The name on the checkpoint's signature line.
    pub(crate) signed_by: &'static str,
    /// Added to the size in the checkpoint.
    pub(crate) checkpoint_size: usize,
    /// Text after the checkpoint's last signature.
    pub(crate) checkpoint_end: &'static str,
}

impl Default for SigningPlan {
    fn default() -> Self {
        Self {
            email: SIGNER,
            issuer: SIGNER_ISSUER,
            second_san: false,
            uri_san: false,
            code_signing: true,
            sct: Sct::Good,
            stranger_ca: false,
            other_bytes: false,
            logged_after: 1,
            issued: -20 * MINUTE,
            stranger_promise: false,
            stranger_checkpoint: false,
            origin: || format!("{LOG_HOST} - {TREE_ID}"),
            signed_by: LOG_HOST,
            checkpoint_size: 0,
            checkpoint_end: "\n",
        }
    }
}

/// The authority's certificates: intermediate, root.
pub(crate) fn authority(
    root: &Key,
    intermediate: &Key,
    made_at: i64,
) -> Result<[Vec<u8>; 2], Failure> {
    let root_certificate = Certificate {
        serial: &[0x13, 0xd1, 0x09],
        subject: ROOT,
        issuer: ROOT,
        not_before: made_at - DAY,
        not_after: made_at + 10 * 365 * DAY,
        key: root,
        extensions: vec![
            x509::usage_authority(),
            x509::authority(None),
            x509::subject_key(root)?,
        ],
    }
    .sign(root)?;
    let intermediate_certificate = Certificate {
        serial: &[0x14, 0xd2, 0x0a],
        subject: INTERMEDIATE,
        issuer: ROOT,
        not_before: made_at - DAY,
        not_after: made_at + 10 * 365 * DAY,
        key: intermediate,
        extensions: vec![
            x509::usage_authority(),
            x509::purpose(CODE_SIGNING),
            x509::authority(Some(0)),
            x509::subject_key(intermediate)?,
            x509::authority_key(root)?,
        ],
    }
    .sign(root)?;
    Ok([intermediate_certificate, root_certificate])
}

/// Makes the `trusted_root.json` of this world.
pub(crate) fn trusted_root(keys: &Keys) -> Result<Value, Failure> {
    let start = time::rfc3339(keys.made_at - DAY);
    let log = |url: &str, key: &Key| -> Result<Value, Failure> {
        let spki = key.spki()?;
        Ok(json!({
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": BASE64_STANDARD.encode(&spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": { "start": start },
            },
            "logId": { "keyId": BASE64_STANDARD.encode(sha256(&spki)) },
        }))
    };
    let certificates: Vec<_> = keys
        .fulcio
        .iter()
        .map(|der| json!({ "rawBytes": BASE64_STANDARD.encode(der) }))
        .collect();
    Ok(json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log(&format!("https://{LOG_HOST}"), &keys.rekor)?],
        "certificateAuthorities": [{
            "subject": { "organization": "sigstore.enclave.test", "commonName": "sigstore" },
            "uri": "https://fulcio.enclave.test",
            "certChain": { "certificates": certificates },
            "validFor": { "start": start },
        }],
        "ctlogs": [log("https://ctfe.enclave.test/2026", &keys.ct_log)?],
        "timestampAuthorities": [],
    }))
}

/// Signs a manifest. Returns the bundle with certificate, signature and log entry.
pub(crate) fn bundle(keys: &Keys, manifest: &[u8], plan: &SigningPlan) -> Result<Value, Failure> {
    let signing_key = Key::generate(Kind::P256)?;
    let issued = time::now() + plan.issued;
    let certificate = certificate(keys, &signing_key, issued, plan)?;
    let signature = if plan.other_bytes {
        signing_key.sign(&[manifest, b" "].concat())?
    } else {
        signing_key.sign(manifest)?
    };
    let digest = sha256(manifest);

    let body = json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": { "hash": { "algorithm": "sha256", "value": hex(&digest) } },
            "signature": {
                "content": BASE64_STANDARD.encode(&signature),
                "publicKey": { "content": BASE64_STANDARD.encode(pem(&certificate)) },
            },
        },
    })
    .to_string();
    Ok(json!({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "certificate": { "rawBytes": BASE64_STANDARD.encode(&certificate) },
            "tlogEntries": [entry(keys, body.as_bytes(), issued + plan.logged_after, plan)?],
        },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": BASE64_STANDARD.encode(digest) },
            "signature": BASE64_STANDARD.encode(&signature),
        },
    }))
}

/// Makes the short-lived certificate of the signer, with the certificate log's timestamp in it.
fn certificate(
    keys: &Keys,
    key: &Key,
    issued: i64,
    plan: &SigningPlan,
) -> Result<Vec<u8>, Failure> {
    let stranger = plan
        .stranger_ca
        .then(|| Key::generate(Kind::P384))
        .transpose()?;
    let issuer_key = stranger.as_ref().unwrap_or(&keys.fulcio_intermediate);
    let mut names = Vec::new();
    if plan.uri_san {
        names.push(der::implicit(6, plan.email.as_bytes()));
    } else {
        names.push(der::implicit(1, plan.email.as_bytes()));
    }
    if plan.second_san {
        names.push(der::implicit(6, b"https://enclave.test/somebody-else"));
    }
    let purpose = if plan.code_signing {
        CODE_SIGNING
    } else {
        SERVER_AUTH
    };
    let serial = [&[0x44], super::random::<19>().as_slice()].concat();
    let mut certificate = Certificate {
        serial: &serial,
        subject: &[],
        issuer: INTERMEDIATE,
        not_before: issued,
        not_after: issued + 10 * MINUTE,
        key,
        extensions: vec![
            x509::usage_signature(),
            x509::purpose(purpose),
            x509::subject_key(key)?,
            x509::authority_key(issuer_key)?,
            x509::extension("2.5.29.17", true, &der::sequence(&names)),
            x509::extension("1.3.6.1.4.1.57264.1.1", false, plan.issuer.as_bytes()),
            x509::extension("1.3.6.1.4.1.57264.1.8", false, &der::utf8(plan.issuer)),
        ],
    };
    if plan.sct != Sct::Missing {
        let precertificate = certificate.to_be_signed(issuer_key)?;
        let list = timestamp_list(keys, &precertificate, issuer_key, issued, plan.sct)?;
        certificate
            .extensions
            .push(x509::extension(SCT_LIST, false, &der::octets(&list)));
    }
    certificate.sign(issuer_key)
}

/// Makes a list with one signed certificate timestamp for a precertificate (RFC 6962, 3.2 and 3.3).
fn timestamp_list(
    keys: &Keys,
    precertificate: &[u8],
    issuer: &Key,
    at: i64,
    kind: Sct,
) -> Result<Vec<u8>, Failure> {
    let stranger = (kind == Sct::StrangerLog)
        .then(|| Key::generate(Kind::P256))
        .transpose()?;
    let log = stranger.as_ref().unwrap_or(&keys.ct_log);
    let milliseconds = (at as u64 * 1_000 + 110).to_be_bytes();
    let mut signed = vec![0, 0]; // v1, certificate_timestamp
    signed.extend_from_slice(&milliseconds);
    signed.extend_from_slice(&[0, 1]); // precert_entry
    signed.extend_from_slice(&sha256(&issuer.spki()?));
    signed.extend_from_slice(&(precertificate.len() as u32).to_be_bytes()[1..]);
    signed.extend_from_slice(precertificate);
    signed.extend_from_slice(&[0, 0]); // no extensions
    let mut signature = log.sign(&signed)?;
    if kind == Sct::Altered
        && let Some(last) = signature.last_mut()
    {
        *last ^= 1;
    }
    let mut timestamp = vec![0]; // v1
    timestamp.extend_from_slice(&sha256(&log.spki()?));
    timestamp.extend_from_slice(&milliseconds);
    timestamp.extend_from_slice(&[0, 0]); // no extensions
    timestamp.extend_from_slice(&[4, 3]); // SHA-256, ECDSA
    timestamp.extend_from_slice(&(signature.len() as u16).to_be_bytes());
    timestamp.extend_from_slice(&signature);
    let mut list = ((timestamp.len() + 2) as u16).to_be_bytes().to_vec();
    list.extend_from_slice(&(timestamp.len() as u16).to_be_bytes());
    list.extend_from_slice(&timestamp);
    Ok(list)
}

/// Makes the log entry of a body, with promise and proof.
fn entry(keys: &Keys, body: &[u8], logged: i64, plan: &SigningPlan) -> Result<Value, Failure> {
    let stranger = Key::generate(Kind::P256)?;
    let log_id = sha256(&keys.rekor.spki()?);
    let body_text = BASE64_STANDARD.encode(body);
    let log_index = OLDER_ENTRIES + OUR_LEAF as u64;
    // The promise signs canonical JSON. `Value` sorts the keys, which is enough for this object.
    let promised = json!({
        "body": body_text, "integratedTime": logged, "logID": hex(&log_id), "logIndex": log_index,
    })
    .to_string();
    let promise_key = if plan.stranger_promise {
        &stranger
    } else {
        &keys.rekor
    };
    let promise = promise_key.sign(promised.as_bytes())?;

    let mut leaves: Vec<[u8; 32]> = (0..TREE_SIZE).map(|_| super::random()).collect();
    leaves[OUR_LEAF] = leaf_hash(body);
    let root = tree_hash(&leaves);
    let path: Vec<_> = audit_path(OUR_LEAF, &leaves)
        .iter()
        .map(|hash| BASE64_STANDARD.encode(hash))
        .collect();

    let size = TREE_SIZE + plan.checkpoint_size;
    let note = format!(
        "{}\n{size}\n{}\n",
        (plan.origin)(),
        BASE64_STANDARD.encode(root)
    );
    let checkpoint_key = if plan.stranger_checkpoint {
        &stranger
    } else {
        &keys.rekor
    };
    let signature = [&log_id[..4], &checkpoint_key.sign(note.as_bytes())?].concat();
    let checkpoint = format!(
        "{note}\n\u{2014} {} {}{}",
        plan.signed_by,
        BASE64_STANDARD.encode(signature),
        plan.checkpoint_end
    );
    Ok(json!({
        "logIndex": log_index.to_string(),
        "logId": { "keyId": BASE64_STANDARD.encode(log_id) },
        "kindVersion": { "kind": "hashedrekord", "version": "0.0.1" },
        "integratedTime": logged.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": BASE64_STANDARD.encode(promise) },
        "inclusionProof": {
            "logIndex": OUR_LEAF.to_string(),
            "rootHash": BASE64_STANDARD.encode(root),
            "treeSize": TREE_SIZE.to_string(),
            "hashes": path,
            "checkpoint": { "envelope": checkpoint },
        },
        "canonicalizedBody": body_text,
    }))
}

fn leaf_hash(entry: &[u8]) -> [u8; 32] {
    sha256(&[&[0], entry].concat())
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left.as_slice(), right.as_slice()].concat())
}

/// The largest power of two below `size` (RFC 6962, 2.1).
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// Makes the Merkle audit path (RFC 6962, 2.1.1), lowest node first.
fn audit_path(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (audit_path(index, left), tree_hash(right))
    } else {
        (audit_path(index - left.len(), right), tree_hash(left))
    };
    path.push(other);
    path
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
