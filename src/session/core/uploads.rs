//! Uploads (protocol section 6): the server's places, the chunks, and the end of an upload.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::{Core, Event};
use crate::error::{Error, Result, Status};
use crate::wire::{self, Chunk};

/// Most data in one chunk. Few large chunks, because the server handles each on its own thread and
/// keeps at most 64 that are out of order (protocol section 6).
pub const MAX_CHUNK: usize = 1 << 20;
/// Uploads at once on one connection, as many as the server takes (protocol section 6). Further
/// ones wait.
pub const MAX_UPLOADS: usize = 10;
/// Chunks of one upload in the queue: one that leaves, and the one after it. So a document of any
/// size takes the memory of two chunks.
pub(super) const MAX_AHEAD: usize = 2;
/// Protocol section 4: `seq` is below 2^31.
const MAX_SEQ: u32 = i32::MAX as u32;

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
    taken: usize,
    /// Uploads without a place, in the order in which they were started.
    waiting: VecDeque<i64>,
}

impl Places {
    pub(super) fn wait(&mut self, id: i64) {
        self.waiting.push_back(id);
    }

    /// Gives a free place to the upload that has waited longest, and returns its id.
    fn give(&mut self) -> Option<i64> {
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
    step: Step,
    /// The message that opens it, until the first chunk has come.
    opening: Option<wire::Request>,
    next_seq: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
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
enum Rest {
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
    fn rest(&self, queued: usize, dropped: u32) -> Rest {
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

impl Core {
    /// Starts uploads as long as places are free.
    pub(super) fn start_uploads(&mut self, now: Instant) {
        while let Some(id) = self.places.give() {
            if let Some(exchange) = self.exchanges.get_mut(&id)
                && let Some(upload) = &mut exchange.upload
            {
                upload.step = Step::Ahead;
                exchange.heard = now;
                self.want_data(id);
            }
        }
    }

    /// Asks for the next chunk of an upload if fewer than [`MAX_AHEAD`] are queued.
    pub(super) fn want_data(&mut self, id: i64) {
        if let Some(exchange) = self.exchanges.get_mut(&id)
            && let Some(upload) = &mut exchange.upload
            && upload.step == Step::Ahead
            && exchange.queued < MAX_AHEAD
        {
            upload.step = Step::Asked;
            self.events.push_back(Event::WantsData { id });
        }
    }

    /// Takes the chunk that [`Event::WantsData`] asked for. An error ends the request.
    pub(in crate::session) fn supply(&mut self, id: i64, data: Result<Data>, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return; // the request has ended
        };
        let asked = |upload: &&mut Upload| upload.step == Step::Asked;
        let Some(upload) = exchange.upload.as_mut().filter(asked) else {
            return;
        };
        exchange.heard = now;
        let Data { bytes, last } = match data {
            Ok(data) => data,
            Err(error) => return self.finish(id, Err(error), now),
        };
        let (seq, len) = (upload.next_seq, bytes.len());
        if len > MAX_CHUNK || seq > MAX_SEQ {
            let message = format!("a chunk {seq} of {len} bytes");
            let error = Error::new(Status::TooLarge, message);
            return self.finish(id, Err(error), now);
        }
        upload.step = match last {
            true => Step::Complete,
            false => Step::Ahead,
        };
        upload.next_seq += 1;
        exchange.queued += 1;
        let chunk = Chunk {
            seq,
            data: bytes,
            last,
        };
        let opening = upload.opening.take();
        let opens = opening.is_some();
        let message = match opening {
            Some(opening) => {
                let chunk = Some(chunk);
                wire::Request { chunk, ..opening }.encode()
            }
            None => chunk.encode(id),
        };
        self.outgoing.push_chunk(id, message, opens, len, last);
        self.want_data(id);
    }

    /// Ends the upload of a request that has ended. An abandoned upload gets an empty final chunk,
    /// because the server keeps its place until then (protocol section 6).
    pub(super) fn end_upload(
        &mut self,
        id: i64,
        upload: &Upload,
        queued: usize,
        dropped: u32,
        now: Instant,
    ) {
        if self.is_closed() {
            return; // nothing more is sent
        }
        if upload.waits_for_place() {
            return self.places.waiting.retain(|waiting| *waiting != id);
        }
        match upload.rest(queued, dropped) {
            Rest::Nothing => self.free_place(now),
            Rest::Leaving => {}
            Rest::Final(seq) => {
                let data = Bytes::new();
                let chunk = Chunk {
                    seq,
                    data,
                    last: true,
                };
                let message = chunk.encode(id);
                self.outgoing.push_chunk(id, message, false, 0, true);
            }
        }
    }

    pub(super) fn free_place(&mut self, now: Instant) {
        self.places.taken -= 1;
        self.start_uploads(now);
    }
}
