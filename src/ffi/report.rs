//! Reports. The verdict about an enclave, check by check, and as JSON.

use std::ffi::c_char;

use super::config::CONFER_STAGE_ALL;
use super::support::{guard, handle, text};
use super::types::{CheckTexts, confer_report};
use crate::client::{Check, Outcome, Report, Stage, TOTAL, Text, Verdict};

fn checks(report: &confer_report) -> &[CheckTexts] {
    let make = || report.report().checks().iter().map(CheckTexts::new);
    report.0.lent.checks.get_or_init(|| make().collect())
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

/// The check holds.
pub const CONFER_OUTCOME_PASS: i32 = 0;
/// The policy tolerates the result, but the machine needs an update.
pub const CONFER_OUTCOME_WARN: i32 = 1;
/// The check does not hold.
pub const CONFER_OUTCOME_FAIL: i32 = 2;
/// The check could not run, because its input is missing. Rejects like a failure.
pub const CONFER_OUTCOME_SKIP: i32 = 3;

/// Returns whether every check passed or warned, so the enclave satisfies the policy. False for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_verified(report: *const confer_report) -> bool {
    // SAFETY: NULL or a live handle.
    guard::get(false, || {
        unsafe { handle::peek(report) }.map(|r| r.report().verdict() == Verdict::Verified)
    })
}

/// Returns the report as a JSON object, which docs/report.md describes. Borrowed from the report,
/// NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_json(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let report = unsafe { handle::peek(report) };
        let json = report.map(|r| {
            r.0.lent
                .json
                .get_or_init(|| Text::new(&r.report().to_json()))
        });
        Some(unsafe { text::lend(json, len) })
    })
}

/// Returns the evidence as a JSON object, for confer_evidence_verify(). Contains no account token
/// and nothing of a request. Borrowed from the report, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_evidence(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let report = unsafe { handle::peek(report) };
        let json = report.map(|r| {
            r.0.lent
                .evidence
                .get_or_init(|| Text::new(&r.0.evidenced.export.to_json()))
        });
        Some(unsafe { text::lend(json, len) })
    })
}

/// Returns the duration of a stage of connecting in microseconds.
///
/// `stage`: CONFER_STAGE_*, or CONFER_STAGE_ALL for the sum of all stages.
/// Returns -1 for a stage that did not run, and in a report of confer_evidence_verify().
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
        None if stage == CONFER_STAGE_ALL => TOTAL,
        None => return None,
    };
    let (_, took) = report.timings_us.iter().find(|(of, _)| *of == name)?;
    i64::try_from(*took).ok()
}

/// Returns the number of checks. A report always has all checks, in a fixed order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_check_count(report: *const confer_report) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(report) }.map(|r| r.report().checks().len())
    })
}

/// Returns the outcome of check `index`, CONFER_OUTCOME_*, or -1 for a wrong index.
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
        let check = unsafe { handle::peek(report) }.and_then(|r| checks(r).get(index));
        Some(unsafe { text::lend(check.and_then(get), len) })
    })
}

/// Returns the stable id of check `index`, such as "tdx.key_binding", or NULL for a wrong index.
/// Borrowed from the report, NUL-terminated. `len` may be NULL.
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

/// Returns the result of check `index` as a sentence in English, or NULL for a wrong index.
/// Borrowed from the report, NUL-terminated. `len` may be NULL.
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

/// Returns the value that check `index` expected, or NULL if it has none. Borrowed from the report,
/// NUL-terminated. `len` may be NULL.
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

/// Returns the value that check `index` found, or NULL if it has none. Borrowed from the report,
/// NUL-terminated. `len` may be NULL.
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

/// Returns a new handle for a report, which may be one that belongs to an error. Both handles share
/// the report. Free it with confer_report_free(). NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_clone(report: *const confer_report) -> *mut confer_report {
    guard::get(std::ptr::null_mut(), || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(report) }.map(|report| handle::give(report.clone()))
    })
}

/// Frees a report from confer_attestation_report(), confer_evidence_verify() or
/// confer_report_clone(). NULL is allowed. Do not free a report that belongs to an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_free(report: *mut confer_report) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(report) }));
}
