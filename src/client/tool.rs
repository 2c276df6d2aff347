//! A call of an application's tool by the model, and its answer (protocol section 5).

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::history::{Call, Message};
use crate::error::{Error, Result, Status};

/// Largest number of rounds.
pub const MAX_ROUNDS: u32 = 1_000;
/// Most tool calls in one round.
pub const MAX_CALLS: usize = 256;

/// The rounds of a chat, whose tool calls the application answers on the same stream.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    /// Rounds whose calls are answered.
    pub(super) most: u32,
    /// Time for each answer.
    pub(super) limit: Duration,
}

/// A chat that calls tools.
pub(super) trait Caller: Send + Sync {
    /// Starts the time limit of an open call: the application has it.
    fn taken(&self, round: u32, at: usize);
    /// Takes the answer to a call. Returns false if the call was answered before.
    fn answered(&self, round: u32, at: usize, content: String) -> bool;
}

/// The answer that an application owes to one call. If it is dropped unanswered, the call fails.
pub struct Owed {
    call: Call,
    given: AtomicBool,
    caller: Weak<dyn Caller>,
    round: u32,
    at: usize,
}

impl Owed {
    /// The answer to call `at` of a round.
    pub(super) fn new(call: Call, caller: Weak<dyn Caller>, round: u32, at: usize) -> Owed {
        Owed {
            call,
            given: AtomicBool::new(false),
            caller,
            round,
            at,
        }
    }

    /// Gives the tool's result.
    pub fn answer(&self, content: &str) -> Result<()> {
        self.give(content.to_owned())
    }

    /// Says why the tool failed.
    pub fn fail(&self, reason: &str) -> Result<()> {
        self.give(failure(reason))
    }

    /// Starts the time limit: the application has the call.
    pub(super) fn taken(&self) {
        if let Some(caller) = self.caller.upgrade() {
            caller.taken(self.round, self.at);
        }
    }

    /// Answers once. Refuses an answer that servers cannot read; the call stays open then.
    fn give(&self, content: String) -> Result<()> {
        Message::tool_response(&self.call.id, &self.call.name, &content).check()?;
        let first = !self.given.swap(true, Ordering::AcqRel);
        let caller = self.caller.upgrade();
        if first && caller.is_none_or(|caller| caller.answered(self.round, self.at, content)) {
            return Ok(());
        }
        Err(Error::new(
            Status::Stale,
            "the call was already answered, or failed at its time limit",
        ))
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !*self.given.get_mut() {
            let _ = self.fail("the tool gave no answer");
        }
    }
}

/// The model's text for a tool that failed.
pub(super) fn failure(reason: &str) -> String {
    format!("Error: {reason}")
}
