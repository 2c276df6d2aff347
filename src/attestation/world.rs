//! Intel's side for tests: a root, a signing CA, a leaf, a key set and signed tokens, so that a
//! test can break one rule while all others hold.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA384, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA512, RsaKeySize, date_time_ymd,
};
use serde_json::{Value, json};

use super::ita::rsa_components_of;
use super::{JwkSet, Policy, Verifier, hex};

/// 2027-01-15, when every certificate is valid.
pub(super) const NOW: u64 = 1_800_000_000;

/// The server key of the tests.
pub(super) const SERVER_KEY: [u8; 32] = [0x5a; 32];

struct Keys {
    root: KeyPair,
    ca: KeyPair,
    leaf: KeyPair,
}

/// The content of the certificates.
pub(super) struct Plan {
    pub(super) root: CertificateParams,
    pub(super) ca: CertificateParams,
    pub(super) leaf: CertificateParams,
}

/// One key of a key set, and the hash of its root.
pub(super) struct Intel {
    pub(super) x5c: Vec<Vec<u8>>,
    pub(super) kid: String,
    pub(super) root_sha256: [u8; 32],
}

impl Keys {
    fn generate() -> Keys {
        let key = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA512, RsaKeySize::_2048).unwrap();
        Keys {
            root: key(),
            ca: key(),
            leaf: key(),
        }
    }
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(Keys::generate)
}

fn certificate(name: &str, is_ca: IsCa, usages: &[KeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params.is_ca = is_ca;
    params.key_usages = usages.to_vec();
    params
}

impl Intel {
    /// Makes valid certificates.
    pub(super) fn new() -> Intel {
        Intel::with(|_| {})
    }

    /// Makes certificates with the content that `change` changed.
    pub(super) fn with(change: impl FnOnce(&mut Plan)) -> Intel {
        Intel::issue(keys(), change)
    }

    /// Makes an impostor, with other keys and Intel's names.
    pub(super) fn impostor() -> Intel {
        Intel::issue(&Keys::generate(), |_| {})
    }

    fn issue(keys: &Keys, change: impl FnOnce(&mut Plan)) -> Intel {
        let signs = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut plan = Plan {
            root: certificate("Root", IsCa::Ca(BasicConstraints::Unconstrained), &signs),
            ca: certificate(
                "Signing CA",
                IsCa::Ca(BasicConstraints::Constrained(0)),
                &signs,
            ),
            leaf: certificate(
                "Token Signing",
                IsCa::ExplicitNoCa,
                &[KeyUsagePurpose::DigitalSignature],
            ),
        };
        change(&mut plan);
        let root = plan.root.self_signed(&keys.root).unwrap();
        let by_root = Issuer::from_params(&plan.root, &keys.root);
        let ca = plan.ca.signed_by(&keys.ca, &by_root).unwrap();
        let by_ca = Issuer::from_params(&plan.ca, &keys.ca);
        let leaf = plan.leaf.signed_by(&keys.leaf, &by_ca).unwrap();
        let der = |certificate: &rcgen::Certificate| certificate.der().to_vec();
        Intel {
            kid: hex::encode(digest(&SHA384, leaf.der()).as_ref()),
            root_sha256: digest(&SHA256, root.der()).as_ref().try_into().unwrap(),
            x5c: vec![der(&leaf), der(&ca), der(&root)],
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let (n, e) = rsa_components_of(&self.x5c[0]);
        json!({
            "kty": "RSA", "alg": "PS384", "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e),
            "x5c": self.x5c.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>(),
        })
    }

    pub(super) fn key_set(&self) -> JwkSet {
        JwkSet::parse(json!({ "keys": [self.jwk()] }).to_string().as_bytes()).unwrap()
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": "PS384", "kid": self.kid, "typ": "JWT", "jku": "https://attacker.example/" })
    }

    /// Signs a token with exactly these texts.
    pub(super) fn sign(&self, header: &str, payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        self.sign_parts(&format!("{}.{}", part(header), part(payload)))
    }

    /// Signs a token from encoded parts.
    pub(super) fn sign_parts(&self, message: &str) -> String {
        let key = RsaKeyPair::from_pkcs8(&keys().leaf.serialize_der()).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        let random = SystemRandom::new();
        key.sign(&RSA_PSS_SHA384, &random, message.as_bytes(), &mut signature)
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// Makes the production policy with this root instead of Intel's.
    pub(super) fn policy(&self) -> Value {
        let mut policy: Value = serde_json::from_str(Policy::production().json()).unwrap();
        policy["ita"]["root_sha256"] = json!([hex::encode(&self.root_sha256)]);
        policy["ita"]["jwks"] = json!({ "keys": [self.jwk()] });
        policy["ita"]["jwks_url"] = Value::Null;
        policy
    }

    pub(super) fn verifier(&self) -> Verifier {
        verifier(&self.policy())
    }
}

pub(super) fn verifier(policy: &Value) -> Verifier {
    Verifier::new(Policy::parse(policy.to_string().as_bytes()).unwrap()).unwrap()
}

/// Makes the claims of a machine that the production policy accepts.
pub(super) fn claims() -> Value {
    json!({
        "ver": "1.0.0", "iss": "https://portal.trustauthority.intel.com",
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 240,
        "attester_type": "TDX", "attester_tcb_status": "UpToDate", "attester_tcb_date": "2026-12-01T00:00:00Z",
        "tdx_mrtd": "3c939d8afae2ed7cd153f962e5df0636f899f5f4bd8f790d77eb003d8f1e3a956e283e4e5fc1980ccd4bf00a3bb104ce",
        "tdx_rtmr0": "00".repeat(48), "tdx_rtmr1": "11".repeat(48),
        "tdx_rtmr2": "22".repeat(48), "tdx_rtmr3": "00".repeat(48),
        "tdx_report_data": format!("{}{}", hex::encode(&SERVER_KEY), "00".repeat(32)),
        "tdx_td_attributes": "0000001000000000", "tdx_td_attributes_debug": false,
        "tdx_is_debuggable": false, "tdx_seamsvn": 3, "dbgstat": "disabled",
    })
}

/// Makes evidence from a token, with a manifest for the registers of [`claims`] and an invalid
/// bundle.
pub(super) fn evidence(token: &str) -> Vec<u8> {
    let measurements = json!({ "rtmr1": "11".repeat(48), "rtmr2": "22".repeat(48) });
    let manifest = json!({ "tdxMeasurements": measurements }).to_string();
    let evidence = json!({ "platform": "TDX", "attestation": token, "manifest": manifest, "manifestBundle": "{}" });
    evidence.to_string().into_bytes()
}
