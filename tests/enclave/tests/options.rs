//! Options of the command line: classes of tokens, faults for some connections, releases, fixed
//! ports.

mod common;

use std::process::Command;

use common::{Client, Enclave, hello, run, said, scratch, upgrade};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;

#[test]
fn each_class_of_token_gets_its_answer() {
    let log = scratch("tokens");
    let enclave = Enclave::start(&[
        "--token",
        "first",
        "--token",
        "second",
        "--expired-token",
        "expired",
        "--unauthorized-token",
        "unauthorized",
        "--log",
        log.to_str().expect("UTF-8"),
    ]);
    assert_eq!(enclave.token, "first");
    run(async {
        for (token, status) in [
            ("first", 200),
            ("second", 200),
            ("expired", 402),
            ("unauthorized", 401),
        ] {
            let mut client = Client::connect_as(&enclave, token).await;
            client.ask(1, "GET", "/ping", "").await;
            assert_eq!(client.answer().await.0, status, "{token}");
            client.chat(2, "hello", false).await;
            assert_eq!(client.answer().await.0, status, "{token}");
        }
        let refused = upgrade(&enclave, "third").await;
        assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 500));
    });
    drop(enclave);
    let lines = common::log_lines(&log);
    let classes: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "upgraded" || line["event"] == "refused")
        .map(|line| line["token"].as_str().expect("a class"))
        .collect();
    assert_eq!(
        classes,
        ["accepted", "accepted", "expired", "unauthorized", "refused"]
    );
}

#[test]
fn makes_a_token_if_none_is_given() {
    let enclave = Enclave::start(&["--expired-token", "old"]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "hello", false).await;
        assert_eq!(client.answer().await.0, 200);
    });
}

/// Sends one chat on each of four connections. Returns the texts of the answers.
fn four(arguments: &[&str]) -> Vec<Option<String>> {
    let enclave = Enclave::start(arguments);
    run(async {
        let mut answers = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(&enclave).await;
            client.chat(1, "hello", false).await;
            let answer = client.receive().await.ok();
            let body = answer.and_then(|answer| answer.body);
            answers.push(body.map(|body| String::from_utf8_lossy(&body).into_owned()));
        }
        answers
    })
}

#[test]
fn fault_may_apply_to_some_connections() {
    let good = || Some("You said: hello".to_owned());
    let fault = ["--fault", "message3-close"];
    let with = |more: &[&'static str]| four(&[&fault, more].concat());
    assert_eq!(with(&[]), [None, None, None, None]);
    assert_eq!(with(&["--fault-from", "3"]), [good(), good(), None, None]);
    assert_eq!(
        with(&["--fault-until", "1"]),
        [None, good(), good(), good()]
    );
    assert_eq!(
        with(&["--fault-from", "2", "--fault-until", "2"]),
        [good(), None, good(), good()]
    );
}

/// Each connection has its evidence, so faults of evidence and release may also apply to some.
#[test]
fn evidence_may_be_bad_from_the_second_connection_on() {
    for (fault, part) in [
        ("manifest-altered", "manifest"),
        ("evidence-no-attestation", "attestation"),
    ] {
        let arguments = ["--fault", fault, "--fault-from", "2", "--fault-until", "2"];
        let enclave = Enclave::start(&arguments);
        let [first, second, third] =
            [(); 3].map(|()| run(hello(&enclave)).evidence()[part].clone());
        if part == "manifest" {
            assert_eq!(first, third);
            assert_ne!(first, second);
        } else {
            assert!(first.is_string() && third.is_string() && second.is_null());
        }
    }
}

#[test]
fn conflicting_options_are_refused() {
    for arguments in [
        &["--fault-from", "2"][..],
        &["--fault", "mute", "--fault-from", "0"],
        &["--fault", "mute", "--fault-from", "3", "--fault-until", "2"],
        &["--fault", "release-listed", "--fault-from", "2"],
        &["--fault", "key-server-500", "--fault-until", "2"],
        &["--token", "a", "--expired-token", "a"],
        &["--release", ""],
        &["--key-port", "many"],
    ] {
        let tried = Command::new(env!("CARGO_BIN_EXE_confer-enclave"))
            .args(arguments)
            .output()
            .expect("it runs");
        assert_eq!(tried.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&tried.stderr).contains("usage:"));
    }
}

fn manifest(enclave: &Enclave) -> (String, Value) {
    let evidence = run(hello(enclave)).evidence();
    let manifest = evidence["manifest"].as_str().expect("a string");
    (
        manifest.to_owned(),
        serde_json::from_str(manifest).expect("JSON"),
    )
}

#[test]
fn other_release_has_another_manifest_and_the_same_policy() {
    let state = scratch("releases");
    let state = state.to_str().expect("UTF-8");
    let first = Enclave::start_alone(&["--state", state]);
    let ports = first.ports();
    let kept = [
        "--state",
        state,
        "--port",
        &ports[0],
        "--key-port",
        &ports[1],
    ];
    let (url, policy) = (first.url.clone(), first.policy());
    let (before, _) = manifest(&first);
    drop(first);
    let second = Enclave::start_alone(&[&kept[..], &["--release", "0.2.0"]].concat());
    assert_eq!((&second.url, second.policy()), (&url, policy.clone()));
    let (after, manifest_after) = manifest(&second);
    assert_ne!(before, after);
    assert_eq!(manifest_after["imageVersion"], "0.2.0");
    drop(second);
    let third = Enclave::start_alone(&kept);
    assert_eq!(manifest(&third).0, before);
    assert_eq!(third.policy(), policy);
    run(async {
        let mut client = Client::connect(&third).await;
        client.chat(1, "hello", true).await;
        assert_eq!(said(&client.events(1).await), "You said: hello");
    });
}

#[test]
fn help_explains_each_option() {
    let help = Command::new(env!("CARGO_BIN_EXE_confer-enclave"))
        .arg("--help")
        .output()
        .expect("the enclave starts");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    // The first word of each line with an option.
    let explained: Vec<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  --"))
        .map(|line| line.split(' ').next().expect("a name"))
        .collect();
    // The options that the command line has.
    let parsed = include_str!("../src/cli.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"--"))
        .filter_map(|line| line.split_once("\" =>"))
        .map(|(name, _)| name)
        .filter(|name| *name != "help");
    for name in parsed {
        assert!(explained.contains(&name), "--{name} is not explained");
    }
    assert!(explained.len() > 20, "{explained:?}");
}
