//! Keepalive (protocol section 4): when to ping, what an answer tells, and when the peer is dead. No I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ids below zero are the library's pings, counting down. The application's requests count up from 1.
pub(super) const FIRST_PING_ID: i64 = -1;

/// Open pings that are remembered: those of almost six hours in which the library does not read. The answers of older
/// ones are ignored.
const MAX_OPEN_PINGS: usize = 1_024;

pub(super) struct Keepalive {
    interval: Duration,
    dead_after: Duration,
    /// Oldest first.
    open: VecDeque<Ping>,
    next_id: i64,
    next_ping: Instant,
    /// When bytes last moved, those of pings left out.
    moved: Instant,
    /// The socket may still hold bytes that are not a ping's.
    carries: bool,
}

pub(super) struct Ping {
    id: i64,
    queued: Instant,
    sent: Option<Instant>,
    /// The library stopped reading while the ping was open.
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

    /// When the next ping is due.
    pub(super) fn next_ping(&self) -> Instant {
        self.next_ping
    }

    /// Whether a ping is due. The next one is due an interval later.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_ping;
        if due {
            self.next_ping = now + self.interval;
        }
        due
    }

    /// Opens a ping and returns its id, never used before. Returns None if the last one has not left: the socket takes
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

    /// The socket takes a message: of the ping with this id, or another.
    pub(super) fn sent(&mut self, id: i64, now: Instant) {
        match self.open.iter_mut().rfind(|ping| ping.id == id) {
            Some(ping) => ping.sent = Some(now),
            None => self.carries = true,
        }
    }

    /// Returns the ping that a response answers. It settles the older ones too: the peer lives.
    pub(super) fn answered(&mut self, id: i64) -> Option<Ping> {
        let answers = |ping: &Ping| ping.id == id && ping.sent.is_some();
        let at = self.open.iter().position(answers)?;
        self.open.drain(..=at).next_back()
    }

    /// Bytes moved. A ping's own do not count: else pings that go out at every interval would keep a dead peer alive.
    pub(super) fn moved(&mut self, now: Instant, received: bool, flushed: bool) {
        if received || self.carries {
            self.moved = now;
        }
        self.carries &= !flushed;
    }

    /// Reading goes on after a pause: the limit starts anew.
    pub(super) fn resume(&mut self, now: Instant) {
        self.moved = now;
        self.open.iter_mut().for_each(|ping| ping.paused = true);
    }

    /// When the peer counts as dead, unless a byte moves before.
    pub(super) fn dead_at(&self) -> Option<Instant> {
        let oldest = self.open.front()?;
        Some(oldest.queued.max(self.moved) + self.dead_after)
    }
}

impl Ping {
    /// The round-trip time. None if it would measure the application's pause.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let sent = self.sent.filter(|_| !self.paused)?;
        Some(now.saturating_duration_since(sent))
    }
}
