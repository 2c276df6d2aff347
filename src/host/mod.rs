//! The threads of the library: workers for connections, helpers that wait for the system, one
//! thread for each client's callbacks. Also the log.
//!
//! Independent of the work that runs on them.

mod callbacks;
mod exit;
mod helpers;
mod latch;
mod log;
mod runtime;
mod threads;
mod watch;

pub use callbacks::{Callbacks, Hold, Pump, on_callback_thread};
pub use exit::process_ends;
pub use helpers::{Asked, FILES, LOOKUPS};
pub use latch::Latch;
pub use log::{Level, Log, Sink};
#[cfg(test)]
pub(crate) use runtime::testing;
pub use runtime::{MAX_WORKERS, Runtime, set_workers, wait_for_threads};
pub use threads::{Which, block_signals_with, wait};
pub use watch::{Starting, watch};
