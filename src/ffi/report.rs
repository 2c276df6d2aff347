//! Reports: the section "Report" of the header.

use std::ffi::c_char;
use std::sync::{Arc, OnceLock};

use super::config::CONFER_STAGE_ENDED;
use super::error::confer_error;
use super::policy::confer_policy;
use super::status::confer_status;
use super::support::{guard, handle, text};
use crate::attestation::{Check, Evidenced, Export, Outcome, Report, Verdict};
use crate::client::Text;
use crate::error::{Error, Result, Status};
use crate::session::{Stage, TOTAL};

/// Why an enclave was trusted or refused, check by check. Immutable: any thread may read it, also several at once.
#[allow(non_camel_case_types)]
pub struct confer_report {
    evidenced: Arc<Evidenced>,
    /// Made when first asked for.
    texts: OnceLock<Texts>,
    json: OnceLock<Text>,
    evidence: OnceLock<Text>,
}

/// What getters lend, with a NUL behind it.
struct Texts {
    fields: Vec<Option<Text>>,
    server_key: Text,
    advisories: Vec<Text>,
    checks: Vec<CheckTexts>,
}

struct CheckTexts {
    id: Text,
    detail: Text,
    expected: Option<Text>,
    observed: Option<Text>,
}

impl confer_report {
    pub(super) fn new(evidenced: Arc<Evidenced>) -> confer_report {
        confer_report {
            evidenced,
            texts: OnceLock::new(),
            json: OnceLock::new(),
            evidence: OnceLock::new(),
        }
    }

    fn report(&self) -> &Report {
        &self.evidenced.report
    }

    fn texts(&self) -> &Texts {
        self.texts.get_or_init(|| {
            let r = self.report();
            Texts {
                fields: FIELDS.iter().map(|field| field(r).map(Text::new)).collect(),
                server_key: text::hex(r.server_key()),
                advisories: r
                    .tdx
                    .advisories
                    .iter()
                    .flatten()
                    .map(|a| Text::new(a))
                    .collect(),
                checks: r.checks().iter().map(CheckTexts::new).collect(),
            }
        })
    }
}

impl CheckTexts {
    fn new(check: &Check) -> CheckTexts {
        CheckTexts {
            id: Text::new(check.id().as_str()),
            detail: Text::new(check.detail()),
            expected: check.expected().map(Text::new),
            observed: check.observed().map(Text::new),
        }
    }
}

type Field = fn(&Report) -> Option<&str>;

/// The texts of a report, by number.
const FIELDS: [Field; 17] = [
    |r| r.platform.as_deref(),
    |r| Some(&r.policy.name),
    |r| Some(&r.policy.sha256),
    |r| r.endpoint.as_deref(),
    |r| r.manifest_sha256.as_deref(),
    |r| r.release.image_version.as_deref(),
    |r| r.release.proxy_version.as_deref(),
    |r| r.release.signer.as_deref(),
    |r| r.release.issuer.as_deref(),
    |r| r.release.log.url.as_deref(),
    |r| r.tdx.mrtd.as_deref(),
    |r| r.tdx.rtmr0.as_deref(),
    |r| r.tdx.rtmr1.as_deref(),
    |r| r.tdx.rtmr2.as_deref(),
    |r| r.tdx.rtmr3.as_deref(),
    |r| r.tdx.tcb_status.as_deref(),
    |r| r.tdx.tcb_date.as_deref(),
];

/// # Safety
/// `report` is NULL or a live handle; `len` is NULL or writable.
unsafe fn field(report: *const confer_report, number: usize, len: *mut usize) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: passed on.
        let report = unsafe { handle::peek(report) };
        let text = report
            .and_then(|r| r.texts().fields.get(number))
            .and_then(Option::as_ref);
        Some(unsafe { text::lend(text, len) })
    })
}

/// # Safety
/// `report` is NULL or a live handle.
unsafe fn number(report: *const confer_report, get: impl FnOnce(&Report) -> Option<i64>) -> i64 {
    // SAFETY: passed on.
    guard::get(-1, || {
        unsafe { handle::peek(report) }.and_then(|r| get(r.report()))
    })
}

/// The check holds.
pub const CONFER_OUTCOME_PASS: i32 = 0;
/// The check holds, but the policy asks to be told, as of firmware that is not up to date.
pub const CONFER_OUTCOME_WARN: i32 = 1;
/// The check does not hold.
pub const CONFER_OUTCOME_FAIL: i32 = 2;
/// The check could not be made: what it needs is missing. It rejects as a failure does.
pub const CONFER_OUTCOME_SKIP: i32 = 3;

/// Whether the enclave satisfies the policy: every check passed or warned. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_verified(report: *const confer_report) -> bool {
    // SAFETY: NULL or a live handle.
    guard::get(false, || {
        unsafe { handle::peek(report) }.map(|r| r.report().verdict() == Verdict::Verified)
    })
}

/// The whole report as a JSON object; docs/report.md describes it. Borrowed from the report, NUL-terminated. `len` may
/// be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_json(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let report = unsafe { handle::peek(report) };
        let json = report.map(|r| r.json.get_or_init(|| Text::new(&r.report().to_json())));
        Some(unsafe { text::lend(json, len) })
    })
}

/// The evidence as a JSON object, to be kept and verified again with confer_evidence_verify(). It holds no token of the
/// account and nothing of any request. Borrowed from the report, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_evidence(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let report = unsafe { handle::peek(report) };
        let json = report.map(|r| {
            r.evidence
                .get_or_init(|| Text::new(&r.evidenced.export.to_json()))
        });
        Some(unsafe { text::lend(json, len) })
    })
}

/// How long a stage of connecting took, in microseconds: one of CONFER_STAGE_*, or CONFER_STAGE_ENDED for all together
/// without the token's; -1 for one that was not entered, and for a replay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_timing_us(report: *const confer_report, stage: i32) -> i64 {
    guard::get(-1, || {
        // SAFETY: NULL or a live handle.
        timing(unsafe { handle::peek(report) }?.report(), stage)
    })
}

fn timing(report: &Report, stage: i32) -> Option<i64> {
    let name = match Stage::ALL.iter().find(|known| **known as i32 == stage) {
        Some(known) => known.name(),
        None if stage == CONFER_STAGE_ENDED => TOTAL,
        None => return None,
    };
    let (_, took) = report.timings_us.iter().find(|(of, _)| *of == name)?;
    i64::try_from(*took).ok()
}

/// How many checks there are: always all of them, in a fixed order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_count(report: *const confer_report) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(report) }.map(|r| r.report().checks().len())
    })
}

/// The outcome of check `index`: one of CONFER_OUTCOME_*; -1 if there is no such check.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_outcome(
    report: *const confer_report,
    index: usize,
) -> i32 {
    guard::get(-1, || {
        // SAFETY: NULL or a live handle.
        let check = unsafe { handle::peek(report) }?
            .report()
            .checks()
            .get(index)?;
        Some(match check.outcome() {
            Outcome::Pass => CONFER_OUTCOME_PASS,
            Outcome::Warn => CONFER_OUTCOME_WARN,
            Outcome::Fail => CONFER_OUTCOME_FAIL,
            Outcome::Skip => CONFER_OUTCOME_SKIP,
        })
    })
}

/// # Safety
/// `report` is NULL or a live handle; `len` is NULL or writable.
unsafe fn check(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
    get: impl FnOnce(&CheckTexts) -> Option<&Text>,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: passed on.
        let check = unsafe { handle::peek(report) }.and_then(|r| r.texts().checks.get(index));
        Some(unsafe { text::lend(check.and_then(get), len) })
    })
}

/// The stable id of check `index`, such as "tdx.key_binding"; NULL if there is none. Borrowed from the report, NUL-terminated.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_id(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { check(report, index, len, |c| Some(&c.id)) })
    })
}

/// What check `index` found, as a sentence in English; NULL if there is none. Borrowed from the report, NUL-terminated.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_detail(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { check(report, index, len, |c| Some(&c.detail)) })
    })
}

/// What check `index` expected; NULL if there is none. Borrowed from the report, NUL-terminated.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_expected(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { check(report, index, len, |c| c.expected.as_ref()) })
    })
}

/// What check `index` found instead, or found; NULL if there is none. Borrowed from the report, NUL-terminated.
/// `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_observed(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { check(report, index, len, |c| c.observed.as_ref()) })
    })
}

/// What the evidence calls its platform, such as "TDX"; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_platform(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 0, len) }))
}

/// The name of the policy that was applied; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_policy_name(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 1, len) }))
}

/// SHA-256 of the policy document that was applied, 64 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_policy_sha256(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 2, len) }))
}

/// Where the enclave was met, without a query; none in a replay; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_endpoint(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 3, len) }))
}

/// SHA-256 of the manifest that was received, 64 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_manifest_sha256(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 4, len) }))
}

/// The release's `imageVersion`; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_image_version(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 5, len) }))
}

/// The release's `proxyVersion`; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_proxy_version(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 6, len) }))
}

/// Who signed the release: the email address of the signing certificate; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_signer(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 7, len) }))
}

/// Who vouched for the signer: the certificate's OIDC issuer; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_issuer(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 8, len) }))
}

/// The transparency log that holds the signature; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_log_url(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 9, len) }))
}

/// The measurement of the virtual firmware, 96 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_mrtd(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 10, len) }))
}

/// Runtime measurement register 0, 96 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr0(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 11, len) }))
}

/// Runtime measurement register 1, 96 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr1(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 12, len) }))
}

/// Runtime measurement register 2, 96 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr2(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 13, len) }))
}

/// Runtime measurement register 3, 96 hex digits; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr3(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 14, len) }))
}

/// Intel's word on the platform's patch level, such as "UpToDate"; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_tcb_status(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 15, len) }))
}

/// The date of that patch level, RFC 3339; NULL if it is not known. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_tcb_date(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 16, len) }))
}

/// When the evidence was verified, Unix seconds; -1 if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_verified_at(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe { number(report, |r| i64::try_from(r.verified_at).ok()) })
    })
}

/// When Intel's token ends, Unix seconds; -1 if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_expires_at(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe { number(report, |r| r.expires_at.and_then(|v| i64::try_from(v).ok())) })
    })
}

/// The entry's index in the transparency log; -1 if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_log_index(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe {
            number(report, |r| {
                r.release.log.index.and_then(|v| i64::try_from(v).ok())
            })
        })
    })
}

/// When the log took the entry in, Unix seconds; -1 if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_log_integrated_time(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe {
            number(report, |r| {
                r.release
                    .log
                    .integrated_time
                    .and_then(|v| i64::try_from(v).ok())
            })
        })
    })
}

/// The security version of the TDX module; -1 if it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_seam_svn(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe {
            number(report, |r| {
                r.tdx.seam_svn.and_then(|v| i64::try_from(v).ok())
            })
        })
    })
}

/// The Noise static key that the enclave proved to hold, 64 hex digits. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_server_key(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(report).map(|r| &r.texts().server_key), len) })
    })
}

/// How many of Intel's security advisories apply to the machine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_advisory_count(report: *const confer_report) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(report) }.map(|r| r.texts().advisories.len())
    })
}

/// Advisory `index`, such as "INTEL-SA-00837"; NULL if there is none. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_advisory(
    report: *const confer_report,
    index: usize,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe {
            text::lend(
                handle::peek(report).and_then(|r| r.texts().advisories.get(index)),
                len,
            )
        })
    })
}

/// Verifies exported evidence again, offline.
///
/// `evidence`, `evidence_len`: what confer_report_evidence() gave. `policy`: NULL for the production policy.
/// `at`: the time of the verification, Unix seconds; -1 for the time at which the evidence was captured.
/// `report`: receives the report if the evidence satisfies the policy; free it with confer_report_free().
///
/// Errors: CONFER_E_REJECTED if it does not, with the report in the error; CONFER_E_INVALID_JSON if it is no such
/// file; CONFER_E_INVALID_ARGUMENT for a negative time but -1. The file is not authenticated: its time and its key are
/// the exporter's word.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_evidence_verify(
    evidence: *const c_char,
    evidence_len: usize,
    policy: *const confer_policy,
    at: i64,
    report: *mut *mut confer_report,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `report` is NULL or writable.
    guard::gives(error, unsafe { handle::out(report, "report") }, |out| {
        // SAFETY: `evidence` is as the contract of texts says; `policy` is NULL or live.
        let file = unsafe { text::bytes(evidence, evidence_len, "evidence") }?;
        let at = match at {
            -1 => None,
            at => Some(u64::try_from(at).map_err(|_| {
                Error::new(
                    Status::InvalidArgument,
                    format!("at: invalid value {at} (expected Unix seconds, or -1)"),
                )
            })?),
        };
        let invalid = |why: String| Error::new(Status::InvalidJson, format!("evidence: {why}"));
        let export = Export::parse(file).map_err(|e| invalid(e.to_string()))?;
        let verifier = match unsafe { handle::peek(policy) } {
            Some(policy) => policy.verifier.clone(),
            None => crate::client::production_verifier(),
        };
        let report = export.replay(&verifier, at);
        let evidenced = Arc::new(Evidenced { report, export });
        accepted(&evidenced)?;
        out.set(handle::give(confer_report::new(evidenced)));
        Ok(())
    })
}

fn accepted(evidenced: &Arc<Evidenced>) -> Result<()> {
    match evidenced.report.verdict() {
        Verdict::Verified => Ok(()),
        Verdict::Rejected => Err(crate::session::rejection(evidenced)),
    }
}

/// Frees a report that confer_attestation_report() or confer_evidence_verify() gave. NULL is allowed. Not for those
/// that belong to an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_free(report: *mut confer_report) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(report) }));
}
