//! A client, as an application holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chat::PreparedChat;
use super::meter::Meter;
use super::request::PreparedRequest;
use super::run;
use super::stream::Stream;
use crate::attestation::Evidenced;
use crate::error::{Error, Result};
use crate::host::{self, Callbacks, Hold, Which};
use crate::lifecycle::{Lifecycle, Phase};

/// The way to a verified enclave. Clones share it; it closes when the last of them and of its
/// streams is dropped.
#[derive(Clone)]
pub struct Client(Arc<Keeper>);

/// Keeps a client open. The client closes when its keeper is dropped.
pub(super) struct Keeper {
    pub(super) life: Arc<Lifecycle>,
    /// Counts unread bytes of its streams.
    pub(super) meter: Arc<Meter>,
}

impl Keeper {
    fn close(&self) {
        self.meter.close();
        self.life.close();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

impl Client {
    pub(super) fn new(life: Arc<Lifecycle>) -> Client {
        let meter = Arc::new(Meter::new(life.bounds().client));
        Client(Arc::new(Keeper { life, meter }))
    }

    /// Its life, which its tasks and requests share.
    pub fn life(&self) -> &Lifecycle {
        &self.0.life
    }

    /// Why the connection in use, or the last one, was trusted.
    pub fn evidenced(&self) -> Option<Arc<Evidenced>> {
        self.life().evidenced()
    }

    /// Sends a chat and returns the stream of its events.
    pub fn chat(&self, chat: PreparedChat) -> Result<Stream> {
        Stream::start(&self.0, chat.collects(), |life, exchange, inbox| {
            run::start(chat, life, exchange, inbox)
        })
    }

    /// Sends any other request and returns the stream of what it brings.
    pub fn request(&self, request: PreparedRequest) -> Result<Stream> {
        Stream::start(&self.0, request.collects(), |life, exchange, inbox| {
            request.send(life, exchange, inbox)
        })
    }

    /// The thread for callbacks, started when it is first needed, and held for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        self.life().callbacks()
    }

    /// Ends the connection and every stream, lets the callbacks finish, and ends the threads that
    /// only this client needed; until `deadline`. False: it goes on ending behind. It can be called
    /// again, also by several at once.
    pub fn close(&self, deadline: Option<Instant>) -> bool {
        self.0.close();
        let life = self.life();
        if !life.ended.wait(deadline) {
            return false;
        }
        let callbacks = life.callback_thread();
        if callbacks.is_some_and(|callbacks| !callbacks.join(deadline)) {
            return false;
        }
        host::wait(Which::Runtime, deadline)
    }

    /// Whether a connection serves now.
    pub fn connected(&self) -> bool {
        self.life().phase() == Phase::Connected && self.end().is_none()
    }

    /// Why the client ended, if it has.
    pub fn end(&self) -> Option<Error> {
        self.life().end_error()
    }
}

/// A deadline from a wait in milliseconds; negative waits for ever.
pub fn deadline(timeout_ms: i64) -> Option<Instant> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).ok()?);
    Some(Instant::now() + wait.min(Duration::from_secs(u32::MAX.into())))
}
