//! Checks arbitrary sequences of inputs. After each input a model of the requests is compared with
//! the events, and with the messages that the enclave's side of the channel decrypts.
//!
//! No input ends the connection while its peer is heard, so every sequence runs to its end. Then an
//! [`Ending`] follows. Nothing is sent before the enclave is verified, because a core begins with
//! the channel of a verified one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::noise::testing::pair;
use crate::wire::Fragments;
use crate::wire::testing::{read_parts, write_response};

/// One thing that happens, while the peer is heard. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Input {
    Open {
        body: usize,
        pace: Pace,
        uploads: bool,
    },
    Supply {
        at: usize,
        len: usize,
        last: bool,
    },
    FailSource(usize),
    Cancel(usize),
    Transmit(usize),
    /// A response. Its id is unknown without a request.
    Respond {
        at: usize,
        status: i32,
        /// The answer is whole, or broken.
        ends: Option<bool>,
    },
    /// The enclave answers every ping that it has.
    Pong,
    Pause,
    Resume,
    /// Time passes. The socket sends, receives, both or neither.
    Pass {
        seconds: u64,
        sends: bool,
        receives: bool,
    },
    PassUntilDue,
    Probe,
    Retire,
}

/// One thing that ends the connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Lost,
    /// A message that does not authenticate.
    Garbage,
    /// Nothing arrives any more.
    Silence,
}

/// A response with this id belongs to no request.
const UNKNOWN: i64 = i64::MAX;

fn input() -> impl Strategy<Value = Input> {
    let at = 0..64usize;
    let len = prop_oneof![8 => 0..200usize, 1 => 60_000..70_000usize, 1 => 190_000..200_000usize];
    let pace = prop_oneof![Just(Pace::Events), Just(Pace::Pieces)];
    let status = prop_oneof![5 => Just(200), 1 => Just(402), 1 => Just(500)];
    let ends = proptest::option::weighted(0.3, any::<bool>());
    prop_oneof![
        12 => (len.clone(), pace, any::<bool>())
            .prop_map(|(body, pace, uploads)| Input::Open { body, pace, uploads }),
        12 => (at.clone(), len, any::<bool>())
            .prop_map(|(at, len, last)| Input::Supply { at, len, last }),
        2 => at.clone().prop_map(Input::FailSource),
        6 => at.clone().prop_map(Input::Cancel),
        16 => (1..9usize).prop_map(Input::Transmit),
        12 => (at, status, ends)
            .prop_map(|(at, status, ends)| Input::Respond { at, status, ends }),
        4 => Just(Input::Pong),
        4 => Just(Input::Pause),
        3 => Just(Input::Resume),
        6 => (prop_oneof![0..5u64, 0..250u64], any::<bool>(), any::<bool>())
            .prop_map(|(seconds, sends, receives)| Input::Pass { seconds, sends, receives }),
        4 => Just(Input::PassUntilDue),
        1 => Just(Input::Probe),
        1 => Just(Input::Retire),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        Just(Ending::Lost),
        Just(Ending::Garbage),
        Just(Ending::Silence),
    ]
}

/// The model of one request.
#[derive(Default)]
struct Model {
    body: Bytes,
    uploads: bool,
    /// A chunk is wanted and was not supplied.
    wanted: bool,
    /// The supplied data.
    supplied: Vec<u8>,
    supplied_last: bool,
    /// Bytes of the document in events.
    reported: usize,
    frames: usize,
    /// An event said that its body has left.
    left: bool,
    /// A response for it arrived.
    answered: bool,
    end: Option<Result<()>>,
    /// The messages that the enclave received.
    opened: bool,
    data: Vec<u8>,
    next_seq: u32,
    complete: bool,
}

impl Model {
    /// Returns what an error must say about it: whether it may be sent again depends on this.
    fn progress(&self) -> Progress {
        match self.frames {
            _ if self.answered => Progress::PartlyAnswered,
            0 => Progress::NotSent,
            _ => Progress::MaybeSent,
        }
    }

    fn ended_unsent(&self) -> bool {
        let unsent = |error: &Error| error.progress() == Progress::NotSent;
        matches!(&self.end, Some(Err(error)) if unsent(error))
    }
}

struct Sim {
    core: Core,
    transport: snow::TransportState,
    reassembler: Reassembler,
    now: Instant,
    requests: BTreeMap<i64, Model>,
    pings: Vec<i64>,
    /// The id of the last ping that the enclave received, or 0.
    last_ping: i64,
    /// When the peer was last heard, or the socket was not read.
    heard: Instant,
    retires: bool,
    /// The error that ended the connection.
    closed: Option<Status>,
    sent: u64,
    counts: u64,
}

impl Sim {
    fn new() -> Sim {
        let (channel, transport) = pair();
        let now = Instant::now();
        Sim {
            core: Core::new(channel, Limits::default(), 1, now),
            transport,
            reassembler: Reassembler::default(),
            now,
            requests: BTreeMap::new(),
            pings: Vec::new(),
            last_ping: 0,
            heard: now,
            retires: false,
            closed: None,
            sent: 0,
            counts: 0,
        }
    }

    fn pick(&self, at: usize, wanted: impl Fn(&Model) -> bool) -> Option<i64> {
        let ids = self.requests.iter().filter(|(_, model)| wanted(model));
        let ids: Vec<i64> = ids.map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| ids[at % ids.len()])
    }

    fn open_requests(&self) -> usize {
        let each = self.requests.values();
        each.filter(|model| model.end.is_none()).count()
    }

    fn feed(&mut self, input: Input) {
        match input {
            Input::Open {
                body,
                pace,
                uploads,
            } => self.open(body, pace, uploads),
            Input::Supply { at, len, last } => {
                if let Some(id) = self.pick(at, |model| model.wanted) {
                    let model = self.requests.get_mut(&id).unwrap();
                    let bytes = vec![id as u8 ^ len as u8; len];
                    model.wanted = false;
                    model.supplied.extend(&bytes);
                    model.supplied_last = last;
                    let bytes = bytes.into();
                    self.core.supply(id, Ok(Data { bytes, last }), self.now);
                }
            }
            Input::FailSource(at) => {
                if let Some(id) = self.pick(at, |model| model.uploads) {
                    let error = Error::new(Status::File, "gone");
                    self.core.supply(id, Err(error), self.now);
                }
            }
            Input::Cancel(at) => {
                if let Some(id) = self.pick(at, |_| true) {
                    self.core.cancel(id, self.now);
                }
            }
            Input::Transmit(frames) => {
                for _ in 0..frames {
                    self.transmit();
                }
            }
            Input::Respond { at, status, ends } => {
                let id = self.pick(at, |_| true).unwrap_or(UNKNOWN);
                self.respond(id, status);
                match ends {
                    Some(true) => self.core.complete(id, self.now),
                    Some(false) => {
                        let error = Error::new(Status::Protocol, "no such answer");
                        self.core.fail_request(id, error, self.now);
                    }
                    None => {}
                }
            }
            Input::Pong => {
                for id in std::mem::take(&mut self.pings) {
                    self.respond(id, 200);
                }
            }
            Input::Pause => {
                assert_eq!(
                    self.core.sole().is_some(),
                    self.open_requests() == 1 && self.core.reading()
                );
                self.core.pause();
            }
            Input::Resume => self.core.resume(self.now),
            Input::Pass {
                seconds,
                sends,
                receives,
            } => {
                self.pass(Duration::from_secs(seconds), sends, receives);
            }
            Input::PassUntilDue => {
                if let Some(due) = self.core.poll_timeout() {
                    self.pass(due.saturating_duration_since(self.now), false, false);
                }
            }
            Input::Probe => self.core.probe(self.now),
            Input::Retire => {
                self.core.retire();
                self.retires = true;
            }
        }
        self.settle();
    }

    fn open(&mut self, body: usize, pace: Pace, uploads: bool) {
        let id = self.requests.len() as i64 + 1;
        let model = Model {
            body: vec![id as u8; body].into(),
            uploads,
            ..Model::default()
        };
        let message = wire::Request {
            id,
            verb: "POST".into(),
            path: "/x".into(),
            body: model.body.clone(),
            chunk: None,
        };
        self.requests.insert(id, model);
        let opening = Opening {
            message,
            pace,
            uploads,
        };
        self.core.open(opening, self.now);
    }

    fn transmit(&mut self) {
        let before = self.core.has_outgoing();
        let message = self.core.poll_transmit(self.now).unwrap();
        assert_eq!(message.is_some(), before);
        let Some(message) = message else {
            return;
        };
        assert_eq!(self.closed, None, "nothing is sent after the end");
        self.core.moved(self.now, 1, 0, true);
        let mut frame = vec![0; message.len()];
        let len = self.transport.read_message(&message, &mut frame).unwrap();
        frame.truncate(len);
        if let Some(message) = self.reassembler.push(frame.into()).unwrap() {
            self.sent += 1;
            self.arrived(message);
        }
    }

    /// Takes a whole message at the enclave: the next one of its request, and none came twice.
    fn arrived(&mut self, message: Bytes) {
        let parts = read_parts(message);
        if parts.id < 0 {
            assert!(parts.id < self.last_ping, "no ping twice");
            self.last_ping = parts.id;
            return self.pings.push(parts.id);
        }
        let model = self.requests.get_mut(&parts.id).expect("a known request");
        assert_eq!(parts.opens, !model.opened, "it opens once, and first");
        assert!(!model.complete, "nothing follows the end of a message");
        assert!(!model.ended_unsent(), "it may be on another connection");
        if parts.opens {
            assert_eq!(parts.body, model.body);
            model.opened = true;
        }
        match parts.chunk {
            None => model.complete = true,
            Some((seq, data, last)) => {
                assert_eq!(seq, model.next_seq, "no gap, none twice");
                model.next_seq += 1;
                model.data.extend(&data);
                model.complete = last;
                assert!(model.supplied.starts_with(&model.data));
                if last && model.end.is_none() {
                    assert!(model.supplied_last && model.supplied == model.data);
                }
            }
        }
    }

    fn respond(&mut self, id: i64, status: i32) {
        if let Some(model) = self.requests.get_mut(&id) {
            model.answered |= model.end.is_none();
        }
        let mut fragments = Fragments::new(id, write_response(id, status, "piece"));
        let mut frame = BytesMut::new();
        while fragments.next_into(&mut frame) {
            let mut message = vec![0; frame.len() + 16];
            let len = self.transport.write_message(&frame, &mut message).unwrap();
            self.core.moved(self.now, 0, 1, true);
            self.core.receive(&message[..len], self.now).unwrap();
        }
        self.heard = self.now;
    }

    /// Time passes. While the socket is read, the peer is heard before its shortest limit.
    fn pass(&mut self, time: Duration, sends: bool, receives: bool) {
        self.now += time;
        self.core.moved(self.now, u64::from(sends), 0, true);
        if !self.core.reading() {
            self.heard = self.now;
        } else if receives || self.now - self.heard >= Limits::default().probe {
            self.respond(UNKNOWN, 200);
        }
        let ticked = self.core.tick(self.now);
        ticked.expect("a peer that is heard is not dead");
        let due = self.core.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "time goes on");
    }

    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Lost => self.fail(&Error::new(Status::ConnectionLost, "gone")),
            Ending::Garbage => match self.core.receive(&[7; 40], self.now) {
                Err(error) if self.closed.is_none() => self.fail(&error),
                result => assert!(self.closed.is_some() && result.is_ok()),
            },
            Ending::Silence => self.fall_silent(),
        }
        self.settle();
    }

    /// Nothing arrives any more. The peer counts as dead at the limit of the next ping.
    fn fall_silent(&mut self) {
        self.core.resume(self.now);
        let limits = Limits::default();
        let end = self.now + limits.keepalive + limits.dead_after;
        while let Some(due) = self.core.poll_timeout() {
            assert!(self.now < due && due <= end, "a dead peer is noticed");
            self.now = due;
            if let Err(error) = self.core.tick(self.now) {
                assert_eq!(error.status(), Status::DeadPeer);
                self.fail(&error);
            }
            self.settle();
        }
    }

    fn fail(&mut self, error: &Error) {
        self.core.fail(error, self.now);
        self.closed.get_or_insert(error.status()); // the first end counts
    }

    fn settle(&mut self) {
        while let Some(event) = self.core.poll_event() {
            let (Event::Sent { id, .. }
            | Event::Piece { id, .. }
            | Event::WantsData { id }
            | Event::Ended { id, .. }) = &event;
            let model = self.requests.get_mut(id).expect("a known request");
            assert!(model.end.is_none(), "an event after the end: {id}");
            let ends = matches!(event, Event::Ended { .. });
            assert!(ends || self.closed.is_none(), "no work after the close");
            match event {
                Event::Sent { left, .. } => {
                    model.frames += 1;
                    model.reported += left.data;
                    assert!(!(left.body && model.left), "a body leaves once");
                    model.left |= left.body;
                    assert!(model.reported <= model.supplied.len());
                }
                Event::Piece { piece, .. } => assert_eq!(piece.body, "piece"),
                Event::WantsData { .. } => {
                    assert!(model.uploads && !model.wanted && !model.supplied_last);
                    model.wanted = true;
                }
                Event::Ended { result, .. } => {
                    if let Err(error) = &result {
                        assert_eq!(error.progress(), model.progress());
                        assert!(self.closed.is_none_or(|status| error.status() == status));
                    }
                    assert!(result.is_err() || self.closed.is_none());
                    model.wanted = false;
                    model.end = Some(result);
                }
            }
        }
        for model in self.requests.values().filter(|model| model.end.is_none()) {
            assert_eq!(model.left, model.opened);
        }
        let counts = self.core.take_counts();
        self.counts += counts.messages_sent;
        assert_eq!(self.counts, self.sent);
        assert!(self.core.reading() || self.open_requests() == 1);
        let uploading = |model: &&Model| model.uploads && model.opened && model.end.is_none();
        let uploading = self.requests.values().filter(uploading).count();
        assert!(uploading <= MAX_UPLOADS);
        let (open, closed) = (self.open_requests(), self.closed.is_some());
        assert_eq!(self.core.retired(), self.retires && !closed && open == 0);
        assert_eq!(self.core.poll_timeout().is_none(), closed);
        if closed {
            assert!(!self.core.has_outgoing());
            assert_eq!(open, 0, "every request has ended");
        }
    }

    /// Sends everything in the queue.
    fn drain(&mut self) {
        while self.core.has_outgoing() {
            self.transmit();
            self.settle();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_request_ends_once_and_is_sent_once(
        inputs in prop::collection::vec(input(), 0..100),
        ending in ending(),
        later in prop::collection::vec(input(), 0..20),
        again in ending(),
    ) {
        let mut sim = Sim::new();
        for input in inputs {
            sim.feed(input);
        }
        sim.end(ending);
        // A closed connection does nothing, whatever happens.
        for input in later {
            sim.feed(input);
        }
        sim.end(again);
        sim.feed(Input::Open { body: 1, pace: Pace::Events, uploads: false });
        for (id, model) in &sim.requests {
            prop_assert!(model.end.is_some(), "{} has no end", id);
        }
    }

    #[test]
    fn upload_that_began_ends_with_a_final_chunk(
        inputs in prop::collection::vec(input(), 0..100),
    ) {
        let mut sim = Sim::new();
        for input in inputs {
            sim.feed(input);
        }
        while let Some(id) = sim.pick(0, |model| model.end.is_none()) {
            sim.core.cancel(id, sim.now);
            sim.settle();
        }
        sim.drain();
        for (id, model) in &sim.requests {
            // Every message that began to leave has left whole.
            prop_assert_eq!(model.frames > 0, model.complete, "{}", id);
            prop_assert_eq!(model.opened, model.complete, "{}", id);
        }
        // No place was lost: as many uploads as there are places can start.
        for _ in 0..MAX_UPLOADS {
            sim.feed(Input::Open { body: 1, pace: Pace::Pieces, uploads: true });
        }
        let wanting = sim.requests.values().filter(|model| model.wanted).count();
        prop_assert_eq!(wanting, MAX_UPLOADS);
    }
}
