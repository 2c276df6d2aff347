//! Documents: from memory, from a file, from a callback; complete, refused, given up.

use std::ffi::c_void;
use std::io::Write as _;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use confer::ffi::event::*;
use confer::ffi::route::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use serde_json::Value;

use crate::harness::*;

const MIB: usize = 1 << 20;

/// Bytes that repeat with no power of two, so that a chunk in the wrong place is seen.
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

/// Reads an extraction to its end: what was extracted, and the progress that was told.
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

fn connected(fault: Option<&str>) -> (Enclave, Client) {
    let enclave = Enclave::start(fault);
    let client = connect(&config(&enclave)).unwrap();
    (enclave, client)
}

#[test]
fn documents_of_every_size_arrive_whole_and_their_progress_is_told() {
    let (enclave, client) = connected(None);
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 50 * MIB] {
        let whole = document(len);
        let stream = send(&client, &extraction(&whole)).unwrap();
        let (answer, progress) = extract(&stream);
        let answer = answer.unwrap();
        assert_eq!(answer["length"], len);
        assert_eq!(answer["sha256"], sha256(&whole).as_str());
        assert!(progress.is_sorted());
        let last = progress.last().copied();
        assert_eq!(last, Some((len as i64, len as i64)));
    }
    let chunks = enclave.events();
    let largest = chunks.iter().filter(|line| line["event"] == "chunk");
    let largest = largest.map(|line| line["bytes"].as_u64().unwrap()).max();
    assert_eq!(largest, Some(MIB as u64), "few chunks, and large ones");
}

#[test]
fn a_file_is_read_while_it_is_sent_and_one_that_shrinks_is_an_error() {
    let (_enclave, client) = connected(None);
    let path = fresh("document");
    let whole = document(3 * MIB + 17);
    std::fs::write(&path, &whole).unwrap();
    let request = extraction_of("a.bin");
    let name = path.to_str().unwrap();
    let set = |path: &str| {
        call(|e| unsafe {
            confer_request_set_document_file(request.0, path.as_ptr().cast(), path.len(), e)
        })
    };
    set(name).unwrap();
    // Twice: a file can be read again.
    for _ in 0..2 {
        let answer = extract(&send(&client, &request).unwrap()).0.unwrap();
        assert_eq!(answer["sha256"], sha256(&whole).as_str());
    }
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"later").unwrap();
    let answer = extract(&send(&client, &request).unwrap()).0.unwrap();
    assert_eq!(
        answer["length"],
        whole.len(),
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

/// A document that the application reads out.
struct Reading {
    rest: Vec<u8>,
    /// At most so much at once; 0 for as much as fits.
    portion: usize,
    /// Gives up after so many calls.
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

fn read_out(whole: &[u8], portion: usize, calls: usize, total: i64) -> (Route, Receiver<()>) {
    let (destroyed, gone) = channel();
    let reading = Box::into_raw(Box::new(Reading {
        rest: whole.to_vec(),
        portion,
        calls,
        destroyed,
    }));
    let request = extraction_of("a.bin");
    call(|e| unsafe {
        let (read, destroy) = (Some(on_read as _), Some(on_destroy as _));
        confer_request_set_document_callback(request.0, total, read, reading.cast(), destroy, e)
    })
    .unwrap();
    (request, gone)
}

#[test]
fn a_callback_is_read_to_its_end_whether_or_not_its_length_is_known() {
    let (_enclave, client) = connected(None);
    for len in [0, 1, MIB, 2 * MIB + 5] {
        for total in [-1, len as i64] {
            for portion in [0, 60_001] {
                let whole = document(len);
                let (request, gone) = read_out(&whole, portion, usize::MAX, total);
                let (answer, progress) = extract(&send(&client, &request).unwrap());
                assert_eq!(answer.unwrap()["sha256"], sha256(&whole).as_str());
                assert!(progress.iter().all(|(_, told)| *told == total));
                gone.recv_timeout(Duration::from_secs(10))
                    .expect("destroyed after the upload");
                let again = send(&client, &request).err().expect("it can be sent once");
                assert_eq!(again.status(), CONFER_E_INVALID_ARGUMENT);
            }
        }
    }
}

#[test]
fn a_callback_that_gives_up_or_ends_too_early_ends_the_stream() {
    let (_enclave, client) = connected(None);
    for (calls, total, status) in [
        (3, -1, CONFER_E_STOPPED),
        (usize::MAX, 10 * MIB as i64, CONFER_E_INVALID_ARGUMENT),
    ] {
        let (request, gone) = read_out(&document(5 * MIB), MIB, calls, total);
        let failure = extract(&send(&client, &request).unwrap()).0.unwrap_err();
        assert_eq!(failure.status(), status, "{failure:?}");
        gone.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    // Never sent: destroyed with the request.
    let (request, gone) = read_out(b"x", 0, 9, -1);
    drop(request);
    gone.try_recv().unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

#[test]
fn an_early_answer_and_a_refusal_end_the_upload() {
    for (fault, refused) in [
        ("upload-answers-early", false),
        ("upload-refused-midway", true),
    ] {
        let (enclave, client) = connected(Some(fault));
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
        gone.recv_timeout(Duration::from_secs(10)).unwrap();
        read(&pull(&client, PROMPT).unwrap()).1.unwrap();
        let chunks = enclave
            .events()
            .iter()
            .filter(|line| line["event"] == "chunk")
            .count();
        assert!(chunks < 50, "{chunks} chunks were sent for nobody");
    }
}

#[test]
fn a_cancelled_upload_sends_no_more_and_the_connection_goes_on() {
    let (_enclave, client) = connected(None);
    let (request, gone) = read_out(&document(20 * MIB), 0, usize::MAX, -1);
    let stream = send(&client, &request).unwrap();
    let mut event = ptr::null();
    call(|e| unsafe { confer_stream_next(stream.0, 10_000, &mut event, e) }).unwrap();
    unsafe { confer_stream_cancel(stream.0) };
    assert_eq!(extract(&stream).0.unwrap_err().status(), CONFER_E_CANCELLED);
    gone.recv_timeout(Duration::from_secs(10)).unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
}

/// Whether a stream has an event now.
fn has_event(stream: &Stream, wait_ms: i64) -> bool {
    let mut event = ptr::null();
    let next = call(|e| unsafe { confer_stream_next(stream.0, wait_ms, &mut event, e) });
    next.unwrap() == CONFER_OK
}

#[test]
fn the_eleventh_upload_waits_until_another_ends() {
    let (_enclave, client) = connected(Some("upload-never-answered"));
    let open: Vec<Stream> = (0..10)
        .map(|_| send(&client, &extraction(b"x")).unwrap())
        .collect();
    let eleventh = send(&client, &extraction(b"x")).unwrap();
    assert!(open.iter().all(|stream| has_event(stream, 10_000)));
    let twelfth = send(&client, &extraction(b"x")).unwrap();
    read(&pull(&client, PROMPT).unwrap()).1.unwrap();
    assert!(!has_event(&eleventh, 0), "its progress would be told");
    unsafe { confer_stream_cancel(open[3].0) };
    extract(&open[3]).0.unwrap_err();
    assert!(has_event(&eleventh, 10_000));
    assert!(!has_event(&twelfth, 0));
}

#[test]
fn ten_uploads_that_are_given_up_leave_room_for_others() {
    let (_enclave, client) = connected(None);
    for _ in 0..2 {
        let open: Vec<Stream> = (0..10)
            .map(|_| send(&client, &extraction(&document(4 * MIB))).unwrap())
            .collect();
        for stream in &open {
            assert!(has_event(stream, 10_000), "it has begun");
            unsafe { confer_stream_cancel(stream.0) };
        }
    }
    let whole = document(MIB + 1);
    let answer = extract(&send(&client, &extraction(&whole)).unwrap()).0;
    assert_eq!(answer.unwrap()["sha256"], sha256(&whole).as_str());
}

#[test]
fn options_are_sent_as_they_are_given() {
    let (_enclave, client) = connected(None);
    let request = extraction(b"some text");
    let option = |name: &str, json: &str| {
        call(|e| unsafe {
            let (n, j) = (name.as_ptr().cast(), json.as_ptr().cast());
            confer_request_set_option(request.0, n, name.len(), j, json.len(), e)
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
    assert_eq!(answer["text"], "some text");
    assert_eq!(answer["filename"], "test.txt");
    option("content_type", "\"audio/mpeg\"").unwrap();
    let failure = extract(&send(&client, &request).unwrap()).0.unwrap_err();
    assert_eq!(failure.http_status(), 415);
}
