//! A client's life over several connections.
//!
//! ```text
//! policy   when a lost connection is retried and a working one replaced: times, without a clock
//! core     the rules of `link/` as a state machine without I/O
//! ```
//! `link/` is being rebuilt on `core`, rule by rule. It uses `policy` already; until it uses `core`,
//! only the tests of `core` are compiled.

#[cfg(test)]
#[allow(dead_code, unreachable_pub)]
pub(crate) mod core;
pub mod policy;
