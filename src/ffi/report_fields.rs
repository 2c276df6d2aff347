//! Report fields. Single values of a report: policy, release, measurements, firmware, dates.

use std::ffi::c_char;

use super::support::{guard, handle, text};
use super::types::confer_report;
use crate::client::{Report, Text};

type Field = fn(&Report) -> Option<&str>;

/// Texts of a report, by number.
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
        let text = report.and_then(|r| {
            let make = || FIELDS.iter().map(|field| field(r.report()).map(Text::new));
            let fields = r.0.lent.fields.get_or_init(|| make().collect());
            fields.get(number)?.as_ref()
        });
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

/// Returns the platform that the evidence claims, such as "TDX", or NULL if unknown. Borrowed from
/// the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_platform(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 0, len) }))
}

/// Returns the name of the applied policy, or NULL if unknown. Borrowed from the report. `len` may
/// be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_policy_name(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 1, len) }))
}

/// Returns the SHA-256 of the applied policy document, 64 hex digits, or NULL if unknown. Borrowed
/// from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_policy_sha256(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 2, len) }))
}

/// Returns the enclave's URL without its query, or NULL in a report of confer_evidence_verify().
/// Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_endpoint(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 3, len) }))
}

/// Returns the SHA-256 of the received manifest, 64 hex digits, or NULL if unknown. Borrowed from
/// the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_manifest_sha256(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 4, len) }))
}

/// Returns the release's `imageVersion`, or NULL if unknown. Borrowed from the report. `len` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_image_version(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 5, len) }))
}

/// Returns the release's `proxyVersion`, or NULL if unknown. Borrowed from the report. `len` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_proxy_version(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 6, len) }))
}

/// Returns the signer of the release, the email address in the signing certificate, or NULL if
/// unknown. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_signer(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 7, len) }))
}

/// Returns the identity provider that confirmed the signer, the certificate's OIDC issuer, or NULL
/// if unknown. Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_issuer(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 8, len) }))
}

/// Returns the URL of the transparency log with the signature, or NULL if unknown. Borrowed from
/// the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_log_url(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 9, len) }))
}

/// Returns the measurement of the virtual firmware, 96 hex digits, or NULL if unknown. Borrowed
/// from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_mrtd(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 10, len) }))
}

/// Returns runtime measurement register 0, 96 hex digits, or NULL if unknown. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr0(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 11, len) }))
}

/// Returns runtime measurement register 1, 96 hex digits, or NULL if unknown. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr1(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 12, len) }))
}

/// Returns runtime measurement register 2, 96 hex digits, or NULL if unknown. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr2(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 13, len) }))
}

/// Returns runtime measurement register 3, 96 hex digits, or NULL if unknown. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_rtmr3(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 14, len) }))
}

/// Returns the machine's patch level according to Intel, such as "UpToDate", or NULL if unknown.
/// Borrowed from the report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_tcb_status(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 15, len) }))
}

/// Returns the date of the patch level in RFC 3339 format, or NULL if unknown. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_tcb_date(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: NULL or a live handle; `len` is NULL or writable.
    guard::get(std::ptr::null(), || Some(unsafe { field(report, 16, len) }))
}

/// Returns the time of the verification in Unix seconds, or -1 if unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_verified_at(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe { number(report, |r| i64::try_from(r.verified_at).ok()) })
    })
}

/// Returns the expiry of Intel's token in Unix seconds, or -1 if unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_expires_at(report: *const confer_report) -> i64 {
    // SAFETY: NULL or a live handle.
    guard::get(-1, || {
        Some(unsafe { number(report, |r| r.expires_at.and_then(|v| i64::try_from(v).ok())) })
    })
}

/// Returns the entry's index in the transparency log, or -1 if unknown.
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

/// Returns when the transparency log added the entry, in Unix seconds, or -1 if unknown.
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

/// Returns the security version of the TDX module, or -1 if unknown.
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

/// Returns the Noise static key that the enclave proved to hold, 64 hex digits. Borrowed from the
/// report. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_server_key(
    report: *const confer_report,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let report = unsafe { handle::peek(report) };
        let make = |r: &confer_report| text::hex(r.report().server_key());
        let key = report.map(|r| r.0.lent.server_key.get_or_init(|| make(r)));
        Some(unsafe { text::lend(key, len) })
    })
}

fn advisories(report: &confer_report) -> &[Text] {
    let listed = || report.report().tdx.advisories.iter().flatten();
    let make = || listed().map(|name| Text::new(name)).collect();
    report.0.lent.advisories.get_or_init(make)
}

/// Returns how many of Intel's security advisories apply to the machine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_report_advisory_count(report: *const confer_report) -> usize {
    // SAFETY: NULL or a live handle.
    guard::get(0, || {
        unsafe { handle::peek(report) }.map(|r| advisories(r).len())
    })
}

/// Returns advisory `index`, such as "INTEL-SA-00837", or NULL for a wrong index. Borrowed from the
/// report. `len` may be NULL.
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
                handle::peek(report).and_then(|r| advisories(r).get(index)),
                len,
            )
        })
    })
}
