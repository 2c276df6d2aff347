//! A client's way to its enclave, over as many connections as that takes.
//!
//! ```text
//! dial       one verified connection: token, stages, consent to another release
//! link       which connection is in use, which requests wait for one, who tries to make one
//! exchange   where one request is: waiting, on a connection, between two
//! tracked    what a request's end means: the end, or another connection
//! change     what the application is told of all that
//! ```
//! It must never know what an answer means: each request brings a receiver that does.

mod change;
mod dial;
mod exchange;
#[allow(clippy::module_inception)]
mod link;
mod tracked;

pub use crate::lifecycle::policy::{Reconnect, Renew};
pub use change::{Change, ChangeSink};
pub use dial::{Cancel, Dialed, Dialer, ReleaseSink, TokenProvider, TokenQuestion, cancelled};
pub use exchange::Exchange;
pub use link::{Attempts, Keeper, Link, Parked, closed};
