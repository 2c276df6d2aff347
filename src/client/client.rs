//! The client that an application holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chat::PreparedChat;
use super::config::Config;
use super::keeper::Keeper;
use super::request::PreparedRequest;
use super::run;
use super::stream::{Input, Stream};
use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::host::{self, Callbacks, Hold, Runtime, Which};
use crate::lifecycle::{Lifecycle, Phase};
use crate::net::Token;

/// Time that a failed [`Client::attempted`] waits for its threads. They end at once, except for a name
/// look-up that hangs in the system.
const LINGER: Duration = Duration::from_millis(100);

/// Time by which the end of an attempt may be late: writing the key-set cache takes up to a second,
/// and a busy machine is slow. After that the worker counts as dead.
const GRACE: Duration = Duration::from_secs(5);

/// A client. Clones share it. It closes when the last clone and the last stream are dropped.
#[derive(Clone)]
pub struct Client(Arc<Keeper>);

impl Client {
    /// A client that begins to connect. Every attempt follows the configuration's rules for
    /// reconnecting. The configuration is read now and can be changed or dropped afterwards.
    pub fn start(config: &Config) -> Result<Client> {
        config.check(true)?;
        Client::begin(config, true)
    }

    /// Like [`Client::start`], but the first attempt is not retried, and needs a configured token.
    pub fn start_once(config: &Config) -> Result<Client> {
        config.check(false)?;
        Client::begin(config, false)
    }

    /// Waits for the end of the first attempt.
    ///
    /// # Errors
    /// The error of the attempt. The threads that only this client needed have ended then, except
    /// one that hangs in a name look-up.
    pub fn attempted(self) -> Result<Client> {
        let limit = self.life().limits().connect;
        let overdue = Instant::now() + limit + GRACE;
        let error = match self.life().wait_for_first(overdue) {
            Ok(true) => return Ok(self),
            Ok(false) => {
                let limit = limit.as_millis();
                let message = format!(
                    "connecting: no result within {limit} ms, and the library's worker thread does not answer"
                );
                Error::new(Status::StageTimeout, message)
            }
            Err(error) => error,
        };
        drop(self);
        host::wait(Which::Leaving, Some(Instant::now() + LINGER));
        Err(error)
    }

    fn begin(config: &Config, retry_first: bool) -> Result<Client> {
        let callbacks = match &config.log {
            Some(_) => Some(Callbacks::start()?),
            None => None,
        };
        let runtime = Runtime::shared()?;
        let (rules, token) = config.rules(retry_first);
        let means = config.means(callbacks.as_ref());
        let life = Lifecycle::new(rules, token, means, runtime, callbacks);
        let client = Client(Keeper::new(life));
        client.life().start();
        Ok(client)
    }

    /// Opens a stream of the client's events.
    pub fn watch(&self) -> Stream {
        Stream::watch(self.life())
    }

    /// Gives the client a fresh token: it answers an open token question, or is used by the next
    /// attempt.
    pub fn set_token(&self, token: &str) -> Result<()> {
        self.life().set_token(Token::new(token)?);
        Ok(())
    }

    /// The lifecycle, which its tasks and requests share.
    pub fn life(&self) -> &Arc<Lifecycle> {
        &self.0.life
    }

    /// The verified evidence of the connection in use, or of the last one.
    pub fn evidenced(&self) -> Option<Arc<Evidenced>> {
        self.life().evidenced()
    }

    /// Sends a chat and returns the stream of its events.
    pub fn chat(&self, chat: PreparedChat) -> Result<Stream> {
        Stream::start(&self.0, chat.collects(), |life, exchange, inbox| {
            let run = run::start(chat, life, exchange, inbox)?;
            Ok(run.map_or(Input::Nothing, Input::Answers))
        })
    }

    /// Sends any other request and returns the stream of its answer.
    pub fn request(&self, request: PreparedRequest) -> Result<Stream> {
        Stream::start(&self.0, request.collects(), |life, exchange, inbox| {
            let writes = request.send(life, exchange, inbox)?;
            Ok(writes.map_or(Input::Nothing, Input::Document))
        })
    }

    /// Returns the callback thread, which starts at first use, with a hold for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        self.life().callbacks()
    }

    /// Ends the connections and every stream, lets the callbacks finish, and ends the threads that
    /// only this client needed. Waits until `deadline`. Returns false if the end continues in the
    /// background. Several threads may call it, and call it again.
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

    /// The error with which the client ended, if it has.
    pub fn end(&self) -> Option<Error> {
        self.life().end_error()
    }
}

/// Returns the deadline of a wait in milliseconds. None, a wait without a limit, if negative.
pub fn deadline(timeout_ms: i64) -> Option<Instant> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).ok()?);
    Some(Instant::now() + wait.min(Duration::from_secs(u32::MAX.into())))
}
