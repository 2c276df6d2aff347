//! The text of a whole answer, put together from its events.

use super::event::{Event, Kind};
use crate::error::{Error, Progress, Result, Status};

/// The longest collected text: the limit of a request.
pub const MAX_COLLECTED: usize = 32 << 20;

/// The received part of an answer.
pub struct Collected {
    /// Followed by a NUL, so that C can borrow it.
    bytes: Vec<u8>,
    /// An answer of the model is complete. Later text belongs to the next round.
    complete: bool,
}

impl Default for Collected {
    fn default() -> Collected {
        Collected {
            bytes: vec![0],
            complete: false,
        }
    }
}

impl Collected {
    /// The text followed by its NUL.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the content of an event. The first event after a completion starts a new text.
    pub(super) fn add(&mut self, event: &Event) -> Result<()> {
        if std::mem::take(&mut self.complete) {
            *self = Collected::default();
        }
        self.complete = event.kind() == Kind::Completion;
        let added = event.answer();
        if self.bytes.len() - 1 + added.len() > MAX_COLLECTED {
            let message = format!(
                "the answer is larger than {MAX_COLLECTED} bytes; read it with confer_stream_next()"
            );
            let error = Error::new(Status::TooLarge, message);
            return Err(error.with_progress(Progress::PartlyAnswered));
        }
        self.bytes.pop();
        self.bytes.extend_from_slice(added);
        self.bytes.push(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::Details;

    fn piece(bytes: &'static [u8]) -> Event {
        Event::body(Bytes::from_static(bytes), 0, None)
    }

    #[test]
    fn text_of_the_last_round_is_collected() {
        let mut collected = Collected::default();
        assert_eq!(collected.bytes(), b"\0");
        collected.add(&piece(b"I ask a tool.")).unwrap();
        for text in [&b"It is"[..], b" noon."] {
            collected
                .add(&Event::with(Kind::Completion, Details::default()))
                .unwrap();
            collected.add(&piece(text)).unwrap();
            assert_eq!(collected.bytes(), [text, b"\0"].concat());
        }
        let thought = Event::with(Kind::Thinking, Details::default());
        collected.add(&thought).unwrap();
        collected.add(&piece(b" Or so.")).unwrap();
        assert_eq!(collected.bytes(), b" noon. Or so.\0");
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
    }
}
