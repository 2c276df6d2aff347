//! Policies. Requirements for an enclave's hardware and software: built in, or a JSON document.

use std::ffi::c_char;
use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_error, confer_policy};
use crate::client::{MAX_POLICY, Policy, Text, Verifier};
use crate::error::{Error, Result, Status};

impl confer_policy {
    fn give(policy: Policy) -> Result<*mut confer_policy> {
        let (json, name) = (Text::new(policy.json()), Text::new(policy.name()));
        let sha256 = text::hex(policy.sha256());
        let verifier = Verifier::new(policy).map_err(invalid)?;
        Ok(handle::give(confer_policy {
            verifier: Arc::new(verifier),
            json,
            name,
            sha256,
        }))
    }
}

fn invalid(why: impl Display) -> Error {
    Error::new(Status::InvalidPolicy, why.to_string())
}

/// Creates the built-in policy for Confer's service. It accepts any release that Confer's release
/// job signed, and warns about machines with outdated firmware, as the official client does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_production(
    policy: *mut *mut confer_policy,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `policy` is NULL or writable.
    guard::gives(error, unsafe { handle::out(policy, "policy") }, |out| {
        out.set(confer_policy::give(Policy::production())?);
        Ok(())
    })
}

/// Creates the production policy with an empty list `tdx.tcb_status.warn`. It refuses machines
/// whose firmware needs an update or another configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_strict(
    policy: *mut *mut confer_policy,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `policy` is NULL or writable.
    guard::gives(error, unsafe { handle::out(policy, "policy") }, |out| {
        out.set(confer_policy::give(Policy::strict())?);
        Ok(())
    })
}

/// Parses a policy from its JSON document. Every key must be present. Unknown and repeated keys are
/// errors. docs/policy.md explains each key.
///
/// `json`, `json_len`: the document, UTF-8, at most 1 MiB; CONFER_NTS if NUL-terminated. Copied.
///
/// Errors: CONFER_E_INVALID_POLICY, with the key's path or the position.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_parse(
    json: *const c_char,
    json_len: usize,
    policy: *mut *mut confer_policy,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `policy` is NULL or writable.
    guard::gives(error, unsafe { handle::out(policy, "policy") }, |out| {
        // SAFETY: `json` is as the contract of texts says.
        let document = unsafe { text::bytes(json, json_len, "json") }?;
        out.set(confer_policy::give(
            Policy::parse(document).map_err(invalid)?,
        )?);
        Ok(())
    })
}

/// Reads a policy from a file, or a pipe up to its end. Otherwise like confer_policy_parse().
///
/// Errors: those of confer_policy_parse(), and CONFER_E_FILE if the file cannot be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_load(
    path: *const c_char,
    path_len: usize,
    policy: *mut *mut confer_policy,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `policy` is NULL or writable.
    guard::gives(error, unsafe { handle::out(policy, "policy") }, |out| {
        // SAFETY: `path` is as the contract of texts says.
        let path = unsafe { text::read(path, path_len, "path") }?;
        let unreadable =
            |e: std::io::Error| Error::io(Status::File, format_args!("path: {path}"), &e);
        let mut document = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_POLICY as u64 + 1)
            .read_to_end(&mut document)
            .map_err(unreadable)?;
        let parsed =
            Policy::parse(&document).map_err(|e| invalid(format_args!("path: {path}: {e}")))?;
        out.set(confer_policy::give(parsed)?);
        Ok(())
    })
}

/// Returns the exact bytes of the document. Borrowed from the policy, NUL-terminated. `len` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_json(
    policy: *const confer_policy,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(policy).map(|p| &p.json), len) })
    })
}

/// Returns the policy's name. Borrowed from the policy, NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_name(
    policy: *const confer_policy,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(policy).map(|p| &p.name), len) })
    })
}

/// Returns the SHA-256 of the document's exact bytes, 64 hex digits, as in reports. Borrowed from
/// the policy. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_sha256(
    policy: *const confer_policy,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        Some(unsafe { text::lend(handle::peek(policy).map(|p| &p.sha256), len) })
    })
}

/// Frees a policy. Configurations that use it stay valid. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_policy_free(policy: *mut confer_policy) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(policy) }));
}
