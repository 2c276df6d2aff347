//! The application's side of a connection: admits requests, cancels them, and closes.

use std::borrow::Cow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::bounds::Bounds;
use super::core::{Core, Load, Opening, Receiver};
use super::driver::{Command, Driver};
use super::establish::Established;
use super::stats::Stats;
use super::upload::{Source, Way};
use super::{Limits, Pace};
use crate::error::{Error, Result, Status};
use crate::panics;

/// Bytes of one request's body. Newer servers take chats of a few megabytes; a document is uploaded in pieces.
pub const MAX_BODY: usize = 32 << 20;
/// One verified connection. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

/// A session that may have ended: what an answer's reader holds, so that it does not keep the connection.
#[derive(Clone)]
pub struct WeakSession(Weak<Shared>);

struct Shared {
    commands: UnboundedSender<Command>,
    load: Arc<Load>,
    bounds: Bounds,
    next_id: AtomicI64,
    ended: Arc<OnceLock<Error>>,
}

/// What is asked.
pub struct Request {
    /// `GET` or `POST`; not empty.
    pub verb: Cow<'static, str>,
    /// The route; not empty.
    pub path: Cow<'static, str>,
    /// Empty, or UTF-8 text.
    pub body: Bytes,
    /// A document that goes with it, in chunks.
    pub upload: Option<Box<dyn Source>>,
    /// How its answer comes.
    pub pace: Pace,
}

/// A request that was not taken: why, and what was given.
type Refused = Box<(Error, Request, Box<dyn Receiver>)>;

impl Session {
    /// A session, and the task that runs it until it ends and says why.
    pub fn new(
        established: Established,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> (Session, impl Future<Output = Error> + Send + use<>) {
        let (commands, received) = unbounded_channel();
        let load = Arc::new(Load::default());
        let now = Instant::now();
        let core = Core::new(established.channel, limits, load.clone(), stats, now);
        let shared = Shared {
            commands,
            load,
            bounds: limits.bounds,
            next_id: AtomicI64::new(1),
            ended: Arc::default(),
        };
        // The task shares nothing that would keep the session: the last handle's drop ends it.
        let mut driver = Driver::new(established.socket, core, received, shared.ended.clone());
        let task = async move {
            match panics::caught(driver.run()).await {
                Ok(error) => error,
                Err(panic) => {
                    let _ = panics::caught(driver.end(&panic)).await;
                    panic
                }
            }
        };
        let session = Session(Arc::new(shared));
        (session, task)
    }

    /// Sends a request. `receiver` hears of its end exactly once, unless this fails: then both are given back.
    pub fn request(
        &self,
        request: Request,
        receiver: Box<dyn Receiver>,
    ) -> std::result::Result<i64, Refused> {
        if let Err(error) = self.admit(&request) {
            return Err(Box::new((error, request, receiver)));
        }
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let way = request.upload.is_some().then(|| {
            // It must not keep the connection.
            let commands = self.0.commands.downgrade();
            Way::new(move |data| {
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.send(Command::Supply(id, data));
                }
            })
        });
        let opening = Opening {
            id,
            request,
            receiver,
            way,
        };
        match self.0.commands.send(Command::Open(opening)) {
            Ok(()) => Ok(id),
            Err(refused) => {
                let Command::Open(opening) = refused.0 else {
                    unreachable!("it is what was sent");
                };
                self.0.load.dismiss(&opening.request);
                Err(Box::new((self.ended(), opening.request, opening.receiver)))
            }
        }
    }

    fn ended(&self) -> Error {
        self.end()
            .unwrap_or_else(|| Error::new(Status::Closed, "the connection has ended"))
    }

    fn admit(&self, request: &Request) -> Result<()> {
        let len = request.body.len();
        if len > MAX_BODY {
            return Err(Error::new(
                Status::TooLarge,
                format!("the request has {len} bytes (at most {MAX_BODY})"),
            ));
        }
        if let Some(end) = self.end() {
            return Err(end);
        }
        self.0.load.admit(request, &self.0.bounds)
    }

    /// Gives a request up. Its receiver hears of the end, if it has not already.
    pub fn cancel(&self, id: i64) {
        let _ = self.0.commands.send(Command::Cancel(id));
    }

    /// A handle that does not keep the connection.
    pub fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.0))
    }

    /// The network changed: finds out at once whether the peer is still there.
    pub fn probe(&self) {
        let _ = self.0.commands.send(Command::Probe);
    }

    /// Lets what is open come to its end, and then ends the connection.
    pub fn retire(&self) {
        let _ = self.0.commands.send(Command::Retire);
    }

    /// Ends the connection and, with it, every open request.
    pub fn close(&self) {
        self.end_with(Error::new(Status::Closed, "the client was closed"));
    }

    /// As [`Session::close`], for another reason.
    pub fn end_with(&self, why: Error) {
        let _ = self.0.commands.send(Command::Close(why));
    }

    /// Why the connection ended, once it has.
    pub fn end(&self) -> Option<Error> {
        self.0.ended.get().cloned()
    }
}

impl WeakSession {
    /// Gives a request up. False: the connection has gone, and with it the request.
    pub fn cancel(&self, id: i64) -> bool {
        let shared = self.0.upgrade();
        shared.is_some_and(|shared| shared.commands.send(Command::Cancel(id)).is_ok())
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        let shared = self.0.upgrade();
        shared.is_none_or(|shared| shared.ended.get().is_some())
    }

    /// Tells the task that a reader made room.
    pub fn resume(&self) {
        if let Some(shared) = self.0.upgrade() {
            let _ = shared.commands.send(Command::Resume);
        }
    }
}

impl Load {
    /// Counts a request, or refuses it.
    fn admit(&self, request: &Request, bounds: &Bounds) -> Result<()> {
        let len = request.body.len();
        let all = [
            (&self.open, 1, bounds.requests, "open requests"),
            (
                &self.queued_bytes,
                len,
                bounds.unsent,
                "bytes waiting to be sent",
            ),
        ];
        for (at, (counter, more, bound, what)) in all.iter().enumerate() {
            let admitted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                now.checked_add(*more).filter(|sum| sum <= bound)
            });
            if admitted.is_err() {
                for (counter, more, ..) in &all[..at] {
                    counter.fetch_sub(*more, Ordering::Relaxed);
                }
                let message = format!("this connection already has its limit of {bound} {what}");
                return Err(Error::new(Status::TooMany, message));
            }
        }
        Ok(())
    }

    /// Takes back what [`Load::admit`] counted.
    fn dismiss(&self, request: &Request) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes
            .fetch_sub(request.body.len(), Ordering::Relaxed);
    }
}
