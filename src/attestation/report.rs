//! The report: what was found, check by check, in the order and with the ids of the specification.
//!
//! It is kept for accepted and refused enclaves alike, so it must never hold a token, a signature or a secret; text
//! that came from the peer is cut and escaped before it gets here ([`shown`]).

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::hex;

/// The version of the report's JSON.
const VERSION: u32 = 1;

/// The longest text of the peer that a report shows: two SHA-512 digests in hex, and a little.
const MAX_SHOWN: usize = 320;

/// A text from outside as a report may show it: printable ASCII, all else escaped, cut to a bound.
/// Escaping is wider than control characters: marks that reorder text could make one measurement look like another.
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
        /// A check of the specification's section 3. Ids are stable; the order is the table's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // each id's meaning is one line of the specification's table
        pub enum CheckId {
            $($(#[$doc])* $variant,)+
        }

        impl CheckId {
            /// All of them, in the order of a report.
            pub const ALL: &'static [CheckId] = &[$(CheckId::$variant),+];

            /// The stable id, as in `tdx.key_binding`.
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

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It holds in a way that the policy tolerates and wants to be seen.
    Warn,
    /// It does not hold.
    Fail,
    /// It could not be evaluated, because what it reads is missing.
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

/// Trouble that passes: a check that failed for it says nothing about the enclave. It is refused all the same, and can be
/// asked again later (attestation section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Intel's service gave the enclave no token.
    NoToken,
    /// This device's clock would explain it.
    Clock,
}

/// What a check found, before it has its place in a report.
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

    /// What would have passed.
    pub(super) fn expected(mut self, text: impl AsRef<str>) -> Self {
        self.expected = Some(shown(text.as_ref()));
        self
    }

    /// What was there.
    pub(super) fn observed(mut self, text: impl AsRef<str>) -> Self {
        self.observed = Some(shown(text.as_ref()));
        self
    }

    /// Marks a failure as one that passes by itself.
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

/// One line of a report.
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
    /// Which check this is.
    pub fn id(&self) -> CheckId {
        self.id
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// One plain sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What would have passed, if there is something to show.
    pub fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// What was there, if there is something to show.
    pub fn observed(&self) -> Option<&str> {
        self.observed.as_deref()
    }

    /// The trouble that it failed for, if that passes.
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
    /// At least one failed or could not be evaluated.
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

/// Which policy was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyName {
    /// Its `name`.
    pub name: String,
    /// SHA-256 of the document's exact bytes, in hex.
    pub sha256: String,
}

/// The release, as far as it is proven: all empty unless the four release checks hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseFacts {
    /// The manifest's `imageVersion`.
    pub image_version: Option<String>,
    /// The manifest's `proxyVersion`.
    pub proxy_version: Option<String>,
    /// The email address in the signing certificate.
    pub signer: Option<String>,
    /// The identity provider that vouched for the signer.
    pub issuer: Option<String>,
    /// Where the signature is logged.
    pub log: LogFacts,
}

/// A transparency log entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// The log's base URL in the trusted root.
    pub url: Option<String>,
    /// The entry's `logIndex`.
    pub index: Option<u64>,
    /// When the log took the entry in, Unix seconds; a Rekor v2 entry has none.
    pub integrated_time: Option<u64>,
}

/// What Intel's token says of the machine: all empty unless `ita.signature` holds.
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
    /// Intel's word on the platform's patch level.
    pub tcb_status: Option<String>,
    /// The date of that patch level, RFC 3339.
    pub tcb_date: Option<String>,
    /// Intel's security advisories that apply.
    pub advisories: Option<Vec<String>>,
}

/// What came of one verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the evidence calls its platform.
    pub platform: Option<String>,
    /// The policy that was applied.
    pub policy: PolicyName,
    /// The time that the verification was told, Unix seconds.
    pub verified_at: u64,
    /// When Intel's token ends, Unix seconds; known once `ita.signature` holds.
    pub expires_at: Option<u64>,
    /// Where the enclave was met, without its query. Set by the session; none in a replay.
    pub endpoint: Option<String>,
    /// Private like the checks: a verdict is about this key and no other.
    pub(super) server_key: [u8; 32],
    /// SHA-256 of the manifest that was received, in hex.
    pub manifest_sha256: Option<String>,
    /// The release that runs there.
    pub release: ReleaseFacts,
    /// The machine it runs on.
    pub tdx: TdxFacts,
    /// How long each stage took, in microseconds and in order. Set by the session; empty in a replay.
    pub timings_us: Vec<(&'static str, u64)>,
    /// Private, so that a verdict can come from a verification alone.
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Verified when every check of [`CheckId::ALL`] is there and passed or warned.
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

    /// The Noise static key that the evidence was held against: the enclave's, if the verdict is verified.
    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }

    /// The checks, in the order of [`CheckId::ALL`].
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Why it was rejected: the first `fail`, or else the first `skip`.
    pub fn first_failure(&self) -> Option<&Check> {
        let first = |outcome| self.checks.iter().find(|check| check.outcome == outcome);
        first(Outcome::Fail).or_else(|| first(Outcome::Skip))
    }

    /// Whether checks failed, and `passes` holds for each of them. What depends on them is skipped then.
    pub fn fails_only(&self, passes: impl Fn(&Check) -> bool) -> bool {
        let failed = |check: &&Check| check.outcome == Outcome::Fail;
        let mut failed = self.checks.iter().filter(failed).peekable();
        failed.peek().is_some() && failed.all(passes)
    }

    /// The report as JSON with the stable names of the specification's section 4.
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
    fn one_check_that_does_not_hold_rejects() {
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
    fn a_report_that_lacks_a_check_or_has_one_twice_rejects() {
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
    fn a_failure_is_named_before_what_was_skipped_for_it() {
        let report = report(|id| match id {
            CheckId::ItaKey => Outcome::Skip,
            CheckId::TdxMrtd => Outcome::Fail,
            CheckId::TdxRelease => Outcome::Fail,
            _ => Outcome::Pass,
        });
        assert_eq!(report.first_failure().unwrap().id(), CheckId::TdxMrtd);
    }

    #[test]
    fn the_json_has_the_specifications_names_in_its_order() {
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
    fn the_peers_text_is_cut_and_escaped() {
        assert_eq!(shown("plain <text> \"quoted\""), "plain <text> \"quoted\"");
        assert_eq!(
            shown("a\u{1b}[31m\n\u{202e}\u{0}"),
            "a\\u{1b}[31m\\u{a}\\u{202e}\\u{0}"
        );
        assert!(shown(&"\u{10ffff}".repeat(100_000)).len() < MAX_SHOWN + 16);
    }
}
