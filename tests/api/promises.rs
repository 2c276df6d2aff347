//! Promises of the header that a Rust program can check. The programs in `tests/c` check the rest.

use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::log::*;
use confer::ffi::report::*;
use confer::ffi::report_evidence::*;
use confer::ffi::report_fields::*;
use confer::ffi::request::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use confer::ffi::types::*;

use crate::harness::*;

#[test]
fn verified_enclave_streams_an_answer() {
    let enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let (answer, end) = read(&pull(&client, PROMPT).unwrap());
    end.unwrap();
    assert!(!answer.is_empty());
    close(&client);
    let failure = pull(&client, PROMPT)
        .err()
        .expect("a closed client takes no request");
    assert_eq!(failure.status(), CONFER_E_CLOSED);
}

#[test]
fn only_unaltered_evidence_verifies_offline() {
    let enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let (mut report, mut policy) = (ptr::null_mut(), ptr::null_mut());
    call(|e| unsafe { confer_attestation_report(client.0, &mut report, e) }).unwrap();
    let report = Report(report);
    let evidence = text(unsafe { confer_report_evidence(report.0, ptr::null_mut()) }).unwrap();
    assert!(!evidence.contains(&enclave.token));
    let path = &enclave.policy;
    call(|e| unsafe {
        confer::ffi::policy::confer_policy_load(path.as_ptr().cast(), path.len(), &mut policy, e)
    })
    .unwrap();
    let verify = |file: &str| {
        let mut again = ptr::null_mut();
        call(|e| unsafe {
            confer_evidence_verify(file.as_ptr().cast(), file.len(), policy, -1, &mut again, e)
        })
        .map(|_| Report(again))
    };
    let again = verify(evidence).unwrap();
    assert!(unsafe { confer_report_verified(again.0) });
    let mut other: serde_json::Value = serde_json::from_str(evidence).unwrap();
    other["server_key"] = "00".repeat(32).into();
    assert_eq!(
        verify(&other.to_string()).err().unwrap().check(),
        Some("tdx.key_binding")
    );
    assert_eq!(verify("{}").err().unwrap().status(), CONFER_E_INVALID_JSON);
    unsafe { confer::ffi::policy::confer_policy_free(policy) };
}

/// Each getter returns the JSON's member of the same name.
#[test]
fn report_getters_match_its_json() {
    type Text = unsafe extern "C" fn(*const confer_report, *mut usize) -> *const std::ffi::c_char;
    type Number = unsafe extern "C" fn(*const confer_report) -> i64;
    let enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let mut report = ptr::null_mut();
    call(|e| unsafe { confer_attestation_report(client.0, &mut report, e) }).unwrap();
    let report = Report(report);
    let json = text(unsafe { confer_report_json(report.0, ptr::null_mut()) }).unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let texts: [(&str, Text); 20] = [
        ("/platform", confer_report_platform),
        ("/policy/name", confer_report_policy_name),
        ("/policy/sha256", confer_report_policy_sha256),
        ("/endpoint", confer_report_endpoint),
        ("/server_key", confer_report_server_key),
        ("/manifest_sha256", confer_report_manifest_sha256),
        ("/release/image_version", confer_report_image_version),
        ("/release/proxy_version", confer_report_proxy_version),
        ("/release/signer", confer_report_signer),
        ("/release/issuer", confer_report_issuer),
        ("/release/log/url", confer_report_log_url),
        ("/tdx/mrtd", confer_report_mrtd),
        ("/tdx/rtmr0", confer_report_rtmr0),
        ("/tdx/rtmr1", confer_report_rtmr1),
        ("/tdx/rtmr2", confer_report_rtmr2),
        ("/tdx/rtmr3", confer_report_rtmr3),
        ("/tdx/tcb_status", confer_report_tcb_status),
        ("/tdx/tcb_date", confer_report_tcb_date),
        ("/checks/0/id", first_check_id),
        ("/checks/0/detail", first_check_detail),
    ];
    for (place, stage) in [
        ("resolve", CONFER_STAGE_RESOLVE),
        ("tcp", CONFER_STAGE_TCP),
        ("upgrade", CONFER_STAGE_UPGRADE),
        ("handshake", CONFER_STAGE_HANDSHAKE),
        ("verify", CONFER_STAGE_VERIFY),
        ("proxy", CONFER_STAGE_PROXY),
        ("total", CONFER_STAGE_ALL),
        ("none", 77),
    ] {
        let told = json["timings_us"][place].as_i64().unwrap_or(-1);
        assert_eq!(
            unsafe { confer_report_timing_us(report.0, stage) },
            told,
            "{place}"
        );
        assert_eq!(told >= 0, !["proxy", "none"].contains(&place), "{place}");
    }
    let mut seen = std::collections::BTreeSet::new();
    for (place, getter) in texts {
        let mut len = 0;
        let found = text(unsafe { getter(report.0, &mut len) }).expect(place);
        assert_eq!(
            json.pointer(place).unwrap().as_str(),
            Some(found),
            "{place}"
        );
        assert_eq!(found.len(), len, "{place}");
        seen.insert(found);
    }
    // Equal values would hide a mix-up. Only image and proxy have the same version here.
    assert!(seen.len() >= texts.len() - 1, "{seen:?}");
    let numbers: [(&str, Number); 5] = [
        ("/verified_at", confer_report_verified_at),
        ("/expires_at", confer_report_expires_at),
        ("/release/log/index", confer_report_log_index),
        (
            "/release/log/integrated_time",
            confer_report_log_integrated_time,
        ),
        ("/tdx/seam_svn", confer_report_seam_svn),
    ];
    for (place, getter) in numbers {
        let found = unsafe { getter(report.0) };
        assert_eq!(
            json.pointer(place).unwrap().as_i64(),
            Some(found),
            "{place}"
        );
    }

    unsafe extern "C" fn first_check_id(
        report: *const confer_report,
        len: *mut usize,
    ) -> *const std::ffi::c_char {
        unsafe { confer_report_check_id(report, 0, len) }
    }
    unsafe extern "C" fn first_check_detail(
        report: *const confer_report,
        len: *mut usize,
    ) -> *const std::ffi::c_char {
        unsafe { confer_report_check_detail(report, 0, len) }
    }
}

#[test]
fn open_requests_are_limited_to_4096() {
    let enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let mut open: Vec<_> = (0..4_096)
        .map(|_| pull(&client, "/silent").unwrap())
        .collect();
    let failure = pull(&client, "/silent").err().unwrap();
    assert_eq!(failure.status(), CONFER_E_TOO_MANY);
    assert!(failure.retryable() && failure.message().contains("4096"));
    open.pop();
    until("there is room", || match pull(&client, "there is room") {
        Ok(_) => true,
        Err(failure) => {
            assert_eq!(failure.status(), CONFER_E_TOO_MANY);
            false
        }
    });
}

/// Starts an enclave that drops a client after a second of silence.
fn impatient(server: Server) -> Enclave {
    let silence = ["--silence-ms", "1000", "--silence-check-ms", "50"];
    Enclave::with(["--server", server.name()].iter().chain(&silence))
}

on_each_server! {
    keepalive_pings_keep_a_quiet_connection,
    server_drops_a_client_that_pings_too_seldom,
}

fn server_drops_a_client_that_pings_too_seldom(server: Server) {
    let enclave = impatient(server);
    let config = config(&enclave);
    config.set_duration(CONFER_DURATION_KEEPALIVE, 3_600_000);
    let client = connect(&config).unwrap();
    let stream = pull(&client, "/slow 60000 1").unwrap();
    let failure = read(&stream).1.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_CONNECTION_LOST, "{failure:?}");
}

fn keepalive_pings_keep_a_quiet_connection(server: Server) {
    let enclave = impatient(server);
    let config = config(&enclave);
    config.set_duration(CONFER_DURATION_KEEPALIVE, 50);
    config.set_duration(CONFER_DURATION_DEAD_PEER, 2_000);
    let client = connect(&config).unwrap();
    let began = Instant::now();
    until("pings", || {
        enclave.count("ping") >= 5 && began.elapsed() > Duration::from_secs(2)
    });
    assert_eq!(check(&client).unwrap(), CONFER_OK);
}

#[test]
fn debug_log_contains_no_token_or_prompt() {
    type Records = Arc<Mutex<Vec<String>>>;
    unsafe extern "C" fn log(
        data: *mut std::ffi::c_void,
        _: i32,
        target: *const std::ffi::c_char,
        message: *const std::ffi::c_char,
    ) {
        let records = unsafe { &*data.cast::<Records>() };
        records.lock().unwrap().push(format!(
            "{} {}",
            text(target).unwrap(),
            text(message).unwrap()
        ));
    }
    unsafe extern "C" fn destroy(data: *mut std::ffi::c_void) {
        drop(unsafe { Box::from_raw(data.cast::<Records>()) });
    }
    let records = Records::default();
    for fault in [
        None,
        Some("mrtd-other"),
        Some("noise-altered"),
        Some("upgrade-401"),
    ] {
        let enclave = Enclave::start(fault);
        let config = config(&enclave);
        let data = Box::into_raw(Box::new(records.clone())).cast();
        call(|e| unsafe {
            confer_config_set_log(
                config.0,
                CONFER_LOG_DEBUG,
                Some(log),
                data,
                Some(destroy),
                e,
            )
        })
        .unwrap();
        if let Ok(client) = connect(&config) {
            let _ = pull(&client, PROMPT).map(|stream| read(&stream));
            close(&client);
        }
        drop(config);
        let records = records.lock().unwrap();
        assert!(!records.is_empty());
        let all = records.join("\n");
        assert!(
            !all.contains(PROMPT) && !all.contains(&enclave.token),
            "{all}"
        );
    }
    // Each `destroy` ran: only this reference is left when the threads of the failed connect have
    // ended.
    until("destroy runs", || Arc::strong_count(&records) == 1);
}

fn fetches(enclave: &Enclave) -> usize {
    enclave.count("key-set")
}

#[test]
fn missing_key_causes_one_fetch_per_connection() {
    let enclave = Enclave::start(Some("key-unknown"));
    let failure = connect(&config(&enclave)).err().unwrap();
    assert_eq!(failure.check(), Some("ita.key"));
    assert_eq!(fetches(&enclave), 1, "the name is the enclave's choice");
    assert!(!failure.retryable());
}

#[test]
fn report_omits_the_endpoints_query() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    let url = format!("{}?tenant=s3cret", enclave.url);
    config.set_endpoint(&url);
    let client = connect(&config).unwrap();
    let mut report = std::ptr::null_mut();
    call(|e| unsafe { confer_attestation_report(client.0, &mut report, e) }).unwrap();
    let report = Report(report);
    let json = text(unsafe { confer_report_json(report.0, std::ptr::null_mut()) }).unwrap();
    assert!(
        json.contains(&enclave.url) && !json.contains("s3cret"),
        "{json}"
    );
}

#[test]
fn reconnect_does_not_fetch_the_key_set_again() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    for _ in 0..3 {
        connect(&config).unwrap();
    }
    assert_eq!(fetches(&enclave), 1);
}

#[test]
fn cache_file_saves_the_next_process_a_fetch() {
    let enclave = Enclave::start(None);
    let (cache, work) = (fresh("cache"), fresh("work"));
    let with_cache = |path: &std::path::Path| {
        let (config, cache_text) = (config(&enclave), path.to_str().unwrap());
        call(|e| unsafe {
            confer_config_set_jwks_cache_file(
                config.0,
                cache_text.as_ptr().cast(),
                cache_text.len(),
                e,
            )
        })
        .unwrap();
        config
    };
    connect(&with_cache(&cache)).unwrap();
    assert!(std::fs::read_to_string(&cache).unwrap().contains("x5c"));
    connect(&with_cache(&cache)).unwrap(); // the first client's keys are gone, so this reads the file
    assert_eq!(fetches(&enclave), 1);

    let precious = "not a key set, but somebody's work";
    std::fs::write(&work, precious).unwrap();
    let failure = connect(&with_cache(&work))
        .err()
        .expect("a file that is no key set is not overwritten");
    assert_eq!(failure.status(), CONFER_E_FILE);
    assert!(
        failure.message().contains(work.to_str().unwrap()),
        "{failure:?}"
    );
    assert_eq!(std::fs::read_to_string(&work).unwrap(), precious);
}

#[test]
fn waiting_connections_share_one_fetch_of_the_key_set() {
    let enclave = Enclave::start(None);
    let config = config(&enclave);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| connect(&config).unwrap());
        }
    });
    assert_eq!(fetches(&enclave), 1);
}

#[test]
fn close_ends_connecting_at_each_stage() {
    for fault in [
        "accept-stall",
        "upgrade-stall",
        "open-stall",
        "message1-stall",
        "key-server-stall",
    ] {
        let enclave = Enclave::start(Some(fault));
        let config = config(&enclave);
        for stage in CONFER_DURATION_STAGE_RESOLVE..=CONFER_DURATION_STAGE_PROXY {
            config.set_duration(stage, 3_600_000);
        }
        config.set_duration(CONFER_DURATION_CONNECT, 3_600_000);
        // The stage that the fault permits.
        let last = match fault {
            "accept-stall" | "upgrade-stall" => CONFER_STAGE_UPGRADE,
            "key-server-stall" => CONFER_STAGE_KEY_SET,
            _ => CONFER_STAGE_HANDSHAKE,
        };
        let client = start(&config);
        let watch = Watch::of(&client);
        watch.until(&News::Stage(last));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&client).unwrap_err());
            let closed = call(|e| unsafe { confer_close(client.0, 5_000, e) });
            assert_eq!(closed.unwrap(), CONFER_OK, "{fault}");
            let failure = waiting.join().unwrap();
            assert_eq!(failure.status(), CONFER_E_CLOSED, "{fault}");
        });
        assert_eq!(watch.next(), News::Ended(CONFER_OK));
    }
}

#[test]
fn web_search_setting_is_always_sent() {
    let enclave = Enclave::start(None);
    let client = connect(&config(&enclave)).unwrap();
    let ask = |allowed: Option<bool>| {
        let request = request("/websearch");
        if let Some(allowed) = allowed {
            call(|e| unsafe { confer_chat_request_set_web_search(request.0, allowed, e) }).unwrap();
        }
        read(&send(&client, &request).unwrap()).0
    };
    assert!(ask(None).contains("webSearch=false"));
    assert!(ask(Some(true)).contains("webSearch=true"));
}
