//! What the library has of the process that it runs in: the runtime's threads, each client's thread for callbacks, the
//! log, and the threads' end.
//!
//! It must never know what runs on them.

mod callbacks;
mod ending;
mod latch;
mod log;
mod runtime;

pub use callbacks::{Callbacks, Hold, Pump, on_callback_thread};
pub use ending::{Stay, Which, wait};
pub use latch::Latch;
pub use log::{Level, Log, Sink};
pub use runtime::{MAX_WORKERS, Runtime, set_workers, wait_for_threads};
