//! A client with a kept configuration meets a restarted enclave.

use std::ptr;

use confer::ffi::connect::*;
use confer::ffi::report_fields::*;

use crate::harness::*;

/// Returns the options that start an enclave at the same addresses.
fn there(enclave: &Enclave) -> Vec<String> {
    let policy = std::fs::read_to_string(&enclave.policy).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
    let keys = policy["ita"]["jwks_url"].as_str().unwrap();
    let key_port = keys.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let port = enclave.port().to_string();
    ["--port", &port, "--key-port", key_port]
        .map(str::to_owned)
        .into()
}

fn start_again(options: &[String], more: &[&str], token: &str) -> Enclave {
    let options = options.iter().map(String::as_str);
    let options: Vec<_> = options
        .chain(["--token", token])
        .chain(more.iter().copied())
        .collect();
    Enclave::with(&options)
}

/// Returns manifest hash and image version of the enclave.
fn release(config: &Config) -> (String, String) {
    let client = connect(config).unwrap();
    let mut report = ptr::null_mut();
    call(|e| unsafe { confer_attestation_report(client.0, &mut report, e) }).unwrap();
    let report = Report(report);
    // Closing drops the client's reference to the configuration.
    close(&client);
    let got = |getter: unsafe extern "C" fn(_, _) -> _| {
        text(unsafe { getter(report.0.cast_const(), ptr::null_mut()) })
            .unwrap()
            .to_owned()
    };
    (
        got(confer_report_manifest_sha256),
        got(confer_report_image_version),
    )
}

fn fetches(enclave: &Enclave) -> usize {
    enclave.count("key-set")
}

#[test]
fn new_release_verifies_with_the_old_policy() {
    let first = Enclave::start(None);
    let (config, options) = (config(&first), there(&first));
    let before = release(&config);
    let token = first.token.clone();
    drop(first);
    let second = start_again(&options, &["--release", "0.2.0"], &token);
    let after = release(&config);
    assert_ne!(before.0, after.0);
    assert_eq!(after.1, "0.2.0");
    assert_eq!(fetches(&second), 0, "the key set was known");
    // The new policy is the same, including the key set's address.
    assert_eq!(there(&second), options);
    assert_eq!(release(&crate::harness::config(&second)), after);
}

#[test]
fn known_keys_need_no_key_server() {
    let first = Enclave::start(None);
    let (config, options) = (config(&first), there(&first));
    let before = release(&config);
    let token = first.token.clone();
    drop(first);
    // Without `--key-port`, the policy has an address where nothing listens any more.
    let second = start_again(&options[..2], &[], &token);
    assert_eq!(release(&config), before);
    assert_eq!(fetches(&second), 0);
}
