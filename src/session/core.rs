//! What a verified connection does, as a state machine: messages and instants in, messages and ends out. No I/O.
//!
//! Each rule of protocol section 4 that concerns the connection stands here. `driver` moves the bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::bounds::Bounds;
use super::keepalive::Keepalive;
use super::stats::Stats;
use super::upload::{Data, MAX_AHEAD, MAX_CHUNK, MAX_UPLOADS, Places, Source, Way};
use super::{Idle, Limits, Pace, Request};
use crate::error::{Error, Progress, Result, Status};
use crate::noise::{self, Channel};
use crate::wire::{self, Chunk, Fragments, MAX_FRAME_PAYLOAD, Reassembler, Response};

/// What a request does with its answer.
pub trait Receiver: Send {
    /// Some of the request was given to the socket, `data` bytes of its upload among it. True: there is something to
    /// [`Receiver::flush`].
    fn sent(&mut self, data: usize, now: Instant) -> bool {
        let _ = (data, now);
        false
    }
    /// The request is sent again from its beginning; nothing of its answer has come.
    fn restart(&mut self) {}
    /// Takes the next piece of the answer. What it makes of it may wait for [`Receiver::flush`].
    fn piece(&mut self, piece: Piece) -> Flow;
    /// Hands over what the last pieces gave, once for all that one read of the socket brought.
    fn flush(&mut self) -> Result<()>;
    /// Whether the application leaves so much unread that the socket should not be read for it.
    fn pause_if_full(&self) -> bool;
    /// How the exchange ended. Called once, and nothing after it.
    fn end(self: Box<Self>, result: Result<()>);
    /// There will be no exchange. In the place of [`Receiver::end`].
    fn refuse(self: Box<Self>, error: Error);
}

/// A piece of an answer, whose status was 200.
pub struct Piece {
    /// A view of the message that it came in.
    pub body: Bytes,
    /// As they came; names are compared without case.
    pub headers: HashMap<String, String>,
    /// When it came.
    pub at: Instant,
}

/// Whether an answer goes on.
pub enum Flow {
    /// There is more to come.
    More,
    /// This was the last of it.
    Done,
    /// What came is not what this route answers with. Ends the exchange, not the connection.
    Broken(Error),
}

/// A request on its way into the core.
pub(super) struct Opening {
    pub(super) id: i64,
    pub(super) request: Request,
    pub(super) receiver: Box<dyn Receiver>,
    /// For what its upload brings later; there is one if there is an upload.
    pub(super) way: Option<Way>,
}

/// How much is under way on a connection; shared with the handle that admits requests.
#[derive(Default)]
pub(super) struct Load {
    pub(super) open: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
}

struct Exchange {
    receiver: Box<dyn Receiver>,
    progress: Progress,
    /// When something was last heard of it, or else when it was sent.
    heard: Instant,
    /// Something waits for `flush`.
    touched: bool,
    /// How its answer comes: this decides its idle limit.
    pace: Pace,
    upload: Option<Upload>,
}

/// A document on its way out.
struct Upload {
    source: Box<dyn Source>,
    way: Way,
    /// The request that opens it, until its first chunk is there.
    opening: Option<wire::Request>,
    next_seq: u32,
    /// Chunks that wait to be sent.
    queued: usize,
    /// The source was asked, and the application has not answered.
    asked: bool,
    /// The last chunk is queued, or was sent.
    complete: bool,
    /// It has one of the server's places, and so may be sent.
    has_place: bool,
}

/// What the server still waits for when an upload's request has ended.
#[derive(Debug, PartialEq)]
enum Rest {
    /// Nothing: nothing of the upload left, or all of it has.
    Nothing,
    /// The rest of the final chunk, which is being sent.
    Leaving,
    /// A final chunk with this number.
    Final(u32),
}

struct Outgoing {
    id: i64,
    /// What counts as waiting to be sent.
    len: usize,
    /// Data of an upload that is not yet sent.
    data: usize,
    /// It ends an upload.
    last: bool,
    fragments: Fragments,
}

/// The state of one connection.
pub(super) struct Core {
    channel: Channel,
    reassembler: Reassembler,
    limits: Limits,
    load: Arc<Load>,
    stats: Arc<Stats>,
    outgoing: VecDeque<Outgoing>,
    plaintext: BytesMut,
    exchanges: HashMap<i64, Exchange>,
    touched: Vec<i64>,
    /// Ends with the last exchange: a newer connection has taken its place.
    retiring: bool,
    /// The network changed, and something must be heard until then.
    probe: Option<Instant>,
    keepalive: Keepalive,
    places: Places,
    /// There is something to send since [`Core::has_news`] was asked last.
    news: bool,
    /// No exchange is silent for too long before this. A lower bound: what is heard only moves the instant back, so
    /// the exchanges are looked through when it has come, and not for each message.
    next_idle: Instant,
    /// The one open stream's inbox is full: the socket is not read, and nothing can be said about the peer.
    paused: bool,
}

impl Core {
    pub(super) fn new(
        channel: Channel,
        limits: Limits,
        load: Arc<Load>,
        stats: Arc<Stats>,
        now: Instant,
    ) -> Core {
        Core {
            channel,
            reassembler: Reassembler::new(limits.bounds.unfinished),
            load,
            stats,
            outgoing: VecDeque::new(),
            plaintext: BytesMut::new(),
            exchanges: HashMap::new(),
            touched: Vec::new(),
            retiring: false,
            probe: None,
            keepalive: Keepalive::new(limits.keepalive, limits.dead_after, now),
            places: Places::default(),
            news: false,
            next_idle: now,
            paused: false,
            limits,
        }
    }

    /// Takes a request. It is encrypted when the socket takes it, not before.
    pub(super) fn open(&mut self, opening: Opening, now: Instant) {
        let Opening {
            id,
            request,
            receiver,
            way,
        } = opening;
        let len = request.body.len();
        let message = wire::Request {
            id,
            verb: request.verb,
            path: request.path,
            body: request.body,
            chunk: None,
        };
        let (message, upload) = match request.upload.zip(way) {
            None => (Some(message), None),
            Some((source, way)) => {
                let upload = Upload {
                    source,
                    way,
                    opening: Some(message),
                    next_seq: 0,
                    queued: 0,
                    asked: false,
                    complete: false,
                    has_place: false,
                };
                (None, Some(upload))
            }
        };
        let exchange = Exchange {
            receiver,
            progress: Progress::NotSent,
            heard: now,
            touched: false,
            pace: request.pace,
            upload,
        };
        let silent = now + self.limits.idle.of(request.pace);
        if self.exchanges.is_empty() {
            self.resume(now);
            self.next_idle = silent;
        }
        self.next_idle = self.next_idle.min(silent);
        self.exchanges.insert(id, exchange);
        match message {
            Some(message) => self.outgoing.push_back(outgoing(id, message.encode(), len)),
            None => {
                self.places.wait(id);
                self.start_uploads(now);
            }
        }
        self.read_on_if_shared(now);
    }

    /// Starts the uploads for which there is a place.
    fn start_uploads(&mut self, now: Instant) {
        while let Some(id) = self.places.give() {
            if let Some(exchange) = self.exchanges.get_mut(&id)
                && let Some(upload) = &mut exchange.upload
            {
                upload.has_place = true;
                exchange.heard = now;
                self.feed(id, now);
            }
        }
    }

    /// Asks an upload's source for as much as may wait to be sent.
    fn feed(&mut self, id: i64, now: Instant) {
        while let Some(exchange) = self.exchanges.get_mut(&id)
            && let Some(upload) = &mut exchange.upload
            && !upload.asked
            && !upload.complete
            && upload.queued < MAX_AHEAD
        {
            upload.asked = true;
            match upload.source.next(upload.way.supply()) {
                Some(data) => self.take_data(id, data, now),
                None => return,
            }
        }
    }

    /// The source of an upload brings what it was asked for.
    pub(super) fn supply(&mut self, id: i64, data: Result<Data>, now: Instant) {
        self.take_data(id, data, now);
        self.feed(id, now);
        self.read_on_if_shared(now);
    }

    fn take_data(&mut self, id: i64, data: Result<Data>, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return; // given up meanwhile
        };
        let Some(upload) = exchange.upload.as_mut().filter(|upload| upload.asked) else {
            return;
        };
        upload.asked = false;
        exchange.heard = now;
        let Data { bytes, last } = match data {
            Ok(data) => data,
            Err(error) => return self.finish(id, Err(error)),
        };
        let len = bytes.len();
        if len > MAX_CHUNK || upload.next_seq > MAX_SEQ {
            let message = format!("a chunk {} of {len} bytes", upload.next_seq);
            return self.finish(id, Err(Error::new(Status::TooLarge, message)));
        }
        let chunk = Chunk {
            seq: upload.next_seq,
            data: bytes,
            last,
        };
        upload.next_seq += 1;
        upload.queued += 1;
        upload.complete = last;
        let (message, body) = match upload.opening.take() {
            Some(opening) => {
                let body = opening.body.len();
                let chunk = Some(chunk);
                (wire::Request { chunk, ..opening }.encode(), body)
            }
            None => (chunk.encode(id), 0),
        };
        self.outgoing.push_back(Outgoing {
            data: len,
            last,
            ..outgoing(id, message, body)
        });
    }

    /// Ends a request that the application no longer wants. There is no cancel message: what is not sent is dropped,
    /// what is partly sent goes out whole, and later responses are ignored as those of an unknown id.
    pub(super) fn cancel(&mut self, id: i64, now: Instant) {
        if !self.exchanges.contains_key(&id) {
            return;
        }
        self.finish(
            id,
            Err(Error::new(
                Status::Cancelled,
                "cancelled by the application",
            )),
        );
        self.read_on_if_shared(now);
    }

    /// Drops the unsent messages of a request that has ended, and returns how many. What is partly sent goes out whole:
    /// a server keeps an unfinished message for ever.
    fn drop_unsent(&mut self, id: i64) -> u32 {
        let (load, mut dropped) = (&self.load, 0);
        self.outgoing.retain(|out| {
            let kept = out.id != id || out.fragments.begun();
            if !kept {
                load.queued_bytes.fetch_sub(out.len, Ordering::Relaxed);
                dropped += 1;
            }
            kept
        });
        dropped
    }

    /// Ends the upload of a request that has ended, after its unsent chunks were dropped. The server keeps the upload's
    /// place until the final chunk, so an upload that is given up gets an empty one (protocol section 6).
    fn end_upload(&mut self, id: i64, upload: &Upload, dropped: u32) {
        if !upload.has_place {
            return self.places.forget(id);
        }
        self.news = true;
        match upload.rest(dropped) {
            Rest::Nothing => self.places.free(),
            Rest::Leaving => {}
            Rest::Final(seq) => {
                let chunk = Chunk {
                    seq,
                    data: Bytes::new(),
                    last: true,
                };
                self.outgoing.push_back(Outgoing {
                    last: true,
                    ..outgoing(id, chunk.encode(id), 0)
                });
            }
        }
    }

    /// Whether there is something to send since this was asked last.
    pub(super) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// The next Noise message for the socket.
    pub(super) fn transmit(&mut self, now: Instant) -> Result<Option<Bytes>> {
        loop {
            self.start_uploads(now);
            let Some(out) = self.outgoing.front_mut() else {
                self.plaintext = BytesMut::new(); // an idle connection keeps no buffer
                return Ok(None);
            };
            let (id, last) = (out.id, out.last);
            if !out.fragments.next_into(&mut self.plaintext) {
                self.load.queued_bytes.fetch_sub(out.len, Ordering::Relaxed);
                self.outgoing.pop_front();
                Stats::count(&self.stats.messages_sent, 1);
                match self.exchanges.get_mut(&id) {
                    Some(Exchange {
                        upload: Some(upload),
                        ..
                    }) => {
                        upload.queued -= 1;
                        self.feed(id, now);
                        self.read_on_if_shared(now);
                    }
                    None if last => self.places.free(),
                    _ => {}
                }
                continue;
            }
            self.keepalive.sent(id, now);
            // Which bytes of a frame are data does not matter: their sum is right when the message is out.
            let data = out.data.min(MAX_FRAME_PAYLOAD);
            out.data -= data;
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                exchange.progress = exchange.progress_at_least(Progress::MaybeSent);
                exchange.heard = now;
                if exchange.receiver.sent(data, now) && !exchange.touched {
                    exchange.touched = true;
                    self.touched.push(id);
                }
            }
            return self
                .channel
                .encrypt(&self.plaintext)
                .map(Some)
                .map_err(noise_error);
        }
    }

    /// Takes one Noise message from the socket. An error ends the connection.
    pub(super) fn receive(&mut self, message: &[u8], now: Instant) -> Result<()> {
        let frame = self.channel.decrypt(message).map_err(noise_error)?;
        self.probe = None; // it lives
        let Some(message) = self.reassembler.push(frame).map_err(wire_error)? else {
            return Ok(());
        };
        let response = Response::decode(message).map_err(wire_error)?;
        Stats::count(&self.stats.messages_received, 1);
        self.respond(response, now);
        Ok(())
    }

    fn respond(&mut self, response: Response, now: Instant) {
        let id = response.id;
        if let Some(ping) = self.keepalive.answered(id) {
            // Any answer shows that the enclave lives.
            return self.stats.answered(ping.round_trip(now));
        }
        // A response for an unknown id is ignored: cancelled requests and ended ones look so.
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        exchange.progress = Progress::PartlyAnswered;
        exchange.heard = now;
        if response.status != 200 {
            return self.finish(id, Err(refusal(&response)));
        }
        let piece = Piece {
            body: response.body,
            headers: response.headers,
            at: now,
        };
        match exchange.receiver.piece(piece) {
            Flow::More => {
                if !exchange.touched {
                    exchange.touched = true;
                    self.touched.push(id);
                }
            }
            Flow::Done => self.finish(id, Ok(())),
            Flow::Broken(error) => self.finish(id, Err(error)),
        }
    }

    /// Hands everything that was received to its reader, and says whether the socket may be read on.
    pub(super) fn flush(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.touched) {
            let Some(exchange) = self.exchanges.get_mut(&id) else {
                continue;
            };
            exchange.touched = false;
            if let Err(error) = exchange.receiver.flush() {
                self.finish(id, Err(error));
            }
        }
        self.read_on_if_shared(now);
        if !self.paused && self.exchanges.len() == 1 {
            self.paused = self
                .exchanges
                .values()
                .all(|exchange| exchange.receiver.pause_if_full());
        }
    }

    /// Whether the socket is to be read. One WebSocket carries all streams: it rests only for the sake of a sole stream.
    pub(super) fn reading(&self) -> bool {
        !self.paused
    }

    /// A reader made room, or the sole stream is no longer alone. What stood still meanwhile was this side, so the
    /// limits of the peer begin anew.
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

    fn read_on_if_shared(&mut self, now: Instant) {
        if self.exchanges.len() != 1 {
            self.resume(now);
        }
    }

    /// Bytes moved on the socket, in either direction. `flushed`: it holds nothing that is still to be written.
    pub(super) fn moved(&mut self, now: Instant, sent: u64, received: u64, flushed: bool) {
        self.keepalive.moved(now, received > 0, flushed);
        Stats::count(&self.stats.bytes_sent, sent);
        Stats::count(&self.stats.bytes_received, received);
    }

    /// The earliest instant at which [`Core::tick`] can have something to do.
    pub(super) fn deadline(&self) -> Instant {
        let mut earliest = self.keepalive.next_ping();
        if self.paused {
            return earliest;
        }
        if let Some(dead) = self.keepalive.dead_at() {
            earliest = earliest.min(dead);
        }
        if let Some(probe) = self.probe {
            earliest = earliest.min(probe);
        }
        if !self.exchanges.is_empty() {
            earliest = earliest.min(self.next_idle);
        }
        earliest
    }

    /// Pings, and gives up what has been silent for too long. An error ends the connection.
    pub(super) fn tick(&mut self, now: Instant) -> Result<()> {
        if self.keepalive.due(now) {
            self.ping(now);
        }
        if self.paused {
            return Ok(());
        }
        if self.keepalive.dead_at().is_some_and(|dead| now >= dead) {
            let limit = self.limits.dead_after.as_millis();
            let message = format!(
                "the server did not answer a keepalive ping, and no byte moved, for {limit} ms"
            );
            return Err(Error::new(Status::DeadPeer, message));
        }
        if self.probe.is_some_and(|probe| now >= probe) {
            let limit = self.limits.probe.as_millis();
            let message = format!("nothing was received for {limit} ms after the network changed");
            return Err(Error::new(Status::DeadPeer, message));
        }
        if now >= self.next_idle {
            self.end_silent(now);
        }
        Ok(())
    }

    /// Asks whether the enclave is still there. Ahead of all that waits, between the frames of a long message if need
    /// be: so a ping measures the network and not the queue.
    fn ping(&mut self, now: Instant) {
        let Some(id) = self.keepalive.open(now) else {
            return;
        };
        let message = wire::Request {
            id,
            verb: "GET".into(),
            path: "/ping".into(),
            body: Bytes::new(),
            chunk: None,
        };
        self.outgoing.push_front(outgoing(id, message.encode(), 0));
        Stats::count(&self.stats.pings_sent, 1);
    }

    /// The network changed: the enclave has to be heard again soon.
    pub(super) fn probe(&mut self, now: Instant) {
        if !self.keepalive.has_open() {
            self.ping(now);
        }
        self.probe = Some(now + self.limits.probe);
    }

    /// Ends the connection once the last exchange has.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
    }

    /// Whether a retired connection has nothing left to do.
    pub(super) fn retired(&self) -> bool {
        self.retiring && self.exchanges.is_empty()
    }

    /// Ends the requests of which nothing was heard for the idle limit: some failures inside the server send nothing
    /// more, while pings are still answered (protocol section 4).
    fn end_silent(&mut self, now: Instant) {
        let idle = self.limits.idle;
        let expired: Vec<(i64, Error)> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| now >= exchange.silent_at(now, &idle))
            .map(|(id, exchange)| (*id, exchange.silence(&idle)))
            .collect();
        for (id, error) in expired {
            self.finish(id, Err(error));
        }
        self.next_idle = self.first_silence(now);
    }

    /// When the first exchange reaches its idle limit, unless something is heard.
    fn first_silence(&self, now: Instant) -> Instant {
        let idle = &self.limits.idle;
        let each = self.exchanges.values();
        let first = each.map(|exchange| exchange.silent_at(now, idle)).min();
        first.unwrap_or(now)
    }

    /// Ends every open request with the connection's own end.
    pub(super) fn fail(&mut self, error: &Error) {
        for out in std::mem::take(&mut self.outgoing) {
            self.load.queued_bytes.fetch_sub(out.len, Ordering::Relaxed);
        }
        let mut open: Vec<i64> = self.exchanges.keys().copied().collect();
        open.sort_unstable(); // in the order in which they were asked for
        for id in open {
            self.finish(id, Err(error.clone()));
        }
    }

    fn finish(&mut self, id: i64, result: Result<()>) {
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        self.load.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(upload) = exchange.upload.take() {
            if let Some(opening) = &upload.opening {
                let waiting = opening.body.len();
                self.load.queued_bytes.fetch_sub(waiting, Ordering::Relaxed);
            }
            let dropped = self.drop_unsent(id);
            self.end_upload(id, &upload, dropped);
        } else if exchange.progress == Progress::NotSent {
            self.drop_unsent(id);
        }
        // What came before the end is delivered before it.
        let flushed = exchange.receiver.flush();
        let progress = exchange.progress;
        let result = result
            .and(flushed)
            .map_err(|error| error.with_progress(progress));
        exchange.receiver.end(result);
    }
}

impl Exchange {
    /// Since when it is for the enclave to say something. Not while the application has an upload wait.
    fn silent_since(&self, now: Instant) -> Instant {
        match &self.upload {
            Some(upload) if upload.asked && upload.queued == 0 => now,
            _ => self.heard,
        }
    }

    /// When it reaches its idle limit, unless something is heard.
    fn silent_at(&self, now: Instant, idle: &Idle) -> Instant {
        self.silent_since(now) + idle.of(self.pace)
    }

    /// The error of a request that reached its idle limit. A server can lose a request while it still answers pings
    /// (protocol section 4), so the message says what may have happened.
    fn silence(&self, idle: &Idle) -> Error {
        let limit = idle.of(self.pace).as_millis();
        let setter = self.pace.limit_name();
        let waits = |upload: &Upload| !upload.has_place;
        let message = match self.pace {
            _ if self.upload.as_ref().is_some_and(waits) => format!(
                "the upload waited {limit} ms, its idle limit, for one of the connection's {MAX_UPLOADS} places for \
                 uploads and got none ({setter})."
            ),
            Pace::Events => format!(
                "nothing came for the request within its idle limit, {limit} ms ({setter}). A server can fail in a \
                 streamed answer without a word, for example when the messages exceed the model's context."
            ),
            Pace::Pieces => format!(
                "nothing came for the request within its idle limit, {limit} ms ({setter}). The server needs longer, \
                 or failed without a word."
            ),
        };
        Error::new(Status::StreamIdle, message)
    }

    fn progress_at_least(&self, progress: Progress) -> Progress {
        if self.progress == Progress::NotSent {
            progress
        } else {
            self.progress
        }
    }
}

impl Upload {
    /// What the server still waits for once the last `dropped` chunks were dropped.
    fn rest(&self, dropped: u32) -> Rest {
        let sent = self.next_seq - dropped;
        let complete = self.complete && dropped == 0;
        match (sent, complete) {
            (0, _) => Rest::Nothing,
            (_, true) if self.queued == 0 => Rest::Nothing,
            (_, true) => Rest::Leaving,
            // The dropped chunks' numbers are free: the final one must leave no gap.
            (sent, false) => Rest::Final(sent),
        }
    }
}

/// `seq` is below 2^31 (protocol section 4).
const MAX_SEQ: u32 = i32::MAX as u32;

fn outgoing(id: i64, message: Bytes, len: usize) -> Outgoing {
    Outgoing {
        id,
        len,
        data: 0,
        last: false,
        fragments: Fragments::new(random_chunk_id(), message),
    }
}

/// `chunk_id` is random for each message (protocol section 3); it is no secret, and 0 is as good as any other.
fn random_chunk_id() -> i64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    i64::from_ne_bytes(bytes)
}

/// A status other than 200 ends the exchange. The body is the peer's text: it may repeat the request, so it is kept
/// apart from the message.
fn refusal(response: &Response) -> Error {
    let (status, cure) = match response.status {
        401 => (
            Status::Unauthorized,
            ": it does not accept the token. Connect again with a fresh one.",
        ),
        402 => (
            Status::PaymentRequired,
            ": it does so when the token of a free account has expired. Connect again with a fresh one.",
        ),
        _ => (Status::Refused, ""),
    };
    Error::new(
        status,
        format!("the enclave answered with status {}{cure}", response.status),
    )
    .with_http_status(response.status)
    .with_peer_text(&response.body)
}

pub(super) fn noise_error(error: noise::Error) -> Error {
    match error {
        noise::Error::Decrypt => Error::new(
            Status::Decrypt,
            "a Noise message does not authenticate: it was altered, truncated, replayed or reordered",
        ),
        noise::Error::Handshake => Error::new(
            Status::Handshake,
            "the server's handshake message is malformed or does not authenticate",
        ),
        noise::Error::OtherKey => Error::new(
            Status::Handshake,
            "the evidence was verified for another key",
        ),
        noise::Error::Exhausted => Error::new(
            Status::System,
            "the system gave no random bytes, or the connection's message counter is used up",
        ),
    }
}

fn wire_error(error: wire::Error) -> Error {
    match error {
        wire::Error::Frame(why) => Error::new(Status::Frame, why),
        wire::Error::Limit(why) => Error::new(Status::Limit, why),
        wire::Error::Message(why) => Error::new(Status::Protocol, why),
    }
}

/// Default time limits; each is settable.
impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            stage: [
                seconds(10),
                seconds(10),
                seconds(10),
                seconds(10),
                seconds(15),
                seconds(15),
                seconds(15),
                seconds(10),
            ],
            answer: seconds(30),
            connect: seconds(60),
            keepalive: seconds(20),
            dead_after: seconds(20),
            idle: Idle {
                events: seconds(180),
                pieces: seconds(600),
            },
            probe: seconds(5),
            bounds: Bounds::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::noise::testing::pair;
    use crate::session::Supply;
    use crate::session::keepalive::FIRST_PING_ID;
    use crate::wire::testing::{read_request, write_response};

    /// A core, the enclave's end of its channel, and a clock that only the test moves.
    struct Peer {
        core: Core,
        transport: snow::TransportState,
        reassembler: Reassembler,
        now: Instant,
    }

    /// What a receiver heard: the pieces, and the end.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Answer>>, Arc<std::sync::atomic::AtomicBool>);
    type Answer = (Vec<Bytes>, Option<Result<()>>);

    struct Listener {
        heard: Heard,
        full: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Receiver for Listener {
        fn piece(&mut self, piece: Piece) -> Flow {
            let last = piece.body == "last";
            self.heard.0.lock().unwrap().0.push(piece.body);
            if last { Flow::Done } else { Flow::More }
        }
        fn sent(&mut self, _: usize, _: Instant) -> bool {
            self.heard.1.load(Ordering::Relaxed)
        }
        fn flush(&mut self) -> Result<()> {
            match self.heard.1.load(Ordering::Relaxed) {
                true => Err(Error::new(Status::SlowConsumer, "too slow")),
                false => Ok(()),
            }
        }
        fn pause_if_full(&self) -> bool {
            self.full.load(Ordering::Relaxed)
        }
        fn end(self: Box<Self>, result: Result<()>) {
            let before = self.heard.0.lock().unwrap().1.replace(result);
            assert!(before.is_none(), "an exchange ends once");
        }
        fn refuse(self: Box<Self>, error: Error) {
            self.end(Err(error));
        }
    }

    impl Heard {
        fn end(&self) -> Option<Result<()>> {
            self.0.lock().unwrap().1.clone()
        }
        fn failure(&self) -> (Status, Progress) {
            let error = self.end().expect("it has ended").expect_err("it failed");
            (error.status(), error.progress())
        }
    }

    impl Peer {
        fn new() -> Peer {
            let (channel, transport) = pair();
            let now = Instant::now();
            let (load, stats) = (Arc::default(), Arc::default());
            let core = Core::new(channel, Limits::default(), load, stats, now);
            Peer {
                core,
                transport,
                reassembler: Reassembler::default(),
                now,
            }
        }

        fn open(&mut self, id: i64) -> (Heard, Arc<std::sync::atomic::AtomicBool>) {
            self.open_with(id, Bytes::from_static(b"{}"))
        }

        fn open_with(
            &mut self,
            id: i64,
            body: Bytes,
        ) -> (Heard, Arc<std::sync::atomic::AtomicBool>) {
            self.open_as(id, body, None)
        }

        fn open_as(
            &mut self,
            id: i64,
            body: Bytes,
            upload: Option<Box<dyn Source>>,
        ) -> (Heard, Arc<std::sync::atomic::AtomicBool>) {
            let (heard, full) = (Heard::default(), Arc::default());
            let receiver = Box::new(Listener {
                heard: heard.clone(),
                full: Arc::clone(&full),
            });
            self.core.load.open.fetch_add(1, Ordering::Relaxed);
            self.core
                .load
                .queued_bytes
                .fetch_add(body.len(), Ordering::Relaxed);
            let request = Request {
                verb: "POST".into(),
                path: "/x".into(),
                body,
                pace: match &upload {
                    None => Pace::Events,
                    Some(_) => Pace::Pieces,
                },
                upload,
            };
            let uploads = request.upload.is_some();
            self.core.open(
                Opening {
                    id,
                    request,
                    receiver,
                    way: uploads.then(|| Way::new(|_| ())),
                },
                self.now,
            );
            (heard, full)
        }

        /// Opens an upload of so many chunks of so many bytes. The counter tells how often its source was asked.
        fn upload(&mut self, id: i64, chunks: u32, size: usize) -> (Heard, Arc<AtomicUsize>) {
            let asked = Arc::new(AtomicUsize::new(0));
            let source = Box::new(Chunks {
                left: chunks,
                size,
                asked: asked.clone(),
            });
            let (heard, _) = self.open_as(id, Bytes::from_static(b"{}"), Some(source));
            (heard, asked)
        }

        /// Takes one frame from the core. The request that it completes, if it completes one.
        fn frame(&mut self) -> Option<Option<(i64, String)>> {
            let message = self.core.transmit(self.now).unwrap()?;
            self.core.moved(self.now, 1, 0, true);
            let mut frame = vec![0; message.len()];
            let len = self.transport.read_message(&message, &mut frame).unwrap();
            frame.truncate(len);
            let message = self.reassembler.push(frame.into()).unwrap();
            Some(message.map(read_request))
        }

        /// The requests that leave: id, verb and path.
        fn sent(&mut self) -> Vec<(i64, String)> {
            std::iter::from_fn(|| self.frame()).flatten().collect()
        }

        /// The ids of the requests that leave.
        fn sent_ids(&mut self) -> Vec<i64> {
            self.sent().into_iter().map(|(id, _)| id).collect()
        }

        fn answer(&mut self, id: i64, status: i32, body: &'static str) -> Result<()> {
            let mut fragments = Fragments::new(id, write_response(id, status, body));
            let mut frame = BytesMut::new();
            while fragments.next_into(&mut frame) {
                let mut message = vec![0; frame.len() + 16];
                let len = self.transport.write_message(&frame, &mut message).unwrap();
                self.core.moved(self.now, 0, 1, true);
                self.core.receive(&message[..len], self.now)?;
            }
            self.core.flush(self.now);
            Ok(())
        }

        /// Moves the clock to the core's next deadline, which must be `after` from now, and lets it act.
        fn pass(&mut self, after: u64) -> Result<()> {
            assert_eq!(self.core.deadline() - self.now, Duration::from_secs(after));
            self.now = self.core.deadline();
            self.core.tick(self.now)
        }

        /// Lets so many seconds pass, in which each ping is answered.
        fn live(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            while self.core.deadline() <= end {
                self.now = self.core.deadline();
                self.core.tick(self.now).unwrap();
                for id in self.sent_ids() {
                    if id <= FIRST_PING_ID {
                        self.answer(id, 200, "PONG").unwrap();
                    }
                }
            }
            self.now = end;
        }

        /// Opens a request whose reader is full, so that the socket is not read.
        fn pause(&mut self, id: i64) -> (Heard, Arc<std::sync::atomic::AtomicBool>) {
            let (heard, full) = self.open(id);
            self.sent();
            full.store(true, Ordering::Relaxed);
            self.answer(id, 200, "piece").unwrap();
            assert!(!self.core.reading());
            (heard, full)
        }

        /// The reader makes room.
        fn resume(&mut self, full: &std::sync::atomic::AtomicBool) {
            full.store(false, Ordering::Relaxed);
            self.core.resume(self.now);
            assert!(self.core.reading());
        }

        fn round_trip(&self) -> u64 {
            self.core.stats.round_trip_us.load(Ordering::Relaxed)
        }
    }

    /// A source that has all its chunks at once.
    struct Chunks {
        left: u32,
        size: usize,
        asked: Arc<AtomicUsize>,
    }

    impl Source for Chunks {
        fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
            supply.not_needed();
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.left -= 1;
            Some(Ok(Data {
                bytes: Bytes::from(vec![0; self.size]),
                last: self.left == 0,
            }))
        }
        fn again(&self) -> Option<crate::session::Again> {
            None
        }
    }

    #[test]
    fn a_ping_goes_out_every_20_seconds_and_an_answer_settles_it() {
        let mut peer = Peer::new();
        for turn in 0..3 {
            let id = FIRST_PING_ID - turn; // unique on the connection
            peer.pass(20).unwrap();
            assert_eq!(peer.sent(), [(id, "GET /ping".into())]);
            peer.answer(id, 200, "PONG").unwrap();
        }
        peer.pass(20).unwrap();
        peer.sent();
        peer.answer(FIRST_PING_ID, 200, "PONG").unwrap(); // a late one settles no later ping
        assert!(peer.core.keepalive.has_open());
    }

    #[test]
    fn each_message_has_a_chunk_id_of_its_own() {
        let mut peer = Peer::new();
        let mut beginnings = std::collections::HashSet::new();
        for id in 1..=20 {
            peer.open(id);
            let message = peer.core.transmit(peer.now).unwrap().unwrap();
            let mut frame = vec![0; message.len()];
            peer.transport.read_message(&message, &mut frame).unwrap();
            beginnings.insert(frame[..9].to_vec()); // a frame begins with it
        }
        assert_eq!(beginnings.len(), 20);
    }

    #[test]
    fn a_request_that_is_partly_sent_goes_out_whole_whoever_gives_it_up() {
        for expires in [false, true] {
            let mut peer = Peer::new();
            let (heard, _) = peer.open_with(1, Bytes::from(vec![b' '; 3 << 16]));
            let first = peer.core.transmit(peer.now).unwrap().unwrap();
            if expires {
                peer.now += Duration::from_secs(180);
                peer.core.moved(peer.now, 1, 0, true);
                peer.core.tick(peer.now).unwrap();
                assert_eq!(heard.failure(), (Status::StreamIdle, Progress::MaybeSent));
            } else {
                peer.core.cancel(1, peer.now);
                assert_eq!(heard.failure(), (Status::Cancelled, Progress::MaybeSent));
            }
            let mut frame = vec![0; first.len()];
            let len = peer.transport.read_message(&first, &mut frame).unwrap();
            frame.truncate(len);
            assert_eq!(peer.reassembler.push(frame.into()), Ok(None));
            assert!(peer.sent().contains(&(1, "POST /x".into())));
            assert_eq!(peer.core.load.queued_bytes.load(Ordering::Relaxed), 0);

            let (unsent, _) = peer.open(2);
            peer.core.cancel(2, peer.now);
            assert_eq!(unsent.failure(), (Status::Cancelled, Progress::NotSent));
            assert!(peer.sent().is_empty(), "what is not sent is dropped");
        }
    }

    #[test]
    fn a_peer_is_dead_after_20_seconds_with_a_ping_open_and_no_byte_moving() {
        let mut peer = Peer::new();
        peer.pass(20).unwrap();
        peer.sent();
        assert_eq!(peer.pass(20).unwrap_err().status(), Status::DeadPeer);
    }

    #[test]
    fn bytes_that_move_keep_a_peer_alive_while_a_ping_is_open() {
        let mut peer = Peer::new();
        peer.pass(20).unwrap();
        peer.sent();
        peer.now += Duration::from_secs(15);
        peer.core.moved(peer.now, 0, 1, true);
        peer.pass(5).unwrap();
        assert_eq!(peer.sent(), [(FIRST_PING_ID - 1, "GET /ping".into())]);
        assert_eq!(peer.pass(15).unwrap_err().status(), Status::DeadPeer);
    }

    #[test]
    fn a_slow_upload_keeps_a_peer_alive_and_pings_alone_do_not() {
        for uploads in [true, false] {
            let mut peer = Peer::new();
            // A limit that is longer than the interval.
            let (interval, dead_after) = (Duration::from_secs(20), Duration::from_secs(50));
            peer.core.keepalive = Keepalive::new(interval, dead_after, peer.now);
            if uploads {
                peer.upload(1, 1, MAX_CHUNK);
                peer.core.transmit(peer.now).unwrap();
            }
            let mut dead = false;
            for _ in 0..6 {
                peer.now += interval;
                peer.core.moved(peer.now, 1, 0, false); // some of what the socket holds leaves
                dead |= peer.core.tick(peer.now).is_err();
                peer.core.transmit(peer.now).unwrap(); // the ping
            }
            assert_eq!(dead, !uploads);
        }
    }

    #[test]
    fn a_stream_that_falls_silent_ends_after_its_idle_limit_and_the_connection_stays() {
        let mut peer = Peer::new();
        let (heard, _) = peer.open(1);
        peer.sent();
        peer.answer(1, 200, "piece").unwrap();
        for turn in 0..8 {
            peer.pass(20).unwrap();
            peer.sent();
            peer.answer(FIRST_PING_ID - turn, 200, "PONG").unwrap();
        }
        peer.pass(20).unwrap();
        assert_eq!(
            heard.failure(),
            (Status::StreamIdle, Progress::PartlyAnswered)
        );
        peer.sent();
        let (second, _) = peer.open(2);
        peer.sent();
        peer.answer(2, 200, "last").unwrap();
        assert!(matches!(second.end(), Some(Ok(()))));
    }

    #[test]
    fn an_answer_in_pieces_may_be_silent_for_longer_than_events() {
        let mut peer = Peer::new();
        let (pieces, _) = peer.upload(1, 1, 1);
        let (events, _) = peer.open(2);
        peer.sent();
        peer.live(179);
        assert!(events.end().is_none());
        peer.live(1);
        assert_eq!(events.failure(), (Status::StreamIdle, Progress::MaybeSent));
        let error = events.end().unwrap().unwrap_err();
        for part in ["180000 ms", "CONFER_DURATION_IDLE_EVENTS", "without a word"] {
            assert!(error.message().contains(part), "{error}");
        }
        peer.live(419);
        assert!(pieces.end().is_none());
        let (later, _) = peer.open(3); // a shorter limit comes into play
        peer.sent();
        peer.live(1);
        assert_eq!(pieces.failure(), (Status::StreamIdle, Progress::MaybeSent));
        let error = pieces.end().unwrap().unwrap_err();
        assert!(error.message().contains("600000 ms"), "{error}");
        peer.live(179);
        later.failure();
    }

    #[test]
    fn a_sole_full_stream_stops_the_reading_and_suspends_the_limits() {
        let mut peer = Peer::new();
        let (heard, full) = peer.pause(1);
        for _ in 0..20 {
            peer.pass(20).unwrap(); // 400 seconds: neither idle nor dead
            peer.sent();
        }
        assert!(heard.end().is_none());
        peer.resume(&full);
        peer.pass(20).unwrap_err();
    }

    #[test]
    fn pings_go_out_at_every_interval_while_the_reader_pauses() {
        let mut peer = Peer::new();
        let (_, full) = peer.pause(1);
        for turn in 0..20 {
            peer.pass(20).unwrap();
            assert_eq!(peer.sent(), [(FIRST_PING_ID - turn, "GET /ping".into())]);
        }
        // Their answers come late, all at once.
        peer.resume(&full);
        peer.now += Duration::from_secs(1);
        for turn in 0..20 {
            peer.answer(FIRST_PING_ID - turn, 200, "PONG").unwrap();
        }
        let answered = &peer.core.stats.pings_answered;
        assert_eq!(answered.load(Ordering::Relaxed), 20);
        assert_eq!(peer.round_trip(), 0, "they measure the pause");
        peer.pass(19).unwrap();
        peer.sent();
        peer.now += Duration::from_secs(1);
        peer.answer(FIRST_PING_ID - 20, 200, "PONG").unwrap();
        assert_eq!(peer.round_trip(), 1_000_000);
    }

    #[test]
    fn pings_wait_one_at_a_time_for_a_socket_that_takes_nothing() {
        let mut peer = Peer::new();
        peer.pause(1);
        for _ in 0..20 {
            peer.pass(20).unwrap();
        }
        assert_eq!(peer.sent_ids(), [FIRST_PING_ID]);
        peer.answer(FIRST_PING_ID - 1, 200, "early").unwrap(); // of an id that is yet to come
        peer.pass(20).unwrap();
        assert_eq!(peer.sent_ids(), [FIRST_PING_ID - 1]);
    }

    #[test]
    fn an_answer_settles_the_older_pings() {
        let mut peer = Peer::new();
        peer.pass(20).unwrap();
        peer.sent();
        peer.now += Duration::from_secs(15);
        peer.core.moved(peer.now, 0, 1, true);
        peer.pass(5).unwrap();
        peer.sent();
        peer.answer(FIRST_PING_ID - 1, 200, "PONG").unwrap(); // the first one's never comes
        assert!(!peer.core.keepalive.has_open());
        peer.pass(20).unwrap();
        peer.sent();
        peer.pass(20).unwrap_err();
    }

    #[test]
    fn a_dead_peer_is_noticed_a_whole_limit_after_the_pause() {
        let mut peer = Peer::new();
        let (_, full) = peer.pause(1);
        peer.core.probe(peer.now);
        for _ in 0..3 {
            peer.pass(20).unwrap();
            peer.sent();
        }
        peer.now += Duration::from_secs(7);
        peer.resume(&full);
        let probe = peer.pass(5).unwrap_err();
        assert!(probe.message().contains("network changed"), "{probe}");
        peer.core.probe = None;
        peer.pass(8).unwrap(); // a ping is due
        peer.sent();
        let dead = peer.pass(7).unwrap_err();
        assert!(
            dead.message().contains("did not answer a keepalive ping"),
            "{dead}"
        );
    }

    /// A source that has nothing, and says why later.
    struct Failing;
    impl Source for Failing {
        fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
            supply.not_needed();
            None
        }
        fn again(&self) -> Option<crate::session::Again> {
            None
        }
    }

    #[test]
    fn a_sole_upload_that_ends_by_itself_leaves_the_socket_read() {
        let mut peer = Peer::new();
        let (heard, full) = peer.open_as(1, Bytes::new(), Some(Box::new(Failing)));
        full.store(true, Ordering::Relaxed);
        peer.answer(1, 200, "early").unwrap();
        assert!(!peer.core.reading());
        let gone = Error::new(Status::File, "gone");
        peer.core.supply(1, Err(gone), peer.now);
        assert_eq!(heard.failure().0, Status::File);
        assert!(peer.core.reading());
        peer.open(2);
        assert!(peer.core.reading());
    }

    #[test]
    fn full_stream_that_fails_while_it_sends_leaves_the_socket_read() {
        let mut peer = Peer::new();
        let (heard, full) = peer.open_with(1, Bytes::from(vec![b' '; 3 << 16]));
        full.store(true, Ordering::Relaxed);
        peer.frame();
        peer.answer(1, 200, "early").unwrap();
        assert!(!peer.core.reading());
        heard.1.store(true, Ordering::Relaxed); // its next delivery fails
        peer.frame();
        peer.core.flush(peer.now);
        assert_eq!(heard.failure().0, Status::SlowConsumer);
        assert!(peer.core.reading());
        peer.pass(20).unwrap();
        peer.sent();
        assert_eq!(peer.pass(20).unwrap_err().status(), Status::DeadPeer);
    }

    #[test]
    fn a_message_that_is_still_coming_answers_a_probe() {
        let mut peer = Peer::new();
        peer.core.probe(peer.now);
        peer.sent();
        assert_eq!(peer.core.deadline() - peer.now, Duration::from_secs(5));
        let (_, full) = peer.open(1);
        full.store(false, Ordering::Relaxed);
        let mut fragments = Fragments::new(7, Bytes::from(vec![0; 3 << 16]));
        let mut frame = BytesMut::new();
        assert!(fragments.next_into(&mut frame));
        let mut message = vec![0; frame.len() + 16];
        let len = peer.transport.write_message(&frame, &mut message).unwrap();
        peer.core.receive(&message[..len], peer.now).unwrap();
        peer.now += Duration::from_secs(6);
        peer.core.moved(peer.now, 0, 1, true);
        peer.core.tick(peer.now).unwrap();
    }

    #[test]
    fn a_probe_that_nothing_answers_ends_the_connection() {
        let mut peer = Peer::new();
        peer.core.probe(peer.now);
        peer.sent();
        assert_eq!(peer.pass(5).unwrap_err().status(), Status::DeadPeer);
    }

    #[test]
    fn a_document_goes_out_chunk_by_chunk_and_pings_go_between() {
        let mut peer = Peer::new();
        let (_, asked) = peer.upload(1, 4, MAX_CHUNK);
        assert_eq!(
            asked.load(Ordering::Relaxed),
            MAX_AHEAD,
            "no more than waits"
        );
        peer.core.transmit(peer.now).unwrap(); // some of the first chunk
        peer.core.probe(peer.now);
        // The first frame of the chunk is known to the peer already; it only has to be taken out of the way.
        let ping = peer.core.outgoing.front().unwrap().id;
        assert_eq!(ping, FIRST_PING_ID);
        while peer.core.transmit(peer.now).unwrap().is_some() {}
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        assert_eq!(peer.core.stats.messages_sent.load(Ordering::Relaxed), 5);
        assert_eq!(peer.core.load.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_upload_that_is_given_up_ends_with_an_empty_final_chunk() {
        let end = |id| (id, "[1: 0 final]".to_owned());
        for given_up in 0..4 {
            let mut peer = Peer::new();
            let (heard, _) = peer.upload(1, 9, MAX_CHUNK);
            peer.frame(); // some of chunk 0; chunk 1 waits
            match given_up {
                0 => peer.core.cancel(1, peer.now),
                1 => peer.answer(1, 415, "no such type").unwrap(),
                2 => peer.answer(1, 200, "last").unwrap(),
                _ => {
                    peer.now += Duration::from_secs(600);
                    peer.core.moved(peer.now, 0, 1, true);
                    peer.core.tick(peer.now).unwrap();
                }
            }
            assert!(heard.end().is_some());
            assert!(peer.core.has_news(), "the driver has to write");
            let mut sent = peer.sent();
            sent.retain(|(id, _)| *id == 1);
            assert_eq!(sent, [(1, format!("POST /x[0: {MAX_CHUNK}]")), end(1)]);
            assert_eq!(peer.core.load.queued_bytes.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn an_upload_that_never_left_or_left_whole_needs_no_final_chunk() {
        let mut peer = Peer::new();
        for id in 1..=20 {
            peer.upload(id, 3, 5);
            peer.core.cancel(id, peer.now);
            assert!(peer.sent().is_empty());
        }
        peer.upload(21, 1, 5);
        assert_eq!(peer.sent(), [(21, "POST /x[0: 5 final]".into())]);
        peer.core.cancel(21, peer.now);
        assert!(peer.sent().is_empty());
        // All of it that is left is in the middle of leaving.
        peer.upload(22, 1, MAX_CHUNK);
        peer.frame();
        peer.core.cancel(22, peer.now);
        assert_eq!(peer.sent_ids(), [22]);
        for id in 23..=32 {
            peer.upload(id, 1, 5);
        }
        assert_eq!(
            peer.sent_ids(),
            Vec::from_iter(23..=32),
            "no place was lost"
        );
    }

    #[test]
    fn an_eleventh_upload_waits_for_a_place_in_order() {
        let mut peer = Peer::new();
        for id in 1..=14 {
            peer.upload(id, 1, 5);
        }
        assert_eq!(peer.sent_ids(), Vec::from_iter(1..=10));
        peer.core.cancel(12, peer.now); // it waits no more
        peer.answer(3, 200, "last").unwrap();
        assert!(peer.core.has_news(), "the driver has to write");
        assert_eq!(peer.sent_ids(), [11]);
        peer.core.cancel(5, peer.now); // its final chunk is written
        peer.answer(6, 500, "why").unwrap();
        assert_eq!(peer.sent_ids(), [13, 14]);
    }

    #[test]
    fn a_place_is_free_when_the_final_chunk_is_written() {
        let mut peer = Peer::new();
        for id in 1..=10 {
            peer.upload(id, 3, 5);
        }
        let (_, asked) = peer.upload(11, 1, 5);
        peer.frame();
        peer.core.cancel(1, peer.now);
        let mut sent = Vec::new();
        while asked.load(Ordering::Relaxed) == 0 {
            sent.extend(peer.frame().expect("it gets a place"));
        }
        assert!(sent.contains(&(1, "[1: 0 final]".into())), "{sent:?}");
        assert_eq!(peer.sent_ids().last(), Some(&11));
    }

    #[test]
    fn an_upload_that_gets_no_place_ends_at_its_idle_limit() {
        let mut peer = Peer::new();
        for id in 1..=10 {
            peer.upload(id, 1, 5);
        }
        let (waits, _) = peer.upload(11, 1, 5);
        let (later, _) = peer.upload(12, 1, 5);
        peer.live(300);
        for id in 1..=10 {
            peer.answer(id, 200, "piece").unwrap();
        }
        peer.live(299);
        assert!(waits.end().is_none());
        peer.live(1);
        assert_eq!(waits.failure(), (Status::StreamIdle, Progress::NotSent));
        let error = waits.end().unwrap().unwrap_err();
        assert!(error.message().contains("10 places"), "{error}");
        later.failure();
        peer.answer(1, 200, "last").unwrap();
        assert!(peer.sent().is_empty(), "nobody waits");
    }

    #[test]
    fn a_second_request_resumes_the_reading() {
        let mut peer = Peer::new();
        let (_, full) = peer.open(1);
        full.store(true, Ordering::Relaxed);
        peer.sent();
        peer.answer(1, 200, "piece").unwrap();
        assert!(!peer.core.reading());
        peer.open(2);
        assert!(peer.core.reading());
        peer.core.flush(peer.now);
        assert!(peer.core.reading(), "two are open");
        peer.core.cancel(2, peer.now);
        peer.core.flush(peer.now);
        assert!(!peer.core.reading(), "the full one is alone again");
    }

    #[test]
    fn a_status_other_than_200_ends_the_exchange_and_what_follows_is_ignored() {
        for (code, status) in [
            (401, Status::Unauthorized),
            (402, Status::PaymentRequired),
            (503, Status::Refused),
            (201, Status::Refused),
        ] {
            let mut peer = Peer::new();
            let (heard, _) = peer.open(1);
            peer.sent();
            peer.answer(1, code, "why").unwrap();
            assert_eq!(heard.failure(), (status, Progress::PartlyAnswered));
            let error = heard.end().unwrap().unwrap_err();
            assert_eq!(
                (error.http_status(), error.peer_text()),
                (Some(code as u16), Some("why"))
            );
            assert!(
                !error.to_string().contains("why"),
                "the peer's text is no part of the message"
            );
            peer.answer(1, 200, "more").unwrap();
        }
    }

    #[test]
    fn what_was_cancelled_before_it_was_sent_is_never_sent() {
        let mut peer = Peer::new();
        let (first, _) = peer.open(1);
        let (second, _) = peer.open(2);
        peer.core.cancel(1, peer.now);
        assert_eq!(first.failure(), (Status::Cancelled, Progress::NotSent));
        assert_eq!(peer.sent(), [(2, "POST /x".into())]);
        peer.core.cancel(2, peer.now);
        assert_eq!(second.failure(), (Status::Cancelled, Progress::MaybeSent));
        assert_eq!(peer.core.load.open.load(Ordering::Relaxed), 0);
        assert_eq!(peer.core.load.queued_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_broken_connection_tells_each_request_how_far_it_had_come() {
        let mut peer = Peer::new();
        let (answered, _) = peer.open(1);
        let (sent, _) = peer.open(2);
        peer.sent();
        peer.answer(1, 200, "piece").unwrap();
        let (unsent, _) = peer.open(3);
        peer.core.fail(&Error::new(Status::ConnectionLost, "gone"));
        assert_eq!(
            answered.failure(),
            (Status::ConnectionLost, Progress::PartlyAnswered)
        );
        assert_eq!(
            sent.failure(),
            (Status::ConnectionLost, Progress::MaybeSent)
        );
        assert_eq!(
            unsent.failure(),
            (Status::ConnectionLost, Progress::NotSent)
        );
    }
}
