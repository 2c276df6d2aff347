//! `make bench`: measures the library and what it is compared with, alternately in the same run.
//!
//! Prints figures and checks none of them, because they depend on the machine's load.
//! docs/performance.md explains them.

#![allow(unsafe_code)] // for calls of the C API; the header is their contract

mod bare;
mod busy;
mod connect;
mod first;
#[allow(dead_code)] // tests/api uses the rest
#[path = "../../tests/api/harness.rs"]
mod harness;
mod latency;
mod limits;
mod measure;
mod memory;
mod primitives;
mod relay;
mod size;
mod stream;
mod table;
mod throughput;

use busy::Busy;
use harness::Enclave;
use table::Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == first::CHILD
    {
        return first::child(rest);
    }
    // `cargo bench` passes `--bench`. Any other word names a part.
    let named: Vec<String> = arguments
        .into_iter()
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    memory::allow_descriptors();
    let enclave = Enclave::start(None);
    let mut table = Table::default();
    // First, before anything else grows the heap.
    if wanted("memory") {
        memory::run(&enclave, &mut table);
    }
    if wanted("limits") {
        limits::run(&enclave, &mut table);
    }
    if wanted("first") {
        first::run(&enclave, &mut table);
    }
    if wanted("connect") {
        connect::run(&enclave, &mut table);
    }
    if wanted("throughput") {
        throughput::run(&enclave, &mut table);
    }
    for (load, is_busy) in [("", false), (", one core busy", true)] {
        let _busy = is_busy.then(Busy::start);
        if wanted("stream") {
            stream::run(&enclave, &mut table, load);
        }
        if wanted("latency") {
            latency::run(&enclave, &mut table, load);
        }
    }
    if wanted("size") {
        size::run(&mut table);
    }
    table.print();
    drop(enclave);
    let _ = std::fs::remove_dir_all(harness::scratch());
}
