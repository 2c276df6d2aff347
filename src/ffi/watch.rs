//! Watching a client. A stream of the client's events, and the questions that it may ask.

use super::callbacks::{Target, confer_stream_callbacks};
use super::start::start;
use super::status::confer_status;
use super::support::{guard, handle};
use super::types::{confer_client, confer_config, confer_error, confer_stream};
use crate::error::{Error, Result, Status};

/// The application answers CONFER_EVENT_ASK_TOKEN.
pub const CONFER_ASK_TOKEN: u32 = 1;
/// The application answers CONFER_EVENT_ASK_RELEASE.
pub const CONFER_ASK_RELEASE: u32 = 2;

/// Sets the questions that the application answers: CONFER_ASK_TOKEN, CONFER_ASK_RELEASE, both, or
/// 0. Default 0. A question is an event of a watch: see confer_client_watch(). An answer is due
/// within CONFER_DURATION_ANSWER.
///
///     Question                   Asked                      No answer in time      Refused
///     -----------------------    -----------------------    -------------------    -----------
///     token for a connection     before the attempt         the attempt fails      the same,
///                                                           (CONFER_E_TOKEN)       no retry
///     token that expires soon    a minute before its `exp`  the connection keeps   the same
///                                                           the old token
///     token after status 401     before the request is      the request ends       the same
///     or 402                     sent once more             with that status
///     another release            before the handshake is    the attempt fails      the client
///                                completed                                         ends
///
/// The first attempt uses the configured token, if there is one. Otherwise it asks, except in
/// confer_connect(), which never asks. Questions before a token's end and after status 401 or 402
/// need CONFER_LIMIT_ATTEMPTS above 0. A release that nobody accepts is never used.
///
/// The library gives the server whatever token the application answers. After a refusal,
/// confer_event_error() of the CONFER_EVENT_RETRY before the question says so: do not answer with
/// the same token again.
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

/// Opens a stream of the client's events:
///
///     CONFER_EVENT_STAGE           a stage of connecting began: confer_event_stage()
///     CONFER_EVENT_CONNECTED       the client has a verified connection: confer_event_report(),
///                                  confer_event_release_changed()
///     CONFER_EVENT_DISCONNECTED    it broke, and the client makes another one:
///                                  confer_event_error()
///     CONFER_EVENT_RETRY           the next attempt, after a loss or to replace a connection that
///                                  still serves: confer_event_attempt(), confer_event_delay_ms(),
///                                  and confer_event_error() for the failure of the previous one
///     CONFER_EVENT_ASK_TOKEN       a question: confer_event_token_reason()
///     CONFER_EVENT_ASK_RELEASE     a question: confer_event_report(),
///                                  confer_event_previous_report()
///     CONFER_EVENT_ANSWERED        a question of this watch is over
///     the end of the stream        the client has ended: CONFER_OK after confer_close(), otherwise
///                                  the client's error
///
/// Events of a watch and of requests have no order among each other, except that callbacks of a
/// watch go first when both wait. A watch begins with the present state and any open question, so
/// it can be opened at any time. If nobody reads it, old events are dropped: see
/// confer_stream_dropped(). The present state, an open question and the end are kept. A watch does
/// not keep its client alive; cancelling or freeing it ends only the watch. Several watches of one
/// client can be open.
///
/// `callbacks`, `stream`: as for confer_chat_stream(). For a client that was closed, a call with
/// callbacks fails with CONFER_E_CLOSED; without callbacks, the stream returns its end at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_client_watch(
    client: *mut confer_client,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start(client, target, |client| -> Result<_> { Ok(client.watch()) })
    })
}

/// Returns the number of events that a watch dropped because nobody read them. 0 for other streams.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_dropped(stream: *const confer_stream) -> u64 {
    guard::get(0, || {
        // SAFETY: NULL or a live handle.
        unsafe { handle::peek(stream) }.map(|it| it.stream.dropped())
    })
}
