//! Client events. Types and fields of the events of a watch, and answers to its questions.

use std::ffi::c_char;

use super::status::confer_status;
use super::support::guard;
use super::support::{handle, text};
use super::types::{confer_error, confer_event, confer_report};
use crate::client::{ClientEvent, Kind, TokenReason};
use crate::error::Result;

/// A stage of connecting began.
pub const CONFER_EVENT_STAGE: i32 = 100;
/// The client has a verified connection.
pub const CONFER_EVENT_CONNECTED: i32 = 101;
/// The connection broke.
pub const CONFER_EVENT_DISCONNECTED: i32 = 102;
/// The client connects again after a delay.
pub const CONFER_EVENT_RETRY: i32 = 103;
/// The client needs a token: confer_event_answer_token(), confer_event_refuse_token().
pub const CONFER_EVENT_ASK_TOKEN: i32 = 104;
/// The enclave's release differs from the previous one: confer_event_answer_release().
pub const CONFER_EVENT_ASK_RELEASE: i32 = 105;
/// The open question is over: it was answered, or its answer is no longer needed. A client has only
/// one open question at a time.
pub const CONFER_EVENT_ANSWERED: i32 = 106;

/// The client has had no connection yet, and needs a token for one.
pub const CONFER_TOKEN_FIRST: i32 = 0;
/// Another connection needs a token.
pub const CONFER_TOKEN_RECONNECT: i32 = 1;
/// The token in use expires soon.
pub const CONFER_TOKEN_EXPIRING: i32 = 2;
/// The server refused the last token: with HTTP status 401, 402 or 403 for the upgrade, with 500
/// for the upgrade if the token has expired, or with status 401 or 402 for a request.
pub const CONFER_TOKEN_REFUSED: i32 = 3;

/// # Safety
/// `event` is NULL or live.
unsafe fn client_event<'a>(event: *const confer_event) -> Option<&'a ClientEvent> {
    // SAFETY: passed on.
    unsafe { handle::peek(event) }?.event.client()
}

/// # Safety
/// `event` is NULL or live.
unsafe fn given<'a>(event: *const confer_event) -> Result<&'a confer_event> {
    // SAFETY: passed on.
    unsafe { handle::peek(event) }.ok_or_else(|| handle::missing("event"))
}

/// Returns the stage of CONFER_EVENT_STAGE, one of CONFER_STAGE_*; -1 for other events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_stage(event: *const confer_event) -> i32 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || match unsafe { client_event(event) }? {
        ClientEvent::Stage(stage) => Some(*stage as i32),
        _ => None,
    })
}

/// Returns the report of CONFER_EVENT_CONNECTED, or of the enclave in CONFER_EVENT_ASK_RELEASE;
/// NULL for other events. Borrowed from the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_report(event: *const confer_event) -> *const confer_report {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let (event, client) = unsafe { (handle::peek(event)?, client_event(event)?) };
        let report = event.lent.report.get_or_init(|| match client {
            ClientEvent::Connected { evidenced: now, .. } | ClientEvent::AskRelease { now, .. } => {
                Some(confer_report::new(now.clone()))
            }
            _ => None,
        });
        report.as_ref().map(std::ptr::from_ref)
    })
}

/// Returns the report of the previous connection, for CONFER_EVENT_ASK_RELEASE; NULL for other
/// events. Borrowed from the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_previous_report(
    event: *const confer_event,
) -> *const confer_report {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let (event, client) = unsafe { (handle::peek(event)?, client_event(event)?) };
        let report = event.lent.previous.get_or_init(|| match client {
            ClientEvent::AskRelease { before, .. } => Some(confer_report::new(before.clone())),
            _ => None,
        });
        report.as_ref().map(std::ptr::from_ref)
    })
}

/// Returns the error of CONFER_EVENT_DISCONNECTED, or of the failed attempt before
/// CONFER_EVENT_RETRY; NULL for the first retry after a lost connection, for the first attempt to
/// replace a connection unless an earlier one to replace it failed, and for other events.
/// Borrowed from the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_error(event: *const confer_event) -> *const confer_error {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let (event, client) = unsafe { (handle::peek(event)?, client_event(event)?) };
        let error = event.lent.error.get_or_init(|| match client {
            ClientEvent::Disconnected(error) => Some(confer_error::new(error.clone())),
            ClientEvent::Retry { error, .. } => error.clone().map(confer_error::new),
            _ => None,
        });
        error.as_ref().map(std::ptr::from_ref)
    })
}

/// Returns whether the release has changed since the previous CONFER_EVENT_CONNECTED of this watch,
/// even if it has changed back. False for the first one and for other events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_release_changed(event: *const confer_event) -> bool {
    // SAFETY: NULL or a live event.
    guard::get(false, || match unsafe { client_event(event) }? {
        ClientEvent::Connected {
            release_changed, ..
        } => Some(*release_changed),
        _ => None,
    })
}

/// Returns the number of the attempt of CONFER_EVENT_RETRY; 0 for other events. Consecutive
/// attempts are counted from 1. The first attempt of a client has no event, so its first retry is
/// number 2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_attempt(event: *const confer_event) -> u32 {
    // SAFETY: NULL or a live event.
    guard::get(0, || match unsafe { client_event(event) }? {
        ClientEvent::Retry { number, .. } => Some(*number),
        _ => None,
    })
}

/// Returns the delay before the attempt of CONFER_EVENT_RETRY, in milliseconds; -1 for other
/// events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_delay_ms(event: *const confer_event) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || match unsafe { client_event(event) }? {
        ClientEvent::Retry { delay, .. } => i64::try_from(delay.as_millis()).ok(),
        _ => None,
    })
}

/// Returns the reason of CONFER_EVENT_ASK_TOKEN, one of CONFER_TOKEN_*; -1 for other events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_token_reason(event: *const confer_event) -> i32 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || match unsafe { client_event(event) }? {
        ClientEvent::AskToken { reason, .. } => Some(match reason {
            TokenReason::FirstConnection => CONFER_TOKEN_FIRST,
            TokenReason::Reconnect => CONFER_TOKEN_RECONNECT,
            TokenReason::Expiring => CONFER_TOKEN_EXPIRING,
            TokenReason::Refused => CONFER_TOKEN_REFUSED,
        }),
        _ => None,
    })
}

/// Answers CONFER_EVENT_ASK_TOKEN, on the event or a clone of it, from any thread, at once or
/// later. After an invalid token the question stays open: answer again, or refuse it with
/// confer_event_refuse_token().
///
/// Errors: those of confer_config_set_token(); CONFER_E_STALE if the question is over;
/// CONFER_E_INVALID_ARGUMENT for another event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_answer_token(
    event: *const confer_event,
    token: *const c_char,
    token_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live event; `token` is as the contract of texts says.
        let token = unsafe { text::read(token, token_len, "token") }?;
        unsafe { given(event) }?.event.answer_token(token)
    })
}

/// Answers CONFER_EVENT_ASK_TOKEN without a token. `reason` becomes part of errors and of the log,
/// so it must not contain a secret; 1,024 characters of it are kept.
///
/// Errors: CONFER_E_STALE if the question is over; CONFER_E_INVALID_UTF8; CONFER_E_INVALID_ARGUMENT
/// for another event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_refuse_token(
    event: *const confer_event,
    reason: *const c_char,
    reason_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live event; `reason` is as the contract of texts says.
        let reason = unsafe { text::read(reason, reason_len, "reason") }?;
        unsafe { given(event) }?.event.refuse_token(reason)
    })
}

/// Answers CONFER_EVENT_ASK_RELEASE. Accepting applies only to the manifest in this event's report.
/// Refusing ends the client with CONFER_E_RELEASE_REFUSED.
///
/// Errors: CONFER_E_STALE if the question is over; CONFER_E_INVALID_ARGUMENT for another event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_event_answer_release(
    event: *const confer_event,
    accept: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live event.
        unsafe { given(event) }?.event.answer_release(accept)
    })
}

const _: () = {
    assert!(Kind::Stage as i32 == CONFER_EVENT_STAGE);
    assert!(Kind::Connected as i32 == CONFER_EVENT_CONNECTED);
    assert!(Kind::Disconnected as i32 == CONFER_EVENT_DISCONNECTED);
    assert!(Kind::Retry as i32 == CONFER_EVENT_RETRY);
    assert!(Kind::AskToken as i32 == CONFER_EVENT_ASK_TOKEN);
    assert!(Kind::AskRelease as i32 == CONFER_EVENT_ASK_RELEASE);
    assert!(Kind::Answered as i32 == CONFER_EVENT_ANSWERED);
};
