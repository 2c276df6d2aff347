//! Where one request of an application is: it can wait for a connection, be on one, or be between two.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::net::Token;
use crate::session::{Session, WeakSession};

/// The place of one stream's request, as its handle and its readers know it.
#[derive(Default)]
pub struct Exchange(Mutex<State>);

#[derive(Default)]
struct State {
    cancelled: bool,
    /// The number of the connection that it was given to last.
    serial: u64,
    at: Option<(WeakSession, i64)>,
    /// The token of that connection.
    token: Option<Token>,
    order: Option<u64>,
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the request to connection `serial` by `give`, which returns its id there. The connection may tell of its end
    /// before this returns: whoever asks then waits until it has.
    pub(super) fn place<E>(
        &self,
        session: &Session,
        serial: u64,
        token: &Token,
        give: impl FnOnce() -> Result<i64, E>,
    ) -> Result<(), E> {
        let mut state = self.state();
        let id = give()?;
        (state.serial, state.at) = (serial, Some((session.downgrade(), id)));
        state.token = Some(token.clone());
        if state.cancelled {
            session.cancel(id); // in between it was on no connection
        }
        Ok(())
    }

    /// It is on no connection, and waits for one under this number. True: it was given up, and need not.
    pub(super) fn leave(&self, order: u64) -> bool {
        let mut state = self.state();
        (state.at, state.order) = (None, Some(order));
        state.cancelled
    }

    /// The number under which it waited last.
    pub(super) fn order(&self) -> Option<u64> {
        self.state().order
    }

    /// The number of the connection that it was given to last.
    pub(super) fn serial(&self) -> u64 {
        self.state().serial
    }

    /// The token of the connection that it was given to last.
    pub(super) fn token(&self) -> Option<Token> {
        self.state().token.clone()
    }

    /// The connection that it was given to has ended.
    pub(super) fn connection_ended(&self) -> bool {
        let state = self.state();
        state
            .at
            .as_ref()
            .is_none_or(|(session, _)| session.has_ended())
    }

    /// The application gives it up. False: it is on no connection that would tell of its end.
    pub fn cancel(&self) -> bool {
        let mut state = self.state();
        state.cancelled = true;
        match &state.at {
            Some((session, id)) => session.cancel(*id),
            None => false,
        }
    }

    /// Whether the application gave it up.
    pub fn cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// The reader made room.
    pub fn resume(&self) {
        if let Some((session, _)) = &self.state().at {
            session.resume();
        }
    }
}
