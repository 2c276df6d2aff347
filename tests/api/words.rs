//! Error messages are right: the peer's reason, the clock in doubt, and no internals of this
//! library.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use confer::error::Status;
use confer::ffi::status::*;

use crate::harness::*;

#[test]
fn status_descriptions_are_for_people() {
    for (_, name, description) in Status::ALL {
        assert_eq!(slip(description), None, "{name}: {description}");
    }
    for bad in [
        "use false://",
        "expected Some(3)",
        "see https://docs.rs/rustls",
        "panicked at src/net/tcp.rs:3",
        "cannot open /root/.cargo/registry",
        "cannot open \"/root/x\"",
    ] {
        assert!(slip(bad).is_some(), "{bad}");
    }
}

/// The code is in the message. The reason is the peer's text, which could repeat a prompt.
#[test]
fn close_code_and_reason_reach_the_application() {
    let reason = "the enclave's own\u{fffd}words";
    for (fault, message) in [
        (
            "message1-close",
            "handshake: the server closed the connection: the handshake failed on its side (close code 1011)",
        ),
        (
            "stream-close",
            "the server closed the connection: something failed on its side, such as decryption, a response or a stream (close code 1011)",
        ),
        (
            "stream-close-1003",
            "the server closed the connection: it cannot accept what it received (close code 1003)",
        ),
        (
            "stream-close-normal",
            "the server closed the connection (close code 1000)",
        ),
    ] {
        let enclave = Enclave::start(Some(fault));
        let failure = match connect(&config(&enclave)) {
            Err(failure) => failure,
            Ok(client) => {
                let stream = pull(&client, PROMPT).unwrap();
                let failure = read(&stream).1.unwrap_err();
                let of_client = check(&client).unwrap_err();
                assert_eq!(of_client.peer_text(), Some(reason), "{fault}");
                failure
            }
        };
        assert_eq!(failure.status(), CONFER_E_CONNECTION_LOST, "{failure:?}");
        let message = format!("{message}; the error's peer text has its reason");
        assert_eq!(failure.message(), message, "{fault}");
        assert_eq!(failure.peer_text(), Some(reason), "{fault}");
    }
}

/// A newer root cannot help if the certificate names no authority at all.
#[test]
fn missing_timestamp_is_not_reported_as_unknown_log() {
    for (fault, unknown) in [("release-no-sct", false), ("release-bad-sct", false)] {
        let enclave = Enclave::start(Some(fault));
        let failure = connect(&config(&enclave)).err().unwrap();
        assert_eq!(failure.check(), Some("release.signature"), "{failure:?}");
        assert_eq!(
            failure.message().contains("unknown"),
            unknown,
            "{failure:?}"
        );
    }
}

/// Every check that depends on the clock shows dates, and the error asks whether the clock is
/// right.
#[test]
fn clock_failures_ask_whether_the_clock_is_right() {
    for (fault, asks) in [
        ("time-expired", true),
        ("time-not-before", true),
        ("key-leaf-expired", true),
        ("key-leaf-future", true),
        ("log-time-future", true),
        ("time-too-long", false),
        ("key-leaf-altered", false),
    ] {
        let enclave = Enclave::start(Some(fault));
        let failure = connect(&config(&enclave)).err().unwrap();
        assert_eq!(failure.status(), CONFER_E_REJECTED, "{failure:?}");
        let message = failure.message();
        let question = message.contains("This device's clock says 20")
            && message.contains(" UTC; is it right?");
        assert_eq!(question, asks, "{fault}: {message}");
        assert!(message.contains(" Policy: local-enclave."), "{message}");
        if asks {
            let expected = message.split_once("Expected: ").unwrap().1;
            let (expected, found) = expected.split_once(" Found: ").unwrap();
            assert!(
                expected.contains(" UTC") && found.contains(" UTC"),
                "{fault}: {message}"
            );
        }
    }
}

/// Forwards one connection to the enclave, and adds a header to the answer to the upgrade.
fn with_header(upstream: u16, header: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        head.extend(format!("{header}\r\n").bytes());
        client.write_all(&head).unwrap();
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Write);
    });
    port
}

#[test]
fn servers_date_is_only_a_hint() {
    let hint = "The server's answer says 2023-12-05 00:10:00 UTC.";
    for (fault, header, expected) in [
        (
            Some("time-expired"),
            "Date: Tue, 05 Dec 2023 00:10:00 GMT",
            Some(true),
        ),
        (Some("time-expired"), "Date: <script>", Some(false)),
        (
            Some("time-expired"),
            "X-Date: Tue, 05 Dec 2023 00:10:00 GMT",
            Some(false),
        ),
        (
            Some("mrtd-other"),
            "Date: Tue, 05 Dec 2023 00:10:00 GMT",
            Some(false),
        ),
        (None, "Date: Tue, 05 Dec 2023 00:10:00 GMT", None),
    ] {
        let enclave = Enclave::start(fault);
        let config = config(&enclave);
        let port = with_header(enclave.port(), header);
        let url = format!("ws://127.0.0.1:{port}/websocket");
        config.set_endpoint(&url);
        match (connect(&config), expected) {
            (Ok(_), None) => {}
            (Err(failure), Some(hinted)) => {
                let message = failure.message();
                assert_eq!(message.contains(hint), hinted, "{header}: {message}");
                assert!(!message.contains("script"), "{message}");
            }
            (other, _) => panic!("{header}: {:?}", other.err()),
        }
    }
}
