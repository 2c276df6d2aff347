//! Clients. Connecting, the client's state, token, report and counters, and closing.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_client, confer_config, confer_error, confer_report};
use crate::client::{Client, Phase, deadline};
use crate::error::{Error, Status};

/// The client is making its first connection.
pub const CONFER_CLIENT_CONNECTING: i32 = 0;
/// The client has a verified connection.
pub const CONFER_CLIENT_CONNECTED: i32 = 1;
/// The connection broke, and the client is making another one.
pub const CONFER_CLIENT_RECONNECTING: i32 = 2;
/// The client has ended: see confer_client_check().
pub const CONFER_CLIENT_ENDED: i32 = 3;

/// Connects, verifies the enclave, and completes the handshake. Waits for at most
/// CONFER_DURATION_CONNECT and 6 seconds more; the extra time is for a slow write of the key-set
/// cache or a hanging thread of the library. Before the enclave is verified, the library sends only
/// the token and the first handshake message.
///
/// Makes one attempt, without retries, and cannot be cancelled. To retry or cancel the first
/// attempt, use confer_connect_start(). If the connection breaks later, the client reconnects by
/// CONFER_LIMIT_ATTEMPTS.
///
/// `client`: receives the client; close it with confer_close() and free it with
/// confer_client_free().
///
/// Errors: CONFER_E_REJECTED if the enclave is refused, with the report in the error; 3xx and 4xx
/// for the network and the protocol; CONFER_E_FILE for the key-set cache;
/// CONFER_E_INVALID_ARGUMENT without a token, also with CONFER_ASK_TOKEN, because nobody could
/// answer; CONFER_E_WOULD_DEADLOCK in a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connect(
    config: *const confer_config,
    client: *mut *mut confer_client,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `client` is NULL or writable.
    guard::gives(error, unsafe { handle::out(client, "client") }, |out| {
        guard::may_wait("confer_connect")?;
        // SAFETY: NULL or a live handle.
        let attempt = unsafe { confer_config::with(config, |config| Client::start_once(config)) }?;
        out.set(confer_client::give(attempt.attempted()?));
        Ok(())
    })
}

/// Creates a client that begins to connect, and returns at once. The first attempt is retried by
/// the same rules as later ones; confer_close() cancels it. Requests can be started at once: they
/// stay in this process until the enclave is verified. Allowed in a callback.
///
/// `client`: receives the client; end it with confer_close() and free it with confer_client_free().
///
/// Errors: CONFER_E_INVALID_ARGUMENT without a token, unless CONFER_ASK_TOKEN is set;
/// CONFER_E_SYSTEM if the system refuses a thread. Other errors are the client's: see
/// confer_client_wait().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connect_start(
    config: *const confer_config,
    client: *mut *mut confer_client,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `client` is NULL or writable.
    guard::gives(error, unsafe { handle::out(client, "client") }, |out| {
        // SAFETY: NULL or a live handle.
        let client = unsafe { confer_config::with(config, |config| Client::start(config)) }?;
        out.set(confer_client::give(client));
        Ok(())
    })
}

/// Waits until the client is connected.
///
/// `timeout_ms`: 0 does not wait; negative waits without a limit.
///
/// Returns CONFER_OK once it is connected, and CONFER_TIMEOUT otherwise. If the client has ended or
/// ends during the wait, returns its status and error. That is CONFER_E_CLOSED if the client was
/// closed, or if it and all its streams were freed. In a callback returns CONFER_E_WOULD_DEADLOCK,
/// unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_wait(
    client: *mut confer_client,
    timeout_ms: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        let deadline = deadline(timeout_ms);
        if timeout_ms != 0 {
            guard::may_wait("confer_client_wait")?;
        }
        // The wait does not keep the client, so that freeing it ends the wait.
        // SAFETY: NULL or a live handle.
        let life = unsafe { confer_client::with(client, |client| Ok(client.life().clone())) }?;
        let connected = life.wait(deadline)?;
        Ok(if connected {
            Status::Ok
        } else {
            Status::Timeout
        })
    })
}

/// Returns the client's state, one of CONFER_CLIENT_*. Later versions may add states.
/// CONFER_CLIENT_ENDED for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_state(client: *const confer_client) -> i32 {
    guard::get(CONFER_CLIENT_ENDED, || {
        // SAFETY: NULL or a live handle.
        let client = unsafe { guard::unlocked(client) }?;
        Some(match client.client.phase() {
            Phase::Connecting => CONFER_CLIENT_CONNECTING,
            Phase::Connected => CONFER_CLIENT_CONNECTED,
            Phase::Reconnecting => CONFER_CLIENT_RECONNECTING,
            Phase::Ended => CONFER_CLIENT_ENDED,
        })
    })
}

/// Returns CONFER_OK until the client ends, and then the status and error with which it ended. A
/// client that is reconnecting has not ended; see confer_client_state().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_check(
    client: *const confer_client,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe { confer_client::with(client, |client| client.end().map_or(Ok(()), Err)) }
    })
}

/// Gives the client a fresh token. It answers an open CONFER_EVENT_ASK_TOKEN; if there is none, the
/// next attempt to connect uses it. Never waits.
///
/// Errors: those of confer_config_set_token().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_set_token(
    client: *mut confer_client,
    token: *const c_char,
    token_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: `token` is as the contract of texts says.
        let token = unsafe { text::read(token, token_len, "token") }?;
        // SAFETY: NULL or a live handle.
        unsafe { confer_client::with(client, |client| client.set_token(token)) }
    })
}

/// Returns the report of the connection in use, or of the last one.
///
/// `report`: receives the report; free it with confer_report_free(). It may outlive the client.
///
/// Errors: CONFER_E_NOT_CONNECTED before the first connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_attestation_report(
    client: *const confer_client,
    report: *mut *mut confer_report,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `report` is NULL or writable.
    guard::gives(error, unsafe { handle::out(report, "report") }, |out| {
        // SAFETY: `client` is NULL or live.
        unsafe {
            confer_client::with(client, |client| {
                let none = || Error::new(Status::NotConnected, "the client has not connected yet");
                let evidenced = client.evidenced().ok_or_else(none)?;
                out.set(handle::give(confer_report::new(evidenced)));
                Ok(())
            })
        }
    })
}

/// Call it when the network changed, or the machine has slept. The library checks the connection at
/// once: the enclave must answer within CONFER_DURATION_PROBE. A client that is waiting to
/// reconnect does so at once. Never waits. Allowed in a callback. Does nothing after the client's
/// end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_network_changed(
    client: *mut confer_client,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_client::with(client, |client| {
                client.life().network_changed();
                Ok(())
            })
        }
    })
}

/// Bytes sent by sockets, with TLS and WebSocket.
pub const CONFER_COUNTER_BYTES_SENT: i32 = 0;
/// Bytes received from sockets.
pub const CONFER_COUNTER_BYTES_RECEIVED: i32 = 1;
/// Whole messages sent: requests, chunks of documents, pings.
pub const CONFER_COUNTER_MESSAGES_SENT: i32 = 2;
/// Whole messages received.
pub const CONFER_COUNTER_MESSAGES_RECEIVED: i32 = 3;
/// Keepalive pings sent.
pub const CONFER_COUNTER_PINGS_SENT: i32 = 4;
/// Keepalive pings answered.
pub const CONFER_COUNTER_PINGS_ANSWERED: i32 = 5;
/// Round-trip time of the last answered ping in microseconds; 0 before the first. Leaves out pings
/// that were open while a full stream stopped reading, because they measure the application.
pub const CONFER_COUNTER_ROUND_TRIP_US: i32 = 6;
/// Verified connections, including the first one.
pub const CONFER_COUNTER_CONNECTIONS: i32 = 7;
/// Failed attempts to reconnect.
pub const CONFER_COUNTER_FAILED_ATTEMPTS: i32 = 8;

/// Returns a counter of the client, one of CONFER_COUNTER_*; 0 for others.
/// (confer_report_timing_us() has the time of each stage of connecting.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_counter(client: *const confer_client, counter: i32) -> u64 {
    guard::get(0, || {
        // SAFETY: NULL or a live handle.
        let life = unsafe { handle::peek(client) }?.client.life();
        let counter = match counter {
            CONFER_COUNTER_BYTES_SENT => &life.stats.bytes_sent,
            CONFER_COUNTER_BYTES_RECEIVED => &life.stats.bytes_received,
            CONFER_COUNTER_MESSAGES_SENT => &life.stats.messages_sent,
            CONFER_COUNTER_MESSAGES_RECEIVED => &life.stats.messages_received,
            CONFER_COUNTER_PINGS_SENT => &life.stats.pings_sent,
            CONFER_COUNTER_PINGS_ANSWERED => &life.stats.pings_answered,
            CONFER_COUNTER_ROUND_TRIP_US => &life.stats.round_trip_us,
            CONFER_COUNTER_CONNECTIONS => &life.attempts.connected,
            CONFER_COUNTER_FAILED_ATTEMPTS => &life.attempts.failed,
            _ => return None,
        };
        Some(counter.load(std::sync::atomic::Ordering::Relaxed))
    })
}

/// Ends the client and its streams. Drops undelivered events, and ends each stream with
/// CONFER_E_CLOSED, unless it has failed before or its whole answer was delivered. A running
/// callback finishes; then only `on_done` and `destroy` are called for each stream. Ends the
/// library's threads that no other client needs. After the last client was closed with CONFER_OK
/// and the last handle was freed, no thread of the library runs. The library can then be unloaded,
/// after the application's threads that called it have ended. The client must still be freed.
/// Starting requests on it fails with CONFER_E_CLOSED; confer_attestation_report() still works.
///
/// `timeout_ms`: 0 does not wait; negative waits for callbacks, name look-ups and file access
/// without a limit.
/// Returns CONFER_OK, or CONFER_TIMEOUT if the end continues in the background: call it again to
/// wait for it. Several threads may call it at once.
/// Errors: CONFER_E_WOULD_DEADLOCK in a callback, unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_close(
    client: *mut confer_client,
    timeout_ms: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        let deadline = deadline(timeout_ms);
        if timeout_ms != 0 {
            guard::may_wait("confer_close")?;
        }
        // SAFETY: NULL or a live handle.
        let closed = unsafe { confer_client::with(client, |client| Ok(client.close(deadline))) }?;
        Ok(if closed { Status::Ok } else { Status::Timeout })
    })
}

/// Frees a client. Never waits, and is allowed in a callback. Streams of requests keep the client
/// until they are freed too; a watch does not. Without such a stream, freeing ends the client, also
/// one that is connecting. Without confer_close() before, threads may run for a moment longer: see
/// confer_runtime_wait(). NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_free(client: *mut confer_client) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(client) }));
}
