//! Memory limits that an application sets: each works, and has its error.

use confer::ffi::connect::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use confer::ffi::version::*;

use crate::harness::*;

fn set(config: &Config, limit: i32, value: u64) -> Result<confer_status, Failure> {
    call(|e| unsafe { confer_config_set_limit(config.0, limit, value, e) })
}

fn limited(limit: i32, value: u64) -> (Enclave, Client) {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    set(&config, limit, value).unwrap();
    let client = connect(&config).unwrap();
    (enclave, client)
}

/// Waits until the client has received this many bytes.
fn await_bytes(client: &Client, bytes: u64) {
    until("bytes arrive", || {
        counter(client, CONFER_COUNTER_BYTES_RECEIVED) >= bytes
    });
}

#[test]
fn unread_stream_fails_at_its_limit_without_others() {
    let (_enclave, client) = limited(CONFER_LIMIT_STREAM_UNREAD, 256 << 10);
    let beside = pull(&client, "/slow 250 20").unwrap();
    let unread = pull(&client, "/tokens 300 10000").unwrap();
    await_bytes(&client, 2_000_000);
    let failure = read(&unread).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_SLOW_CONSUMER);
    read(&beside).1.unwrap();
}

#[test]
fn streams_with_more_than_their_share_fail() {
    let (_enclave, client) = limited(CONFER_LIMIT_CLIENT_UNREAD, 1 << 20);
    let beside = pull(&client, "/slow 250 20").unwrap();
    let unread: Vec<Stream> = (0..4)
        .map(|_| pull(&client, "/tokens 200 10000").unwrap())
        .collect();
    await_bytes(&client, 4_000_000);
    let ends: Vec<_> = unread.iter().map(|stream| read(stream).1).collect();
    let failed = ends.iter().filter_map(|end| end.as_ref().err());
    let failed: Vec<_> = failed.map(Failure::status).collect();
    assert!(!failed.is_empty());
    assert!(
        failed
            .iter()
            .all(|status| *status == CONFER_E_SLOW_CONSUMER)
    );
    read(&beside).1.unwrap();
}

#[test]
fn sole_unread_stream_pauses_and_loses_nothing() {
    let (_enclave, client) = limited(CONFER_LIMIT_STREAM_REST, 64 << 10);
    let stream = pull(&client, "/tokens 2000 10000").unwrap();
    await_bytes(&client, 64 << 10);
    std::thread::sleep(std::time::Duration::from_millis(300)); // the enclave fills all buffers
    let received = counter(&client, CONFER_COUNTER_BYTES_RECEIVED);
    assert!(
        received < 2_000_000,
        "{received} bytes were read for nobody"
    );
    let (text, end) = read(&stream);
    end.unwrap();
    assert_eq!(text.len(), 20_000_000);
}

#[test]
fn unfinished_messages_have_a_settable_limit() {
    let (_enclave, client) = limited(CONFER_LIMIT_UNFINISHED, 256 << 10);
    read(&pull(&client, "/big 200000").unwrap()).1.unwrap();
    let failure = read(&pull(&client, "/big 1000000").unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_LIMIT);
}

#[test]
fn open_and_unsent_requests_have_settable_limits() {
    let (_enclave, client) = limited(CONFER_LIMIT_REQUESTS, 2);
    let _open = [
        pull(&client, "/silent").unwrap(),
        pull(&client, "/silent").unwrap(),
    ];
    let refused = pull(&client, PROMPT).err().unwrap();
    assert_eq!(refused.status(), CONFER_E_TOO_MANY);
    let (_enclave, client) = limited(CONFER_LIMIT_UNSENT, 64 << 10);
    let refused = pull(&client, &"x".repeat(70_000)).err().unwrap();
    assert_eq!(refused.status(), CONFER_E_TOO_LARGE, "no time helps");
    assert!(!refused.retryable());
    assert!(refused.message().contains("CONFER_LIMIT_UNSENT"));
    read(&pull(&client, &"x".repeat(60_000)).unwrap())
        .1
        .unwrap();
}

#[test]
fn unsent_requests_are_refused_above_their_sum() {
    let enclave = Enclave::start(None);
    let config = asking(&enclave);
    config.set_limit(CONFER_LIMIT_UNSENT, 64 << 10);
    let client = start(&config); // nobody answers, so nothing is sent
    let long = "x".repeat(40_000);
    let first = pull(&client, &long).unwrap();
    let refused = pull(&client, &long).err().unwrap();
    assert_eq!(refused.status(), CONFER_E_TOO_MANY);
    assert!(refused.retryable());
    drop(first);
    until("there is room", || pull(&client, &long).is_ok());
}

#[test]
fn impossible_limits_are_refused() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    for (limit, value) in [
        (CONFER_LIMIT_STREAM_UNREAD, 1_000),
        (CONFER_LIMIT_CLIENT_UNREAD, 1 << 50),
        (CONFER_LIMIT_REQUESTS, 0),
        (CONFER_LIMIT_REQUESTS, 1_000_001),
        (-1, 1 << 20),
        (7, 1 << 20),
    ] {
        let failure = set(&config, limit, value).unwrap_err();
        assert_eq!(
            failure.status(),
            CONFER_E_INVALID_ARGUMENT,
            "{limit} {value}"
        );
    }
    let process = |bytes| call(|e| unsafe { confer_runtime_set_unread_limit(bytes, e) });
    assert_eq!(process(1).unwrap_err().status(), CONFER_E_INVALID_ARGUMENT);
    process(1 << 30).unwrap();
}
