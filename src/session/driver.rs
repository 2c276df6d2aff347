//! The one task of a connection: moves messages between the socket and the core, and watches the clock.
//!
//! It polls everything itself instead of selecting over futures: reading goes on while a write waits, and nothing is
//! encrypted before the socket takes it. It must never know what a message holds.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::{Sink, Stream as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::core::{Core, Opening};
use super::upload::Data;
use crate::error::{Error, Result, Status};
use crate::net::{Moved, Socket};

/// Messages that are read before their events are handed over: each hand-over may wake the reader, but it can begin
/// while the rest is decrypted.
const BATCH: usize = 256;
/// Bytes of them, after which a batch ends earlier.
const BATCH_BYTES: usize = 128 << 10;

/// What the handle asks of the task.
pub(super) enum Command {
    Open(Opening),
    Cancel(i64),
    /// The next part of an upload, or why there is none.
    Supply(i64, Result<Data>),
    /// A reader made room.
    Resume,
    /// The network changed: is the peer still there?
    Probe,
    /// No new requests will come; end with the last of those that are open.
    Retire,
    /// End, for this reason.
    Close(Error),
}

pub(super) struct Driver {
    socket: Socket,
    core: Core,
    commands: UnboundedReceiver<Command>,
    timer: Pin<Box<Sleep>>,
    /// What was written to the socket is not flushed yet.
    unflushed: bool,
    /// What the socket had moved when it was last looked at.
    moved: Moved,
    closing: bool,
    /// Why the connection ended, for the handle.
    ended: Arc<OnceLock<Error>>,
}

impl Driver {
    pub(super) fn new(
        socket: Socket,
        core: Core,
        commands: UnboundedReceiver<Command>,
        ended: Arc<OnceLock<Error>>,
    ) -> Driver {
        let timer = Box::pin(tokio::time::sleep_until(core.deadline().into()));
        Driver {
            socket,
            core,
            commands,
            timer,
            unflushed: false,
            moved: Moved::default(),
            closing: false,
            ended,
        }
    }

    /// Runs until the connection ends, and says why. Every open request has ended then.
    pub(super) async fn run(&mut self) -> Error {
        let error = poll_fn(|cx| self.poll(cx)).await;
        self.end(&error).await;
        if self.closing {
            self.say_goodbye().await;
        }
        error
    }

    /// Ends every request, also those that are on their way into the core: the channel is empty only once no thread is
    /// in the middle of sending.
    pub(super) async fn end(&mut self, error: &Error) {
        let _ = self.ended.set(error.clone()); // first: a request that comes too late is told why
        self.core.fail(error);
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            if let Command::Open(opening) = command {
                opening.receiver.end(Err(error.clone()));
            }
        }
    }

    /// A close frame, if the socket takes it at once: whoever closes does not wait for the peer.
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

    /// Does all that can be done now; whatever cannot has registered its wake-up.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            let now = Instant::now();
            self.obey(cx, now)?;
            let written = self.write(cx, now);
            let now = Instant::now(); // an answer can come while its request is written
            self.notice_movement(now);
            let more = self.read(cx, now)?;
            self.core.flush(now);
            // What the server sent before it went is read first. That waits for a reader that pauses.
            if !more && self.core.reading() {
                written?;
            }
            self.notice_movement(now);
            let ticked = self.keep_time(cx, now)?;
            if self.core.retired() {
                self.closing = true;
                let message = "a newer connection has replaced this one";
                return Err(Error::new(Status::Closed, message));
            }
            if !more && !ticked && !self.core.has_news() {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<()> {
        while let Poll::Ready(command) = self.commands.poll_recv(cx) {
            match command {
                Some(Command::Open(opening)) => self.core.open(opening, now),
                Some(Command::Cancel(id)) => self.core.cancel(id, now),
                Some(Command::Supply(id, data)) => self.core.supply(id, data, now),
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
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<()> {
        let mut socket = Pin::new(&mut self.socket);
        while let Poll::Ready(ready) = socket.as_mut().poll_ready(cx) {
            ready.map_err(lost)?;
            let Some(message) = self.core.transmit(now)? else {
                break;
            };
            socket
                .as_mut()
                .start_send(Message::Binary(message))
                .map_err(lost)?;
            self.unflushed = true;
        }
        if self.unflushed
            && let Poll::Ready(flushed) = socket.poll_flush(cx)
        {
            flushed.map_err(lost)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Reads a batch. True: there may be more to read at once.
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
            Some(Ok(Message::Binary(message))) => self.core.receive(&message, now),
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
        if moved != self.moved {
            self.core.moved(
                now,
                moved.sent - self.moved.sent,
                moved.received - self.moved.received,
                !self.unflushed,
            );
            self.moved = moved;
        }
    }

    /// Keeps the timer no later than the core's next deadline. Activity only moves deadlines back, so the timer is set
    /// when it has fired or when something earlier came up, and not for each message.
    fn keep_time(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool> {
        let deadline = self.core.deadline();
        if deadline <= now {
            self.core.tick(now)?;
            return Ok(true);
        }
        if deadline < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(deadline.into());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(deadline.into());
            return Ok(true); // and look at the clock again
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
        let _ = self.ended.set(error.clone());
        self.core.fail(&error);
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Open(opening) = command {
                opening.receiver.end(Err(error.clone()));
            }
        }
    }
}

/// The error of a connection whose task was dropped.
pub fn worker_gone() -> Error {
    let message = "connection lost: the library's worker thread is gone";
    Error::new(Status::ConnectionLost, message)
}

/// How long a close frame may take; the socket usually takes it at once.
const GOODBYE: std::time::Duration = std::time::Duration::from_millis(200);

/// The socket's own errors. None of them repeats what was sent.
pub(super) fn lost(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Error::new(
                Status::Limit,
                format!("the server sent a WebSocket message of {size} bytes (at most {max_size})"),
            )
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed => closed(None, During::Session),
        tungstenite::Error::Protocol(error) => Error::new(
            Status::Protocol,
            format!("the server broke the WebSocket protocol: {error}"),
        ),
        tungstenite::Error::Utf8(_) => Error::new(
            Status::Protocol,
            "the server sent a text message (expected only binary ones)",
        ),
        tungstenite::Error::Io(error) => {
            Error::new(Status::ConnectionLost, format!("connection lost: {error}"))
        }
        _ => Error::new(Status::ConnectionLost, "connection lost"),
    }
}

/// When the peer closed: the same code means something else then.
#[derive(Clone, Copy)]
pub(super) enum During {
    Handshake,
    Session,
}

/// The peer closed (protocol section 4, "Close codes"). Its reason is kept as the peer's text: it may repeat a prompt.
pub(super) fn closed(frame: Option<CloseFrame>, during: During) -> Error {
    let what = "the server closed the connection";
    let Some(CloseFrame { code, reason }) = frame else {
        return Error::new(
            Status::ConnectionLost,
            format!("{what} without a close code"),
        );
    };
    let code = u16::from(code);
    let meaning = match (code, during) {
        (1003, _) => ": it cannot accept what it received",
        (1011, During::Handshake) => ": the handshake failed on its side",
        (1011, During::Session) => {
            ": something failed on its side, such as decryption, a response or a stream"
        }
        _ => "",
    };
    let mut message = format!("{what}{meaning} (close code {code})");
    if reason.is_empty() {
        return Error::new(Status::ConnectionLost, message);
    }
    message += "; the error's peer text has its reason";
    Error::new(Status::ConnectionLost, message).with_peer_text(reason.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u16, reason: &str) -> Option<CloseFrame> {
        Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })
    }

    #[test]
    fn close_codes_mean_what_they_mean_at_their_stage() {
        for (code, during, part) in [
            (1003, During::Handshake, "cannot accept what it received"),
            (1003, During::Session, "cannot accept what it received"),
            (1011, During::Handshake, "the handshake failed on its side"),
            (1011, During::Session, "decryption, a response or a stream"),
            (
                4000,
                During::Session,
                "closed the connection (close code 4000)",
            ),
        ] {
            let error = closed(frame(code, ""), during);
            assert!(error.message().contains(part), "{error}");
            assert!(
                error.message().ends_with(&format!("(close code {code})")),
                "{error}"
            );
            assert_eq!(error.peer_text(), None);
        }
        let error = closed(None, During::Session);
        assert_eq!(
            error.message(),
            "the server closed the connection without a close code"
        );
    }

    #[test]
    fn close_reason_is_kept_apart_from_the_message() {
        let error = closed(frame(1011, "a prompt\nand \u{1b}[31mmore"), During::Session);
        assert!(!format!("{error} {error:?} {}", error.message()).contains("prompt"));
        assert_eq!(
            error.peer_text(),
            Some("a prompt\u{fffd}and \u{fffd}[31mmore")
        );
    }
}
