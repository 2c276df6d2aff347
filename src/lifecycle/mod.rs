//! A client's life over several connections.
//!
//! ```text
//! policy    when a lost connection is retried and a working one replaced: times, without a clock
//! core      the rules, as a state machine without I/O
//! driver    does what the core asks for, and reports back; the one lock of a client
//! request   a request on its way over several connections
//! tasks     the tasks of a client: an attempt to connect, a connection, a timer
//! observer  the application's view: notices and questions
//! ```

mod core;
mod driver;
mod observer;
pub mod policy;
mod request;
mod tasks;

pub use core::{Notice, Phase, Question, QuestionKind, Rules, TokenReason, cancelled, closed};
pub use driver::{Lifecycle, Parked};
pub use observer::{Asker, News, Observer};
pub use request::Exchange;
pub use tasks::Means;
