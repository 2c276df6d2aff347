//! Evidence. Verifying the evidence of a report again, offline.

use std::ffi::c_char;
use std::sync::Arc;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_policy, confer_report};
use crate::client::{Evidenced, Export, Verdict, production_verifier, rejection};
use crate::error::{Error, Result, Status};

/// Verifies exported evidence again, offline.
///
/// `evidence`, `evidence_len`: the result of confer_report_evidence().
/// `policy`: NULL for the production policy.
/// `at`: the time of the verification in Unix seconds; -1 for the time when the evidence was
/// captured.
/// `report`: receives the report if the evidence satisfies the policy; free it with
/// confer_report_free().
///
/// The file is not authenticated: whoever exported it chose its time and key.
///
/// Errors: CONFER_E_REJECTED if the evidence does not satisfy the policy, with the report in the
/// error; CONFER_E_INVALID_JSON for another file; CONFER_E_INVALID_ARGUMENT for a negative time
/// other than -1.
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
        let export =
            Export::parse(file).map_err(|e| Error::new(Status::InvalidJson, e.to_string()))?;
        let verifier = match unsafe { handle::peek(policy) } {
            Some(policy) => policy.verifier.clone(),
            None => production_verifier(),
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
        Verdict::Rejected => Err(rejection(evidenced)),
    }
}
