//! Every route, tools and conversations.

use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use confer::ffi::callbacks::*;
use confer::ffi::connect::*;
use confer::ffi::conversation::*;
use confer::ffi::embeddings::*;
use confer::ffi::event::*;
use confer::ffi::fetch::*;
use confer::ffi::raw::*;
use confer::ffi::request::*;
use confer::ffi::sampling::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use confer::ffi::tool::*;
use confer::ffi::types::*;
use confer::ffi::watch::*;
use serde_json::{Value, json};

use crate::harness::*;

/// Starts an enclave, and connects.
fn connected() -> (Enclave, Client) {
    connected_to(Server::Newer)
}

fn connected_to(server: Server) -> (Enclave, Client) {
    let enclave = Enclave::of(server, None);
    let client = connect(&config(&enclave)).unwrap();
    (enclave, client)
}

on_each_server! {
    ping_reports_its_round_trip,
    embeddings_are_a_matrix_with_a_row_per_text,
    page_is_fetched_and_a_refusal_has_a_reason,
    unstreamed_chat_is_one_text,
    any_route_works_with_any_ending,
    messages_at_the_frame_limit_arrive,
    typed_setters_write_what_the_protocol_names_and_refuse_what_newer_servers_refuse,
    every_kind_of_request_works_with_callbacks,
    failing_model_ends_a_stream_on_each_server,
}

macro_rules! set {
    ($function:ident($handle:expr $(, $argument:expr)*)) => {
        call(|e| unsafe { $function($handle.0 $(, $argument)*, e) })
    };
}

fn t(text: &str) -> *const std::ffi::c_char {
    text.as_ptr().cast()
}

fn ping_reports_its_round_trip(server: Server) {
    let (_enclave, client) = connected_to(server);
    let mut times = Vec::new();
    for _ in 0..3 {
        let stream = send(&client, &Ping).unwrap();
        drain(&stream, |event| unsafe {
            assert_eq!(confer_event_type(event), CONFER_EVENT_PONG);
            assert!(confer_event_json(event, ptr::null_mut()).is_null());
            times.push(confer_event_round_trip_us(event));
        })
        .unwrap();
    }
    assert_eq!(times.len(), 3);
    assert!(
        times.iter().all(|us| (1..10_000_000).contains(us)),
        "{times:?}"
    );
}

/// Makes a request with these texts.
fn embeddings(texts: &[&str], is_query: bool) -> Embeddings {
    let mut request = ptr::null_mut();
    call(|e| unsafe { confer_embeddings_request_new(&mut request, e) }).unwrap();
    let request = Embeddings(request);
    set!(confer_embeddings_request_set_is_query(request, is_query)).unwrap();
    for text in texts {
        set!(confer_embeddings_request_add_text(
            request,
            t(text),
            text.len()
        ))
        .unwrap();
    }
    request
}

fn embeddings_are_a_matrix_with_a_row_per_text(server: Server) {
    let (enclave, client) = connected_to(server);
    let embed = |texts: &[&str], is_query| {
        let mut matrix = Vec::new();
        drain(
            &send(&client, &embeddings(texts, is_query))?,
            |event| unsafe {
                assert_eq!(confer_event_type(event), CONFER_EVENT_EMBEDDINGS);
                let (mut rows, mut columns) = (0, 0);
                let values = confer_event_embeddings(event, &mut rows, &mut columns);
                let values = std::slice::from_raw_parts(values, rows * columns);
                matrix.extend(values.chunks(columns).map(<[f32]>::to_vec));
            },
        )?;
        Ok::<_, Failure>(matrix)
    };
    let rows = embed(&["one", "two \"quoted\"", "one"], false).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], rows[2]);
    assert_ne!(rows[0], rows[1]);
    for row in &rows {
        let norm: f32 = row.iter().map(|x| x * x).sum();
        assert!(row.len() == 64 && (norm - 1.0).abs() < 1e-5);
    }
    assert_ne!(
        embed(&["one"], true).unwrap()[0],
        rows[0],
        "isQuery is told"
    );

    let many = vec!["x"; 64];
    assert_eq!(embed(&many, false).unwrap().len(), 64);
    let failure = embed(&[], false).unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
    let request = embeddings(&many, false);
    let refused = set!(confer_embeddings_request_add_text(request, t("x"), 1)).unwrap_err();
    assert_eq!(refused.status(), CONFER_E_TOO_LARGE);
    assert_eq!(enclave.requests("/v1/embeddings").len(), 3);
}

fn page_is_fetched_and_a_refusal_has_a_reason(server: Server) {
    let (_enclave, client) = connected_to(server);
    let fetch = |url: &str| {
        let mut request = ptr::null_mut();
        call(|e| unsafe { confer_fetch_request_new(t(url), url.len(), &mut request, e) }).unwrap();
        let request = Fetch(request);
        set!(confer_fetch_request_set_header(
            request,
            t("accept"),
            6,
            t("text/html"),
            9
        ))
        .unwrap();
        read_body(&send(&client, &request).unwrap())
    };
    let (page, end) = fetch("http://example.test/");
    if server == Server::V0_1_14 {
        assert_eq!(end.unwrap_err().http_status(), 404);
        return;
    }
    end.unwrap();
    assert!(String::from_utf8(page).unwrap().contains("<html"));
    let failure = fetch("http://unreachable.test/").1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.http_status()),
        (CONFER_E_REFUSED, 502)
    );
    assert!(failure.retryable());
}

fn unstreamed_chat_is_one_text(server: Server) {
    let (_enclave, client) = connected_to(server);
    let request = request("hello there");
    set!(confer_chat_request_set_streaming(request, false)).unwrap();
    let (body, end) = read_body(&send(&client, &request).unwrap());
    end.unwrap();
    assert_eq!(body, b"You said: hello there");
}

fn failing_model_ends_a_stream_on_each_server(server: Server) {
    let enclave = Enclave::of(server, None);
    let config = config(&enclave);
    config.set_idle(2_000);
    let client = connect(&config).unwrap();
    let (answer, end) = read(&pull(&client, "/model-error").unwrap());
    assert_eq!(answer, "one two ");
    let ended = (
        end.as_ref().unwrap_err().status(),
        end.unwrap_err().http_status(),
    );
    let silent = (CONFER_E_STREAM_IDLE, 0);
    assert_eq!(ended, server.expect(silent, (CONFER_E_REFUSED, 500)));
    read(&pull(&client, "and now?").unwrap()).1.unwrap();
}

/// Makes a request of any route.
fn raw(verb: &str, path: &str, body: &str, ending: i32) -> Result<Raw, Failure> {
    let mut request = ptr::null_mut();
    call(|e| unsafe {
        let (verb, path) = ((t(verb), verb.len()), (t(path), path.len()));
        confer_raw_request_new(verb.0, verb.1, path.0, path.1, ending, &mut request, e)
    })
    .inspect_err(|_| assert!(request.is_null()))?;
    let request = Raw(request);
    set!(confer_raw_request_set_body(request, t(body), body.len()))?;
    Ok(request)
}

fn any_route_works_with_any_ending(server: Server) {
    let (enclave, client) = connected_to(server);
    let any =
        |verb: &str, path: &str, body: &str, ending| send(&client, &raw(verb, path, body, ending)?);
    let (pong, end) = read_body(&any("GET", "/ping", "", CONFER_ENDING_ONE_RESPONSE).unwrap());
    end.unwrap();
    assert_eq!(pong, b"PONG");

    let chat = json!({"model": "m", "stream": true, "webSearch": false,
                      "messages": [{"role": "user", "content": "raw"}]});
    let chat = any("POST", CHATS, &chat.to_string(), CONFER_ENDING_COMPLETION).unwrap();
    let (answer, end) = read(&chat);
    end.unwrap();
    assert_eq!(answer, "You said: raw");

    let reference = json!({"filename": "a.pdf", "total_length": 9, "source_object_key": "k",
                           "encryption_key": "secret"});
    let reference = reference.to_string();
    let path = "/v2/document/extract";
    let stored = any("POST", path, &reference, CONFER_ENDING_CONTENT_LENGTH).unwrap();
    let (document, end) = read_body(&stored);
    if server == Server::Newer {
        end.unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["markdown"], "A stored document.");
    } else {
        assert_eq!(end.unwrap_err().http_status(), 404);
    }

    let (_, end) = read_body(&any("GET", "/no/route", "", CONFER_ENDING_ONE_RESPONSE).unwrap());
    assert_eq!(end.unwrap_err().http_status(), 404);

    for (verb, path, ending) in [
        ("", "/x", 0),
        ("GET", "", 0),
        ("GET", "/x\r\n", 0),
        ("GET", "/x", 3),
    ] {
        let failure = any(verb, path, "", ending)
            .err()
            .expect("it cannot be sent");
        assert_eq!(
            failure.status(),
            CONFER_E_INVALID_ARGUMENT,
            "{verb} {path} {ending}"
        );
    }
    assert_eq!(enclave.requests("/no/route").len(), 1);
}

/// Messages of 65,489 and 65,490 bytes take one frame and two (protocol section 3).
fn messages_at_the_frame_limit_arrive(server: Server) {
    let (enclave, client) = connected_to(server);
    let path = CHATS;
    let empty =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": ""}]});
    let empty = empty.to_string();
    for whole in [65_489, 65_490] {
        // The fields around the body: id (2 bytes, small), verb (2 + 4), path (2 + 25), tag and
        // length of the body (1 + 3).
        let around = 2 + 6 + 2 + path.len() + 4;
        let padding = " ".repeat(whole - around - empty.len());
        let body = empty.replace("\"content\":\"\"", &format!("\"content\":\"{padding}\""));
        assert_eq!(body.len() + around, whole);
        let request = raw("POST", path, &body, CONFER_ENDING_COMPLETION).unwrap();
        let sent = counter(&client, CONFER_COUNTER_MESSAGES_SENT);
        read(&send(&client, &request).unwrap()).1.unwrap();
        assert_eq!(counter(&client, CONFER_COUNTER_MESSAGES_SENT), sent + 1);
        let requests = enclave.requests(path);
        assert_eq!(requests.last().unwrap()["body_bytes"], body.len());
    }
}

fn typed_setters_write_what_the_protocol_names_and_refuse_what_newer_servers_refuse(
    server: Server,
) {
    let (_enclave, client) = connected_to(server);
    let request = request("/echo-request");
    set!(confer_chat_request_set_temperature(request, 0.7)).unwrap();
    set!(confer_chat_request_set_top_p(request, 1.0)).unwrap();
    set!(confer_chat_request_set_min_p(request, 0.0)).unwrap();
    set!(confer_chat_request_set_top_k(request, -1)).unwrap();
    set!(confer_chat_request_set_presence_penalty(request, -2.0)).unwrap();
    set!(confer_chat_request_set_frequency_penalty(request, 2.0)).unwrap();
    set!(confer_chat_request_set_repetition_penalty(request, 1.1)).unwrap();
    set!(confer_chat_request_set_max_tokens(request, i32::MAX.into())).unwrap();
    set!(confer_chat_request_set_json(request, false)).unwrap();
    set!(confer_chat_request_set_thinking(request, true)).unwrap();
    let document = json!({"attachmentId": "id-1", "filename": "a.pdf",
                          "contentType": "application/pdf", "sourceBytes": 17,
                          "sourceObjectKey": "key", "encryptionKey": "secret"});
    add_document(&request, &document).unwrap();
    for (name, outcome) in [
        (
            "temperature",
            set!(confer_chat_request_set_temperature(request, -0.1)),
        ),
        (
            "temperature",
            set!(confer_chat_request_set_temperature(request, f64::NAN)),
        ),
        ("topP", set!(confer_chat_request_set_top_p(request, 0.0))),
        ("minP", set!(confer_chat_request_set_min_p(request, 1.5))),
        ("topK", set!(confer_chat_request_set_top_k(request, 0))),
        (
            "presencePenalty",
            set!(confer_chat_request_set_presence_penalty(request, -2.1)),
        ),
        (
            "frequencyPenalty",
            set!(confer_chat_request_set_frequency_penalty(request, 2.1)),
        ),
        (
            "repetitionPenalty",
            set!(confer_chat_request_set_repetition_penalty(request, 0.0)),
        ),
        (
            "maxTokens",
            set!(confer_chat_request_set_max_tokens(request, 0)),
        ),
        (
            "2147483647",
            set!(confer_chat_request_set_max_tokens(request, 1 << 31)),
        ),
    ] {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
        assert!(failure.message().contains(name), "{failure:?}");
    }
    let (echo, end) = read(&send(&client, &request).unwrap());
    end.unwrap();
    let sent: Value = serde_json::from_str(&echo).unwrap();
    for (name, value) in [
        ("temperature", json!(0.7)),
        ("topP", json!(1)),
        ("minP", json!(0)),
        ("topK", json!(-1)),
        ("presencePenalty", json!(-2)),
        ("frequencyPenalty", json!(2)),
        ("repetitionPenalty", json!(1.1)),
        ("maxTokens", json!(i32::MAX)),
        ("json", json!(false)),
        ("thinking", json!(true)),
        ("webSearch", json!(false)),
        ("stream", json!(true)),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    assert_eq!(sent["documents"], json!([document]));
}

fn add_document(request: &Request, document: &Value) -> Result<(), Failure> {
    let json = document.to_string();
    let added = set!(confer_chat_request_add_document_json(
        request,
        t(&json),
        json.len()
    ));
    added.map(drop)
}

/// Returns a document with one changed property.
fn document_with(property: &str, value: impl Into<Value>) -> Value {
    let mut document = json!({"attachmentId": "id_1-A", "filename": "a.pdf",
                              "contentType": "application/pdf", "sourceBytes": 268_435_456,
                              "sourceObjectKey": "key", "encryptionKey": "secret"});
    document[property] = value.into();
    document
}

#[test]
fn documents_outside_the_servers_limits_are_refused() {
    let request = request("x");
    let long = "i".repeat(200);
    let name = "ü".repeat(1_024);
    let good = [
        document_with("attachmentId", &*long),
        document_with("filename", &*name),
        document_with("sourceBytes", 1),
    ];
    for document in &good {
        add_document(&request, document).unwrap();
    }
    let (too_long, long_name) = (format!("{long}i"), format!("{name}u"));
    for (property, bad, says) in [
        ("attachmentId", json!(""), "1 to 200"),
        ("attachmentId", json!("a b"), "letters"),
        ("attachmentId", json!("ü"), "letters"),
        ("attachmentId", json!(too_long), "1 to 200"),
        ("filename", json!(" "), "blank"),
        (
            "filename",
            json!(long_name),
            "1025 characters (expected at most 1024)",
        ),
        ("contentType", json!(""), "blank"),
        ("sourceObjectKey", json!("\t"), "blank"),
        ("encryptionKey", json!(""), "blank"),
        ("encryptionKey", Value::Null, "missing"),
        ("encryptionKey", json!(7), "a text"),
        ("sourceBytes", json!(0), "1 to 268435456"),
        ("sourceBytes", json!(268_435_457), "268435457"),
        ("sourceBytes", json!(-1), "-1"),
        ("sourceBytes", json!(1.5), "a whole number"),
    ] {
        let failure = add_document(&request, &document_with(property, bad)).unwrap_err();
        assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
        let message = failure.message();
        assert!(
            message.contains(property) && message.contains(says),
            "{message}"
        );
    }
    for _ in 3..1_000 {
        add_document(&request, &good[2]).unwrap();
    }
    let failure = add_document(&request, &good[2]).unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
    assert!(failure.message().contains("1000"), "{failure:?}");
    let failure = add_document(&request, &json!([])).unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_JSON);
}

#[test]
fn tools_that_servers_refuse_or_ignore_are_refused() {
    let request = request("x");
    let add = |name: &str| add_tool(&request, name);
    for (bad, says) in [
        (" ", "blank"),
        ("web_search", "web_search"),
        ("file_view", "tool of the server"),
        (&"n".repeat(65), "65 bytes (expected at most 64)"),
        (&"ü".repeat(33), "66 bytes"),
    ] {
        let failure = add(bad).unwrap_err();
        assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
        assert!(failure.message().contains(says), "{failure:?}");
    }
    add(&"n".repeat(64)).unwrap();
    for at in 1..128 {
        add(&format!("tool-{at}")).unwrap();
    }
    let failure = add("one more").unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
    assert!(failure.message().contains("128"), "{failure:?}");
}

/// JSON may have values that the setters refuse, because a later server may accept them.
#[test]
fn raw_json_is_sent_unchanged() {
    let (_enclave, client) = connected();
    let request = request("/echo-request");
    let tools = r#"[{"name":"web_search","description":"d","parameters":{}}]"#;
    set!(confer_chat_request_set_property(
        request,
        t("clientTools"),
        11,
        t(tools),
        tools.len()
    ))
    .unwrap();
    set!(confer_chat_request_set_property(
        request,
        t("topP"),
        4,
        t("0.50"),
        4
    ))
    .unwrap();
    let (echo, end) = read(&chat(&client, &request));
    end.unwrap();
    assert!(
        echo.contains(tools) && echo.contains(r#""topP":0.50,"#),
        "{echo}"
    );
}

/// Servers count UTF-16 units, and refuse a longer text.
#[test]
fn texts_longer_than_servers_accept_are_refused() {
    const MOST: usize = 20_000_000;
    let (request, kept) = (request("x"), conversation());
    let fits = "ä".repeat(MOST / 2) + &"x".repeat(MOST / 2);
    assert!(fits.len() > MOST);
    let too_long = fits.clone() + "x";
    for (text, wanted) in [(&fits, Ok(CONFER_OK)), (&too_long, Err(CONFER_E_TOO_LARGE))] {
        let (content, len) = (t(text), text.len());
        let to_request = set!(confer_chat_request_add_message(
            request,
            CONFER_ROLE_SYSTEM,
            content,
            len
        ));
        assert_eq!(to_request.map_err(|failure| failure.status()), wanted);
        let to_history = set!(confer_conversation_add_message(
            kept,
            CONFER_ROLE_USER,
            content,
            len
        ));
        let to_history = to_history.map_err(|failure| {
            assert!(
                failure.message().contains("20000000 characters"),
                "{failure:?}"
            );
            failure.status()
        });
        assert_eq!(to_history, wanted);
        set!(confer_conversation_truncate(kept, 0)).unwrap();
    }
}

#[test]
fn thousand_streams_on_a_connection_stay_separate() {
    let (_enclave, client) = connected();
    const STREAMS: usize = 1_000;
    const TOKENS: usize = 10;
    let streams: Vec<Stream> = (0..STREAMS)
        .map(|at| pull(&client, &format!("/repeat {TOKENS} 5 s{at}:")).unwrap())
        .collect();
    for (at, stream) in streams.iter().enumerate() {
        let (answer, end) = read(stream);
        end.unwrap();
        let expected: String = (0..TOKENS).map(|token| format!("s{at}:{token}")).collect();
        assert_eq!(answer.replace(' ', ""), expected);
    }
}

// --- tools

/// Adds a tool.
fn add_tool(request: &Request, name: &str) -> Result<(), Failure> {
    add_tool_with(request, name, "{}")
}

fn add_tool_with(request: &Request, name: &str, schema: &str) -> Result<(), Failure> {
    set!(confer_chat_request_add_tool(
        request,
        t(name),
        name.len(),
        t("d"),
        1,
        t(schema),
        schema.len()
    ))
    .map(drop)
}

/// Makes a chat with the tool "local", whose calls are answered on the same stream.
fn with_tool(prompt: &str) -> Request {
    with_rounds(prompt, 16, 300_000)
}

fn with_rounds(prompt: &str, rounds: u32, timeout_ms: u64) -> Request {
    let request = request(prompt);
    add_tool_with(&request, "local", r#"{"type":"object"}"#).unwrap();
    set!(confer_chat_request_set_tool_rounds(
        request, rounds, timeout_ms
    ))
    .unwrap();
    request
}

fn try_answer(event: *const confer_event, content: &str) -> Result<confer_status, Failure> {
    call(|e| unsafe { confer_event_answer_tool(event, t(content), content.len(), e) })
}

fn answer(event: *const confer_event, content: &str) {
    try_answer(event, content).unwrap();
}

fn call_id(event: *const confer_event) -> String {
    let id = text(unsafe { confer_event_tool_call_id(event, ptr::null_mut()) });
    id.unwrap().to_owned()
}

fn chat(client: &Client, request: &Request) -> Stream {
    send(client, request).unwrap()
}

/// Reads a chat to its end. `tool` gets each call that wants an answer.
fn read_with(
    stream: &Stream,
    mut tool: impl FnMut(*const confer_event),
) -> (String, Result<(), Failure>) {
    let mut said = String::new();
    let end = drain(stream, |event| match unsafe { confer_event_type(event) } {
        CONFER_EVENT_TOKEN => said += &String::from_utf8(content(event)).unwrap(),
        _ if unsafe { confer_event_wants_answer(event) } => tool(event),
        _ => {}
    });
    (said, end)
}

/// Reads a chat up to its first call of a tool.
fn until_call(stream: &Stream) -> Event {
    let mut event = next(stream);
    while !unsafe { confer_event_wants_answer(event) } {
        event = next(stream);
    }
    keep(event)
}

#[test]
fn tool_runs_and_the_model_gets_its_result() {
    let (enclave, client) = connected();
    let request = with_tool("/client-tool local {\"a\":1}");
    let mut completions = 0;
    let mut said = String::new();
    drain(&chat(&client, &request), |event| unsafe {
        match confer_event_type(event) {
            CONFER_EVENT_COMPLETION => completions += 1,
            CONFER_EVENT_TOKEN => said += &String::from_utf8(content(event)).unwrap(),
            CONFER_EVENT_CLIENT_TOOL_CALL => {
                assert!(confer_event_wants_answer(event));
                let name = text(confer_event_tool_name(event, ptr::null_mut()));
                let arguments = text(confer_event_tool_arguments(event, ptr::null_mut()));
                assert_eq!((name, arguments), (Some("local"), Some("{\"a\":1}")));
                answer(event, "42 \"units\"");
                let again = try_answer(event, "x").unwrap_err();
                assert_eq!(again.status(), CONFER_E_STALE);
            }
            _ => {}
        }
    })
    .unwrap();
    assert_eq!(
        (said.as_str(), completions),
        ("The tool answered: 42 \"units\"", 2)
    );
    assert_eq!(enclave.requests(CHATS).len(), 2);
}

#[test]
fn parallel_calls_are_answered_in_any_order() {
    let (_enclave, client) = connected();
    let request = with_tool("/client-tools 3 local {}");
    let mut held = Vec::new();
    let (said, end) = read_with(&chat(&client, &request), |event| {
        held.push(keep(event));
        if held.len() == 3 {
            let mut held = std::mem::take(&mut held);
            // Another thread answers the last call, and frees the others without an answer.
            std::thread::spawn(move || {
                let last = held.pop().unwrap();
                answer(last.0, &call_id(last.0));
            });
        }
    });
    end.unwrap();
    let none = "Error: the tool gave no answer";
    assert_eq!(
        said,
        format!("The tools answered: {none} | {none} | call-3")
    );
}

#[test]
fn endless_tool_loop_ends_at_its_limit() {
    let (enclave, client) = connected();
    let request = with_rounds("/endless-tool local {}", 3, 60_000);
    let end = read_with(&chat(&client, &request), |call| answer(call, "more")).1;
    assert_eq!(end.unwrap_err().status(), CONFER_E_TOOL_ROUNDS);
    assert_eq!(enclave.requests(CHATS).len(), 4, "three rounds of tools");
    let rounds = with_rounds("/tool-rounds 3 local {}", 3, 60_000);
    let (said, end) = read_with(&chat(&client, &rounds), |call| answer(call, "ok"));
    end.unwrap();
    assert_eq!(said, "The tools answered: ok | ok | ok");
}

#[test]
fn slow_tool_fails_and_close_does_not_wait() {
    let (_enclave, client) = connected();
    let request = with_rounds("/client-tool local {}", 4, 200);
    let mut late = None;
    let (said, end) = read_with(&chat(&client, &request), |call| late = Some(keep(call)));
    end.unwrap();
    assert_eq!(said, "The tool answered: Error: no answer within 200 ms");
    answer(late.unwrap().0, "too late"); // without effect or error

    set!(confer_chat_request_set_tool_rounds(request, 4, 60_000)).unwrap();
    let stream = chat(&client, &request);
    let waiting = until_call(&stream);
    assert_eq!(set!(confer_close(client, 5_000)).unwrap(), CONFER_OK);
    assert_eq!(read(&stream).1.unwrap_err().status(), CONFER_E_CLOSED);
    answer(waiting.0, "too late");
}

#[test]
fn stream_cancelled_during_its_tool_ends_at_once() {
    let (enclave, client) = connected();
    let stream = chat(&client, &with_tool("/client-tool local {}"));
    let waiting = until_call(&stream);
    unsafe { confer_stream_cancel(stream.0) };
    let failure = read(&stream).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_CANCELLED);
    assert_eq!(
        failure.progress(),
        confer::ffi::error::CONFER_PROGRESS_PARTLY_ANSWERED
    );
    answer(waiting.0, "late");
    read(&pull(&client, "still there").unwrap()).1.unwrap();
    assert_eq!(
        enclave.requests(CHATS).len(),
        2,
        "the late answer sends nothing"
    );
}

#[test]
fn connection_lost_during_a_tool_ends_the_stream() {
    let mut enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let stream = chat(&client, &with_tool("/client-tool local {}"));
    let waiting = until_call(&stream);
    enclave.kill();
    until("the client ends", || check(&client).is_err());
    answer(waiting.0, "late");
    let failure = read(&stream).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_CONNECTION_LOST, "{failure:?}");
    let partly = confer::ffi::error::CONFER_PROGRESS_PARTLY_ANSWERED;
    assert_eq!(failure.progress(), partly);
}

#[test]
fn application_can_run_its_tools_itself() {
    let (enclave, client) = connected();
    let request = request("/client-tool local {}");
    add_tool(&request, "local").unwrap();
    let mut seen = Vec::new();
    drain(&chat(&client, &request), |event| unsafe {
        assert!(!confer_event_wants_answer(event));
        seen.push((
            confer_event_type(event),
            confer_event_pending_tool_calls(event),
        ));
    })
    .unwrap();
    let expected = [
        (CONFER_EVENT_CLIENT_TOOL_CALL, false),
        (CONFER_EVENT_COMPLETION, true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(enclave.requests(CHATS).len(), 1);
    let twice = add_tool(&request, "local").unwrap_err();
    assert_eq!(twice.status(), CONFER_E_INVALID_ARGUMENT);
    for schema in ["", "[]", "{"] {
        let bad = add_tool_with(&request, "other", schema).unwrap_err();
        assert_eq!(bad.status(), CONFER_E_INVALID_JSON, "{schema}");
    }
}

#[test]
fn history_of_a_round_is_complete_and_in_order() {
    let (_enclave, client) = connected();
    let request = with_tool("/mixed-tools local {}");
    // The enclave checks that the history is what it sent.
    let (said, end) = read_with(&chat(&client, &request), |call| answer(call, "mine"));
    end.unwrap();
    assert!(said.ends_with("mine"), "{said}");
}

// --- conversations

fn conversation() -> Conversation {
    let mut it = ptr::null_mut();
    call(|e| unsafe { confer_conversation_new(&mut it, e) }).unwrap();
    Conversation(it)
}

fn json_of(conversation: &Conversation) -> Value {
    let json = unsafe { confer_conversation_json(conversation.0, ptr::null_mut()) };
    serde_json::from_str(text(json).unwrap()).unwrap()
}

#[test]
fn conversation_survives_as_json() {
    let (_enclave, client) = connected();
    let kept = conversation();
    set!(confer_conversation_add_message(
        kept,
        CONFER_ROLE_SYSTEM,
        t("Be kind."),
        8
    ))
    .unwrap();
    assert_eq!(
        unsafe { confer_conversation_context_tokens(kept.0, ptr::null_mut()) },
        -1
    );
    let ask = |conversation: &Conversation, prompt: &str| {
        let request = request(prompt);
        set!(confer_chat_request_set_conversation(
            request,
            conversation.0
        ))
        .unwrap();
        read(&chat(&client, &request))
    };
    ask(&kept, "hello").1.unwrap();
    let document = json_of(&kept);
    assert_eq!(
        document["messages"],
        json!([{"role": "system", "content": "Be kind."},
               {"role": "user", "content": "hello"},
               {"role": "assistant", "content": "You said: hello"}])
    );
    let mut most = 0;
    let tokens = unsafe { confer_conversation_context_tokens(kept.0, &mut most) };
    assert!(tokens > 0 && most > tokens);
    assert_eq!(document["context_tokens"], tokens);

    // A failed chat adds nothing.
    ask(&kept, "/status-midstream 500").1.unwrap_err();
    assert_eq!(unsafe { confer_conversation_message_count(kept.0) }, 3);

    let text = document.to_string();
    let mut again = ptr::null_mut();
    call(|e| unsafe { confer_conversation_parse(t(&text), text.len(), &mut again, e) }).unwrap();
    let again = Conversation(again);
    assert_eq!(json_of(&again), document);
    let (seen, end) = ask(&again, "/echo-messages");
    end.unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen.as_array().unwrap().len(), 4);
    assert_eq!(seen[2]["content"], "You said: hello");
    set!(confer_conversation_truncate(again, 3)).unwrap();
    assert_eq!(json_of(&again)["messages"], document["messages"]);
}

#[test]
fn conversation_with_tools_keeps_all_rounds() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let request = with_tool("/client-tool local {\"x\":2}");
    ask_with(&client, &kept, &request, |call| answer(call, "7"));
    let messages = json_of(&kept)["messages"].clone();
    let roles: Vec<&str> = messages
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "tool_call", "tool_response", "assistant"]);
    let response: Value = serde_json::from_str(messages[2]["content"].as_str().unwrap()).unwrap();
    assert_eq!(
        response,
        json!({"toolCallId": "call-1", "toolName": "local", "content": "7"})
    );
}

/// Asks with a conversation, and returns the answer's text.
fn ask(client: &Client, kept: &Conversation, request: &Request) -> String {
    ask_with(client, kept, request, |_| panic!("a call wants an answer"))
}

fn ask_with(
    client: &Client,
    kept: &Conversation,
    request: &Request,
    tool: impl FnMut(*const confer_event),
) -> String {
    set!(confer_chat_request_set_conversation(request, kept.0)).unwrap();
    let (said, end) = read_with(&chat(client, request), tool);
    end.unwrap();
    said
}

/// Returns the roles of a conversation's messages, with the ids of tool messages.
fn outline(kept: &Conversation) -> Vec<String> {
    let messages = json_of(kept)["messages"].clone();
    let outline = messages.as_array().unwrap().iter().map(|message| {
        let role = message["role"].as_str().unwrap();
        let content = message["content"].as_str().unwrap();
        match serde_json::from_str::<Value>(content) {
            Ok(tool) if role.starts_with("tool") => {
                format!("{role} {}", tool["toolCallId"].as_str().unwrap())
            }
            _ => role.to_owned(),
        }
    });
    outline.collect()
}

fn response_to(id: &str) -> String {
    json!({"toolCallId": id, "toolName": "local", "content": format!("result of {id}")}).to_string()
}

fn add(kept: &Conversation, role: i32, content: &str) -> Result<(), Failure> {
    set!(confer_conversation_add_message(
        kept,
        role,
        t(content),
        content.len()
    ))
    .map(drop)
}

fn parse(messages: Value) -> Conversation {
    let json = json!({"version": 1, "messages": messages, "context_tokens": null, "max_context_tokens": null});
    let (json, mut it) = (json.to_string(), ptr::null_mut());
    call(|e| unsafe { confer_conversation_parse(t(&json), json.len(), &mut it, e) }).unwrap();
    Conversation(it)
}

#[test]
fn unanswered_server_call_is_not_kept() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let said = ask(&client, &kept, &request("/unanswered-tool"));
    assert_eq!(said, "It is switched off.");
    assert_eq!(outline(&kept), ["user", "assistant"]);
    assert_eq!(ask(&client, &kept, &request("go on")), "You said: go on");
}

/// One round has parallel calls of the server, one with images and one without a response, and
/// calls of the application.
#[test]
fn parallel_calls_are_sent_and_kept_in_pairs() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let with_tools = with_tool("/parallel-tools local {}");
    // The enclave checks that the history of the second round is what it sent.
    let said = ask_with(&client, &kept, &with_tools, |call| {
        let name = text(unsafe { confer_event_tool_name(call, ptr::null_mut()) });
        answer(call, name.unwrap());
    });
    assert_eq!(said, "The tools answered: local | local");
    let pairs = [
        "user",
        "tool_call view-1",
        "tool_response view-1",
        "tool_call search-1",
        "tool_response search-1",
        "user",
        "tool_call call-1",
        "tool_response call-1",
        "tool_call call-2",
        "tool_response call-2",
        "assistant",
    ];
    assert_eq!(outline(&kept), pairs);
    let images = &json_of(&kept)["messages"][5]["imageRefs"];
    assert_eq!(
        images.as_array().unwrap().len(),
        1,
        "images alone, or servers refuse it"
    );
    assert_eq!(images[0]["mediaType"], "image/png");
    assert_eq!(ask(&client, &kept, &request("go on")), "You said: go on");
}

#[test]
fn application_answers_open_calls_in_any_order() {
    let (_enclave, client) = connected();
    for into_request in [false, true] {
        let kept = conversation();
        let first = request("/client-tools 3 local {}");
        add_tool(&first, "local").unwrap();
        ask(&client, &kept, &first);
        let open = [
            "user",
            "tool_call call-1",
            "tool_call call-2",
            "tool_call call-3",
        ];
        assert_eq!(outline(&kept), open);
        let mut next = ptr::null_mut();
        call(|e| unsafe { confer_chat_request_new(&mut next, e) }).unwrap();
        let next = Request(next);
        for id in ["call-3", "call-1", "call-2"].map(response_to) {
            if into_request {
                let role = CONFER_ROLE_TOOL_RESPONSE;
                set!(confer_chat_request_add_message(
                    next,
                    role,
                    t(&id),
                    id.len()
                ))
                .unwrap();
            } else {
                add(&kept, CONFER_ROLE_TOOL_RESPONSE, &id).unwrap();
            }
        }
        let said = ask(&client, &kept, &next);
        assert_eq!(
            said,
            "The tools answered: result of call-1 | result of call-2 | result of call-3"
        );
        let pairs = ["call-1", "call-2", "call-3"]
            .map(|id| [format!("tool_call {id}"), format!("tool_response {id}")])
            .concat();
        assert_eq!(outline(&kept)[1..7], pairs);
    }
}

#[test]
fn unanswered_application_call_is_omitted() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let first = request("/client-tools 2 local {}");
    add_tool(&first, "local").unwrap();
    ask(&client, &kept, &first);
    add(&kept, CONFER_ROLE_TOOL_RESPONSE, &response_to("call-2")).unwrap();
    assert_eq!(
        ask(&client, &kept, &request("never mind")),
        "You said: never mind"
    );
    let pairs = [
        "user",
        "tool_call call-2",
        "tool_response call-2",
        "user",
        "assistant",
    ];
    assert_eq!(outline(&kept), pairs);
    let late = add(&kept, CONFER_ROLE_TOOL_RESPONSE, &response_to("call-1")).unwrap_err();
    assert_eq!(late.status(), CONFER_E_INVALID_ARGUMENT);
    assert!(late.message().contains("toolCallId"), "{late:?}");
    assert_eq!(outline(&kept), pairs);
}

#[test]
fn unpaired_history_is_repaired() {
    let (_enclave, client) = connected();
    let tool = |role: &str, id: &str| {
        let content =
            json!({"toolCallId": id, "toolName": "local", "toolArguments": "{}", "content": ""});
        json!({"role": role, "content": content.to_string()})
    };
    let (call, response) = (|id| tool("tool_call", id), |id| tool("tool_response", id));
    let said = |role: &str| json!({"role": role, "content": "x"});
    let kept = parse(json!([
        said("user"),
        call("same"),
        said("assistant"),
        said("user"),
        call("same"),
        response("same"),
        call("a"),
        call("b"),
        response("a"),
        response("b"),
        response("orphan"),
        response("a"),
        said("assistant"),
    ]));
    let read_as = [
        "user",
        "tool_call same",
        "assistant",
        "user",
        "tool_call same",
        "tool_response same",
        "tool_call a",
        "tool_response a",
        "tool_call b",
        "tool_response b",
        "assistant",
    ];
    assert_eq!(outline(&kept), read_as);
    assert_eq!(ask(&client, &kept, &request("go on")), "You said: go on");
    let healed = [&read_as[..1], &read_as[2..], &["user", "assistant"]].concat();
    assert_eq!(outline(&kept), healed);
}

#[test]
fn truncated_pair_waits_for_another_response() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let first = with_tool("/client-tool local {}");
    ask_with(&client, &kept, &first, |call| answer(call, "7"));
    set!(confer_conversation_truncate(kept, 2)).unwrap();
    assert_eq!(outline(&kept), ["user", "tool_call call-1"]);
    let again = parse(json_of(&kept)["messages"].clone());
    assert_eq!(ask(&client, &again, &request("go on")), "You said: go on");
    assert_eq!(outline(&again), ["user", "user", "assistant"]);
    add(&kept, CONFER_ROLE_TOOL_RESPONSE, &response_to("call-1")).unwrap();
    assert_eq!(
        outline(&kept),
        ["user", "tool_call call-1", "tool_response call-1"]
    );
}

#[test]
fn chat_stopped_at_its_last_round_adds_nothing() {
    let (_enclave, client) = connected();
    let kept = conversation();
    let endless = with_rounds("/endless-tool local {}", 1, 60_000);
    set!(confer_chat_request_set_conversation(endless, kept.0)).unwrap();
    let end = read_with(&chat(&client, &endless), |call| answer(call, "ok")).1;
    assert_eq!(end.unwrap_err().status(), CONFER_E_TOOL_ROUNDS);
    assert!(outline(&kept).is_empty());
    assert_eq!(ask(&client, &kept, &request("go on")), "You said: go on");
}

#[test]
fn request_messages_are_sent_unchanged() {
    let (_enclave, client) = connected();
    let call = json!({"toolCallId": "1", "toolName": "local", "toolArguments": "{}"}).to_string();
    let request = request("x");
    set!(confer_chat_request_add_message(
        request,
        CONFER_ROLE_TOOL_CALL,
        t(&call),
        call.len()
    ))
    .unwrap();
    let failure = read(&chat(&client, &request)).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_REFUSED, "{failure:?}");
}

#[test]
fn other_json_than_a_conversation_is_refused() {
    for bad in [
        "",
        "[]",
        r#"{"version":2,"messages":[],"context_tokens":null,"max_context_tokens":null}"#,
        r#"{"version":1,"messages":["user"],"context_tokens":null,"max_context_tokens":null}"#,
        r#"{"version":1,"messages":[],"context_tokens":null,"max_context_tokens":null,"more":1}"#,
    ] {
        let mut it = ptr::null_mut();
        let parsed = call(|e| unsafe { confer_conversation_parse(t(bad), bad.len(), &mut it, e) });
        assert_eq!(parsed.unwrap_err().status(), CONFER_E_INVALID_JSON, "{bad}");
        assert!(it.is_null());
    }
}

/// The same requests with callbacks.
fn every_kind_of_request_works_with_callbacks(server: Server) {
    let (_enclave, client) = connected_to(server);
    struct Seen(Mutex<Vec<i32>>, Sender<(confer_status, Vec<i32>)>);
    unsafe extern "C" fn on_event(
        user_data: *mut c_void,
        _: *mut confer_stream,
        event: *const confer_event,
    ) -> i32 {
        let seen = unsafe { &*user_data.cast::<Seen>() };
        seen.0
            .lock()
            .unwrap()
            .push(unsafe { confer_event_type(event) });
        0
    }
    unsafe extern "C" fn on_done(
        user_data: *mut c_void,
        _: *mut confer_stream,
        status: confer_status,
        _: *const confer::ffi::types::confer_error,
    ) {
        let seen = unsafe { &*user_data.cast::<Seen>() };
        let events = seen.0.lock().unwrap().clone();
        seen.1.send((status, events)).unwrap();
    }
    unsafe extern "C" fn destroy(user_data: *mut c_void) {
        drop(unsafe { Box::from_raw(user_data.cast::<Seen>()) });
    }
    let ping = raw("GET", "/ping", "", CONFER_ENDING_ONE_RESPONSE).unwrap();
    let requests: [(&dyn Start, i32); 5] = [
        (&Ping, CONFER_EVENT_PONG),
        (&ping, CONFER_EVENT_BODY),
        (&request("hello"), CONFER_EVENT_COMPLETION),
        (&embeddings(&["x"], true), CONFER_EVENT_EMBEDDINGS),
        (&extraction(b"words"), CONFER_EVENT_BODY),
    ];
    for (request, last) in requests {
        let (told, done) = channel();
        let seen = Box::into_raw(Box::new(Seen(Mutex::default(), told)));
        let table = confer_stream_callbacks {
            size: size_of::<confer_stream_callbacks>(),
            user_data: seen.cast(),
            on_event: Some(on_event),
            on_done: Some(on_done),
            destroy: Some(destroy),
            on_ready: None,
        };
        let mut stream = ptr::null_mut();
        call(|e| request.start(client.0, &table, &mut stream, e)).unwrap();
        let stream = Stream(stream);
        let (status, events) = done.recv_timeout(PATIENCE).unwrap();
        assert_eq!((status, events.last()), (CONFER_OK, Some(&last)));
        drop(stream);
    }
}

#[test]
fn events_of_a_watch_go_before_those_of_requests() {
    struct Order {
        seen: Mutex<Vec<&'static str>>,
        began: Sender<()>,
        goes_on: Mutex<Receiver<()>>,
        done: Sender<()>,
    }
    unsafe extern "C" fn of_the_request(
        user_data: *mut c_void,
        _: *mut confer_stream,
        _: *const confer_event,
    ) -> i32 {
        let order = unsafe { &*user_data.cast::<Order>() };
        let first = {
            let mut seen = order.seen.lock().unwrap();
            seen.push("request");
            seen.len() == 1
        };
        if first {
            order.began.send(()).unwrap();
            let _ = order.goes_on.lock().unwrap().recv_timeout(PATIENCE);
        }
        0
    }
    unsafe extern "C" fn of_the_watch(
        user_data: *mut c_void,
        _: *mut confer_stream,
        _: *const confer_event,
    ) -> i32 {
        let order = unsafe { &*user_data.cast::<Order>() };
        order.seen.lock().unwrap().push("watch");
        0
    }
    unsafe extern "C" fn on_done(
        user_data: *mut c_void,
        _: *mut confer_stream,
        _: confer_status,
        _: *const confer::ffi::types::confer_error,
    ) {
        let order = unsafe { &*user_data.cast::<Order>() };
        let _ = order.done.send(());
    }
    let (_enclave, client) = connected();
    let ((began, begins), (go, goes_on), (ended, done)) = (channel(), channel(), channel());
    let order = Order {
        seen: Mutex::default(),
        began,
        goes_on: Mutex::new(goes_on),
        done: ended,
    };
    let mut table = confer_stream_callbacks {
        size: size_of::<confer_stream_callbacks>(),
        user_data: (&raw const order).cast_mut().cast(),
        on_event: Some(of_the_request),
        on_done: Some(on_done),
        destroy: None,
        on_ready: None,
    };
    let before = counter(&client, CONFER_COUNTER_MESSAGES_RECEIVED);
    let chat = request("/tokens 100 1");
    call(|e| chat.start(client.0, &table, ptr::null_mut(), e)).unwrap();
    begins.recv_timeout(PATIENCE).unwrap();
    until("events wait", || {
        counter(&client, CONFER_COUNTER_MESSAGES_RECEIVED) > before + 50
    });
    table.on_event = Some(of_the_watch);
    table.on_done = None;
    call(|e| unsafe { confer_client_watch(client.0, &table, ptr::null_mut(), e) }).unwrap();
    go.send(()).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    close(&client); // nothing uses `order` afterwards
    let seen = order.seen.lock().unwrap();
    assert_eq!(seen[..3], ["request", "watch", "request"]);
    assert!(seen.len() > 100);
}

#[test]
fn conversation_has_an_answer_whose_completion_was_read() {
    let (_enclave, client) = connected();
    for round in 1..=50 {
        let conversation = conversation();
        let request = request("hello");
        set!(confer_chat_request_set_conversation(
            request,
            conversation.0
        ))
        .unwrap();
        let stream = send(&client, &request).unwrap();
        while unsafe { confer_event_type(next(&stream)) } != CONFER_EVENT_COMPLETION {}
        drop(stream);
        let count = unsafe { confer_conversation_message_count(conversation.0) };
        assert_eq!(count, 2, "in round {round}");
    }
}
