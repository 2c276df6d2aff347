//! The open requests of a connection: gives each what the core reports for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::core::{Core, Event, Opening, Piece};
use super::receiver::{Flow, Receiver};
use super::request::Request;
use super::stats::Stats;
use super::upload::{Source, Way};
use crate::error::{Error, Progress, Result};
use crate::wire;

/// A request that the handle opened, on its way to the core.
pub(super) struct Opened {
    pub(super) id: i64,
    pub(super) request: Request,
    pub(super) receiver: Box<dyn Receiver>,
    /// Brings later parts of its document; None without one.
    pub(super) way: Option<Way>,
}

/// The sinks of all open requests, by id.
pub(super) struct Sinks {
    open: HashMap<i64, Sink>,
    /// Sinks with something to hand over.
    touched: Vec<i64>,
    /// Empty vectors for the pieces of later reads.
    spare: Vec<Vec<Piece>>,
    stats: Arc<Stats>,
}

/// The receiver of one request, and its upload.
struct Sink {
    receiver: Box<dyn Receiver>,
    source: Option<(Box<dyn Source>, Way)>,
    /// Pieces from the current read.
    pieces: Vec<Piece>,
    /// It is in [`Sinks::touched`].
    touched: bool,
}

impl Sinks {
    pub(super) fn new(stats: Arc<Stats>) -> Sinks {
        Sinks {
            open: HashMap::new(),
            touched: Vec::new(),
            spare: Vec::new(),
            stats,
        }
    }

    /// Opens a request.
    pub(super) fn open(&mut self, core: &mut Core, opened: Opened, now: Instant) {
        let Opened {
            id,
            request,
            receiver,
            way,
        } = opened;
        let source = request.upload.zip(way);
        let opening = Opening {
            message: wire::Request {
                id,
                verb: request.verb,
                path: request.path,
                body: request.body,
                chunk: None,
            },
            pace: request.pace,
            uploads: source.is_some(),
        };
        let sink = Sink {
            receiver,
            source,
            pieces: Vec::new(),
            touched: false,
        };
        self.open.insert(id, sink);
        core.open(opening, now);
    }

    /// Handles the core's events. Pieces wait for [`Sinks::deliver`], or for the end of their
    /// request.
    pub(super) fn route(&mut self, core: &mut Core, now: Instant) {
        while let Some(event) = core.poll_event() {
            match event {
                Event::Sent { id, left } => {
                    if let Some(sink) = self.open.get_mut(&id)
                        && sink.receiver.sent(left, now)
                    {
                        sink.touch(id, &mut self.touched);
                    }
                }
                Event::Piece { id, piece } => {
                    if let Some(sink) = self.open.get_mut(&id) {
                        if sink.pieces.capacity() == 0 {
                            sink.pieces = self.spare.pop().unwrap_or_default();
                        }
                        sink.pieces.push(piece);
                        sink.touch(id, &mut self.touched);
                    }
                }
                Event::WantsData { id } => {
                    if let Some(sink) = self.open.get_mut(&id)
                        && let Some((source, way)) = &mut sink.source
                        && let Some(data) = source.next(way.supply())
                    {
                        core.supply(id, data, now);
                    }
                }
                Event::Ended { id, result } => self.end(core, id, result),
            }
        }
    }

    /// Gives each receiver the pieces of one read of the socket, as one batch.
    pub(super) fn deliver(&mut self, core: &mut Core, now: Instant) {
        self.account(core);
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            let Some(sink) = self.open.get_mut(&id) else {
                continue; // it ended, and had everything before
            };
            sink.touched = false;
            let (flow, flushed) = sink.hand_over(&mut self.spare);
            match (flow, flushed) {
                (Flow::Broken(error), _) | (_, Err(error)) => core.fail_request(id, error, now),
                (Flow::Done, Ok(())) => core.complete(id, now),
                (Flow::More, Ok(())) => {}
            }
        }
        self.touched = touched;
        self.route(core, now);
        if let Some(id) = core.sole()
            && self
                .open
                .get(&id)
                .is_some_and(|it| it.receiver.pause_if_full())
        {
            core.pause();
        }
    }

    fn end(&mut self, core: &mut Core, id: i64, result: Result<()>) {
        let Some(mut sink) = self.open.remove(&id) else {
            return;
        };
        self.account(core); // first: the receiver of the end may read the counters
        // Pieces that came before the end count before it: they may have completed the answer.
        let (flow, flushed) = sink.hand_over(&mut self.spare);
        if self.open.is_empty() {
            self.spare = Vec::new(); // an idle connection keeps no buffer
        }
        let answered = |error: Error| error.with_progress(Progress::PartlyAnswered);
        let result = match flow {
            Flow::More => result,
            Flow::Done => Ok(()),
            Flow::Broken(error) => Err(answered(error)),
        };
        let Sink {
            receiver, source, ..
        } = sink;
        drop(source);
        receiver.end(result.and(flushed.map_err(answered)));
    }

    fn account(&self, core: &mut Core) {
        self.stats.add(&core.take_counts());
    }
}

impl Sink {
    fn touch(&mut self, id: i64, touched: &mut Vec<i64>) {
        if !std::mem::replace(&mut self.touched, true) {
            touched.push(id);
        }
    }

    /// Gives the receiver its pieces, and lets it deliver their events.
    fn hand_over(&mut self, spare: &mut Vec<Vec<Piece>>) -> (Flow, Result<()>) {
        let mut flow = Flow::More;
        if !self.pieces.is_empty() {
            flow = self.receiver.pieces(&mut self.pieces);
            self.pieces.clear();
            spare.push(std::mem::take(&mut self.pieces));
        }
        (flow, self.receiver.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::error::Status;
    use crate::noise::testing::pair;
    use crate::session::limits::{Limits, Pace};
    use crate::session::upload::{Again, Supply};
    use crate::session::{Data, Left, MAX_CHUNK};
    use crate::wire::Fragments;
    use crate::wire::testing::write_response;

    /// A receiver's calls: batches of pieces, and the end.
    #[derive(Default)]
    struct Seen {
        batches: Vec<Vec<Bytes>>,
        data: usize,
        bodies: usize,
        flushes: usize,
        /// The next flush fails.
        slow: bool,
        full: bool,
        end: Option<Result<()>>,
    }

    struct Recorder(Arc<Mutex<Seen>>);

    impl Receiver for Recorder {
        fn sent(&mut self, left: Left, _: Instant) -> bool {
            let mut seen = self.0.lock().unwrap();
            seen.data += left.data;
            seen.bodies += usize::from(left.body);
            left.data > 0
        }
        fn pieces(&mut self, pieces: &mut Vec<Piece>) -> Flow {
            let bodies: Vec<Bytes> = pieces.drain(..).map(|piece| piece.body).collect();
            let flow = match bodies.iter().find(|body| *body != "piece") {
                None => Flow::More,
                Some(last) if last == "last" => Flow::Done,
                Some(_) => Flow::Broken(Error::new(Status::Protocol, "no such answer")),
            };
            self.0.lock().unwrap().batches.push(bodies);
            flow
        }
        fn flush(&mut self) -> Result<()> {
            let mut seen = self.0.lock().unwrap();
            seen.flushes += 1;
            match seen.slow {
                true => Err(Error::new(Status::SlowConsumer, "too slow")),
                false => Ok(()),
            }
        }
        fn pause_if_full(&self) -> bool {
            self.0.lock().unwrap().full
        }
        fn end(self: Box<Self>, result: Result<()>) {
            let before = self.0.lock().unwrap().end.replace(result);
            assert!(before.is_none(), "a request ends once");
        }
    }

    /// A document of zeros that is there at once.
    struct Zeros(usize);

    impl Source for Zeros {
        fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
            supply.not_needed();
            let bytes = vec![0; self.0.min(MAX_CHUNK)];
            self.0 -= bytes.len();
            let (bytes, last) = (bytes.into(), self.0 == 0);
            Some(Ok(Data { bytes, last }))
        }
        fn again(&self) -> Option<Again> {
            None
        }
    }

    /// The sinks, the core, and the enclave's side of its channel.
    struct Rig {
        sinks: Sinks,
        core: Core,
        transport: snow::TransportState,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            let (channel, transport) = pair();
            let now = Instant::now();
            Rig {
                sinks: Sinks::new(Arc::default()),
                core: Core::new(channel, Limits::default(), 1, now),
                transport,
                now,
            }
        }

        fn open(&mut self, id: i64, upload: Option<Box<dyn Source>>) -> Arc<Mutex<Seen>> {
            let way = upload.is_some().then(|| Way::new(|_| ()));
            let request = Request {
                verb: "POST".into(),
                path: "/x".into(),
                body: Bytes::from_static(b"{}"),
                upload,
                pace: Pace::Events,
            };
            let seen = Arc::<Mutex<Seen>>::default();
            let receiver = Box::new(Recorder(seen.clone()));
            let opened = Opened {
                id,
                request,
                receiver,
                way,
            };
            self.sinks.open(&mut self.core, opened, self.now);
            self.sinks.route(&mut self.core, self.now);
            while self.core.poll_transmit(self.now).unwrap().is_some() {
                self.sinks.route(&mut self.core, self.now);
            }
            seen
        }

        /// Receives a response. The read goes on.
        fn respond(&mut self, id: i64, status: i32, body: &'static str) {
            let mut frame = BytesMut::new();
            Fragments::new(id, write_response(id, status, body)).next_into(&mut frame);
            let mut message = vec![0; frame.len() + 16];
            let len = self.transport.write_message(&frame, &mut message).unwrap();
            self.core.receive(&message[..len], self.now).unwrap();
            self.sinks.route(&mut self.core, self.now);
        }

        /// Ends the read.
        fn deliver(&mut self) {
            self.sinks.deliver(&mut self.core, self.now);
        }

        fn lose(&mut self) {
            let lost = Error::new(Status::ConnectionLost, "gone");
            self.core.fail(&lost, self.now);
            self.sinks.route(&mut self.core, self.now);
        }
    }

    fn failure(seen: &Arc<Mutex<Seen>>) -> (Status, Progress) {
        let seen = seen.lock().unwrap();
        let end = seen.end.as_ref().expect("it has ended");
        let error = end.as_ref().expect_err("it failed");
        (error.status(), error.progress())
    }

    #[test]
    fn pieces_of_one_read_come_as_one_batch() {
        let mut rig = Rig::new();
        let (first, second) = (rig.open(1, None), rig.open(2, None));
        for _ in 0..3 {
            rig.respond(1, 200, "piece");
            rig.respond(2, 200, "piece");
        }
        assert!(first.lock().unwrap().batches.is_empty());
        rig.deliver();
        rig.respond(1, 200, "last");
        rig.deliver();
        let lens = |seen: &Arc<Mutex<Seen>>| {
            let seen = seen.lock().unwrap();
            assert_eq!(
                seen.batches.len(),
                seen.flushes - usize::from(seen.end.is_some())
            );
            seen.batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lens(&first), [3, 1]);
        assert_eq!(lens(&second), [3]);
        assert!(matches!(first.lock().unwrap().end, Some(Ok(()))));
        assert!(second.lock().unwrap().end.is_none());
    }

    #[test]
    fn vectors_of_pieces_are_used_again() {
        let mut rig = Rig::new();
        let seen = rig.open(1, None);
        for _ in 0..100 {
            rig.respond(1, 200, "piece");
            rig.deliver();
            assert_eq!(rig.sinks.spare.len(), 1);
        }
        rig.respond(1, 200, "last");
        rig.deliver();
        assert!(seen.lock().unwrap().end.is_some());
        assert_eq!(
            rig.sinks.spare.capacity(),
            0,
            "an idle connection keeps no buffer"
        );
    }

    #[test]
    fn answer_that_was_whole_ends_well_whatever_follows() {
        for broken in [false, true] {
            for refused in [false, true] {
                let mut rig = Rig::new();
                let seen = rig.open(1, None);
                rig.respond(1, 200, "piece");
                rig.respond(1, 200, if broken { "broken" } else { "last" });
                match refused {
                    true => rig.respond(1, 500, "why"),
                    false => rig.lose(),
                }
                rig.deliver();
                match broken {
                    true => {
                        assert_eq!(failure(&seen), (Status::Protocol, Progress::PartlyAnswered))
                    }
                    false => assert!(matches!(seen.lock().unwrap().end, Some(Ok(())))),
                }
            }
        }
    }

    #[test]
    fn pieces_are_delivered_before_the_end() {
        let mut rig = Rig::new();
        let seen = rig.open(1, None);
        rig.respond(1, 200, "piece");
        rig.respond(1, 500, "why");
        assert_eq!(failure(&seen), (Status::Refused, Progress::PartlyAnswered));
        let seen = seen.lock().unwrap();
        assert_eq!((seen.batches.len(), seen.flushes), (1, 1));
    }

    #[test]
    fn slow_reader_ends_its_request_only() {
        for progress_only in [false, true] {
            let mut rig = Rig::new();
            let other = rig.open(2, None);
            let source = Box::new(Zeros(5));
            let slow = rig.open(1, Some(source));
            slow.lock().unwrap().slow = true;
            if !progress_only {
                rig.respond(1, 200, "last");
            }
            rig.deliver();
            let progress = match progress_only {
                true => Progress::MaybeSent,
                false => Progress::PartlyAnswered,
            };
            assert_eq!(failure(&slow), (Status::SlowConsumer, progress));
            assert!(other.lock().unwrap().end.is_none());
        }
    }

    #[test]
    fn full_sole_reader_stops_the_reading() {
        let mut rig = Rig::new();
        let first = rig.open(1, None);
        rig.deliver();
        assert!(rig.core.reading());
        first.lock().unwrap().full = true;
        rig.deliver();
        assert!(!rig.core.reading());
        rig.open(2, None);
        rig.deliver();
        assert!(rig.core.reading());
    }

    #[test]
    fn source_is_asked_until_the_document_has_left() {
        let mut rig = Rig::new();
        let len = 3 * MAX_CHUNK + 5;
        let seen = rig.open(1, Some(Box::new(Zeros(len))));
        let seen = seen.lock().unwrap();
        assert_eq!((seen.data, seen.bodies), (len, 1));
    }

    #[test]
    fn stats_are_settled_before_the_end() {
        let mut rig = Rig::new();
        rig.open(1, None);
        rig.open(2, Some(Box::new(Zeros(5))));
        rig.respond(1, 200, "last");
        rig.deliver();
        rig.lose();
        let stats = &rig.sinks.stats;
        assert_eq!(stats.messages_sent.load(Ordering::Relaxed), 2);
        assert_eq!(stats.messages_received.load(Ordering::Relaxed), 1);
    }
}
