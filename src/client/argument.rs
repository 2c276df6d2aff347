//! The errors of invalid arguments.

use crate::error::{Error, Result, Status};

/// Fails for an invalid argument.
pub(super) fn invalid<T>(why: String) -> Result<T> {
    Err(Error::new(Status::InvalidArgument, why))
}

/// Refuses a blank text.
pub(super) fn not_blank(argument: &str, text: &str) -> Result<()> {
    match text.trim().is_empty() {
        true => invalid(format!("{argument}: it is blank (expected some text)")),
        false => Ok(()),
    }
}
