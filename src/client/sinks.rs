//! The callbacks of the first C API, as an observer of a client's life.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::attestation::Evidenced;
use crate::error::{Error, Result, Status};
use crate::host::Callbacks;
use crate::lifecycle::{
    Lifecycle, News, Notice, Observer, Question, QuestionKind, TokenAnswer, cancelled,
};
use crate::net::Token;
use crate::session::Stage;

/// Receives the stages of connecting, on the client's callback thread. `None`: connecting ended.
pub type StageSink = Arc<dyn Fn(Option<Stage>) + Send + Sync>;

/// A change of a client's connection.
pub enum Change {
    /// It broke; the client connects again.
    Lost(Error),
    /// An attempt begins after a pause. A connection that did not break serves until the new one is there.
    Attempt {
        /// Counts attempts in a row, from 1.
        number: u32,
        /// Time until it begins.
        pause: Duration,
    },
    /// The attempt failed.
    Failed(Error),
    /// A new connection was made and verified.
    Connected {
        /// Why it is trusted.
        evidenced: Arc<Evidenced>,
        /// Its manifest differs from the one before.
        release_changed: bool,
    },
    /// The client has ended.
    Ended(Error),
}

/// Receives each [`Change`], on the client's callback thread.
pub type ChangeSink = Arc<dyn Fn(Change) + Send + Sync>;

/// Receives the reports before and after a change of release, and returns whether the new one is
/// accepted. On the client's callback thread.
pub type ReleaseSink = Arc<dyn Fn(&Arc<Evidenced>, &Arc<Evidenced>) -> bool + Send + Sync>;

/// Gives a token for each connection.
pub trait TokenProvider: Send + Sync {
    /// Asks for a token, on the client's callback thread. The answer may come later, from any thread.
    fn ask(&self, question: TokenQuestion);
}

/// Most characters of a provider's reason that an error repeats.
const MAX_REASON: usize = 1_024;

/// Most changes that wait for a slow callback; further attempts are left out.
const MAX_UNTOLD: usize = 1_024;

/// A question for a token. Dropped without an answer, it means that the provider has no token.
pub struct TokenQuestion {
    client: Weak<Lifecycle>,
    question: u64,
    answered: bool,
}

impl TokenQuestion {
    /// Gives the token. After an invalid one the question stays open.
    pub fn answer(&mut self, token: &str) -> Result<()> {
        let token = Token::new(token)?;
        self.send(TokenAnswer::Token(token))
    }

    /// The provider has no token, for a reason without secrets.
    pub fn fail(&mut self, reason: &str) -> Result<()> {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let message = format!("the token provider: {reason}");
        self.send(TokenAnswer::Later(Error::new(Status::Token, message)))
    }

    fn send(&mut self, answer: TokenAnswer) -> Result<()> {
        if std::mem::replace(&mut self.answered, true) {
            let message = "question: it was answered before";
            return Err(Error::new(Status::InvalidArgument, message));
        }
        if let Some(client) = self.client.upgrade() {
            let _ = client.answer_token(self.question, answer); // it may be over
        }
        Ok(())
    }
}

impl Drop for TokenQuestion {
    fn drop(&mut self) {
        if !self.answered {
            let message = "the token provider let go of the question without an answer";
            let _ = self.send(TokenAnswer::Later(Error::new(Status::Token, message)));
        }
    }
}

/// A wish to stop connecting, from any thread. It holds for all attempts that it was given to.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<Wish>>);

#[derive(Default)]
struct Wish {
    cancelled: bool,
    clients: Vec<Weak<Lifecycle>>,
}

impl Cancel {
    /// Asks to stop. Never waits.
    pub fn cancel(&self) {
        let clients = {
            let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            wish.cancelled = true;
            std::mem::take(&mut wish.clients)
        };
        for client in clients.iter().filter_map(Weak::upgrade) {
            client.stop_connecting(cancelled());
        }
    }

    pub(super) fn concerns(&self, client: &Lifecycle) {
        let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !wish.cancelled {
            wish.clients.retain(|client| client.strong_count() > 0);
            return wish.clients.push(client.weak());
        }
        drop(wish);
        client.stop_connecting(cancelled());
    }
}

/// Passes news to the callbacks, on the client's callback thread.
pub(super) struct Sinks {
    pub(super) stages: Option<StageSink>,
    pub(super) provider: Option<Arc<dyn TokenProvider>>,
    pub(super) release: Option<ReleaseSink>,
    pub(super) changes: Option<ChangeSink>,
    pub(super) thread: Arc<Callbacks>,
    pub(super) state: Mutex<SinkState>,
    pub(super) untold: Arc<AtomicUsize>,
}

#[derive(Default)]
pub(super) struct SinkState {
    /// The first attempt has ended.
    settled: bool,
    /// The open question, with the flag that says when it is over.
    open: Option<(u64, Arc<AtomicBool>)>,
}

impl Sinks {
    fn state(&self) -> MutexGuard<'_, SinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self, stage: Option<Stage>) {
        if let Some(stages) = &self.stages {
            let stages = stages.clone();
            self.thread.post(move || stages(stage));
        }
    }

    /// Sets that the first attempt has ended. Returns whether it had not.
    fn settle(&self) -> bool {
        !std::mem::replace(&mut self.state().settled, true)
    }

    fn tell(&self, change: Change) {
        let Some(changes) = &self.changes else {
            return;
        };
        let attempt = matches!(change, Change::Attempt { .. } | Change::Failed(_));
        if attempt && self.untold.load(Ordering::Relaxed) >= MAX_UNTOLD {
            return;
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        let (changes, untold) = (changes.clone(), self.untold.clone());
        self.thread.post(move || {
            untold.fetch_sub(1, Ordering::Relaxed);
            changes(change);
        });
    }

    fn pass(&self, notice: &Notice) {
        let settled = self.state().settled;
        match notice {
            Notice::Stage(stage) if !settled => self.stage(Some(*stage)),
            Notice::Connected { first: true, .. } => {
                self.settle();
                self.stage(None);
            }
            Notice::Connected {
                evidenced,
                release_changed,
                ..
            } => self.tell(Change::Connected {
                evidenced: evidenced.clone(),
                release_changed: *release_changed,
            }),
            Notice::Ended(error) => match self.settle() {
                true => self.stage(None),
                false => self.tell(Change::Ended(error.clone())),
            },
            _ if !settled => {}
            Notice::Stage(_) => {}
            Notice::Disconnected(error) => self.tell(Change::Lost(error.clone())),
            Notice::Attempt { number, delay, .. } => self.tell(Change::Attempt {
                number: *number,
                pause: *delay,
            }),
            Notice::Failed(error) => self.tell(Change::Failed(error.clone())),
        }
    }

    fn ask(&self, client: &Lifecycle, question: &Question) {
        let over = Arc::new(AtomicBool::new(false));
        self.state().open = Some((question.id, over.clone()));
        let (client, id) = (client.weak(), question.id);
        match &question.kind {
            QuestionKind::Token(_) => {
                if !self.state().settled {
                    self.stage(Some(Stage::Token));
                }
                let Some(provider) = self.provider.clone() else {
                    return;
                };
                self.thread.post(move || {
                    if !over.load(Ordering::Acquire) {
                        provider.ask(TokenQuestion {
                            client,
                            question: id,
                            answered: false,
                        });
                    }
                });
            }
            QuestionKind::Release { before, now } => {
                let Some(release) = self.release.clone() else {
                    return;
                };
                let (before, now) = (before.clone(), now.clone());
                self.thread.post(move || {
                    if !over.load(Ordering::Acquire) {
                        let accepted = release(&before, &now);
                        if let Some(client) = client.upgrade() {
                            let _ = client.answer_release(id, accepted); // it may be over
                        }
                    }
                });
            }
        }
    }
}

impl Sinks {
    /// Passes news on.
    pub(super) fn notice(&self, client: &Lifecycle, news: &News<'_>) {
        match news {
            News::Notice(notice) => self.pass(notice),
            News::Asked(question) => self.ask(client, question),
            News::Over(id) => {
                let mut state = self.state();
                if let Some((_, over)) = state.open.take_if(|(open, _)| open == id) {
                    over.store(true, Ordering::Release);
                }
            }
        }
    }
}

impl Observer for Sinks {
    fn notice(&self, client: &Lifecycle, news: &News<'_>) {
        Sinks::notice(self, client, news);
    }
}
