//! Documents from memory, a file or a callback: complete, refused, or cancelled.

use std::ffi::c_void;
use std::io::Write as _;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};

use confer::ffi::event::*;
use confer::ffi::extraction::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use serde_json::Value;

use crate::harness::*;

const MIB: usize = 1 << 20;

on_each_server! {
    documents_of_every_size_arrive_with_progress,
    shrinking_file_is_an_error,
    callback_is_read_with_and_without_known_length,
    failing_callback_ends_the_stream,
    early_answer_or_refusal_ends_the_upload,
    cancelled_upload_stops_and_the_connection_lives,
    eleventh_upload_waits_until_another_ends,
    cancelled_uploads_make_room_for_others,
    options_are_sent_unchanged,
    newer_servers_refuse_an_empty_document,
}

/// Makes bytes whose period is not a power of two, so that a misplaced chunk shows.
fn document(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Reads an extraction to its end. Returns the result, and the reported progress.
fn extract(stream: &Stream) -> (Result<Value, Failure>, Vec<(i64, i64)>) {
    let (mut body, mut progress) = (Vec::new(), Vec::new());
    let end = drain(stream, |event| unsafe {
        match confer_event_type(event) {
            CONFER_EVENT_PROGRESS => {
                let mut total = 0;
                progress.push((confer_event_sent(event, &mut total), total));
            }
            CONFER_EVENT_BODY => body.extend(content(event)),
            other => panic!("an event of type {other}"),
        }
    });
    (
        end.map(|()| serde_json::from_slice(&body).unwrap()),
        progress,
    )
}

/// Returns the enclave's result for a document that is not text.
fn description(name: &str, document: &[u8]) -> String {
    let (len, sha256) = (document.len(), sha256(document));
    format!("{name}: {len} bytes, SHA-256 {sha256}")
}

fn connected(server: Server, fault: Option<&str>) -> (Enclave, Client) {
    let enclave = Enclave::of(server, fault);
    let client = connect(&config(&enclave)).unwrap();
    (enclave, client)
}

fn documents_of_every_size_arrive_with_progress(server: Server) {
    let (enclave, client) = connected(server, None);
    for len in [1, MIB - 1, MIB, MIB + 1, 50 * MIB] {
        let whole = document(len);
        let stream = send(&client, &extraction(&whole)).unwrap();
        let (answer, progress) = extract(&stream);
        let answer = answer.unwrap();
        assert_eq!(
            answer["document"]["md_content"],
            description("test.pdf", &whole)
        );
        assert!(progress.is_sorted());
        let last = progress.last().copied();
        assert_eq!(last, Some((len as i64, len as i64)));
    }
    let chunks = enclave.events();
    let largest = chunks.iter().filter(|line| line["event"] == "chunk");
    let largest = largest.map(|line| line["bytes"].as_u64().unwrap()).max();
    assert_eq!(largest, Some(MIB as u64), "few chunks, and large ones");
}

fn shrinking_file_is_an_error(server: Server) {
    let (_enclave, client) = connected(server, None);
    let path = fresh("document");
    let whole = document(3 * MIB + 17);
    std::fs::write(&path, &whole).unwrap();
    let request = extraction_of("a.pdf");
    let name = path.to_str().unwrap();
    let set = |path: &str| {
        call(|e| unsafe {
            confer_extraction_request_set_document_file(
                request.0,
                path.as_ptr().cast(),
                path.len(),
                e,
            )
        })
    };
    set(name).unwrap();
    // Twice, because a file can be read again.
    for _ in 0..2 {
        let answer = extract(&send(&client, &request).unwrap()).0.unwrap();
        assert_eq!(
            answer["document"]["md_content"],
            description("a.pdf", &whole)
        );
    }
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"later").unwrap();
    let answer = extract(&send(&client, &request).unwrap()).0.unwrap();
    assert_eq!(
        answer["document"]["md_content"],
        description("a.pdf", &whole),
        "what was there when it was opened"
    );
    file.set_len(MIB as u64 + 1).unwrap();
    let failure = extract(&send(&client, &request).unwrap()).0.unwrap_err();
    assert_eq!(failure.status(), CONFER_E_FILE);
    for bad in ["/nonexistent", "/", ""] {
        let status = set(bad).unwrap_err().status();
        assert!(
            [CONFER_E_FILE, CONFER_E_INVALID_ARGUMENT].contains(&status),
            "{bad}"
        );
    }
}

/// A document from a callback.
struct Reading {
    rest: Vec<u8>,
    /// The most bytes of one call; 0 for as many as fit.
    portion: usize,
    /// Fails after this many calls.
    calls: usize,
    destroyed: Sender<()>,
}

unsafe extern "C" fn on_read(user_data: *mut c_void, buffer: *mut u8, size: usize) -> i64 {
    let reading = unsafe { &mut *user_data.cast::<Reading>() };
    if reading.calls == 0 {
        return -1;
    }
    reading.calls -= 1;
    let most = if reading.portion == 0 {
        size
    } else {
        reading.portion.min(size)
    };
    let len = most.min(reading.rest.len());
    unsafe { ptr::copy_nonoverlapping(reading.rest.as_ptr(), buffer, len) };
    reading.rest.drain(..len);
    len as i64
}

unsafe extern "C" fn on_destroy(user_data: *mut c_void) {
    let reading = unsafe { Box::from_raw(user_data.cast::<Reading>()) };
    let _ = reading.destroyed.send(());
}

fn read_out(whole: &[u8], portion: usize, calls: usize, total: i64) -> (Extraction, Receiver<()>) {
    let (destroyed, gone) = channel();
    let reading = Box::into_raw(Box::new(Reading {
        rest: whole.to_vec(),
        portion,
        calls,
        destroyed,
    }));
    let request = extraction_of("a.pdf");
    call(|e| unsafe {
        let (read, destroy) = (Some(on_read as _), Some(on_destroy as _));
        confer_extraction_request_set_document_callback(
            request.0,
            total,
            read,
            reading.cast(),
            destroy,
            e,
        )
    })
    .unwrap();
    (request, gone)
}

fn callback_is_read_with_and_without_known_length(server: Server) {
    let (_enclave, client) = connected(server, None);
    for len in [0, 1, MIB, 2 * MIB + 5] {
        for total in [-1, len as i64] {
            for portion in [0, 60_001] {
                let whole = document(len);
                let (request, gone) = read_out(&whole, portion, usize::MAX, total);
                let (answer, progress) = extract(&send(&client, &request).unwrap());
                // Newer servers require the length, and at least one byte.
                if server.expect(false, total < 1) {
                    let failure = answer.unwrap_err();
                    assert_eq!(failure.http_status(), 400);
                    let why = if total == 0 {
                        "is empty"
                    } else {
                        "length was not given"
                    };
                    assert!(failure.message().contains(why), "{failure:?}");
                } else {
                    let text = &answer.unwrap()["document"]["md_content"];
                    assert_eq!(*text, description("a.pdf", &whole));
                }
                assert!(progress.iter().all(|(_, told)| *told == total));
                gone.recv_timeout(PATIENCE)
                    .expect("destroyed after the upload");
                let again = send(&client, &request).err().expect("it can be sent once");
                assert_eq!(again.status(), CONFER_E_INVALID_ARGUMENT);
            }
        }
    }
}

fn failing_callback_ends_the_stream(server: Server) {
    let (_enclave, client) = connected(server, None);
    for (calls, total, status) in [
        (3, 5 * MIB as i64, CONFER_E_STOPPED),
        (usize::MAX, 10 * MIB as i64, CONFER_E_INVALID_ARGUMENT),
    ] {
        let (request, gone) = read_out(&document(5 * MIB), MIB, calls, total);
        let failure = extract(&send(&client, &request).unwrap()).0.unwrap_err();
        assert_eq!(failure.status(), status, "{failure:?}");
        gone.recv_timeout(PATIENCE).unwrap();
    }
    // Never sent, so freed with the request.
    let (request, gone) = read_out(b"x", 0, 9, -1);
    drop(request);
    gone.try_recv().unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

fn early_answer_or_refusal_ends_the_upload(server: Server) {
    for (fault, refused) in [
        ("upload-answers-early", false),
        ("upload-refused-midway", true),
    ] {
        let (enclave, client) = connected(server, Some(fault));
        let (request, gone) = read_out(&document(50 * MIB), 0, usize::MAX, 50 * MIB as i64);
        let (answer, _) = extract(&send(&client, &request).unwrap());
        match answer {
            Ok(_) => assert!(!refused),
            Err(failure) => {
                assert!(refused);
                assert_eq!(
                    (failure.status(), failure.http_status()),
                    (CONFER_E_REFUSED, 422)
                );
            }
        }
        gone.recv_timeout(PATIENCE).unwrap();
        read(&pull(&client, PROMPT).unwrap()).1.unwrap();
        let chunks = enclave.count("chunk");
        assert!(chunks < 50, "{chunks} chunks were sent for nobody");
    }
}

fn cancelled_upload_stops_and_the_connection_lives(server: Server) {
    let (_enclave, client) = connected(server, None);
    let (request, gone) = read_out(&document(20 * MIB), 0, usize::MAX, 20 * MIB as i64);
    let stream = send(&client, &request).unwrap();
    next(&stream);
    unsafe { confer_stream_cancel(stream.0) };
    assert_eq!(extract(&stream).0.unwrap_err().status(), CONFER_E_CANCELLED);
    gone.recv_timeout(PATIENCE).unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

/// Returns whether a stream has an event now.
fn has_event(stream: &Stream) -> bool {
    let mut event = ptr::null();
    let next = call(|e| unsafe { confer_stream_next(stream.0, 0, &mut event, e) });
    next.unwrap() == CONFER_OK
}

fn eleventh_upload_waits_until_another_ends(server: Server) {
    let (_enclave, client) = connected(server, Some("upload-never-answered"));
    let open: Vec<Stream> = (0..10)
        .map(|_| send(&client, &extraction(b"x")).unwrap())
        .collect();
    let eleventh = send(&client, &extraction(b"x")).unwrap();
    for stream in &open {
        next(stream);
    }
    let twelfth = send(&client, &extraction(b"x")).unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
    assert!(!has_event(&eleventh), "its progress would be told");
    unsafe { confer_stream_cancel(open[3].0) };
    extract(&open[3]).0.unwrap_err();
    next(&eleventh);
    assert!(!has_event(&twelfth));
}

fn cancelled_uploads_make_room_for_others(server: Server) {
    let (_enclave, client) = connected(server, None);
    for _ in 0..2 {
        let open: Vec<Stream> = (0..10)
            .map(|_| send(&client, &extraction(&document(4 * MIB))).unwrap())
            .collect();
        for stream in &open {
            next(stream); // it has begun
            unsafe { confer_stream_cancel(stream.0) };
        }
    }
    let whole = document(MIB + 1);
    let answer = extract(&send(&client, &extraction(&whole)).unwrap()).0;
    let text = &answer.unwrap()["document"]["md_content"];
    assert_eq!(*text, description("test.pdf", &whole));
}

fn options_are_sent_unchanged(server: Server) {
    let (_enclave, client) = connected(server, None);
    let request = extraction(b"some text");
    let option = |name: &str, json: &str| {
        call(|e| unsafe {
            let (n, j) = (name.as_ptr().cast(), json.as_ptr().cast());
            confer_extraction_request_set_option(request.0, n, name.len(), j, json.len(), e)
        })
    };
    option("content_type", "\"text/plain\"").unwrap();
    option("ocr", "true").unwrap();
    assert_eq!(
        option("ocr", "yes").unwrap_err().status(),
        CONFER_E_INVALID_JSON
    );
    assert_eq!(
        option("total_length", "1").unwrap_err().status(),
        CONFER_E_INVALID_ARGUMENT
    );
    let answer = extract(&send(&client, &request).unwrap()).0.unwrap();
    assert_eq!(answer["document"]["md_content"], "some text");
    option("content_type", "\"audio/mpeg\"").unwrap();
    let answer = extract(&send(&client, &request).unwrap()).0;
    let refused = answer.err().map(|failure| failure.http_status());
    assert_eq!(refused, server.expect(None, Some(415)));
}

fn newer_servers_refuse_an_empty_document(server: Server) {
    let (_enclave, client) = connected(server, None);
    let answer = extract(&send(&client, &extraction(b"")).unwrap()).0;
    let refused = answer.err();
    let status = refused.as_ref().map(Failure::http_status);
    assert_eq!(status, server.expect(None, Some(400)));
    // The server's text gives no reason.
    assert!(refused.is_none_or(|failure| failure.message().contains("is empty")));
}
