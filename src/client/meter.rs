//! Counts unread bytes over all streams of a client and of the process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Default limit of the process: a quarter of a small machine's memory.
const PROCESS_UNREAD: usize = 1 << 30;

/// Unread bytes of all streams of a client or of the process.
pub struct Meter {
    bytes: AtomicUsize,
    streams: AtomicUsize,
    most: AtomicUsize,
    closed: AtomicBool,
    above: Option<&'static Meter>,
}

/// The meter of the process.
static PROCESS: Meter = Meter {
    bytes: AtomicUsize::new(0),
    streams: AtomicUsize::new(0),
    most: AtomicUsize::new(PROCESS_UNREAD),
    closed: AtomicBool::new(false),
    above: None,
};

/// Sets the limit of unread bytes in this process.
pub fn set_process_unread(most: usize) {
    PROCESS.most.store(most, Ordering::Relaxed);
}

impl Meter {
    /// Creates the meter of a client. Its streams count for the process too.
    pub fn new(most: usize) -> Meter {
        Meter {
            bytes: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            closed: AtomicBool::new(false),
            above: Some(&PROCESS),
        }
    }

    /// Creates a meter without a bound, which does not count for the process either.
    pub fn unbounded() -> Meter {
        Meter {
            above: None,
            ..Meter::new(usize::MAX)
        }
    }

    /// Closes the client: its streams drop unread entries.
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

    /// Counts the change of a stream from `before` to `now` bytes.
    pub(super) fn change(&self, before: usize, now: usize) {
        self.each().for_each(|meter| {
            if now >= before {
                meter.bytes.fetch_add(now - before, Ordering::Relaxed);
            } else {
                meter.bytes.fetch_sub(before - now, Ordering::Relaxed);
            }
        });
    }

    /// Returns the bound that a stream with `own` bytes breaks. Above a bound, the streams with
    /// more than an equal share break it. So a stream that is read in time never fails because of
    /// another one. All together hold at most twice the bound, and one batch for each stream.
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
    fn only_streams_above_their_share_break_the_bound() {
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
    fn streams_of_a_client_count_for_the_process() {
        let before = PROCESS.bytes.load(Ordering::Relaxed);
        let meter = Meter::new(usize::MAX);
        meter.change(0, 1 << 30);
        assert!(PROCESS.bytes.load(Ordering::Relaxed) >= before.max(1 << 30));
        meter.change(1 << 30, 0);
    }
}
