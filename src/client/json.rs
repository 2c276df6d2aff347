//! Exact JSON from an application.

use serde_json::value::RawValue;

use crate::error::{Error, Result, Status};

/// Parses a JSON value without changing it, so numbers keep all digits. Errors have a position and
/// quote nothing.
pub(super) fn raw(argument: &str, json: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(json).map_err(|e| invalid(argument, &e))
}

/// Parses a JSON object without changing it.
pub(super) fn object(argument: &str, json: &str) -> Result<Box<RawValue>> {
    let value = raw(argument, json)?;
    if !value.get().starts_with('{') {
        let message = format!("{argument}: it is not a JSON object");
        return Err(Error::new(Status::InvalidJson, message));
    }
    Ok(value)
}

/// Makes the error for invalid JSON.
pub(super) fn invalid(argument: &str, e: &serde_json::Error) -> Error {
    let why = match e.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "it is not the expected JSON",
        _ => "not JSON",
    };
    let (line, column) = (e.line(), e.column());
    Error::new(
        Status::InvalidJson,
        format!("{argument}: {why}, at line {line} column {column}"),
    )
}
