//! Performs the actions of the core.

use std::sync::{Arc, MutexGuard, Weak};

use super::{Lifecycle, Place, State, count};
use crate::error::{Error, Result, Status};
use crate::lifecycle::core::{Action, AttemptId, ConnectionId, Notice, Phase, RequestId};
use crate::lifecycle::observer::{Asker, News, Observer};
use crate::lifecycle::request::Owner;
use crate::lifecycle::tasks::{self, Dial, Means, Reports};
use crate::net::Token;
use crate::panics;

impl Lifecycle {
    /// Performs the core's actions, unless another thread does.
    pub(super) fn act<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.acting {
            return;
        }
        state.acting = true;
        // A wait for the client's end also waits for these actions.
        let means = state.means.clone();
        loop {
            let work = match panics::catch(|| self.next_work(&mut state)) {
                Ok(Some(work)) => work,
                Ok(None) => break,
                Err(_) if state.core.phase() == Phase::Ended => break,
                Err(panic) => {
                    state.core.fail(panic);
                    continue;
                }
            };
            drop(state);
            let _ = panics::catch(work);
            state = self.state();
        }
        state.acting = false;
        let phase = state.core.phase();
        if state.phase != phase {
            state.phase = phase;
            self.changed.notify_all();
        }
        drop(state);
        drop(means);
    }

    /// Performs actions up to one that has work outside the lock, which it returns. `None`: all is
    /// done, and the timer is set.
    fn next_work(&self, state: &mut State) -> Option<Box<dyn FnOnce() + '_>> {
        loop {
            while let Some(action) = state.core.poll_action() {
                if let Some(work) = self.perform(state, action) {
                    return Some(work);
                }
            }
            if let Some(watch) = state.new_watches.pop() {
                return Some(self.introduce(state, watch));
            }
            let Err(error) = self.set_timer(state) else {
                return None;
            };
            // Without a timer no deadline can be kept.
            state.core.finish_waiting(&error);
            if state.core.poll_timeout().is_some() {
                state.core.fail(error);
            }
        }
    }

    /// Reports the present state to a new observer.
    fn introduce(&self, state: &mut State, watch: Arc<dyn Observer>) -> Box<dyn FnOnce() + '_> {
        state.watches.retain(|watch| watch.strong_count() > 0);
        state.watches.push(Arc::downgrade(&watch));
        let (present, question) = (state.core.present(), state.question.clone());
        let asker: Weak<dyn Asker> = self.weak();
        Box::new(move || {
            for notice in &present {
                watch.notice(&News::Notice(notice));
            }
            if let Some(question) = &question {
                watch.notice(&News::Asked(question, &asker));
            }
        })
    }

    /// Passes news to the observers, outside the lock.
    fn telling<'a>(
        &'a self,
        state: &State,
        means: Arc<Means>,
        tell: impl Fn(&dyn Fn(&News<'_>)) + 'a,
    ) -> Option<Box<dyn FnOnce() + 'a>> {
        let watches: Vec<_> = state.watches.iter().filter_map(Weak::upgrade).collect();
        Some(Box::new(move || {
            tell(&|news| {
                if let News::Notice(notice) = news {
                    means.record(notice, self.was_connected());
                }
                for watch in &watches {
                    watch.notice(news);
                }
            });
        }))
    }

    /// Performs an action. Returns the part of it that must run outside the lock.
    fn perform(&self, state: &mut State, action: Action) -> Option<Box<dyn FnOnce() + '_>> {
        match action {
            Action::Dial { attempt, token } => self.dial(state, attempt, token),
            Action::Approve { attempt, approved } => {
                state.dials.get_mut(&attempt)?.approve(approved);
                None
            }
            Action::Abort { attempt } => {
                let dial = state.dials.remove(&attempt);
                Some(Box::new(move || drop(dial)))
            }
            Action::Send {
                request,
                connection,
                again,
            } => self.send(state, request, connection, again),
            Action::Cancel { request } => {
                if let Some(Place::On { connection, id }) = state.requests.get(&request)
                    && let Some(session) = state.connections.get(connection)
                {
                    session.cancel(*id);
                }
                None
            }
            Action::Finish { request, result } => {
                let Some(Place::Here(job)) = state.requests.remove(&request) else {
                    return None;
                };
                Some(Box::new(move || job.receiver.end(result)))
            }
            Action::Probe { connection } => {
                state.connections.get(&connection)?.probe();
                None
            }
            Action::Retire { connection } => {
                state.connections.get(&connection)?.retire();
                None
            }
            Action::Close { connection, why } => {
                state.connections.get(&connection)?.end_with(why);
                None
            }
            Action::Ask(question) => {
                state.question = Some(question.clone());
                let means = state.means.clone()?;
                let asker: Weak<dyn Asker> = self.weak();
                self.telling(state, means, move |tell| {
                    tell(&News::Asked(&question, &asker))
                })
            }
            Action::Withdraw { question } => {
                state.question = None;
                let means = state.means.clone()?;
                self.telling(state, means, move |tell| tell(&News::Over(question)))
            }
            Action::Notify(notice) => {
                // No task begins after the client's end.
                let means = match &notice {
                    Notice::Ended(_) => state.means.take()?,
                    _ => state.means.clone()?,
                };
                if matches!(notice, Notice::Failed(_)) && self.was_connected() {
                    count(&self.attempts.failed);
                }
                self.telling(state, means, move |tell| tell(&News::Notice(&notice)))
            }
        }
    }

    fn dial(
        &self,
        state: &mut State,
        attempt: AttemptId,
        token: Token,
    ) -> Option<Box<dyn FnOnce() + '_>> {
        let (runtime, means) = (state.runtime.clone()?, state.means.clone()?);
        let hold = state.callbacks.as_ref().map(|callbacks| callbacks.hold());
        let (dial, orders) = Dial::new();
        state.dials.insert(attempt, dial);
        Some(Box::new(move || {
            let began = tasks::dial(self.weak(), attempt, token, orders, runtime, means, hold);
            if let Err(error) = began {
                self.attempt_failed(attempt, error);
            }
        }))
    }

    fn send(
        &self,
        state: &mut State,
        request: RequestId,
        connection: ConnectionId,
        again: bool,
    ) -> Option<Box<dyn FnOnce() + '_>> {
        let Some(Place::Here(job)) = state.requests.remove(&request) else {
            return None;
        };
        let Some(session) = state.connections.get(&connection) else {
            // It broke after the core's decision.
            let message = "connection lost before the request was sent";
            let error = Error::new(Status::ConnectionLost, message);
            return Some(Box::new(move || {
                self.came_back(request, job, Err(error), true);
            }));
        };
        let boarded = job.board(self.weak(), request, session.downgrade(), again);
        let (message, carrier) = boarded?;
        match session.request(message, carrier) {
            Ok(id) => {
                let place = Place::On { connection, id };
                state.requests.insert(request, place);
                None
            }
            Err(refused) => {
                let (error, receiver) = *refused;
                Some(Box::new(move || receiver.end(Err(error))))
            }
        }
    }

    /// Makes the timer's task call the core in time.
    fn set_timer(&self, state: &mut State) -> Result<()> {
        let Some(due) = state.core.poll_timeout() else {
            return Ok(());
        };
        if state.timer.is_some_and(|set| set <= due) {
            return Ok(());
        }
        let Some(runtime) = &state.runtime else {
            return Ok(());
        };
        if state.timer.is_none() {
            let start = || tasks::timer(self.weak(), self.earlier.clone(), runtime);
            start().or_else(|_| start())?; // a worker may die just now
        } else {
            self.earlier.notify_one();
        }
        state.timer = Some(due);
        Ok(())
    }
}
