//! Memory that a hostile sender or a slow reader can make this process use: growth of its peak for
//! each case, and the limit in the header. docs/limits.md has the table.

use std::time::{Duration, Instant};

use confer::ffi::connect::*;
use confer::ffi::extraction::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;

use crate::harness::{self, Client, Enclave, Stream, call};
use crate::memory::{peak, resident, restart_peak};
use crate::table::{Aim, Table};

const MIB: f64 = 1_048_576.0;

pub fn run(enclave: &Enclave, table: &mut Table) {
    let config = harness::config(enclave);
    drop(harness::connect(&config).unwrap()); // sets up the runtime, the key set and the release
    let mut case = |what: &str, bound: &str, most: f64, work: &mut dyn FnMut()| {
        restart_peak();
        let before = resident();
        work();
        let grown = peak().saturating_sub(before) as f64 / MIB;
        table.row(
            what,
            format!("{grown:.1} MiB"),
            bound.into(),
            grown,
            "MiB",
            Aim::AtMost(most),
        );
    };
    case(
        "a sole stream that nobody reads, 200 MB sent",
        "1 MiB, and what one read of the socket brings",
        4.0,
        &mut || {
            let client = harness::connect(&config).unwrap();
            let _unread = harness::pull(&client, "/tokens 20000 10000").unwrap();
            settle(&client);
        },
    );
    case(
        "twenty streams that nobody reads, 400 MB sent",
        "64 MiB a client, and as much for shares",
        128.0,
        &mut || {
            let client = harness::connect(&config).unwrap();
            let _unread: Vec<Stream> = (0..20)
                .map(|_| harness::pull(&client, "/tokens 2000 10000").unwrap())
                .collect();
            settle(&client);
        },
    );
    case(
        "an event of 16 MB",
        "16 MiB, its message, and its text",
        80.0,
        &mut || {
            let client = harness::connect(&config).unwrap();
            let big = harness::pull(&client, "/big 16000000").unwrap();
            harness::read(&big).1.unwrap();
        },
    );
    case(
        "messages that are never finished",
        "64 MiB a connection",
        80.0,
        &mut || {
            let hostile = Enclave::start(Some("frame-too-many-bytes-spread"));
            let client = harness::connect(&harness::config(&hostile)).unwrap();
            let stream = harness::pull(&client, "anything").unwrap();
            let failure = harness::read(&stream).1.unwrap_err();
            assert_eq!(failure.status(), CONFER_E_LIMIT);
        },
    );
    case(
        "a file of 200 MiB for a peer that does not read",
        "2 chunks of 1 MiB, copied once",
        8.0,
        &mut || {
            let hostile = Enclave::start(Some("upload-not-read"));
            let config = harness::config(&hostile);
            config.set_duration(CONFER_DURATION_KEEPALIVE, 300);
            config.set_duration(CONFER_DURATION_DEAD_PEER, 1_000);
            let client = harness::connect(&config).unwrap();
            let path = harness::fresh("document");
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(200 << 20).unwrap();
            let (request, name) = (harness::extraction_of("a.pdf"), path.to_str().unwrap());
            call(|e| unsafe {
                let name = (name.as_ptr().cast(), name.len());
                confer_extraction_request_set_document_file(request.0, name.0, name.1, e)
            })
            .unwrap();
            let stream = harness::send(&client, &request).unwrap();
            let failure = harness::read_body(&stream).1.unwrap_err();
            assert_eq!(failure.status(), CONFER_E_DEAD_PEER);
        },
    );
}

/// Waits until nothing more arrives.
fn settle(client: &Client) {
    let received = || unsafe { confer_client_counter(client.0, CONFER_COUNTER_BYTES_RECEIVED) };
    let (mut last, mut since) = (received(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(20));
        if received() != last {
            (last, since) = (received(), Instant::now());
        }
    }
}
