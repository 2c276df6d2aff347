//! The rounds of a chat with tools: an answer that calls tools, their results, the next request,
//! until an answer calls no tool (protocol section 5). Also adds a chat to its conversation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::answer::{Answer, Reading, Sequel};
use super::chat::{ChatRequest, Follow, PreparedChat};
use super::event::{Event, Kind, Splitter};
use super::history::{Call, Conversation, Message, Turn, answered};
use super::inbox::Inbox;
use super::tool::{Caller, MAX_CALLS, Owed, Rounds, failure};
use crate::error::{Error, Progress, Result, Status};
use crate::host::{Starting, watch};
use crate::lifecycle::{Exchange, Lifecycle, Parked, cancelled, closed};
use crate::session::{Request, worker_gone};

/// A chat with all its rounds.
pub struct Run {
    this: Weak<Run>,
    life: Weak<Lifecycle>,
    exchange: Arc<Exchange>,
    inbox: Arc<Inbox<Event>>,
    conversation: Option<Conversation>,
    state: Mutex<State>,
}

struct State {
    /// The request, with all messages so far. `None` after the end of the chat.
    request: Option<ChatRequest>,
    /// Number of its messages before the first answer.
    known: usize,
    /// The messages of the first request, for the conversation.
    asked: Vec<Message>,
    round: u32,
    /// Used and available tokens of the model's context, from the last completion.
    context: (Option<i64>, Option<i64>),
    /// The calls of this round.
    calls: Vec<Asked>,
    /// The exchange that brought them has ended.
    ended: bool,
}

/// A tool call and its answer.
struct Asked {
    call: Call,
    answer: Option<String>,
    /// The time limit, while the application has the call.
    timer: Option<Timer>,
}

/// A time limit. Dropping it cancels it.
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

/// Used part of the model's context above which a silent server may have received too much.
const NEAR_CONTEXT_PERCENT: i128 = 80;

impl Run {
    /// Creates the run of a chat that will be sent.
    pub(super) fn new(
        life: &Lifecycle,
        exchange: &Arc<Exchange>,
        inbox: &Arc<Inbox<Event>>,
        follow: Follow,
    ) -> Arc<Run> {
        let Follow {
            whole,
            conversation,
            asked,
        } = follow;
        let context = conversation.as_ref().map(Conversation::context_tokens);
        Arc::new_cyclic(|this| Run {
            this: this.clone(),
            life: life.weak(),
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
                ended: false,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the reader for the answer of the next round.
    pub(super) fn reading(&self) -> Reading {
        let asks = self
            .state()
            .request
            .as_ref()
            .is_some_and(|it| it.rounds.is_some());
        let sequel = self.this.upgrade().map(|run| {
            Box::new(Round {
                run,
                turn: Turn::default(),
                held: asks.then(Vec::new),
                goes_on: Ok(false),
            }) as Box<dyn Sequel>
        });
        Reading::Events(Splitter::default(), sequel)
    }

    /// Handles the complete answer of a round. Returns whether another round follows. Then the
    /// calls of this one are open, and the events of those for the application want an answer.
    fn complete(&self, turn: &mut Turn, events: &mut [Event]) -> Result<bool> {
        if self.exchange.cancelled() {
            return Err(cancelled()); // checked before anything is kept or called
        }
        let messages = turn.messages()?;
        let life = self.life.upgrade().ok_or_else(closed)?;
        let mut guard = self.state();
        let state = &mut *guard;
        let request = state.request.as_mut().ok_or_else(cancelled)?;
        request.messages.extend(messages);
        state.context = (
            turn.context_tokens.or(state.context.0),
            turn.max_context_tokens.or(state.context.1),
        );
        let calls = std::mem::take(&mut turn.calls);
        let Some(Rounds { most, .. }) = request.rounds else {
            return Ok(false);
        };
        if !turn.pending || calls.is_empty() {
            return Ok(false);
        }
        if state.round == most {
            let message = format!("the model still calls tools after round {most}");
            return Err(Error::new(Status::ToolRounds, message));
        }
        if calls.len() > MAX_CALLS {
            let calls = calls.len();
            let message = format!("{calls} calls of tools in one round; the bound is {MAX_CALLS}");
            return Err(Error::new(Status::ToolRounds, message));
        }
        state.round += 1;
        for (at, call) in calls.into_iter().enumerate() {
            let known = request.names(&call.name);
            if let Some(event) = events.get_mut(at)
                && known
            {
                event.owe(Owed::new(call.clone(), self.this.clone(), state.round, at));
            }
            state.calls.push(Asked {
                call,
                answer: (!known).then(|| failure("there is no tool of this name")),
                timer: None,
            });
        }
        drop(guard);
        // Ends the stream at once if the client has been closed.
        life.park(self.this.clone());
        Ok(true)
    }

    /// Adds the chat to its conversation, unless its completion cannot be delivered.
    fn keep(&self, turn: &Turn) -> Result<()> {
        self.inbox.has_room()?;
        let mut guard = self.state();
        let state = &mut *guard;
        let (Some(conversation), Some(request)) = (&self.conversation, &state.request) else {
            return Ok(());
        };
        let asked = std::mem::take(&mut state.asked);
        conversation.add_turn(asked, &request.messages[state.known..], turn)
    }

    /// Sends the next request, once all calls are answered and the exchange before it has ended.
    fn proceed(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(request) = &mut state.request else {
            return;
        };
        let open = state.calls.iter().any(|asked| asked.answer.is_none());
        if !state.ended || open || state.calls.is_empty() {
            return;
        }
        state.ended = false;
        let responses = state.calls.drain(..).map(|Asked { call, answer, .. }| {
            let answer = answer.unwrap_or_default();
            Message::tool_response(&call.id, &call.name, &answer)
        });
        let history = request.messages.split_off(state.known);
        let history = answered(history, responses.collect());
        request.messages.extend(history);
        let body = request.body();
        drop(guard);
        let sent = body.and_then(|body| {
            let life = self.life.upgrade().ok_or_else(closed)?;
            let reading = self.reading();
            let request = completions(body, &reading);
            let answer = Answer::new(reading, None, self.inbox.clone());
            life.request(request, &self.exchange, answer)
        });
        if let Err(error) = sent {
            self.end(error);
        }
    }

    /// Ends the stream between two rounds.
    fn end(&self, error: Error) {
        self.conclude();
        self.inbox
            .end(Err(error.with_progress(Progress::PartlyAnswered)));
    }

    /// Ends the rounds. Later answers are ignored.
    fn conclude(&self) {
        let mut state = self.state();
        let ended = (state.request.take(), std::mem::take(&mut state.calls));
        drop(state);
        drop(ended);
    }

    /// Cancels the stream between two rounds. During a round, its request reports the end.
    pub(super) fn cancel(&self) {
        if !self.state().calls.is_empty() {
            self.end(cancelled());
        }
    }
}

impl Caller for Run {
    fn taken(&self, round: u32, at: usize) {
        let Some(life) = self.life.upgrade() else {
            return;
        };
        let Ok(runtime) = life.runtime() else {
            return;
        };
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(request) = &state.request else {
            return;
        };
        let Some(Rounds { limit, .. }) = request.rounds else {
            return;
        };
        let open = state.calls.get_mut(at).filter(|_| state.round == round);
        let Some(asked) = open.filter(|asked| asked.answer.is_none()) else {
            return;
        };
        let (run, lost) = (self.this.clone(), self.this.clone());
        let (watched, starting) = watch(move || {
            if let Some(run) = lost.upgrade() {
                run.end(worker_gone());
            }
        });
        let timer = runtime.after(limit, move || {
            watched.done();
            if let Some(run) = run.upgrade() {
                let late = format!("no answer within {} ms", limit.as_millis());
                run.answered(round, at, failure(&late));
            }
        });
        let failed = match timer {
            Ok(task) if starting.started() => {
                asked.timer = Some(Timer { task, starting });
                return;
            }
            Ok(_) => worker_gone(),
            Err(error) => error,
        };
        drop(guard);
        self.end(failed); // without a time limit a silent tool would keep the stream forever
    }

    /// Takes the answer to a call. The last answer of a round sends the next request.
    fn answered(&self, round: u32, at: usize, content: String) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.request.is_none() {
            return true; // the stream has ended and needs no answer
        }
        let open = state.calls.get_mut(at).filter(|_| state.round == round);
        let Some(asked) = open.filter(|asked| asked.answer.is_none()) else {
            return false;
        };
        (asked.answer, asked.timer) = (Some(content), None);
        drop(guard);
        self.proceed();
        true
    }
}

impl Parked for Run {
    fn end(&self, error: Error) {
        if !self.state().calls.is_empty() {
            Run::end(self, error);
        }
    }
}

/// One round of a run.
struct Round {
    run: Arc<Run>,
    turn: Turn,
    /// Calls that the application answers. They are delivered when the model's answer is complete,
    /// so that no tool runs for an answer that fails.
    held: Option<Vec<Event>>,
    /// Whether another round follows, or the error that ends the stream.
    goes_on: Result<bool>,
}

impl Sequel for Round {
    fn events(&mut self, batch: &mut Vec<Event>, from: usize) {
        batch[from..].iter().for_each(|event| self.turn.note(event));
        let Some(held) = &mut self.held else {
            return;
        };
        let call = |event: &mut Event| event.kind() == Kind::ClientToolCall;
        let calls = batch.extract_if(from.., call);
        held.extend(calls.take(MAX_CALLS - held.len())); // one more ends the stream
    }

    fn complete(&mut self, batch: &mut Vec<Event>) {
        let mut held = self.held.take().unwrap_or_default();
        let goes_on = self.run.complete(&mut self.turn, &mut held);
        // Kept before the completion is delivered: its reader may free the stream at once.
        self.goes_on = goes_on.and_then(|goes_on| match goes_on {
            true => Ok(true),
            false => self.run.keep(&self.turn).map(|()| false),
        });
        let completion = batch.len().saturating_sub(1);
        batch.splice(completion..completion, held);
    }

    fn end(self: Box<Self>, result: Result<()>) -> Option<Result<()>> {
        let answered = |error: Error| error.with_progress(Progress::PartlyAnswered);
        let (later, context) = {
            let state = self.run.state();
            (state.round > 0, state.context)
        };
        let end = match (result, self.goes_on) {
            (Ok(()), Ok(true)) => {
                self.run.state().ended = true;
                self.run.proceed(); // all calls may be answered by now
                return None;
            }
            (Ok(()), Ok(false)) => Ok(()),
            (Ok(()), Err(error)) => Err(answered(error)),
            (Err(error), _) => {
                let error = explain_silence(error, context);
                Err(if later { answered(error) } else { error })
            }
        };
        self.run.conclude();
        Some(end)
    }
}

/// Adds the use of the model's context to the error of a silent server, if that may be the reason:
/// a server sends nothing when the messages exceed the context (protocol section 4).
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

/// Sends a chat. Returns its run, if it has tools or a conversation.
pub(super) fn start(
    chat: PreparedChat,
    life: &Lifecycle,
    exchange: &Arc<Exchange>,
    inbox: &Arc<Inbox<Event>>,
) -> Result<Option<Arc<Run>>> {
    let run = chat
        .follow
        .map(|follow| Run::new(life, exchange, inbox, follow));
    let reading = match &run {
        Some(run) => run.reading(),
        None if chat.stream => Reading::Events(Default::default(), None),
        None => Reading::OneResponse,
    };
    let request = completions(chat.body, &reading);
    let answer = Answer::new(reading, None, inbox.clone());
    life.request(request, exchange, answer)?;
    Ok(run)
}

/// Makes the request of a chat.
fn completions(body: Bytes, reading: &Reading) -> Request {
    Request {
        verb: "POST".into(),
        path: "/v1/vllm/chat/completions".into(),
        body,
        upload: None,
        pace: reading.pace(),
    }
}
