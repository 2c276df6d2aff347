//! Reconnecting: what is sent, what the application sees, and that no request is sent twice.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use confer::ffi::client_event::*;
use confer::ffi::connect::*;
use confer::ffi::error::*;
use confer::ffi::extraction::*;
use confer::ffi::report_fields::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use confer::ffi::types::*;
use confer::ffi::watch::*;
use serde_json::{Value, json};

use crate::harness::News::*;
use crate::harness::*;
use crate::network::Network;

/// Turns reconnecting on, with short pauses.
fn with_retries(config: Config, attempts: u32) -> Config {
    config.set_retries(attempts, 50, 400);
    config
}

/// Makes a configuration with reconnecting.
fn reconnecting(enclave: &Enclave, attempts: u32) -> Config {
    with_retries(config(enclave), attempts)
}

/// Starts the same enclave again, with the same port, keys and token.
fn restart(enclave: &Enclave, options: &[&str]) -> Enclave {
    let port = enclave.port().to_string();
    let same = ["--port", &port, "--token", &enclave.token];
    Enclave::with(same.iter().chain(options))
}

/// Checks that all runs together saw each body once. (The prompts in these tests differ.)
fn sent_once(runs: &[&Enclave]) {
    let mut seen = BTreeMap::<String, usize>::new();
    for request in runs.iter().flat_map(|run| run.requests(CHATS)) {
        *seen.entry(request["body_sha256"].to_string()).or_default() += 1;
    }
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}

#[test]
fn client_survives_a_restart_and_sends_nothing_twice() {
    let mut first = Enclave::start(None);
    let config = reconnecting(&first, 100);
    let (client, watch) = watched(&config);
    read(&pull(&client, "one").unwrap()).1.unwrap();
    let answered = pull(&client, "/repeat 100000 5 x").unwrap();
    next(&answered);
    let silent = pull(&client, "/slow 60000 1").unwrap();
    until("three requests", || first.requests(CHATS).len() == 3);
    first.kill();

    // A broken stream says how far it had come.
    let failure = read(&answered).1.unwrap_err();
    assert_eq!(
        failure.progress(),
        CONFER_PROGRESS_PARTLY_ANSWERED,
        "{failure:?}"
    );
    assert_eq!(failure.status(), CONFER_E_CONNECTION_LOST);
    let failure = read(&silent).1.unwrap_err();
    assert_eq!(
        failure.progress(),
        CONFER_PROGRESS_MAYBE_SENT,
        "{failure:?}"
    );
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));

    // New requests wait.
    let waiting: Vec<Stream> = (0..5)
        .map(|at| pull(&client, &format!("waiting {at}")).unwrap())
        .collect();
    let state = unsafe { confer_client_state(client.0) };
    assert_eq!(state, CONFER_CLIENT_RECONNECTING);
    check(&client).unwrap();
    let given_up = pull(&client, "given up").unwrap();
    unsafe { confer_stream_cancel(given_up.0) };
    let failure = read(&given_up).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CANCELLED, CONFER_PROGRESS_NOT_SENT)
    );

    let second = restart(&first, &[]);
    watch.until(&Connected(false));
    for (at, stream) in waiting.iter().enumerate() {
        let (answer, end) = read(stream);
        end.unwrap();
        assert_eq!(answer, format!("You said: waiting {at}"));
    }
    assert!(is_connected(&client));
    sent_once(&[&first, &second]);
    let order: Vec<Value> = second.requests(CHATS);
    assert_eq!(order.len(), 5, "what was given up was not sent");
    assert_eq!(counter(&client, CONFER_COUNTER_CONNECTIONS), 2);
    assert!(counter(&client, CONFER_COUNTER_MESSAGES_RECEIVED) > 5);
}

#[test]
fn killed_reconnect_is_retried_at_any_stage() {
    let listed = std::process::Command::new(enclave_program())
        .arg("--list-faults")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let faults: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kills: Vec<&str> = faults
        .iter()
        .filter_map(|fault| fault["fault"].as_str())
        .filter(|name| {
            let (stage, how) = name.rsplit_once('-').unwrap_or((name, ""));
            ["drop", "reset", "close"].contains(&how) && !["key-server", "stream"].contains(&stage)
        })
        .collect();
    assert!(kills.len() >= 10, "{kills:?}");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(kill) = kills.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut first = Enclave::start(None);
                    let config = reconnecting(&first, 1_000);
                    let (client, watch) = watched(&config);
                    first.kill();
                    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
                    let waiting = pull(&client, "after all").unwrap();
                    let second = restart(&first, &["--fault", kill, "--fault-until", "2"]);
                    match read(&waiting) {
                        (answer, Ok(())) if answer == "You said: after all" => {}
                        // If the enclave was killed after message 3, the request may have been
                        // sent.
                        (_, Err(failure)) if failure.progress() != CONFER_PROGRESS_NOT_SENT => {}
                        (_, end) => wrong.lock().unwrap().push(format!("{kill}: {end:?}")),
                    }
                    // The second connection is killed too, the third is not. Each prompt differs.
                    let again = (0..3).find(|at| {
                        let prompt = format!("and again {at}");
                        match read(&pull(&client, &prompt).unwrap()).1 {
                            Ok(()) => true,
                            Err(failure) => {
                                assert_ne!(failure.progress(), CONFER_PROGRESS_NOT_SENT);
                                false
                            }
                        }
                    });
                    assert!(again.is_some(), "{kill}");
                    sent_once(&[&first, &second]);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn waiting_requests_get_the_clients_last_error() {
    let mut enclave = Enclave::start(None);
    let config = reconnecting(&enclave, 3);
    let (client, watch) = watched(&config);
    enclave.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let failure = read(&waiting).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CONNECT, CONFER_PROGRESS_NOT_SENT)
    );
    let before = watch.until(&Ended(CONFER_E_CONNECT));
    // The connection had lived for less than 10 s, which is not a failure. Three attempts are.
    let attempts: Vec<&News> = before
        .iter()
        .filter(|news| matches!(news, Retry(_) | Failed(_)))
        .collect();
    let failed = Failed(CONFER_E_CONNECT);
    assert_eq!(
        attempts,
        [&Retry(1), &failed, &Retry(2), &failed, &Retry(3)]
    );
    assert_eq!(end_of(&client).status(), CONFER_E_CONNECT);
    let late = pull(&client, PROMPT).err().unwrap();
    assert_eq!(late.status(), CONFER_E_CONNECT);
    assert_eq!(counter(&client, CONFER_COUNTER_FAILED_ATTEMPTS), 3);
}

#[test]
fn client_without_reconnecting_ends_with_its_connection() {
    let mut enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let stream = pull(&client, "/silent").unwrap();
    enclave.kill();
    assert_eq!(
        read(&stream).1.unwrap_err().status(),
        CONFER_E_CONNECTION_LOST
    );
    let refused = loop {
        match pull(&client, PROMPT) {
            Err(failure) => break failure,
            Ok(stream) => drop(read(&stream)),
        }
    };
    assert_eq!(refused.status(), CONFER_E_CONNECTION_LOST);
    close(&client);
}

#[test]
fn close_ends_an_attempt_and_waiting_requests() {
    let mut enclave = Enclave::start(None);
    let config = reconnecting(&enclave, 1_000);
    let (client, watch) = watched(&config);
    enclave.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let began = Instant::now();
    assert_eq!(
        call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap(),
        CONFER_OK
    );
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(read(&waiting).1.unwrap_err().status(), CONFER_E_CLOSED);
    watch.until(&Ended(CONFER_OK));
}

/// Otherwise a fault that breaks each verified connection would cause endless verifications.
#[test]
fn connections_that_break_at_once_count_as_failures() {
    let enclave = Enclave::with(["--fault", "message3-drop", "--fault-from", "2"]);
    let network = Network::to(enclave.port());
    let config = reconnecting(&enclave, 4);
    config.set_endpoint(&network.url());
    let (client, watch) = watched(&config);
    network.cut();
    let mut connected = 0;
    let end = loop {
        match watch.next() {
            Connected(_) => connected += 1,
            Ended(status) => break status,
            _ => {}
        }
    };
    assert_eq!((connected, end), (4, CONFER_E_CONNECTION_LOST));
    assert_eq!(
        pull(&client, PROMPT).err().unwrap().status(),
        CONFER_E_CONNECTION_LOST
    );
}

#[test]
fn request_waits_for_a_connection_within_its_idle_limit() {
    let mut enclave = Enclave::start(None);
    let config = reconnecting(&enclave, 100_000);
    config.set_idle(700);
    let (client, watch) = watched(&config);
    enclave.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let began = Instant::now();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_STREAM_IDLE, CONFER_PROGRESS_NOT_SENT)
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(700) && took < PATIENCE,
        "{took:?}"
    );
}

#[test]
fn changed_network_is_probed_at_once() {
    let enclave = Enclave::start(None);
    let network = Network::to(enclave.port());
    let config = reconnecting(&enclave, 100);
    config.set_endpoint(&network.url());
    config.set_duration(CONFER_DURATION_PROBE, 3_000);
    // A keepalive and a pause that the test would notice.
    config.set_duration(CONFER_DURATION_KEEPALIVE, 3_600_000);
    config.set_retries(100, 3_600_000, 3_600_000);
    let (client, watch) = watched(&config);
    let changed = || call(|e| unsafe { confer_client_network_changed(client.0, e) }).unwrap();
    changed();
    read(&pull(&client, "alive").unwrap()).1.unwrap();
    network.black_hole(true);
    changed();
    watch.until(&Lost(CONFER_E_DEAD_PEER));
    let waiting = pull(&client, "after the change").unwrap();
    network.black_hole(false);
    changed();
    let (answer, end) = read(&waiting);
    end.unwrap();
    assert_eq!(answer, "You said: after the change");
    assert_eq!(counter(&client, CONFER_COUNTER_CONNECTIONS), 2);
}

// --- the release

#[test]
fn changed_release_can_be_refused_before_message_3() {
    for accepts in [true, false] {
        let mut first = Enclave::start(None);
        let config = reconnecting(&first, 1_000);
        config.set_ask(CONFER_ASK_RELEASE);
        let client = connect(&config).unwrap();
        let watch = Watch::answering(&client, move |_, event| {
            let reports = unsafe {
                [
                    confer_event_previous_report(event),
                    confer_event_report(event),
                ]
            };
            let [before, now] = reports.map(|report| {
                text(unsafe { confer_report_manifest_sha256(report, ptr::null_mut()) }).unwrap()
            });
            assert_ne!(before, now);
            call(|e| unsafe { confer_event_answer_release(event, accepts, e) }).unwrap();
        });
        watch.until(&Connected(false));
        assert_eq!(watch.asked(), 0, "nothing came before the first");
        first.kill();
        watch.until(&Lost(CONFER_E_CONNECTION_LOST));
        let waiting = pull(&client, PROMPT).unwrap();
        let second = restart(&first, &["--release", "9.9.9"]);
        let (_, end) = read(&waiting);
        if accepts {
            end.unwrap();
            watch.until(&Connected(true));
        } else {
            let failure = end.unwrap_err();
            assert_eq!(failure.status(), CONFER_E_RELEASE_REFUSED);
            assert_eq!(failure.progress(), CONFER_PROGRESS_NOT_SENT);
            watch.until(&Ended(CONFER_E_RELEASE_REFUSED));
            assert!(!second.saw("message-3"));
        }
        assert_eq!(watch.asked(), 1);
        close(&client);
    }
}

#[test]
fn refused_enclave_ends_the_client_at_once() {
    let mut first = Enclave::start(None);
    let config = reconnecting(&first, 1_000);
    let (client, watch) = watched(&config);
    first.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let second = restart(&first, &["--fault", "debug-debuggable"]);
    let failure = read(&waiting).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_REJECTED);
    watch.until(&Ended(CONFER_E_REJECTED));
    assert!(!second.saw("message-3"));
}

// --- tokens

#[test]
fn token_question_may_be_answered_later_from_another_thread() {
    let mut first = Enclave::start(None);
    let client = start(&with_retries(asking(&first), 1_000));
    let (kept, questions) = channel();
    let counted = Arc::new(());
    let user_data = counted.clone();
    let watch = Watch::answering(&client, move |_, event| {
        let _ = &user_data;
        kept.send(keep(event)).unwrap();
    });
    watch.until(&AskToken(CONFER_TOKEN_FIRST)); // `answer` has returned
    give(questions.recv().unwrap().0, &first.token);
    wait(&client).unwrap();
    watch.until(&Connected(false));
    assert_eq!(watch.asked(), 1);
    first.kill();
    let second = restart(&first, &[]);
    watch.until(&AskToken(CONFER_TOKEN_RECONNECT));
    give(questions.recv().unwrap().0, &second.token);
    watch.until(&Connected(false));
    assert_eq!(watch.asked(), 2);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
    close(&client);
    assert_eq!(Arc::strong_count(&counted), 1, "destroyed");
}

/// Returns the error of a client whose token question `answer` gets.
fn end_by_token(
    config: &Config,
    answer: impl FnMut(usize, *const confer_event) + Send + 'static,
) -> Failure {
    let client = start(config);
    let watch = Watch::answering(&client, answer);
    let failure = wait(&client).unwrap_err();
    watch.until(&Ended(failure.status()));
    failure
}

#[test]
fn error_says_why_no_token_came() {
    let enclave = Enclave::start(None);
    let config = asking(&enclave);
    let failure = end_by_token(&config, |_, event| {
        let reason = "signed out";
        call(|e| unsafe {
            confer_event_refuse_token(event, reason.as_ptr().cast(), reason.len(), e)
        })
        .unwrap();
    });
    assert_eq!(failure.status(), CONFER_E_TOKEN);
    assert!(failure.message().contains("signed out"), "{failure:?}");

    let failure = end_by_token(&config, |_, event| {
        let empty = answer_token(event, "").unwrap_err();
        assert_eq!(empty.status(), CONFER_E_INVALID_ARGUMENT);
        give(event, "a-lie"); // unknown to the enclave
    });
    assert_eq!(
        (failure.status(), failure.http_status()),
        (CONFER_E_UPGRADE, 500)
    );
    assert!(!failure.message().contains("lie"));

    config.set_duration(CONFER_DURATION_ANSWER, 100);
    let (kept, questions) = channel();
    let failure = end_by_token(&config, move |_, event| kept.send(keep(event)).unwrap());
    assert_eq!(failure.status(), CONFER_E_TOKEN);
    assert!(failure.message().contains("token"), "{failure:?}");
    let late = answer_token(questions.recv().unwrap().0, "late").unwrap_err();
    assert_eq!(late.status(), CONFER_E_STALE);
    assert_eq!(enclave.requests(CHATS).len(), 0);
}

/// Makes a JWT with this expiry and without a valid signature.
fn ending_in(seconds: i64, name: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let claims = json!({"exp": now + seconds, "name": name}).to_string();
    let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        encode("{\"alg\":\"HS256\"}"),
        encode(&claims),
        encode(name)
    )
}

/// The enclave's options for tokens that get 402 and 401.
const REFUSALS: [(&str, i32); 2] = [
    ("--expired-token", CONFER_E_PAYMENT_REQUIRED),
    ("--unauthorized-token", CONFER_E_UNAUTHORIZED),
];

#[test]
fn refused_token_is_replaced_and_the_request_repeated_once() {
    for (refused, _) in REFUSALS {
        let (stale, fresh) = (ending_in(900, "stale"), ending_in(900, "fresh"));
        let enclave = Enclave::with([refused, &stale, "--token", &fresh]);
        let config = with_retries(asking(&enclave), 5);
        let (client, watch) = connect_answering(&config, move |number, event| {
            give(event, if number == 0 { &stale } else { &fresh });
        });
        // Several requests share the fresh connection.
        let streams: Vec<Stream> = (0..3)
            .map(|at| pull(&client, &format!("paid {at}")).unwrap())
            .collect();
        for (at, stream) in streams.iter().enumerate() {
            let (answer, end) = read(stream);
            end.unwrap();
            assert_eq!(answer, format!("You said: paid {at}"));
        }
        assert_eq!(watch.asked(), 2, "{refused}");
        let requests = enclave.requests(CHATS);
        assert_eq!(requests.iter().filter(|r| r["connection"] == 1).count(), 3);
        assert_eq!(requests.iter().filter(|r| r["connection"] == 2).count(), 3);
    }
}

#[test]
fn request_refused_for_its_token_may_have_been_sent() {
    let stale = ending_in(900, "stale");
    let enclave = Enclave::with(["--expired-token", &stale]);
    let config = with_retries(asking(&enclave), 5);
    let (kept, second) = channel();
    let (client, _watch) = connect_answering(&config, move |number, event| match number {
        0 => give(event, &stale),
        _ => kept.send(keep(event)).unwrap(),
    });
    let stream = pull(&client, PROMPT).unwrap();
    let question = second.recv_timeout(PATIENCE).unwrap(); // the request was refused, and waits
    call(|e| unsafe { confer_close(client.0, 0, e) }).unwrap();
    let failure = read(&stream).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CLOSED, CONFER_PROGRESS_MAYBE_SENT)
    );
    let late = answer_token(question.0, "late").unwrap_err();
    assert_eq!(late.status(), CONFER_E_STALE);
    close(&client);
}

#[test]
fn repeatable_requests_are_limited_and_answers_make_room() {
    let enclave = Enclave::start(None);
    let config = reconnecting(&enclave, 5);
    config.set_limit(CONFER_LIMIT_UNSENT, 64 << 10);
    let long = |directive: &str| format!("{directive}\n{}", "x".repeat(40_000));
    let two = |client: &Client| {
        let before = enclave.requests(CHATS).len();
        let first = pull(client, &long("/slow 60000 1")).unwrap();
        while enclave.requests(CHATS).len() == before {
            std::thread::yield_now(); // still unsent
        }
        (first, pull(client, &long("/tokens 1 1")))
    };
    // There is room as soon as the connection's task has counted the sent bytes.
    let as_soon_as_there_is_room = |client: &Client| {
        loop {
            match pull(client, &long("/tokens 1 1")) {
                Ok(stream) => break stream,
                Err(refused) => assert_eq!(refused.status(), CONFER_E_TOO_MANY),
            }
            std::thread::yield_now();
        }
    };
    // Without `CONFER_ASK_TOKEN`, the library drops a request once it is sent.
    let plain = connect(&config).unwrap();
    let (_unanswered, _) = two(&plain);
    read(&as_soon_as_there_is_room(&plain)).1.unwrap();
    config.set_ask(CONFER_ASK_TOKEN);
    let client = connect(&config).unwrap();
    let (unanswered, _) = two(&client);
    for _ in 0..1_000 {
        let refused = pull(&client, &long("/tokens 1 1")).err().unwrap();
        assert_eq!(refused.status(), CONFER_E_TOO_MANY);
        std::thread::yield_now();
    }
    drop(unanswered);
    read(&as_soon_as_there_is_room(&client)).1.unwrap();
    for _ in 0..3 {
        read(&pull(&client, &long("/tokens 1 1")).unwrap())
            .1
            .unwrap();
    }
}

#[test]
fn second_refusal_for_the_token_is_the_error() {
    for (refused, status) in REFUSALS {
        let tokens = ["one", "two", "three"].map(|name| ending_in(900, name));
        let enclave = Enclave::with(tokens.iter().flat_map(|token| [refused, token]));
        let config = with_retries(asking(&enclave), 5);
        let (client, watch) = connect_answering(&config, move |number, event| {
            give(event, &tokens[number.min(2)])
        });
        let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(failure.status(), status);
        assert!(!failure.retryable());
        assert!(failure.message().contains("fresh"), "{failure:?}");
        assert_eq!(watch.asked(), 2);
        assert_eq!(enclave.requests(CHATS).len(), 2);
    }
}

#[test]
fn document_from_a_callback_is_never_repeated() {
    let (stale, fresh) = (ending_in(900, "stale"), ending_in(900, "fresh"));
    for from_callback in [true, false] {
        let enclave = Enclave::with(["--expired-token", &stale, "--token", &fresh]);
        let config = with_retries(asking(&enclave), 5);
        let (old, new) = (stale.clone(), fresh.clone());
        let (client, _watch) = connect_answering(&config, move |number, event| {
            give(event, if number == 0 { &old } else { &new });
        });
        unsafe extern "C" fn read_nothing(_: *mut c_void, _: *mut u8, _: usize) -> i64 {
            0
        }
        let request = if from_callback {
            let request = extraction_of("a.bin");
            call(|e| unsafe {
                let (read, data) = (Some(read_nothing as _), ptr::null_mut());
                confer_extraction_request_set_document_callback(request.0, 0, read, data, None, e)
            })
            .unwrap();
            request
        } else {
            extraction(b"from memory")
        };
        let (body, end) = read_body(&send(&client, &request).unwrap());
        if from_callback {
            assert_eq!(end.unwrap_err().status(), CONFER_E_PAYMENT_REQUIRED);
            assert_eq!(enclave.requests("/v1/document/extract").len(), 1);
        } else {
            end.unwrap();
            assert!(!body.is_empty());
        }
    }
}

#[test]
fn refusal_for_the_token_without_questions_is_the_error() {
    let token = ending_in(900, "only");
    let enclave = Enclave::with(["--expired-token", &token]);
    let config = reconnecting(&enclave, 5);
    config.set_token(&token);
    let client = connect(&config).unwrap();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_PAYMENT_REQUIRED);
    assert_eq!(enclave.requests(CHATS).len(), 1);
    let token = ending_in(900, "nobody");
    let enclave = Enclave::with(["--unauthorized-token", &token]);
    let config = reconnecting(&enclave, 5);
    config.set_token(&token);
    let client = connect(&config).unwrap();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_UNAUTHORIZED);
}

/// Returns the upgrades that the enclave refused for their token.
fn refused_upgrades(enclave: &Enclave) -> usize {
    enclave.count("refused")
}

fn end_of(client: &Client) -> Failure {
    check(client).unwrap_err()
}

/// Starts an enclave that accepts `token` only on its first connection.
fn refusing(token: &str, fault: &str) -> (Enclave, Network) {
    let enclave = Enclave::with(["--token", token, "--fault", fault, "--fault-from", "2"]);
    let network = Network::to(enclave.port());
    (enclave, network)
}

#[test]
fn expired_token_is_not_dialled_again_after_its_refusal() {
    let token = ending_in(-3_600, "stale");
    let (enclave, network) = refusing(&token, "upgrade-500");
    let config = reconnecting(&enclave, 1_000);
    config.set_endpoint(&network.url());
    let (client, watch) = watched(&config); // the device's clock may be wrong
    network.cut();
    watch.until(&Ended(CONFER_E_UPGRADE));
    let end = end_of(&client);
    assert_eq!((end.http_status(), end.retryable()), (500, false));
    assert!(end.message().contains("expired at 20"), "{end:?}");
    assert!(end.message().contains("does not accept"), "{end:?}");
    assert!(!end.message().contains(&token));
    assert_eq!(network.connections(), 2);
}

#[test]
fn wrong_path_is_not_blamed_on_the_token() {
    let enclave = Enclave::start(Some("upgrade-404"));
    let config = config(&enclave);
    config.set_token(&ending_in(-3_600, "stale"));
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.http_status(), 404);
    assert!(
        failure
            .message()
            .contains("The path of the URL is probably wrong")
    );
    assert!(!failure.message().contains("expired"), "{failure:?}");
}

#[test]
fn expired_token_is_dialled_again_after_other_trouble() {
    let token = ending_in(-3_600, "stale");
    let (enclave, network) = refusing(&token, "upgrade-503-open");
    let config = reconnecting(&enclave, 4);
    config.set_endpoint(&network.url());
    let (client, watch) = watched(&config);
    network.cut();
    watch.until(&Ended(CONFER_E_UPGRADE));
    assert!(end_of(&client).retryable());
    assert_eq!(network.connections(), 1 + 4);
}

#[test]
fn unexpired_token_is_dialled_again_after_status_500() {
    let (enclave, network) = refusing(&ending_in(900, "only"), "upgrade-500");
    let config = reconnecting(&enclave, 4);
    config.set_endpoint(&network.url());
    let (client, watch) = watched(&config);
    network.cut();
    watch.until(&Ended(CONFER_E_UPGRADE));
    let end = end_of(&client);
    assert!(end.retryable() && !end.message().contains("expired at"));
    assert_eq!(network.connections(), 1 + 4);
}

#[test]
fn token_refused_for_a_request_is_not_dialled_after_expiry() {
    for (refused, status) in REFUSALS {
        let token = ending_in(-3_600, "stale");
        let enclave = Enclave::with([refused, &token]);
        let network = Network::to(enclave.port());
        let config = reconnecting(&enclave, 1_000);
        config.set_endpoint(&network.url());
        config.set_token(&token);
        let (client, watch) = watched(&config);
        let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(failure.status(), status);
        assert!(failure.message().contains("fresh"), "{failure:?}");
        assert!(failure.message().contains("expired at 20"), "{failure:?}");
        assert_eq!(network.connections(), 1);
        network.cut();
        watch.until(&Ended(CONFER_E_TOKEN));
        let end = end_of(&client);
        assert!(end.message().contains("expired at 20"), "{end:?}");
        assert!(!end.retryable());
        assert_eq!(network.connections(), 1, "nothing was dialled");
    }
}

#[test]
fn token_is_asked_for_until_it_is_fresh() {
    let (stale, fresh) = (ending_in(-3_600, "stale"), ending_in(900, "fresh"));
    let mut first = Enclave::with(["--token", &stale]);
    let config = with_retries(asking(&first), 1_000);
    let given = (stale.clone(), fresh.clone());
    // Enough tries for the time without an enclave. The test ends it.
    let repeats = Arc::new(AtomicUsize::new(usize::MAX));
    let left = repeats.clone();
    let (client, watch) = connect_answering(&config, move |_, event| {
        let stale = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        give(event, if stale.is_ok() { &given.0 } else { &given.1 });
    });
    first.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let port = first.port().to_string();
    let second = Enclave::with(["--port", &port, "--token", &fresh]);
    watch.until(&Failed(CONFER_E_UPGRADE));
    watch.until(&Failed(CONFER_E_TOKEN));
    repeats.store(2, Ordering::SeqCst);
    watch.until(&Connected(false));
    assert_eq!(refused_upgrades(&second), 1);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

#[test]
fn two_server_errors_for_one_token_are_followed_by_a_fresh_one() {
    let (stale, fresh) = (ending_in(900, "stale"), ending_in(900, "fresh"));
    let mut first = Enclave::with(["--token", &stale]);
    let config = with_retries(asking(&first), 1_000);
    let given = (stale.clone(), fresh.clone());
    let refusals = Arc::new(AtomicUsize::new(0));
    let seen = refusals.clone();
    let (_client, watch) = connect_answering(&config, move |_, event| {
        let fresh = seen.load(Ordering::SeqCst) >= 2;
        give(event, if fresh { &given.1 } else { &given.0 });
    });
    first.kill();
    watch.until(&Lost(CONFER_E_CONNECTION_LOST));
    let port = first.port().to_string();
    let second = Enclave::with(["--port", &port, "--token", &fresh]);
    for _ in 0..2 {
        watch.until(&Failed(CONFER_E_UPGRADE));
    }
    refusals.store(2, Ordering::SeqCst);
    watch.until(&Connected(false));
    assert!(refused_upgrades(&second) >= 2);
}

#[test]
fn refused_token_ends_a_client_that_asks_nothing() {
    let (enclave, network) = refusing("only", "upgrade-401");
    let config = reconnecting(&enclave, 1_000);
    config.set_endpoint(&network.url());
    let (client, watch) = watched(&config);
    network.cut();
    watch.until(&Ended(CONFER_E_UPGRADE));
    let end = end_of(&client);
    assert_eq!((end.http_status(), end.retryable()), (401, false));
    assert!(end.message().contains("fresh"), "{end:?}");
    assert_eq!(network.connections(), 2);
}

#[test]
fn refused_token_is_never_sent_again() {
    let options = "--token old --token new --fault upgrade-401 --fault-from 2 --fault-until 2";
    let enclave = Enclave::with(options.split(' '));
    let network = Network::to(enclave.port());
    let config = with_retries(asking(&enclave), 1_000);
    config.set_endpoint(&network.url());
    let fresh = Arc::new(AtomicBool::new(false));
    let is_fresh = fresh.clone();
    let (client, watch) = connect_answering(&config, move |_, event| {
        let fresh = is_fresh.load(Ordering::SeqCst);
        give(event, if fresh { "new" } else { "old" });
    });
    network.cut();
    watch.until(&Failed(CONFER_E_UPGRADE));
    watch.until(&Failed(CONFER_E_TOKEN));
    assert_eq!(network.connections(), 2, "the same token is not sent again");
    fresh.store(true, Ordering::SeqCst);
    watch.until(&Connected(false));
    assert_eq!(network.connections(), 3);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

// --- passing trouble

/// Trouble that passes: Intel's service gave the enclave no token, or the device's clock is wrong.
const PASSING: [(&str, &str); 3] = [
    ("evidence-null-attestation", "evidence.format"),
    ("time-expired", "ita.time"),
    ("time-not-before", "ita.time"),
];

#[test]
fn temporary_trouble_with_the_evidence_is_retried() {
    for (fault, check) in PASSING {
        let enclave = Enclave::with(["--fault", fault, "--fault-from", "2", "--fault-until", "4"]);
        let network = Network::to(enclave.port());
        let config = reconnecting(&enclave, 50);
        config.set_endpoint(&network.url());
        let (client, watch) = watched(&config);
        read(&pull(&client, PROMPT).unwrap()).1.unwrap(); // so message 3 was received
        network.cut();
        watch.until(&Lost(CONFER_E_CONNECTION_LOST));
        let waiting = pull(&client, PROMPT).unwrap();
        let before = watch.until(&Connected(false));
        let refused = before
            .iter()
            .filter(|news| **news == Failed(CONFER_E_REJECTED));
        assert_eq!(refused.count(), 3, "{fault}: {check}");
        read(&waiting).1.unwrap();
        let seen = ["message-2", "message-3"].map(|event| enclave.count(event));
        assert_eq!(seen, [5, 2], "{fault}");
    }
}

#[test]
fn failing_renewal_keeps_the_working_connection() {
    for (fault, _) in PASSING {
        let enclave = Enclave::with(["--fault", fault, "--fault-from", "2"]);
        let config = reconnecting(&enclave, 2);
        config.set_duration(CONFER_DURATION_MAX_AGE, 10_000);
        let (client, watch) = watched(&config);
        let long = pull(&client, "/repeat 120 100 x").unwrap(); // 12 s
        watch.until(&Failed(CONFER_E_REJECTED));
        until("two failed attempts", || {
            counter(&client, CONFER_COUNTER_FAILED_ATTEMPTS) == 2
        });
        // The connection is too old: it takes no new request, but the open one continues.
        let refused = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(
            (refused.status(), refused.progress(), refused.retryable()),
            (CONFER_E_REJECTED, CONFER_PROGRESS_NOT_SENT, true)
        );
        let (answer, end) = read(&long);
        end.unwrap();
        assert_eq!(answer.matches('x').count(), 120);
        check(&client).unwrap();
        assert_eq!(enclave.requests(CHATS).len(), 1);
        // The request began another renewal, which says why the last one failed.
        watch.until(&Failed(CONFER_E_REJECTED));
    }
}

// --- age

#[test]
fn old_connection_is_replaced_and_finishes_its_requests() {
    let enclave = Enclave::start(None);
    let config = reconnecting(&enclave, 5);
    config.set_duration(CONFER_DURATION_MAX_AGE, 10_000);
    let (client, watch) = watched(&config);
    let long = pull(&client, "/repeat 120 100 x").unwrap(); // 12 s
    watch.until(&Connected(false));
    let (answer, end) = read(&pull(&client, "on the new one").unwrap());
    end.unwrap();
    assert_eq!(answer, "You said: on the new one");
    let (answer, end) = read(&long);
    end.unwrap();
    assert_eq!(answer.matches('x').count(), 120);
    assert_eq!(enclave.requests(CHATS).last().unwrap()["connection"], 2);
    sent_once(&[&enclave]);
}

#[test]
fn connection_without_reconnecting_ends_at_its_age() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    config.set_duration(CONFER_DURATION_MAX_AGE, 10_000);
    let began = Instant::now();
    let client = connect(&config).unwrap();
    let failure = read(&pull(&client, "/silent").unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_EXPIRED);
    assert!(began.elapsed() >= Duration::from_secs(10));
    assert_eq!(
        pull(&client, PROMPT).err().unwrap().status(),
        CONFER_E_EXPIRED
    );
    for bad in [1, 9_999, 86_400_001] {
        let age = CONFER_DURATION_MAX_AGE;
        let bad = call(|e| unsafe { confer_config_set_duration_ms(config.0, age, bad, e) });
        assert_eq!(bad.unwrap_err().status(), CONFER_E_INVALID_ARGUMENT);
    }
}

#[test]
fn expiring_token_is_replaced_in_time_without_a_storm() {
    // Both have expired, so each renewal is due at once, but at most every 10 s.
    let tokens = ["first", "second"].map(|name| ending_in(-3_600, name));
    let enclave = Enclave::with(tokens.iter().flat_map(|token| ["--token", token]));
    let config = with_retries(asking(&enclave), 5);
    let began = Instant::now();
    let (client, watch) = connect_answering(&config, move |number, event| {
        give(event, &tokens[number.min(1)])
    });
    watch.until(&Connected(false));
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(watch.asked(), 2);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

// --- many

#[test]
fn thousand_clients_in_a_process_get_their_answers() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    for stage in CONFER_DURATION_STAGE_RESOLVE..=CONFER_DURATION_STAGE_PROXY {
        config.set_duration(stage, 60_000);
    }
    let clients: Vec<Client> = (0..1_000).map(|_| start(&config)).collect();
    for client in &clients {
        wait(client).unwrap();
    }
    let streams: Vec<Stream> = clients
        .iter()
        .enumerate()
        .map(|(at, client)| pull(client, &format!("client {at}")).unwrap())
        .collect();
    for (at, stream) in streams.iter().enumerate() {
        let (answer, end) = read(stream);
        end.unwrap();
        assert_eq!(answer, format!("You said: client {at}"));
    }
}
