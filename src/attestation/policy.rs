//! The policy: one JSON document that states what an application trusts.
//!
//! People read, compare, sign and ship it, so its exact bytes are kept and hashed. It must have
//! every key and no other, so that nobody misreads it. This module knows nothing of evidence.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use url::{Host, Url};

use super::hex;
use super::ita::JwkSet;
use super::json::{self, JsonError, Node, ShapeError};
use super::report::{PolicyName, shown};

/// The largest policy document: room for a key set and a Sigstore trusted root.
pub const MAX_POLICY: usize = 1 << 20;

/// The longest name of a policy.
const MAX_NAME: usize = 128;

/// The largest leeway for a token's times, in seconds. A clock with a larger error should be set.
const MAX_LEEWAY: u64 = 600;

/// Date of sigstore-verify's built-in production root: that of its pinned release 0.15.1. A test
/// fails if the root changes.
pub(super) const BUILT_IN_ROOT_DATE: &str = "2026-10-23";

/// A TDX measurement, a SHA-384.
pub(super) type Measurement = [u8; 48];

/// A kind of confidential machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Tdx,
    SevSnp,
}

impl Platform {
    pub(super) const TDX: &'static str = "TDX";
    pub(super) const SEV_SNP: &'static str = "SEV-SNP";

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Platform::Tdx => Platform::TDX,
            Platform::SevSnp => Platform::SEV_SNP,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Platform> {
        match name {
            Platform::TDX => Some(Platform::Tdx),
            Platform::SEV_SNP => Some(Platform::SevSnp),
            _ => None,
        }
    }
}

/// Intel's rating of a platform's patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TcbStatus {
    UpToDate,
    SwHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSwHardeningNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
    Revoked,
}

impl TcbStatus {
    const ALL: [TcbStatus; 7] = [
        TcbStatus::UpToDate,
        TcbStatus::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
        TcbStatus::Revoked,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            TcbStatus::UpToDate => "UpToDate",
            TcbStatus::SwHardeningNeeded => "SWHardeningNeeded",
            TcbStatus::ConfigurationNeeded => "ConfigurationNeeded",
            TcbStatus::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TcbStatus::OutOfDate => "OutOfDate",
            TcbStatus::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            TcbStatus::Revoked => "Revoked",
        }
    }

    /// Ignores case, `_` and spaces, because services spell it differently (`OUT_OF_DATE`). Returns
    /// `None` for an unknown status, which no list can contain.
    pub(super) fn parse(text: &str) -> Option<TcbStatus> {
        let letters = text
            .chars()
            .filter(|character| !matches!(character, '_' | ' '));
        let folded: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        TcbStatus::ALL
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(&folded))
    }
}

/// The patch levels that pass or warn. One in neither list fails.
#[derive(Debug, Clone)]
pub(super) struct TcbPolicy {
    pub(super) accept: Vec<TcbStatus>,
    pub(super) warn: Vec<TcbStatus>,
}

/// The two registers that identify a release.
#[derive(Debug, Clone)]
pub(super) struct ReleasePin {
    pub(super) rtmr1: Measurement,
    pub(super) rtmr2: Measurement,
}

/// Requirements for Intel Trust Authority.
#[derive(Debug, Clone)]
pub(super) struct ItaPolicy {
    pub(super) issuers: Vec<String>,
    pub(super) roots: Vec<[u8; 32]>,
    pub(super) jwks_url: Option<String>,
    pub(super) jwks: Option<JwkSet>,
    pub(super) leeway: u64,
}

/// Requirements for the machine.
#[derive(Debug, Clone)]
pub(super) struct TdxPolicy {
    pub(super) mrtd: Vec<Measurement>,
    pub(super) min_seam_svn: u64,
    pub(super) tcb_status: TcbPolicy,
    pub(super) deny_advisories: Vec<String>,
    pub(super) max_tcb_age_days: Option<u64>,
    pub(super) releases: Option<Vec<ReleasePin>>,
}

/// Requirements for the release's signer.
#[derive(Debug, Clone)]
pub(super) struct SigstorePolicy {
    pub(super) trusted_root: TrustedRoot,
    /// The policy has no trusted root, so the built-in one counts.
    pub(super) built_in_root: bool,
    pub(super) identity: String,
    pub(super) issuer: String,
}

/// The trusted parties and values: the document of the specification's section 2.
#[derive(Debug, Clone)]
pub struct Policy {
    json: String,
    sha256: [u8; 32],
    name: String,
    pub(super) platforms: Vec<Platform>,
    pub(super) ita: ItaPolicy,
    pub(super) tdx: TdxPolicy,
    pub(super) sigstore: SigstorePolicy,
}

impl Policy {
    /// Returns the built-in policy for Confer's service.
    pub fn production() -> Policy {
        Policy::built_in(include_str!("policy/production.json"))
    }

    /// Returns the built-in policy for Confer's service that fails each patch level which the other
    /// tolerates with a warning.
    pub fn strict() -> Policy {
        Policy::built_in(include_str!("policy/strict.json"))
    }

    fn built_in(document: &'static str) -> Policy {
        Policy::parse(document.as_bytes())
            .expect("the built-in documents are policies: a test reads them")
    }

    /// Reads a policy document of at most [`MAX_POLICY`] bytes.
    ///
    /// # Errors
    /// Names the position of invalid JSON, or the path of the missing, unknown or invalid key.
    pub fn parse(document: &[u8]) -> Result<Policy, PolicyError> {
        let value = json::parse(document, MAX_POLICY).map_err(PolicyError::Json)?;
        let json = std::str::from_utf8(document)
            .expect("a JSON document is UTF-8")
            .to_owned();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, document).as_ref());
        Policy::read(json, sha256, &value).map_err(PolicyError::Shape)
    }

    fn read(json: String, sha256: [u8; 32], value: &Value) -> Result<Policy, ShapeError> {
        let root = Node::root("policy", value);
        let root = root.exactly(
            &["version", "name", "platforms", "ita", "tdx", "sigstore"],
            &[],
        )?;
        let version = root.get("version")?;
        if version.integer()? != 1 {
            return Err(version.error("must be 1, the only version that this library supports"));
        }
        Ok(Policy {
            json,
            sha256,
            name: name(&root.get("name")?)?,
            platforms: each(&root.get("platforms")?, platform)?,
            ita: ita(&root.get("ita")?)?,
            tdx: tdx(&root.get("tdx")?)?,
            sigstore: sigstore(&root.get("sigstore")?)?,
        })
    }

    /// Returns the unchanged document.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns the SHA-256 of the document's exact bytes.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Returns the document's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the leeway for a token's times, in seconds.
    pub fn leeway(&self) -> u64 {
        self.ita.leeway
    }

    /// Returns the URL to fetch the key set from if the policy lacks a key. `None` forbids
    /// fetching.
    pub fn jwks_url(&self) -> Option<&str> {
        self.ita.jwks_url.as_deref()
    }

    pub(super) fn for_report(&self) -> PolicyName {
        PolicyName {
            name: self.name.clone(),
            sha256: hex::encode(&self.sha256),
        }
    }
}

fn ita(node: &Node<'_>) -> Result<ItaPolicy, ShapeError> {
    let node = node.clone().exactly(
        &["issuers", "root_sha256", "jwks_url", "jwks", "leeway_s"],
        &[],
    )?;
    Ok(ItaPolicy {
        issuers: each(&node.get("issuers")?, text)?,
        roots: each(&node.get("root_sha256")?, hash::<32>)?,
        jwks_url: node
            .optional("jwks_url")?
            .map(|url| key_set_url(&url))
            .transpose()?,
        jwks: node
            .optional("jwks")?
            .map(|set| JwkSet::read(&set))
            .transpose()?,
        leeway: at_most(&node.get("leeway_s")?, MAX_LEEWAY)?,
    })
}

fn tdx(node: &Node<'_>) -> Result<TdxPolicy, ShapeError> {
    let keys = [
        "mrtd",
        "min_seam_svn",
        "tcb_status",
        "deny_advisories",
        "max_tcb_age_days",
        "releases",
    ];
    let node = node.clone().exactly(&keys, &[])?;
    Ok(TdxPolicy {
        mrtd: each(&node.get("mrtd")?, hash::<48>)?,
        min_seam_svn: node.get("min_seam_svn")?.integer()?,
        tcb_status: tcb_status(&node.get("tcb_status")?)?,
        deny_advisories: each(&node.get("deny_advisories")?, text)?,
        max_tcb_age_days: node
            .optional("max_tcb_age_days")?
            .map(|days| days.integer())
            .transpose()?,
        releases: node
            .optional("releases")?
            .map(|pins| each(&pins, release_pin))
            .transpose()?,
    })
}

fn sigstore(node: &Node<'_>) -> Result<SigstorePolicy, ShapeError> {
    let node = node
        .clone()
        .exactly(&["trusted_root", "identity", "issuer"], &[])?;
    let own_root = node.optional("trusted_root")?;
    let built_in_root = own_root.is_none();
    let trusted_root = match own_root {
        Some(root) => TrustedRoot::from_json(&root.value().to_string()).map_err(|error| {
            root.error(format!(
                "is not a Sigstore trusted root: {}",
                shown(&error.to_string())
            ))
        })?,
        None => TrustedRoot::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT)
            .expect("the crate carries a trusted root that it can read: a test reads it"),
    };
    Ok(SigstorePolicy {
        trusted_root,
        built_in_root,
        identity: text(&node.get("identity")?)?,
        issuer: text(&node.get("issuer")?)?,
    })
}

fn tcb_status(node: &Node<'_>) -> Result<TcbPolicy, ShapeError> {
    let node = node.clone().exactly(&["accept", "warn"], &[])?;
    let accept = each(&node.get("accept")?, status)?;
    let warn = each(&node.get("warn")?, |entry| match status(entry)? {
        accepted if accept.contains(&accepted) => Err(entry.error("is also in the list accept")),
        status => Ok(status),
    })?;
    Ok(TcbPolicy { accept, warn })
}

fn release_pin(node: &Node<'_>) -> Result<ReleasePin, ShapeError> {
    let node = node.clone().exactly(&["rtmr1", "rtmr2"], &[])?;
    Ok(ReleasePin {
        rtmr1: hash(&node.get("rtmr1")?)?,
        rtmr2: hash(&node.get("rtmr2")?)?,
    })
}

fn each<T>(
    node: &Node<'_>,
    read: impl FnMut(&Node<'_>) -> Result<T, ShapeError>,
) -> Result<Vec<T>, ShapeError> {
    node.list()?.iter().map(read).collect()
}

fn name(node: &Node<'_>) -> Result<String, ShapeError> {
    let name = text(node)?;
    let printable = name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    if printable {
        Ok(name)
    } else {
        Err(node.error(format!(
            "must be printable and at most {MAX_NAME} bytes long"
        )))
    }
}

fn text(node: &Node<'_>) -> Result<String, ShapeError> {
    match node.string()? {
        "" => Err(node.error("must not be empty")),
        text => Ok(text.to_owned()),
    }
}

fn hash<const N: usize>(node: &Node<'_>) -> Result<[u8; N], ShapeError> {
    hex::decode(node.string()?)
        .ok_or_else(|| node.error(format!("must be {} lower-case hex digits", 2 * N)))
}

fn at_most(node: &Node<'_>, limit: u64) -> Result<u64, ShapeError> {
    let value = node.integer()?;
    if value <= limit {
        Ok(value)
    } else {
        Err(node.error(format!("must be at most {limit}")))
    }
}

fn platform(node: &Node<'_>) -> Result<Platform, ShapeError> {
    Platform::parse(node.string()?).ok_or_else(|| {
        node.error(format!(
            "must be \"{}\" or \"{}\"",
            Platform::TDX,
            Platform::SEV_SNP
        ))
    })
}

fn status(node: &Node<'_>) -> Result<TcbStatus, ShapeError> {
    TcbStatus::parse(node.string()?)
        .ok_or_else(|| node.error("is not a TCB status that Intel defines"))
}

/// Certificates prove a key set, but over plain HTTP the network could withhold the right one.
fn key_set_url(node: &Node<'_>) -> Result<String, ShapeError> {
    let url =
        Url::parse(node.string()?).map_err(|error| node.error(format!("is not a URL: {error}")))?;
    let allowed = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => url.host().is_some_and(is_loopback),
        _ => false,
    };
    if !allowed {
        return Err(node.error("must be https, or http to a loopback address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(node.error("must not carry a user name or password"));
    }
    Ok(url.into())
}

/// Whoever connects must check that `localhost` resolves only to loopback addresses.
fn is_loopback(host: Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The error for a text that is not a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyError {
    /// Invalid JSON.
    Json(JsonError),
    /// A key is missing or unknown, or its value is invalid.
    Shape(ShapeError),
}

impl PolicyError {
    /// Makes the error for a readable but unusable trusted root.
    pub(super) fn trusted_root(problem: String) -> PolicyError {
        let root = Node::root("policy.sigstore.trusted_root", &Value::Null);
        PolicyError::Shape(root.error(format!("cannot be used: {problem}")))
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Json(error) => write!(f, "policy: {error}"),
            PolicyError::Shape(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PolicyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_root_is_of_the_stated_date() {
        let actual =
            hex::encode(digest(&SHA256, SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes()).as_ref());
        assert_eq!(
            actual, "6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66",
            "sigstore-verify has another root: set BUILT_IN_ROOT_DATE to its release's date, and this digest"
        );
    }

    #[test]
    fn built_in_policies_differ_only_in_name_and_warnings() {
        let production = Policy::production();
        assert_eq!(production.name(), "confer-production");
        assert_eq!(
            production.jwks_url(),
            Some("https://portal.trustauthority.intel.com/certs")
        );
        assert_eq!(production.json(), include_str!("policy/production.json"));

        let mut with_warnings_removed: Value = serde_json::from_str(production.json()).unwrap();
        with_warnings_removed["name"] = "confer-strict".into();
        with_warnings_removed["tdx"]["tcb_status"]["warn"] = Value::Array(Vec::new());
        let strict: Value = serde_json::from_str(Policy::strict().json()).unwrap();
        assert_eq!(strict, with_warnings_removed);
    }

    fn changed(path: &str, value: Value) -> Result<Policy, PolicyError> {
        let mut document: Value = serde_json::from_str(Policy::production().json()).unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        document
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .insert(key.into(), value);
        Policy::parse(document.to_string().as_bytes())
    }

    fn refusal(path: &str, value: Value) -> String {
        changed(path, value).expect_err(path).to_string()
    }

    #[test]
    fn every_key_must_be_present() {
        let document: Value = serde_json::from_str(Policy::production().json()).unwrap();
        for parent in ["", "/ita", "/tdx", "/tdx/tcb_status", "/sigstore"] {
            for key in document
                .pointer(parent)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
            {
                let mut without = document.clone();
                without
                    .pointer_mut(parent)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove(key);
                let error = Policy::parse(without.to_string().as_bytes())
                    .expect_err(key)
                    .to_string();
                assert_eq!(
                    error,
                    format!("policy{} lacks the key \"{key}\"", parent.replace('/', "."))
                );
            }
        }
    }

    #[test]
    fn unknown_and_duplicate_keys_are_errors_that_name_them() {
        for parent in ["", "/ita", "/tdx", "/tdx/tcb_status", "/sigstore"] {
            let error = refusal(&format!("{parent}/extra"), Value::Null);
            assert_eq!(
                error,
                format!(
                    "policy{} has an unknown key \"extra\"",
                    parent.replace('/', ".")
                )
            );
        }
        let doubled = Policy::production().json().replacen(
            "\"version\": 1",
            "\"version\": 1, \"version\": 1",
            1,
        );
        let error = Policy::parse(doubled.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("policy: the key \"version\" appears twice at line 1"),
            "{error}"
        );
    }

    #[test]
    fn invalid_values_are_errors_that_name_their_path() {
        let long = "a".repeat(MAX_NAME + 1);
        for (path, value, problem) in [
            ("/version", 2.into(), "policy.version must be 1"),
            ("/name", "".into(), "policy.name must not be empty"),
            (
                "/name",
                long.as_str().into(),
                "policy.name must be printable",
            ),
            (
                "/platforms",
                serde_json::json!(["TDX", "SGX"]),
                "policy.platforms[1] must be",
            ),
            (
                "/ita/issuers",
                "x".into(),
                "policy.ita.issuers must be a list",
            ),
            (
                "/ita/root_sha256",
                serde_json::json!(["DE"]),
                "policy.ita.root_sha256[0] must be 64 lower-case hex digits",
            ),
            (
                "/ita/leeway_s",
                601.into(),
                "policy.ita.leeway_s must be at most 600",
            ),
            (
                "/ita/leeway_s",
                Value::Null,
                "policy.ita.leeway_s must be a whole number",
            ),
            (
                "/ita/jwks",
                serde_json::json!({}),
                "policy.ita.jwks lacks the key \"keys\"",
            ),
            ("/tdx/mrtd", Value::Null, "policy.tdx.mrtd must be a list"),
            (
                "/tdx/min_seam_svn",
                (-1).into(),
                "policy.tdx.min_seam_svn must be a whole number",
            ),
            (
                "/tdx/max_tcb_age_days",
                1.5.into(),
                "policy.tdx.max_tcb_age_days must be a whole number",
            ),
            (
                "/tdx/tcb_status/warn",
                serde_json::json!(["Fine"]),
                "policy.tdx.tcb_status.warn[0] is not a TCB status",
            ),
            (
                "/tdx/tcb_status/warn",
                serde_json::json!(["UP_TO_DATE"]),
                "policy.tdx.tcb_status.warn[0] is also in the list",
            ),
            (
                "/tdx/releases",
                serde_json::json!([{"rtmr1": ""}]),
                "policy.tdx.releases[0] lacks the key \"rtmr2\"",
            ),
            (
                "/sigstore/trusted_root",
                serde_json::json!({"tlogs": 1}),
                "policy.sigstore.trusted_root is not a Sigstore",
            ),
        ] {
            let error = refusal(path, value);
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn key_set_comes_over_https_or_from_loopback() {
        let url = |url: &str| changed("/ita/jwks_url", url.into());
        for good in [
            "https://example.org/certs",
            "http://127.0.0.1:8080/c",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.org/",
            "http://128.0.0.1/",
            "http://localhost.example.org/",
            "ftp://127.0.0.1/",
            "certs",
            "https://user@example.org/",
            "file:///etc/certs",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(
            changed("/ita/jwks_url", Value::Null).unwrap().jwks_url(),
            None
        );
    }

    #[test]
    fn tcb_status_is_read_in_every_spelling() {
        assert_eq!(TcbStatus::parse("OUT_OF_DATE"), Some(TcbStatus::OutOfDate));
        assert_eq!(
            TcbStatus::parse("Sw Hardening needed"),
            Some(TcbStatus::SwHardeningNeeded)
        );
        for status in TcbStatus::ALL {
            assert_eq!(TcbStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(TcbStatus::parse("UpToDate!"), None);
        assert_eq!(TcbStatus::parse(""), None);
    }
}
