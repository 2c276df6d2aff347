//! The C functions, driven from Rust against the local enclave: real sockets, real handshakes, real evidence.

#![allow(unsafe_code)] // every call of the C API is one; its contract is the header

mod faults;
mod harness;
mod hostile_network;
mod limits;
mod network;
mod networks;
mod promises;
mod reconnect;
mod restarts;
mod servers;
mod service;
mod uploads;
mod words;
