//! The state of uploads (protocol section 6): the server's places, and the progress of each upload.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire;

/// Most data in one chunk. Few large chunks, because the server handles each on its own thread and
/// keeps at most 64 that are out of order (protocol section 6).
pub const MAX_CHUNK: usize = 1 << 20;
/// Uploads at once on one connection, as many as the server takes (protocol section 6). Further
/// ones wait.
pub const MAX_UPLOADS: usize = 10;
/// Chunks of one upload in the queue: one that leaves, and the one after it. So a document of any
/// size takes the memory of two chunks.
pub(super) const MAX_AHEAD: usize = 2;

/// A part of a document.
pub struct Data {
    /// At most [`MAX_CHUNK`] bytes.
    pub bytes: Bytes,
    /// True for the last part.
    pub last: bool,
}

/// The server's places for uploads.
///
/// An upload takes a place before its first message is sent. The place is free at the later of its
/// final chunk and the end of its request (protocol section 6).
#[derive(Default)]
pub(super) struct Places {
    pub(super) taken: usize,
    /// Uploads without a place, in the order in which they were started.
    pub(super) waiting: VecDeque<i64>,
}

impl Places {
    pub(super) fn wait(&mut self, id: i64) {
        self.waiting.push_back(id);
    }

    /// Gives a free place to the upload that has waited longest, and returns its id.
    pub(super) fn give(&mut self) -> Option<i64> {
        if self.taken == MAX_UPLOADS {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.taken += 1;
        Some(id)
    }
}

/// An upload of an open request.
pub(super) struct Upload {
    pub(super) step: Step,
    /// The message that opens it, until the first chunk has come.
    pub(super) opening: Option<wire::Request>,
    pub(super) next_seq: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// It waits for a place.
    NoPlace,
    /// The driver was asked for a chunk.
    Asked,
    /// Enough chunks are queued.
    Ahead,
    /// The final chunk is queued or sent.
    Complete,
}

/// The part of an upload that the server still needs after its request has ended.
#[derive(Debug, PartialEq)]
pub(super) enum Rest {
    /// Nothing: none of the upload was sent, or all of it.
    Nothing,
    /// The rest of the final chunk, which has begun to leave.
    Leaving,
    /// A final chunk with this number.
    Final(u32),
}

impl Upload {
    pub(super) fn new(opening: wire::Request) -> Upload {
        Upload {
            step: Step::NoPlace,
            opening: Some(opening),
            next_seq: 0,
        }
    }

    pub(super) fn waits_for_place(&self) -> bool {
        self.step == Step::NoPlace
    }

    pub(super) fn waits_for_data(&self) -> bool {
        self.step == Step::Asked
    }

    /// `queued` chunks were in the queue, and the last `dropped` of them were dropped.
    pub(super) fn rest(&self, queued: usize, dropped: u32) -> Rest {
        let sent = self.next_seq - dropped;
        let complete = self.step == Step::Complete && dropped == 0;
        match (sent, complete) {
            (0, _) => Rest::Nothing,
            (_, true) if queued == 0 => Rest::Nothing,
            (_, true) => Rest::Leaving,
            // The final chunk takes the first dropped chunk's number, because the numbers must have
            // no gap.
            (sent, false) => Rest::Final(sent),
        }
    }
}
