//! The library in Rust: configuration, requests, answers, events, streams, conversations. `ffi` is
//! the same in C.
//!
//! Does not know how bytes travel (`session`, `net`) or why an enclave is trusted (`attestation`).

mod answer;
mod argument;
mod chat;
#[allow(clippy::module_inception)]
mod client;
mod collect;
mod config;
mod delivery;
mod document;
mod event;
mod history;
mod inbox;
mod json;
mod keeper;
mod meter;
mod request;
mod run;
mod settings;
mod size;
mod stream;
mod token;
mod tool;
mod upload;
mod watch;
mod writes;

pub use crate::lifecycle::{Phase, TokenReason};
pub use answer::Ending;
pub use chat::{ChatRequest, MAX_DOCUMENTS, MAX_TOOLS, Number, PreparedChat};
pub use client::{Client, deadline};
pub use collect::{Collected, MAX_COLLECTED};
pub use config::{Config, production_verifier};
pub use delivery::{Calls, Delivery};
pub use event::{ClientEvent, Details, Event, Kind, MAX_EVENT, MAX_EVENT_DEPTH, Matrix, Text};
pub use history::{Conversation, Role};
pub use inbox::{Next, Signal};
pub use meter::set_process_unread;
pub use request::{
    EmbeddingsRequest, ExtractionRequest, FetchRequest, MAX_FETCH_HEADERS, MAX_PATH, MAX_TEXTS,
    MAX_VERB, PreparedRequest, RawRequest,
};
pub use settings::{BOUND_TIME, DURATIONS, LIMITS, Setting, bounded, time_limit};
pub use size::MAX_TEXT;
pub use stream::Stream;
pub use tool::{MAX_CALLS, MAX_ROUNDS, Owed};
pub use upload::{Document, Read};
pub use writes::Writes;

// Items of lower modules that `ffi` needs.
pub use crate::attestation::{
    Check, Evidenced, Export, MAX_POLICY, Outcome, Policy, Report, Verdict, Verifier,
};
pub use crate::host::{
    Level, Sink, block_signals_with, on_callback_thread, process_ends, set_workers,
    wait_for_threads,
};
pub use crate::net::Roots;
pub use crate::session::{BOUND_BYTES, Stage, TOTAL, rejection};
