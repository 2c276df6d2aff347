//! A request's receiver on its way over several connections: it sends the request again where that is right, and only
//! there. What may have been sent is never sent again, but for the one case in which the enclave says that it did nothing:
//! status 401 or 402 as the first answer, for which a fresh token helps (protocol section 4).

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;

use super::exchange::Exchange;
use crate::clock;
use crate::error::{Error, Progress, Result, Retry, Status};
use crate::net::Token;
use crate::session::{Again, Flow, Pace, Piece, Receiver, Request};

/// A request on its way to a connection.
pub(super) struct Job {
    /// The order in which it was asked for.
    pub(super) order: u64,
    pub(super) request: Request,
    pub(super) exchange: Arc<Exchange>,
    pub(super) receiver: Box<dyn Receiver>,
}

/// What there is beyond the connection that a request was on.
pub(super) trait Ways: Send + Sync {
    /// Sends a request that has not been sent, or was refused for its token, on a later connection than `after`.
    fn again(&self, job: Job, after: u64);
    /// Whether a request that was not sent will be sent on the next connection.
    fn reconnects(&self) -> bool;
    /// The enclave refused a request for its token.
    fn token_was_refused(&self, token: &Token, now: u64);
    /// Whether there can be a connection with a fresh token.
    fn provides_tokens(&self) -> bool;
}

/// What counts as kept until its request is answered, or has ended.
pub(super) struct KeptBytes {
    counter: Arc<AtomicUsize>,
    len: usize,
}

impl KeptBytes {
    /// Counts `len` bytes, unless there are then more than `most`.
    pub(super) fn count(counter: &Arc<AtomicUsize>, len: usize, most: usize) -> Option<KeptBytes> {
        let counted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(len).filter(|sum| *sum <= most)
        });
        counted.is_ok().then(|| KeptBytes {
            counter: counter.clone(),
            len,
        })
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// The enclave answered 401 or 402.
fn refuses_token(error: &Error) -> bool {
    error.retry() == Retry::FreshToken
}

/// Knows how to ask once more.
pub(super) struct Tracked {
    link: Weak<dyn Ways>,
    order: u64,
    exchange: Arc<Exchange>,
    inner: Box<dyn Receiver>,
    /// Gone once it cannot be sent again: it has left, or, where a fresh token can help, the enclave answers.
    request: Option<Kept>,
    /// The refusal for which it was sent again, once.
    refused: Option<Error>,
}

/// What is kept of a request to send it again.
struct Kept {
    verb: Cow<'static, str>,
    path: Cow<'static, str>,
    body: Bytes,
    upload: Upload,
    pace: Pace,
    /// It is kept beyond its sending, and counted.
    counted: Option<KeptBytes>,
}

enum Upload {
    None,
    /// It can be read from its beginning as often as it takes.
    Again(Again),
    /// The application gives it once.
    Once,
}

impl Tracked {
    pub(super) fn new(
        link: Weak<dyn Ways>,
        order: u64,
        request: &Request,
        exchange: &Arc<Exchange>,
        inner: Box<dyn Receiver>,
        counted: Option<KeptBytes>,
    ) -> Tracked {
        let upload = match &request.upload {
            None => Upload::None,
            Some(source) => source.again().map_or(Upload::Once, Upload::Again),
        };
        Tracked {
            link,
            order,
            exchange: exchange.clone(),
            inner,
            request: Some(Kept {
                verb: request.verb.clone(),
                path: request.path.clone(),
                body: request.body.clone(),
                upload,
                pace: request.pace,
                counted,
            }),
            refused: None,
        }
    }

    /// Where the enclave refused the token: says in the error if it has expired, and sees to it that it is not used again.
    fn explain(&self, error: Error, link: Option<&dyn Ways>) -> Error {
        let Some(token) = self.exchange.token().filter(|_| refuses_token(&error)) else {
            return error;
        };
        let now = clock::now();
        if let Some(link) = link {
            link.token_was_refused(&token, now);
        }
        token.explain(error, now)
    }

    /// An end that is one. What was refused for its token had been sent, whatever became of it then.
    fn conclude(&self, error: Error) -> Error {
        if self.refused.is_some() && error.progress() == Progress::NotSent {
            return error.with_progress(Progress::MaybeSent);
        }
        error
    }

    /// The request anew, unless it cannot be made again.
    fn again(&self) -> Option<Request> {
        let kept = self.request.as_ref()?;
        let upload = match &kept.upload {
            Upload::None => None,
            Upload::Again(again) => Some(again()),
            Upload::Once => return None,
        };
        Some(Request {
            verb: kept.verb.clone(),
            path: kept.path.clone(),
            body: kept.body.clone(),
            upload,
            pace: kept.pace,
        })
    }

    /// After which connection, and so on which next one, this end is none; if at all.
    fn after(&self, error: &Error, link: &dyn Ways) -> Option<u64> {
        if self.exchange.cancelled() || self.request.is_none() {
            return None;
        }
        let unsent = error.progress() == Progress::NotSent
            && link.reconnects()
            && self.exchange.connection_ended();
        let refused = refuses_token(error) && self.refused.is_none() && link.provides_tokens();
        (unsent || refused).then(|| self.exchange.serial())
    }
}

impl Receiver for Tracked {
    fn sent(&mut self, data: usize, now: Instant) -> bool {
        self.request.take_if(|kept| kept.counted.is_none());
        self.inner.sent(data, now)
    }

    fn restart(&mut self) {
        self.inner.restart();
    }

    fn pieces(&mut self, pieces: &mut Vec<Piece>) -> Flow {
        self.request = None;
        self.inner.pieces(pieces)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn pause_if_full(&self) -> bool {
        self.inner.pause_if_full()
    }

    fn end(mut self: Box<Self>, result: Result<()>) {
        let Err(error) = result else {
            return self.inner.end(Ok(()));
        };
        let link = self.link.upgrade();
        let error = self.explain(error, link.as_deref());
        let again = link.as_ref().and_then(|link| self.after(&error, &**link));
        let (Some(link), Some((after, request))) = (link, again.zip(self.again())) else {
            let error = self.conclude(error);
            return self.inner.end(Err(error));
        };
        self.inner.restart();
        if refuses_token(&error) {
            self.refused = Some(error);
        }
        let (order, exchange) = (self.order, self.exchange.clone());
        link.again(
            Job {
                order,
                request,
                exchange,
                receiver: self,
            },
            after,
        );
    }

    /// There is no connection with a fresh token: the enclave's own word stands.
    fn refuse(self: Box<Self>, error: Error) {
        let own = matches!(error.status(), Status::Cancelled | Status::Closed);
        let error = match &self.refused {
            Some(refused) if !own => refused
                .clone()
                .because("No other connection could be made", &error),
            _ => self.conclude(error),
        };
        self.inner.refuse(error);
    }
}
