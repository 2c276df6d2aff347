//! The C ABI: checks arguments, calls `client`, and translates results. Has no other logic.
//!
//! The files are the sections of `include/confer.h`, which `make header` writes from the comments
//! here. `support/` has their helpers. Only this module has `unsafe` code. The header states the
//! contract of all exports once: handles are NULL or live, outputs are NULL or writable, texts are
//! readable for their length. NULL is always checked.

#![allow(unsafe_code)]
// The contract above is the safety section of each function.
#![allow(clippy::missing_safety_doc)]
// Indented lines are for the header: tables and C programs.
#![allow(rustdoc::invalid_rust_codeblocks)]

mod support;

pub mod callbacks;
pub mod client_event;
pub mod config;
pub mod connect;
pub mod conversation;
pub mod embeddings;
pub mod error;
pub mod event;
pub mod extraction;
pub mod fetch;
pub mod log;
pub mod names;
pub mod policy;
pub mod raw;
pub mod report;
pub mod report_evidence;
pub mod report_fields;
pub mod request;
pub mod sampling;
pub mod settings;
pub mod start;
pub mod status;
pub mod stream;
pub mod tool;
pub mod types;
pub mod upload;
pub mod version;
pub mod watch;
