//! Time limits: pings, a dead peer, and requests that are silent for too long.

use std::time::Instant;

use bytes::Bytes;

use super::errors::{Silent, peer_is_dead, probe_failed, silence};
use super::{Core, Exchange};
use crate::error::{Error, Result};
use crate::session::limits::Idle;
use crate::wire;

impl Core {
    /// Reports bytes that the socket sent and received. `flushed`: it holds no unwritten bytes.
    pub(in crate::session) fn moved(
        &mut self,
        now: Instant,
        sent: u64,
        received: u64,
        flushed: bool,
    ) {
        self.keepalive.moved(now, received > 0, flushed);
        if sent > 0 {
            self.wrote = now;
        }
    }

    /// Returns when [`Core::tick`] is due. None after the connection's end.
    pub(in crate::session) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed() {
            return None;
        }
        let mut earliest = self.keepalive.next_ping();
        if self.paused {
            return Some(earliest);
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
        Some(earliest)
    }

    /// Pings. Ends requests and peers that were silent for too long.
    pub(in crate::session) fn tick(&mut self, now: Instant) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        if self.keepalive.due(now) {
            self.ping(now);
        }
        if self.paused {
            return Ok(());
        }
        if self.keepalive.dead_at().is_some_and(|dead| now >= dead) {
            return Err(peer_is_dead(self.limits.dead_after));
        }
        if self.probe.is_some_and(|probe| now >= probe) {
            return Err(probe_failed(self.limits.probe));
        }
        if !self.exchanges.is_empty() && now >= self.next_idle {
            self.end_silent(now);
        }
        Ok(())
    }

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
        self.outgoing.push_ping(id, message.encode());
        self.counts.pings_sent += 1;
    }

    /// Sets a deadline for the next bytes from the peer, because the network changed.
    pub(in crate::session) fn probe(&mut self, now: Instant) {
        if self.is_closed() {
            return;
        }
        if !self.keepalive.has_open() {
            self.ping(now);
        }
        self.probe = Some(now + self.limits.probe);
    }

    /// Ends the requests that reached their idle limit. A server can lose a request and still
    /// answer pings (protocol section 4).
    fn end_silent(&mut self, now: Instant) {
        let (idle, wrote) = (self.limits.idle, self.wrote);
        let silent = |exchange: &Exchange| now >= exchange.silent_at(now, wrote, &idle);
        let expired: Vec<(i64, Error)> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| silent(exchange))
            .map(|(id, exchange)| (*id, exchange.silence(&idle)))
            .collect();
        for (id, error) in expired {
            self.finish(id, Err(error), now);
        }
        self.next_idle = self.first_silence(now);
    }

    /// Returns when the first request reaches its idle limit.
    pub(super) fn first_silence(&self, now: Instant) -> Instant {
        let each = self.exchanges.values();
        let at = |exchange: &Exchange| exchange.silent_at(now, self.wrote, &self.limits.idle);
        each.map(at).min().unwrap_or(now)
    }
}

impl Exchange {
    /// Returns the time from which the idle limit counts. The limit does not run while the
    /// application keeps an upload waiting, or while a part of the request is queued and the socket
    /// takes bytes.
    fn silent_since(&self, now: Instant, wrote: Instant) -> Instant {
        match &self.upload {
            _ if self.queued > 0 => self.heard.max(wrote),
            Some(upload) if upload.waits_for_data() => now,
            _ => self.heard,
        }
    }

    fn silent_at(&self, now: Instant, wrote: Instant, idle: &Idle) -> Instant {
        self.silent_since(now, wrote) + idle.of(self.pace)
    }

    /// Returns the error of a request that reached its idle limit.
    fn silence(&self, idle: &Idle) -> Error {
        let why = match &self.upload {
            Some(upload) if upload.waits_for_place() => Silent::NoPlace,
            _ if self.queued > 0 => Silent::NotWritten,
            _ => Silent::NoAnswer,
        };
        silence(why, self.pace, idle.of(self.pace))
    }
}
