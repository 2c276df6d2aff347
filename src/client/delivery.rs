//! Delivers a stream's events to callbacks, on the client's callback thread. Or wakes the
//! application, which then takes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::event::Event;
use super::inbox::{Next, Signal};
use super::stream::Stream;
use crate::error::{Error, Progress, Result, Status};
use crate::host::{Callbacks, Hold, Pump};
use crate::panics;

/// The callbacks of one stream. Only the callback thread calls them.
pub trait Calls: Send {
    /// Returns their stream.
    fn stream(&self) -> &Stream;
    /// Whether the application takes the events itself, after [`Calls::ready`].
    fn takes(&self) -> bool;
    /// Wakes the application.
    fn ready(&self);
    /// Delivers an event. Returns false to stop the stream.
    fn event(&self, event: Event) -> bool;
    /// Delivers the end. It is the last call.
    fn done(self, result: Result<()>);
}

/// Delivers the events of a stream. It is the signal of the stream's inbox.
pub struct Delivery<C> {
    this: Weak<Delivery<C>>,
    thread: Arc<Callbacks>,
    /// It delivers a watch, whose events go before those of requests.
    urgent: bool,
    /// It waits for its turn on the thread, so it is not posted again.
    posted: AtomicBool,
    /// `None` after the last call, and during each turn.
    open: Mutex<Option<Open<C>>>,
}

struct Open<C> {
    calls: C,
    /// Dropped after the callbacks.
    hold: Hold,
}

impl<C: Calls> Delivery<C> {
    /// Creates a delivery. `hold` keeps `thread` until the last call has returned.
    pub fn new(calls: C, thread: Arc<Callbacks>, hold: Hold) -> Arc<Delivery<C>> {
        Arc::new_cyclic(|this| Delivery {
            this: this.clone(),
            thread,
            urgent: calls.stream().is_watch(),
            posted: AtomicBool::new(false),
            open: Mutex::new(Some(Open { calls, hold })),
        })
    }
}

impl<C: Calls + 'static> Signal for Delivery<C> {
    fn raise(&self) {
        if let Some(this) = self.this.upgrade()
            && !self.posted.swap(true, Ordering::AcqRel)
        {
            self.thread.post_pump(this);
        }
    }

    fn clear(&self) {}
}

impl<C: Calls> Pump for Delivery<C> {
    fn urgent(&self) -> bool {
        self.urgent
    }

    fn run(&self) -> bool {
        self.posted.store(false, Ordering::Release);
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out during the turn, so no callback runs under the lock.
        let Some(Open { calls, hold }) = open().take() else {
            return false;
        };
        let turned = panics::catch(|| self.turn(&calls)).unwrap_or_else(|panic| {
            calls.stream().cancel();
            Turned::Done(Err(panic))
        });
        match turned {
            Turned::Done(result) => calls.done(result),
            // An event that came after `Waits` raised the signal, and so posted this pump again.
            Turned::Waits | Turned::GoesOn => {
                *open() = Some(Open { calls, hold });
                return matches!(turned, Turned::GoesOn);
            }
        }
        false
    }
}

/// The result of a turn.
enum Turned {
    /// All events were delivered.
    Waits,
    /// More events wait.
    GoesOn,
    /// The stream has ended, and the last call is due.
    Done(Result<()>),
}

/// Events that one stream delivers before another has its turn.
const TURN: usize = 64;

impl<C: Calls> Delivery<C> {
    fn turn(&self, calls: &C) -> Turned {
        let stream = calls.stream();
        if calls.takes() {
            // Read before the call: an end that comes later posts this pump again, for another call.
            let end = stream.ended();
            calls.ready();
            return end.map_or(Turned::Waits, Turned::Done);
        }
        let at_once = Some(Instant::now());
        for _ in 0..TURN {
            match stream.next(at_once) {
                Next::Item(event) => {
                    if !calls.event(event) {
                        stream.cancel();
                        let stopped = Error::new(Status::Stopped, "on_event asked to stop");
                        return Turned::Done(Err(stopped.with_progress(Progress::PartlyAnswered)));
                    }
                    if !self.urgent && self.thread.urgent_waits() {
                        return Turned::GoesOn;
                    }
                }
                Next::End(result) => return Turned::Done(result),
                Next::Empty => return Turned::Waits,
            }
        }
        Turned::GoesOn
    }
}
