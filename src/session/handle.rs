//! The handle of a connection: takes requests, cancels them, and closes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::core::Core;
use super::driver::{Command, Driver};
use super::establish::Established;
use super::limits::Limits;
use super::receiver::Receiver;
use super::request::Request;
use super::sinks::{Opened, Sinks};
use super::stats::Stats;
use super::upload::Way;
use crate::error::{Error, Status};
use crate::{panics, random};

/// One verified connection. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

/// A handle that does not keep the connection. Tells whether the connection has ended.
#[derive(Clone)]
pub struct WeakSession(Weak<Shared>);

struct Shared {
    commands: UnboundedSender<Command>,
    next_id: AtomicI64,
    ended: Arc<OnceLock<Error>>,
}

/// The error for a refused request, with its receiver.
type Refused = Box<(Error, Box<dyn Receiver>)>;

impl Session {
    /// Creates a session and its task. The task runs until the session ends, and returns the
    /// reason.
    pub fn new(
        established: Established,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> (Session, impl Future<Output = Error> + Send + use<>) {
        let (commands, received) = unbounded_channel();
        let now = Instant::now();
        let core = Core::new(established.channel, limits, random::seed(), now);
        let sinks = Sinks::new(stats.clone());
        let shared = Shared {
            commands,
            next_id: AtomicI64::new(1),
            ended: Arc::default(),
        };
        let ended = shared.ended.clone();
        // The task does not keep the session: the drop of the last handle ends it.
        let mut driver = Driver::new(established.socket, core, sinks, stats, received, ended);
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

    /// Sends a request and returns its id. `receiver` gets the end exactly once. If this fails, it
    /// gives the receiver back.
    pub fn request(
        &self,
        request: Request,
        receiver: Box<dyn Receiver>,
    ) -> std::result::Result<i64, Refused> {
        if let Some(error) = self.end() {
            return Err(Box::new((error, receiver)));
        }
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let way = request.upload.is_some().then(|| {
            // A slow source must not keep the connection.
            let commands = self.0.commands.downgrade();
            Way::new(move |data| {
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.send(Command::Supply(id, Box::new(data)));
                }
            })
        });
        let opened = Opened {
            id,
            request,
            receiver,
            way,
        };
        match self.0.commands.send(Command::Open(Box::new(opened))) {
            Ok(()) => Ok(id),
            Err(refused) => {
                let Command::Open(opened) = refused.0 else {
                    unreachable!("the command that was sent comes back");
                };
                let error = self.ended();
                Err(Box::new((error, opened.receiver)))
            }
        }
    }

    fn ended(&self) -> Error {
        self.end()
            .unwrap_or_else(|| Error::new(Status::Closed, "the connection has ended"))
    }

    /// Cancels a request. Does nothing if it has ended.
    pub fn cancel(&self, id: i64) {
        let _ = self.0.commands.send(Command::Cancel(id));
    }

    /// Tells the task that a reader has room again.
    pub fn resume(&self) {
        let _ = self.0.commands.send(Command::Resume);
    }

    /// Returns a handle that does not keep the connection.
    pub fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.0))
    }

    /// Finds out soon whether the peer still answers. Call it when the network changed.
    pub fn probe(&self) {
        let _ = self.0.commands.send(Command::Probe);
    }

    /// Ends the connection when its last open request has ended.
    pub fn retire(&self) {
        let _ = self.0.commands.send(Command::Retire);
    }

    /// Ends the connection and every open request, for this reason.
    pub fn end_with(&self, why: Error) {
        let _ = self.0.commands.send(Command::Close(why));
    }

    /// Returns why the connection ended, once it has.
    pub fn end(&self) -> Option<Error> {
        self.0.ended.get().cloned()
    }
}

impl WeakSession {
    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        let shared = self.0.upgrade();
        shared.is_none_or(|shared| shared.ended.get().is_some())
    }
}
