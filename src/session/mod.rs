//! One connection to one enclave: how it is established, and what runs on it until it ends.
//!
//! ```text
//! establish   stages, each with a time limit → a verified channel, or an error that says which stage and why
//! driver      the one task of a connection: socket ↔ core, and the clock
//! core        requests, answers, uploads, limits: bytes and instants in, bytes and ends out; no I/O
//! keepalive   when to ping, and when the peer is dead; no I/O
//! bounds      how much memory all of it may take
//! inbox       what a stream has received and its application has not taken yet, bounded
//! upload      what a document's source is asked for, chunk by chunk
//! stats       what was done, in numbers
//! ```
//! It must never know what an answer means: each request brings a [`Receiver`] that does.

mod bounds;
mod core;
mod driver;
mod establish;
mod handle;
mod inbox;
mod keepalive;
mod stats;
mod upload;

pub use bounds::{BOUND_BYTES, BOUND_REQUESTS, Bounds, Meter, set_process_unread};
pub use core::{Flow, Piece, Receiver};
pub use driver::worker_gone;
pub use establish::{
    Approval, Established, Idle, Limits, Pace, Settings, Stage, TOTAL, Watch, establish, rejection,
    stage,
};
pub use handle::{MAX_BODY, Request, Session, WeakSession};
pub use inbox::{Inbox, Next, Signal, Weighted};
pub use stats::Stats;
pub use upload::{Again, Data, MAX_CHUNK, MAX_UPLOADS, Source, Supply};
