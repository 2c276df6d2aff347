//! A client, as an application holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chat::PreparedChat;
use super::request::PreparedRequest;
use super::run;
use super::stream::Stream;
use crate::attestation::Evidenced;
use crate::error::{Error, Result};
use crate::host::{self, Callbacks, Hold, Which};
use crate::link::{Keeper, Link};

/// The way to a verified enclave. Clones share it; it closes when the last of them and of its streams is dropped.
#[derive(Clone)]
pub struct Client(Arc<Keeper>);

impl Client {
    pub(super) fn new(link: Arc<Link>) -> Client {
        Client(Arc::new(Keeper::new(link)))
    }

    /// What its tasks and requests share.
    pub fn link(&self) -> &Link {
        self.0.link()
    }

    /// Why the connection, or the last one, was trusted.
    pub fn evidenced(&self) -> Arc<Evidenced> {
        self.link().evidenced()
    }

    /// Sends a chat and returns the stream of its events.
    pub fn chat(&self, chat: PreparedChat) -> Result<Stream> {
        Stream::start(&self.0, |link, exchange, inbox| {
            run::start(chat, link, exchange, inbox)
        })
    }

    /// Sends any other request and returns the stream of what it brings.
    pub fn request(&self, request: PreparedRequest) -> Result<Stream> {
        Stream::start(&self.0, |link, exchange, inbox| {
            request.send(link, exchange, inbox).map(|()| None)
        })
    }

    /// The thread for callbacks, started when it is first needed, and held for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        self.link().callbacks()
    }

    /// Ends the connection and every stream, lets the callbacks finish, and ends the threads that only this client
    /// needed; until `deadline`. False: it goes on ending behind. It can be called again, also by several at once.
    pub fn close(&self, deadline: Option<Instant>) -> bool {
        let link = self.link();
        link.close();
        if !link.ended.wait(deadline) {
            return false;
        }
        let callbacks = link.callback_thread();
        if callbacks.is_some_and(|callbacks| !callbacks.join(deadline)) {
            return false;
        }
        host::wait(Which::Runtime, deadline)
    }

    /// Why the client ended, if it has.
    pub fn end(&self) -> Option<Error> {
        self.link().end_error()
    }
}

/// A deadline from a wait in milliseconds; negative waits for ever.
pub fn deadline(timeout_ms: i64) -> Option<Instant> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).ok()?);
    Some(Instant::now() + wait.min(Duration::from_secs(u32::MAX.into())))
}
