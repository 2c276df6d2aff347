//! The application's side of a connection: admits requests, cancels them, and closes.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Limits;
use super::core::{Core, Load, Opening, Receiver};
use super::driver::{Command, Driver};
use super::establish::Established;
use crate::error::{Error, Result, Status};
use crate::panics;

/// Requests that may be open on one connection.
pub const MAX_OPEN: usize = 4_096;
/// Bytes of one request's body. Newer servers take chats of a few megabytes; a document is uploaded in pieces.
pub const MAX_BODY: usize = 32 << 20;
/// Bytes of request bodies that may wait to be sent.
pub const MAX_QUEUED: usize = 64 << 20;

/// One verified connection. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

/// A session that may have ended: what an answer's reader holds, so that it does not keep the connection.
#[derive(Clone)]
pub struct WeakSession(Weak<Shared>);

struct Shared {
    commands: UnboundedSender<Command>,
    load: Arc<Load>,
    next_id: AtomicI64,
    ended: Arc<OnceLock<Error>>,
}

/// What is asked.
pub struct Request {
    /// `GET` or `POST`.
    pub verb: &'static str,
    /// The route.
    pub path: &'static str,
    /// Empty, or UTF-8 text.
    pub body: Bytes,
}

impl Session {
    /// A session, and the task that runs it until it ends and says why.
    pub fn new(
        established: Established,
        limits: Limits,
    ) -> (Session, impl Future<Output = Error> + Send + use<>) {
        let (commands, received) = unbounded_channel();
        let load = Arc::new(Load::default());
        let core = Core::new(established.channel, limits, load.clone(), Instant::now());
        let shared = Shared {
            commands,
            load,
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

    /// Sends a request. `receiver` hears of its end exactly once, unless this fails: then it is dropped unheard.
    pub fn request(&self, request: Request, receiver: Box<dyn Receiver>) -> Result<i64> {
        let Request { verb, path, body } = request;
        let len = body.len();
        if len > MAX_BODY {
            return Err(Error::new(
                Status::TooLarge,
                format!("a request of {len} bytes; the bound is {MAX_BODY}"),
            ));
        }
        if let Some(end) = self.end() {
            return Err(end);
        }
        admit(
            &self.0.load.open,
            1,
            MAX_OPEN,
            "requests are open on this connection",
        )?;
        admit(
            &self.0.load.queued_bytes,
            len,
            MAX_QUEUED,
            "bytes wait to be sent on this connection",
        )
        .inspect_err(|_| {
            self.0.load.open.fetch_sub(1, Ordering::Relaxed);
        })?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let opening = Opening {
            id,
            verb,
            path,
            body,
            receiver,
        };
        self.0.commands.send(Command::Open(opening)).map_err(|_| {
            self.0.load.open.fetch_sub(1, Ordering::Relaxed);
            self.0.load.queued_bytes.fetch_sub(len, Ordering::Relaxed);
            self.end()
                .unwrap_or_else(|| Error::new(Status::Closed, "the connection has ended"))
        })?;
        Ok(id)
    }

    /// Gives a request up. Its receiver hears of the end, if it has not already.
    pub fn cancel(&self, id: i64) {
        let _ = self.0.commands.send(Command::Cancel(id));
    }

    /// A handle that does not keep the connection.
    pub fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.0))
    }

    /// Ends the connection and, with it, every open request.
    pub fn close(&self) {
        let _ = self.0.commands.send(Command::Close);
    }

    /// Why the connection ended, once it has.
    pub fn end(&self) -> Option<Error> {
        self.0.ended.get().cloned()
    }
}

impl WeakSession {
    /// Tells the task that a reader made room.
    pub fn resume(&self) {
        if let Some(shared) = self.0.upgrade() {
            let _ = shared.commands.send(Command::Resume);
        }
    }
}

fn admit(counter: &AtomicUsize, more: usize, bound: usize, what: &str) -> Result<()> {
    let admitted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(more).filter(|sum| *sum <= bound)
    });
    admitted
        .map(drop)
        .map_err(|_| Error::new(Status::TooMany, format!("{bound} {what}")))
}
