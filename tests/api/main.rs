//! The C functions, driven from Rust against the local enclave: real sockets, real handshakes, real
//! evidence.

#![allow(unsafe_code)] // every call of the C API is one; its contract is the header

/// Makes two tests of each function that takes a `Server`: `NAME::on_0_1_14` and `NAME::on_newer`.
macro_rules! on_each_server {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn on_0_1_14() {
                super::$name(crate::harness::Server::V0_1_14);
            }

            #[test]
            fn on_newer() {
                super::$name(crate::harness::Server::Newer);
            }
        }
    )*};
}

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
