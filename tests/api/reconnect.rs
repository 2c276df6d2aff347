//! Broken connections that are made again: what is sent, what the application sees, and that no
//! request is sent twice.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::connection::*;
use confer::ffi::error::*;
use confer::ffi::report::*;
use confer::ffi::report_fields::*;
use confer::ffi::route::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use confer::ffi::token::*;
use serde_json::{Value, json};

use crate::harness::*;
use crate::network::Network;

const CHATS: &str = "/v1/vllm/chat/completions";
const SOON: Duration = Duration::from_secs(20);

/// A connection event.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Lost(i32),
    Attempt(u32),
    Failed(i32),
    Connected(bool),
    Ended(i32),
}

unsafe extern "C" fn on_change(user_data: *mut c_void, event: *const confer_connection_event) {
    let told = unsafe { &*user_data.cast::<Sender<Told>>() };
    let status = unsafe { confer_error_status(confer_connection_event_error(event)) };
    let _ = told.send(match unsafe { confer_connection_event_type(event) } {
        CONFER_CONNECTION_LOST => Told::Lost(status),
        CONFER_CONNECTION_ATTEMPT => unsafe {
            assert!(confer_connection_event_delay_ms(event) >= 0);
            Told::Attempt(confer_connection_event_attempt(event))
        },
        CONFER_CONNECTION_FAILED => Told::Failed(status),
        CONFER_CONNECTION_CONNECTED => unsafe {
            assert!(confer_report_verified(confer_connection_event_report(
                event
            )));
            Told::Connected(confer_connection_event_release_changed(event))
        },
        CONFER_CONNECTION_ENDED => Told::Ended(status),
        other => panic!("a change of type {other}"),
    });
}

unsafe extern "C" fn drop_told(user_data: *mut c_void) {
    drop(unsafe { Box::from_raw(user_data.cast::<Sender<Told>>()) });
}

/// Makes a configuration with reconnecting and short pauses.
fn reconnecting(enclave: &Enclave, attempts: u32) -> (Config, Receiver<Told>) {
    let config = config(enclave);
    let (told, changes) = channel();
    let told = Box::into_raw(Box::new(told));
    unsafe {
        config.set_retries(attempts, 50, 400);
        call(|e| {
            let (told, call) = (told.cast(), Some(on_change as _));
            confer_config_set_connection_callback(config.0, call, told, Some(drop_told), e)
        })
        .unwrap();
    }
    (config, changes)
}

/// Starts the same enclave again, with the same port, keys and token.
fn restart(enclave: &Enclave, options: &[&str]) -> Enclave {
    let port = enclave.port().to_string();
    let same = ["--port", &port, "--token", &enclave.token];
    Enclave::with(same.iter().chain(options))
}

/// Waits for one of these events.
fn await_told(changes: &Receiver<Told>, wanted: &Told) -> Vec<Told> {
    let mut before = Vec::new();
    loop {
        let told = changes
            .recv_timeout(SOON)
            .unwrap_or_else(|_| panic!("{wanted:?} after {before:?}"));
        if told == *wanted {
            return before;
        }
        before.push(told);
    }
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
    let (config, changes) = reconnecting(&first, 100);
    let client = connect(&config).unwrap();
    read(&pull(&client, "one").unwrap()).1.unwrap();
    let answered = pull(&client, "/repeat 100000 5 x").unwrap();
    let mut event = ptr::null();
    call(|e| unsafe { confer::ffi::stream::confer_stream_next(answered.0, 10_000, &mut event, e) })
        .unwrap();
    let silent = pull(&client, "/slow 60000 1").unwrap();
    while first.requests(CHATS).len() < 3 {
        std::thread::yield_now();
    }
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
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));

    // New requests wait.
    let waiting: Vec<Stream> = (0..5)
        .map(|at| pull(&client, &format!("waiting {at}")).unwrap())
        .collect();
    assert!(!unsafe { confer_client_connected(client.0) });
    call(|e| unsafe { confer_client_check(client.0, e) }).unwrap();
    let given_up = pull(&client, "given up").unwrap();
    unsafe { confer::ffi::stream::confer_stream_cancel(given_up.0) };
    let failure = read(&given_up).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CANCELLED, CONFER_PROGRESS_NOT_SENT)
    );

    let second = restart(&first, &[]);
    await_told(&changes, &Told::Connected(false));
    for (at, stream) in waiting.iter().enumerate() {
        let (answer, end) = read(stream);
        end.unwrap();
        assert_eq!(answer, format!("You said: waiting {at}"));
    }
    assert!(unsafe { confer_client_connected(client.0) });
    sent_once(&[&first, &second]);
    let order: Vec<Value> = second.requests(CHATS);
    assert_eq!(order.len(), 5, "what was given up was not sent");
    let count = |counter| unsafe { confer_client_counter(client.0, counter) };
    assert_eq!(count(CONFER_COUNTER_CONNECTIONS), 2);
    assert!(count(CONFER_COUNTER_MESSAGES_RECEIVED) > 5);
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
                    let (config, changes) = reconnecting(&first, 50);
                    let client = connect(&config).unwrap();
                    first.kill();
                    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
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
    let (config, changes) = reconnecting(&enclave, 3);
    let client = connect(&config).unwrap();
    enclave.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let failure = read(&waiting).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CONNECT, CONFER_PROGRESS_NOT_SENT)
    );
    let before = await_told(&changes, &Told::Ended(CONFER_E_CONNECT));
    // The connection had lived for less than 10 s, which is not a failure. Three attempts are.
    let attempts: Vec<&Told> = before
        .iter()
        .filter(|told| matches!(told, Told::Attempt(_)))
        .collect();
    assert_eq!(
        attempts,
        [&Told::Attempt(1), &Told::Attempt(2), &Told::Attempt(3)]
    );
    let ended = call(|e| unsafe { confer_client_check(client.0, e) }).unwrap_err();
    assert_eq!(ended.status(), CONFER_E_CONNECT);
    let late = pull(&client, PROMPT).err().unwrap();
    assert_eq!(late.status(), CONFER_E_CONNECT);
    let count = |counter| unsafe { confer_client_counter(client.0, counter) };
    assert_eq!(count(CONFER_COUNTER_FAILED_ATTEMPTS), 3);
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
    assert_eq!(
        call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap(),
        CONFER_OK
    );
}

#[test]
fn close_ends_an_attempt_and_waiting_requests() {
    let mut enclave = Enclave::start(None);
    let (config, changes) = reconnecting(&enclave, 1_000);
    let client = connect(&config).unwrap();
    enclave.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let began = Instant::now();
    assert_eq!(
        call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap(),
        CONFER_OK
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(read(&waiting).1.unwrap_err().status(), CONFER_E_CLOSED);
    await_told(&changes, &Told::Ended(CONFER_E_CLOSED));
}

/// Otherwise a fault that breaks each verified connection would cause endless verifications.
#[test]
fn connections_that_break_at_once_count_as_failures() {
    let enclave = Enclave::with(["--fault", "message3-drop", "--fault-from", "2"]);
    let network = Network::to(enclave.port());
    let (config, changes) = reconnecting(&enclave, 4);
    let url = network.url();
    call(|e| unsafe { confer_config_set_endpoint(config.0, url.as_ptr().cast(), url.len(), e) })
        .unwrap();
    let client = connect(&config).unwrap();
    network.cut();
    let mut connected = 0;
    let end = loop {
        match changes.recv_timeout(SOON).unwrap() {
            Told::Connected(_) => connected += 1,
            Told::Ended(status) => break status,
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
    let (config, changes) = reconnecting(&enclave, 100_000);
    config.set_idle(700);
    let client = connect(&config).unwrap();
    enclave.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let began = Instant::now();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_STREAM_IDLE, CONFER_PROGRESS_NOT_SENT)
    );
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(650) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[test]
fn changed_network_is_probed_at_once() {
    let enclave = Enclave::start(None);
    let network = Network::to(enclave.port());
    let (config, changes) = reconnecting(&enclave, 100);
    let url = network.url();
    unsafe {
        call(|e| confer_config_set_endpoint(config.0, url.as_ptr().cast(), url.len(), e)).unwrap();
        config.set_duration(CONFER_DURATION_PROBE, 300);
        // A pause that the test would notice.
        config.set_retries(100, 3_600_000, 3_600_000);
    }
    let client = connect(&config).unwrap();
    let changed = || call(|e| unsafe { confer_client_network_changed(client.0, e) }).unwrap();
    changed();
    read(&pull(&client, "alive").unwrap()).1.unwrap();
    network.black_hole(true);
    changed(); // noticed after 300 ms; the keepalive would take 40 s
    await_told(&changes, &Told::Lost(CONFER_E_DEAD_PEER));
    let waiting = pull(&client, "after the change").unwrap();
    network.black_hole(false);
    changed();
    let (answer, end) = read(&waiting);
    end.unwrap();
    assert_eq!(answer, "You said: after the change");
    assert_eq!(
        unsafe { confer_client_counter(client.0, CONFER_COUNTER_CONNECTIONS) },
        2
    );
}

// --- the release

struct Judge {
    refuses: bool,
    asked: AtomicUsize,
}

unsafe extern "C" fn on_release(
    user_data: *mut c_void,
    before: *const confer_report,
    now: *const confer_report,
) -> i32 {
    let judge = unsafe { &*user_data.cast::<Judge>() };
    judge.asked.fetch_add(1, Ordering::SeqCst);
    let hash = |report| text(unsafe { confer_report_manifest_sha256(report, ptr::null_mut()) });
    assert_ne!(hash(before).unwrap(), hash(now).unwrap());
    i32::from(judge.refuses)
}

#[test]
fn changed_release_can_be_refused_before_message_3() {
    for refuses in [false, true] {
        let mut first = Enclave::start(None);
        let (config, changes) = reconnecting(&first, 20);
        let judge = Arc::new(Judge {
            refuses,
            asked: AtomicUsize::new(0),
        });
        let user_data = Arc::as_ptr(&judge).cast_mut().cast();
        call(|e| unsafe {
            confer_config_set_release_callback(config.0, Some(on_release), user_data, None, e)
        })
        .unwrap();
        let client = connect(&config).unwrap();
        assert_eq!(
            judge.asked.load(Ordering::SeqCst),
            0,
            "there was none before the first"
        );
        first.kill();
        await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
        let waiting = pull(&client, PROMPT).unwrap();
        let second = restart(&first, &["--release", "9.9.9"]);
        let (_, end) = read(&waiting);
        if refuses {
            let failure = end.unwrap_err();
            assert_eq!(failure.status(), CONFER_E_RELEASE_REFUSED);
            assert_eq!(failure.progress(), CONFER_PROGRESS_NOT_SENT);
            await_told(&changes, &Told::Ended(CONFER_E_RELEASE_REFUSED));
            assert!(!second.saw("message-3"));
        } else {
            end.unwrap();
            await_told(&changes, &Told::Connected(true));
        }
        assert_eq!(judge.asked.load(Ordering::SeqCst), 1);
        call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap();
    }
}

#[test]
fn refused_enclave_ends_the_client_at_once() {
    let mut first = Enclave::start(None);
    let (config, changes) = reconnecting(&first, 1_000);
    let client = connect(&config).unwrap();
    first.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let waiting = pull(&client, PROMPT).unwrap();
    let second = restart(&first, &["--fault", "debug-debuggable"]);
    let failure = read(&waiting).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_REJECTED);
    await_told(&changes, &Told::Ended(CONFER_E_REJECTED));
    assert!(!second.saw("message-3"));
}

// --- tokens

/// A provider whose answers the test chooses.
struct Provider {
    asked: AtomicUsize,
    #[allow(clippy::type_complexity)]
    act: Box<dyn Fn(usize, *mut confer_token_request) + Send + Sync>,
}

unsafe extern "C" fn on_token(user_data: *mut c_void, request: *mut confer_token_request) {
    let provider = unsafe { &*user_data.cast::<Provider>() };
    let number = provider.asked.fetch_add(1, Ordering::SeqCst);
    (provider.act)(number, request);
}

unsafe extern "C" fn drop_provider(user_data: *mut c_void) {
    drop(unsafe { Arc::from_raw(user_data.cast::<Provider>().cast_const()) });
}

fn give(request: *mut confer_token_request, token: &str) {
    call(|e| unsafe {
        confer_token_request_answer(request, token.as_ptr().cast(), token.len(), e)
    })
    .unwrap();
    unsafe { confer_token_request_free(request) };
}

fn provide(
    config: &Config,
    act: impl Fn(usize, *mut confer_token_request) + Send + Sync + 'static,
) -> Arc<Provider> {
    let provider = Arc::new(Provider {
        asked: AtomicUsize::new(0),
        act: Box::new(act),
    });
    let user_data = Arc::into_raw(provider.clone()).cast_mut().cast();
    call(|e| unsafe {
        let (call, destroy) = (Some(on_token as _), Some(drop_provider as _));
        confer_config_set_token_provider(config.0, call, user_data, destroy, e)
    })
    .unwrap();
    provider
}

#[test]
fn provider_may_answer_later_from_another_thread() {
    let mut first = Enclave::start(None);
    let (config, changes) = reconnecting(&first, 50);
    let token = first.token.clone();
    let provider = provide(&config, move |_, request| {
        let (token, request) = (token.clone(), request as usize);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50)); // a slow provider
            give(request as *mut _, &token);
        });
    });
    let client = connect(&config).unwrap();
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
    first.kill();
    let _second = restart(&first, &[]);
    await_told(&changes, &Told::Connected(false));
    assert!(provider.asked.load(Ordering::SeqCst) >= 2);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
    drop(config);
    call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap();
    assert_eq!(Arc::strong_count(&provider), 1, "destroyed");
}

#[test]
fn error_names_a_provider_that_fails() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    provide(&config, |_, request| unsafe {
        let reason = "signed out";
        call(|e| confer_token_request_fail(request, reason.as_ptr().cast(), reason.len(), e))
            .unwrap();
        confer_token_request_free(request);
    });
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_TOKEN);
    assert!(failure.message().contains("signed out"), "{failure:?}");

    provide(&config, |_, request| unsafe {
        confer_token_request_free(request)
    });
    assert_eq!(connect(&config).err().unwrap().status(), CONFER_E_TOKEN);

    let (kept, questions) = channel::<usize>();
    let kept = Mutex::new(kept);
    provide(&config, move |_, request| {
        kept.lock().unwrap().send(request as usize).unwrap()
    });
    config.set_duration(CONFER_DURATION_ANSWER, 100);
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_TOKEN);
    assert!(failure.message().contains("token"), "{failure:?}");
    give(questions.recv().unwrap() as *mut _, "late"); // without effect

    provide(&config, |_, request| {
        let empty = call(|e| unsafe { confer_token_request_answer(request, ptr::null(), 0, e) });
        assert_eq!(empty.unwrap_err().status(), CONFER_E_INVALID_ARGUMENT);
        give(request, "a-lie"); // unknown to the enclave
    });
    let failure = connect(&config).err().unwrap();
    assert_eq!(
        (failure.status(), failure.http_status()),
        (CONFER_E_UPGRADE, 500)
    );
    assert!(!failure.message().contains("lie"));
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
        let (config, _changes) = reconnecting(&enclave, 5);
        let (old, new) = (stale.clone(), fresh.clone());
        let provider = provide(&config, move |number, request| {
            give(request, if number == 0 { &old } else { &new });
        });
        let client = connect(&config).unwrap();
        // Several requests share the fresh connection.
        let streams: Vec<Stream> = (0..3)
            .map(|at| pull(&client, &format!("paid {at}")).unwrap())
            .collect();
        for (at, stream) in streams.iter().enumerate() {
            let (answer, end) = read(stream);
            end.unwrap();
            assert_eq!(answer, format!("You said: paid {at}"));
        }
        assert_eq!(provider.asked.load(Ordering::SeqCst), 2, "{refused}");
        let requests = enclave.requests(CHATS);
        assert_eq!(requests.iter().filter(|r| r["connection"] == 1).count(), 3);
        assert_eq!(requests.iter().filter(|r| r["connection"] == 2).count(), 3);
    }
}

#[test]
fn request_refused_for_its_token_may_have_been_sent() {
    let stale = ending_in(900, "stale");
    let enclave = Enclave::with(["--expired-token", &stale]);
    let (config, _changes) = reconnecting(&enclave, 5);
    let old = stale.clone();
    let (asked, second) = channel::<usize>();
    let asked = Mutex::new(asked);
    provide(&config, move |number, request| match number {
        0 => give(request, &old),
        _ => asked.lock().unwrap().send(request as usize).unwrap(),
    });
    let client = connect(&config).unwrap();
    let stream = pull(&client, PROMPT).unwrap();
    let question = second.recv_timeout(SOON).unwrap(); // the request was refused, and waits
    call(|e| unsafe { confer_close(client.0, 0, e) }).unwrap();
    let failure = read(&stream).1.unwrap_err();
    assert_eq!(
        (failure.status(), failure.progress()),
        (CONFER_E_CLOSED, CONFER_PROGRESS_MAYBE_SENT)
    );
    unsafe { confer_token_request_free(question as *mut _) };
    assert_eq!(
        call(|e| unsafe { confer_close(client.0, 5_000, e) }).unwrap(),
        CONFER_OK
    );
}

#[test]
fn repeatable_requests_are_limited_and_answers_make_room() {
    let enclave = Enclave::start(None);
    let (config, _changes) = reconnecting(&enclave, 5);
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
    // As soon as the connection's task has counted the sent bytes.
    let as_soon_as_there_is_room = |client: &Client| {
        loop {
            match pull(client, &long("/tokens 1 1")) {
                Ok(stream) => break stream,
                Err(refused) => assert_eq!(refused.status(), CONFER_E_TOO_MANY),
            }
            std::thread::yield_now();
        }
    };
    // Without a provider, a sent request is forgotten.
    let plain = connect(&config).unwrap();
    let (_unanswered, _) = two(&plain);
    read(&as_soon_as_there_is_room(&plain)).1.unwrap();
    let token = enclave.token.clone();
    provide(&config, move |_, request| give(request, &token));
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
        let (config, _changes) = reconnecting(&enclave, 5);
        let given = tokens.clone();
        let provider = provide(&config, move |number, request| {
            give(request, &given[number.min(2)])
        });
        let client = connect(&config).unwrap();
        let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(failure.status(), status);
        assert!(!failure.retryable());
        assert!(failure.message().contains("fresh"), "{failure:?}");
        assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
        assert_eq!(enclave.requests(CHATS).len(), 2);
    }
}

#[test]
fn document_from_a_callback_is_never_repeated() {
    let (stale, fresh) = (ending_in(900, "stale"), ending_in(900, "fresh"));
    for from_callback in [true, false] {
        let enclave = Enclave::with(["--expired-token", &stale, "--token", &fresh]);
        let (config, _changes) = reconnecting(&enclave, 5);
        let (old, new) = (stale.clone(), fresh.clone());
        provide(&config, move |number, request| {
            give(request, if number == 0 { &old } else { &new });
        });
        let client = connect(&config).unwrap();
        unsafe extern "C" fn read_nothing(_: *mut c_void, _: *mut u8, _: usize) -> i64 {
            0
        }
        let request = if from_callback {
            let request = extraction_of("a.bin");
            call(|e| unsafe {
                let read = Some(read_nothing as _);
                confer_request_set_document_callback(request.0, 0, read, ptr::null_mut(), None, e)
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
fn refusal_for_the_token_without_provider_is_the_error() {
    let token = ending_in(900, "only");
    let enclave = Enclave::with(["--expired-token", &token]);
    let (config, _changes) = reconnecting(&enclave, 5);
    call(|e| unsafe { confer_config_set_token(config.0, token.as_ptr().cast(), token.len(), e) })
        .unwrap();
    let client = connect(&config).unwrap();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_PAYMENT_REQUIRED);
    assert_eq!(enclave.requests(CHATS).len(), 1);
    let token = ending_in(900, "nobody");
    let enclave = Enclave::with(["--unauthorized-token", &token]);
    let (config, _changes) = reconnecting(&enclave, 5);
    call(|e| unsafe { confer_config_set_token(config.0, token.as_ptr().cast(), token.len(), e) })
        .unwrap();
    let client = connect(&config).unwrap();
    let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_UNAUTHORIZED);
}

fn set_token(config: &Config, token: &str) {
    call(|e| unsafe { confer_config_set_token(config.0, token.as_ptr().cast(), token.len(), e) })
        .unwrap();
}

/// Returns the upgrades that the enclave refused for their token.
fn refused_upgrades(enclave: &Enclave) -> usize {
    let events = enclave.events();
    events.iter().filter(|e| e["event"] == "refused").count()
}

fn end_of(client: &Client) -> Failure {
    call(|e| unsafe { confer_client_check(client.0, e) }).unwrap_err()
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
    let (config, changes) = reconnecting(&enclave, 1_000);
    set_endpoint(&config, &network);
    let client = connect(&config).unwrap(); // the device's clock may be wrong
    network.cut();
    await_told(&changes, &Told::Ended(CONFER_E_UPGRADE));
    let end = end_of(&client);
    assert_eq!((end.http_status(), end.retryable()), (500, false));
    assert!(end.message().contains("expired at 20"), "{end:?}");
    assert!(end.message().contains("does not accept"), "{end:?}");
    assert!(!end.message().contains(&token));
    assert_eq!(network.connections(), 2);
}

#[test]
fn expired_token_is_dialled_again_after_other_trouble() {
    let token = ending_in(-3_600, "stale");
    let (enclave, network) = refusing(&token, "upgrade-503-open");
    let (config, changes) = reconnecting(&enclave, 4);
    set_endpoint(&config, &network);
    let client = connect(&config).unwrap();
    network.cut();
    await_told(&changes, &Told::Ended(CONFER_E_UPGRADE));
    assert!(end_of(&client).retryable());
    assert_eq!(network.connections(), 1 + 4);
}

#[test]
fn unexpired_token_is_dialled_again_after_status_500() {
    let (enclave, network) = refusing(&ending_in(900, "only"), "upgrade-500");
    let (config, changes) = reconnecting(&enclave, 4);
    set_endpoint(&config, &network);
    let client = connect(&config).unwrap();
    network.cut();
    await_told(&changes, &Told::Ended(CONFER_E_UPGRADE));
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
        let (config, changes) = reconnecting(&enclave, 1_000);
        set_endpoint(&config, &network);
        set_token(&config, &token);
        let client = connect(&config).unwrap();
        let failure = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(failure.status(), status);
        assert!(failure.message().contains("fresh"), "{failure:?}");
        assert!(failure.message().contains("expired at 20"), "{failure:?}");
        assert_eq!(network.connections(), 1);
        network.cut();
        await_told(&changes, &Told::Ended(CONFER_E_TOKEN));
        let end = end_of(&client);
        assert!(end.message().contains("expired at 20"), "{end:?}");
        assert!(!end.retryable());
        assert_eq!(network.connections(), 1, "nothing was dialled");
    }
}

#[test]
fn provider_is_asked_until_its_token_is_fresh() {
    let (stale, fresh) = (ending_in(-3_600, "stale"), ending_in(900, "fresh"));
    let mut first = Enclave::with(["--token", &stale]);
    let (config, changes) = reconnecting(&first, 1_000);
    let given = (stale.clone(), fresh.clone());
    // Enough tries for the time without an enclave. The provider notices its end.
    let repeats = Arc::new(AtomicUsize::new(usize::MAX));
    let left = repeats.clone();
    provide(&config, move |_, request| {
        let stale = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        give(request, if stale.is_ok() { &given.0 } else { &given.1 });
    });
    let client = connect(&config).unwrap();
    first.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let port = first.port().to_string();
    let second = Enclave::with(["--port", &port, "--token", &fresh]);
    await_told(&changes, &Told::Failed(CONFER_E_UPGRADE));
    await_told(&changes, &Told::Failed(CONFER_E_TOKEN));
    repeats.store(2, Ordering::SeqCst);
    await_told(&changes, &Told::Connected(false));
    assert_eq!(refused_upgrades(&second), 1);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

#[test]
fn two_server_errors_for_one_token_are_followed_by_a_fresh_one() {
    let (stale, fresh) = (ending_in(900, "stale"), ending_in(900, "fresh"));
    let mut first = Enclave::with(["--token", &stale]);
    let (config, changes) = reconnecting(&first, 1_000);
    let given = (stale.clone(), fresh.clone());
    let refusals = Arc::new(AtomicUsize::new(0));
    let seen = refusals.clone();
    provide(&config, move |_, request| {
        let fresh = seen.load(Ordering::SeqCst) >= 2;
        give(request, if fresh { &given.1 } else { &given.0 });
    });
    let _client = connect(&config).unwrap();
    first.kill();
    await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
    let port = first.port().to_string();
    let second = Enclave::with(["--port", &port, "--token", &fresh]);
    for _ in 0..2 {
        await_told(&changes, &Told::Failed(CONFER_E_UPGRADE));
    }
    refusals.store(2, Ordering::SeqCst);
    await_told(&changes, &Told::Connected(false));
    assert!(refused_upgrades(&second) >= 2);
}

#[test]
fn refused_token_ends_a_client_without_provider() {
    let (enclave, network) = refusing("only", "upgrade-401");
    let (config, changes) = reconnecting(&enclave, 1_000);
    set_endpoint(&config, &network);
    let client = connect(&config).unwrap();
    network.cut();
    await_told(&changes, &Told::Ended(CONFER_E_UPGRADE));
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
    let (config, changes) = reconnecting(&enclave, 1_000);
    set_endpoint(&config, &network);
    let fresh = Arc::new(AtomicBool::new(false));
    let is_fresh = fresh.clone();
    provide(&config, move |_, request| {
        give(
            request,
            if is_fresh.load(Ordering::SeqCst) {
                "new"
            } else {
                "old"
            },
        );
    });
    let client = connect(&config).unwrap();
    network.cut();
    await_told(&changes, &Told::Failed(CONFER_E_UPGRADE));
    await_told(&changes, &Told::Failed(CONFER_E_TOKEN));
    assert_eq!(network.connections(), 2, "the same token is not sent again");
    fresh.store(true, Ordering::SeqCst);
    await_told(&changes, &Told::Connected(false));
    assert_eq!(network.connections(), 3);
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

// --- passing trouble

fn set_endpoint(config: &Config, network: &Network) {
    let url = network.url();
    call(|e| unsafe { confer_config_set_endpoint(config.0, url.as_ptr().cast(), url.len(), e) })
        .unwrap();
}

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
        let (config, changes) = reconnecting(&enclave, 50);
        set_endpoint(&config, &network);
        let client = connect(&config).unwrap();
        read(&pull(&client, PROMPT).unwrap()).1.unwrap(); // so message 3 was received
        network.cut();
        await_told(&changes, &Told::Lost(CONFER_E_CONNECTION_LOST));
        let waiting = pull(&client, PROMPT).unwrap();
        let before = await_told(&changes, &Told::Connected(false));
        let refused = before
            .iter()
            .filter(|told| **told == Told::Failed(CONFER_E_REJECTED));
        assert_eq!(refused.count(), 3, "{fault}: {check}");
        read(&waiting).1.unwrap();
        let events = enclave.events();
        let seen = |event: &str| events.iter().filter(|line| line["event"] == event).count();
        assert_eq!((seen("message-2"), seen("message-3")), (5, 2), "{fault}");
    }
}

#[test]
fn failing_renewal_keeps_the_working_connection() {
    for (fault, _) in PASSING {
        let enclave = Enclave::with(["--fault", fault, "--fault-from", "2"]);
        let (config, changes) = reconnecting(&enclave, 2);
        config.set_duration(CONFER_DURATION_MAX_AGE, 10_000);
        let client = connect(&config).unwrap();
        let long = pull(&client, "/repeat 120 100 x").unwrap(); // 12 s
        for _ in 0..2 {
            await_told(&changes, &Told::Failed(CONFER_E_REJECTED));
        }
        // The connection is too old: it takes no new request, but the open one continues.
        let refused = read(&pull(&client, PROMPT).unwrap()).1.unwrap_err();
        assert_eq!(
            (refused.status(), refused.progress(), refused.retryable()),
            (CONFER_E_REJECTED, CONFER_PROGRESS_NOT_SENT, true)
        );
        let (answer, end) = read(&long);
        end.unwrap();
        assert_eq!(answer.matches('x').count(), 120);
        call(|e| unsafe { confer_client_check(client.0, e) }).unwrap();
        assert_eq!(enclave.requests(CHATS).len(), 1);
    }
}

// --- age

#[test]
fn old_connection_is_replaced_and_finishes_its_requests() {
    let enclave = Enclave::start(None);
    let (config, changes) = reconnecting(&enclave, 5);
    config.set_duration(CONFER_DURATION_MAX_AGE, 10_000);
    let client = connect(&config).unwrap();
    let long = pull(&client, "/repeat 120 100 x").unwrap(); // 12 s
    await_told(&changes, &Told::Connected(false));
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
    let client = connect(&config).unwrap();
    let began = Instant::now();
    let failure = read(&pull(&client, "/silent").unwrap()).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_EXPIRED);
    assert!(began.elapsed() > Duration::from_secs(8));
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
    let (config, changes) = reconnecting(&enclave, 5);
    let given = tokens.clone();
    let provider = provide(&config, move |number, request| {
        give(request, &given[number.min(1)])
    });
    let client = connect(&config).unwrap();
    let began = Instant::now();
    await_told(&changes, &Told::Connected(false));
    assert!(
        began.elapsed() > Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
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
    let mut connecting = Vec::new();
    for _ in 0..1_000 {
        let mut one = ptr::null_mut();
        call(|e| unsafe { confer_connecting_start(config.0, &mut one, e) }).unwrap();
        connecting.push(one);
    }
    let clients: Vec<Client> = connecting
        .into_iter()
        .map(|one| {
            let mut client = ptr::null_mut();
            call(|e| unsafe { confer_connecting_wait(one, -1, &mut client, e) }).unwrap();
            unsafe { confer_connecting_free(one) };
            Client(client)
        })
        .collect();
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
