//! The rounds of a chat whose tools the library runs: an answer that calls tools, their results, the next request, until an
//! answer calls none (protocol section 5). And what follows a chat in a conversation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::answer::{Answer, Reading, Sequel};
use super::chat::{ChatRequest, Follow, PreparedChat};
use super::event::{Event, Splitter};
use super::history::{Call, Conversation, Message, Turn, answered};
use super::tool::{MAX_CALLS, ToolCall};
use crate::error::{Error, Progress, Result, Status};
use crate::host::{Callbacks, Hold, Starting, watch};
use crate::link::{Exchange, Link, Parked, cancelled, closed};
use crate::session::{Inbox, Request, worker_gone};

/// A chat over all of its rounds.
pub struct Run {
    this: Weak<Run>,
    link: Weak<Link>,
    exchange: Arc<Exchange>,
    inbox: Arc<Inbox<Event>>,
    conversation: Option<Conversation>,
    state: Mutex<State>,
}

struct State {
    /// With all messages so far. Gone when the chat has ended.
    request: Option<ChatRequest>,
    /// How many of them came before the first answer.
    known: usize,
    /// Those of the request itself, for the conversation.
    asked: Vec<Message>,
    round: u32,
    /// What the last completion said of the model's context, in tokens: how much is used, and how much there is.
    context: (Option<i64>, Option<i64>),
    /// What the tools of this round were asked, and what they answered.
    calls: Vec<(Call, Option<String>)>,
    /// Ends the wait for them.
    timer: Option<Timer>,
    /// Where tools run, if there are any.
    thread: Option<(Arc<Callbacks>, Hold)>,
}

/// A time limit that goes with its owner.
struct Timer {
    task: tokio::task::AbortHandle,
    starting: Starting,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.starting.forget();
        self.task.abort();
    }
}

/// From this part of the model's context on, a silent end may come from messages that exceed it.
const NEAR_CONTEXT_PERCENT: i128 = 80;

impl Run {
    /// Follows a chat that will be sent.
    pub(super) fn new(
        link: &Link,
        exchange: &Arc<Exchange>,
        inbox: &Arc<Inbox<Event>>,
        follow: Follow,
    ) -> Result<Arc<Run>> {
        let Follow {
            whole,
            conversation,
            asked,
        } = follow;
        let thread = match whole.runs_tools() {
            true => Some(link.callbacks()?),
            false => None,
        };
        let context = conversation.as_ref().map(Conversation::context_tokens);
        Ok(Arc::new_cyclic(|this| Run {
            this: this.clone(),
            link: link.weak(),
            exchange: exchange.clone(),
            inbox: inbox.clone(),
            conversation,
            state: Mutex::new(State {
                known: whole.messages.len(),
                asked,
                request: Some(whole),
                round: 0,
                context: context.unwrap_or_default(),
                calls: Vec::new(),
                timer: None,
                thread,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What reads the answer of the next exchange.
    pub(super) fn reading(&self) -> Reading {
        let sequel = self.this.upgrade().map(|run| {
            Box::new(Round {
                run,
                turn: Turn::default(),
            }) as Box<dyn Sequel>
        });
        Reading::Events(Splitter::default(), sequel)
    }

    /// A round has its answer. What is returned ends the stream.
    fn answer(&self, mut turn: Turn) -> Option<Result<()>> {
        let messages = match turn.messages() {
            Ok(messages) => messages,
            Err(error) => return Some(Err(error)),
        };
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(request) = &mut state.request else {
            return Some(Err(cancelled()));
        };
        request.messages.extend(messages);
        state.context = (
            turn.context_tokens.or(state.context.0),
            turn.max_context_tokens.or(state.context.1),
        );
        let runs = turn.pending && !turn.calls.is_empty() && request.runs(&turn.calls);
        if !runs {
            let asked = std::mem::take(&mut state.asked);
            let answer = &request.messages[state.known..];
            let kept = match &self.conversation {
                Some(conversation) => conversation.add_turn(asked, answer, &turn),
                None => Ok(()),
            };
            return Some(kept);
        }
        let rounds = |why: String| Some(Err(Error::new(Status::ToolRounds, why)));
        if state.round == request.max_rounds {
            let most = request.max_rounds;
            return rounds(format!(
                "the model goes on calling tools after round {most}"
            ));
        }
        if turn.calls.len() > MAX_CALLS {
            let calls = turn.calls.len();
            return rounds(format!(
                "{calls} calls of tools in one round; the bound is {MAX_CALLS}"
            ));
        }
        if self.exchange.cancelled() {
            return Some(Err(cancelled())); // asked here, for `cancel` looks at the calls
        }
        state.round += 1;
        let round = state.round;
        state.calls = turn.calls.drain(..).map(|call| (call, None)).collect();
        self.call_tools(state);
        drop(guard);
        let Some(link) = self.link.upgrade() else {
            return Some(Err(closed()));
        };
        // Told at once if the client was closed meanwhile.
        link.park(self.this.clone());
        self.limit(&link, round);
        None
    }

    fn call_tools(&self, state: &mut State) {
        let (Some(request), Some((thread, _))) = (&state.request, &state.thread) else {
            return;
        };
        for (at, (call, _)) in state.calls.iter().enumerate() {
            let tool = request.tool(&call.name);
            let (run, round) = (self.this.clone(), state.round);
            let call = ToolCall::new(call.clone(), move |content| {
                if let Some(run) = run.upgrade() {
                    run.answered(round, at, content);
                } // nobody waits any more for what was given up
            });
            let run = self.this.clone();
            thread.post(move || match tool {
                // Given up, or closed, before its turn came: it is not run for nobody.
                _ if !run.upgrade().is_some_and(|run| run.waits_in(round)) => drop(call),
                Some(tool) => tool.call(call),
                None => {
                    let mut call = call;
                    let _ = call.fail("there is no tool of this name");
                }
            });
        }
    }

    /// Whether the tools of this round are still to answer.
    fn waits_in(&self, round: u32) -> bool {
        let state = self.state();
        state.round == round && !state.calls.is_empty()
    }

    /// Tools that take too long have no answer.
    fn limit(&self, link: &Link, round: u32) {
        let Ok(runtime) = link.runtime() else {
            return;
        };
        let mut state = self.state();
        let Some(request) = &state.request else {
            return;
        };
        if state.round != round || state.calls.is_empty() {
            return; // answered already
        }
        let (limit, run) = (request.tool_limit, self.this.clone());
        let lost = self.this.clone();
        let (watched, starting) = watch(move || {
            if let Some(run) = lost.upgrade() {
                run.end(worker_gone());
            }
        });
        let timer = runtime.after(limit, move || {
            watched.done();
            if let Some(run) = run.upgrade() {
                let calls = run.state().calls.len();
                for at in 0..calls {
                    let late = format!("Error: no answer within {} ms", limit.as_millis());
                    run.answered(round, at, late);
                }
            }
        });
        let failed = match timer {
            Ok(task) if starting.started() => {
                state.timer = Some(Timer { task, starting });
                return;
            }
            Ok(_) => worker_gone(),
            Err(error) => error,
        };
        drop(state);
        self.end(failed); // without a time limit a silent tool would hold the stream for ever
    }

    /// A tool answered. With the last of them, the next request goes out.
    fn answered(&self, round: u32, at: usize, content: String) {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.round != round {
            return; // too late
        }
        match state.calls.get_mut(at) {
            Some((_, answer)) if answer.is_none() => *answer = Some(content),
            _ => return,
        }
        if state.calls.iter().any(|(_, answer)| answer.is_none()) {
            return;
        }
        let calls = std::mem::take(&mut state.calls);
        state.timer = None;
        let Some(request) = &mut state.request else {
            return;
        };
        let responses = calls.iter().map(|(call, answer)| {
            let answer = answer.as_deref().unwrap_or_default();
            Message::tool_response(&call.id, &call.name, answer)
        });
        let history = request.messages.split_off(state.known);
        let history = answered(history, responses.collect());
        request.messages.extend(history);
        let body = request.body();
        drop(guard);
        let sent = body.and_then(|body| {
            let link = self.link.upgrade().ok_or_else(closed)?;
            let reading = self.reading();
            let request = completions(body, &reading);
            let answer = Answer::new(reading, None, self.inbox.clone());
            link.request(request, self.exchange.clone(), answer)
        });
        if let Err(error) = sent {
            self.end(error);
        }
    }

    /// Ends the stream between two exchanges.
    fn end(&self, error: Error) {
        self.conclude();
        self.inbox
            .end(Err(error.with_progress(Progress::PartlyAnswered)));
    }

    /// Lets go of what is the application's, on its own thread.
    fn conclude(&self) {
        let mut state = self.state();
        state.calls.clear();
        state.timer = None;
        let (request, thread) = (state.request.take(), state.thread.take());
        drop(state);
        if let Some((thread, hold)) = thread {
            thread.post(move || drop(request));
            drop(hold);
        }
    }

    /// The application gives the stream up. Where an exchange is under way, that tells of the end.
    pub(super) fn cancel(&self) {
        if !self.state().calls.is_empty() {
            self.end(cancelled());
        }
    }
}

impl Parked for Run {
    fn end(&self, error: Error) {
        if !self.state().calls.is_empty() {
            Run::end(self, error);
        }
    }
}

/// One exchange of a run.
struct Round {
    run: Arc<Run>,
    turn: Turn,
}

impl Sequel for Round {
    fn event(&mut self, event: &Event) {
        self.turn.note(event);
    }

    fn end(self: Box<Self>, result: Result<()>) -> Option<Result<()>> {
        let answered = |error: Error| error.with_progress(Progress::PartlyAnswered);
        let (later, context) = {
            let state = self.run.state();
            (state.round > 0, state.context)
        };
        let end = match result {
            // The answer was complete, whatever comes of it now.
            Ok(()) => self.run.answer(self.turn)?.map_err(answered),
            Err(error) => {
                let error = explain_silence(error, context);
                Err(if later { answered(error) } else { error })
            }
        };
        self.run.conclude();
        Some(end)
    }
}

/// Adds how full the model's context was, if that may be why a server fell silent: it sends nothing when the messages
/// exceed the context (protocol section 4).
fn explain_silence(error: Error, context: (Option<i64>, Option<i64>)) -> Error {
    let (Some(used), Some(most)) = context else {
        return error;
    };
    let near = most > 0 && i128::from(used) * 100 >= i128::from(most) * NEAR_CONTEXT_PERCENT;
    let silent = error.status() == Status::StreamIdle && error.progress() != Progress::NotSent;
    if !near || !silent {
        return error;
    }
    error.adding(&format!(
        "The last answer used {used} of the model's {most} context tokens: shorten the conversation."
    ))
}

/// Sends a chat; what follows it, if anything does.
pub(super) fn start(
    chat: PreparedChat,
    link: &Link,
    exchange: &Arc<Exchange>,
    inbox: &Arc<Inbox<Event>>,
) -> Result<Option<Arc<Run>>> {
    let run = match chat.follow {
        None => None,
        Some(follow) => Some(Run::new(link, exchange, inbox, follow)?),
    };
    let reading = match &run {
        Some(run) => run.reading(),
        None if chat.stream => Reading::Events(Default::default(), None),
        None => Reading::OneResponse,
    };
    let request = completions(chat.body, &reading);
    let answer = Answer::new(reading, None, inbox.clone());
    link.request(request, exchange.clone(), answer)?;
    Ok(run)
}

/// The request of a chat.
fn completions(body: Bytes, reading: &Reading) -> Request {
    Request {
        verb: "POST".into(),
        path: "/v1/vllm/chat/completions".into(),
        body,
        upload: None,
        pace: reading.pace(),
    }
}
