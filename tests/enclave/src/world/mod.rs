//! The trust world: makes everything that a policy can trust.
//!
//! `Kept` holds the private keys, the authorities' certificates and the release that they signed.
//! It is made once and kept under `--state`. `World` holds the key set, release and policy of one
//! process, and makes the evidence of each connection. It applies a fault's twists where a real
//! service could fail. It knows no sockets.

pub(crate) mod der;
pub(crate) mod ita;
pub(crate) mod keys;
pub(crate) mod sigstore;
pub(crate) mod time;
pub(crate) mod x509;

use std::path::Path;

use aws_lc_rs::{digest, hmac, rand};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::Failure;
use crate::faults::Twist;
use keys::{Key, Kind, Rsa};

/// Version of the kept release. `--release` selects another.
pub(crate) const VERSION: &str = "0.1.14";

/// The private keys.
pub(crate) struct Keys {
    made_at: i64,
    ita_root: Key,
    ita_ca: Key,
    ita_leaf: Key,
    fulcio_root: Key,
    fulcio_intermediate: Key,
    ct_log: Key,
    rekor: Key,
    /// Intermediate and root in DER. Kept, because ECDSA signatures are random.
    fulcio: [Vec<u8>; 2],
}

/// The part of a world that stays the same from one start to the next.
pub(crate) struct Kept {
    keys: Keys,
    release: Release,
}

/// A manifest and its bundle as text, because their exact bytes are signed and sent.
pub(crate) struct Release {
    manifest: String,
    bundle: String,
}

/// The registers, which must be equal in manifest and token. Each is a SHA-384, as real ones are.
pub(crate) struct Measurements {
    pub(crate) mrtd: String,
    pub(crate) rtmr0: String,
    pub(crate) rtmr1: String,
    pub(crate) rtmr2: String,
}

impl Measurements {
    /// Registers of a release. Each release has another kernel and image.
    pub(crate) fn of(version: &str) -> Self {
        let measure = |what: &str| hex(digest::digest(&digest::SHA384, what.as_bytes()).as_ref());
        let released = |what: &str| match version {
            VERSION => measure(what),
            other => measure(&format!("{what}, {other}")),
        };
        Self {
            mrtd: measure("the local enclave's firmware"),
            rtmr0: measure("the local enclave's configuration"),
            rtmr1: released("the local enclave's kernel"),
            rtmr2: released("the local enclave's image"),
        }
    }
}

impl Keys {
    /// Generates RSA keys in parallel, because they take long.
    fn generate() -> Result<Self, Failure> {
        let [ita_root, ita_ca, ita_leaf] = std::thread::scope(|scope| {
            [(); 3]
                .map(|()| scope.spawn(|| Key::generate(Kind::Rsa3072)))
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err("key generation failed".into()))
                })
        });
        let made_at = time::now();
        let (fulcio_root, fulcio_intermediate) =
            (Key::generate(Kind::P384)?, Key::generate(Kind::P384)?);
        Ok(Self {
            made_at,
            ita_root: ita_root?,
            ita_ca: ita_ca?,
            ita_leaf: ita_leaf?,
            fulcio: sigstore::authority(&fulcio_root, &fulcio_intermediate, made_at)?,
            fulcio_root,
            fulcio_intermediate,
            ct_log: Key::generate(Kind::P256)?,
            rekor: Key::generate(Kind::P256)?,
        })
    }
}

impl Kept {
    pub(crate) fn generate() -> Result<Self, Failure> {
        let keys = Keys::generate()?;
        let release = Release::sign(&keys, VERSION, &[])?;
        Ok(Self { keys, release })
    }

    /// Loads the world from `file`, or makes a new one and stores it there. If two processes start
    /// at once, both use the world that was stored first.
    pub(crate) fn load_or_generate(file: &Path) -> Result<Self, Failure> {
        if let Some(kept) = Self::load(file)? {
            return Ok(kept);
        }
        let kept = Self::generate()?;
        if crate::files::create(file, kept.to_json()?.as_bytes())? {
            return Ok(kept);
        }
        Self::load(file)?.ok_or_else(|| format!("{}: gone again", file.display()).into())
    }

    fn load(file: &Path) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state: Value = serde_json::from_str(&text)?;
        let text = |name: &str| -> Result<&str, Failure> {
            state[name]
                .as_str()
                .ok_or_else(|| format!("{}: no {name}", file.display()).into())
        };
        let bytes =
            |name: &str| -> Result<Vec<u8>, Failure> { Ok(BASE64_STANDARD.decode(text(name)?)?) };
        let key = |name: &str, kind| Key::from_pkcs8(kind, &bytes(name)?);
        let keys = Keys {
            made_at: state["made_at"].as_i64().ok_or("no made_at")?,
            ita_root: key("ita_root", Kind::Rsa3072)?,
            ita_ca: key("ita_ca", Kind::Rsa3072)?,
            ita_leaf: key("ita_leaf", Kind::Rsa3072)?,
            fulcio_root: key("fulcio_root", Kind::P384)?,
            fulcio_intermediate: key("fulcio_intermediate", Kind::P384)?,
            ct_log: key("ct_log", Kind::P256)?,
            rekor: key("rekor", Kind::P256)?,
            fulcio: [
                bytes("fulcio_intermediate_certificate")?,
                bytes("fulcio_root_certificate")?,
            ],
        };
        let release = Release {
            manifest: text("manifest")?.into(),
            bundle: text("bundle")?.into(),
        };
        Ok(Some(Self { keys, release }))
    }

    fn to_json(&self) -> Result<String, Failure> {
        let key =
            |key: &Key| -> Result<String, Failure> { Ok(BASE64_STANDARD.encode(key.to_pkcs8()?)) };
        let keys = &self.keys;
        Ok(json!({
            "made_at": keys.made_at,
            "ita_root": key(&keys.ita_root)?,
            "ita_ca": key(&keys.ita_ca)?,
            "ita_leaf": key(&keys.ita_leaf)?,
            "fulcio_root": key(&keys.fulcio_root)?,
            "fulcio_intermediate": key(&keys.fulcio_intermediate)?,
            "ct_log": key(&keys.ct_log)?,
            "rekor": key(&keys.rekor)?,
            "fulcio_intermediate_certificate": BASE64_STANDARD.encode(&keys.fulcio[0]),
            "fulcio_root_certificate": BASE64_STANDARD.encode(&keys.fulcio[1]),
            "manifest": self.release.manifest,
            "bundle": self.release.bundle,
        })
        .to_string())
    }
}

impl Release {
    fn sign(keys: &Keys, version: &str, twists: &[Twist]) -> Result<Self, Failure> {
        let measurements = Measurements::of(version);
        let mut manifest = json!({
            "artifactType": "confer-enclave-image",
            "imageVersion": version,
            "proxyVersion": version,
            "tdxMeasurements": {
                "mrtd": measurements.mrtd,
                "rtmr0": measurements.rtmr0,
                "rtmr1": measurements.rtmr1,
                "rtmr2": measurements.rtmr2,
            },
            "version": 1,
        })
        .to_string();
        let mut plan = sigstore::SigningPlan::default();
        for twist in twists {
            match twist {
                Twist::Manifest(change) => manifest = change(manifest),
                Twist::Signing(change) => change(&mut plan),
                _ => {}
            }
        }
        let mut bundle = sigstore::bundle(keys, manifest.as_bytes(), &plan)?;
        for twist in twists {
            if let Twist::Bundle(change) = twist {
                change(&mut bundle);
            }
        }
        let mut bundle = bundle.to_string();
        for twist in twists {
            match twist {
                Twist::BundleText(change) => bundle = change(bundle),
                Twist::SentManifest(change) => manifest = change(manifest),
                _ => {}
            }
        }
        Ok(Self { manifest, bundle })
    }
}

/// The world as one process shows it.
pub(crate) struct World {
    leaf: Key,
    key_id: String,
    key_set_url: String,
    measurements: Measurements,
    release: Release,
    /// The release on connections with a fault, if the fault changes the release.
    other_release: Option<Release>,
    /// The key set that the key server serves.
    pub(crate) key_set: String,
    /// The policy for clients.
    pub(crate) policy: String,
}

impl World {
    pub(crate) fn new(
        kept: Kept,
        version: Option<&str>,
        key_set_url: String,
        twists: &'static [Twist],
    ) -> Result<Self, Failure> {
        let Kept { keys, mut release } = kept;
        let version = version.unwrap_or(VERSION);
        if version != VERSION {
            release = Release::sign(&keys, version, &[])?;
        }
        let mut plan = ita::ChainPlan::default();
        let pinned = ita::Chain::issue(&keys, &plan)?.root_sha256();
        for twist in twists {
            if let Twist::Chain(change) = twist {
                change(&mut plan);
            }
        }
        let chain = ita::Chain::issue(&keys, &plan)?;
        let mut entries = chain.key_set(&keys.ita_leaf)?;
        let mut policy = json!({
            "version": 1,
            "name": "local-enclave",
            "platforms": ["TDX"],
            "ita": {
                "issuers": [ita::ISSUER], "root_sha256": [pinned],
                "jwks_url": key_set_url, "jwks": null, "leeway_s": 60,
            },
            "tdx": {
                "mrtd": [Measurements::of(version).mrtd],
                "min_seam_svn": 1,
                "tcb_status": {
                    "accept": ["UpToDate", "SWHardeningNeeded"],
                    "warn": [
                        "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
                        "OutOfDateConfigurationNeeded",
                    ],
                },
                "deny_advisories": [],
                "max_tcb_age_days": null,
                "releases": null,
            },
            "sigstore": {
                "trusted_root": sigstore::trusted_root(&keys)?,
                "identity": sigstore::SIGNER,
                "issuer": sigstore::SIGNER_ISSUER,
            },
        });
        for twist in twists {
            match twist {
                Twist::KeySet(change) => change(&mut entries),
                Twist::Policy(change) => change(&mut policy),
                Twist::KeysInPolicy => policy["ita"]["jwks"] = json!({ "keys": entries }),
                _ => {}
            }
        }
        let changed = twists.iter().any(Twist::changes_release);
        let other_release = changed
            .then(|| Release::sign(&keys, version, twists))
            .transpose()?;
        Ok(Self {
            key_id: chain.key_id(),
            leaf: keys.ita_leaf,
            key_set_url,
            measurements: Measurements::of(version),
            release,
            other_release,
            key_set: json!({ "keys": entries }).to_string(),
            policy: serde_json::to_string_pretty(&policy)?,
        })
    }

    /// Makes the payload of message 2 for a static key, on a connection with these twists.
    pub(crate) fn evidence(
        &self,
        static_key: &[u8; 32],
        twists: &[Twist],
    ) -> Result<Vec<u8>, Failure> {
        let release = match &self.other_release {
            Some(other) if twists.iter().any(Twist::changes_release) => other,
            _ => &self.release,
        };
        let mut evidence = json!({
            "platform": "TDX",
            "attestation": self.token(static_key, twists)?,
            "manifest": release.manifest,
            "manifestBundle": release.bundle,
        });
        for twist in twists {
            if let Twist::Evidence(change) = twist {
                change(&mut evidence);
            }
        }
        let mut bytes = evidence.to_string().into_bytes();
        for twist in twists {
            if let Twist::EvidenceBytes(change) = twist {
                bytes = change(bytes);
            }
        }
        Ok(bytes)
    }

    /// Makes a new Intel token for a static key.
    fn token(&self, static_key: &[u8; 32], twists: &[Twist]) -> Result<String, Failure> {
        let mut report_data = random::<64>();
        report_data[..32].copy_from_slice(static_key);
        let mut header = ita::header(&self.key_id, &self.key_set_url);
        let mut claims = ita::claims(&report_data, &self.measurements);
        let mut padding = Rsa::Ps384;
        for twist in twists {
            match twist {
                Twist::Header(change) => change(&mut header),
                Twist::Claims(change) => change(&mut claims),
                Twist::Rs256 => padding = Rsa::Rs256,
                _ => {}
            }
        }
        let (mut header, mut claims) = (
            Value::Object(header).to_string(),
            Value::Object(claims).to_string(),
        );
        for twist in twists {
            match twist {
                Twist::HeaderText(change) => header = change(header),
                Twist::ClaimsText(change) => claims = change(claims),
                _ => {}
            }
        }
        let mut token = ita::sign(&self.leaf, padding, &header, &claims)?;
        for twist in twists {
            if let Twist::Token(change) = twist {
                token = change(token);
            }
        }
        Ok(token)
    }
}

/// Makes an account's token as the account API does: HS256, issuer `kerf`, 15 minutes.
pub(crate) fn account_token() -> String {
    let now = time::now();
    let header = json!({ "alg": "HS256", "typ": "JWT" }).to_string();
    let claims =
        json!({ "iss": "kerf", "sub": "local", "iat": now, "exp": now + 15 * time::MINUTE })
            .to_string();
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header),
        BASE64_URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
