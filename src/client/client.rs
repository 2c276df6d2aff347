//! The client that an application holds.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::chat::PreparedChat;
use super::config::Config;
use super::meter::Meter;
use super::request::PreparedRequest;
use super::run;
use super::stream::Stream;
use crate::attestation::Evidenced;
use crate::error::{Error, Result};
use crate::host::{self, Callbacks, Hold, Runtime, Which};
use crate::lifecycle::{Lifecycle, Observer, Phase};
use crate::net::Token;

/// A client. Clones share it. It closes when the last clone and the last stream are dropped.
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

    /// A client that begins to connect. Every attempt follows the configuration's rules for
    /// reconnecting. The configuration is read now and can be changed or dropped afterwards.
    pub fn start(config: &Config) -> Result<Client> {
        config.check_ask()?;
        let callbacks = OnceLock::new();
        if config.needs_callbacks() {
            let _ = callbacks.set(Callbacks::start()?);
        }
        let runtime = Runtime::shared()?;
        let (mut rules, token) = config.rules();
        rules.retry_first = true;
        let sinks = callbacks.get().map(|thread| config.sinks(thread));
        let observers = sinks
            .into_iter()
            .map(|sinks| Arc::new(sinks) as Arc<dyn Observer>);
        let means = config.means(callbacks.get(), observers.collect());
        let life = Lifecycle::new(rules, token, means, runtime, callbacks);
        let client = Client::new(life);
        client.life().start();
        Ok(client)
    }

    /// Opens a stream of the client's events.
    pub fn watch(&self) -> Stream {
        Stream::watch(self.life())
    }

    /// Waits until the client is connected, or until `deadline`. Returns whether it is. Fails with
    /// the client's error if it ends.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        self.life().wait(deadline)
    }

    /// Gives a fresh token: answers an open token question, or serves the next attempt.
    pub fn set_token(&self, token: &str) -> Result<()> {
        self.life().set_token(Token::new(token)?);
        Ok(())
    }

    /// The lifecycle, which its tasks and requests share.
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

    /// Sends any other request and returns the stream of its answer.
    pub fn request(&self, request: PreparedRequest) -> Result<Stream> {
        Stream::start(&self.0, request.collects(), |life, exchange, inbox| {
            request.send(life, exchange, inbox)
        })
    }

    /// Returns the callback thread, which starts at first use, with a hold for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        self.life().callbacks()
    }

    /// Ends the connections and every stream, lets the callbacks finish, and ends the threads that
    /// only this client needed. Waits until `deadline`. Returns false if the end continues in the
    /// background. Several threads may call it, also again.
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

    /// Its state. A client whose only connection has just broken has ended.
    pub fn phase(&self) -> Phase {
        match self.end() {
            Some(_) => Phase::Ended,
            None => self.life().phase(),
        }
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

/// Returns the deadline of a wait in milliseconds; None, for ever, if negative.
pub fn deadline(timeout_ms: i64) -> Option<Instant> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).ok()?);
    Some(Instant::now() + wait.min(Duration::from_secs(u32::MAX.into())))
}
