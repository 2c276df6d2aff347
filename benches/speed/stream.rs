//! Events per second from a loopback socket to the C callback, and to the bare thread. The relay
//! holds the whole answer before it sends the first byte, so only the client is timed.

use std::ffi::c_void;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use confer::ffi::callbacks::*;
use confer::ffi::config::*;
use confer::ffi::event::*;
use confer::ffi::settings::*;
use confer::ffi::start::*;
use confer::ffi::status::{CONFER_OK, confer_status};
use confer::ffi::types::*;

use crate::bare::Bare;
use crate::harness::{self, Client, Enclave, Stream, call};
use crate::measure::median;
use crate::relay::Relay;
use crate::table::{Aim, Table};

const ROUNDS: usize = 9;

/// (name, events, bytes of a token, aim)
const FLOODS: [(&str, usize, usize, f64); 2] = [
    ("20-byte tokens", 100_000, 20, 1.0),
    ("16 KB tokens", 2_000, 16_000, 1.5),
];

/// Adds the rows, named with the machine's `load`.
pub fn run(enclave: &Enclave, table: &mut Table, load: &str) {
    let relay = Relay::start(&enclave.url);
    let url = relay.url(&enclave.url);
    let client = connect(enclave, &url);
    let mut bare = Bare::connect(enclave, &url);
    for (what, count, size, aim) in FLOODS {
        let prompt = format!("/tokens {count} {size}");
        let (mut library, mut limit) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            relay.hold(count + 1); // the tokens and the completion
            let ended = ask(&client, &prompt, |_| ()).1;
            let library_rate = count as f64 / (ended - relay.released()).as_secs_f64();

            relay.hold(count + 1);
            let (mut tokens, mut bytes) = (0, 0);
            bare.ask(&prompt, |token| {
                (tokens, bytes) = (tokens + 1, bytes + token.len())
            });
            let ended = Instant::now();
            assert_eq!((tokens, bytes), (count, count * size));
            if round > 0 {
                library.push(library_rate);
                limit.push(count as f64 / (ended - relay.released()).as_secs_f64());
            }
        }
        let (library, limit) = (median(&library), median(&limit));
        table.row(
            &format!("events to the C callback, {what}{load}"),
            format!("{:.0} /s, {:.0} MB/s", library, library * size as f64 / 1e6),
            format!("{:.0} /s, {:.0} MB/s", limit, limit * size as f64 / 1e6),
            library / limit,
            "%",
            Aim::AtLeast(aim),
        );
    }
}

/// Connects a client of the C API to `url`. It does not ping during the measurement.
pub fn connect(enclave: &Enclave, url: &str) -> Client {
    let config = harness::config(enclave);
    call(|e| unsafe { confer_config_set_endpoint(config.0, url.as_ptr().cast(), url.len(), e) })
        .unwrap();
    config.set_duration(CONFER_DURATION_KEEPALIVE, 3_600_000);
    harness::connect(&config).unwrap()
}

struct Listener<F> {
    on_token: F,
    ended: Sender<(confer_status, Instant)>,
}

/// Sends a prompt, calls `on_token` for each token, and returns how and when the stream ended.
pub fn ask<F: FnMut(&[u8]) + Send + 'static>(
    client: &Client,
    prompt: &str,
    on_token: F,
) -> (confer_status, Instant) {
    let (ended, end): (_, Receiver<_>) = channel();
    let listener = Box::new(Listener { on_token, ended });
    let callbacks = confer_stream_callbacks {
        size: size_of::<confer_stream_callbacks>(),
        user_data: Box::into_raw(listener).cast(),
        on_event: Some(on_event::<F>),
        on_done: Some(on_done::<F>),
        destroy: Some(destroy::<F>),
        on_ready: None,
    };
    let (request, mut stream) = (harness::request(prompt), ptr::null_mut());
    call(|e| unsafe {
        confer_chat_stream(
            client.0,
            request.0,
            &raw const callbacks,
            &raw mut stream,
            e,
        )
    })
    .unwrap();
    let _stream = Stream(stream);
    let (status, at) = end.recv().unwrap();
    assert_eq!(status, CONFER_OK);
    (status, at)
}

unsafe extern "C" fn on_event<F: FnMut(&[u8])>(
    user_data: *mut c_void,
    _: *mut confer_stream,
    event: *const confer_event,
) -> i32 {
    // SAFETY: `user_data` is the listener, which only `destroy` frees. The event lives during the
    // call.
    unsafe {
        let listener = &mut *user_data.cast::<Listener<F>>();
        if confer_event_type(event) == CONFER_EVENT_TOKEN {
            let mut len = 0;
            let content = confer_event_content(event, &raw mut len);
            (listener.on_token)(std::slice::from_raw_parts(content.cast(), len));
        }
    }
    0
}

unsafe extern "C" fn on_done<F>(
    user_data: *mut c_void,
    _: *mut confer_stream,
    status: confer_status,
    _: *const confer_error,
) {
    let now = Instant::now();
    // SAFETY: as in `on_event`.
    let listener = unsafe { &*user_data.cast::<Listener<F>>() };
    listener.ended.send((status, now)).expect("the asker waits");
}

unsafe extern "C" fn destroy<F>(user_data: *mut c_void) {
    // SAFETY: it comes from `Box::into_raw`, and this is called once.
    drop(unsafe { Box::from_raw(user_data.cast::<Listener<F>>()) });
}
