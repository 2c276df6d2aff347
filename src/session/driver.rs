//! The task of a connection: moves messages between the socket and the core, and keeps the time.
//!
//! It polls everything itself instead of selecting over futures, for two reasons. Reading continues
//! while a write waits, and nothing is encrypted before the socket can take it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{Sink, Stream as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::{self, Message};

use super::core::{Core, Data};
use super::lost::{During, closed, lost, worker_gone};
use super::sinks::{Opened, Sinks};
use super::stats::Stats;
use crate::error::{Error, Result, Status};
use crate::net::{Moved, Socket};

/// Most messages of one read. Each hand-over may wake a reader, which can begin while the rest is
/// decrypted.
const BATCH: usize = 256;
/// Bytes after which a read ends earlier.
const BATCH_BYTES: usize = 128 << 10;
/// Most messages of one write, before the socket is read again. A peer may take an upload as fast
/// as it is encrypted, and answer during the upload.
const WRITES: usize = 16;
/// Time for a close frame. The socket usually takes it at once.
const GOODBYE: Duration = Duration::from_millis(200);

/// A command of the handle to the task. Its large parts are boxed, because an idle connection keeps
/// room for 32 commands.
pub(super) enum Command {
    Open(Box<Opened>),
    Cancel(i64),
    /// Brings the next part of an upload, or the error of its source.
    Supply(i64, Box<Result<Data>>),
    /// A reader made room.
    Resume,
    /// The network changed.
    Probe,
    /// A newer connection replaces this one: end when the last open request has ended.
    Retire,
    /// End now, for this reason.
    Close(Error),
}

pub(super) struct Driver {
    socket: Socket,
    core: Core,
    sinks: Sinks,
    stats: Arc<Stats>,
    commands: UnboundedReceiver<Command>,
    timer: Pin<Box<Sleep>>,
    /// The socket may hold bytes that are not written yet.
    unflushed: bool,
    /// The socket's byte counts when they were last looked at.
    moved: Moved,
    /// This side ends the connection, so it sends a close frame.
    closing: bool,
    /// Tells the handle why the connection ended.
    ended: Arc<OnceLock<Error>>,
}

impl Driver {
    pub(super) fn new(
        socket: Socket,
        core: Core,
        sinks: Sinks,
        stats: Arc<Stats>,
        commands: UnboundedReceiver<Command>,
        ended: Arc<OnceLock<Error>>,
    ) -> Driver {
        let first = core.poll_timeout().unwrap_or_else(Instant::now);
        Driver {
            socket,
            core,
            sinks,
            stats,
            commands,
            timer: Box::pin(tokio::time::sleep_until(first.into())),
            unflushed: false,
            moved: Moved::default(),
            closing: false,
            ended,
        }
    }

    /// Runs until the connection ends, and returns why. Every request has ended then.
    pub(super) async fn run(&mut self) -> Error {
        let error = poll_fn(|cx| self.poll(cx)).await;
        self.end(&error).await;
        if self.closing {
            self.say_goodbye().await;
        }
        error
    }

    /// Ends every request, including those in the command channel. The channel is empty only once
    /// no thread is in the middle of sending.
    pub(super) async fn end(&mut self, error: &Error) {
        self.fail(error);
        while let Some(command) = self.commands.recv().await {
            refuse(command, error);
        }
    }

    fn fail(&mut self, error: &Error) {
        let _ = self.ended.set(error.clone()); // first: later requests get this error
        let now = Instant::now();
        self.core.fail(error, now);
        self.sinks.route(&mut self.core, now);
        self.commands.close();
    }

    /// Sends a close frame if the socket takes it at once. Closing does not wait for the peer.
    async fn say_goodbye(&mut self) {
        let now = tokio::time::Instant::now();
        let _ = tokio::time::timeout_at(now + GOODBYE, self.socket.close(None)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match self.advance(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// Does all that can be done now. Everything else has registered its wake-up.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            let now = Instant::now();
            self.obey(cx, now)?;
            let written = self.write(cx, now);
            let now = Instant::now(); // an answer can come while its request is written
            self.notice_movement(now);
            let more = self.read(cx, now)?;
            self.sinks.deliver(&mut self.core, now);
            let blocked = match written {
                Ok(blocked) => blocked,
                // Read first what the server sent before it left. A paused reader delays that.
                Err(error) if !more && self.core.reading() => return Err(error),
                Err(_) => true,
            };
            self.notice_movement(now);
            let ticked = self.keep_time(cx, now)?;
            if self.core.retired() {
                self.closing = true;
                let message = "a newer connection has replaced this one";
                return Err(Error::new(Status::Closed, message));
            }
            let can_write = !blocked && self.core.has_outgoing();
            if !more && !ticked && !can_write {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<()> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                Some(Command::Open(opened)) => self.sinks.open(&mut self.core, *opened, now),
                Some(Command::Cancel(id)) => self.core.cancel(id, now),
                Some(Command::Supply(id, data)) => self.core.supply(id, *data, now),
                Some(Command::Resume) => self.core.resume(now),
                Some(Command::Probe) => self.core.probe(now),
                Some(Command::Retire) => self.core.retire(),
                Some(Command::Close(why)) => {
                    self.closing = true;
                    return Err(why);
                }
                None => {
                    self.closing = true;
                    return Err(Error::new(Status::Closed, "the client was closed"));
                }
            }
        }
        self.sinks.route(&mut self.core, now);
        Ok(())
    }

    /// Writes a batch, as long as the socket takes messages. Returns true if it takes no more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool> {
        let mut blocked = false;
        for _ in 0..WRITES {
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Pending => {
                    blocked = true;
                    break;
                }
                Poll::Ready(ready) => ready.map_err(lost)?,
            }
            let message = self.core.poll_transmit(now)?;
            // An upload may bring its next chunk.
            self.sinks.route(&mut self.core, now);
            let Some(message) = message else {
                break;
            };
            Pin::new(&mut self.socket)
                .start_send(Message::Binary(message))
                .map_err(lost)?;
            self.unflushed = true;
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(cx)
        {
            flushed.map_err(lost)?;
            self.unflushed = false;
        }
        Ok(blocked)
    }

    /// Reads a batch. Returns true if there may be more to read at once.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool> {
        let mut bytes = 0;
        for _ in 0..BATCH {
            if !self.core.reading() {
                return Ok(false);
            }
            let message = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(message) => message,
            };
            if let Some(Ok(message)) = &message {
                bytes += message.len();
            }
            self.take(message, now)?;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(self.core.reading())
    }

    fn take(&mut self, message: Option<tungstenite::Result<Message>>, now: Instant) -> Result<()> {
        match message {
            Some(Ok(Message::Binary(message))) => {
                self.core.receive(&message, now)?;
                self.sinks.route(&mut self.core, now);
                Ok(())
            }
            Some(Ok(Message::Text(_))) => Err(Error::new(
                Status::Protocol,
                "the server sent a text message (expected only binary ones)",
            )),
            Some(Ok(Message::Close(frame))) => Err(closed(frame, During::Session)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.unflushed = true; // tungstenite queued the pong
                Ok(())
            }
            Some(Err(error)) => Err(lost(error)),
            None => Err(closed(None, During::Session)),
        }
    }

    fn notice_movement(&mut self, now: Instant) {
        let moved = self.socket.get_ref().moved();
        if moved == self.moved {
            return;
        }
        let sent = moved.sent - self.moved.sent;
        let received = moved.received - self.moved.received;
        self.core.moved(now, sent, received, !self.unflushed);
        Stats::count(&self.stats.bytes_sent, sent);
        Stats::count(&self.stats.bytes_received, received);
        self.moved = moved;
    }

    /// Acts if the core's deadline has passed, and returns true then. Activity only moves deadlines
    /// back, so the timer is set when it has fired or when an earlier deadline came up, and not for
    /// each message.
    fn keep_time(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool> {
        let Some(deadline) = self.core.poll_timeout() else {
            return Ok(false);
        };
        if deadline <= now {
            self.core.tick(now)?;
            return Ok(true);
        }
        if deadline < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(deadline.into());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(deadline.into());
            return Ok(true); // look at the clock again
        }
        Ok(false)
    }
}

impl Drop for Driver {
    /// Ends every request if the worker died and dropped this task.
    fn drop(&mut self) {
        if self.ended.get().is_some() {
            return;
        }
        let error = worker_gone();
        self.fail(&error);
        while let Ok(command) = self.commands.try_recv() {
            refuse(command, &error);
        }
    }
}

/// Ends a request that was still on its way to the task.
fn refuse(command: Command, error: &Error) {
    if let Command::Open(opened) = command {
        opened.receiver.end(Err(error.clone()));
    }
}
