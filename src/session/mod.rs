//! One connection to one enclave, from its start to its end.
//!
//! ```text
//! establish   stages with time limits → a verified channel, or an error that names the stage
//! handle      takes requests, cancels them, closes
//! driver      the task of a connection: socket ↔ core, and the clock
//! sinks       the open requests: core → receivers and upload sources
//! core        the rules, without I/O: messages, commands and instants in; messages and events out
//! request     a request, as a connection takes it
//! stage       the stages of connecting
//! limits      limits in time, memory and number, with their defaults
//! upload      where the data of an upload comes from
//! lost        the error of a lost connection
//! stats       counters
//! ```
//! No module here knows what an answer means: each request brings a [`Receiver`] that does.

mod core;
mod driver;
mod establish;
mod handle;
mod limits;
mod lost;
mod receiver;
mod request;
mod sinks;
mod stage;
mod stats;
mod upload;

pub use core::{Data, Left, MAX_CHUNK, MAX_UPLOADS, Piece};
pub use establish::{
    Approved, Established, Proven, Settings, TOTAL, Watch, rejection, stage, verify,
};
pub use handle::{Session, WeakSession};
pub use limits::{BOUND_BYTES, BOUND_REQUESTS, Bounds, Idle, Limits, MAX_BODY, Pace};
pub use lost::worker_gone;
pub use receiver::{Flow, Receiver};
pub use request::Request;
pub use stage::Stage;
pub use stats::Stats;
pub use upload::{Again, Source, Supply};
