//! The protocol from a client's side: the answers of an honest enclave on each route, and its log.

mod common;

use common::schema::WebsocketRequest;
use common::{Client, Enclave, End, PATIENCE, chunk, hello, opening, run, said, scratch, upgrade};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

#[test]
fn a_ping_is_answered() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.ask(1, "GET", "/ping", "").await;
        assert_eq!(client.answer().await, (200, "PONG".into()));
    });
}

#[test]
fn a_wrong_token_is_refused_before_the_websocket_opens() {
    let enclave = Enclave::start(&["--token", "right one"]);
    run(async {
        for token in ["", "wrong", "right%20on", "right%20one%20"] {
            let refused = upgrade(&enclave, token).await;
            assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 500));
        }
        upgrade(&enclave, "right%20one")
            .await
            .expect("the right token, percent-encoded");
    });
}

#[test]
fn a_long_handshake_message_closes_the_connection() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut websocket = upgrade(&enclave, &enclave.token).await.expect("an upgrade");
        websocket
            .send(Message::binary(vec![0; 4_097]))
            .await
            .expect("it goes");
        let Some(Ok(Message::Close(Some(close)))) = websocket.next().await else {
            panic!("not closed")
        };
        assert_eq!(u16::from(close.code), 1011);
    });
}

#[test]
fn a_chat_streams_its_words_and_ends_with_completion() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "hello there", true).await;
        let events = client.events(1).await;
        assert_eq!(said(&events), "You said: hello there");
        assert_eq!(events.last().expect("an end")["max_context_tokens"], 32_768);
        client.chat(2, "hello again", false).await;
        assert_eq!(client.answer().await, (200, "You said: hello again".into()));
    });
}

#[test]
fn directives_shape_the_answer() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        for (id, (directive, answer)) in [
            ("/tokens 3 4", "lorelorelore"),
            ("/pack", "one two three"),
            ("/split", "cut \u{e9}\u{1f600} \"here\" "),
            ("/websearch", "webSearch=absent"),
            ("/thinking", "Thought through."),
            ("/unknown-event", "before after"),
            ("/server-tool", "The sky is clear."),
            ("/slow 1 2", "slow0 slow1 "),
            (
                "/repeat 3 1 of the  7th ",
                "of the  7th 0of the  7th 1of the  7th 2",
            ),
            ("/repeat 2 0 x", "x0x1"),
        ]
        .into_iter()
        .enumerate()
        {
            client.chat(id as i64, directive, true).await;
            assert_eq!(said(&client.events(id as i64).await), answer, "{directive}");
        }
        client
            .chat(50, r#"/client-tool clock {"zone":"UTC"}"#, true)
            .await;
        let events = client.events(50).await;
        assert_eq!(events[0]["tool_arguments"], r#"{"zone":"UTC"}"#);
        assert_eq!(events[1]["pending_tool_calls"], true);
        client.chat(51, "/status 503", true).await;
        assert_eq!(client.answer().await.0, 503);
        client.chat(52, "/big 200000", true).await;
        assert_eq!(client.events(52).await[0].to_string().len(), 200_000);
    });
}

/// Leads a conversation like an application: answers each client call under its id.
#[test]
fn tools_are_called_until_the_directive_ends() {
    let enclave = Enclave::start(&[]);
    let history = |role: &str, part: &str, event: &Value, text: &Value| {
        let content = json!({
            "toolCallId": event["tool_call_id"], "toolName": event["tool_name"], part: text,
        });
        json!({ "role": role, "content": content.to_string() })
    };
    run(async {
        let mut client = Client::connect(&enclave).await;
        for (directive, rounds, answer) in [
            (
                r#"/client-tools 3 clock {"a": 1}"#,
                1,
                "The tools answered: call-1 | call-2 | call-3",
            ),
            (
                r#"/tool-rounds 2 clock {"a": 1}"#,
                2,
                "The tools answered: call-1 | call-2",
            ),
            (
                r#"/mixed-tools clock {"a": 1}"#,
                1,
                "The tools answered: clear sky, 21 degrees | call-1",
            ),
            (
                r#"/client-tool clock {"a": 1}"#,
                1,
                "The tool answered: call-1",
            ),
        ] {
            let mut messages = vec![json!({ "role": "user", "content": directive })];
            for _ in 0..rounds {
                client.converse(1, &messages, true).await;
                let events = client.events(1).await;
                assert_eq!(events.last().expect("an end")["pending_tool_calls"], true);
                if !said(&events).is_empty() {
                    messages.push(json!({ "role": "assistant", "content": said(&events) }));
                }
                for event in &events {
                    let text = &event["tool_arguments"];
                    match event["type"].as_str() {
                        Some("tool_call") => {
                            messages.push(history("tool_call", "toolArguments", event, text));
                        }
                        Some("tool_response") => {
                            let full = &event["full_content"];
                            messages.push(history("tool_response", "content", event, full));
                        }
                        Some("client_tool_call") => {
                            let id = &event["tool_call_id"];
                            messages.push(history("tool_call", "toolArguments", event, text));
                            messages.push(history("tool_response", "content", event, id));
                        }
                        _ => {}
                    }
                }
            }
            client.converse(2, &messages, true).await;
            let events = client.events(2).await;
            assert_eq!(said(&events), answer);
            assert!(events.last().expect("an end")["pending_tool_calls"].is_null());
            messages[0]["content"] = "/echo-messages".into();
            client.converse(3, &messages, true).await;
            let echoed: Value = serde_json::from_str(&said(&client.events(3).await)).expect("JSON");
            assert_eq!(echoed, Value::from(messages.clone()));
            messages[0]["content"] = directive.into();
            messages.pop();
            client.converse(4, &messages, true).await;
            assert_eq!(client.answer().await.0, 400, "{directive}");
        }
    });
}

#[test]
fn answers_interleave() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "/slow 300 1", true).await;
        client.ask(2, "GET", "/ping", "").await;
        assert_eq!(client.receive().await.expect("an answer").id, Some(2));
        assert_eq!(client.receive().await.expect("an answer").id, Some(1));
    });
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        for (verb, path, body, status) in [
            ("POST", "/v1/vllm/chat/completions", "{", 400),
            (
                "POST",
                "/v1/vllm/chat/completions",
                r#"{"messages":[],"model":"m","stream":true}"#,
                400,
            ),
            ("POST", "/v1/embeddings", r#"{"texts":[]}"#, 400),
            ("POST", "/v1/document/extract", r#"{"filename":"a"}"#, 400),
            ("POST", "/v2/document/extract", "[]", 400),
            ("POST", "/v1/fetch/html", r#"{"url":"file:///x"}"#, 400),
            ("GET", "/v1/fetch/html", "", 404),
            ("GET", "/nowhere", "", 404),
        ] {
            client.ask(9, verb, path, body).await;
            let (answered, reason) = client.answer().await;
            assert_eq!(answered, status, "{path}");
            assert!(!reason.is_empty());
        }
    });
}

#[test]
fn what_cannot_be_accepted_closes_with_1003() {
    let enclave = Enclave::start(&[]);
    let request = |change: fn(&mut WebsocketRequest)| {
        let mut request = WebsocketRequest {
            id: Some(1),
            verb: Some("GET".into()),
            ..Default::default()
        };
        change(&mut request);
        request
    };
    run(async {
        for bad in [
            request(|_| {}),
            request(|request| request.verb = None),
            request(|request| {
                request.id = None;
                request.path = Some("/ping".into());
            }),
        ] {
            let mut client = Client::connect(&enclave).await;
            client.send(&bad).await;
            assert_eq!(client.receive().await, Err(End::Closed(Some(1003))));
        }
        let mut client = Client::connect(&enclave).await;
        client.send_plaintext(&[0xff; 9]).await;
        assert_eq!(client.receive().await, Err(End::Closed(Some(1003))));
        let mut client = Client::connect(&enclave).await;
        client
            .websocket
            .send(Message::text("hello"))
            .await
            .expect("it goes");
        assert_eq!(client.receive().await, Err(End::Closed(Some(1003))));
        let mut client = Client::connect(&enclave).await;
        client
            .websocket
            .send(Message::binary(vec![0; 100]))
            .await
            .expect("it goes");
        assert_eq!(client.receive().await, Err(End::Closed(Some(1011))));
    });
}

#[test]
fn embeddings_and_pages_are_answered_in_one_response() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client
            .ask(
                1,
                "POST",
                "/v1/embeddings",
                r#"{"texts":["a","b"],"isQuery":true}"#,
            )
            .await;
        let answer: Value = serde_json::from_str(&client.answer().await.1).expect("JSON");
        let dimension = answer["dimension"].as_u64().expect("a number") as usize;
        assert!(
            answer["embeddings"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|vector| vector.as_array().map(Vec::len) == Some(dimension))
        );
        client
            .ask(
                2,
                "POST",
                "/v1/fetch/html",
                r#"{"url":"https://a.test/","headers":{}}"#,
            )
            .await;
        assert!(client.answer().await.1.contains("https://a.test/"));
    });
}

/// Collects pieces up to the announced length.
async fn document(client: &mut Client, id: i64) -> Value {
    let mut document = Vec::new();
    loop {
        let piece = client.receive().await.expect("a piece");
        assert_eq!((piece.id, piece.status), (Some(id), Some(200)));
        let length: usize = piece.headers["Content-Length"].parse().expect("a number");
        document.extend_from_slice(&piece.body.unwrap_or_default());
        assert!(document.len() <= length);
        if document.len() == length {
            return serde_json::from_slice(&document).expect("JSON");
        }
    }
}

#[test]
fn a_document_goes_up_in_chunks_and_comes_back_in_pieces() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        let data = vec![b'x'; 1 << 20];
        let options =
            json!({ "filename": "a.txt", "content_type": "text/plain", "total_length": 3 << 20 });
        client.send(&opening(1, &options, &data, false)).await;
        client.send(&chunk(1, 2, &data, true)).await;
        client.send(&chunk(1, 1, &data, false)).await;
        let answer = document(&mut client, 1).await;
        let text = answer["document"]["md_content"].as_str();
        assert_eq!(text.map(str::len), Some(3 << 20));
    });
}

#[test]
fn refused_upload_is_reported_while_it_runs() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        let options =
            json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "total_length": 2 });
        client.send(&opening(1, &options, b"x", false)).await;
        assert_eq!(client.answer().await.0, 415);
        // Late chunks are ignored: the next response is the ping's.
        client.send(&chunk(1, 1, b"y", true)).await;
        client.ask(2, "GET", "/ping", "").await;
        assert_eq!(client.receive().await.expect("an answer").id, Some(2));
    });
}

#[test]
fn log_shows_requests_and_never_their_content() {
    let log = scratch("log");
    let enclave = Enclave::start(&["--log", log.to_str().expect("UTF-8")]);
    run(async {
        drop(hello(&enclave).await);
        let mut client = Client::connect(&enclave).await;
        client.ask(1, "GET", "/ping", "").await;
        client.answer().await;
        client.chat(2, "a-secret-word", false).await;
        client.answer().await;
        client.websocket.close(None).await.expect("closed");
        while client.plaintext(PATIENCE).await.is_ok() {}
    });
    let token = enclave.token.clone();
    drop(enclave);
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.contains("a-secret-word") && !text.contains(&token));
    let events = |connection: u64| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
        lines
            .filter(|line| line["connection"] == connection)
            .map(|line| line["event"].as_str().expect("an event").to_owned())
            .collect()
    };
    assert_eq!(
        events(1),
        ["accepted", "upgraded", "message-1", "message-2", "ended"]
    );
    assert_eq!(
        events(2),
        [
            "accepted",
            "upgraded",
            "message-1",
            "message-2",
            "message-3",
            "ping",
            "request",
            "close",
            "ended"
        ]
    );
}

#[test]
fn kept_world_survives_restart_except_its_address() {
    let state = scratch("state");
    let start = || Enclave::start_alone(&["--state", state.to_str().expect("UTF-8")]);
    let first = start();
    let (policy, evidence) = (first.policy(), run(hello(&first)).evidence());
    drop(first);
    let second = start();
    let mut again = second.policy();
    again["ita"]["jwks_url"] = policy["ita"]["jwks_url"].clone();
    assert_eq!(again, policy);
    let evidence_again = run(hello(&second)).evidence();
    for part in ["manifest", "manifestBundle"] {
        assert_eq!(evidence[part], evidence_again[part]);
    }
    assert_ne!(evidence["attestation"], evidence_again["attestation"]);
}

#[test]
fn enclave_leaves_no_file() {
    let mut enclave = Enclave::start_alone(&[]);
    assert!(enclave.policy_path.exists());
    assert!(enclave.stop());
    assert!(!enclave.policy_path.exists());

    let mut enclave = Enclave::start(&[]);
    let signal = std::process::Command::new("kill")
        .arg(enclave.process_id().to_string())
        .status();
    assert!(signal.expect("kill runs").success());
    assert!(enclave.stop());
    assert!(!enclave.policy_path.exists());
}

/// As the published server does.
#[test]
fn frames_of_a_long_answer_are_not_interleaved() {
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "/big 1000000", true).await;
        client.chat(2, "/big 1000000", true).await;
        let mut ids = Vec::new();
        while ids.len() < 32 {
            let plaintext = client.plaintext(PATIENCE).await.expect("a frame");
            let frame =
                common::schema::NoiseTransportFrame::decode(plaintext.as_slice()).expect("a frame");
            if frame.total_chunks == Some(16) {
                ids.push(frame.chunk_id);
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 2);
    });
}
