//! A request on its way over several connections. A request that may have been sent is never sent
//! again, with one exception: the first answer is status 401 or 402, so the enclave did nothing,
//! and a fresh token helps (protocol section 4). The core decides. This file keeps the parts of the
//! request.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;

use super::core::RequestId;
use crate::error::{Error, Result, Status};
use crate::session::{Again, Flow, Left, Pace, Piece, Receiver, Request, Source, WeakSession};

/// The client that a request belongs to.
pub(super) trait Owner: Send + Sync {
    /// Cancels the open request of a stream, which makes no later one.
    fn cancel(&self, exchange: &Exchange);
    /// Called when the reader of a request's answer has made room.
    fn resume(&self, request: RequestId);
    /// Takes back a request that has ended on its connection. `lost`: the connection has ended too.
    fn came_back(&self, request: RequestId, job: Job, result: Result<()>, lost: bool);
}

/// The handle of a stream's request, which may be another one in each round of a chat.
pub struct Exchange {
    client: Weak<dyn Owner>,
    /// The request that is open or was last; 0 before the first.
    request: AtomicI64,
    cancelled: AtomicBool,
}

impl Exchange {
    /// Creates the handle of a request that was not sent yet.
    pub(super) fn new(client: Weak<dyn Owner>) -> Exchange {
        Exchange {
            client,
            request: AtomicI64::new(0),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Takes the number of the stream's next request. Fails if the application cancelled the
    /// stream. The caller holds the client's lock.
    pub(super) fn enter(&self, request: RequestId) -> Result<()> {
        if self.cancelled() {
            return Err(super::cancelled());
        }
        self.request.store(request, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the stream had a request already.
    pub(super) fn began(&self) -> bool {
        self.request.load(Ordering::Relaxed) != 0
    }

    /// Refuses later requests, and returns the number of the last one. The caller holds the
    /// client's lock.
    pub(super) fn refuse(&self) -> RequestId {
        self.cancelled.store(true, Ordering::Release);
        self.request.load(Ordering::Relaxed)
    }

    /// Cancels the open request and refuses later ones.
    pub fn cancel(&self) {
        if let Some(client) = self.client.upgrade() {
            client.cancel(self);
        }
    }

    /// Whether the application cancelled the stream.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The reader made room.
    pub fn resume(&self) {
        if let Some(client) = self.client.upgrade() {
            client.resume(self.request.load(Ordering::Relaxed));
        }
    }
}

/// A request that is on no connection.
pub(super) struct Job {
    pub(super) receiver: Box<dyn Receiver>,
    /// `None` once it cannot be sent again.
    pub(super) parts: Option<Parts>,
    /// Its bytes count as unsent.
    pub(super) unsent: Option<Counted>,
}

/// The parts of a request, from which it can be made several times.
pub(super) struct Parts {
    verb: Cow<'static, str>,
    path: Cow<'static, str>,
    body: Bytes,
    pace: Pace,
    upload: Upload,
    /// Its bytes count as kept: it is kept after it was sent, until the enclave answers.
    kept: Option<Counted>,
}

enum Upload {
    None,
    /// Not read from yet.
    New(Box<dyn Source>),
    /// It can be read from its beginning as often as needed.
    Again(Again),
    /// The application's data was read, and cannot be read again.
    Spent,
}

impl Parts {
    pub(super) fn new(request: Request, kept: Option<Counted>) -> Parts {
        Parts {
            verb: request.verb,
            path: request.path,
            body: request.body,
            pace: request.pace,
            upload: request.upload.map_or(Upload::None, Upload::New),
            kept,
        }
    }

    fn is_repeatable(&self) -> bool {
        !matches!(self.upload, Upload::Spent)
    }

    /// Makes the request.
    fn request(&mut self) -> Request {
        let upload = match std::mem::replace(&mut self.upload, Upload::Spent) {
            Upload::None => {
                self.upload = Upload::None;
                None
            }
            Upload::New(source) => {
                self.upload = source.again().map_or(Upload::Spent, Upload::Again);
                Some(source)
            }
            Upload::Again(again) => {
                let source = again();
                self.upload = Upload::Again(again);
                Some(source)
            }
            Upload::Spent => None,
        };
        Request {
            verb: self.verb.clone(),
            path: self.path.clone(),
            body: self.body.clone(),
            upload,
            pace: self.pace,
        }
    }
}

impl Job {
    /// Makes the request for a connection, and the carrier that follows it there. `again`: it was
    /// on another one.
    pub(super) fn board(
        mut self,
        client: Weak<dyn Owner>,
        id: RequestId,
        session: WeakSession,
        again: bool,
    ) -> Option<(Request, Box<Carrier>)> {
        if again {
            self.receiver.restart();
        }
        let request = self.parts.as_mut()?.request();
        let carrier = Carrier {
            client,
            id,
            session,
            job: Some(self),
        };
        Some((request, Box::new(carrier)))
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.parts.as_ref().is_some_and(Parts::is_repeatable)
    }
}

/// Follows a request on one connection, and brings it back from there.
pub(super) struct Carrier {
    client: Weak<dyn Owner>,
    id: RequestId,
    session: WeakSession,
    /// Gone once it was brought back.
    job: Option<Job>,
}

impl Carrier {
    fn bring_back(&mut self, result: Result<()>) {
        let Some(job) = self.job.take() else {
            return;
        };
        match self.client.upgrade() {
            Some(client) => client.came_back(self.id, job, result, self.session.has_ended()),
            None => job.receiver.end(result),
        }
    }
}

impl Receiver for Carrier {
    fn sent(&mut self, left: Left, now: Instant) -> bool {
        let Some(job) = &mut self.job else {
            return false;
        };
        if left.body {
            job.unsent = None;
        }
        job.parts.take_if(|parts| parts.kept.is_none());
        job.receiver.sent(left, now)
    }

    fn pieces(&mut self, pieces: &mut Vec<Piece>) -> Flow {
        match &mut self.job {
            Some(job) => {
                job.parts = None;
                job.receiver.pieces(pieces)
            }
            None => Flow::Done,
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.job.as_mut().map_or(Ok(()), |job| job.receiver.flush())
    }

    fn pause_if_full(&self) -> bool {
        let job = self.job.as_ref();
        job.is_some_and(|job| job.receiver.pause_if_full())
    }

    fn end(mut self: Box<Self>, result: Result<()>) {
        self.bring_back(result);
    }
}

impl Drop for Carrier {
    /// Ends the request however the connection's task ends.
    fn drop(&mut self) {
        let message = "the request ended without a result: a defect in libconfer";
        self.bring_back(Err(Error::new(Status::Panic, message)));
    }
}

/// Bytes that count against a bound while this value lives.
pub(super) struct Counted {
    counter: Arc<AtomicUsize>,
    len: usize,
}

impl Counted {
    /// Counts `len` bytes, unless there would be more than `most`.
    pub(super) fn new(counter: &Arc<AtomicUsize>, len: usize, most: usize) -> Option<Counted> {
        let counted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(len).filter(|sum| *sum <= most)
        });
        counted.is_ok().then(|| Counted {
            counter: counter.clone(),
            len,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.len, Ordering::Relaxed);
    }
}
