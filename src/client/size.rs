//! What a request under construction comes to, so that it is refused while it is built and not when it is sent.

use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

/// Bytes of a request's texts, about: JSON adds a little to them.
#[derive(Clone, Copy, Default)]
pub(super) struct Size(usize);

impl Size {
    /// That of a first part.
    pub(super) fn of(text: &str) -> Size {
        Size(text.len())
    }

    /// Accounts for a part.
    pub(super) fn grow(&mut self, by: usize) -> Result<()> {
        self.replace(0, by)
    }

    /// Accounts for a part that takes the place of another, which was accounted for. Nothing changes on an error.
    pub(super) fn replace(&mut self, old: usize, by: usize) -> Result<()> {
        let size = (self.0 - old).saturating_add(by);
        if size > MAX_BODY {
            return Err(too_large());
        }
        self.0 = size;
        Ok(())
    }
}

/// A request is longer than any may be.
pub(super) fn too_large() -> Error {
    Error::new(
        Status::TooLarge,
        format!("the request is larger than {MAX_BODY} bytes"),
    )
}

/// The longest text that servers read, in UTF-16 units, as they count (protocol section 5).
pub const MAX_TEXT: usize = 20_000_000;

/// Refuses a text that is longer than any server reads.
pub(super) fn text(argument: &str, text: &str) -> Result<()> {
    // A text has no more units than bytes.
    if text.len() > MAX_TEXT && text.encode_utf16().count() > MAX_TEXT {
        let message = format!("{argument}: more than {MAX_TEXT} characters, which no server reads");
        return Err(Error::new(Status::TooLarge, message));
    }
    Ok(())
}
