//! The report: the result of each check, with the order and ids of the specification.
//!
//! Refused enclaves have one too. It must never contain a token, a signature or a secret. [`shown`]
//! truncates and escapes every text of the peer.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::hex;

/// The version of the report's JSON.
const VERSION: u32 = 1;

/// The longest text of the peer in a report: two SHA-512 digests in hex, and a little more.
const MAX_SHOWN: usize = 320;

/// Truncates a text of the peer, and escapes everything except printable ASCII. Control characters
/// are not the only risk: marks that reorder text could make one measurement look like another.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() >= MAX_SHOWN {
            out.push_str("...");
            break;
        }
        match character {
            ' '..='~' => out.push(character),
            _ => out.extend(character.escape_unicode()),
        }
    }
    out
}

macro_rules! check_ids {
    ($($(#[$doc:meta])* $variant:ident = $id:literal,)+) => {
        /// A check of the specification's section 3, in the order of its table. Ids are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // the specification's table explains each id
        pub enum CheckId {
            $($(#[$doc])* $variant,)+
        }

        impl CheckId {
            /// All checks, in the order of a report.
            pub const ALL: &'static [CheckId] = &[$(CheckId::$variant),+];

            /// The stable id, such as `tdx.key_binding`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(CheckId::$variant => $id,)+
                }
            }
        }
    };
}

check_ids! {
    EvidenceFormat = "evidence.format",
    Platform = "platform",
    ItaKey = "ita.key",
    ItaSignature = "ita.signature",
    ItaIssuer = "ita.issuer",
    ItaTime = "ita.time",
    TdxDebug = "tdx.debug",
    TdxKeyBinding = "tdx.key_binding",
    TdxMrtd = "tdx.mrtd",
    TdxSeamSvn = "tdx.seam_svn",
    TdxTcbStatus = "tdx.tcb_status",
    TdxAdvisories = "tdx.advisories",
    TdxTcbAge = "tdx.tcb_age",
    ReleaseSignature = "release.signature",
    ReleaseIdentity = "release.identity",
    ReleaseLog = "release.log",
    ReleaseDigest = "release.digest",
    TdxRtmr1 = "tdx.rtmr1",
    TdxRtmr2 = "tdx.rtmr2",
    TdxRelease = "tdx.release",
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CheckId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The check holds.
    Pass,
    /// The policy tolerates the result.
    Warn,
    /// The check does not hold.
    Fail,
    /// The check could not run, because its input is missing.
    Skip,
}

impl Outcome {
    /// The stable name, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
        }
    }
}

/// A temporary cause of a failure that says nothing about the enclave. The enclave is refused all
/// the same, but a later attempt may succeed (attestation section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Intel's service gave the enclave no token.
    NoToken,
    /// A wrong clock of this device would explain it.
    Clock,
}

/// The result of a check, before it is in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    outcome: Outcome,
    detail: Cow<'static, str>,
    expected: Option<String>,
    observed: Option<String>,
    passing: Option<Passing>,
}

impl Finding {
    fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Finding {
            outcome,
            detail: detail.into(),
            expected: None,
            observed: None,
            passing: None,
        }
    }

    pub(super) fn pass(detail: impl Into<Cow<'static, str>>) -> Self {
        Finding::new(Outcome::Pass, detail)
    }

    pub(super) fn warn(detail: impl Into<Cow<'static, str>>) -> Self {
        Finding::new(Outcome::Warn, detail)
    }

    pub(super) fn fail(detail: impl Into<Cow<'static, str>>) -> Self {
        Finding::new(Outcome::Fail, detail)
    }

    pub(super) fn skip(detail: impl Into<Cow<'static, str>>) -> Self {
        Finding::new(Outcome::Skip, detail)
    }

    /// Sets the expected value.
    pub(super) fn expected(mut self, text: impl AsRef<str>) -> Self {
        self.expected = Some(shown(text.as_ref()));
        self
    }

    /// Sets the observed value.
    pub(super) fn observed(mut self, text: impl AsRef<str>) -> Self {
        self.observed = Some(shown(text.as_ref()));
        self
    }

    /// Marks a failure as temporary.
    pub(super) fn passing(mut self, trouble: Passing) -> Self {
        self.passing = Some(trouble);
        self
    }

    pub(super) fn holds(&self) -> bool {
        matches!(self.outcome, Outcome::Pass | Outcome::Warn)
    }

    pub(super) fn at(self, id: CheckId) -> Check {
        let Finding {
            outcome,
            detail,
            expected,
            observed,
            passing,
        } = self;
        Check {
            id,
            outcome,
            detail,
            expected,
            observed,
            passing,
        }
    }
}

/// A check in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    id: CheckId,
    outcome: Outcome,
    detail: Cow<'static, str>,
    expected: Option<String>,
    observed: Option<String>,
    #[serde(skip)]
    passing: Option<Passing>,
}

impl Check {
    /// Returns the check's id.
    pub fn id(&self) -> CheckId {
        self.id
    }

    /// Its outcome.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// One plain sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The expected value, if there is one to show.
    pub fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// The observed value, if there is one to show.
    pub fn observed(&self) -> Option<&str> {
        self.observed.as_deref()
    }

    /// The temporary cause of its failure, if any.
    pub fn passing(&self) -> Option<Passing> {
        self.passing
    }
}

/// The outcome of all checks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check passed or warned.
    Verified,
    /// At least one failed or could not run.
    Rejected,
}

impl Verdict {
    /// The stable name, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Rejected => "rejected",
        }
    }
}

/// The applied policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyName {
    /// Its `name`.
    pub name: String,
    /// SHA-256 of the document's exact bytes, in hex.
    pub sha256: String,
}

/// The release. Empty unless the four release checks hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseFacts {
    /// The manifest's `imageVersion`.
    pub image_version: Option<String>,
    /// The manifest's `proxyVersion`.
    pub proxy_version: Option<String>,
    /// The email address in the signing certificate.
    pub signer: Option<String>,
    /// The identity provider that identified the signer.
    pub issuer: Option<String>,
    /// The log entry of the signature.
    pub log: LogFacts,
}

/// A transparency log entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// The log's base URL in the trusted root.
    pub url: Option<String>,
    /// The entry's `logIndex`.
    pub index: Option<u64>,
    /// When the log added the entry, in Unix seconds. A Rekor v2 entry has no such time.
    pub integrated_time: Option<u64>,
}

/// The machine according to Intel's token. Empty unless `ita.signature` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TdxFacts {
    /// The firmware's measurement, in hex, like those that follow.
    pub mrtd: Option<String>,
    /// Runtime register 0.
    pub rtmr0: Option<String>,
    /// Runtime register 1.
    pub rtmr1: Option<String>,
    /// Runtime register 2.
    pub rtmr2: Option<String>,
    /// Runtime register 3.
    pub rtmr3: Option<String>,
    /// The security version of the TDX module.
    pub seam_svn: Option<u64>,
    /// The platform's patch level according to Intel.
    pub tcb_status: Option<String>,
    /// The date of that patch level, RFC 3339.
    pub tcb_date: Option<String>,
    /// Intel's security advisories that apply.
    pub advisories: Option<Vec<String>>,
}

/// The result of one verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The platform that the evidence claims.
    pub platform: Option<String>,
    /// The applied policy.
    pub policy: PolicyName,
    /// The time of the verification, in Unix seconds.
    pub verified_at: u64,
    /// When Intel's token expires, in Unix seconds. Known only if `ita.signature` holds.
    pub expires_at: Option<u64>,
    /// URL of the enclave without its query. Set by the session; `None` in a replay.
    pub endpoint: Option<String>,
    /// Private like the checks, because a verdict is only for this key.
    pub(super) server_key: [u8; 32],
    /// SHA-256 of the received manifest, in hex.
    pub manifest_sha256: Option<String>,
    /// The release of the enclave.
    pub release: ReleaseFacts,
    /// The machine of the enclave.
    pub tdx: TdxFacts,
    /// Duration of each stage in microseconds, in order. Set by the session; empty in a replay.
    pub timings_us: Vec<(&'static str, u64)>,
    /// Private, so that only a verification can make a verdict.
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Returns *verified* if every check of [`CheckId::ALL`] is present and passed or warned.
    pub fn verdict(&self) -> Verdict {
        let complete = self
            .checks
            .iter()
            .map(Check::id)
            .eq(CheckId::ALL.iter().copied());
        let held = self
            .checks
            .iter()
            .all(|check| matches!(check.outcome, Outcome::Pass | Outcome::Warn));
        if complete && held {
            Verdict::Verified
        } else {
            Verdict::Rejected
        }
    }

    /// The peer's Noise static key. It belongs to the enclave if the verdict is *verified*.
    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }

    /// The checks, in the order of [`CheckId::ALL`].
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Returns the check that rejected the enclave: the first `fail`, or else the first `skip`.
    pub fn first_failure(&self) -> Option<&Check> {
        let first = |outcome| self.checks.iter().find(|check| check.outcome == outcome);
        first(Outcome::Fail).or_else(|| first(Outcome::Skip))
    }

    /// Returns whether checks failed, and `passes` is true for each of them. The checks that depend
    /// on them are skipped then.
    pub fn fails_only(&self, passes: impl Fn(&Check) -> bool) -> bool {
        let failed = |check: &&Check| check.outcome == Outcome::Fail;
        let mut failed = self.checks.iter().filter(failed).peekable();
        failed.peek().is_some() && failed.all(passes)
    }

    /// Writes the report as JSON, with the stable names of the specification's section 4.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            version: u32,
            verdict: Verdict,
            platform: &'a Option<String>,
            policy: &'a PolicyName,
            verified_at: u64,
            expires_at: Option<u64>,
            endpoint: &'a Option<String>,
            server_key: String,
            manifest_sha256: &'a Option<String>,
            release: &'a ReleaseFacts,
            tdx: &'a TdxFacts,
            checks: &'a [Check],
            #[serde(serialize_with = "as_map")]
            timings_us: &'a [(&'static str, u64)],
        }
        let document = Document {
            version: VERSION,
            verdict: self.verdict(),
            platform: &self.platform,
            policy: &self.policy,
            verified_at: self.verified_at,
            expires_at: self.expires_at,
            endpoint: &self.endpoint,
            server_key: hex::encode(&self.server_key),
            manifest_sha256: &self.manifest_sha256,
            release: &self.release,
            tdx: &self.tdx,
            checks: &self.checks,
            timings_us: &self.timings_us,
        };
        serde_json::to_string(&document).expect("strings, integers and lists have a JSON form")
    }
}

fn as_map<S: Serializer>(
    entries: &&[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (name, value) in entries.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn report(outcomes: impl Fn(CheckId) -> Outcome) -> Report {
        let check = |id: &CheckId| Finding::new(outcomes(*id), "A sentence.").at(*id);
        Report {
            platform: Some("TDX".into()),
            policy: PolicyName {
                name: "p".into(),
                sha256: "00".into(),
            },
            verified_at: 1,
            expires_at: None,
            endpoint: Some("wss://example.org/websocket".into()),
            server_key: [0xab; 32],
            manifest_sha256: None,
            release: ReleaseFacts::default(),
            tdx: TdxFacts::default(),
            timings_us: vec![("tls", 2), ("noise", 1)],
            checks: CheckId::ALL.iter().map(check).collect(),
        }
    }

    #[test]
    fn one_failed_check_rejects() {
        assert_eq!(report(|_| Outcome::Pass).verdict(), Verdict::Verified);
        assert_eq!(report(|_| Outcome::Warn).verdict(), Verdict::Verified);
        for bad in [Outcome::Fail, Outcome::Skip] {
            for id in CheckId::ALL {
                let report = report(|other| if other == *id { bad } else { Outcome::Pass });
                assert_eq!(report.verdict(), Verdict::Rejected, "{id}");
                assert_eq!(report.first_failure().unwrap().id(), *id);
            }
        }
    }

    #[test]
    fn missing_or_duplicate_check_rejects() {
        for index in 0..CheckId::ALL.len() {
            let mut less = report(|_| Outcome::Pass);
            less.checks.remove(index);
            assert_eq!(less.verdict(), Verdict::Rejected);
            let mut more = report(|_| Outcome::Pass);
            more.checks.insert(index, more.checks[index].clone());
            assert_eq!(more.verdict(), Verdict::Rejected);
        }
    }

    #[test]
    fn failure_is_named_before_its_skipped_checks() {
        let report = report(|id| match id {
            CheckId::ItaKey => Outcome::Skip,
            CheckId::TdxMrtd => Outcome::Fail,
            CheckId::TdxRelease => Outcome::Fail,
            _ => Outcome::Pass,
        });
        assert_eq!(report.first_failure().unwrap().id(), CheckId::TdxMrtd);
    }

    #[test]
    fn json_has_the_specifications_names_and_order() {
        let text = report(|_| Outcome::Pass).to_json();
        let names = [
            "version",
            "verdict",
            "platform",
            "policy",
            "verified_at",
            "expires_at",
            "endpoint",
            "server_key",
            "manifest_sha256",
            "release",
            "tdx",
            "checks",
            "timings_us",
        ];
        let places: Vec<_> = names
            .iter()
            .map(|name| text.find(&format!("\"{name}\":")).expect(name))
            .collect();
        assert!(places.is_sorted(), "{text}");

        let value: Value = serde_json::from_str(&text).unwrap();
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        assert_eq!(keys(&value), set(&names));
        assert_eq!(
            keys(&value["release"]),
            set(&["image_version", "proxy_version", "signer", "issuer", "log"])
        );
        assert_eq!(
            keys(&value["release"]["log"]),
            set(&["url", "index", "integrated_time"])
        );
        let tdx = [
            "mrtd",
            "rtmr0",
            "rtmr1",
            "rtmr2",
            "rtmr3",
            "seam_svn",
            "tcb_status",
            "tcb_date",
            "advisories",
        ];
        assert_eq!(keys(&value["tdx"]), set(&tdx));
        assert_eq!(
            keys(&value["checks"][0]),
            set(&["id", "outcome", "detail", "expected", "observed"])
        );
        assert_eq!(value["checks"][0]["id"], "evidence.format");
        assert_eq!(value["server_key"], "ab".repeat(32));
        assert!(
            text.ends_with(r#""timings_us":{"tls":2,"noise":1}}"#),
            "{text}"
        );
    }

    #[test]
    fn peers_text_is_truncated_and_escaped() {
        assert_eq!(shown("plain <text> \"quoted\""), "plain <text> \"quoted\"");
        assert_eq!(
            shown("a\u{1b}[31m\n\u{202e}\u{0}"),
            "a\\u{1b}[31m\\u{a}\\u{202e}\\u{0}"
        );
        assert!(shown(&"\u{10ffff}".repeat(100_000)).len() < MAX_SHOWN + 16);
    }
}
