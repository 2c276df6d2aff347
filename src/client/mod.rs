//! What an application asks for, in Rust: configure, connect, chat, close. `ffi` says the same in C.
//!
//! It must never know how bytes travel (`session`, `net`) or why an enclave is trusted (`attestation`).

mod callbacks;
mod chat;
mod config;
mod connect;
mod ending;
mod event;
mod latch;
mod log;
mod runtime;

pub use callbacks::{Callbacks, Hold, Pump, on_callback_thread};
pub use chat::{ChatRequest, ChatStream, PreparedChat, Role};
pub use config::{Config, StageSink, production_verifier};
pub use connect::{Cancel, Client, Connecting, deadline};
pub use event::{Details, Event, Kind, MAX_EVENT, MAX_EVENT_DEPTH, Text};
pub use log::{Level, Log, Sink};
pub use runtime::{MAX_WORKERS, set_workers, wait_for_threads};
