//! Faults of evidence, token, release and policy. Most make one check of attestation.md section 3
//! fail, and no other. In the rest all checks must pass.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Map, Value, json};

use super::{Fault, KeyServer, Twist, accepted, rejected, warned};
use crate::world::sigstore::Sct;
use crate::world::time::{self, DAY, HOUR, MINUTE};
use crate::world::{Measurements, VERSION, ita};

/// More levels of nesting than any limit near 64 allows.
const TOO_DEEP: usize = 100;
/// Far above the limit of a key set.
const OVERSIZED: usize = 16 << 20;
const OTHER_KID: &str = "f00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00d";
const ZERO_REGISTER: &str = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

type Claims = Map<String, Value>;

/// Flips the lowest bit of the last byte of a base64 string.
fn flip(text: &mut Value) {
    let mut bytes = BASE64_STANDARD
        .decode(text.as_str().unwrap_or_default())
        .unwrap_or_default();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    *text = BASE64_STANDARD.encode(bytes).into();
}

/// Changes one digit of a claim in hex.
fn flip_hex(claims: &mut Claims, name: &str) {
    let mut text = claims[name].as_str().unwrap_or_default().to_owned();
    let other = if text.starts_with('0') { "1" } else { "0" };
    text.replace_range(..1, other);
    claims[name] = text.into();
}

fn upper_case(claims: &mut Claims, name: &str) {
    claims[name] = claims[name]
        .as_str()
        .unwrap_or_default()
        .to_uppercase()
        .into();
}

fn remove(value: &mut Value, name: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(name);
    }
}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

fn checkpoint(bundle: &mut Value, change: fn(&str) -> String) {
    let envelope = &mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"];
    *envelope = change(envelope.as_str().unwrap_or_default()).into();
}

/// Inserts `first` into the text of an object that already has this key, so that the key
/// occurs twice.
fn doubled(text: &str, first: &str) -> String {
    format!("{{{first},{}", &text[1..])
}

fn manifest(text: &str, change: fn(&mut Value)) -> String {
    let mut manifest = serde_json::from_str(text).unwrap_or_default();
    change(&mut manifest);
    manifest.to_string()
}

fn each_key(keys: &mut [Value], change: fn(&mut Value)) {
    keys.iter_mut().for_each(change);
}

pub(super) const FAULTS: &[Fault] = &[
    accepted("none", "everything as it should be", &[]),
    // ---- evidence.format
    rejected(
        "evidence.format",
        "evidence-bom",
        "a byte order mark before the evidence",
        &[Twist::EvidenceBytes(|bytes| {
            [b"\xef\xbb\xbf".as_slice(), &bytes].concat()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-doubled-key",
        "platform twice",
        &[Twist::EvidenceBytes(|bytes| {
            doubled(&String::from_utf8_lossy(&bytes), r#""platform":"TDX""#).into_bytes()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-null-manifest",
        "a server without a manifest: manifest and bundle null",
        &[Twist::Evidence(|evidence| {
            evidence["manifest"] = Value::Null;
            evidence["manifestBundle"] = Value::Null;
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-null-bundle",
        "the bundle alone is null",
        &[Twist::Evidence(|evidence| {
            evidence["manifestBundle"] = Value::Null;
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-bundle-object",
        "the bundle as an object, not as a string",
        &[Twist::Evidence(|evidence| {
            let bundle = evidence["manifestBundle"].as_str().unwrap_or_default();
            evidence["manifestBundle"] = serde_json::from_str(bundle).unwrap_or_default();
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-no-attestation",
        "no attestation",
        &[Twist::Evidence(|evidence| {
            remove(evidence, "attestation");
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-null-attestation",
        "a server to which Intel's service gave no token: the attestation is null",
        &[Twist::Evidence(|evidence| {
            evidence["attestation"] = Value::Null;
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-empty-attestation",
        "an empty attestation",
        &[Twist::Evidence(|evidence| {
            evidence["attestation"] = "".into();
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-not-json",
        "text that is no JSON",
        &[Twist::EvidenceBytes(|_| b"platform=TDX".to_vec())],
    ),
    rejected(
        "evidence.format",
        "evidence-not-object",
        "a list around the evidence",
        &[Twist::EvidenceBytes(|bytes| {
            [b"[".as_slice(), &bytes, b"]"].concat()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-not-utf8",
        "a byte that is no UTF-8",
        &[Twist::EvidenceBytes(|bytes| {
            [b"{\"other\":\"\xff\",".as_slice(), &bytes[1..]].concat()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-too-deep",
        "100 levels of lists beside the four strings",
        &[Twist::EvidenceBytes(|bytes| {
            let (open, close) = ("[".repeat(TOO_DEEP), "]".repeat(TOO_DEEP));
            [
                format!("{{\"other\":{open}{close},").as_bytes(),
                &bytes[1..],
            ]
            .concat()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-truncated",
        "the last byte is missing",
        &[Twist::EvidenceBytes(|mut bytes| {
            bytes.pop();
            bytes
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-trailing",
        "something after the object",
        &[Twist::EvidenceBytes(|bytes| {
            [&bytes, b"{}".as_slice()].concat()
        })],
    ),
    rejected(
        "evidence.format",
        "evidence-empty",
        "no evidence",
        &[Twist::EvidenceBytes(|_| Vec::new())],
    ),
    accepted(
        "evidence-other-key",
        "a key that is to be ignored",
        &[Twist::Evidence(|evidence| {
            evidence["other"] = json!({ "a": [1, 2, null] });
        })],
    ),
    // ---- platform
    rejected(
        "platform",
        "platform-sev-snp",
        "a SEV-SNP report",
        &[Twist::Evidence(|evidence| {
            evidence["platform"] = "SEV-SNP".into();
            evidence["attestation"] = BASE64_STANDARD.encode([2; 1_184]).into();
        })],
    ),
    rejected(
        "platform",
        "platform-sev-snp-listed",
        "a SEV-SNP report, and a policy that lists SEV-SNP",
        &[
            Twist::Evidence(|evidence| {
                evidence["platform"] = "SEV-SNP".into();
                evidence["attestation"] = BASE64_STANDARD.encode([2; 1_184]).into();
            }),
            Twist::Policy(|policy| policy["platforms"] = json!(["TDX", "SEV-SNP"])),
        ],
    ),
    rejected(
        "platform",
        "platform-unknown",
        "a platform that nobody knows",
        &[Twist::Evidence(|evidence| {
            evidence["platform"] = "tdx".into();
        })],
    ),
    rejected(
        "platform",
        "platform-attester-type",
        "the token's attester_type is SGX",
        &[Twist::Claims(|claims| {
            claims["attester_type"] = "SGX".into();
        })],
    ),
    rejected(
        "platform",
        "platform-attester-missing",
        "the token has no attester_type",
        &[Twist::Claims(|claims| {
            claims.remove("attester_type");
        })],
    ),
    rejected(
        "platform",
        "platform-not-listed",
        "a policy that lists SEV-SNP alone",
        &[Twist::Policy(|policy| {
            policy["platforms"] = json!(["SEV-SNP"]);
        })],
    ),
    // ---- ita.key
    rejected(
        "ita.key",
        "key-unknown",
        "the key set lists another kid",
        &[Twist::KeySet(|keys| {
            each_key(keys, |key| key["kid"] = OTHER_KID.into());
        })],
    ),
    rejected(
        "ita.key",
        "key-not-leaf-digest",
        "token and key set agree on a kid that is not the leaf's digest",
        &[
            Twist::KeySet(|keys| each_key(keys, |key| key["kid"] = OTHER_KID.into())),
            Twist::Header(|header| header["kid"] = OTHER_KID.into()),
        ],
    ),
    rejected(
        "ita.key",
        "key-leaf-expired",
        "the leaf certificate has ended",
        &[Twist::Chain(|plan| {
            plan.leaf_valid = (-2 * HOUR, -HOUR);
        })],
    ),
    rejected(
        "ita.key",
        "key-leaf-ended-now",
        "the leaf certificate ended within the leeway, which is not for it",
        &[Twist::Chain(|plan| plan.leaf_valid = (-2 * HOUR, -20))],
    ),
    rejected(
        "ita.key",
        "key-leaf-future",
        "the leaf certificate has not begun",
        &[Twist::Chain(|plan| {
            plan.leaf_valid = (5 * DAY, 50 * DAY);
        })],
    ),
    rejected(
        "ita.key",
        "key-leaf-altered",
        "the leaf's signature does not verify",
        &[Twist::Chain(|plan| {
            plan.leaf_signature_altered = true;
        })],
    ),
    rejected(
        "ita.key",
        "key-other-root",
        "a root of the same name that the policy does not list",
        &[Twist::Chain(|plan| plan.stranger_root = true)],
    ),
    rejected(
        "ita.key",
        "key-ca-no-authority",
        "the signing CA is no CA",
        &[Twist::Chain(|plan| {
            plan.ca_is_authority = false;
        })],
    ),
    rejected(
        "ita.key",
        "key-path-too-long",
        "one more CA than the signing CA's path length allows",
        &[Twist::Chain(|plan| plan.surplus_ca = true)],
    ),
    rejected(
        "ita.key",
        "key-root-not-last",
        "the signing CA once more, after the root",
        &[Twist::KeySet(|keys| {
            each_key(keys, |key| {
                let ca = key["x5c"][1].clone();
                if let Some(chain) = key["x5c"].as_array_mut() {
                    chain.push(ca);
                }
            });
        })],
    ),
    rejected(
        "ita.key",
        "key-root-absent",
        "x5c ends with the signing CA",
        &[Twist::KeySet(|keys| {
            each_key(keys, |key| {
                if let Some(chain) = key["x5c"].as_array_mut() {
                    chain.pop();
                }
            });
        })],
    ),
    rejected(
        "ita.key",
        "key-no-chain",
        "no x5c",
        &[Twist::KeySet(|keys| {
            each_key(keys, |key| remove(key, "x5c"))
        })],
    ),
    rejected(
        "ita.key",
        "key-n-differs",
        "the key set's n is not the leaf's",
        &[Twist::KeySet(|keys| {
            each_key(keys, |key| {
                let mut modulus = BASE64_URL_SAFE_NO_PAD
                    .decode(key["n"].as_str().unwrap_or_default())
                    .unwrap_or_default();
                modulus[7] ^= 1;
                key["n"] = BASE64_URL_SAFE_NO_PAD.encode(modulus).into();
            });
        })],
    ),
    rejected(
        "ita.key",
        "key-only-rs256",
        "the key is listed for RS256 alone",
        &[Twist::KeySet(|keys| {
            keys.retain(|key| key["alg"] == "RS256");
        })],
    ),
    rejected(
        "ita.key",
        "key-set-empty",
        "a key set without keys",
        &[Twist::KeySet(|keys| keys.clear())],
    ),
    accepted(
        "key-set-strange-neighbours",
        "entries that can't be read, before the right one",
        &[Twist::KeySet(|keys| {
            let strange = [
                json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" }),
                json!(7),
                json!({ "kid": 7, "alg": ["PS384"], "x5c": "none" }),
            ];
            keys.splice(0..0, strange);
        })],
    ),
    rejected(
        "ita.key",
        "key-server-500",
        "the key server answers 500",
        &[Twist::KeyServer(KeyServer::Head(
            "HTTP/1.1 500 Internal Server Error",
        ))],
    ),
    rejected(
        "ita.key",
        "key-server-redirect",
        "the key server redirects",
        &[Twist::KeyServer(KeyServer::Head(
            "HTTP/1.1 302 Found\r\nLocation: /certs",
        ))],
    ),
    rejected(
        "ita.key",
        "key-server-garbage",
        "the key set is no JSON",
        &[Twist::KeyServer(KeyServer::Body(|| {
            "<html>down for maintenance</html>".into()
        }))],
    ),
    rejected(
        "ita.key",
        "key-server-oversized",
        "the key set has 16 MiB",
        &[Twist::KeyServer(KeyServer::Body(|| {
            format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(OVERSIZED))
        }))],
    ),
    rejected(
        "ita.key",
        "key-server-stall",
        "the key server never answers",
        &[Twist::KeyServer(KeyServer::Stall)],
    ),
    rejected(
        "ita.key",
        "key-server-half",
        "the key server sends a head and no body",
        &[Twist::KeyServer(KeyServer::HalfAnswer)],
    ),
    rejected(
        "ita.key",
        "key-server-drop",
        "the key server hangs up",
        &[Twist::KeyServer(KeyServer::Drop)],
    ),
    rejected(
        "ita.key",
        "key-root-policy",
        "a policy that lists another root",
        &[Twist::Policy(|policy| {
            policy["ita"]["root_sha256"] = json!(["ab".repeat(32)]);
        })],
    ),
    rejected(
        "ita.key",
        "key-offline",
        "a policy without keys and without a key server",
        &[Twist::Policy(|policy| {
            policy["ita"]["jwks_url"] = Value::Null;
        })],
    ),
    accepted(
        "key-in-policy",
        "a policy that carries the keys and names no key server",
        &[
            Twist::KeysInPolicy,
            Twist::Policy(|policy| policy["ita"]["jwks_url"] = Value::Null),
        ],
    ),
    accepted(
        "key-server-unneeded",
        "a policy that carries the keys, and a key server that is down",
        &[Twist::KeysInPolicy, Twist::KeyServer(KeyServer::Stall)],
    ),
    // ---- ita.signature
    rejected(
        "ita.signature",
        "token-signature-altered",
        "one bit of the signature",
        &[Twist::Token(|token| {
            let at = token.rfind('.').unwrap_or_default() + 100;
            let other = if token[at..].starts_with('A') {
                "B"
            } else {
                "A"
            };
            let mut token = token;
            token.replace_range(at..=at, other);
            token
        })],
    ),
    rejected(
        "ita.signature",
        "token-claims-altered",
        "a later exp, under the old signature",
        &[Twist::Token(|token| {
            let parts: Vec<_> = token.split('.').collect();
            let claims = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap_or_default();
            let mut claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
            claims["exp"] = (time::now() + HOUR - MINUTE).into();
            format!(
                "{}.{}.{}",
                parts[0],
                BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()),
                parts[2]
            )
        })],
    ),
    rejected(
        "ita.signature",
        "token-crit",
        "a crit header",
        &[Twist::Header(|header| {
            header.insert("crit".into(), json!(["exp"]));
        })],
    ),
    rejected(
        "ita.signature",
        "token-rs256",
        "signed with RS256, and saying so",
        &[
            Twist::Rs256,
            Twist::Header(|header| header["alg"] = "RS256".into()),
        ],
    ),
    rejected(
        "ita.signature",
        "token-rs256-as-ps384",
        "signed with RS256, saying PS384",
        &[Twist::Rs256],
    ),
    rejected(
        "ita.signature",
        "token-alg-none",
        "alg none, and no signature",
        &[
            Twist::Header(|header| header["alg"] = "none".into()),
            Twist::Token(|token| token[..=token.rfind('.').unwrap_or_default()].to_owned()),
        ],
    ),
    rejected(
        "ita.signature",
        "token-alg-hs256",
        "alg HS256 under a PS384 signature",
        &[Twist::Header(|header| {
            header["alg"] = "HS256".into();
        })],
    ),
    rejected(
        "ita.signature",
        "token-header-doubled-key",
        "alg twice, signed so",
        &[Twist::HeaderText(|header| {
            doubled(&header, r#""alg":"PS384""#)
        })],
    ),
    rejected(
        "ita.signature",
        "token-claims-doubled-key",
        "dbgstat twice, signed so",
        &[Twist::ClaimsText(|claims| {
            doubled(&claims, r#""dbgstat":"disabled""#)
        })],
    ),
    rejected(
        "ita.signature",
        "token-padding",
        "base64 padding after the signature",
        &[Twist::Token(|token| token + "=")],
    ),
    rejected(
        "ita.signature",
        "token-fourth-part",
        "an empty fourth part",
        &[Twist::Token(|token| token + ".")],
    ),
    rejected(
        "ita.signature",
        "token-two-parts",
        "no signature at all",
        &[Twist::Token(|token| {
            token[..token.rfind('.').unwrap_or_default()].to_owned()
        })],
    ),
    rejected(
        "ita.signature",
        "token-claims-list",
        "the claims are a list, signed so",
        &[Twist::ClaimsText(|claims| format!("[{claims}]"))],
    ),
    // ---- ita.issuer
    rejected(
        "ita.issuer",
        "issuer-other",
        "another issuer",
        &[Twist::Claims(|claims| {
            claims["iss"] = "https://trust.elsewhere.test".into();
        })],
    ),
    rejected(
        "ita.issuer",
        "issuer-slash",
        "the issuer with a slash more",
        &[Twist::Claims(|claims| {
            claims["iss"] = format!("{}/", ita::ISSUER).into();
        })],
    ),
    rejected(
        "ita.issuer",
        "issuer-missing",
        "no issuer",
        &[Twist::Claims(|claims| {
            claims.remove("iss");
        })],
    ),
    rejected(
        "ita.issuer",
        "issuer-list",
        "a list that holds the issuer",
        &[Twist::Claims(|claims| {
            claims["iss"] = json!([ita::ISSUER]);
        })],
    ),
    rejected(
        "ita.issuer",
        "issuer-policy",
        "a policy that lists other issuers",
        &[Twist::Policy(|policy| {
            policy["ita"]["issuers"] = json!(["https://trust.elsewhere.test"]);
        })],
    ),
    // ---- ita.time
    rejected(
        "ita.time",
        "time-expired",
        "expired two minutes ago",
        &[Twist::Claims(|claims| {
            claims["exp"] = (time::now() - 2 * MINUTE).into();
            claims["iat"] = (time::now() - 10 * MINUTE).into();
            claims["nbf"] = (time::now() - 10 * MINUTE).into();
        })],
    ),
    rejected(
        "ita.time",
        "time-not-before",
        "valid from ten minutes ahead",
        &[Twist::Claims(|claims| {
            claims["nbf"] = (time::now() + 10 * MINUTE).into();
        })],
    ),
    rejected(
        "ita.time",
        "time-issued-in-future",
        "issued ten minutes ahead",
        &[Twist::Claims(|claims| {
            claims["iat"] = (time::now() + 10 * MINUTE).into();
        })],
    ),
    rejected(
        "ita.time",
        "time-too-long",
        "a lifetime of 3,601 seconds",
        &[Twist::Claims(|claims| {
            claims["exp"] = (time::now() + HOUR + 1).into();
            claims["iat"] = time::now().into();
        })],
    ),
    rejected(
        "ita.time",
        "time-no-exp",
        "no exp",
        &[Twist::Claims(|claims| {
            claims.remove("exp");
        })],
    ),
    rejected(
        "ita.time",
        "time-no-iat",
        "no iat",
        &[Twist::Claims(|claims| {
            claims.remove("iat");
        })],
    ),
    rejected(
        "ita.time",
        "time-no-nbf",
        "no nbf",
        &[Twist::Claims(|claims| {
            claims.remove("nbf");
        })],
    ),
    rejected(
        "ita.time",
        "time-exp-text",
        "exp as a string",
        &[Twist::Claims(|claims| {
            claims["exp"] = claims["exp"].to_string().into();
        })],
    ),
    accepted(
        "time-leeway",
        "expired 20 seconds ago, within the leeway",
        &[Twist::Claims(|claims| {
            claims["exp"] = (time::now() - 20).into();
            claims["iat"] = (time::now() - 10 * MINUTE).into();
            claims["nbf"] = (time::now() - 10 * MINUTE).into();
        })],
    ),
    accepted(
        "time-clock-behind",
        "issued 20 seconds ahead, within the leeway",
        &[Twist::Claims(|claims| {
            claims["iat"] = (time::now() + 20).into();
            claims["nbf"] = (time::now() + 20).into();
        })],
    ),
    // ---- tdx.debug
    rejected(
        "tdx.debug",
        "debug-debuggable",
        "tdx_is_debuggable",
        &[Twist::Claims(|claims| {
            claims["tdx_is_debuggable"] = true.into();
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-attribute",
        "tdx_td_attributes_debug",
        &[Twist::Claims(|claims| {
            claims["tdx_td_attributes_debug"] = true.into();
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-bit",
        "bit 0 of the first byte of tdx_td_attributes",
        &[Twist::Claims(|claims| {
            claims["tdx_td_attributes"] = "0100001000000000".into();
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-dbgstat",
        "dbgstat enabled",
        &[Twist::Claims(|claims| {
            claims["dbgstat"] = "enabled".into();
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-missing",
        "no tdx_is_debuggable",
        &[Twist::Claims(|claims| {
            claims.remove("tdx_is_debuggable");
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-text",
        "tdx_is_debuggable as the string \"false\"",
        &[Twist::Claims(|claims| {
            claims["tdx_is_debuggable"] = "false".into();
        })],
    ),
    rejected(
        "tdx.debug",
        "debug-attributes-short",
        "tdx_td_attributes one digit short",
        &[Twist::Claims(|claims| {
            claims["tdx_td_attributes"] = "000000100000000".into();
        })],
    ),
    accepted(
        "debug-dbgstat-absent",
        "no dbgstat, which may be absent",
        &[Twist::Claims(|claims| {
            claims.remove("dbgstat");
        })],
    ),
    accepted(
        "debug-other-end",
        "bit 0 of the last byte, which is bit 56 and not debug",
        &[Twist::Claims(|claims| {
            claims["tdx_td_attributes"] = "0000001000000001".into();
        })],
    ),
    // ---- tdx.key_binding
    rejected(
        "tdx.key_binding",
        "binding-other-key",
        "the report data names another key",
        &[Twist::Claims(|claims| {
            flip_hex(claims, "tdx_report_data");
        })],
    ),
    rejected(
        "tdx.key_binding",
        "binding-last-bit",
        "the report data differs in the key's last digit",
        &[Twist::Claims(|claims| {
            let mut text = claims["tdx_report_data"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let other = if text[63..].starts_with('0') {
                "1"
            } else {
                "0"
            };
            text.replace_range(63..64, other);
            claims["tdx_report_data"] = text.into();
        })],
    ),
    rejected(
        "tdx.key_binding",
        "binding-second-half",
        "the key is in the second half of the report data",
        &[Twist::Claims(|claims| {
            let text = claims["tdx_report_data"].as_str().unwrap_or_default();
            claims["tdx_report_data"] = format!("{}{}", &text[64..], &text[..64]).into();
        })],
    ),
    rejected(
        "tdx.key_binding",
        "binding-short",
        "report data of 32 bytes",
        &[Twist::Claims(|claims| {
            claims["tdx_report_data"] =
                claims["tdx_report_data"].as_str().unwrap_or_default()[..64].into();
        })],
    ),
    rejected(
        "tdx.key_binding",
        "binding-upper-case",
        "the report data in upper case",
        &[Twist::Claims(|claims| {
            upper_case(claims, "tdx_report_data");
        })],
    ),
    rejected(
        "tdx.key_binding",
        "binding-held-data",
        "the key is in attester_held_data alone",
        &[Twist::Claims(|claims| {
            let text = claims["tdx_report_data"].clone();
            claims["tdx_report_data"] = "00".repeat(64).into();
            claims["attester_held_data"] = text;
        })],
    ),
    // ---- tdx.mrtd
    rejected(
        "tdx.mrtd",
        "mrtd-other",
        "another firmware",
        &[Twist::Claims(|claims| flip_hex(claims, "tdx_mrtd"))],
    ),
    rejected(
        "tdx.mrtd",
        "mrtd-missing",
        "no tdx_mrtd",
        &[Twist::Claims(|claims| {
            claims.remove("tdx_mrtd");
        })],
    ),
    rejected(
        "tdx.mrtd",
        "mrtd-upper-case",
        "tdx_mrtd in upper case",
        &[Twist::Claims(|claims| {
            upper_case(claims, "tdx_mrtd");
        })],
    ),
    rejected(
        "tdx.mrtd",
        "mrtd-short",
        "the first 47 bytes of the right tdx_mrtd",
        &[Twist::Claims(|claims| {
            claims["tdx_mrtd"] = claims["tdx_mrtd"].as_str().unwrap_or_default()[..94].into();
        })],
    ),
    rejected(
        "tdx.mrtd",
        "mrtd-policy",
        "a policy that lists other firmware",
        &[Twist::Policy(|policy| {
            policy["tdx"]["mrtd"] = json!(["ab".repeat(48), "cd".repeat(48)]);
        })],
    ),
    // ---- tdx.seam_svn
    rejected(
        "tdx.seam_svn",
        "seam-svn-low",
        "tdx_seamsvn 0",
        &[Twist::Claims(|claims| {
            claims["tdx_seamsvn"] = 0.into();
        })],
    ),
    rejected(
        "tdx.seam_svn",
        "seam-svn-policy",
        "a policy that demands 9",
        &[Twist::Policy(|policy| {
            policy["tdx"]["min_seam_svn"] = 9.into();
        })],
    ),
    rejected(
        "tdx.seam_svn",
        "seam-svn-missing",
        "no tdx_seamsvn",
        &[Twist::Claims(|claims| {
            claims.remove("tdx_seamsvn");
        })],
    ),
    rejected(
        "tdx.seam_svn",
        "seam-svn-text",
        "tdx_seamsvn as a string",
        &[Twist::Claims(|claims| {
            claims["tdx_seamsvn"] = "3".into();
        })],
    ),
    rejected(
        "tdx.seam_svn",
        "seam-svn-negative",
        "tdx_seamsvn -3",
        &[Twist::Claims(|claims| {
            claims["tdx_seamsvn"] = (-3).into();
        })],
    ),
    // ---- tdx.tcb_status
    rejected(
        "tdx.tcb_status",
        "tcb-revoked",
        "attester_tcb_status Revoked",
        &[Twist::Claims(|claims| {
            claims["attester_tcb_status"] = "Revoked".into();
        })],
    ),
    rejected(
        "tdx.tcb_status",
        "tcb-unknown",
        "a status that nobody knows",
        &[Twist::Claims(|claims| {
            claims["attester_tcb_status"] = "UpToDateEnough".into();
        })],
    ),
    rejected(
        "tdx.tcb_status",
        "tcb-missing",
        "no attester_tcb_status",
        &[Twist::Claims(|claims| {
            claims.remove("attester_tcb_status");
        })],
    ),
    rejected(
        "tdx.tcb_status",
        "tcb-strict",
        "OutOfDate, and a policy that warns of nothing",
        &[
            Twist::Claims(|claims| claims["attester_tcb_status"] = "OutOfDate".into()),
            Twist::Policy(|policy| policy["tdx"]["tcb_status"]["warn"] = json!([])),
        ],
    ),
    warned(
        "tdx.tcb_status",
        "tcb-warn",
        "OutOfDate, of which the policy warns",
        &[Twist::Claims(|claims| {
            claims["attester_tcb_status"] = "OutOfDate".into();
        })],
    ),
    warned(
        "tdx.tcb_status",
        "tcb-warn-spelling",
        "the same, spelled OUT_OF_DATE",
        &[Twist::Claims(|claims| {
            claims["attester_tcb_status"] = "OUT_OF_DATE".into();
        })],
    ),
    accepted(
        "tcb-spelling",
        "an accepted status, spelled \"sw_hardening needed\"",
        &[Twist::Claims(|claims| {
            claims["attester_tcb_status"] = "sw_hardening needed".into();
        })],
    ),
    // ---- tdx.advisories, tdx.tcb_age
    rejected(
        "tdx.advisories",
        "advisory-denied",
        "an advisory that the policy denies",
        &[
            Twist::Claims(|claims| {
                claims.insert(
                    "attester_advisory_ids".into(),
                    json!(["INTEL-SA-00615", "INTEL-SA-00837"]),
                );
            }),
            Twist::Policy(|policy| policy["tdx"]["deny_advisories"] = json!(["INTEL-SA-00837"])),
        ],
    ),
    rejected(
        "tdx.advisories",
        "advisory-text",
        "the advisories as one string, and a policy that denies some",
        &[
            Twist::Claims(|claims| {
                claims.insert("attester_advisory_ids".into(), "INTEL-SA-00615".into());
            }),
            Twist::Policy(|policy| policy["tdx"]["deny_advisories"] = json!(["INTEL-SA-00837"])),
        ],
    ),
    accepted(
        "advisory-other",
        "an advisory that the policy does not deny",
        &[
            Twist::Claims(|claims| {
                claims.insert("attester_advisory_ids".into(), json!(["INTEL-SA-00615"]));
            }),
            Twist::Policy(|policy| policy["tdx"]["deny_advisories"] = json!(["INTEL-SA-00837"])),
        ],
    ),
    rejected(
        "tdx.tcb_age",
        "tcb-age-old",
        "a TCB of 90 days, and a policy that takes 30",
        &[Twist::Policy(|policy| {
            policy["tdx"]["max_tcb_age_days"] = 30.into();
        })],
    ),
    rejected(
        "tdx.tcb_age",
        "tcb-age-unreadable",
        "a date that is none, and a policy that asks for it",
        &[
            Twist::Claims(|claims| claims["attester_tcb_date"] = "yesterday".into()),
            Twist::Policy(|policy| policy["tdx"]["max_tcb_age_days"] = 365.into()),
        ],
    ),
    rejected(
        "tdx.tcb_age",
        "tcb-age-missing",
        "no date, and a policy that asks for it",
        &[
            Twist::Claims(|claims| {
                claims.remove("attester_tcb_date");
            }),
            Twist::Policy(|policy| policy["tdx"]["max_tcb_age_days"] = 365.into()),
        ],
    ),
    accepted(
        "tcb-age-young",
        "a TCB of 90 days, and a policy that takes 365",
        &[Twist::Policy(|policy| {
            policy["tdx"]["max_tcb_age_days"] = 365.into();
        })],
    ),
    // ---- tokens of version 2
    accepted(
        "token-v2",
        "the claims under tdx, as tokens of version 2 have them",
        &[Twist::Claims(ita::to_version_2)],
    ),
    rejected(
        "tdx.mrtd",
        "token-v2-claim-twice",
        "a token of version 2 with tdx_mrtd in both places",
        &[Twist::Claims(|claims| {
            let mrtd = claims["tdx_mrtd"].clone();
            ita::to_version_2(claims);
            claims.insert("tdx_mrtd".into(), mrtd);
        })],
    ),
    rejected(
        "tdx.seam_svn",
        "token-v2-claim-above",
        "a token of version 2 with tdx_seamsvn in the old place alone",
        &[Twist::Claims(|claims| {
            let seam = claims.remove("tdx_seamsvn").unwrap_or_default();
            ita::to_version_2(claims);
            claims.insert("tdx_seamsvn".into(), seam);
        })],
    ),
    // ---- release.signature
    rejected(
        "release.signature",
        "release-other-bytes",
        "the signature is over other bytes",
        &[Twist::Signing(|plan| {
            plan.other_bytes = true;
        })],
    ),
    rejected(
        "release.signature",
        "release-other-ca",
        "a CA of the same name issued the certificate",
        &[Twist::Signing(|plan| plan.stranger_ca = true)],
    ),
    rejected(
        "release.signature",
        "release-no-code-signing",
        "the certificate is for TLS servers",
        &[Twist::Signing(|plan| plan.code_signing = false)],
    ),
    rejected(
        "release.signature",
        "release-no-sct",
        "no certificate timestamp",
        &[Twist::Signing(|plan| {
            plan.sct = Sct::Missing;
        })],
    ),
    rejected(
        "release.signature",
        "release-bad-sct",
        "an altered certificate timestamp",
        &[Twist::Signing(|plan| {
            plan.sct = Sct::Altered;
        })],
    ),
    rejected(
        "release.signature",
        "release-other-ct-log",
        "a certificate timestamp of an unlisted log",
        &[Twist::Signing(|plan| plan.sct = Sct::StrangerLog)],
    ),
    rejected(
        "release.signature",
        "release-logged-late",
        "logged after the certificate had ended",
        &[Twist::Signing(|plan| plan.logged_after = 11 * MINUTE)],
    ),
    // ---- release.identity
    rejected(
        "release.identity",
        "release-other-email",
        "another signer",
        &[Twist::Signing(|plan| {
            plan.email = "intruder@enclave.test";
        })],
    ),
    rejected(
        "release.identity",
        "release-email-case",
        "the signer in other letters",
        &[Twist::Signing(|plan| {
            plan.email = "Releases@enclave.test";
        })],
    ),
    rejected(
        "release.identity",
        "release-other-issuer",
        "the signer's name vouched for by another issuer",
        &[Twist::Signing(|plan| {
            plan.issuer = "https://accounts.elsewhere.test"
        })],
    ),
    rejected(
        "release.identity",
        "release-uri-san",
        "the signer's name as a URI",
        &[Twist::Signing(|plan| {
            plan.uri_san = true;
        })],
    ),
    rejected(
        "release.identity",
        "release-second-san",
        "a second name beside the signer's",
        &[Twist::Signing(|plan| {
            plan.second_san = true;
        })],
    ),
    rejected(
        "release.identity",
        "release-identity-policy",
        "a policy that names another signer",
        &[Twist::Policy(|policy| {
            policy["sigstore"]["identity"] = "releases@elsewhere.test".into()
        })],
    ),
    rejected(
        "release.identity",
        "release-issuer-policy",
        "a policy that names another issuer of the signer",
        &[Twist::Policy(|policy| {
            policy["sigstore"]["issuer"] = "https://accounts.elsewhere.test".into()
        })],
    ),
    // ---- release.log
    rejected(
        "release.log",
        "log-no-proof",
        "no inclusion proof",
        &[Twist::Bundle(|bundle| {
            remove(entry(bundle), "inclusionProof");
        })],
    ),
    rejected(
        "release.log",
        "log-no-promise",
        "no signed entry timestamp",
        &[Twist::Bundle(|bundle| {
            remove(entry(bundle), "inclusionPromise");
        })],
    ),
    rejected(
        "release.log",
        "log-bad-promise",
        "an altered signed entry timestamp",
        &[Twist::Bundle(|bundle| {
            flip(&mut entry(bundle)["inclusionPromise"]["signedEntryTimestamp"]);
        })],
    ),
    rejected(
        "release.log",
        "log-other-promise-key",
        "another key signed the promise",
        &[Twist::Signing(|plan| {
            plan.stranger_promise = true;
        })],
    ),
    rejected(
        "release.log",
        "log-time-altered",
        "integratedTime a second later than promised",
        &[Twist::Bundle(|bundle| {
            let time = &mut entry(bundle)["integratedTime"];
            let seconds: i64 = time
                .as_str()
                .and_then(|time| time.parse().ok())
                .unwrap_or_default();
            *time = (seconds + 1).to_string().into();
        })],
    ),
    rejected(
        "release.log",
        "log-time-future",
        "logged tomorrow, with a certificate of tomorrow",
        &[Twist::Signing(|plan| plan.issued = DAY)],
    ),
    rejected(
        "release.log",
        "log-bad-proof",
        "an altered hash in the proof",
        &[Twist::Bundle(|bundle| {
            flip(&mut entry(bundle)["inclusionProof"]["hashes"][1]);
        })],
    ),
    rejected(
        "release.log",
        "log-bad-root",
        "an altered root hash",
        &[Twist::Bundle(|bundle| {
            flip(&mut entry(bundle)["inclusionProof"]["rootHash"]);
        })],
    ),
    rejected(
        "release.log",
        "log-proof-size",
        "a tree size that is not the checkpoint's",
        &[Twist::Bundle(|bundle| {
            entry(bundle)["inclusionProof"]["treeSize"] = "12".into();
        })],
    ),
    rejected(
        "release.log",
        "log-checkpoint-size",
        "a checkpoint, well signed, of another size",
        &[Twist::Signing(|plan| plan.checkpoint_size = 1)],
    ),
    rejected(
        "release.log",
        "log-other-checkpoint-key",
        "another key signed the checkpoint",
        &[Twist::Signing(|plan| {
            plan.stranger_checkpoint = true;
        })],
    ),
    rejected(
        "release.log",
        "log-other-origin",
        "a checkpoint, well signed, of another origin",
        &[Twist::Signing(|plan| {
            plan.origin = || "rekor.elsewhere.test - 4716023985617599215".into()
        })],
    ),
    rejected(
        "release.log",
        "log-origin-no-tree",
        "a checkpoint, well signed, whose origin has no tree id",
        &[Twist::Signing(|plan| {
            plan.origin = || "rekor.enclave.test".into()
        })],
    ),
    rejected(
        "release.log",
        "log-origin-odd-tree",
        "a checkpoint, well signed, whose tree id is not decimal",
        &[Twist::Signing(|plan| {
            plan.origin = || "rekor.enclave.test - 0x41".into()
        })],
    ),
    rejected(
        "release.log",
        "log-other-signer-name",
        "the checkpoint's signature bears another name",
        &[Twist::Signing(|plan| {
            plan.signed_by = "rekor.elsewhere.test"
        })],
    ),
    rejected(
        "release.log",
        "log-checkpoint-newlines",
        "two newlines at the checkpoint's end",
        &[Twist::Signing(|plan| plan.checkpoint_end = "\n\n")],
    ),
    rejected(
        "release.log",
        "log-checkpoint-no-newline",
        "no newline at the checkpoint's end",
        &[Twist::Signing(|plan| plan.checkpoint_end = "")],
    ),
    rejected(
        "release.log",
        "log-checkpoint-unsigned",
        "a checkpoint without signatures",
        &[Twist::Bundle(|bundle| {
            checkpoint(bundle, |note| {
                note.split('\u{2014}').next().unwrap_or_default().to_owned()
            });
        })],
    ),
    accepted(
        "log-witness",
        "a witness's signature below the log's",
        &[Twist::Bundle(|bundle| {
            checkpoint(bundle, |note| {
                format!(
                    "{note}\u{2014} witness.enclave.test {}\n",
                    BASE64_STANDARD.encode([7; 76])
                )
            });
        })],
    ),
    rejected(
        "release.log",
        "log-unknown",
        "a log id that the trusted root does not list",
        &[Twist::Bundle(|bundle| {
            flip(&mut entry(bundle)["logId"]["keyId"]);
        })],
    ),
    rejected(
        "release.log",
        "log-two-entries",
        "the entry twice",
        &[Twist::Bundle(|bundle| {
            let entry = entry(bundle).clone();
            if let Some(entries) = bundle["verificationMaterial"]["tlogEntries"].as_array_mut() {
                entries.push(entry);
            }
        })],
    ),
    rejected(
        "release.log",
        "log-no-entry",
        "no entry",
        &[Twist::Bundle(|bundle| {
            bundle["verificationMaterial"]["tlogEntries"] = json!([]);
        })],
    ),
    rejected(
        "release.log",
        "log-index-number",
        "logIndex as a number, not as a string",
        &[Twist::Bundle(|bundle| {
            let index = &mut entry(bundle)["logIndex"];
            let number: u64 = index
                .as_str()
                .and_then(|index| index.parse().ok())
                .unwrap_or_default();
            *index = number.into();
        })],
    ),
    rejected(
        "release.log",
        "bundle-v01",
        "media type v0.1, which asks for no proof",
        &[Twist::Bundle(|bundle| {
            bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into();
        })],
    ),
    rejected(
        "release.log",
        "bundle-v03-old-spelling",
        "media type v0.3 as it was spelled first",
        &[Twist::Bundle(|bundle| {
            bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3".into()
        })],
    ),
    rejected(
        "release.log",
        "bundle-no-media-type",
        "no media type",
        &[Twist::Bundle(|bundle| {
            remove(bundle, "mediaType");
        })],
    ),
    rejected(
        "release.log",
        "bundle-unknown-key",
        "a key that bundles do not have",
        &[Twist::Bundle(|bundle| {
            bundle["comment"] = "".into();
        })],
    ),
    rejected(
        "release.log",
        "bundle-doubled-key",
        "the media type twice",
        &[Twist::BundleText(|bundle| {
            doubled(
                &bundle,
                r#""mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json""#,
            )
        })],
    ),
    rejected(
        "release.log",
        "bundle-odd-spelling",
        "a key in snake case, which protobuf's JSON reads too",
        &[Twist::BundleText(|bundle| {
            bundle.replace("\"inclusionProof\"", "\"inclusion_proof\"")
        })],
    ),
    rejected(
        "release.log",
        "bundle-chain",
        "a certificate chain instead of one certificate",
        &[Twist::Bundle(|bundle| {
            let certificate = bundle["verificationMaterial"]["certificate"].clone();
            remove(&mut bundle["verificationMaterial"], "certificate");
            bundle["verificationMaterial"]["x509CertificateChain"] =
                json!({ "certificates": [certificate] });
        })],
    ),
    rejected(
        "release.log",
        "bundle-other-algorithm",
        "a message digest that says SHA2_384",
        &[Twist::Bundle(|bundle| {
            bundle["messageSignature"]["messageDigest"]["algorithm"] = "SHA2_384".into();
        })],
    ),
    rejected(
        "release.log",
        "bundle-not-json",
        "a bundle that is no JSON",
        &[Twist::BundleText(|_| "bundle".into())],
    ),
    // ---- release.digest
    rejected(
        "release.digest",
        "digest-other",
        "the bundle's message digest is of other bytes",
        &[Twist::Bundle(|bundle| {
            flip(&mut bundle["messageSignature"]["messageDigest"]["digest"])
        })],
    ),
    rejected(
        "release.digest",
        "manifest-altered",
        "the manifest with a space more than was signed",
        &[Twist::SentManifest(|manifest| manifest + " ")],
    ),
    accepted(
        "release-another",
        "another release, as good as the first",
        &[Twist::Manifest(|manifest| {
            manifest.replace(VERSION, "9.9.9")
        })],
    ),
    rejected(
        "release.digest",
        "manifest-doubled-key",
        "version twice, signed so",
        &[Twist::Manifest(|manifest| {
            doubled(&manifest, r#""version":1"#)
        })],
    ),
    rejected(
        "release.digest",
        "manifest-list",
        "a list around the manifest, signed so",
        &[Twist::Manifest(|manifest| format!("[{manifest}]"))],
    ),
    rejected(
        "release.digest",
        "manifest-not-json",
        "a manifest that is no JSON, signed so",
        &[Twist::Manifest(|_| "rtmr1=…".into())],
    ),
    // ---- tdx.rtmr1, tdx.rtmr2
    rejected(
        "tdx.rtmr1",
        "rtmr1-other",
        "another kernel than the manifest's",
        &[Twist::Claims(|claims| {
            flip_hex(claims, "tdx_rtmr1");
        })],
    ),
    rejected(
        "tdx.rtmr1",
        "rtmr1-manifest-lacks",
        "the manifest has no rtmr1",
        &[Twist::Manifest(|text| {
            manifest(&text, |manifest| {
                remove(&mut manifest["tdxMeasurements"], "rtmr1")
            })
        })],
    ),
    rejected(
        "tdx.rtmr1",
        "rtmr1-zero",
        "rtmr1 all zero, in token and manifest",
        &[
            Twist::Claims(|claims| claims["tdx_rtmr1"] = ZERO_REGISTER.into()),
            Twist::Manifest(|text| {
                manifest(&text, |manifest| {
                    manifest["tdxMeasurements"]["rtmr1"] = ZERO_REGISTER.into()
                })
            }),
        ],
    ),
    rejected(
        "tdx.rtmr1",
        "rtmr1-empty",
        "rtmr1 empty, in token and manifest",
        &[
            Twist::Claims(|claims| claims["tdx_rtmr1"] = "".into()),
            Twist::Manifest(|text| {
                manifest(&text, |manifest| {
                    manifest["tdxMeasurements"]["rtmr1"] = "".into()
                })
            }),
        ],
    ),
    rejected(
        "tdx.rtmr2",
        "rtmr2-other",
        "another image than the manifest's",
        &[Twist::Claims(|claims| {
            flip_hex(claims, "tdx_rtmr2");
        })],
    ),
    rejected(
        "tdx.rtmr2",
        "rtmr2-missing",
        "no tdx_rtmr2",
        &[Twist::Claims(|claims| {
            claims.remove("tdx_rtmr2");
        })],
    ),
    rejected(
        "tdx.rtmr2",
        "rtmr2-manifest-lacks",
        "the manifest has no rtmr2",
        &[Twist::Manifest(|text| {
            manifest(&text, |manifest| {
                remove(&mut manifest["tdxMeasurements"], "rtmr2")
            })
        })],
    ),
    rejected(
        "tdx.rtmr2",
        "rtmr2-zero",
        "rtmr2 all zero, in token and manifest",
        &[
            Twist::Claims(|claims| claims["tdx_rtmr2"] = ZERO_REGISTER.into()),
            Twist::Manifest(|text| {
                manifest(&text, |manifest| {
                    manifest["tdxMeasurements"]["rtmr2"] = ZERO_REGISTER.into()
                })
            }),
        ],
    ),
    rejected(
        "tdx.rtmr2",
        "rtmr2-upper-case",
        "the manifest's rtmr2 in upper case",
        &[Twist::Manifest(|text| {
            manifest(&text, |manifest| {
                let register = &mut manifest["tdxMeasurements"]["rtmr2"];
                *register = register.as_str().unwrap_or_default().to_uppercase().into();
            })
        })],
    ),
    // ---- tdx.release
    rejected(
        "tdx.release",
        "release-not-listed",
        "a policy that lists other releases",
        &[Twist::Policy(|policy| {
            policy["tdx"]["releases"] =
                json!([{ "rtmr1": "ab".repeat(48), "rtmr2": "cd".repeat(48) }]);
        })],
    ),
    accepted(
        "release-listed",
        "a policy that lists this release, after another",
        &[Twist::Policy(|policy| {
            let ours = Measurements::of(VERSION);
            policy["tdx"]["releases"] = json!([
                { "rtmr1": "ab".repeat(48), "rtmr2": "cd".repeat(48) },
                { "rtmr1": ours.rtmr1, "rtmr2": ours.rtmr2 },
            ]);
        })],
    ),
];
