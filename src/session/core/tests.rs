//! Checks the rules by events, without sockets and with a clock that only the test moves.

use std::collections::HashSet;

use super::keepalive::FIRST_PING_ID;
use super::uploads::MAX_AHEAD;
use super::*;
use crate::noise::testing::pair;
use crate::wire::Fragments;
use crate::wire::testing::{read_request, write_response};

/// A core, the enclave's side of its channel, and what the core reported.
struct Peer {
    core: Core,
    transport: snow::TransportState,
    reassembler: Reassembler,
    now: Instant,
    seen: HashMap<i64, Seen>,
    /// Requests whose reader is full.
    full: HashSet<i64>,
    counts: Counts,
}

/// The reports of a request.
#[derive(Default)]
struct Seen {
    pieces: Vec<Bytes>,
    end: Option<Result<()>>,
    /// Bytes of its document sent so far.
    data: usize,
    /// Its body has left.
    body: bool,
    /// Number of times that its upload wanted data.
    wanted: usize,
    /// Chunks that its source has at once: how many are left, and their size.
    chunks: Option<(u32, usize)>,
}

impl Peer {
    fn new() -> Peer {
        Peer::with(Limits::default())
    }

    fn with(limits: Limits) -> Peer {
        let (channel, transport) = pair();
        let now = Instant::now();
        Peer {
            core: Core::new(channel, limits, 1, now),
            transport,
            reassembler: Reassembler::default(),
            now,
            seen: HashMap::new(),
            full: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// Does what the driver does with events. A piece `last` completes its answer.
    fn settle(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                Event::Sent { id, left } => {
                    let seen = self.seen(id);
                    seen.data += left.data;
                    assert!(!(left.body && seen.body), "a body leaves once");
                    seen.body |= left.body;
                }
                Event::Piece { id, piece } => {
                    let last = piece.body == "last";
                    self.seen(id).pieces.push(piece.body);
                    if last {
                        self.core.complete(id, self.now);
                    }
                }
                Event::WantsData { id } => {
                    let seen = self.seen(id);
                    seen.wanted += 1;
                    if let Some((left, size)) = &mut seen.chunks {
                        *left -= 1;
                        let (bytes, last) = (Bytes::from(vec![0; *size]), *left == 0);
                        self.core.supply(id, Ok(Data { bytes, last }), self.now);
                    }
                }
                Event::Ended { id, result } => {
                    let before = self.seen(id).end.replace(result);
                    assert!(before.is_none(), "{id} ended twice");
                }
            }
        }
        let counts = self.core.take_counts();
        self.counts.messages_sent += counts.messages_sent;
        self.counts.pings_answered += counts.pings_answered;
        self.counts.round_trip = counts.round_trip.or(self.counts.round_trip);
        if self.core.sole().is_some_and(|id| self.full.contains(&id)) {
            self.core.pause();
        }
    }

    fn seen(&mut self, id: i64) -> &mut Seen {
        let seen = self.seen.get_mut(&id).expect("a request that was opened");
        assert!(seen.end.is_none(), "{id} has ended");
        seen
    }

    fn end(&self, id: i64) -> Option<&Result<()>> {
        self.seen[&id].end.as_ref()
    }

    fn error(&self, id: i64) -> &Error {
        let end = self.end(id).expect("it has ended");
        end.as_ref().expect_err("it failed")
    }

    fn failure(&self, id: i64) -> (Status, Progress) {
        let error = self.error(id);
        (error.status(), error.progress())
    }

    fn open(&mut self, id: i64) {
        self.open_with(id, Bytes::from_static(b"{}"));
    }

    fn open_with(&mut self, id: i64, body: Bytes) {
        self.open_as(id, body, Pace::Events, false, None);
    }

    /// Opens an upload that has `chunks` of `size` bytes at once.
    fn upload(&mut self, id: i64, chunks: u32, size: usize) {
        let body = Bytes::from_static(b"{}");
        self.open_as(id, body, Pace::Pieces, true, Some((chunks, size)));
    }

    /// Opens an upload whose data the test supplies.
    fn slow_upload(&mut self, id: i64) {
        self.open_as(id, Bytes::from_static(b"{}"), Pace::Pieces, true, None);
    }

    fn open_as(
        &mut self,
        id: i64,
        body: Bytes,
        pace: Pace,
        uploads: bool,
        chunks: Option<(u32, usize)>,
    ) {
        let seen = Seen {
            chunks,
            ..Seen::default()
        };
        self.seen.insert(id, seen);
        let message = wire::Request {
            id,
            verb: "POST".into(),
            path: "/x".into(),
            body,
            chunk: None,
        };
        let opening = Opening {
            message,
            pace,
            uploads,
        };
        self.core.open(opening, self.now);
        self.settle();
    }

    fn cancel(&mut self, id: i64) {
        self.core.cancel(id, self.now);
        self.settle();
    }

    fn supply(&mut self, id: i64, data: Result<Data>) {
        self.core.supply(id, data, self.now);
        self.settle();
    }

    /// Takes one frame. Returns the request that it completes, if any.
    fn frame(&mut self) -> Option<Option<(i64, String)>> {
        let message = self.core.poll_transmit(self.now).unwrap()?;
        self.core.moved(self.now, 1, 0, true);
        self.settle();
        let mut frame = vec![0; message.len()];
        let len = self.transport.read_message(&message, &mut frame).unwrap();
        frame.truncate(len);
        let message = self.reassembler.push(frame.into()).unwrap();
        Some(message.map(read_request))
    }

    /// Takes all frames. Returns each request: id, verb, path and chunk.
    fn sent(&mut self) -> Vec<(i64, String)> {
        std::iter::from_fn(|| self.frame()).flatten().collect()
    }

    fn sent_ids(&mut self) -> Vec<i64> {
        self.sent().into_iter().map(|(id, _)| id).collect()
    }

    fn answer(&mut self, id: i64, status: i32, body: &'static str) -> Result<()> {
        let mut fragments = Fragments::new(id, write_response(id, status, body));
        let mut frame = BytesMut::new();
        while fragments.next_into(&mut frame) {
            self.receive(&frame)?;
        }
        Ok(())
    }

    /// Receives a frame.
    fn receive(&mut self, frame: &[u8]) -> Result<()> {
        let mut message = vec![0; frame.len() + 16];
        let len = self.transport.write_message(frame, &mut message).unwrap();
        self.received(1);
        self.core.receive(&message[..len], self.now)?;
        self.settle();
        Ok(())
    }

    /// Bytes arrive that complete nothing.
    fn received(&mut self, bytes: u64) {
        self.core.moved(self.now, 0, bytes, true);
    }

    fn tick(&mut self) -> Result<()> {
        let ticked = self.core.tick(self.now);
        self.settle();
        ticked
    }

    fn deadline(&self) -> Instant {
        self.core.poll_timeout().expect("it lives")
    }

    /// Moves the clock to the next deadline, which must be `after` seconds away.
    fn pass(&mut self, after: u64) -> Result<()> {
        assert_eq!(self.deadline() - self.now, Duration::from_secs(after));
        self.now = self.deadline();
        self.tick()
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Lets so many seconds pass, in which each ping is answered.
    fn live(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.deadline() <= end {
            self.now = self.deadline();
            self.tick().unwrap();
            for id in self.sent_ids() {
                if id <= FIRST_PING_ID {
                    self.answer(id, 200, "PONG").unwrap();
                }
            }
        }
        self.now = end;
    }

    /// Opens a request whose reader is full, so that the socket is not read.
    fn pause(&mut self, id: i64) {
        self.open(id);
        self.sent();
        self.full.insert(id);
        self.answer(id, 200, "piece").unwrap();
        assert!(!self.core.reading());
    }

    /// The full reader makes room.
    fn resume(&mut self) {
        self.full.clear();
        self.core.resume(self.now);
        assert!(self.core.reading());
    }

    fn fail(&mut self, status: Status) {
        self.core.fail(&Error::new(status, "gone"), self.now);
        self.settle();
    }
}

#[test]
fn ping_goes_out_every_20_seconds() {
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
fn each_message_has_a_different_chunk_id() {
    let mut peer = Peer::new();
    let mut beginnings = HashSet::new();
    for id in 1..=20 {
        peer.open(id);
        let message = peer.core.poll_transmit(peer.now).unwrap().unwrap();
        let mut frame = vec![0; message.len()];
        peer.transport.read_message(&message, &mut frame).unwrap();
        beginnings.insert(frame[..9].to_vec()); // a frame begins with it
    }
    assert_eq!(beginnings.len(), 20);
}

#[test]
fn partly_sent_request_goes_out_whole_when_given_up() {
    for expires in [false, true] {
        let mut peer = Peer::new();
        peer.open_with(1, Bytes::from(vec![b' '; 3 << 16]));
        assert_eq!(peer.frame(), Some(None));
        if expires {
            peer.wait(180);
            peer.received(1); // the socket takes nothing
            peer.tick().unwrap();
            assert_eq!(peer.failure(1), (Status::StreamIdle, Progress::MaybeSent));
        } else {
            peer.cancel(1);
            assert_eq!(peer.failure(1), (Status::Cancelled, Progress::MaybeSent));
        }
        assert!(peer.sent().contains(&(1, "POST /x".into())));

        peer.open(2);
        peer.cancel(2);
        assert_eq!(peer.failure(2), (Status::Cancelled, Progress::NotSent));
        assert!(peer.sent().is_empty(), "an unsent request is dropped");
    }
}

#[test]
fn peer_is_dead_after_20_seconds_without_bytes() {
    let mut peer = Peer::new();
    peer.pass(20).unwrap();
    peer.sent();
    assert_eq!(peer.pass(20).unwrap_err().status(), Status::DeadPeer);
}

#[test]
fn moving_bytes_keep_a_peer_alive() {
    let mut peer = Peer::new();
    peer.pass(20).unwrap();
    peer.sent();
    peer.wait(15);
    peer.received(1);
    peer.pass(5).unwrap();
    assert_eq!(peer.sent(), [(FIRST_PING_ID - 1, "GET /ping".into())]);
    assert_eq!(peer.pass(15).unwrap_err().status(), Status::DeadPeer);
}

#[test]
fn slow_upload_keeps_a_peer_alive_pings_do_not() {
    for uploads in [true, false] {
        let mut peer = Peer::with(Limits {
            dead_after: Duration::from_secs(50), // longer than the interval
            ..Limits::default()
        });
        if uploads {
            peer.upload(1, 1, MAX_CHUNK);
            peer.core.poll_transmit(peer.now).unwrap();
        }
        let mut dead = false;
        for _ in 0..6 {
            peer.wait(20);
            peer.core.moved(peer.now, 1, 0, false); // some of what the socket holds leaves
            dead |= peer.tick().is_err();
            peer.core.poll_transmit(peer.now).unwrap(); // the ping
        }
        assert_eq!(dead, !uploads);
    }
}

#[test]
fn silent_stream_ends_and_the_connection_stays() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.sent();
    peer.answer(1, 200, "piece").unwrap();
    for turn in 0..8 {
        peer.pass(20).unwrap();
        peer.sent();
        peer.answer(FIRST_PING_ID - turn, 200, "PONG").unwrap();
    }
    peer.pass(20).unwrap();
    assert_eq!(
        peer.failure(1),
        (Status::StreamIdle, Progress::PartlyAnswered)
    );
    peer.sent();
    peer.open(2);
    peer.sent();
    peer.answer(2, 200, "last").unwrap();
    assert!(matches!(peer.end(2), Some(Ok(()))));
}

#[test]
fn pieces_may_be_silent_for_longer_than_events() {
    let mut peer = Peer::new();
    peer.upload(1, 1, 1);
    peer.open(2);
    peer.sent();
    peer.live(179);
    assert!(peer.end(2).is_none());
    peer.live(1);
    assert_eq!(peer.failure(2), (Status::StreamIdle, Progress::MaybeSent));
    for part in ["180000 ms", "CONFER_DURATION_IDLE_EVENTS", "without a word"] {
        let error = peer.error(2);
        assert!(error.message().contains(part), "{error}");
    }
    peer.live(419);
    assert!(peer.end(1).is_none());
    peer.open(3); // a shorter limit comes into play
    peer.sent();
    peer.live(1);
    assert_eq!(peer.failure(1), (Status::StreamIdle, Progress::MaybeSent));
    let error = peer.error(1);
    assert!(error.message().contains("600000 ms"), "{error}");
    peer.live(179);
    assert_eq!(peer.failure(3).0, Status::StreamIdle);
}

#[test]
fn idle_time_starts_with_the_last_byte_written() {
    let mut peer = Peer::new();
    peer.open_with(1, Bytes::from(vec![b' '; 5 << 16])); // six frames on a slow line
    peer.open(2);
    for _ in 0..6 {
        peer.wait(100);
        peer.received(1); // nothing is owed, and the peer lives
        peer.tick().unwrap();
        assert!(peer.end(1).is_none() && peer.end(2).is_none());
        while let Some((ping, _)) = peer.frame().unwrap().filter(|(id, _)| *id < 0) {
            peer.answer(ping, 200, "PONG").unwrap();
        }
    }
    let left = [1, 2].map(|id| peer.seen[&id].body);
    assert_eq!(left, [true, false], "the second waits behind the first");
    assert_eq!(peer.sent_ids(), [2]);
    peer.live(179);
    assert!(peer.end(1).is_none() && peer.end(2).is_none());
    peer.live(1);
    assert_eq!(peer.failure(1), (Status::StreamIdle, Progress::MaybeSent));
    assert_eq!(peer.failure(2), (Status::StreamIdle, Progress::MaybeSent));
}

#[test]
fn unsent_request_ends_when_the_socket_takes_nothing() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.sent();
    peer.open(2);
    for second in 1..=180 {
        assert!(peer.end(2).is_none(), "after {second} s");
        peer.wait(1);
        peer.answer(1, 200, "piece").unwrap(); // the other direction works
        peer.tick().unwrap();
    }
    assert_eq!(peer.failure(2), (Status::StreamIdle, Progress::NotSent));
    let error = peer.error(2);
    assert!(error.message().contains("took no byte"), "{error}");
    assert!(peer.end(1).is_none());
    assert_eq!(peer.sent_ids(), [FIRST_PING_ID]);
}

#[test]
fn full_sole_stream_stops_reading_and_suspends_limits() {
    let mut peer = Peer::new();
    peer.pause(1);
    for _ in 0..20 {
        peer.pass(20).unwrap(); // 400 seconds: neither idle nor dead
        peer.sent();
    }
    assert!(peer.end(1).is_none());
    peer.resume();
    peer.pass(20).unwrap_err();
}

#[test]
fn pings_go_out_while_the_reader_pauses() {
    let mut peer = Peer::new();
    peer.pause(1);
    for turn in 0..20 {
        peer.pass(20).unwrap();
        assert_eq!(peer.sent(), [(FIRST_PING_ID - turn, "GET /ping".into())]);
    }
    // Their answers come late, all at once.
    peer.resume();
    peer.wait(1);
    for turn in 0..20 {
        peer.answer(FIRST_PING_ID - turn, 200, "PONG").unwrap();
    }
    assert_eq!(peer.counts.pings_answered, 20);
    assert_eq!(peer.counts.round_trip, None, "they measure the pause");
    peer.pass(19).unwrap();
    peer.sent();
    peer.wait(1);
    peer.answer(FIRST_PING_ID - 20, 200, "PONG").unwrap();
    assert_eq!(peer.counts.round_trip, Some(Duration::from_secs(1)));
}

#[test]
fn one_ping_waits_for_a_blocked_socket() {
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
fn answer_settles_older_pings() {
    let mut peer = Peer::new();
    peer.pass(20).unwrap();
    peer.sent();
    peer.wait(15);
    peer.received(1);
    peer.pass(5).unwrap();
    peer.sent();
    peer.answer(FIRST_PING_ID - 1, 200, "PONG").unwrap(); // the first one's never comes
    assert!(!peer.core.keepalive.has_open());
    peer.pass(20).unwrap();
    peer.sent();
    peer.pass(20).unwrap_err();
}

#[test]
fn dead_peer_is_noticed_a_limit_after_the_pause() {
    let mut peer = Peer::new();
    peer.pause(1);
    peer.core.probe(peer.now);
    for _ in 0..3 {
        peer.pass(20).unwrap();
        peer.sent();
    }
    peer.wait(7);
    peer.resume();
    let probe = peer.pass(5).unwrap_err();
    assert!(probe.message().contains("network changed"), "{probe}");
    peer.core.probe = None;
    peer.pass(8).unwrap(); // a ping is due
    peer.sent();
    let dead = peer.pass(7).unwrap_err();
    let unanswered = "did not answer a keepalive ping";
    assert!(dead.message().contains(unanswered), "{dead}");
}

#[test]
fn failed_source_leaves_the_socket_read() {
    let mut peer = Peer::new();
    peer.full.insert(1);
    peer.slow_upload(1);
    assert!(!peer.core.reading());
    peer.supply(1, Err(Error::new(Status::File, "gone")));
    assert_eq!(peer.failure(1).0, Status::File);
    assert!(peer.core.reading());
    peer.open(2);
    assert!(peer.core.reading());
}

#[test]
fn failed_full_stream_leaves_the_socket_read() {
    let mut peer = Peer::new();
    peer.full.insert(1);
    peer.open_with(1, Bytes::from(vec![b' '; 3 << 16]));
    peer.frame();
    assert!(!peer.core.reading());
    let slow = Error::new(Status::SlowConsumer, "too slow");
    peer.core.fail_request(1, slow, peer.now);
    peer.settle();
    assert_eq!(peer.failure(1), (Status::SlowConsumer, Progress::MaybeSent));
    assert!(peer.core.reading());
    peer.pass(20).unwrap();
    peer.sent();
    assert_eq!(peer.pass(20).unwrap_err().status(), Status::DeadPeer);
}

#[test]
fn part_of_a_message_answers_a_probe() {
    let mut peer = Peer::new();
    peer.core.probe(peer.now);
    peer.sent();
    assert_eq!(peer.deadline() - peer.now, Duration::from_secs(5));
    peer.open(1);
    let mut fragments = Fragments::new(7, Bytes::from(vec![0; 3 << 16]));
    let mut frame = BytesMut::new();
    assert!(fragments.next_into(&mut frame));
    peer.receive(&frame).unwrap();
    peer.wait(6);
    peer.received(1);
    peer.tick().unwrap();
}

#[test]
fn unanswered_probe_ends_the_connection() {
    let mut peer = Peer::new();
    peer.core.probe(peer.now);
    peer.sent();
    assert_eq!(peer.pass(5).unwrap_err().status(), Status::DeadPeer);
}

#[test]
fn document_leaves_in_chunks_with_pings_between() {
    let mut peer = Peer::new();
    peer.upload(1, 4, MAX_CHUNK);
    assert_eq!(peer.seen[&1].wanted, MAX_AHEAD, "no more than waits");
    assert_eq!(peer.frame(), Some(None)); // some of the first chunk
    peer.core.probe(peer.now);
    let ping = (FIRST_PING_ID, "GET /ping".to_owned());
    assert_eq!(peer.frame(), Some(Some(ping)));
    assert_eq!(peer.sent_ids(), [1; 4]);
    let seen = &peer.seen[&1];
    assert_eq!((seen.wanted, seen.data), (4, 4 * MAX_CHUNK));
    assert_eq!(peer.counts.messages_sent, 5);
}

#[test]
fn given_up_upload_ends_with_an_empty_final_chunk() {
    let end = |id| (id, "[1: 0 final]".to_owned());
    for given_up in 0..4 {
        let mut peer = Peer::new();
        peer.upload(1, 9, MAX_CHUNK);
        peer.frame(); // some of chunk 0; chunk 1 waits
        match given_up {
            0 => peer.cancel(1),
            1 => peer.answer(1, 415, "no such type").unwrap(),
            2 => peer.answer(1, 200, "last").unwrap(),
            _ => {
                peer.wait(600);
                peer.received(1);
                peer.tick().unwrap();
            }
        }
        assert!(peer.end(1).is_some());
        assert!(peer.core.has_outgoing(), "the driver has to write");
        let mut sent = peer.sent();
        sent.retain(|(id, _)| *id == 1);
        assert_eq!(sent, [(1, format!("POST /x[0: {MAX_CHUNK}]")), end(1)]);
    }
}

#[test]
fn unsent_or_whole_upload_needs_no_final_chunk() {
    let mut peer = Peer::new();
    for id in 1..=20 {
        peer.upload(id, 3, 5);
        peer.cancel(id);
        assert!(peer.sent().is_empty());
    }
    peer.upload(21, 1, 5);
    assert_eq!(peer.sent(), [(21, "POST /x[0: 5 final]".into())]);
    peer.cancel(21);
    assert!(peer.sent().is_empty());
    // The only chunk is in the middle of leaving.
    peer.upload(22, 1, MAX_CHUNK);
    peer.frame();
    peer.cancel(22);
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
fn eleventh_upload_waits_for_a_place_in_order() {
    let mut peer = Peer::new();
    for id in 1..=14 {
        peer.upload(id, 1, 5);
    }
    assert_eq!(peer.sent_ids(), Vec::from_iter(1..=10));
    peer.cancel(12); // it waits no more
    peer.answer(3, 200, "last").unwrap();
    assert!(peer.core.has_outgoing(), "the driver has to write");
    assert_eq!(peer.sent_ids(), [11]);
    peer.cancel(5); // its final chunk is written
    peer.answer(6, 500, "why").unwrap();
    assert_eq!(peer.sent_ids(), [13, 14]);
}

#[test]
fn place_is_free_when_the_final_chunk_is_written() {
    let mut peer = Peer::new();
    for id in 1..=10 {
        peer.upload(id, 3, 5);
    }
    peer.upload(11, 1, 5);
    peer.frame();
    peer.cancel(1);
    let mut sent = Vec::new();
    while peer.seen[&11].wanted == 0 {
        sent.extend(peer.frame().expect("it gets a place"));
    }
    assert!(sent.contains(&(1, "[1: 0 final]".into())), "{sent:?}");
    assert_eq!(peer.sent_ids().last(), Some(&11));
}

#[test]
fn place_is_taken_until_the_request_ends() {
    let mut peer = Peer::new();
    for id in 1..=11 {
        peer.upload(id, 1, 5);
    }
    peer.sent(); // every final chunk
    peer.answer(1, 200, "piece").unwrap();
    assert_eq!(peer.seen[&11].wanted, 0, "all ten are being answered");
    peer.answer(1, 200, "last").unwrap();
    assert_eq!(peer.sent_ids(), [11]);
}

#[test]
fn upload_without_a_place_ends_at_its_idle_limit() {
    let mut peer = Peer::new();
    for id in 1..=10 {
        peer.upload(id, 1, 5);
    }
    peer.upload(11, 1, 5);
    peer.upload(12, 1, 5);
    peer.live(300);
    for id in 1..=10 {
        peer.answer(id, 200, "piece").unwrap();
    }
    peer.live(299);
    assert!(peer.end(11).is_none());
    peer.live(1);
    assert_eq!(peer.failure(11), (Status::StreamIdle, Progress::NotSent));
    let error = peer.error(11);
    assert!(error.message().contains("10 places"), "{error}");
    assert_eq!(peer.failure(12).0, Status::StreamIdle);
    peer.answer(1, 200, "last").unwrap();
    assert!(peer.sent().is_empty(), "none waits");
}

#[test]
fn upload_is_not_silent_while_its_source_is() {
    let mut peer = Peer::new();
    peer.slow_upload(1);
    peer.live(5_000);
    assert!(peer.end(1).is_none());
    let bytes = Bytes::from_static(b"x");
    peer.supply(1, Ok(Data { bytes, last: true }));
    assert_eq!(peer.sent(), [(1, "POST /x[0: 1 final]".into())]);
    peer.live(599);
    assert!(peer.end(1).is_none());
    peer.live(1);
    assert_eq!(peer.failure(1), (Status::StreamIdle, Progress::MaybeSent));
}

#[test]
fn second_request_resumes_the_reading() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.full.insert(1);
    peer.sent();
    peer.answer(1, 200, "piece").unwrap();
    assert!(!peer.core.reading());
    peer.open(2);
    assert!(peer.core.reading(), "two are open");
    peer.cancel(2);
    assert!(!peer.core.reading(), "the full one is alone again");
}

#[test]
fn status_other_than_200_ends_the_request() {
    for (code, status) in [
        (401, Status::Unauthorized),
        (402, Status::PaymentRequired),
        (503, Status::Refused),
        (201, Status::Refused),
    ] {
        let mut peer = Peer::new();
        peer.open(1);
        peer.sent();
        peer.answer(1, code, "why").unwrap();
        assert_eq!(peer.failure(1), (status, Progress::PartlyAnswered));
        let error = peer.error(1);
        assert_eq!(
            (error.http_status(), error.peer_text()),
            (Some(code as u16), Some("why"))
        );
        assert!(
            !error.to_string().contains("why"),
            "the peer's text is no part of the message"
        );
        peer.answer(1, 200, "more").unwrap(); // ignored
    }
}

#[test]
fn request_cancelled_before_it_is_sent_never_leaves() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.open(2);
    peer.cancel(1);
    assert_eq!(peer.failure(1), (Status::Cancelled, Progress::NotSent));
    assert_eq!(peer.sent(), [(2, "POST /x".into())]);
    peer.cancel(2);
    assert_eq!(peer.failure(2), (Status::Cancelled, Progress::MaybeSent));
}

#[test]
fn broken_connection_reports_each_requests_progress() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.open(2);
    peer.sent();
    peer.answer(1, 200, "piece").unwrap();
    peer.open(3);
    peer.fail(Status::ConnectionLost);
    for (id, progress) in [
        (1, Progress::PartlyAnswered),
        (2, Progress::MaybeSent),
        (3, Progress::NotSent),
    ] {
        assert_eq!(peer.failure(id), (Status::ConnectionLost, progress));
    }
}

#[test]
fn closed_connection_sends_nothing_and_takes_nothing() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.upload(2, 9, MAX_CHUNK);
    peer.frame();
    peer.frame(); // a part of the first chunk
    peer.fail(Status::Closed);
    peer.open(3);
    assert_eq!(peer.failure(3), (Status::Closed, Progress::NotSent));
    peer.core.probe(peer.now);
    peer.wait(1_000);
    peer.tick().unwrap();
    peer.fail(Status::DeadPeer); // the first end counts
    assert_eq!(peer.failure(2).0, Status::Closed);
    assert!(peer.sent().is_empty());
    assert_eq!(peer.core.poll_timeout(), None);
}

#[test]
fn retired_connection_ends_with_its_last_request() {
    let mut peer = Peer::new();
    peer.open(1);
    peer.sent();
    assert!(!peer.core.retired());
    peer.core.retire();
    assert!(!peer.core.retired());
    peer.answer(1, 200, "last").unwrap();
    assert!(peer.core.retired());
}
