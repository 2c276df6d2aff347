//! One connection to one enclave: how it is established, and what runs on it until it ends.
//!
//! ```text
//! establish   stages, each with a time limit → a verified channel, or an error that says which stage and why
//! driver      the one task of a connection: socket ↔ core, and the clock
//! core        requests and answers, keepalive, limits: bytes and instants in, bytes and ends out; no I/O
//! inbox       what a stream has received and its application has not taken yet, bounded
//! upload      what a document's source is asked for, chunk by chunk
//! stats       what was done, in numbers
//! ```
//! It must never know what an answer means: each request brings a [`Receiver`] that does.

mod core;
mod driver;
mod establish;
mod handle;
mod inbox;
mod stats;
mod upload;

pub use core::{Flow, Piece, Receiver};
pub use establish::{
    Approval, Established, Limits, Settings, Stage, Watch, establish, rejection, stage,
};
pub use handle::{MAX_BODY, MAX_OPEN, MAX_QUEUED, Request, Session, WeakSession};
pub use inbox::{FULL_BYTES, Inbox, MAX_BYTES, Next, Signal, Weighted};
pub use stats::Stats;
pub use upload::{Again, Data, MAX_CHUNK, MAX_UPLOADS, Source, Supply};
