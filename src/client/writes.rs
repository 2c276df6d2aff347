//! A document that the application writes during its upload.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Status};
use crate::session::{Again, Data, MAX_CHUNK, Source, Supply};

/// Carries one document from the application to its connection.
pub struct Writes {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Written bytes that are not sent yet: at most [`MAX_CHUNK`].
    buffer: Vec<u8>,
    length: Option<u64>,
    /// Bytes that the application has yet to write, if the length is known.
    left: Option<u64>,
    /// The document is complete.
    finished: bool,
    /// The document was finished before its length.
    failed: Option<Error>,
    /// The connection waits for the next part.
    wanted: Option<Supply>,
    /// A thread writes.
    busy: bool,
    /// The upload has ended.
    over: bool,
}

fn refused(status: Status, message: String) -> Result<()> {
    Err(Error::new(status, message))
}

fn over() -> Error {
    let message = "the upload has ended; the stream says how";
    Error::new(Status::Stale, message)
}

impl Writes {
    /// Creates a document. `length`: `None` if unknown.
    pub(super) fn new(length: Option<u64>) -> Writes {
        Writes {
            state: Mutex::new(State {
                buffer: Vec::new(),
                length,
                left: length,
                finished: length == Some(0),
                failed: None,
                wanted: None,
                busy: false,
                over: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes until `deadline`, and returns their number.
    pub fn write(&self, bytes: &[u8], deadline: Option<Instant>) -> Result<usize> {
        let mut state = self.state();
        state.admit(bytes.len())?;
        state.busy = true;
        let mut taken = 0;
        let written = loop {
            if state.over {
                break Err(over());
            }
            taken += state.take(&bytes[taken..]);
            state.send();
            if taken == bytes.len() {
                break Ok(taken);
            }
            if state.buffer.is_empty() {
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break Ok(taken),
                Some(left) => {
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        };
        state.busy = false;
        written
    }

    /// Ends the document. Calling it again changes nothing.
    ///
    /// # Errors
    /// `InvalidArgument` if bytes of a known length are missing. That ends the request too.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.state();
        state.check()?;
        if state.finished {
            return Ok(());
        }
        if state.over {
            return Err(over());
        }
        match (state.left, state.length) {
            (Some(left), Some(length)) if left > 0 => {
                let message = format!("finish: the document ended before its {length} bytes");
                state.failed = Some(Error::new(Status::InvalidArgument, message));
            }
            _ => state.finished = true,
        }
        state.send();
        state.check()
    }
}

impl State {
    fn check(&self) -> Result<()> {
        if self.busy {
            let message = "another thread is in confer_stream_write() on this stream";
            return refused(Status::Busy, message.into());
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Checks that `len` more bytes can be written.
    fn admit(&self, len: usize) -> Result<()> {
        self.check()?;
        if self.over {
            return Err(over());
        }
        if let Some(left) = self.left.filter(|left| len as u64 > *left) {
            let length = self.length.unwrap_or_default();
            let message = format!("len: {len} bytes; of the document's {length}, {left} are left");
            return refused(Status::InvalidArgument, message);
        }
        if self.finished && len > 0 {
            let message = "stream: its document is finished";
            return refused(Status::InvalidArgument, message.into());
        }
        Ok(())
    }

    /// Takes bytes up to the free room.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(MAX_CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        if let Some(left) = &mut self.left {
            *left -= len as u64;
            self.finished |= *left == 0;
        }
        len
    }

    /// Gives the connection the part that it waits for, if complete.
    fn send(&mut self) {
        if let Some(supply) = self.wanted.take() {
            match self.part() {
                Some(part) => supply.give(part),
                None => self.wanted = Some(supply),
            }
        }
    }

    /// Removes a whole chunk, or the rest of a finished document.
    fn part(&mut self) -> Option<Result<Data>> {
        if let Some(error) = &self.failed {
            return Some(Err(error.clone()));
        }
        if !self.finished && self.buffer.len() < MAX_CHUNK {
            return None;
        }
        let (bytes, last) = (std::mem::take(&mut self.buffer).into(), self.finished);
        Some(Ok(Data { bytes, last }))
    }
}

/// The connection's side of a document.
pub(super) struct FromWrites(pub(super) Arc<Writes>);

impl Source for FromWrites {
    fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
        let mut state = self.0.state();
        let part = state.part();
        match &part {
            Some(_) => supply.not_needed(),
            None => state.wanted = Some(supply),
        }
        drop(state);
        self.0.changed.notify_all(); // there may be room
        part
    }

    fn again(&self) -> Option<Again> {
        None // sent bytes are gone
    }
}

impl Drop for FromWrites {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.over = true;
        state.buffer = Vec::new();
        let wanted = state.wanted.take();
        drop(state);
        self.0.changed.notify_all();
        if let Some(supply) = wanted {
            supply.not_needed();
        }
    }
}
