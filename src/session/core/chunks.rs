//! Sends documents (protocol section 6): starts uploads, queues their chunks, and ends them.

use std::time::Instant;

use bytes::Bytes;

use super::uploads::{Data, MAX_AHEAD, MAX_CHUNK, Rest, Step, Upload};
use super::{Core, Event};
use crate::error::{Error, Result, Status};
use crate::wire::{self, Chunk};

/// Protocol section 4: `seq` is below 2^31.
const MAX_SEQ: u32 = i32::MAX as u32;

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
