//! The receiver of one request: what the driver reports to it.

use std::time::Instant;

use super::core::{Left, Piece};
use crate::error::{Error, Result};

/// Follows one request from its start to its end.
pub trait Receiver: Send {
    /// A part of the request left. Returns true if there is something to [`Receiver::flush`].
    fn sent(&mut self, left: Left, now: Instant) -> bool {
        let _ = (left, now);
        false
    }
    /// The request is sent again from its beginning. Nothing of its answer has arrived.
    fn restart(&mut self) {}
    /// Takes the pieces of the answer that one read of the socket brought, in order. May keep the
    /// resulting events for [`Receiver::flush`]. Pieces that it leaves after the answer's end are
    /// dropped.
    fn pieces(&mut self, pieces: &mut Vec<Piece>) -> Flow;
    /// Delivers the events of the last pieces.
    fn flush(&mut self) -> Result<()>;
    /// Whether the application leaves so much unread that the driver should stop reading the
    /// socket.
    fn pause_if_full(&self) -> bool;
    /// The request has ended, or was not sent at all. Called once; nothing is called after it.
    fn end(self: Box<Self>, result: Result<()>);
}

/// Whether an answer continues.
pub enum Flow {
    /// More pieces follow.
    More,
    /// The answer is whole.
    Done,
    /// The answer is not what its route gives. Ends the request, not the connection.
    Broken(Error),
}
