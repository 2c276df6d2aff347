//! A tool of the application's, and a call of it by the model (protocol section 5).

use std::time::Duration;

use super::history::{Call, Message};
use crate::error::{Error, Result, Status};

/// Rounds of tools that one chat may have, unless set otherwise. A model that has not come to an answer by then hardly
/// will.
pub const DEFAULT_ROUNDS: u32 = 16;
/// The most that can be set.
pub const MAX_ROUNDS: u32 = 1_000;
/// How long a tool may take, unless set otherwise.
pub const DEFAULT_TOOL_LIMIT: Duration = Duration::from_secs(300);
/// Tools that the model may call in one round.
pub const MAX_CALLS: usize = 256;

/// A tool of the application's.
pub trait Tool: Send + Sync {
    /// Is called, on the client's callback thread; it may answer later, and from any thread.
    fn call(&self, call: ToolCall);
}

/// One call of a tool, to be answered once. Dropped without an answer, it tells the model that there is none.
pub struct ToolCall {
    call: Call,
    /// Where the answer goes. Gone once it was given.
    answer: Option<Box<dyn FnOnce(String) + Send>>,
}

impl ToolCall {
    pub(super) fn new(call: Call, answer: impl FnOnce(String) + Send + 'static) -> ToolCall {
        let answer = Some(Box::new(answer) as Box<dyn FnOnce(String) + Send>);
        ToolCall { call, answer }
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.call.id
    }

    /// The tool's name.
    pub fn name(&self) -> &str {
        &self.call.name
    }

    /// The arguments, a JSON text by the model: it need not be what the schema asks for.
    pub fn arguments(&self) -> &str {
        &self.call.arguments
    }

    /// The tool's result, for the model.
    pub fn answer(&mut self, content: &str) -> Result<()> {
        self.send(content.to_owned())
    }

    /// The tool failed; the model is told why.
    pub fn fail(&mut self, reason: &str) -> Result<()> {
        self.send(format!("Error: {reason}"))
    }

    /// Answers once. An answer that no server reads is refused, and the call stays open.
    fn send(&mut self, content: String) -> Result<()> {
        Message::tool_response(&self.call.id, &self.call.name, &content).check()?;
        let answer = self.answer.take().ok_or_else(|| {
            let message = "call: it was already answered";
            Error::new(Status::InvalidArgument, message)
        })?;
        answer(content);
        Ok(())
    }
}

impl Drop for ToolCall {
    fn drop(&mut self) {
        if self.answer.is_some() {
            let _ = self.fail("the tool gave no answer");
        }
    }
}
