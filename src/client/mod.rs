//! What an application asks for, in Rust: configure, connect, chat, close. `ffi` says the same in C.
//!
//! It must never know how bytes travel (`session`, `net`) or why an enclave is trusted (`attestation`).

mod answer;
mod callbacks;
mod chat;
#[allow(clippy::module_inception)]
mod client;
mod config;
mod connect;
mod dial;
mod ending;
mod event;
mod exchange;
mod history;
mod json;
mod latch;
mod link;
mod log;
mod request;
mod runtime;
mod stream;
mod tools;
mod tracked;
mod upload;

pub use answer::Ending;
pub use callbacks::{Callbacks, Hold, Pump, on_callback_thread};
pub use chat::{ChatRequest, MAX_TOOLS, Number, PreparedChat, StoredDocument};
pub use client::{Client, deadline};
pub use config::{Config, StageSink, production_verifier};
pub use connect::Connecting;
pub use dial::{Cancel, ReleaseSink, TokenProvider, TokenQuestion};
pub use event::{Details, Event, Kind, MAX_EVENT, MAX_EVENT_DEPTH, Matrix, Text};
pub use history::{Conversation, Role};
pub use link::{Attempts, Change, ChangeSink, Link, Reconnect, Renew};
pub use log::{Level, Log, Sink};
pub use request::{
    MAX_FETCH_HEADERS, MAX_PATH, MAX_TEXTS, MAX_VERB, PreparedRequest, RouteRequest,
};
pub use runtime::{MAX_WORKERS, set_workers, wait_for_threads};
pub use stream::Stream;
pub use tools::{DEFAULT_ROUNDS, DEFAULT_TOOL_LIMIT, MAX_CALLS, MAX_ROUNDS, Tool, ToolCall};
pub use upload::{Document, Read};
