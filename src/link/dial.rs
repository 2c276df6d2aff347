//! How a client gets a verified connection: with a token, from the application or its provider; through every stage; and
//! where an earlier one was to another release, with the application's consent. The first connection and each later one
//! are made here alike.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::change::{Change, ChangeSink};
use crate::attestation::Evidenced;
use crate::clock;
use crate::error::{Error, Result, Retry, Status};
use crate::host::{Callbacks, Log};
use crate::lifecycle::policy::{Reconnect, Renew};
use crate::net::Token;
use crate::session::{Approval, Established, Settings, Stage, establish, stage};

/// A wish to stop, from any thread; it holds for all that it was given to.
#[derive(Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Asks to stop. Never waits; asking again changes nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Waits for the wish.
    pub async fn cancelled(&self) {
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}

/// How a request that was given up ends.
pub fn cancelled() -> Error {
    Error::new(Status::Cancelled, "cancelled by the application")
}

/// Gives a token for each connection.
pub trait TokenProvider: Send + Sync {
    /// Is asked for a token, on the client's callback thread; it may answer later, and from any thread.
    fn ask(&self, question: TokenQuestion);
}

/// What a provider answers. Dropped without an answer, it says that there is no token.
pub struct TokenQuestion(Option<oneshot::Sender<Result<Token>>>);

impl TokenQuestion {
    /// Gives the token. An error for what can be none; the question stays open then.
    pub fn answer(&mut self, token: &str) -> Result<()> {
        let token = Token::new(token)?;
        self.send(Ok(token))
    }

    /// There is none, for a reason that holds no secret.
    pub fn fail(&mut self, reason: &str) -> Result<()> {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let message = format!("the token provider: {reason}");
        self.send(Err(Error::new(Status::Token, message)))
    }

    fn send(&mut self, answer: Result<Token>) -> Result<()> {
        let question = self.0.take().ok_or_else(|| {
            Error::new(Status::InvalidArgument, "question: it was answered before")
        })?;
        let _ = question.send(answer); // nobody waits any more where the time is over
        Ok(())
    }
}

/// Changes that may wait for a slow callback; above it, attempts are not told.
const MAX_UNTOLD: usize = 1_024;
/// Characters of a provider's reason that an error repeats.
const MAX_REASON: usize = 1_024;

/// Told when a connection's release is another than that of the one before, and says whether it is accepted. It satisfies
/// the policy in any case. On the client's callback thread.
pub type ReleaseSink = Arc<dyn Fn(&Arc<Evidenced>, &Arc<Evidenced>) -> bool + Send + Sync>;

/// Why nothing is dialled: the server would refuse this token again.
fn refused_before(token: &Token) -> Error {
    let message = "token: the server has refused this one; connect with a fresh one.";
    let error = Error::new(Status::Token, message).with_retry(Retry::FreshToken);
    token.explain(error, clock::now())
}

/// What a client's connections are made with.
pub struct Dialer {
    /// Where to, which way, and what is trusted there.
    pub settings: Settings,
    /// Used where there is no provider.
    pub token: Option<Token>,
    /// Who gives a token for each connection.
    pub provider: Option<Arc<dyn TokenProvider>>,
    /// Who is asked about another release.
    pub release: Option<ReleaseSink>,
    /// Who is told what becomes of the connection.
    pub changes: Option<ChangeSink>,
    /// Whether a connection that breaks is made again.
    pub reconnect: Option<Reconnect>,
    /// When one that works is replaced.
    pub renew: Renew,
    /// Where the log goes.
    pub log: Log,
    /// The last token that the server refused so that only a fresh one can help.
    pub refused_token: Mutex<Option<Token>>,
    /// Changes that wait for a slow callback.
    pub untold: Arc<AtomicUsize>,
    /// Where all of these run; there is one if there is any of them.
    pub callbacks: Option<Arc<Callbacks>>,
}

/// A verified connection, and the token that it was made with.
pub struct Dialed {
    /// The connection.
    pub established: Established,
    /// Its token.
    pub token: Token,
}

impl Dialer {
    /// Connects and verifies. `before`: why the connection before this one was trusted.
    pub async fn dial(
        &self,
        before: Option<&Arc<Evidenced>>,
        watch: &(dyn Fn(Stage) + Sync),
    ) -> Result<Dialed> {
        let limits = &self.settings.limits;
        let work = async {
            let token = self.find_token(watch).await?;
            if self.has_refused(&token) {
                return Err(refused_before(&token));
            }
            let approval: Approval<'_> = &|evidenced| Box::pin(self.approve(before, evidenced));
            let established = establish(&self.settings, &token, watch, approval).await;
            let established = established.inspect_err(|error| self.note_refusal(&token, error))?;
            Ok(Dialed { established, token })
        };
        let limit = limits.connect;
        let timed_out = |_| {
            let message = format!("connecting: no result within {} ms", limit.as_millis());
            Err(Error::new(Status::StageTimeout, message))
        };
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(timed_out)
            .map_err(|error| match error.retry() {
                // The next attempt asks the provider anew.
                Retry::FreshToken => error.with_retryable(self.provider.is_some()),
                _ => error,
            })
    }

    /// Remembers a token that the server refused, if only a fresh one can help: it is not sent again.
    fn note_refusal(&self, token: &Token, error: &Error) {
        if error.retry() == Retry::FreshToken {
            *self.refused() = Some(token.clone());
        }
    }

    /// Remembers a token that the enclave refused for a request. Before its end it may be the account or a clock that is to
    /// blame, so it may be sent again.
    pub(super) fn note_refused_request(&self, token: &Token, now: u64) {
        if token.ended(now).is_some() {
            *self.refused() = Some(token.clone());
        }
    }

    fn has_refused(&self, token: &Token) -> bool {
        self.refused().as_ref() == Some(token)
    }

    fn refused(&self) -> MutexGuard<'_, Option<Token>> {
        self.refused_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn find_token(&self, watch: &(dyn Fn(Stage) + Sync)) -> Result<Token> {
        let (Some(provider), Some(callbacks)) = (&self.provider, &self.callbacks) else {
            let none = || Error::new(Status::InvalidArgument, "token: none was set");
            return self.token.clone().ok_or_else(none);
        };
        let (question, answer) = oneshot::channel();
        let provider = provider.clone();
        let answered = async {
            callbacks.post(move || {
                if !question.is_closed() {
                    provider.ask(TokenQuestion(Some(question))); // and not for an attempt that is over
                }
            });
            answer.await.unwrap_or_else(|_| {
                Err(Error::new(
                    Status::Token,
                    "the token provider let go of the question without an answer",
                ))
            })
        };
        stage(&self.settings.limits, Stage::Token, watch, answered).await
    }

    async fn approve(&self, before: Option<&Arc<Evidenced>>, now: Arc<Evidenced>) -> Result<()> {
        let Some(before) =
            before.filter(|before| before.report.manifest_sha256 != now.report.manifest_sha256)
        else {
            return Ok(());
        };
        let (Some(release), Some(callbacks)) = (&self.release, &self.callbacks) else {
            return Ok(()); // the policy is what decides
        };
        let (told, answer) = oneshot::channel();
        let (release, before) = (release.clone(), before.clone());
        callbacks.post(move || {
            if !told.is_closed() {
                let _ = told.send(release(&before, &now));
            }
        });
        if answer.await.unwrap_or(false) {
            return Ok(());
        }
        Err(Error::new(
            Status::ReleaseRefused,
            "the enclave's release has changed, and the application refused it",
        ))
    }

    pub(super) fn tell(&self, change: Change) {
        let (Some(changes), Some(callbacks)) = (&self.changes, &self.callbacks) else {
            return;
        };
        // An application whose callbacks stand still is told what became of its connection, and not of each attempt.
        let attempt = matches!(change, Change::Attempt { .. } | Change::Failed(_));
        if attempt && self.untold.load(Ordering::Relaxed) >= MAX_UNTOLD {
            return;
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        let (changes, untold) = (changes.clone(), self.untold.clone());
        callbacks.post(move || {
            untold.fetch_sub(1, Ordering::Relaxed);
            changes(change);
        });
    }

    /// Lets go of the application's callbacks on their own thread: a task's end must not run a `destroy` on a worker.
    pub fn release(mut self) {
        if let Some(callbacks) = self.callbacks.take() {
            callbacks.post(move || drop(self));
        } // and the thread is not kept by what it has to do
    }
}
