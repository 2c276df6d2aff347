//! The steps of attempts to connect, and the tokens that attempts use.

use std::time::Duration;

use super::attempt::{Attempt, Step};
use super::interface::{
    Action, AttemptId, ConnectionId, Notice, Question, QuestionKind, TokenReason,
};
use super::{Core, State};
use crate::error::{Error, Result, Retry, Status};
use crate::lifecycle::policy::Now;
use crate::net::Token;
use crate::session::Stage;

impl Core {
    /// Begins the dial of an attempt, after its pause if it has one: asks for a token first, if
    /// needed.
    pub(super) fn next_step(&mut self, now: Now) {
        let question = self.next_number();
        let due = now.monotonic + self.rules.answer;
        let Some(reason) = self.asks_for_token(now) else {
            return self.dial(now);
        };
        let Some(attempt) = self.attempt_mut() else {
            return;
        };
        attempt.step = Step::AskingToken {
            question,
            reason,
            due,
        };
        self.actions.push_back(Action::Ask(Question {
            id: question,
            kind: QuestionKind::Token(reason),
        }));
    }

    /// The reason to ask the application for a token before the next dial, if there is one.
    fn asks_for_token(&self, now: Now) -> Option<TokenReason> {
        if !self.rules.asks_token || self.fresh {
            return None;
        }
        let refused = self.refused.is_some() && self.refused == self.token;
        if refused || !self.requests.held().is_empty() {
            return Some(TokenReason::Refused);
        }
        match &self.state {
            State::Connecting(attempt) if attempt.number == 1 && self.token.is_some() => None,
            State::Connecting(_) => Some(TokenReason::FirstConnection),
            State::Connected(live) if live.born.token_is_ending(now) => Some(TokenReason::Expiring),
            _ => Some(TokenReason::Reconnect),
        }
    }

    fn dial(&mut self, now: Now) {
        let id = self.next_number();
        self.fresh = false;
        let Some(token) = self.token.clone() else {
            let message = "token: none was set";
            return self.fail_attempt(Error::new(Status::InvalidArgument, message), now);
        };
        if self.refused.as_ref() == Some(&token) {
            let message = "token: the server has refused this one; connect with a fresh one.";
            let error = Error::new(Status::Token, message).with_retry(Retry::FreshToken);
            let error = token.explain(error, now.unix());
            return self.fail_attempt(error, now);
        }
        let Some(attempt) = self.attempt_mut() else {
            return;
        };
        attempt.step = Step::Dialing {
            attempt: id,
            token: token.clone(),
            approved: false,
        };
        self.actions.push_back(Action::Dial { attempt: id, token });
    }

    /// The application answers a token question. With an error as the answer, the attempt fails for
    /// good. Fails if the question is over.
    pub fn answer_token(&mut self, question: u64, answer: Result<Token>, now: Now) -> Result<()> {
        let Some(Step::AskingToken { reason, .. }) = self.asking(question) else {
            return Err(stale());
        };
        let reason = *reason;
        self.actions.push_back(Action::Withdraw { question });
        match answer {
            Ok(token) => {
                self.token = Some(token);
                self.dial(now);
            }
            Err(error) => {
                let error = error.with_retry(Retry::Never);
                self.fail_question(reason, error, now);
            }
        }
        Ok(())
    }

    /// The application gives a token without a question. It answers an open question, or is used by
    /// the next attempt.
    pub fn set_token(&mut self, token: Token, now: Now) {
        if let State::Ended(_) = self.state {
            return;
        }
        self.token = Some(token);
        self.fresh = true;
        let asking = self
            .attempt()
            .is_some_and(|it| matches!(it.step, Step::AskingToken { .. }));
        if asking {
            let question = self.attempt().and_then(Attempt::question);
            let withdraw = |question| Action::Withdraw { question };
            self.actions.extend(question.map(withdraw));
            self.dial(now);
        }
    }

    /// The application answers a release question. An error if the question is over.
    pub fn answer_release(&mut self, question: u64, accept: bool, now: Now) -> Result<()> {
        let Some(Step::AskingRelease { attempt, token, .. }) = self.asking(question) else {
            return Err(stale());
        };
        let (id, token) = (*attempt, token.clone());
        self.actions.push_back(Action::Withdraw { question });
        if accept {
            if let Some(attempt) = self.attempt_mut() {
                attempt.step = Step::Dialing {
                    attempt: id,
                    token,
                    approved: true,
                };
            }
            self.approve(id);
            return Ok(());
        }
        self.actions.push_back(Action::Abort { attempt: id });
        let message =
            "the enclave's release differs from the previous one, and the application refused it";
        self.fail_attempt(Error::new(Status::ReleaseRefused, message), now);
        Ok(())
    }

    fn asking(&self, question: u64) -> Option<&Step> {
        let attempt = self.attempt()?;
        (attempt.question() == Some(question)).then_some(&attempt.step)
    }

    /// The time limit of a step has passed.
    pub(super) fn step_is_due(&mut self, now: Now) {
        let limit = self.rules.answer.as_millis();
        match self.attempt().map(|attempt| &attempt.step) {
            Some(Step::Pausing { .. }) => self.next_step(now),
            Some(Step::AskingToken {
                question, reason, ..
            }) => {
                let (question, reason) = (*question, *reason);
                self.actions.push_back(Action::Withdraw { question });
                let message = format!("the application gave no token within {limit} ms");
                self.fail_question(reason, Error::new(Status::Token, message), now);
            }
            Some(Step::AskingRelease {
                question, attempt, ..
            }) => {
                let (question, attempt) = (*question, *attempt);
                self.actions.push_back(Action::Withdraw { question });
                self.actions.push_back(Action::Abort { attempt });
                let message =
                    format!("the application did not accept the release within {limit} ms");
                let error = Error::new(Status::ReleaseRefused, message);
                self.fail_attempt(error.with_retry(Retry::Later), now);
            }
            _ => {}
        }
    }

    /// Forgets a dial that failed or was aborted, so that it is not aborted again.
    fn drop_dial(&mut self) {
        if let Some(attempt) = self.attempt_mut() {
            (attempt.step, attempt.stage) = (Step::Between, None);
        }
    }

    /// Ends a token question without a token. A working connection continues if its token only
    /// expires soon, or if a request was refused on it. Such a request ends with its refusal.
    fn fail_question(&mut self, reason: TokenReason, error: Error, now: Now) {
        for request in self.requests.held() {
            self.finish(request, Err(error.clone()));
        }
        if let State::Connected(live) = &mut self.state
            && matches!(reason, TokenReason::Expiring | TokenReason::Refused)
        {
            if reason == TokenReason::Expiring {
                live.born.token_ends = None; // the next connection asks again
            }
            self.actions
                .push_back(Action::Notify(Notice::Failed(error.clone())));
            return self.drop_renewal(&error);
        }
        self.fail_attempt(error, now);
    }

    /// The attempt failed: pauses for the next one, or gives up.
    pub(super) fn fail_attempt(&mut self, error: Error, now: Now) {
        self.note_upgrade_refusal(&error);
        let first = matches!(self.state, State::Connecting(_));
        let only = first && !self.rules.retry_first;
        // The next attempt may have a fresh token.
        let error = match error.retry() {
            Retry::FreshToken => {
                error.with_retryable(!only && (self.rules.asks_token || self.fresh))
            }
            _ => error,
        };
        self.drop_dial();
        self.failures += 1;
        self.actions
            .push_back(Action::Notify(Notice::Failed(error.clone())));
        let gives_up = only || self.gives_up_after(&error);
        match &self.state {
            State::Ended(_) => {}
            // A working connection is kept during temporary trouble, and a later check tries again.
            State::Connected(_) if gives_up && error.retryable() => self.drop_renewal(&error),
            _ if gives_up => self.end(error),
            _ => self.pause(Some(error), now),
        }
    }

    fn drop_renewal(&mut self, error: &Error) {
        self.failures = 0;
        if let State::Connected(live) = &mut self.state {
            live.renewal = None;
            live.renewal_error = Some(error.clone());
        }
        self.finish_waiting(error);
    }

    /// Pauses before the next attempt.
    pub(super) fn pause(&mut self, error: Option<Error>, now: Now) {
        let number = self.failures + 1;
        let asked = error.as_ref().and_then(Error::retry_delay);
        let delay = match &self.rules.reconnect {
            Some(reconnect) => reconnect.pause(number, self.random.fraction()),
            None => Duration::ZERO,
        };
        let delay = delay.max(asked.unwrap_or_default());
        let until = now.monotonic + delay;
        let Some(attempt) = self.attempt_mut() else {
            return;
        };
        attempt.number = number;
        attempt.step = Step::Pausing {
            until,
            delay,
            error: error.clone(),
        };
        self.notify_attempt(number, delay, error);
    }

    pub(super) fn notify_attempt(&mut self, number: u32, delay: Duration, error: Option<Error>) {
        self.actions.push_back(Action::Notify(Notice::Attempt {
            number,
            delay,
            error,
        }));
    }

    /// Whether the client gives up: for an error that a retry cannot help, or after too many
    /// failures.
    pub(super) fn gives_up_after(&self, error: &Error) -> bool {
        let most = self.rules.reconnect.as_ref().map_or(0, |it| it.attempts);
        let hopeless = match error.retry() {
            Retry::Later => false,
            Retry::FreshToken => !self.rules.asks_token && !self.fresh,
            Retry::Never => true,
        };
        hopeless || self.failures >= most
    }

    /// Remembers a token with which the server refused the upgrade, if only another token can help.
    /// It is not sent again.
    fn note_upgrade_refusal(&mut self, error: &Error) {
        if error.retry() == Retry::FreshToken
            && let Some(token) = self.attempt().and_then(Attempt::token)
        {
            self.refused = Some(token);
        }
    }

    /// The enclave refused a request for its token. Before the token's end the device's clock may
    /// be wrong, so the token may be sent again. Adds to the error that the token has ended, if it
    /// has.
    pub(super) fn note_token_refusal(
        &mut self,
        connection: ConnectionId,
        error: Error,
        now: Now,
    ) -> Error {
        let Some(token) = self.tokens.get(&connection) else {
            return error;
        };
        if token.ended(now.unix()).is_some() {
            self.refused = Some(token.clone());
        }
        token.explain(error, now.unix())
    }

    /// An attempt entered a stage of connecting.
    pub fn entered(&mut self, attempt: AttemptId, stage: Stage) {
        let Some(current) = self.attempt_mut().filter(|it| it.is_dialing(attempt)) else {
            return;
        };
        current.stage = Some(stage);
        let notice = Notice::Stage(stage);
        self.actions.push_back(Action::Notify(notice));
    }
}

fn stale() -> Error {
    Error::new(Status::Stale, "the question is over")
}
