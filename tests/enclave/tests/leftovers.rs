//! The enclave always removes its folder, however it ends.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, Enclave, run, scratch};

const SIGNALS: [&str; 4] = ["HUP", "INT", "QUIT", "TERM"];

/// Starts an enclave whose temporary folders are in `temporary`.
fn spawn(temporary: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confer-enclave"));
    let command = command.args(more).env("TMPDIR", temporary);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.process_group(0).spawn().expect("it starts")
}

/// Waits until the enclave serves.
fn serving(mut enclave: Child) -> Child {
    let mut line = String::new();
    let stdout = enclave.stdout.as_mut().expect("its stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert!(line.contains("policy"));
    enclave
}

fn signal(enclave: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, &enclave.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = scratch(name);
    fs::create_dir(&folder).expect("a new folder");
    folder
}

#[test]
fn each_signal_removes_the_folder_while_it_serves() {
    let temporary = folder("serving");
    for name in SIGNALS {
        let mut enclave = serving(spawn(&temporary, &[]));
        assert_eq!(entries(&temporary), 1);
        signal(&enclave, name);
        assert!(enclave.wait().expect("it ends").success(), "{name}");
        assert_eq!(entries(&temporary), 0, "{name}");
    }
}

#[test]
fn each_signal_removes_the_folder_while_it_starts() {
    let temporary = folder("starting");
    for name in SIGNALS {
        let mut enclave = spawn(&temporary, &[]);
        let began = Instant::now();
        while entries(&temporary) == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "no folder");
            std::thread::yield_now();
        }
        signal(&enclave, name);
        enclave.wait().expect("it ends");
        assert_eq!(entries(&temporary), 0, "{name}");
    }
}

/// Also before it handles signals.
#[test]
fn a_signal_at_any_moment_leaves_no_folder() {
    let temporary = folder("any");
    for milliseconds in 0..20 {
        let mut enclave = spawn(&temporary, &[]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        signal(&enclave, "TERM");
        enclave.wait().expect("it ends");
        assert_eq!(entries(&temporary), 0, "after {milliseconds} ms");
    }
}

#[test]
fn a_start_that_fails_leaves_no_folder() {
    let temporary = folder("failing");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for arguments in [["--port", &port], ["--log", "/nonexistent/log"]] {
        let mut enclave = spawn(&temporary, &arguments);
        assert!(!enclave.wait().expect("it ends").success());
        assert_eq!(entries(&temporary), 0);
    }
}

#[test]
fn the_end_of_stdin_and_of_stdout_leave_no_folder() {
    let temporary = folder("pipes");
    let mut enclave = spawn(&temporary, &["--exit-with-stdin"]);
    drop(enclave.stdin.take()); // while it starts
    enclave.wait().expect("it ends");
    assert_eq!(entries(&temporary), 0);
    let mut enclave = spawn(&temporary, &[]);
    drop(enclave.stdout.take());
    assert!(!enclave.wait().expect("it ends").success());
    assert_eq!(entries(&temporary), 0);
}

#[test]
fn a_client_in_mid_stream_does_not_keep_the_folder() {
    let mut enclave = Enclave::start(&[]);
    let id = enclave.process_id().to_string();
    run(async {
        let mut client = Client::connect(&enclave).await;
        client.chat(1, "/slow 10 100000", true).await;
        client.answer().await;
        let sent = Command::new("kill").arg(id).status();
        assert!(sent.expect("kill runs").success());
        while client.receive().await.is_ok() {}
    });
    assert!(enclave.stop());
    assert!(!enclave.policy_path.parent().expect("a folder").exists());
}

#[test]
fn next_start_removes_only_a_killed_enclaves_folder() {
    let temporary = folder("killed");
    let living = serving(spawn(&temporary, &["--exit-with-stdin"]));
    let kept: Vec<_> = fs::read_dir(&temporary)
        .expect("a folder")
        .flatten()
        .collect();
    fs::create_dir(temporary.join("confer-enclave-other")).expect("a folder");
    for _ in 0..2 {
        let mut killed = serving(spawn(&temporary, &[]));
        assert_eq!(entries(&temporary), 3);
        killed.kill().expect("it is there");
        killed.wait().expect("it ends");
        assert_eq!(entries(&temporary), 3);
    }
    let mut last = serving(spawn(&temporary, &[]));
    assert_eq!(entries(&temporary), 3);
    signal(&last, "TERM");
    last.wait().expect("it ends");
    assert_eq!(entries(&temporary), 2);
    assert!(kept[0].path().join("policy.json").exists());
    end(living);
}

/// Ends the enclave by closing its stdin.
fn end(mut enclave: Child) {
    drop(enclave.stdin.take());
    enclave.wait().expect("it ends");
}
