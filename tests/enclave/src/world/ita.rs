//! The Intel part of the trust world: root, signing CA and leaf, the key set, and the tokens.
//!
//! Specified in attestation.md section 1, "Intel Trust Authority". Faults change the plan, the key
//! set, the header, the claims or the finished token. This module does not know which fault is on.

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, Rsa};
use super::time::{DAY, HOUR, MINUTE};
use super::x509::{self, COMMON_NAME, COUNTRY, Certificate, LOCALITY, Name, ORGANIZATION, STATE};
use super::{Keys, time};
use crate::Failure;

pub(crate) const ISSUER: &str = "https://trust.enclave.test";

/// Real tokens live 5 to 30 minutes.
const LIFETIME: i64 = 30 * MINUTE;

const ROOT: Name<'_> = &[
    (COMMON_NAME, "Enclave Test Trust Authority Root CA"),
    (COUNTRY, "US"),
    (STATE, "CA"),
    (LOCALITY, "Loopback"),
    (ORGANIZATION, "Enclave Test"),
];
const SIGNING_CA: Name<'_> = &[
    (COUNTRY, "US"),
    (ORGANIZATION, "Enclave Test"),
    (COMMON_NAME, "Enclave Test ATS Signing CA"),
];
const SUB_CA: Name<'_> = &[
    (ORGANIZATION, "Enclave Test"),
    (COMMON_NAME, "Enclave Test Surplus CA"),
];
const LEAF: Name<'_> = &[
    (COUNTRY, "US"),
    (ORGANIZATION, "Enclave Test"),
    (COMMON_NAME, "Enclave Test Attestation Token Signing"),
];

/// Describes the chain. The default is valid.
pub(crate) struct ChainPlan {
    /// Start and end of the leaf's validity, in seconds after the world was made.
    pub(crate) leaf_valid: (i64, i64),
    /// The chain ends in a root that no policy lists.
    pub(crate) stranger_root: bool,
    pub(crate) ca_is_authority: bool,
    /// Adds a CA below the signing CA, although its path length is 0.
    pub(crate) surplus_ca: bool,
    pub(crate) leaf_signature_altered: bool,
}

impl Default for ChainPlan {
    fn default() -> Self {
        Self {
            leaf_valid: (-HOUR, 365 * DAY),
            stranger_root: false,
            ca_is_authority: true,
            surplus_ca: false,
            leaf_signature_altered: false,
        }
    }
}

/// Certificates, leaf first, root last.
pub(crate) struct Chain(Vec<Vec<u8>>);

impl Chain {
    /// PKCS #1 signatures have no randomness, so a world makes the same certificates each time.
    pub(crate) fn issue(keys: &Keys, plan: &ChainPlan) -> Result<Self, Failure> {
        let stranger = plan
            .stranger_root
            .then(|| Key::generate(Kind::Rsa3072))
            .transpose()?;
        let root_key = stranger.as_ref().unwrap_or(&keys.ita_root);
        let root = Certificate {
            serial: &[0x51, 0x77, 0x01],
            subject: ROOT,
            issuer: ROOT,
            not_before: keys.made_at - DAY,
            not_after: keys.made_at + 20 * 365 * DAY,
            key: root_key,
            extensions: vec![
                x509::authority(None),
                x509::usage_authority(),
                x509::subject_key(root_key)?,
                x509::authority_key(root_key)?,
            ],
        }
        .sign(root_key)?;
        let constraints = if plan.ca_is_authority {
            x509::authority(Some(0))
        } else {
            x509::no_authority()
        };
        let signing_ca = Certificate {
            serial: &[1],
            subject: SIGNING_CA,
            issuer: ROOT,
            not_before: keys.made_at - DAY,
            not_after: keys.made_at + 10 * 365 * DAY,
            key: &keys.ita_ca,
            extensions: vec![
                constraints,
                x509::usage_authority(),
                x509::subject_key(&keys.ita_ca)?,
                x509::authority_key(root_key)?,
            ],
        }
        .sign(root_key)?;
        let surplus = Certificate {
            serial: &[2],
            subject: SUB_CA,
            issuer: SIGNING_CA,
            not_before: keys.made_at - DAY,
            not_after: keys.made_at + 10 * 365 * DAY,
            key: &keys.ita_ca,
            extensions: vec![
                x509::authority(None),
                x509::usage_authority(),
                x509::subject_key(&keys.ita_ca)?,
                x509::authority_key(&keys.ita_ca)?,
            ],
        }
        .sign(&keys.ita_ca)?;
        // The valid leaf is the same at each start, because clients cache its key set. A changed
        // validity counts from now.
        let since = if plan.leaf_valid == ChainPlan::default().leaf_valid {
            keys.made_at
        } else {
            time::now()
        };
        let mut leaf = Certificate {
            serial: &[1],
            subject: LEAF,
            issuer: if plan.surplus_ca { SUB_CA } else { SIGNING_CA },
            not_before: since + plan.leaf_valid.0,
            not_after: since + plan.leaf_valid.1,
            key: &keys.ita_leaf,
            extensions: vec![
                x509::no_authority(),
                x509::subject_key(&keys.ita_leaf)?,
                x509::authority_key(&keys.ita_ca)?,
                x509::usage_signature(),
            ],
        }
        .sign(&keys.ita_ca)?;
        if plan.leaf_signature_altered
            && let Some(last) = leaf.last_mut()
        {
            *last ^= 1;
        }
        let mut chain = vec![leaf];
        if plan.surplus_ca {
            chain.push(surplus);
        }
        chain.extend([signing_ca, root]);
        Ok(Self(chain))
    }

    /// SHA-256 of the root in hex, which a policy pins.
    pub(crate) fn root_sha256(&self) -> String {
        super::hex(digest::digest(&digest::SHA256, &self.0[self.0.len() - 1]).as_ref())
    }

    /// SHA-384 of the leaf in hex.
    pub(crate) fn key_id(&self) -> String {
        super::hex(digest::digest(&digest::SHA384, &self.0[0]).as_ref())
    }

    /// The entries of the key set: one key, once for each algorithm, as in the real set.
    pub(crate) fn key_set(&self, leaf: &Key) -> Result<Vec<Value>, Failure> {
        let (modulus, exponent) = leaf.rsa_numbers()?;
        let x5c: Vec<_> = self
            .0
            .iter()
            .map(|der| BASE64_STANDARD.encode(der))
            .collect();
        let entry = |algorithm: &str| {
            json!({
                "alg": algorithm, "kid": self.key_id(), "kty": "RSA", "x5c": x5c,
                "n": BASE64_URL_SAFE_NO_PAD.encode(&modulus), "e": BASE64_URL_SAFE_NO_PAD.encode(&exponent),
            })
        };
        Ok(vec![entry("PS384"), entry("RS256")])
    }
}

/// Makes a token's header.
pub(crate) fn header(key_id: &str, key_set_url: &str) -> Map<String, Value> {
    object(json!({ "alg": "PS384", "jku": key_set_url, "kid": key_id, "typ": "JWT" }))
}

/// Makes the claims of a valid v1 token (flat). `report_data` begins with the Noise static key.
pub(crate) fn claims(
    report_data: &[u8; 64],
    measurements: &super::Measurements,
) -> Map<String, Value> {
    let now = time::now();
    let none = "0".repeat(96);
    object(json!({
        "tdx_tee_tcb_svn": "0b010400000000000000000000000000",
        "tdx_mrseam": "5b38e33a6487958b72c3c12a938eaa5e3fd4510c51aeeab58c7d5ecee41d7c436489d6c8e4f92f160b7cad34207b00c1",
        "tdx_mrsignerseam": none, "tdx_mrconfigid": none, "tdx_mrowner": none, "tdx_mrownerconfig": none,
        "tdx_seam_attributes": "0000000000000000",
        "tdx_td_attributes": "0000001000000000", // SEPT_VE_DISABLE, bit 28 of a little-endian number
        "tdx_xfam": "e702060000000000",
        "tdx_mrtd": measurements.mrtd,
        "tdx_rtmr0": measurements.rtmr0,
        "tdx_rtmr1": measurements.rtmr1,
        "tdx_rtmr2": measurements.rtmr2,
        "tdx_rtmr3": none,
        "tdx_report_data": super::hex(report_data),
        "tdx_seamsvn": 3,
        "tdx_td_attributes_debug": false,
        "tdx_td_attributes_septve_disable": true,
        "tdx_td_attributes_protection_keys": false,
        "tdx_td_attributes_key_locker": false,
        "tdx_td_attributes_perfmon": false,
        "tdx_is_debuggable": false,
        "attester_tcb_status": "UpToDate",
        "attester_tcb_date": time::rfc3339((now - 90 * DAY) / DAY * DAY),
        "attester_type": "TDX",
        "attester_held_data": "",
        "dbgstat": "disabled",
        "eat_profile": "https://trust.enclave.test/eat_profile",
        "intuse": "generic",
        "jti": super::hex(&super::random::<16>()),
        "policy_ids_matched": [], "policy_ids_unmatched": [],
        "verifier_nonce": { "val": "", "iat": "", "signature": "" },
        "verifier_instance_ids": [],
        "ver": "1.0.0",
        "iat": now, "nbf": now, "exp": now + LIFETIME,
        "iss": ISSUER,
    }))
}

/// Moves the TDX and attester claims under `tdx`, as documented for v2.
pub(crate) fn to_version_2(claims: &mut Map<String, Value>) {
    let (below, above) = std::mem::take(claims).into_iter().partition(|(name, _)| {
        name.starts_with("tdx_") || name.starts_with("attester_") || name == "dbgstat"
    });
    let below: Map<_, _> = below;
    *claims = above;
    claims.insert("tdx".into(), below.into());
    claims.insert("ver".into(), "2.0.0".into());
}

/// Signs header and claims (RFC 7515, 7.1). Takes both as text, because a fault may need a text
/// that no JSON value has.
pub(crate) fn sign(
    leaf: &Key,
    padding: Rsa,
    header: &str,
    claims: &str,
) -> Result<String, Failure> {
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header),
        BASE64_URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = leaf.sign_rsa(padding, signed.as_bytes())?;
    Ok(format!(
        "{signed}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(signature)
    ))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
