//! Each fault of the local enclave gives the error that `--list-faults` states.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use confer::ffi::connect::*;
use confer::ffi::report::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use serde_json::Value;

use crate::harness::*;

/// Enclaves that run at once. Most of them wait.
const WORKERS: usize = 6;

fn faults() -> Vec<Value> {
    let output = Command::new(enclave_program())
        .arg("--list-faults")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_fault_gives_its_listed_error() {
    let (faults, next, wrong) = (faults(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let checked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    checked.fetch_add(1, Ordering::Relaxed);
                    if let Err(why) = try_fault(fault) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{}: {why}", fault["fault"]));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} faults:\n{}",
        wrong.len(),
        faults.len(),
        wrong.join("\n")
    );
    assert!(checked.into_inner() > 200, "the enclave's list was read");
}

fn try_fault(fault: &Value) -> Result<(), String> {
    let name = fault["fault"].as_str().unwrap();
    let expected = fault["status"].as_str().unwrap();
    let enclave = Enclave::start(Some(name));
    let config = config(&enclave);
    // A fault that waits for a limit gets a short one. All others get the time that a busy machine
    // needs.
    if expected == "CONFER_E_DEAD_PEER" {
        config.set_duration(CONFER_DURATION_KEEPALIVE, 300);
        config.set_duration(CONFER_DURATION_DEAD_PEER, 600);
    }
    if expected == "CONFER_E_STREAM_IDLE" {
        config.set_idle(1_500);
    }
    if expected == "CONFER_E_STAGE_TIMEOUT" {
        for stage in CONFER_DURATION_STAGE_RESOLVE..=CONFER_DURATION_STAGE_PROXY {
            config.set_duration(stage, 1_000);
        }
    }
    if name.starts_with("key-server") {
        config.set_duration(CONFER_DURATION_STAGE_KEY_SET, 1_000);
    }
    let connected = connect(&config);
    let scope = fault["scope"].as_str().unwrap();
    let client = match connected {
        Err(failure) => {
            if ["stream", "document"].contains(&scope) {
                return Err(format!("connecting failed: {failure:?}"));
            }
            return judge_refusal(fault, &enclave, &failure);
        }
        Ok(client) => client,
    };
    if scope == "connect" {
        if expected != "CONFER_OK" {
            return Err("it was accepted".into());
        }
        return judge_report(fault, &client);
    }
    let outcome = if scope == "document" {
        // The document that is not read exceeds all buffers on the way. The others have five
        // chunks.
        let size = if name == "upload-not-read" {
            24 << 20
        } else {
            5 << 20
        };
        let document = PROMPT.as_bytes().iter().copied().cycle().take(size);
        let request = extraction(&Vec::from_iter(document));
        send(&client, &request).and_then(|stream| read_body(&stream).1)
    } else {
        pull(&client, PROMPT).and_then(|stream| read(&stream).1)
    };
    let found = outcome.as_ref().map_or_else(
        |failure| crate::harness::name(failure.status()),
        |()| "CONFER_OK".into(),
    );
    judge_connection(fault, &client, &found)?;
    if let Err(failure) = &outcome {
        no_secret(&enclave, failure)?;
        no_slip(failure)?;
    }
    if found == expected {
        Ok(())
    } else {
        Err(format!("expected {expected}, got {outcome:?}"))
    }
}

/// Checks that a failed stream leaves the connection alive, and that a failed connection has the
/// same error.
fn judge_connection(fault: &Value, client: &Client, status: &str) -> Result<(), String> {
    let connection = check(client);
    let streams_own = [
        "CONFER_OK",
        "CONFER_E_EVENT",
        "CONFER_E_REFUSED",
        "CONFER_E_UNAUTHORIZED",
        "CONFER_E_PAYMENT_REQUIRED",
        "CONFER_E_STREAM_IDLE",
    ];
    // `Content-Length` concerns only its stream.
    let own = fault["scope"] == "document" && status == "CONFER_E_PROTOCOL";
    let expected = if own || streams_own.contains(&status) {
        "CONFER_OK"
    } else {
        status
    };
    let found = connection.map_or_else(|failure| name(failure.status()), |_| "CONFER_OK".into());
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "the stream ended with {status}, and the connection with {found}"
        ))
    }
}

fn no_secret(enclave: &Enclave, failure: &Failure) -> Result<(), String> {
    let report = failure
        .report()
        .map(|report| report.to_string())
        .unwrap_or_default();
    if [failure.message(), &report]
        .iter()
        .any(|text| text.contains(PROMPT) || text.contains(&enclave.token))
    {
        return Err("an error shows the prompt or the token".into());
    }
    Ok(())
}

/// Checks that the message and the report's texts are readable for people.
fn no_slip(failure: &Failure) -> Result<(), String> {
    let checks = failure.report().map(|mut report| report["checks"].take());
    let checks = checks.as_ref().and_then(Value::as_array);
    let details = checks.into_iter().flatten().flat_map(|check| {
        ["detail", "expected", "observed"].map(|field| check[field].as_str().unwrap_or_default())
    });
    let mut texts = std::iter::once(failure.message()).chain(details);
    match texts.find_map(|text| Some((slip(text)?, text))) {
        Some((slip, text)) => Err(format!("{slip:?} in {text:?}")),
        None => Ok(()),
    }
}

fn judge_refusal(fault: &Value, enclave: &Enclave, failure: &Failure) -> Result<(), String> {
    no_secret(enclave, failure)?;
    no_slip(failure)?;
    let found = name(failure.status());
    if fault["status"] != found.as_str() {
        return Err(format!("expected {}, got {failure:?}", fault["status"]));
    }
    if failure.status() != CONFER_E_REJECTED {
        return Ok(());
    }
    // The enclave's log is complete when the connection has ended there.
    until("the refused connection is closed", || enclave.saw("ended"));
    if enclave.saw("message-3") {
        return Err("a refused enclave saw message 3".into());
    }
    // Trouble that says nothing about the enclave is retryable. Any other refusal is final.
    let passes = [
        "evidence-null-attestation",
        "evidence-empty-attestation",
        "key-leaf-expired",
        "key-leaf-ended-now",
        "key-leaf-future",
        "log-time-future",
        "time-expired",
        "time-not-before",
        "time-issued-in-future",
    ];
    let named = fault["fault"].as_str().unwrap();
    let passes = passes.contains(&named) || named.starts_with("key-server-");
    if failure.retryable() != passes {
        return Err(format!("retryable: {}: {failure:?}", failure.retryable()));
    }
    if fault["check"].as_str() != failure.check() {
        return Err(format!(
            "expected check {}, got {failure:?}",
            fault["check"]
        ));
    }
    let report = failure.report().ok_or("a refusal without a report")?;
    let failed: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["outcome"] == "fail")
        .collect();
    if report["verdict"] != "rejected" || failed.len() != 1 || failed[0]["id"] != fault["check"] {
        return Err(format!("it does not fail alone: {failed:?}"));
    }
    // A claim that fails its check does not prevent the other checks.
    let id = fault["check"].as_str().unwrap();
    let claims = !["evidence.format", "platform", "ita.key", "ita.signature"].contains(&id);
    let checks = report["checks"].as_array().unwrap();
    let skipped = checks.iter().find(|check| {
        let theirs = check["id"].as_str().unwrap();
        let of_the_release = theirs.starts_with("release.") || theirs.starts_with("tdx.rtmr");
        check["outcome"] == "skip" && claims && !(id.starts_with("release.") && of_the_release)
    });
    match skipped {
        Some(skipped) => Err(format!("{id} failed, and so this was not made: {skipped}")),
        None => Ok(()),
    }
}

fn judge_report(fault: &Value, client: &Client) -> Result<(), String> {
    let mut report = std::ptr::null_mut();
    call(|e| unsafe { confer_attestation_report(client.0, &mut report, e) })
        .map_err(|e| format!("{e:?}"))?;
    let report = Report(report);
    let json = text(unsafe { confer_report_json(report.0, std::ptr::null_mut()) }).unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    let outcomes = json["checks"].as_array().unwrap();
    let expected = fault["outcome"].as_str();
    for check in outcomes {
        let wanted = if check["id"] == fault["check"] {
            expected.unwrap_or("pass")
        } else {
            "pass"
        };
        if check["outcome"] != wanted {
            return Err(format!("expected {wanted}: {check}"));
        }
    }
    if json["verdict"] != "verified" || outcomes.len() != 20 {
        return Err(format!(
            "verdict {} of {} checks",
            json["verdict"],
            outcomes.len()
        ));
    }
    Ok(())
}
