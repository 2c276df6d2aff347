//! Calls a stream's callbacks on the client's callback thread.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::user_data::UserData;
use crate::client::{Callbacks, Event, Hold, Next, Pump, Signal};
use crate::error::{Error, Progress, Result, Status};
use crate::ffi::callbacks::{Table, confer_stream_callbacks};
use crate::ffi::error::confer_error;
use crate::ffi::event::confer_event;
use crate::ffi::status::CONFER_OK;
use crate::ffi::stream::confer_stream;
use crate::panics;

/// Delivers a stream's events, or wakes the application that takes them.
pub(crate) struct Delivery {
    this: Weak<Delivery>,
    thread: Arc<Callbacks>,
    /// `None` after `on_done`. Only the callback thread uses it.
    open: Mutex<Option<Open>>,
}

impl Delivery {
    pub(crate) fn new(
        stream: Arc<confer_stream>,
        table: Table,
        thread: Arc<Callbacks>,
        hold: Hold,
    ) -> Arc<Delivery> {
        Arc::new_cyclic(|this| Delivery {
            this: this.clone(),
            thread,
            open: Mutex::new(Some(Open {
                stream,
                calls: table.calls,
                _user_data: table.user_data,
                _hold: hold,
            })),
        })
    }
}

struct Open {
    stream: Arc<confer_stream>,
    calls: confer_stream_callbacks,
    /// Dropped after the stream. The drop calls `destroy`.
    _user_data: UserData,
    /// Keeps the callback thread until then.
    _hold: Hold,
}

// SAFETY: the table's pointers are the application's, which the header asks to be callable on the
// callback thread; no other thread uses them.
unsafe impl Send for Open {}

/// Events that one stream delivers before another has its turn.
const TURN: usize = 64;

impl Signal for Delivery {
    fn raise(&self) {
        if let Some(this) = self.this.upgrade() {
            self.thread.post_pump(this);
        }
    }

    fn clear(&self) {}
}

impl Pump for Delivery {
    fn run(&self) -> bool {
        // Taken out while the callbacks run, so that they hold no lock. Only this thread runs
        // pumps.
        let Some(open) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return false;
        };
        let turn = panics::catch(|| open.turn()).unwrap_or_else(|panic| {
            open.stream.cancel();
            Turned::Done(Err(panic))
        });
        match turn {
            Turned::Done(result) => open.done(result),
            Turned::Over => {}
            // Events that came after `Waits` have raised the signal, which posted this pump again.
            Turned::Waits | Turned::GoesOn => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
                return matches!(turn, Turned::GoesOn);
            }
        }
        false
    }
}

/// The result of a stream's turn.
enum Turned {
    /// Nothing to deliver now.
    Waits,
    /// More remains, after other streams had their turn.
    GoesOn,
    /// The stream has ended, and `on_done` is due.
    Done(Result<()>),
    /// `on_done` was called before.
    Over,
}

impl Open {
    fn handle(&self) -> *mut confer_stream {
        Arc::as_ptr(&self.stream).cast_mut()
    }

    fn turn(&self) -> Turned {
        match self.calls.on_ready {
            None => self.deliver(),
            Some(on_ready) => {
                // Read before the call: an end that comes during it posts this pump again, for
                // another call.
                let end = self.stream.ended();
                if !self.stream.is_freed() {
                    // SAFETY: the application gave function and user data together; the handle
                    // lives during the call.
                    unsafe { on_ready(self.calls.user_data, self.handle()) };
                }
                end.map_or(Turned::Waits, Turned::Done)
            }
        }
    }

    /// Delivers waiting events, up to [`TURN`].
    fn deliver(&self) -> Turned {
        let at_once = Some(Instant::now());
        for _ in 0..TURN {
            match self.stream.take(at_once) {
                Next::Item(event) => {
                    if !self.event(event) {
                        self.stream.cancel();
                        let stopped = Error::new(Status::Stopped, "on_event asked to stop");
                        return Turned::Done(Err(stopped.with_progress(Progress::PartlyAnswered)));
                    }
                }
                Next::End(result) => return Turned::Done(result),
                Next::Over => return Turned::Over,
                Next::Empty => return Turned::Waits,
            }
        }
        Turned::GoesOn
    }

    fn event(&self, event: Event) -> bool {
        let Some(on_event) = self.calls.on_event else {
            return true;
        };
        let event = confer_event::new(event);
        // SAFETY: the application gave function and user data together; handle and event live
        // during the call.
        unsafe { on_event(self.calls.user_data, self.handle(), &raw const event) == 0 }
    }

    /// Ends the stream: `on_done`, and then, by dropping the user data, `destroy`.
    fn done(self, result: Result<()>) {
        let error = result.err().map(confer_error::new);
        if let Some(on_done) = self.calls.on_done {
            let lent = error.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let status = error.as_ref().map_or(CONFER_OK, confer_error::status);
            // SAFETY: as in `event`; the error lives during the call.
            unsafe { on_done(self.calls.user_data, self.handle(), status, lent) };
        }
    }
}
