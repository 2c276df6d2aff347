//! A client's life over several connections: the rules of `link/` as a state machine without I/O.
//!
//! Nothing uses it yet: `link/` is being rebuilt on it, rule by rule. Until then only its tests are
//! compiled.

#![allow(dead_code, unreachable_pub)]

pub(crate) mod core;
