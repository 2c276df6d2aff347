//! The differences between the servers: each behaviour of README.md's table, against both.

mod common;

use std::time::Duration;

use common::{
    Client, Enclave, End, PATIENCE, chunk, log_lines, opening, run, said, scratch, upgrade,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

const SERVERS: [&str; 2] = ["0.1.14", "newer"];
/// A client that receives nothing for this long will receive nothing.
const SILENCE: Duration = Duration::from_millis(400);
const CHATS: &str = "/v1/vllm/chat/completions";

fn start(server: &str, more: &[&str]) -> Enclave {
    Enclave::start(&[&["--server", server], more].concat())
}

/// A request that every server takes.
fn good() -> Value {
    json!({ "messages": [{ "role": "user", "content": "hello" }], "model": "m", "stream": true })
}

async fn ask_chat(client: &mut Client, id: i64, request: &Value) {
    client.ask(id, "POST", CHATS, &request.to_string()).await;
}

/// Checks that the connection answers pings and sends nothing else.
async fn only_pings_are_answered(client: &mut Client) {
    assert_eq!(client.message(SILENCE).await, Err(End::Silence));
    client.ask(1_000, "GET", "/ping", "").await;
    let answer = client.receive().await.expect("a pong");
    assert_eq!((answer.id, answer.status), (Some(1_000), Some(200)));
}

#[test]
fn newer_is_the_default() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client
            .ask(1, "POST", "/v1/fetch/html", r#"{"url":"http://a.test/"}"#)
            .await;
        assert_eq!(client.answer().await.0, 200);
    });
}

#[test]
fn a_failing_model_is_silent_in_0_1_14_and_a_status_in_newer() {
    let with = |name: &str, value: Value| {
        let mut request = good();
        request[name] = value;
        request
    };
    let says = |content: &str| json!([{ "role": "user", "content": content }]);
    let failures = [
        (with("messages", json!([])), 400, 0),
        (
            with("messages", json!([{ "role": "user", "content": null }])),
            400,
            0,
        ),
        (with("messages", says(&"word ".repeat(32_769))), 413, 0),
        (with("temperature", json!(-1)), 400, 0),
        (with("messages", says("/model-error")), 500, 2),
    ];
    for server in SERVERS {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            for (at, (request, status, before)) in failures.iter().enumerate() {
                ask_chat(&mut client, at as i64, request).await;
                for _ in 0..*before {
                    assert_eq!(client.answer().await.0, 200);
                }
                match server {
                    "newer" => assert_eq!(client.answer().await.0, *status),
                    _ => only_pings_are_answered(&mut client).await,
                }
                let mut request = request.clone();
                request["stream"] = false.into();
                ask_chat(&mut client, at as i64, &request).await;
                let expected = if server == "newer" { *status } else { 500 };
                assert_eq!(client.answer().await.0, expected);
            }
        });
    }
}

#[test]
fn a_failing_stream_closes_newer_with_1011() {
    for server in SERVERS {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            client.chat(1, "/stream-error", true).await;
            for _ in 0..2 {
                assert_eq!(client.answer().await.0, 200);
            }
            if server == "0.1.14" {
                return only_pings_are_answered(&mut client).await;
            }
            assert_eq!(client.receive().await, Err(End::Closed(Some(1011))));
        });
    }
}

/// Checks that the socket ends without a close frame.
async fn ends_without_a_close_frame(client: &mut Client) {
    loop {
        match tokio::time::timeout(PATIENCE, client.websocket.next()).await {
            Ok(Some(Ok(Message::Close(_)))) => panic!("a close frame"),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) => return,
            Err(_) => panic!("still open"),
        }
    }
}

#[test]
fn silent_client_is_dropped_without_close_frame() {
    for server in SERVERS {
        let log = scratch(&format!("silent-{server}"));
        let times = ["--silence-ms", "1000", "--silence-check-ms", "50"];
        let path = log.to_str().expect("UTF-8");
        let enclave = start(server, &[&times[..], &["--log", path]].concat());
        run(async {
            let (mut silent, mut pinging) = (
                Client::connect(&enclave).await,
                Client::connect(&enclave).await,
            );
            // An answer in progress does not count: the client must send something.
            silent.chat(1, "/slow 100 1000", true).await;
            let ping = async {
                loop {
                    pinging.ask(1, "GET", "/ping", "").await;
                    assert_eq!(pinging.answer().await.0, 200);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let silence = std::pin::pin!(ends_without_a_close_frame(&mut silent));
            futures_util::future::select(silence, std::pin::pin!(ping)).await;
            pinging.ask(2, "GET", "/ping", "").await;
            assert_eq!(pinging.answer().await.0, 200);
        });
        let silent = |line: &Value| line["why"] == "the client sent nothing for 1s";
        let count = || log_lines(&log).iter().filter(|line| silent(line)).count();
        // The log line may follow the end of the connection.
        let until = std::time::Instant::now() + PATIENCE;
        while count() == 0 && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(count(), 1);
    }
}

#[test]
fn silence_is_noticed_at_the_next_check() {
    let enclave = start(
        "newer",
        &["--silence-ms", "1", "--silence-check-ms", "3600000"],
    );
    run(async {
        let mut client = Client::connect(&enclave).await;
        assert_eq!(client.message(SILENCE).await, Err(End::Silence));
    });
}

fn options(length: usize) -> Value {
    json!({ "filename": "a.txt", "content_type": "text/plain", "total_length": length })
}

/// Opens an upload that waits for more chunks.
async fn open(client: &mut Client, id: i64) {
    client.send(&opening(id, &options(2), b"x", false)).await;
}

async fn open_ten(client: &mut Client) {
    for id in 1..=10 {
        open(client, id).await;
    }
}

#[test]
fn upload_keeps_its_place_until_its_final_chunk() {
    for server in SERVERS {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            open_ten(&mut client).await;
            open(&mut client, 11).await;
            let refused = (500, "Document extraction failed".to_owned());
            assert_eq!(client.answer().await, refused);
            // Gives it up with an empty final chunk, which frees its place whatever the answer is.
            client.send(&chunk(4, 1, b"", true)).await;
            let answer = client.receive().await.expect("an answer");
            assert_eq!(answer.id, Some(4));
            let short = if server == "newer" { 502 } else { 200 };
            assert_eq!(answer.status, Some(short));
            if server == "0.1.14" {
                client.receive().await.expect("the second piece");
            }
            client.send(&opening(12, &options(2), b"xy", true)).await;
            assert_eq!(client.answer().await.0, 200);
            // Places are counted per connection.
            let mut other = Client::connect(&enclave).await;
            other.send(&opening(1, &options(2), b"xy", true)).await;
            assert_eq!(other.answer().await.0, 200);
        });
    }
}

#[test]
fn upload_keeps_its_place_until_its_timeout() {
    for (server, status) in [("0.1.14", 502), ("newer", 503)] {
        let enclave = start(server, &["--upload-timeout-ms", "700"]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            open_ten(&mut client).await;
            open(&mut client, 11).await;
            assert_eq!(client.answer().await.0, 500);
            for _ in 1..=10 {
                let answer = client.receive().await.expect("an answer");
                assert_eq!(answer.status, Some(status));
            }
            client.send(&opening(12, &options(2), b"xy", true)).await;
            assert_eq!(client.answer().await.0, 200);
        });
    }
}

/// Returns the answer to an upload of one chunk.
async fn extract(client: &mut Client, options: &Value, document: &[u8]) -> Result<Value, i32> {
    client.send(&opening(1, options, document, true)).await;
    let mut body = Vec::new();
    loop {
        let piece = client.receive().await.expect("an answer");
        match piece.status {
            Some(200) => body.extend(piece.body.unwrap_or_default()),
            status => return Err(status.expect("a status")),
        }
        let length: usize = piece.headers["Content-Length"].parse().expect("a number");
        assert_eq!(piece.headers["Content-Type"], "application/json");
        if body.len() == length {
            return Ok(serde_json::from_slice(&body).expect("JSON"));
        }
    }
}

#[test]
fn each_server_enforces_its_rules_for_documents() {
    for server in SERVERS {
        let newer = server == "newer";
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            for (options, document, status) in [
                (json!({ "filename": "a.txt", "total_length": 1 }), "x", None),
                (json!({ "filename": "a.txt" }), "x", Some(400)),
                (
                    json!({ "filename": "a.txt", "total_length": 0 }),
                    "",
                    Some(400),
                ),
                (
                    json!({ "filename": "a.txt", "total_length": (256 << 20) + 1 }),
                    "x",
                    Some(400),
                ),
                (
                    json!({ "filename": "a.txt", "total_length": 1 }),
                    "xy",
                    Some(500),
                ),
                (
                    json!({ "filename": "a.txt", "total_length": 3 }),
                    "xy",
                    Some(502),
                ),
                (
                    json!({ "filename": "a.mp3", "total_length": 1 }),
                    "x",
                    Some(415),
                ),
                (
                    json!({ "filename": "a.txt", "content_type": "audio/mpeg", "total_length": 1 }),
                    "x",
                    Some(415),
                ),
            ] {
                let answer = extract(&mut client, &options, document.as_bytes()).await;
                assert_eq!(answer.err(), status.filter(|_| newer), "{options}");
            }
            // Newer servers do not read options of a wrong type.
            let options = json!({ "filename": "a.txt", "total_length": 1, "ocr": "yes" });
            let answer = extract(&mut client, &options, b"x").await;
            assert_eq!(answer.err(), (!newer).then_some(400));
        });
    }
}

#[test]
fn each_server_has_its_largest_document() {
    for (server, mib) in [("0.1.14", 50), ("newer", 256)] {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            let part = vec![b'x'; 1 << 20];
            client
                .send(&opening(1, &options(mib << 20), &part, false))
                .await;
            for seq in 1..=mib as u32 {
                client.send(&chunk(1, seq, &part, false)).await;
            }
            assert_eq!(client.answer().await, (500, "Stream write failed".into()));
        });
    }
}

#[test]
fn each_server_limits_chunks_out_of_order() {
    for (server, most) in [("0.1.14", 64), ("newer", 256)] {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            for (id, ahead) in [(1, most), (2, most + 1)] {
                let length = ahead as usize + 2;
                client
                    .send(&opening(id, &options(length), b"x", false))
                    .await;
                for seq in (2..ahead + 2).rev() {
                    client.send(&chunk(id, seq, b"x", seq == ahead + 1)).await;
                }
                client.send(&chunk(id, 1, b"x", false)).await;
                let answer = client.receive().await.expect("an answer");
                let expected = if ahead > most { 500 } else { 200 };
                assert_eq!((answer.id, answer.status), (Some(id), Some(expected)));
                while client.message(SILENCE).await.is_ok() {}
            }
        });
    }
}

#[test]
fn answers_to_documents_have_each_servers_shape() {
    for server in SERVERS {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            let answer = extract(&mut client, &options(5), b"words")
                .await
                .expect("extracted");
            assert_eq!(answer["document"]["md_content"], "words");
            let exactly = json!({ "document": { "md_content": "words" } });
            assert_eq!(answer == exactly, server == "newer");
            assert_eq!(answer["status"] == "success", server == "0.1.14");
        });
    }
}

#[test]
fn an_answer_of_no_bytes_is_no_piece_in_0_1_14() {
    for server in SERVERS {
        let enclave = start(server, &["--fault", "document-length-zero"]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            client.send(&opening(1, &options(1), b"x", true)).await;
            if server == "0.1.14" {
                return only_pings_are_answered(&mut client).await;
            }
            let piece = client.receive().await.expect("a piece");
            assert_eq!(piece.headers["Content-Length"], "0");
        });
    }
}

#[test]
fn newer_routes_are_not_found_in_0_1_14() {
    let stored = json!({
        "filename": "a.pdf", "total_length": 9, "source_object_key": "k", "encryption_key": "e",
    });
    let whole = json!({ "text_length": 18, "markdown": "A stored document." });
    for server in SERVERS {
        let enclave = start(server, &[]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            let expected = if server == "newer" { 200 } else { 404 };
            client
                .ask(1, "POST", "/v1/fetch/html", r#"{"url":"http://a.test/"}"#)
                .await;
            assert_eq!(client.answer().await.0, expected);
            client
                .ask(2, "POST", "/v2/document/extract", &stored.to_string())
                .await;
            let (status, mut body) = client.answer().await;
            assert_eq!(status, expected);
            if server == "newer" {
                body += &client.answer().await.1;
                assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), whole);
            }
        });
    }
}

#[test]
fn each_server_reads_its_own_properties_of_a_chat() {
    let tool = |name: &str| json!({ "name": name, "description": "", "parameters": {} });
    let mut request = good();
    request["messages"][0] = json!({ "role": "user", "content": "/echo-read", "imageRefs": [] });
    request["clientTools"] = json!([tool("file_read"), tool("clock")]);
    request["thinking"] = true.into();
    request["another"] = 1.into();
    for server in SERVERS {
        let enclave = start(server, &[]);
        let read: Value = run(async {
            let mut client = Client::connect(&enclave).await;
            ask_chat(&mut client, 1, &request).await;
            serde_json::from_str(&said(&client.events(1).await)).expect("JSON")
        });
        let mut expected = request.clone();
        if server == "newer" {
            expected["clientTools"] = json!([tool("clock")]);
        } else {
            expected["messages"][0] = json!({ "role": "user", "content": "/echo-read" });
            let expected = expected.as_object_mut().expect("an object");
            expected.retain(|name, _| !["thinking", "another"].contains(&name.as_str()));
        }
        assert_eq!(read, expected);
    }
}

#[test]
fn bad_token_is_refused_at_upgrade_or_per_request() {
    for server in SERVERS {
        let enclave = start(server, &["--token", "good", "--unauthorized-token", "bad"]);
        run(async {
            for token in ["", "unknown"] {
                let refused = upgrade(&enclave, token).await;
                assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 500));
            }
            if server == "0.1.14" {
                let refused = upgrade(&enclave, "bad").await;
                assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 500));
                return;
            }
            let mut client = Client::connect_as(&enclave, "bad").await;
            client.chat(1, "hello", true).await;
            assert_eq!(client.answer().await.0, 401);
        });
    }
}

#[test]
fn options_of_servers_are_checked() {
    for arguments in [
        ["--server", "0.1.15"],
        ["--silence-ms", "0"],
        ["--silence-check-ms", "soon"],
        ["--upload-timeout-ms", "-1"],
    ] {
        let tried = std::process::Command::new(env!("CARGO_BIN_EXE_confer-enclave"))
            .args(arguments)
            .output();
        assert_eq!(
            tried.expect("it runs").status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}
