//! The size of a request, checked while it is built.

use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

/// The approximate bytes of a request's texts. JSON adds little to them.
#[derive(Clone, Copy, Default)]
pub(super) struct Size(usize);

impl Size {
    /// Starts with the size of a first part.
    pub(super) fn of(text: &str) -> Size {
        Size(text.len())
    }

    /// Adds a part.
    pub(super) fn grow(&mut self, by: usize) -> Result<()> {
        self.replace(0, by)
    }

    /// Replaces a part with another. Changes nothing on an error.
    pub(super) fn replace(&mut self, old: usize, by: usize) -> Result<()> {
        let size = (self.0 - old).saturating_add(by);
        if size > MAX_BODY {
            return Err(too_large());
        }
        self.0 = size;
        Ok(())
    }
}

/// Makes the error for a request that is too large.
pub(super) fn too_large() -> Error {
    Error::new(
        Status::TooLarge,
        format!("the request is larger than {MAX_BODY} bytes"),
    )
}

/// The longest text that servers accept, in UTF-16 units as they count (protocol section 5).
pub const MAX_TEXT: usize = 20_000_000;

/// Refuses a text that is longer than servers accept.
pub(super) fn text(argument: &str, text: &str) -> Result<()> {
    // A text never has more units than bytes.
    if text.len() > MAX_TEXT && text.encode_utf16().count() > MAX_TEXT {
        let message = format!("{argument}: more than {MAX_TEXT} characters, which no server reads");
        return Err(Error::new(Status::TooLarge, message));
    }
    Ok(())
}
