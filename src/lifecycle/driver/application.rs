//! The calls of an application.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Lifecycle, State};
use crate::attestation::Evidenced;
use crate::error::{Error, Result};
use crate::host::{Callbacks, Hold, Runtime};
use crate::lifecycle::core::{Phase, closed};
use crate::lifecycle::observer::{Asker, Observer};
use crate::net::Token;
use crate::session::Limits;

impl Lifecycle {
    /// The application says that the network changed: probes the connection, or connects without a
    /// pause.
    pub fn network_changed(&self) {
        self.input(|core, now| core.network_changed(now));
    }

    /// Gives the client a fresh token without a question.
    pub fn set_token(&self, token: Token) {
        self.input(|core, now| core.set_token(token, now));
    }

    /// Adds an observer, which first receives the present state. The client does not keep it.
    pub fn watch(&self, watch: Arc<dyn Observer>) {
        let mut state = self.state();
        state.new_watches.push(watch);
        self.act(state);
    }

    /// Waits until the client is connected, or until `deadline`. Returns whether it is. Fails with
    /// the client's error if it ends.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        self.wait_for(deadline, |state| {
            state.core.phase() == Phase::Connected && self.end_of(state).is_none()
        })
    }

    /// Waits until the client was connected once, or until `deadline`. Returns whether it was. Fails
    /// with the client's error if it ends before.
    pub fn wait_for_first(&self, deadline: Instant) -> Result<bool> {
        self.wait_for(Some(deadline), |_| self.was_connected())
    }

    fn wait_for(
        &self,
        deadline: Option<Instant>,
        reached: impl Fn(&State) -> bool,
    ) -> Result<bool> {
        let mut state = self.state();
        loop {
            if reached(&state) {
                return Ok(true);
            }
            if let Some(error) = self.end_of(&state) {
                return Err(error);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// The verified evidence of the connection in use, or of the last one.
    pub fn evidenced(&self) -> Option<Arc<Evidenced>> {
        self.state().core.evidenced().cloned()
    }

    /// Whether there was a connection at any time.
    pub fn was_connected(&self) -> bool {
        self.attempts.connected.load(Ordering::Relaxed) > 0
    }

    /// The client's state.
    pub fn phase(&self) -> Phase {
        self.state().core.phase()
    }

    /// The error with which the client ended.
    pub fn end_error(&self) -> Option<Error> {
        self.end_of(&self.state())
    }

    pub(super) fn end_of(&self, state: &State) -> Option<Error> {
        if let Some(error) = state.core.end_error() {
            return Some(error.clone());
        }
        // The end of the only connection may not have been reported yet.
        let current = state.core.current().filter(|_| !state.core.reconnects())?;
        state.connections.get(&current)?.end()
    }

    /// The client's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The runtime. Fails once the client was closed.
    pub fn runtime(&self) -> Result<Arc<Runtime>> {
        self.state().runtime.clone().ok_or_else(closed)
    }

    /// The thread for callbacks, started at first use, and held for the caller.
    pub fn callbacks(&self) -> Result<(Arc<Callbacks>, Hold)> {
        let mut state = self.state();
        if state.runtime.is_none() {
            return Err(closed());
        }
        let callbacks = match &state.callbacks {
            Some(callbacks) => callbacks.clone(),
            None => state.callbacks.insert(Callbacks::start()?).clone(),
        };
        // Under the lock, so that `close` sees the hold.
        let hold = callbacks.hold();
        Ok((callbacks, hold))
    }

    /// The client's callback thread, if it has one.
    pub fn callback_thread(&self) -> Option<Arc<Callbacks>> {
        self.state().callbacks.clone()
    }

    /// Ends the client and every request. The threads end after the tasks.
    pub fn close(&self) {
        let mut state = self.state();
        state.core.close();
        let runtime = state.runtime.take();
        let parked = std::mem::take(&mut state.parked);
        self.act(state);
        let parked = parked.iter().filter_map(Weak::upgrade);
        parked.for_each(|stream| stream.end(closed()));
        self.earlier.notify_one(); // ends the timer's task
        drop(runtime);
    }
}

impl Asker for Lifecycle {
    fn answer_token(&self, question: u64, answer: Result<Token>) -> Result<()> {
        self.input(|core, now| core.answer_token(question, answer, now))
    }

    fn answer_release(&self, question: u64, accept: bool) -> Result<()> {
        self.input(|core, now| core.answer_release(question, accept, now))
    }
}
