//! The rules of a verified connection as a state machine (protocol sections 4 and 6).
//!
//! The driver reports what happened through the methods of [`Core`]. Then it sends what
//! [`Core::poll_transmit`] returns, handles what [`Core::poll_event`] returns, and calls
//! [`Core::tick`] when [`Core::poll_timeout`] has passed. When a method fails, the connection has
//! ended: the driver then calls [`Core::fail`].
//!
//! ```text
//! mod        requests from their start to their end
//! uploads    the state of uploads, and the server's places for them
//! chunks     starts uploads, queues chunks, ends uploads
//! outgoing   the queue of messages to send
//! clock      pings, a dead peer, idle limits
//! keepalive  when to ping, and when the peer is dead
//! errors     the error of each failure
//! ```
//! The core does not know what an answer means. The driver reports with [`Core::complete`] that an
//! answer is whole, and with [`Core::fail_request`] that it is not what it should be.

mod chunks;
mod clock;
mod errors;
mod keepalive;
mod outgoing;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::limits::{Limits, Pace};
use crate::error::{Error, Progress, Result, Status};
use crate::noise::Channel;
use crate::wire::{self, Reassembler, Response};

pub(super) use errors::noise_error;
use errors::{refusal, wire_error};
use keepalive::Keepalive;
use outgoing::{Outgoing, Sent};
pub use uploads::{Data, MAX_CHUNK, MAX_UPLOADS};
use uploads::{Places, Upload};

/// A request to send.
pub(super) struct Opening {
    /// The id is positive and unique on the connection.
    pub(super) message: wire::Request,
    pub(super) pace: Pace,
    /// A document follows, in chunks.
    pub(super) uploads: bool,
}

/// Something for the driver to handle.
pub(super) enum Event {
    /// A frame of the request left.
    Sent { id: i64, left: Left },
    /// A piece of the answer arrived.
    Piece { id: i64, piece: Piece },
    /// The upload needs its next chunk: report it with [`Core::supply`].
    WantsData { id: i64 },
    /// The request has ended. No event follows for this id.
    Ended { id: i64, result: Result<()> },
}

/// The parts of a request that left with a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// Bytes of its document.
    pub data: usize,
    /// The message with its body has left whole.
    pub body: bool,
}

/// A piece of an answer with status 200.
pub struct Piece {
    /// A view of the message that it arrived in.
    pub body: Bytes,
    /// Names as received. Compare them without case.
    pub headers: HashMap<String, String>,
    /// When it arrived.
    pub at: Instant,
}

/// Changes since the driver last took the counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) messages_sent: u64,
    pub(super) messages_received: u64,
    pub(super) pings_sent: u64,
    pub(super) pings_answered: u64,
    /// The last round trip that measures the network.
    pub(super) round_trip: Option<Duration>,
}

/// A request that is open.
struct Exchange {
    progress: Progress,
    /// The last time that a response to it arrived, a frame of it left, or its upload continued.
    heard: Instant,
    pace: Pace,
    /// Messages of it in the queue.
    queued: usize,
    upload: Option<Upload>,
}

enum Phase {
    Open,
    /// A newer connection has replaced this one, which ends with its last request.
    Retiring,
    Closed(Error),
}

/// The state of one connection.
pub(super) struct Core {
    limits: Limits,
    phase: Phase,
    channel: Channel,
    reassembler: Reassembler,
    outgoing: Outgoing,
    /// Holds the frame to encrypt.
    plaintext: BytesMut,
    exchanges: HashMap<i64, Exchange>,
    places: Places,
    events: VecDeque<Event>,
    counts: Counts,
    keepalive: Keepalive,
    /// The deadline for bytes from the peer after the network changed.
    probe: Option<Instant>,
    /// The last time that the socket took bytes.
    wrote: Instant,
    /// No request reaches its idle limit earlier. Activity only moves limits back, so this is
    /// computed again when it has passed, and not for each message.
    next_idle: Instant,
    /// The reader of the only open request is full, so the driver does not read the socket.
    paused: bool,
}

impl Core {
    /// `seed`: a random number, from which the ids of messages come.
    pub(super) fn new(channel: Channel, limits: Limits, seed: u64, now: Instant) -> Core {
        Core {
            phase: Phase::Open,
            channel,
            reassembler: Reassembler::new(limits.bounds.unfinished),
            outgoing: Outgoing::new(seed),
            plaintext: BytesMut::new(),
            exchanges: HashMap::new(),
            places: Places::default(),
            events: VecDeque::new(),
            counts: Counts::default(),
            keepalive: Keepalive::new(limits.keepalive, limits.dead_after, now),
            probe: None,
            wrote: now,
            next_idle: now,
            paused: false,
            limits,
        }
    }

    /// Takes a request. Nothing of it is encrypted before the socket can take it.
    pub(super) fn open(&mut self, opening: Opening, now: Instant) {
        let Opening {
            message,
            pace,
            uploads,
        } = opening;
        let id = message.id;
        if let Phase::Closed(error) = &self.phase {
            let result = Err(error.clone().with_progress(Progress::NotSent));
            return self.events.push_back(Event::Ended { id, result });
        }
        let mut exchange = Exchange {
            progress: Progress::NotSent,
            heard: now,
            pace,
            queued: 0,
            upload: None,
        };
        if uploads {
            exchange.upload = Some(Upload::new(message));
            self.places.wait(id);
        } else {
            exchange.queued = 1;
            self.outgoing.push(id, message.encode());
        }
        let silent = now + self.limits.idle.of(pace);
        self.next_idle = match self.exchanges.is_empty() {
            true => silent,
            false => self.next_idle.min(silent),
        };
        self.exchanges.insert(id, exchange);
        self.start_uploads(now);
        self.read_if_shared(now);
    }

    /// Ends a request that the application cancelled. The protocol has no cancel message: unsent
    /// messages are dropped, and later responses are ignored because their id is unknown.
    pub(super) fn cancel(&mut self, id: i64, now: Instant) {
        let error = Error::new(Status::Cancelled, "cancelled by the application");
        self.finish(id, Err(error), now);
    }

    /// Ends a request whose answer is whole.
    pub(super) fn complete(&mut self, id: i64, now: Instant) {
        self.finish(id, Ok(()), now);
    }

    /// Ends a request whose answer is malformed or cannot be delivered. The connection continues.
    pub(super) fn fail_request(&mut self, id: i64, error: Error, now: Instant) {
        self.finish(id, Err(error), now);
    }

    fn finish(&mut self, id: i64, result: Result<()>, now: Instant) {
        let Some(exchange) = self.exchanges.remove(&id) else {
            return;
        };
        let mut dropped = 0;
        if exchange.queued > 0 {
            dropped = self.outgoing.drop_unsent(id);
        }
        if let Some(upload) = &exchange.upload {
            self.end_upload(id, upload, exchange.queued, dropped, now);
        }
        let result = result.map_err(|error| error.with_progress(exchange.progress));
        self.events.push_back(Event::Ended { id, result });
        self.read_if_shared(now);
    }

    /// Ends every request with the error that ended the connection. Nothing is sent after this.
    pub(super) fn fail(&mut self, error: &Error, now: Instant) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed(error.clone());
        self.outgoing.clear();
        let mut open: Vec<i64> = self.exchanges.keys().copied().collect();
        open.sort_unstable(); // in the order in which they were started
        for id in open {
            self.finish(id, Err(error.clone()), now);
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// Returns the next event, oldest first.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns what happened since the last call.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Whether [`Core::poll_transmit`] has something.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns the next Noise message for the socket. Call it only if the socket can take one.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Result<Option<Bytes>> {
        let Some(frame) = self.outgoing.next_frame(&mut self.plaintext) else {
            self.plaintext = BytesMut::new(); // an idle connection keeps no buffer
            return Ok(None);
        };
        let encrypted = self.channel.encrypt(&self.plaintext);
        let message = encrypted.map_err(noise_error)?;
        self.keepalive.sent(frame.id, now);
        if let Some(exchange) = self.exchanges.get_mut(&frame.id) {
            if exchange.progress == Progress::NotSent {
                exchange.progress = Progress::MaybeSent;
            }
            exchange.heard = now;
            let body = frame.completes.is_some_and(|sent| sent.opens);
            let left = Left {
                data: frame.data,
                body,
            };
            self.events.push_back(Event::Sent { id: frame.id, left });
        }
        if let Some(sent) = frame.completes {
            self.message_sent(frame.id, sent, now);
        }
        Ok(Some(message))
    }

    fn message_sent(&mut self, id: i64, sent: Sent, now: Instant) {
        self.counts.messages_sent += 1;
        match self.exchanges.get_mut(&id) {
            Some(exchange) => {
                exchange.queued -= 1;
                self.want_data(id);
            }
            None if sent.last => self.free_place(now),
            None => {}
        }
    }

    /// Takes a Noise message from the socket.
    pub(super) fn receive(&mut self, message: &[u8], now: Instant) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let frame = self.channel.decrypt(message).map_err(noise_error)?;
        self.probe = None;
        let Some(message) = self.reassembler.push(frame).map_err(wire_error)? else {
            return Ok(());
        };
        let response = Response::decode(message).map_err(wire_error)?;
        self.counts.messages_received += 1;
        self.respond(response, now);
        Ok(())
    }

    fn respond(&mut self, response: Response, now: Instant) {
        let id = response.id;
        if let Some(ping) = self.keepalive.answered(id) {
            self.counts.pings_answered += 1;
            self.counts.round_trip = ping.round_trip(now).or(self.counts.round_trip);
            return; // any status shows that the enclave lives
        }
        // Ignores responses for unknown ids: the request was cancelled or has ended.
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        exchange.progress = Progress::PartlyAnswered;
        exchange.heard = now;
        if response.status != 200 {
            return self.finish(id, Err(refusal(&response)), now);
        }
        let piece = Piece {
            body: response.body,
            headers: response.headers,
            at: now,
        };
        self.events.push_back(Event::Piece { id, piece });
    }

    /// Whether the driver should read the socket.
    pub(super) fn reading(&self) -> bool {
        !self.paused
    }

    /// Returns the only open request, if the socket is read. One WebSocket carries all streams, so
    /// reading stops only when the reader of a sole request is full: then call [`Core::pause`].
    pub(super) fn sole(&self) -> Option<i64> {
        if self.paused || self.exchanges.len() != 1 {
            return None;
        }
        self.exchanges.keys().next().copied()
    }

    /// Stops reading the socket until the reader of the only open request has room, or another
    /// request opens.
    pub(super) fn pause(&mut self) {
        self.paused = self.exchanges.len() == 1;
    }

    /// Resumes reading the socket. The peer's limits start again, because this side did not read.
    pub(super) fn resume(&mut self, now: Instant) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        self.keepalive.resume(now);
        if let Some(probe) = &mut self.probe {
            *probe = now + self.limits.probe;
        }
        for exchange in self.exchanges.values_mut() {
            exchange.heard = now;
        }
        self.next_idle = self.first_silence(now);
    }

    fn read_if_shared(&mut self, now: Instant) {
        if self.exchanges.len() != 1 {
            self.resume(now);
        }
    }

    /// Ends the connection once the last request has ended.
    pub(super) fn retire(&mut self) {
        if let Phase::Open = self.phase {
            self.phase = Phase::Retiring;
        }
    }

    /// Whether a retired connection has nothing left to do.
    pub(super) fn retired(&self) -> bool {
        matches!(self.phase, Phase::Retiring) && self.exchanges.is_empty()
    }
}
