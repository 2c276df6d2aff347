//! How much memory a peer, or a slow reader, can make this side keep. Each bound has a default with its reason, and each
//! can be set.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The bounds of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Unread bytes of a stream from which on the socket is not read, if no other request is open. By default some
    /// seconds of a fast model's tokens.
    pub stream_rest: usize,
    /// Unread bytes above which a stream fails as one that is read too slowly (c-api, "Pull"). What is delivered at once
    /// below it is always taken, so that one large event fails nobody who keeps up.
    pub stream: usize,
    /// Unread bytes of all streams of a client. Above it, streams fail that hold more than their equal share.
    pub client: usize,
    /// Bytes of messages of which not all frames have come (protocol section 3).
    pub unfinished: usize,
    /// Bytes of requests that wait to be sent.
    pub unsent: usize,
    /// Requests that may be open at once.
    pub requests: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            stream_rest: 1 << 20,
            stream: 16 << 20,
            client: 64 << 20,
            unfinished: 64 << 20,
            unsent: 64 << 20,
            requests: 4_096,
        }
    }
}

/// The least and the most that each bound in bytes can be set to: less than a frame moves nothing.
pub const BOUND_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 40);
/// The same for the number of requests.
pub const BOUND_REQUESTS: std::ops::RangeInclusive<u64> = 1..=1_000_000;

/// Counts what waits to be read, of all streams of a client or of the process.
pub struct Meter {
    bytes: AtomicUsize,
    streams: AtomicUsize,
    most: AtomicUsize,
    closed: AtomicBool,
    above: Option<&'static Meter>,
}

/// Of all clients: a quarter of a small machine's memory.
static PROCESS: Meter = Meter {
    bytes: AtomicUsize::new(0),
    streams: AtomicUsize::new(0),
    most: AtomicUsize::new(1 << 30),
    closed: AtomicBool::new(false),
    above: None,
};

/// Sets how many bytes may wait to be read in this process.
pub fn set_process_unread(most: usize) {
    PROCESS.most.store(most, Ordering::Relaxed);
}

impl Meter {
    /// That of a client, whose streams count for the process too.
    pub fn new(most: usize) -> Meter {
        Meter {
            bytes: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            closed: AtomicBool::new(false),
            above: Some(&PROCESS),
        }
    }

    /// The client was closed: its streams drop what waits to be read.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn each(&self) -> impl Iterator<Item = &Meter> {
        std::iter::successors(Some(self), |meter| meter.above)
    }

    pub(super) fn enter(&self) {
        self.each().for_each(|meter| {
            meter.streams.fetch_add(1, Ordering::Relaxed);
        });
    }

    pub(super) fn leave(&self) {
        self.each().for_each(|meter| {
            meter.streams.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// A stream that held `before` bytes holds `now`.
    pub(super) fn change(&self, before: usize, now: usize) {
        self.each().for_each(|meter| {
            if now >= before {
                meter.bytes.fetch_add(now - before, Ordering::Relaxed);
            } else {
                meter.bytes.fetch_sub(before - now, Ordering::Relaxed);
            }
        });
    }

    /// Which bound a stream that holds `own` bytes breaks. Where all together hold too much, it is those with more than
    /// an equal share who do; so one that is read in time never fails for another's sake, and all together hold no more
    /// than twice the bound.
    pub(super) fn broken_by(&self, own: usize) -> Option<usize> {
        self.each().find_map(|meter| {
            let most = meter.most.load(Ordering::Relaxed);
            let streams = meter.streams.load(Ordering::Relaxed).max(1);
            let full = meter.bytes.load(Ordering::Relaxed) > most;
            (full && own > most / streams).then_some(most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_hold_too_much_only_those_with_more_than_their_share_break_the_bound() {
        let meter = Meter {
            above: None,
            ..Meter::new(100)
        };
        (0..4).for_each(|_| meter.enter());
        meter.change(0, 90);
        assert_eq!(meter.broken_by(90), None, "there is room");
        meter.change(0, 20);
        assert_eq!(meter.broken_by(90), Some(100));
        assert_eq!(meter.broken_by(20), None, "it holds less than a quarter");
        meter.change(90, 0);
        assert_eq!(meter.broken_by(90), None);
    }

    #[test]
    fn a_clients_streams_count_for_the_process() {
        let before = PROCESS.bytes.load(Ordering::Relaxed);
        let meter = Meter::new(usize::MAX);
        meter.change(0, 1 << 30);
        assert!(PROCESS.bytes.load(Ordering::Relaxed) >= before.max(1 << 30));
        meter.change(1 << 30, 0);
    }
}
