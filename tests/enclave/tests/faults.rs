//! Each fault has the outcome that `--list-faults` states, according to an independent judge.
//!
//! The judge implements the same specification. It fully checks connections and streams. Of
//! evidence, it checks only the release, with a third-party verifier.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use common::schema::WebsocketResponse;
use common::{Client, Enclave, End, PATIENCE, chunk, greet, hello, opening, run, said, upgrade};
use prost::Message as _;
use serde_json::{Value, json};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::Bundle;
use sigstore_verify::{IdentityMatcher, VerificationPolicy, Verifier};
use tokio_tungstenite::tungstenite::Error;

/// How long to wait for what must not come: long compared with loopback's needs, short compared with
/// a test's time.
const SILENCE: Duration = Duration::from_millis(1_500);
/// A document larger than the limit of `upload-not-read`: the number of chunks, and the bytes of
/// each.
const PARTS: u32 = 4;
const PART: usize = 100_000;
const LOST: &str = "CONFER_E_CONNECTION_LOST";

/// The checks of attestation.md section 3, in order.
const CHECKS: [&str; 20] = [
    "evidence.format",
    "platform",
    "ita.key",
    "ita.signature",
    "ita.issuer",
    "ita.time",
    "tdx.debug",
    "tdx.key_binding",
    "tdx.mrtd",
    "tdx.seam_svn",
    "tdx.tcb_status",
    "tdx.advisories",
    "tdx.tcb_age",
    "release.signature",
    "release.identity",
    "release.log",
    "release.digest",
    "tdx.rtmr1",
    "tdx.rtmr2",
    "tdx.release",
];

struct Fault {
    name: String,
    status: String,
    check: Option<String>,
    scope: String,
}

fn faults() -> Vec<Fault> {
    let listed = Command::new(env!("CARGO_BIN_EXE_confer-enclave"))
        .arg("--list-faults")
        .output();
    let listed = String::from_utf8(listed.expect("it runs").stdout).expect("UTF-8");
    let faults: Vec<_> = listed
        .lines()
        .map(|line| {
            let fault: Value = serde_json::from_str(line).expect("a JSON line");
            let text = |name: &str| fault[name].as_str().map(str::to_owned);
            Fault {
                name: text("fault").expect("a name"),
                status: text("status").expect("a status"),
                check: text("check"),
                scope: text("scope").expect("a scope"),
            }
        })
        .collect();
    assert!(!faults.is_empty());
    faults
}

/// Judges each fault of some scopes, a few in parallel. Returns the differences from the list.
fn disagreements(
    scopes: &[&str],
    judge: impl Fn(&Enclave, &Waits) -> String + Sync,
) -> Vec<String> {
    let mut waiting: Vec<_> = faults()
        .into_iter()
        .filter(|fault| scopes.contains(&fault.scope.as_str()))
        .collect();
    waiting.retain(|fault| fault.check.is_none());
    let (waiting, wrong) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(fault) = { waiting.lock().expect("unpoisoned").pop() } {
                    let enclave = Enclave::with_fault(&fault.name);
                    let judged = judge(&enclave, &Waits::listed(&fault.status));
                    if judged != fault.status {
                        let line =
                            format!("{}: listed {}, judged {judged}", fault.name, fault.status);
                        wrong.lock().expect("unpoisoned").push(line);
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("unpoisoned")
}

/// How long to wait: shortly where the list says that nothing comes, so that a slow machine changes
/// no verdict.
struct Waits {
    connecting: Duration,
    answer: Duration,
    /// After a silence.
    pong: Duration,
}

impl Waits {
    fn listed(status: &str) -> Waits {
        let silent = |by: &[&str]| {
            if by.contains(&status) {
                SILENCE
            } else {
                PATIENCE
            }
        };
        Waits {
            connecting: silent(&["CONFER_E_STAGE_TIMEOUT"]),
            answer: silent(&["CONFER_E_STREAM_IDLE", "CONFER_E_DEAD_PEER"]),
            pong: silent(&["CONFER_E_DEAD_PEER"]),
        }
    }
}

/// Returns the status with which connecting ends.
async fn judge_connecting(enclave: &Enclave, wait: Duration) -> Result<Client, &'static str> {
    let websocket = match tokio::time::timeout(wait, upgrade(enclave, &enclave.token)).await {
        Err(_) => return Err("CONFER_E_STAGE_TIMEOUT"),
        Ok(Ok(websocket)) => websocket,
        Ok(Err(Error::Io(_) | Error::ConnectionClosed)) => return Err(LOST),
        Ok(Err(Error::Protocol(error))) if error.to_string().contains("Handshake not finished") => {
            return Err(LOST);
        }
        Ok(Err(_)) => return Err("CONFER_E_UPGRADE"),
    };
    let met = greet(websocket, wait).await?;
    // snow accepts a point of low order; a careful client does not.
    if met.server_key == [0; 32] || met.ephemeral == [0; 32] {
        return Err("CONFER_E_HANDSHAKE");
    }
    Ok(met.finish().await)
}

/// Returns the status with which one chat ends, with a ping in parallel.
async fn judge_chat(mut client: Client, waits: &Waits) -> &'static str {
    client.ask(2, "GET", "/ping", "").await;
    client.chat(1, "hello", true).await;
    let mut stream = Vec::new();
    loop {
        let message = match client.message(waits.answer).await {
            Ok(message) => message,
            Err(End::Silence) => {
                // Checks with a new ping whether the peer still answers.
                client.ask(3, "GET", "/ping", "").await;
                return match client.message(waits.pong).await {
                    Ok(_) => "CONFER_E_STREAM_IDLE",
                    Err(_) => "CONFER_E_DEAD_PEER",
                };
            }
            Err(End::Closed(_)) => return LOST,
            Err(End::Undecryptable) => return "CONFER_E_DECRYPT",
            Err(End::Frame) => return "CONFER_E_FRAME",
            Err(End::Limit) => return "CONFER_E_LIMIT",
            Err(End::Text) => return "CONFER_E_PROTOCOL",
        };
        let Ok(response) = WebsocketResponse::decode(message) else {
            return "CONFER_E_PROTOCOL";
        };
        let (Some(id), Some(status @ 100..=599)) = (response.id, response.status) else {
            return "CONFER_E_PROTOCOL";
        };
        // The library's limits, which no rule of the protocol states.
        let sizes = response
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        if response.headers.len() > 64 || sizes.sum::<usize>() > 16 << 10 {
            return "CONFER_E_LIMIT";
        }
        match (id, status) {
            (1, 200) => {
                stream.extend_from_slice(&response.body.unwrap_or_default());
                match judge_events(&stream) {
                    Some(status) => return status,
                    None => continue,
                }
            }
            (1, 401) => return "CONFER_E_UNAUTHORIZED",
            (1, 402) => return "CONFER_E_PAYMENT_REQUIRED",
            (1, _) => return "CONFER_E_REFUSED",
            _ => {}
        }
    }
}

/// Makes the options of a document of this length.
fn options(length: usize) -> Value {
    json!({ "filename": "a.txt", "content_type": "text/plain", "total_length": length })
}

/// Returns the status with which one document ends, with a ping in parallel.
async fn judge_document(mut client: Client, waits: &Waits) -> &'static str {
    let part = vec![b'x'; PART];
    let options = options(PARTS as usize * PART);
    client.ask(2, "GET", "/ping", "").await;
    client.send(&opening(1, &options, &part, false)).await;
    for seq in 1..PARTS {
        client.send(&chunk(1, seq, &part, seq + 1 == PARTS)).await;
    }
    let (mut length, mut taken) = (None, 0);
    loop {
        let message = match client.message(waits.answer).await {
            Ok(message) => message,
            Err(End::Silence) => {
                client.ask(3, "GET", "/ping", "").await;
                return match client.message(waits.pong).await {
                    Ok(_) => "CONFER_E_STREAM_IDLE",
                    Err(_) => "CONFER_E_DEAD_PEER",
                };
            }
            Err(end) => panic!("{end:?}"),
        };
        let response = WebsocketResponse::decode(message).expect("a response");
        match (response.id, response.status) {
            (Some(1), Some(200)) => {}
            (Some(1), _) => return "CONFER_E_REFUSED",
            _ => continue,
        }
        let mut headers = response.headers.iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let Some((_, stated)) = found else {
            return "CONFER_E_PROTOCOL";
        };
        let digits = stated.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !(1..=12).contains(&stated.len()) {
            return "CONFER_E_PROTOCOL";
        }
        let stated: usize = stated.parse().expect("digits");
        taken += response.body.map_or(0, |body| body.len());
        if *length.get_or_insert(stated) != stated || taken > stated {
            return "CONFER_E_PROTOCOL";
        }
        if taken == stated {
            return "CONFER_OK";
        }
    }
}

/// Returns the status that the stream so far already determines.
fn judge_events(stream: &[u8]) -> Option<&'static str> {
    const BROKEN: Option<&str> = Some("CONFER_E_EVENT");
    let mut events = serde_json::Deserializer::from_slice(stream).into_iter::<Value>();
    let mut start = 0;
    while let Some(event) = events.next() {
        match event {
            Ok(event) => {
                let size = events.byte_offset() - start;
                if !event.is_object() || size > 16 << 20 || levels(&event) > 64 {
                    return BROKEN;
                }
                if event["type"] == "completion" {
                    return Some("CONFER_OK");
                }
                start = events.byte_offset();
            }
            Err(error) if error.is_eof() => return None,
            Err(_) => return BROKEN,
        }
    }
    None
}

fn levels(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(levels).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn names_are_unique_and_each_check_has_a_fault() {
    let faults = faults();
    let mut names = BTreeSet::new();
    let mut failing: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in &faults {
        assert!(names.insert(&fault.name), "{} is there twice", fault.name);
        match (&fault.check, fault.status.as_str()) {
            (Some(check), "CONFER_E_REJECTED") => *failing.entry(check).or_default() += 1,
            (None, "CONFER_E_REJECTED") => panic!("{} fails no check", fault.name),
            _ => {}
        }
    }
    for check in CHECKS {
        assert!(
            failing.remove(check).is_some(),
            "nothing makes {check} fail"
        );
    }
    assert!(failing.is_empty(), "unknown checks: {failing:?}");
}

#[test]
fn an_unknown_fault_is_refused() {
    let tried = Command::new(env!("CARGO_BIN_EXE_confer-enclave"))
        .args(["--fault", "no-such"])
        .output();
    assert_eq!(tried.expect("it runs").status.code(), Some(2));
}

#[test]
fn connections_and_streams_end_as_listed() {
    let wrong = disagreements(&["connect", "any", "stream"], |enclave, waits| {
        run(async {
            match judge_connecting(enclave, waits.connecting).await {
                Ok(client) => judge_chat(client, waits).await.to_owned(),
                Err(status) => status.to_owned(),
            }
        })
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn documents_end_as_listed() {
    let wrong = disagreements(&["document"], |enclave, waits| {
        run(async {
            judge_document(Client::connect(enclave).await, waits)
                .await
                .to_owned()
        })
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns the uploads in the enclave's log: outcome, bytes and hash.
fn uploads(log: &Path) -> Vec<(String, u64, String)> {
    let lines = common::log_lines(log);
    let uploads = lines.iter().filter(|line| line["event"] == "upload");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    uploads
        .map(|line| {
            let bytes = line["bytes"].as_u64().expect("a number");
            (text(&line["outcome"]), bytes, text(&line["sha256"]))
        })
        .collect()
}

#[test]
fn log_shows_received_bytes_of_an_upload() {
    let hash = |parts: u32| {
        let bytes: Vec<u8> = (0..parts).flat_map(|seq| vec![seq as u8; PART]).collect();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let hash: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (bytes.len() as u64, hash)
    };
    for (fault, outcome, received) in [
        ("none", "complete", PARTS),
        ("upload-opens-late", "complete", PARTS),
        ("upload-never-answered", "complete", PARTS),
        ("upload-refused-midway", "refused", 3),
        ("upload-answers-early", "complete", 1),
    ] {
        let log = common::scratch(fault);
        let path = log.to_str().expect("UTF-8");
        let enclave = Enclave::start(&["--fault", fault, "--log", path]);
        run(async {
            let mut client = Client::connect(&enclave).await;
            let options = options(PARTS as usize * PART);
            client.send(&opening(1, &options, &[0; PART], false)).await;
            for seq in 1..PARTS {
                let part = [seq as u8; PART];
                client.send(&chunk(1, seq, &part, seq + 1 == PARTS)).await;
            }
            while uploads(&log).is_empty() {
                tokio::task::yield_now().await;
            }
            let (bytes, hash) = hash(received);
            assert_eq!(
                uploads(&log),
                [(outcome.to_owned(), bytes, hash)],
                "{fault}"
            );
        });
    }
}

#[test]
fn document_larger_than_all_buffers_is_never_read_whole() {
    const MIB: u32 = 1 << 20;
    let enclave = Enclave::with_fault("upload-not-read");
    run(async {
        let mut client = Client::connect(&enclave).await;
        let part = vec![0; MIB as usize];
        client
            .send(&opening(1, &options(50 << 20), &part, false))
            .await;
        let mut seq = 1;
        while tokio::time::timeout(SILENCE, client.send(&chunk(1, seq, &part, false)))
            .await
            .is_ok()
        {
            seq += 1;
            assert!(seq < 50, "50 MiB were taken");
        }
    });
}

/// A client that tries again on the same connection gets an answer.
#[test]
fn only_the_first_request_is_refused_and_no_ping() {
    let enclave = Enclave::with_fault("request-402-first");
    run(async {
        let mut client = Client::connect(&enclave).await;
        for (content, status) in [("hello", 402), ("hello", 200)] {
            client.ask(1, "GET", "/ping", "").await;
            assert_eq!(client.answer().await.0, 200);
            client.chat(2, content, false).await;
            assert_eq!(client.answer().await.0, status);
        }
    });
}

#[test]
fn allowed_frames_carry_the_whole_answer() {
    for (fault, answer) in [
        ("frame-interleaved", "before one two six after"),
        ("frame-out-of-order", "before backwards after"),
        ("frame-duplicate-same", "before thrice after"),
        ("frame-no-id", "before nameless after"),
        ("frame-empty-chunks", "before hollow after"),
        ("frame-id-again", "before one two after"),
        ("response-unknown-id", "before after"),
    ] {
        let enclave = Enclave::with_fault(fault);
        run(async {
            let mut client = Client::connect(&enclave).await;
            client.chat(1, "hello", true).await;
            assert_eq!(said(&client.events(1).await), answer, "{fault}");
        });
    }
}

/// Returns the reference verifier's verdict on the release in the evidence.
fn sigstore(enclave: &Enclave) -> Result<(), String> {
    let evidence = run(hello(enclave)).evidence();
    let policy = &enclave.policy()["sigstore"];
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let root = TrustedRoot::from_json(&policy["trusted_root"].to_string()).expect("a trusted root");
    let bundle =
        Bundle::from_json(&text(&evidence["manifestBundle"])).map_err(|error| error.to_string())?;
    let signer = IdentityMatcher::Email(text(&policy["identity"]));
    let signer = VerificationPolicy::new(signer, text(&policy["issuer"]));
    let verified = Verifier::new(&root).expect("a verifier").verify(
        text(&evidence["manifest"]).as_bytes(),
        &bundle,
        &signer,
    );
    verified.map(drop).map_err(|error| error.to_string())
}

/// Some rules are checked only by the library's guard. The reference verifier must find all others,
/// for the right reason.
#[test]
fn reference_verifier_refuses_bad_releases_for_listed_reasons() {
    for (fault, reason) in [
        ("release-other-bytes", "signature"),
        ("release-other-ca", "certificate"),
        ("release-no-code-signing", "certificate"),
        ("release-no-sct", "SCT"),
        ("release-bad-sct", "SCT"),
        ("release-other-ct-log", "SCT"),
        ("release-logged-late", "certificate"),
        ("release-other-email", "identity"),
        ("release-other-issuer", "issuer"),
        ("release-uri-san", "identity"),
        ("log-no-proof", "proof"),
        ("log-bad-promise", "SET"),
        ("log-time-future", "future"),
        ("log-bad-proof", "proof"),
        ("log-other-checkpoint-key", "checkpoint"),
        ("digest-other", "digest"),
        ("manifest-altered", "digest"),
    ] {
        let enclave = Enclave::with_fault(fault);
        let refused = sigstore(&enclave).expect_err(fault);
        assert!(
            refused.to_lowercase().contains(&reason.to_lowercase()),
            "{fault}: {refused}"
        );
    }
    for fault in ["none", "log-witness", "token-v2", "tcb-warn", "mrtd-other"] {
        sigstore(&Enclave::with_fault(fault)).expect(fault);
    }
}
