//! A client as a state machine, and its watch: the section "Watching a client" of the header.

use std::time::Instant;

use super::callbacks::confer_stream_callbacks;
use super::config::confer_config;
use super::connect::{confer_client, give};
use super::error::confer_error;
use super::start::start;
use super::status::{CONFER_OK, CONFER_TIMEOUT, confer_status};
use super::stream::confer_stream;
use super::support::guard;
use super::support::{handle, text};
use crate::client::{Client, Phase, deadline};
use crate::error::{Error, Result, Status};

/// The application answers CONFER_EVENT_ASK_TOKEN.
pub const CONFER_ASK_TOKEN: u32 = 1;
/// The application answers CONFER_EVENT_ASK_RELEASE.
pub const CONFER_ASK_RELEASE: u32 = 2;

/// The client is making its first connection.
pub const CONFER_CLIENT_CONNECTING: i32 = 0;
/// A verified connection serves.
pub const CONFER_CLIENT_CONNECTED: i32 = 1;
/// The connection broke, and the client is making another one.
pub const CONFER_CLIENT_RECONNECTING: i32 = 2;
/// The client has ended: see confer_client_check().
pub const CONFER_CLIENT_ENDED: i32 = 3;

/// Sets the questions that the application answers: CONFER_ASK_TOKEN, CONFER_ASK_RELEASE, both, or
/// 0. Default 0. A question is an event of a watch: see confer_client_watch(). An answer is due
/// within CONFER_DURATION_ANSWER.
///
///     Question                   Asked                       No answer in time      Refused
///     -----------------------    -------------------------   --------------------   ----------------
///     token for a connection     before the attempt          the attempt fails      the same, and is
///                                                            (CONFER_E_TOKEN)       not retried
///     token that ends soon       a minute before its `exp`   the connection goes    the same
///                                                            on with the old one
///     token after status 401     before the request is       the request ends       the same
///     or 402                     sent once more              with that status
///     another release            before the handshake is     the attempt fails      the client ends
///                                completed
///
/// The first attempt uses the configured token, if there is one, and asks otherwise. A release that
/// nobody accepts is never used.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for an unknown bit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_ask(
    config: *mut confer_config,
    questions: u32,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        if questions & !(CONFER_ASK_TOKEN | CONFER_ASK_RELEASE) != 0 {
            let message =
                format!("questions: {questions:#x} has a bit that this version does not know");
            return Err(Error::new(Status::InvalidArgument, message));
        }
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_config::with(config, |config| {
                config.ask_token = questions & CONFER_ASK_TOKEN != 0;
                config.ask_release = questions & CONFER_ASK_RELEASE != 0;
                Ok(())
            })
        }
    })
}

/// Creates a client that begins to connect, and returns at once. The first attempt is retried by
/// the same rules as later ones. Requests can be started at once: they stay in this process until
/// the enclave is verified. Allowed in a callback.
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
        give(out, client);
        Ok(())
    })
}

/// Waits until the client is connected.
///
/// `timeout_ms`: 0 does not wait; negative waits without a limit.
///
/// Returns CONFER_OK once it is connected, and CONFER_TIMEOUT otherwise. If the client has ended or
/// ends during the wait, returns its status and error, CONFER_E_CLOSED after confer_close() and
/// after the free of its last handle and stream. In a callback returns CONFER_E_WOULD_DEADLOCK, unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_wait(
    client: *mut confer_client,
    timeout_ms: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        let deadline: Option<Instant> = deadline(timeout_ms);
        if timeout_ms != 0 {
            guard::may_wait("confer_client_wait")?;
        }
        // The wait does not keep the client, so that freeing it ends the wait.
        // SAFETY: NULL or a live handle.
        let life = unsafe { confer_client::with(client, |client| Ok(client.life().clone())) }?;
        let connected = life.wait(deadline)?;
        Ok(if connected { CONFER_OK } else { CONFER_TIMEOUT })
    })
}

/// Returns the client's state, one of CONFER_CLIENT_*. Later versions may add states.
/// CONFER_CLIENT_ENDED for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_state(client: *const confer_client) -> i32 {
    guard::get(CONFER_CLIENT_ENDED, || {
        // SAFETY: NULL or a live handle.
        let client = unsafe { guard::unlocked(client) }?;
        Some(match client.client().phase() {
            Phase::Connecting => CONFER_CLIENT_CONNECTING,
            Phase::Connected => CONFER_CLIENT_CONNECTED,
            Phase::Reconnecting => CONFER_CLIENT_RECONNECTING,
            Phase::Ended => CONFER_CLIENT_ENDED,
        })
    })
}

/// Gives a fresh token unasked. It answers an open token question; otherwise the next attempt to
/// connect uses it. Never waits.
///
/// Errors: those of confer_config_set_token().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_set_token(
    client: *mut confer_client,
    token: *const std::ffi::c_char,
    token_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `token` is as the contract of texts says.
        let token = unsafe { text::read(token, token_len, "token") }?;
        unsafe { confer_client::with(client, |client| client.set_token(token)) }
    })
}

/// Opens a stream of the client's events:
///
///     CONFER_EVENT_STAGE           a stage of connecting began: confer_event_stage()
///     CONFER_EVENT_CONNECTED       a verified connection serves: confer_event_report(),
///                                  confer_event_release_changed()
///     CONFER_EVENT_DISCONNECTED    it broke, and the client makes another one:
///                                  confer_event_error()
///     CONFER_EVENT_RETRY           the next attempt: confer_event_attempt(),
///                                  confer_event_delay_ms(), confer_event_error() of the one before
///     CONFER_EVENT_ASK_TOKEN       a question: confer_event_token_reason()
///     CONFER_EVENT_ASK_RELEASE     a question: confer_event_report(), confer_event_previous_report()
///     CONFER_EVENT_ANSWERED        a question of this watch is over
///     the end of the stream        the client has ended: CONFER_OK after confer_close(), otherwise
///                                  the client's error
///
/// A watch begins with the present state and any open question, so a late one misses no state. If
/// nobody reads it, old events are dropped: see confer_stream_dropped(). The present state, an open
/// question and the end are kept. A watch does not keep its client alive; cancelling or freeing it
/// ends only the watch. Several watches of one client can be open.
///
/// `callbacks`, `stream`: as for confer_chat_stream(). With callbacks, a client that was closed
/// answers CONFER_E_CLOSED; without them, the stream brings its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_watch(
    client: *mut confer_client,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the handles are NULL or live.
    guard::starts(error, callbacks, stream, |table, out| unsafe {
        start(client, table, out, |client| -> Result<_> {
            Ok(client.watch())
        })
    })
}

/// Returns the number of events that a watch dropped because nobody read them. 0 for other streams.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_dropped(stream: *const confer_stream) -> u64 {
    guard::get(0, || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(stream) }.map(|it| it.stream().dropped())
    })
}
