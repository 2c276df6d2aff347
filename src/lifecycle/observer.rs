//! The application's view of a client's life.

use super::core::{Notice, Question};
use super::driver::Lifecycle;

/// Something that an application can be interested in.
pub enum News<'a> {
    /// The connection changed.
    Notice(&'a Notice),
    /// A question is open. [`Lifecycle::answer_token`] and [`Lifecycle::answer_release`] answer it.
    Asked(&'a Question),
    /// The question with this number is over.
    Over(u64),
}

/// Receives news in order, one at a time. It must not wait.
pub trait Observer: Send + Sync {
    fn notice(&self, client: &Lifecycle, news: &News<'_>);
}
