//! The application's view of a client's life.

use std::sync::Weak;

use super::core::{Notice, Question};
use crate::error::Result;
use crate::net::Token;

/// Something that an application can be interested in.
pub enum News<'a> {
    /// The connection changed.
    Notice(&'a Notice),
    /// A question is open. The client takes the answer.
    Asked(&'a Question, &'a Weak<dyn Asker>),
    /// The question with this number is over.
    Over(u64),
}

/// Receives news in order, one at a time. It must not wait.
pub trait Observer: Send + Sync {
    fn notice(&self, news: &News<'_>);
}

/// Takes the answers to a client's questions.
pub trait Asker: Send + Sync {
    /// Answers a token question. Fails if it is over.
    fn answer_token(&self, question: u64, answer: Result<Token>) -> Result<()>;
    /// Answers a release question. Fails if it is over.
    fn answer_release(&self, question: u64, accept: bool) -> Result<()>;
}
