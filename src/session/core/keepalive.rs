//! Keepalive (protocol section 4): when to ping, and when the peer is dead.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pings have negative ids that count down. The application's requests count up from 1.
pub(super) const FIRST_PING_ID: i64 = -1;

/// Most open pings: those of almost six hours without reading. Answers to older ones are ignored.
const MAX_OPEN_PINGS: usize = 1_024;

pub(super) struct Keepalive {
    interval: Duration,
    dead_after: Duration,
    /// Oldest first.
    open: VecDeque<Ping>,
    next_id: i64,
    next_ping: Instant,
    /// When bytes last moved, without those of pings.
    moved: Instant,
    /// The socket may hold bytes of other messages than pings.
    carries: bool,
}

pub(super) struct Ping {
    id: i64,
    queued: Instant,
    sent: Option<Instant>,
    /// The socket was not read for a time while the ping was open.
    paused: bool,
}

impl Keepalive {
    pub(super) fn new(interval: Duration, dead_after: Duration, now: Instant) -> Keepalive {
        Keepalive {
            interval,
            dead_after,
            open: VecDeque::new(),
            next_id: FIRST_PING_ID,
            next_ping: now + interval,
            moved: now,
            carries: false,
        }
    }

    /// Returns when the next ping is due.
    pub(super) fn next_ping(&self) -> Instant {
        self.next_ping
    }

    /// Whether a ping is due. If so, the next one is due an interval later.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_ping;
        if due {
            self.next_ping = now + self.interval;
        }
        due
    }

    /// Opens a ping and returns its id. Returns None if the last one has not left: the socket takes
    /// nothing, so a second one would only wait behind it.
    pub(super) fn open(&mut self, now: Instant) -> Option<i64> {
        if self.open.back().is_some_and(|last| last.sent.is_none()) {
            return None;
        }
        if self.open.len() == MAX_OPEN_PINGS {
            self.open.pop_front();
        }
        let id = self.next_id;
        self.next_id -= 1;
        self.open.push_back(Ping {
            id,
            queued: now,
            sent: None,
            paused: false,
        });
        Some(id)
    }

    /// Whether a ping waits for its answer.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Notes a frame that left: of the ping with this id, or of another message.
    pub(super) fn sent(&mut self, id: i64, now: Instant) {
        match self.open.iter_mut().rfind(|ping| ping.id == id) {
            Some(ping) => ping.sent = Some(now),
            None => self.carries = true,
        }
    }

    /// Returns the ping that a response answers. Closes the older ones too, because the peer lives.
    pub(super) fn answered(&mut self, id: i64) -> Option<Ping> {
        let answers = |ping: &Ping| ping.id == id && ping.sent.is_some();
        let at = self.open.iter().position(answers)?;
        self.open.drain(..=at).next_back()
    }

    /// Notes bytes that moved. Those of pings do not count: pings that go out at every interval
    /// would keep a dead peer alive.
    pub(super) fn moved(&mut self, now: Instant, received: bool, flushed: bool) {
        if received || self.carries {
            self.moved = now;
        }
        self.carries &= !flushed;
    }

    /// Starts the limit again after reading was paused.
    pub(super) fn resume(&mut self, now: Instant) {
        self.moved = now;
        self.open.iter_mut().for_each(|ping| ping.paused = true);
    }

    /// Returns when the peer counts as dead, unless a byte moves before.
    pub(super) fn dead_at(&self) -> Option<Instant> {
        let oldest = self.open.front()?;
        Some(oldest.queued.max(self.moved) + self.dead_after)
    }
}

impl Ping {
    /// Returns the round-trip time. None if it would measure a pause of the application.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let sent = self.sent.filter(|_| !self.paused)?;
        Some(now.saturating_duration_since(sent))
    }
}
