//! What a client's connections have done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counted by the connections' tasks, and read by anyone.
#[derive(Default)]
pub struct Stats {
    /// Bytes that sockets took, TLS and WebSocket included.
    pub bytes_sent: AtomicU64,
    /// Bytes that sockets gave.
    pub bytes_received: AtomicU64,
    /// Whole messages that went out: requests, chunks, pings.
    pub messages_sent: AtomicU64,
    /// Whole messages that came in.
    pub messages_received: AtomicU64,
    /// Keepalive pings that went out.
    pub pings_sent: AtomicU64,
    /// Those that were answered.
    pub pings_answered: AtomicU64,
    /// Microseconds that the last of them took; 0 before the first. Those that were open while the library did not read
    /// are left out: they measure the application.
    pub round_trip_us: AtomicU64,
}

impl Stats {
    pub(super) fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// A ping was answered; its round-trip time, if it measures the network.
    pub(super) fn answered(&self, round_trip: Option<Duration>) {
        Stats::count(&self.pings_answered, 1);
        let Some(round_trip) = round_trip else {
            return;
        };
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_us.store(micros.max(1), Ordering::Relaxed);
    }
}
