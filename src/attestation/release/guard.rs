//! Checks a bundle's form before `sigstore-verify` reads it: each value has only one spelling.
//!
//! A bundle has exactly the keys listed here, so no unread key can be in it. Numbers are canonical
//! decimals in strings, bytes are canonical base64. (JSON still permits some freedom, such as the
//! order of keys.) This file decides nothing about trust.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::attestation::evidence::MAX_EVIDENCE;
use crate::attestation::hex;
use crate::attestation::json::{self, JsonError, Node, ShapeError};

/// The only media type. Older spellings and versions require less proof.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The longest inclusion proof: a hash for each level of a tree of 2^64 entries.
const MAX_PROOF: usize = 64;

/// Most RFC 3161 timestamps, because each needs a certificate chain to verify. Real bundles have
/// one.
const MAX_TIMESTAMPS: usize = 4;

/// The largest certificate and the largest timestamp. Real ones have 0.8 and 1.3 KiB. Both are
/// untrusted DER, and `der` sorts each set by insertion: without a limit, 47 KiB of a set in
/// falling order take seconds.
const MAX_DER: usize = 8 * 1024;

/// Most signatures of a checkpoint: the log's and its witnesses'.
const MAX_NOTE_SIGNATURES: usize = 16;

/// The error for a malformed bundle.
#[derive(Debug)]
pub(super) enum FormError {
    Json(JsonError),
    Shape(ShapeError),
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormError::Json(error) => error.fmt(f),
            FormError::Shape(error) => error.fmt(f),
        }
    }
}

impl From<JsonError> for FormError {
    fn from(error: JsonError) -> Self {
        FormError::Json(error)
    }
}

impl From<ShapeError> for FormError {
    fn from(error: ShapeError) -> Self {
        FormError::Shape(error)
    }
}

/// The parts of a well-formed bundle that the checks read.
pub(super) struct Guarded {
    /// The signing certificate, as DER.
    pub(super) certificate: Vec<u8>,
    /// The signed message's SHA-256 in the bundle.
    pub(super) digest: [u8; 32],
    pub(super) entry: Entry,
    /// RFC 3161 timestamps, as DER.
    pub(super) timestamps: Vec<Vec<u8>>,
}

/// The versions of Rekor, which have different checkpoints and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rekor {
    V1,
    V2,
}

/// The log entry.
pub(super) struct Entry {
    pub(super) rekor: Rekor,
    pub(super) log_id: [u8; 32],
    pub(super) log_index: u64,
    /// When the log added it, in Unix seconds. Missing in Rekor v2.
    pub(super) integrated_time: Option<u64>,
    /// The SHA-256 in the entry.
    pub(super) digest: [u8; 32],
    pub(super) tree_size: u64,
    pub(super) root_hash: [u8; 32],
    pub(super) checkpoint: Checkpoint,
}

/// A signed note about a tree (C2SP `tlog-checkpoint`).
pub(super) struct Checkpoint {
    pub(super) origin: String,
    pub(super) tree_size: u64,
    pub(super) root_hash: [u8; 32],
    /// The signed text: the lines up to the empty one, each with its newline.
    pub(super) text: String,
    pub(super) signatures: Vec<NoteSignature>,
}

/// One signature line of a note.
pub(super) struct NoteSignature {
    pub(super) name: String,
    pub(super) key_hint: [u8; 4],
    pub(super) signature: Vec<u8>,
}

/// Reads a bundle.
pub(super) fn read(text: &str) -> Result<Guarded, FormError> {
    let value = json::parse(text.as_bytes(), MAX_EVIDENCE)?;
    let root = Node::root("bundle", &value);
    let root = root.exactly(
        &["mediaType", "verificationMaterial", "messageSignature"],
        &[],
    )?;
    literal(&root.get("mediaType")?, MEDIA_TYPE)?;

    let material = root.get("verificationMaterial")?.exactly(
        &["certificate", "tlogEntries"],
        &["timestampVerificationData"],
    )?;
    let certificate = material.get("certificate")?.exactly(&["rawBytes"], &[])?;
    let timestamps = match material.optional("timestampVerificationData")? {
        Some(data) => timestamps(data)?,
        None => Vec::new(),
    };
    let entries = material.get("tlogEntries")?;
    let [entry] = entries
        .list()?
        .try_into()
        .map_err(|_| entries.error("must hold exactly one entry"))?;

    let signature = root
        .get("messageSignature")?
        .exactly(&["messageDigest", "signature"], &[])?;
    let message = signature
        .get("messageDigest")?
        .exactly(&["algorithm", "digest"], &[])?;
    literal(&message.get("algorithm")?, "SHA2_256")?;
    bytes(&signature.get("signature")?)?;

    Ok(Guarded {
        certificate: der(&certificate.get("rawBytes")?)?,
        digest: hash(&message.get("digest")?)?,
        entry: read_entry(entry, timestamps.is_empty())?,
        timestamps,
    })
}

fn read_entry(entry: Node<'_>, without_timestamp: bool) -> Result<Entry, FormError> {
    let required = [
        "logIndex",
        "logId",
        "kindVersion",
        "inclusionProof",
        "canonicalizedBody",
    ];
    let entry = entry.exactly(&required, &["integratedTime", "inclusionPromise"])?;

    let kind = entry
        .get("kindVersion")?
        .exactly(&["kind", "version"], &[])?;
    literal(&kind.get("kind")?, "hashedrekord")?;
    let version = kind.get("version")?;
    let rekor = match version.string()? {
        "0.0.1" => Rekor::V1,
        "0.0.2" => Rekor::V2,
        _ => return Err(version.error("must be \"0.0.1\" or \"0.0.2\"").into()),
    };

    // A time must be signed: by the log's promise (v1) or by a timestamp authority (v2).
    let integrated_time = match rekor {
        Rekor::V1 => {
            let promise = entry
                .get("inclusionPromise")?
                .exactly(&["signedEntryTimestamp"], &[])?;
            bytes(&promise.get("signedEntryTimestamp")?)?;
            match decimal(&entry.get("integratedTime")?)? {
                0 => return Err(entry.error("has no integrated time").into()),
                time => Some(time),
            }
        }
        Rekor::V2 => {
            if entry.optional("inclusionPromise")?.is_some()
                || entry.optional("integratedTime")?.is_some()
            {
                return Err(entry
                    .error(
                        "is a Rekor v2 entry, which has no inclusionPromise and no integratedTime",
                    )
                    .into());
            }
            if without_timestamp {
                return Err(entry
                    .error("is a Rekor v2 entry without a timestamp")
                    .into());
            }
            None
        }
    };

    let proof = entry.get("inclusionProof")?;
    let proof = proof.exactly(
        &["logIndex", "rootHash", "treeSize", "hashes", "checkpoint"],
        &[],
    )?;
    let hashes = proof.get("hashes")?;
    let path = hashes.list()?;
    if path.len() > MAX_PROOF {
        return Err(hashes
            .error(format!("must hold at most {MAX_PROOF} hashes"))
            .into());
    }
    for node in &path {
        hash(node)?;
    }

    let log_index = decimal(&entry.get("logIndex")?)?;
    let proof_index = proof.get("logIndex")?;
    // A v1 log has shards, and its proof counts entries within the shard. A v2 log has no shards.
    // For it, sigstore-verify uses the entry's index and the checkpoint's size and root, so their
    // copies in the proof must be equal.
    if decimal(&proof_index)? != log_index && rekor == Rekor::V2 {
        return Err(proof_index.error("differs from the entry's").into());
    }

    let log_id = entry.get("logId")?.exactly(&["keyId"], &[])?;
    let envelope = proof.get("checkpoint")?.exactly(&["envelope"], &[])?;
    Ok(Entry {
        rekor,
        log_id: hash(&log_id.get("keyId")?)?,
        log_index,
        integrated_time,
        digest: body_digest(&entry.get("canonicalizedBody")?, rekor)?,
        tree_size: decimal(&proof.get("treeSize")?)?,
        root_hash: hash(&proof.get("rootHash")?)?,
        checkpoint: checkpoint(&envelope.get("envelope")?)?,
    })
}

/// Reads the timestamps. `sigstore-verify` must verify each.
fn timestamps(data: Node<'_>) -> Result<Vec<Vec<u8>>, FormError> {
    let data = data.exactly(&[], &["rfc3161Timestamps"])?;
    let Some(list) = data.optional("rfc3161Timestamps")? else {
        return Ok(Vec::new());
    };
    let timestamps = list.list()?;
    if timestamps.len() > MAX_TIMESTAMPS {
        return Err(list
            .error(format!("must hold at most {MAX_TIMESTAMPS} timestamps"))
            .into());
    }
    timestamps
        .into_iter()
        .map(|timestamp| {
            let timestamp = timestamp.exactly(&["signedTimestamp"], &[])?;
            der(&timestamp.get("signedTimestamp")?)
        })
        .collect()
}

/// Reads DER of at most [`MAX_DER`] bytes.
fn der(node: &Node<'_>) -> Result<Vec<u8>, FormError> {
    let bytes = bytes(node)?;
    if bytes.len() > MAX_DER {
        return Err(node.error(format!("has more than {MAX_DER} bytes")).into());
    }
    Ok(bytes)
}

/// Reads the digest in the entry's body, which is canonical JSON. `sigstore-verify` compares its
/// other values with the bundle.
fn body_digest(node: &Node<'_>, rekor: Rekor) -> Result<[u8; 32], FormError> {
    let value = json::parse(&bytes(node)?, MAX_EVIDENCE)?;
    let body = Node::root("log entry", &value).exactly(&["apiVersion", "kind", "spec"], &[])?;
    literal(&body.get("kind")?, "hashedrekord")?;
    let spec = body.get("spec")?;
    match rekor {
        Rekor::V1 => {
            literal(&body.get("apiVersion")?, "0.0.1")?;
            let data = spec
                .exactly(&["data", "signature"], &[])?
                .get("data")?
                .exactly(&["hash"], &[])?;
            let logged = data.get("hash")?.exactly(&["algorithm", "value"], &[])?;
            literal(&logged.get("algorithm")?, "sha256")?;
            let value = logged.get("value")?;
            hex::decode(value.string()?)
                .ok_or_else(|| value.error("must be 64 lower-case hex digits").into())
        }
        Rekor::V2 => {
            literal(&body.get("apiVersion")?, "0.0.2")?;
            let record = spec
                .exactly(&["hashedRekordV002"], &[])?
                .get("hashedRekordV002")?;
            let data = record.exactly(&["data", "signature"], &[])?.get("data")?;
            let logged = data.exactly(&["algorithm", "digest"], &[])?;
            literal(&logged.get("algorithm")?, "SHA2_256")?;
            Ok(hash(&logged.get("digest")?)?)
        }
    }
}

/// Reads a signed note: lines, an empty line, signature lines, and one newline at the end.
fn checkpoint(node: &Node<'_>) -> Result<Checkpoint, ShapeError> {
    let malformed = |problem: &str| node.error(format!("is not a checkpoint: {problem}"));
    let note = node.string()?;
    if note
        .chars()
        .any(|character| character.is_control() && character != '\n')
    {
        return Err(malformed("it has a control character"));
    }
    let (lines, signatures) = note
        .split_once("\n\n")
        .ok_or_else(|| malformed("it has no signatures"))?;
    let signatures = signatures
        .strip_suffix('\n')
        .ok_or_else(|| malformed("its last line has no newline"))?;

    let mut body = lines.split('\n');
    let mut line = || {
        body.next()
            .ok_or_else(|| malformed("it has fewer than three lines"))
    };
    let (origin, size, root) = (line()?, line()?, line()?);
    if origin.is_empty() || [origin, size, root].iter().any(|line| line.trim() != *line) {
        return Err(malformed("a line begins or ends with white space"));
    }
    let signatures: Vec<_> = signatures.split('\n').collect();
    if signatures.len() > MAX_NOTE_SIGNATURES {
        return Err(malformed("it has too many signatures"));
    }
    Ok(Checkpoint {
        origin: origin.to_owned(),
        tree_size: canonical_decimal(size).ok_or_else(|| malformed("its size is not a number"))?,
        root_hash: canonical_hash(root).ok_or_else(|| malformed("its root is not a hash"))?,
        text: format!("{lines}\n"),
        signatures: signatures
            .into_iter()
            .map(note_signature)
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("a signature line is malformed"))?,
    })
}

/// `— name base64(hint ‖ signature)`
fn note_signature(line: &str) -> Option<NoteSignature> {
    let mut words = line.strip_prefix("\u{2014} ")?.split(' ');
    let (name, encoded, None) = (words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let decoded = STANDARD.decode(encoded).ok()?;
    let (key_hint, signature) = decoded.split_first_chunk()?;
    let whole = !name.is_empty() && !name.contains(char::is_whitespace) && !signature.is_empty();
    whole.then(|| NoteSignature {
        name: name.to_owned(),
        key_hint: *key_hint,
        signature: signature.to_vec(),
    })
}

fn literal(node: &Node<'_>, expected: &str) -> Result<(), ShapeError> {
    if node.string()? == expected {
        Ok(())
    } else {
        Err(node.error(format!("must be \"{expected}\"")))
    }
}

/// Reads base64 with padding, in its only canonical spelling.
fn bytes(node: &Node<'_>) -> Result<Vec<u8>, ShapeError> {
    STANDARD
        .decode(node.string()?)
        .map_err(|_| node.error("must be canonical base64"))
}

fn hash(node: &Node<'_>) -> Result<[u8; 32], ShapeError> {
    canonical_hash(node.string()?).ok_or_else(|| node.error("must be 32 bytes in canonical base64"))
}

fn canonical_hash(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Reads a number of ProtoJSON: a decimal in a string. It must fit the `int64` of the bundle's
/// schema.
fn decimal(node: &Node<'_>) -> Result<u64, ShapeError> {
    canonical_decimal(node.string()?)
        .ok_or_else(|| node.error("must be a canonical decimal number in a string"))
}

fn canonical_decimal(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number <= i64::MAX as u64 && number.to_string() == text).then_some(number)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A real Rekor v2 bundle; see `testdata/README.md`.
    pub(in crate::attestation) const REKOR_V2: &str =
        include_str!("testdata/staging-rekor-v2.txt.sigstore.json");

    const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
    const CHECKPOINT: &str =
        "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";

    fn v2() -> Value {
        serde_json::from_str(REKOR_V2).unwrap()
    }

    /// Makes a well-formed Rekor v1 bundle from it. Its signatures would not verify.
    fn v1() -> Value {
        let mut bundle = v2();
        let entry = bundle.pointer_mut(ENTRY).unwrap();
        entry["kindVersion"]["version"] = "0.0.1".into();
        entry["integratedTime"] = "1749470255".into();
        entry["inclusionPromise"] = json!({ "signedEntryTimestamp": "AAAA" });
        let hash = json!({ "algorithm": "sha256", "value": "ab".repeat(32) });
        let spec = json!({ "data": { "hash": hash }, "signature": {} });
        let body = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec });
        entry["canonicalizedBody"] = STANDARD.encode(body.to_string()).into();
        bundle["verificationMaterial"]
            .as_object_mut()
            .unwrap()
            .remove("timestampVerificationData");
        bundle
    }

    fn error(bundle: &Value) -> String {
        match read(&bundle.to_string()) {
            Ok(_) => panic!("accepted: {bundle}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn certificates_and_timestamps_are_limited_before_parsing() {
        let timestamp =
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
        for place in ["/verificationMaterial/certificate/rawBytes", timestamp] {
            let with = |len| set(v2(), place, STANDARD.encode(vec![0; len]).into());
            assert!(read(&with(MAX_DER).to_string()).is_ok());
            assert!(error(&with(MAX_DER + 1)).contains("has more than 8192 bytes"));
        }
    }

    fn set(mut bundle: Value, pointer: &str, value: Value) -> Value {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match bundle.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            object => object[key] = value,
        }
        bundle
    }

    #[test]
    fn reads_bundles_of_both_rekor_versions() {
        let two = read(REKOR_V2).ok().unwrap();
        assert_eq!(
            (
                two.entry.rekor,
                two.entry.log_index,
                two.entry.integrated_time
            ),
            (Rekor::V2, 645, None)
        );
        assert_eq!(two.entry.digest, two.digest);
        assert_eq!(
            two.entry.checkpoint.origin,
            "log2025-alpha1.rekor.sigstage.dev"
        );
        let one = read(&v1().to_string()).ok().unwrap();
        assert_eq!(
            (one.entry.rekor, one.entry.integrated_time),
            (Rekor::V1, Some(1_749_470_255))
        );
        assert_eq!(one.entry.digest, [0xab; 32]);
    }

    /// Returns the JSON pointers of all objects in the bundle.
    fn objects(value: &Value, pointer: String, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    objects(value, format!("{pointer}/{key}"), found);
                }
                found.push(pointer);
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    objects(value, format!("{pointer}/{index}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_object_has_exactly_its_keys() {
        for bundle in [v1(), v2()] {
            let mut pointers = Vec::new();
            objects(&bundle, String::new(), &mut pointers);
            assert!(pointers.len() >= 11, "{pointers:?}");
            for pointer in pointers {
                let object = bundle.pointer(&pointer).unwrap().as_object().unwrap();
                for key in object.keys() {
                    let mut less = bundle.clone();
                    less.pointer_mut(&pointer)
                        .unwrap()
                        .as_object_mut()
                        .unwrap()
                        .remove(key);
                    // With a promise a timestamp is optional.
                    error(&less);
                    let doubled = json!({ key: object[key] }).to_string();
                    let text = Value::Object(object.clone()).to_string();
                    let twice = format!("{},{}", &doubled[..doubled.len() - 1], &text[1..]);
                    let text = bundle.to_string().replacen(&text, &twice, 1);
                    assert!(
                        read(&text)
                            .err()
                            .unwrap()
                            .to_string()
                            .contains("appears twice"),
                        "{pointer}/{key}"
                    );
                }
                for more in [
                    "extra",
                    "media_type",
                    "verification_material",
                    "x509CertificateChain",
                    "publicKey",
                ] {
                    let more = set(bundle.clone(), &format!("{pointer}/{more}"), Value::Null);
                    assert!(error(&more).contains("has an unknown key"), "{pointer}");
                }
            }
        }
    }

    #[test]
    fn value_has_only_one_spelling() {
        for (pointer, values) in [
            (
                "/mediaType",
                vec![
                    "application/vnd.dev.sigstore.bundle+json;version=0.1",
                    "application/vnd.dev.sigstore.bundle+json;version=0.2",
                    "application/vnd.dev.sigstore.bundle+json;version=0.3",
                    "APPLICATION/vnd.dev.sigstore.bundle.v0.3+json",
                ],
            ),
            (
                "/messageSignature/messageDigest/algorithm",
                vec!["sha256", "SHA2-256", "SHA2_512", "sha2_256"],
            ),
            (
                "/messageSignature/messageDigest/digest",
                vec!["", "AAAA", "FfZyRhFZIbt8HeDn6eknXIAW3CVKDACYiJRLftNkSqo"],
            ),
            ("/messageSignature/signature", vec!["MEU", "ME-_", "AB=="]),
            (
                "/verificationMaterial/tlogEntries/0/logIndex",
                vec!["0645", "+645", "", "-1", "9223372036854775808"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/logId/keyId",
                vec!["", "8w1amZ2S5mJIQkQmPxdMuOrL/oJkvFg9MnQXmeOCXck"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/kindVersion/kind",
                vec!["dsse", "HashedRekord"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/kindVersion/version",
                vec!["0.0.3", "0.0.02"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/inclusionProof/treeSize",
                vec!["646 ", "0x286"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
                vec!["AAAA"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
                vec!["AAAA"],
            ),
            (
                "/verificationMaterial/tlogEntries/0/canonicalizedBody",
                vec!["", "e30="],
            ),
            ("/verificationMaterial/certificate/rawBytes", vec!["MII"]),
        ] {
            for value in values {
                error(&set(v2(), pointer, value.into()));
            }
            error(&set(v2(), pointer, Value::Null));
            error(&set(v2(), pointer, 645.into()));
        }
    }

    #[test]
    fn bundle_has_one_entry_with_complete_proof() {
        let entry = v2().pointer(ENTRY).unwrap().clone();
        let entries = "/verificationMaterial/tlogEntries";
        assert!(error(&set(v2(), entries, json!([]))).contains("exactly one entry"));
        assert!(error(&set(v2(), entries, json!([entry, entry]))).contains("exactly one entry"));

        let time = format!("{ENTRY}/integratedTime");
        assert!(error(&set(v1(), &time, "0".into())).contains("has no integrated time"));
        assert!(error(&set(v2(), &time, "1749470255".into())).contains("no integratedTime"));
        assert!(
            error(&set(v2(), &format!("{ENTRY}/inclusionPromise"), json!({})))
                .contains("no inclusionPromise")
        );

        let timestamps = "/verificationMaterial/timestampVerificationData";
        assert!(error(&set(v2(), timestamps, Value::Null)).contains("without a timestamp"));
        assert!(error(&set(v2(), timestamps, json!({}))).contains("without a timestamp"));
        let list = format!("{timestamps}/rfc3161Timestamps");
        assert!(error(&set(v2(), &list, json!([]))).contains("without a timestamp"));
        let many = vec![json!({ "signedTimestamp": "AAAA" }); MAX_TIMESTAMPS + 1];
        assert!(error(&set(v2(), &list, json!(many))).contains("at most 4 timestamps"));

        let hashes = format!("{ENTRY}/inclusionProof/hashes");
        let many = vec![STANDARD.encode([0; 32]); MAX_PROOF + 1];
        assert!(error(&set(v2(), &hashes, json!(many))).contains("at most 64 hashes"));
        assert!(
            error(&set(
                v2(),
                &format!("{ENTRY}/inclusionProof/logIndex"),
                "644".into()
            ))
            .contains("differs")
        );
    }

    #[test]
    fn body_has_the_kind_of_its_entry() {
        let body = format!("{ENTRY}/canonicalizedBody");
        let of = |bundle: &Value| bundle.pointer(&body).unwrap().clone();
        error(&set(v1(), &body, of(&v2())));
        error(&set(v2(), &body, of(&v1())));
        let text =
            String::from_utf8(STANDARD.decode(of(&v1()).as_str().unwrap()).unwrap()).unwrap();
        for (from, to) in [
            ("sha256", "sha512"),
            ("hashedrekord", "dsse"),
            ("0.0.1", "0.0.2"),
            ("abab", "ABAB"),
            ("\"spec\"", "\"kind\":\"hashedrekord\",\"spec\""),
        ] {
            error(&set(
                v1(),
                &body,
                STANDARD.encode(text.replacen(from, to, 1)).into(),
            ));
        }
    }

    #[test]
    fn checkpoint_is_a_note_with_nothing_around_it() {
        let note = v2()
            .pointer(CHECKPOINT)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        let line = note.lines().last().unwrap().to_owned();
        for other in [
            String::new(),
            "\n".into(),
            "\n\n".into(),
            "\n\n\n".into(),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            format!("{note}{note}"),
            format!(" {note}"),
            format!("\n{note}"),
            note.replacen('\n', "\r\n", 1),
            note.replacen("\n646\n", "\n0646\n", 1),
            note.replacen("\n646\n", "\n 646\n", 1),
            note.replacen("\n646\n", "\n", 1),
            note.replacen('\u{2014}', "-", 1),
            note.replacen("\u{2014} ", "\u{2014}", 1),
            note.replacen("\u{2014} ", "\u{2014}  ", 1),
            note.replacen("\u{2014} ", "\u{2014} x ", 1),
            format!("{note}\u{2014} witness AAAA\n"),
            format!("{note}{}", format!("{line}\n").repeat(MAX_NOTE_SIGNATURES)),
        ] {
            assert!(error(&set(v2(), CHECKPOINT, other.into())).contains("is not a checkpoint"));
        }
        let witnessed = format!("{note}\u{2014} witness AAAAAAA=\n");
        let bundle = set(v2(), CHECKPOINT, witnessed.into()).to_string();
        assert_eq!(
            read(&bundle)
                .ok()
                .unwrap()
                .entry
                .checkpoint
                .signatures
                .len(),
            2
        );
    }
}
