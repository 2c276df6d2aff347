//! Counts what a client's connections did.

use std::sync::atomic::{AtomicU64, Ordering};

use super::core::Counts;

/// Written by the tasks of the connections, read by any thread.
#[derive(Default)]
pub struct Stats {
    /// Bytes that sockets sent, with TLS and WebSocket.
    pub bytes_sent: AtomicU64,
    /// Bytes that sockets received.
    pub bytes_received: AtomicU64,
    /// Whole messages sent: requests, chunks, pings.
    pub messages_sent: AtomicU64,
    /// Whole messages received.
    pub messages_received: AtomicU64,
    /// Keepalive pings sent.
    pub pings_sent: AtomicU64,
    /// Keepalive pings answered.
    pub pings_answered: AtomicU64,
    /// Round trip of the last answered ping in microseconds; 0 before the first. Leaves out pings
    /// that were open while the socket was not read: they measure the application.
    pub round_trip_us: AtomicU64,
}

impl Stats {
    pub(super) fn count(counter: &AtomicU64, more: u64) {
        if more > 0 {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, counts: &Counts) {
        Stats::count(&self.messages_sent, counts.messages_sent);
        Stats::count(&self.messages_received, counts.messages_received);
        Stats::count(&self.pings_sent, counts.pings_sent);
        Stats::count(&self.pings_answered, counts.pings_answered);
        if let Some(round_trip) = counts.round_trip {
            let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
            self.round_trip_us.store(micros.max(1), Ordering::Relaxed);
        }
    }
}
