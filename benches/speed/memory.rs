//! Memory of an idle connection: growth of this process over a thousand connections that have
//! pinged.

use std::time::Duration;

use confer::ffi::settings::*;

use crate::harness::{self, Enclave};
use crate::table::{Aim, Table};

const CONNECTIONS: u64 = 1_000;
/// Two sockets for each connection, one at each end, and some for the rest of a process.
const DESCRIPTORS: libc::rlim_t = 4_096;
/// Short, so that each connection has pinged before the measurement.
const KEEPALIVE_MS: u64 = 2_000;

/// Raises the limit of open files for this process and the enclave, which inherits it.
pub fn allow_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is readable and writable.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS).max(limit.rlim_cur);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

pub fn run(enclave: &Enclave, table: &mut Table) {
    let config = harness::config(enclave);
    config.set_duration(CONFER_DURATION_KEEPALIVE, KEEPALIVE_MS);
    // The first connection sets up the runtime, the key set and the release.
    let first = harness::connect(&config).unwrap();
    let before = resident();
    let others: Vec<_> = (0..CONNECTIONS)
        .map(|_| harness::connect(&config).unwrap())
        .collect();
    std::thread::sleep(Duration::from_millis(2 * KEEPALIVE_MS));
    let each = resident().saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0;
    drop((others, first));
    table.row(
        &format!("memory of an idle connection, at {CONNECTIONS}"),
        format!("{each:.1} KiB"),
        String::new(),
        each,
        "KiB",
        Aim::AtMost(32.0),
    );
}

/// Returns the peak of resident bytes since [`restart_peak`] (proc(5), `VmHWM`).
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number of KiB")
        * 1_024
}

/// Resets [`peak`] (proc(5), `clear_refs`). The allocator's unused memory is returned first.
pub fn restart_peak() {
    // SAFETY: only returns unused memory of the allocator.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

/// Returns the resident bytes: the second number of statm, in pages (proc(5)).
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    // SAFETY: accesses no memory of the caller.
    pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}
