//! Chats that another server answers: the requests it receives, its answers, and its failures.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use common::{Client, Enclave, run, said};
use serde_json::{Value, json};

/// Starts a server on loopback that sends one of these answers on each connection. The thread
/// returns the requests.
fn upstream(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let mut stream = BufReader::new(listener.accept().expect("a client").0);
                let mut length = 0;
                let mut line = String::new();
                while stream.read_line(&mut line).expect("a head") > 2 {
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).expect("a body");
                stream.get_mut().write_all(&answer).expect("answered");
                serde_json::from_slice(&body).expect("JSON")
            })
            .collect()
    });
    (url, server)
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn words(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| event(&json!({ "choices": [{ "delta": { "content": word } }] })))
        .collect()
}

fn end() -> String {
    let finish = event(&json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
    let usage = event(&json!({ "choices": [], "usage": { "total_tokens": 21 } }));
    format!(": a comment\r\n{finish}{usage}data: [DONE]\n\n")
}

fn to_the_end(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{body}").into()
}

/// Splits a body into chunks, without regard to lines.
fn chunked(body: &str) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for part in body.as_bytes().chunks(7) {
        out.extend_from_slice(format!("{:x};extension\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn server_answers_become_events() {
    let answer = words(&["Hel", "lo \u{1f44b}"]) + &end();
    let (url, server) = upstream(vec![
        to_the_end(&answer),
        chunked(&answer),
        chunked(&answer),
    ]);
    let enclave = Enclave::start(&["--upstream", &url, "--upstream-model", "tiny"]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        for id in [1, 2] {
            client.chat(id, "hi", true).await;
            let events = client.events(id).await;
            assert_eq!(said(&events), "Hello \u{1f44b}");
            assert_eq!(events.last().expect("an end")["context_tokens"], 21);
        }
        client.chat(3, "hi", false).await;
        assert_eq!(client.answer().await, (200, "Hello \u{1f44b}".into()));
    });
    for asked in server.join().expect("it served") {
        assert_eq!(
            (&asked["model"], &asked["stream"]),
            (&json!("tiny"), &json!(true))
        );
        assert_eq!(
            asked["messages"],
            json!([{ "role": "user", "content": "hi" }])
        );
    }
}

#[test]
fn failing_server_gives_502_and_no_completion() {
    let cut = chunked(&words(&["half"]));
    let (url, server) = upstream(vec![
        b"HTTP/1.1 500 Internal Server Error\r\n\r\nsecret stack trace".to_vec(),
        cut[..cut.len() - 5].to_vec(),
        to_the_end(&words(&["half"])),
        to_the_end("data: {not json}\n\n"),
    ]);
    let enclave = Enclave::start(&["--upstream", &url]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        for (id, heard) in [(1, None), (2, Some("half")), (3, Some("half")), (4, None)] {
            client.chat(id, "hi", true).await;
            if let Some(heard) = heard {
                assert!(client.answer().await.1.contains(heard));
            }
            assert_eq!(
                client.answer().await,
                (502, "the model server failed".into())
            );
        }
    });
    server.join().expect("it served");
    // The port is closed now.
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "hi", true).await;
        assert_eq!(client.answer().await.0, 502);
    });
}
