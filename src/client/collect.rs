//! The text of a whole answer, put together from its events.

use super::event::Event;
use crate::error::{Error, Progress, Result, Status};

/// The longest collected text: the limit of a request.
pub const MAX_COLLECTED: usize = 32 << 20;

/// The received part of an answer.
pub struct Collected {
    /// Followed by a NUL, so that C can borrow it.
    bytes: Vec<u8>,
    too_long: bool,
}

impl Default for Collected {
    fn default() -> Collected {
        Collected {
            bytes: vec![0],
            too_long: false,
        }
    }
}

impl Collected {
    /// The text followed by its NUL.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the content of an event.
    pub(super) fn add(&mut self, event: &Event) -> Result<()> {
        let added = event.answer();
        self.too_long |= self.bytes.len() - 1 + added.len() > MAX_COLLECTED;
        self.fits()?;
        self.bytes.pop();
        self.bytes.extend_from_slice(added);
        self.bytes.push(0);
        Ok(())
    }

    /// Refuses an answer that was too long: without the piece that did not fit it is not complete.
    /// The bindings repeat this message, because they collect the answers of chats with tools.
    pub(super) fn fits(&self) -> Result<()> {
        if !self.too_long {
            return Ok(());
        }
        let message =
            format!("the answer is larger than {MAX_COLLECTED} bytes; read its events one by one");
        Err(Error::new(Status::TooLarge, message).with_progress(Progress::PartlyAnswered))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::{Details, Kind};

    fn piece(bytes: &'static [u8]) -> Event {
        Event::body(Bytes::from_static(bytes), 0, None)
    }

    #[test]
    fn text_is_collected_without_other_events() {
        let mut collected = Collected::default();
        assert_eq!(collected.bytes(), b"\0");
        collected.add(&piece(b"It is")).unwrap();
        for kind in [Kind::Thinking, Kind::Completion] {
            let other = Event::with(kind, Details::default());
            collected.add(&other).unwrap();
        }
        assert_eq!(collected.bytes(), b"It is\0");
        collected.add(&piece(b" noon.")).unwrap();
        assert_eq!(collected.bytes(), b"It is noon.\0");
    }

    #[test]
    fn text_has_a_bound_and_keeps_what_came() {
        let mut collected = Collected::default();
        let mebibyte = vec![b'x'; 1 << 20];
        let piece = Event::body(mebibyte.into(), 0, None);
        for _ in 0..32 {
            collected.add(&piece).unwrap();
        }
        let refused = collected
            .add(&Event::body(Bytes::from_static(b"y"), 0, None))
            .unwrap_err();
        assert_eq!(refused.status(), Status::TooLarge);
        assert_eq!(collected.bytes().len(), MAX_COLLECTED + 1);
        assert!(collected.bytes().ends_with(b"x\0"));
        assert_eq!(collected.fits().unwrap_err().status(), Status::TooLarge);
    }
}
