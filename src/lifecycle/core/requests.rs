//! Keeps the place of each request of a client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::interface::{ConnectionId, RequestId};
use crate::error::{Error, Progress, Result, Status};
use crate::lifecycle::policy::Now;

/// The place of a request. Between two connections it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits for a connection with a number above `after`.
    Waiting { after: ConnectionId, since: Instant },
    /// It was given to this connection.
    On { connection: ConnectionId },
}

struct Request {
    /// The time that it may wait for a connection.
    patience: Duration,
    place: Place,
    /// It was on a connection before.
    sent_before: bool,
    /// The application has cancelled it, and its connection has not reported its end yet.
    given_up: bool,
    /// The refusal after which it is sent once more.
    refused: Option<Error>,
}

/// All requests that have not ended, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Requests {
    all: BTreeMap<RequestId, Request>,
    /// Those that wait.
    waiting: BTreeSet<RequestId>,
}

impl Requests {
    /// Adds a request, which waits for any connection.
    pub(super) fn add(&mut self, id: RequestId, patience: Duration, now: Now) {
        let since = now.monotonic;
        let request = Request {
            patience,
            place: Place::Waiting { after: 0, since },
            sent_before: false,
            given_up: false,
            refused: None,
        };
        let before = self.all.insert(id, request);
        debug_assert!(before.is_none(), "request ids are unique");
        self.waiting.insert(id);
    }

    pub(super) fn place(&self, id: RequestId) -> Option<Place> {
        self.all.get(&id).map(|request| request.place)
    }

    pub(super) fn wait(&mut self, id: RequestId, after: ConnectionId, now: Now) {
        if let Some(request) = self.all.get_mut(&id) {
            let since = now.monotonic;
            request.place = Place::Waiting { after, since };
            self.waiting.insert(id);
        }
    }

    /// Gives a request to a connection. Returns whether it was on one before.
    pub(super) fn put_on(&mut self, id: RequestId, connection: ConnectionId) -> bool {
        let Some(request) = self.all.get_mut(&id) else {
            return false;
        };
        request.place = Place::On { connection };
        self.waiting.remove(&id);
        std::mem::replace(&mut request.sent_before, true)
    }

    pub(super) fn give_up(&mut self, id: RequestId) {
        if let Some(request) = self.all.get_mut(&id) {
            request.given_up = true;
        }
    }

    pub(super) fn is_given_up(&self, id: RequestId) -> bool {
        self.all.get(&id).is_some_and(|request| request.given_up)
    }

    /// Remembers the refusal after which a request is sent once more.
    pub(super) fn refuse(&mut self, id: RequestId, error: Error) {
        if let Some(request) = self.all.get_mut(&id) {
            request.refused = Some(error);
        }
    }

    pub(super) fn was_refused(&self, id: RequestId) -> bool {
        let request = self.all.get(&id);
        request.is_some_and(|request| request.refused.is_some())
    }

    /// Waiting requests that the enclave refused for their token.
    pub(super) fn held(&self) -> Vec<RequestId> {
        self.waiting_if(|request| request.refused.is_some())
    }

    pub(super) fn waiting(&self) -> Vec<RequestId> {
        self.waiting.iter().copied().collect()
    }

    /// Waiting requests that may be sent on this connection.
    pub(super) fn waiting_for(&self, connection: ConnectionId) -> Vec<RequestId> {
        self.waiting_if(
            |request| matches!(request.place, Place::Waiting { after, .. } if after < connection),
        )
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|id| self.all.get(id));
        waiting.filter_map(expiry).min()
    }

    /// Requests that waited for too long, with their limits.
    pub(super) fn expired(&self, now: Now) -> Vec<(RequestId, Duration)> {
        let over = |request: &Request| expiry(request).is_some_and(|at| at <= now.monotonic);
        let expired = self.waiting_if(over).into_iter();
        let patience = |id| self.all.get(&id).map(|request| (id, request.patience));
        expired.filter_map(patience).collect()
    }

    fn waiting_if(&self, wanted: impl Fn(&Request) -> bool) -> Vec<RequestId> {
        let waiting = self.waiting.iter().copied();
        waiting
            .filter(|id| self.all.get(id).is_some_and(&wanted))
            .collect()
    }

    /// Removes a request and returns how it ends for the application, if it was there.
    pub(super) fn remove(&mut self, id: RequestId, result: Result<()>) -> Option<Result<()>> {
        let request = self.all.remove(&id)?;
        self.waiting.remove(&id);
        let refused = request.refused;
        Some(result.map_err(|error| {
            let waited = matches!(request.place, Place::Waiting { .. });
            // No connection with a fresh token was made, so the request ends with the enclave's
            // refusal.
            let own = matches!(error.status(), Status::Cancelled | Status::Closed);
            match refused {
                Some(refused) if waited && !own => {
                    refused.because("No other connection could be made", &error)
                }
                // It was sent before, even if this connection did not send it.
                Some(_) if error.progress() == Progress::NotSent => {
                    error.with_progress(Progress::MaybeSent)
                }
                None if waited => error.with_progress(Progress::NotSent),
                _ => error,
            }
        }))
    }
}

fn expiry(request: &Request) -> Option<Instant> {
    match request.place {
        Place::Waiting { since, .. } => Some(since + request.patience),
        Place::On { .. } => None,
    }
}
