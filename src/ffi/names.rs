//! Names. The names of constants, for logs.
//!
//! Each number and name is written at its constant. This file lists the constants that belong
//! together.

use std::ffi::c_char;

use super::client_event::{
    CONFER_EVENT_ANSWERED, CONFER_EVENT_ASK_RELEASE, CONFER_EVENT_ASK_TOKEN,
    CONFER_EVENT_CONNECTED, CONFER_EVENT_DISCONNECTED, CONFER_EVENT_RETRY, CONFER_EVENT_STAGE,
    CONFER_TOKEN_EXPIRING, CONFER_TOKEN_FIRST, CONFER_TOKEN_RECONNECT, CONFER_TOKEN_REFUSED,
};
use super::config::{
    CONFER_ROOTS_BUNDLED, CONFER_ROOTS_SYSTEM, CONFER_STAGE_ALL, CONFER_STAGE_HANDSHAKE,
    CONFER_STAGE_KEY_SET, CONFER_STAGE_PROXY, CONFER_STAGE_RESOLVE, CONFER_STAGE_TCP,
    CONFER_STAGE_TLS, CONFER_STAGE_UPGRADE, CONFER_STAGE_VERIFY,
};
use super::connect::{
    CONFER_CLIENT_CONNECTED, CONFER_CLIENT_CONNECTING, CONFER_CLIENT_ENDED,
    CONFER_CLIENT_RECONNECTING, CONFER_COUNTER_BYTES_RECEIVED, CONFER_COUNTER_BYTES_SENT,
    CONFER_COUNTER_CONNECTIONS, CONFER_COUNTER_FAILED_ATTEMPTS, CONFER_COUNTER_MESSAGES_RECEIVED,
    CONFER_COUNTER_MESSAGES_SENT, CONFER_COUNTER_PINGS_ANSWERED, CONFER_COUNTER_PINGS_SENT,
    CONFER_COUNTER_ROUND_TRIP_US,
};
use super::conversation::{
    CONFER_ROLE_ASSISTANT, CONFER_ROLE_DEVELOPER, CONFER_ROLE_SYSTEM, CONFER_ROLE_TOOL_CALL,
    CONFER_ROLE_TOOL_RESPONSE, CONFER_ROLE_USER,
};
use super::error::{
    CONFER_PROGRESS_MAYBE_SENT, CONFER_PROGRESS_NOT_SENT, CONFER_PROGRESS_PARTLY_ANSWERED,
};
use super::event::{
    CONFER_EVENT_BODY, CONFER_EVENT_CLIENT_TOOL_CALL, CONFER_EVENT_COMPLETION,
    CONFER_EVENT_EMBEDDINGS, CONFER_EVENT_OTHER, CONFER_EVENT_PONG, CONFER_EVENT_PROGRESS,
    CONFER_EVENT_SERVER_TOOL_CALL, CONFER_EVENT_SERVER_TOOL_RESPONSE, CONFER_EVENT_THINKING,
    CONFER_EVENT_TOKEN,
};
use super::log::{CONFER_LOG_DEBUG, CONFER_LOG_ERROR, CONFER_LOG_INFO, CONFER_LOG_WARN};
use super::raw::{
    CONFER_ENDING_COMPLETION, CONFER_ENDING_CONTENT_LENGTH, CONFER_ENDING_ONE_RESPONSE,
};
use super::report::{
    CONFER_OUTCOME_FAIL, CONFER_OUTCOME_PASS, CONFER_OUTCOME_SKIP, CONFER_OUTCOME_WARN,
};
use super::settings::{
    CONFER_DURATION_ANSWER, CONFER_DURATION_CONNECT, CONFER_DURATION_DEAD_PEER,
    CONFER_DURATION_FIRST_RETRY, CONFER_DURATION_IDLE_EVENTS, CONFER_DURATION_IDLE_OTHER,
    CONFER_DURATION_KEEPALIVE, CONFER_DURATION_LONGEST_RETRY, CONFER_DURATION_MAX_AGE,
    CONFER_DURATION_PROBE, CONFER_DURATION_STAGE_HANDSHAKE, CONFER_DURATION_STAGE_KEY_SET,
    CONFER_DURATION_STAGE_PROXY, CONFER_DURATION_STAGE_RESOLVE, CONFER_DURATION_STAGE_TCP,
    CONFER_DURATION_STAGE_TLS, CONFER_DURATION_STAGE_UPGRADE, CONFER_DURATION_STAGE_VERIFY,
    CONFER_LIMIT_ATTEMPTS, CONFER_LIMIT_CLIENT_UNREAD, CONFER_LIMIT_REQUESTS,
    CONFER_LIMIT_STREAM_REST, CONFER_LIMIT_STREAM_UNREAD, CONFER_LIMIT_UNFINISHED,
    CONFER_LIMIT_UNSENT,
};
use super::support::guard;

/// Constants with their names.
macro_rules! names {
    ($($constant:ident),* $(,)?) => {
        &[$(($constant, concat!(stringify!($constant), "\0"))),*]
    };
}

/// Returns the name of the constant with this number.
fn name(number: i32, names: &'static [(i32, &'static str)]) -> Option<*const c_char> {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map(|(_, name)| name.as_ptr().cast())
}

/// Returns the name of one of CONFER_EVENT_*, such as "CONFER_EVENT_TOKEN"; "CONFER_EVENT_UNKNOWN"
/// for a number that this version does not know. Static, NUL-terminated, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn confer_event_type_name(kind: i32) -> *const c_char {
    guard::get(c"CONFER_EVENT_UNKNOWN".as_ptr(), || {
        name(
            kind,
            names![
                CONFER_EVENT_OTHER,
                CONFER_EVENT_TOKEN,
                CONFER_EVENT_THINKING,
                CONFER_EVENT_SERVER_TOOL_CALL,
                CONFER_EVENT_SERVER_TOOL_RESPONSE,
                CONFER_EVENT_CLIENT_TOOL_CALL,
                CONFER_EVENT_COMPLETION,
                CONFER_EVENT_BODY,
                CONFER_EVENT_PROGRESS,
                CONFER_EVENT_EMBEDDINGS,
                CONFER_EVENT_PONG,
                CONFER_EVENT_STAGE,
                CONFER_EVENT_CONNECTED,
                CONFER_EVENT_DISCONNECTED,
                CONFER_EVENT_RETRY,
                CONFER_EVENT_ASK_TOKEN,
                CONFER_EVENT_ASK_RELEASE,
                CONFER_EVENT_ANSWERED
            ],
        )
    })
}

/// Returns the name of one of CONFER_ROLE_*, such as "CONFER_ROLE_USER". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_role_name(role: i32) -> *const c_char {
    guard::get(c"CONFER_ROLE_UNKNOWN".as_ptr(), || {
        name(
            role,
            names![
                CONFER_ROLE_USER,
                CONFER_ROLE_ASSISTANT,
                CONFER_ROLE_SYSTEM,
                CONFER_ROLE_DEVELOPER,
                CONFER_ROLE_TOOL_CALL,
                CONFER_ROLE_TOOL_RESPONSE
            ],
        )
    })
}

/// Returns the name of one of CONFER_ENDING_*, such as "CONFER_ENDING_COMPLETION". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_ending_name(ending: i32) -> *const c_char {
    guard::get(c"CONFER_ENDING_UNKNOWN".as_ptr(), || {
        name(
            ending,
            names![
                CONFER_ENDING_ONE_RESPONSE,
                CONFER_ENDING_COMPLETION,
                CONFER_ENDING_CONTENT_LENGTH
            ],
        )
    })
}

/// Returns the name of one of CONFER_PROGRESS_*, such as "CONFER_PROGRESS_NOT_SENT". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_progress_name(progress: i32) -> *const c_char {
    guard::get(c"CONFER_PROGRESS_UNKNOWN".as_ptr(), || {
        name(
            progress,
            names![
                CONFER_PROGRESS_NOT_SENT,
                CONFER_PROGRESS_MAYBE_SENT,
                CONFER_PROGRESS_PARTLY_ANSWERED
            ],
        )
    })
}

/// Returns the name of one of CONFER_OUTCOME_*, such as "CONFER_OUTCOME_PASS". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_outcome_name(outcome: i32) -> *const c_char {
    guard::get(c"CONFER_OUTCOME_UNKNOWN".as_ptr(), || {
        name(
            outcome,
            names![
                CONFER_OUTCOME_PASS,
                CONFER_OUTCOME_WARN,
                CONFER_OUTCOME_FAIL,
                CONFER_OUTCOME_SKIP
            ],
        )
    })
}

/// Returns the name of one of CONFER_STAGE_*, such as "CONFER_STAGE_TLS". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_stage_name(stage: i32) -> *const c_char {
    guard::get(c"CONFER_STAGE_UNKNOWN".as_ptr(), || {
        name(
            stage,
            names![
                CONFER_STAGE_RESOLVE,
                CONFER_STAGE_TCP,
                CONFER_STAGE_TLS,
                CONFER_STAGE_UPGRADE,
                CONFER_STAGE_HANDSHAKE,
                CONFER_STAGE_KEY_SET,
                CONFER_STAGE_VERIFY,
                CONFER_STAGE_PROXY,
                CONFER_STAGE_ALL
            ],
        )
    })
}

/// Returns the name of one of CONFER_CLIENT_*, such as "CONFER_CLIENT_CONNECTED". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_client_state_name(state: i32) -> *const c_char {
    guard::get(c"CONFER_CLIENT_UNKNOWN".as_ptr(), || {
        name(
            state,
            names![
                CONFER_CLIENT_CONNECTING,
                CONFER_CLIENT_CONNECTED,
                CONFER_CLIENT_RECONNECTING,
                CONFER_CLIENT_ENDED
            ],
        )
    })
}

/// Returns the name of one of CONFER_TOKEN_*, such as "CONFER_TOKEN_REFUSED". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_token_reason_name(reason: i32) -> *const c_char {
    guard::get(c"CONFER_TOKEN_UNKNOWN".as_ptr(), || {
        name(
            reason,
            names![
                CONFER_TOKEN_FIRST,
                CONFER_TOKEN_RECONNECT,
                CONFER_TOKEN_EXPIRING,
                CONFER_TOKEN_REFUSED
            ],
        )
    })
}

/// Returns the name of one of CONFER_ROOTS_*, such as "CONFER_ROOTS_BUNDLED". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_roots_name(roots: i32) -> *const c_char {
    guard::get(c"CONFER_ROOTS_UNKNOWN".as_ptr(), || {
        name(roots, names![CONFER_ROOTS_BUNDLED, CONFER_ROOTS_SYSTEM])
    })
}

/// Returns the name of one of CONFER_LIMIT_*, such as "CONFER_LIMIT_REQUESTS". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_limit_name(limit: i32) -> *const c_char {
    guard::get(c"CONFER_LIMIT_UNKNOWN".as_ptr(), || {
        name(
            limit,
            names![
                CONFER_LIMIT_STREAM_REST,
                CONFER_LIMIT_STREAM_UNREAD,
                CONFER_LIMIT_CLIENT_UNREAD,
                CONFER_LIMIT_UNFINISHED,
                CONFER_LIMIT_UNSENT,
                CONFER_LIMIT_REQUESTS,
                CONFER_LIMIT_ATTEMPTS
            ],
        )
    })
}

/// Returns the name of one of CONFER_LOG_*, such as "CONFER_LOG_WARN". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_log_level_name(level: i32) -> *const c_char {
    guard::get(c"CONFER_LOG_UNKNOWN".as_ptr(), || {
        name(
            level,
            names![
                CONFER_LOG_ERROR,
                CONFER_LOG_WARN,
                CONFER_LOG_INFO,
                CONFER_LOG_DEBUG
            ],
        )
    })
}

/// Returns the name of one of CONFER_COUNTER_*, such as "CONFER_COUNTER_PINGS_SENT". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_counter_name(counter: i32) -> *const c_char {
    guard::get(c"CONFER_COUNTER_UNKNOWN".as_ptr(), || {
        name(
            counter,
            names![
                CONFER_COUNTER_BYTES_SENT,
                CONFER_COUNTER_BYTES_RECEIVED,
                CONFER_COUNTER_MESSAGES_SENT,
                CONFER_COUNTER_MESSAGES_RECEIVED,
                CONFER_COUNTER_PINGS_SENT,
                CONFER_COUNTER_PINGS_ANSWERED,
                CONFER_COUNTER_ROUND_TRIP_US,
                CONFER_COUNTER_CONNECTIONS,
                CONFER_COUNTER_FAILED_ATTEMPTS
            ],
        )
    })
}

/// Returns the name of one of CONFER_DURATION_*, such as "CONFER_DURATION_CONNECT". Otherwise like
/// confer_event_type_name().
#[unsafe(no_mangle)]
pub extern "C" fn confer_duration_name(duration: i32) -> *const c_char {
    guard::get(c"CONFER_DURATION_UNKNOWN".as_ptr(), || {
        name(
            duration,
            names![
                CONFER_DURATION_STAGE_RESOLVE,
                CONFER_DURATION_STAGE_TCP,
                CONFER_DURATION_STAGE_TLS,
                CONFER_DURATION_STAGE_UPGRADE,
                CONFER_DURATION_STAGE_HANDSHAKE,
                CONFER_DURATION_STAGE_KEY_SET,
                CONFER_DURATION_STAGE_VERIFY,
                CONFER_DURATION_STAGE_PROXY,
                CONFER_DURATION_CONNECT,
                CONFER_DURATION_ANSWER,
                CONFER_DURATION_KEEPALIVE,
                CONFER_DURATION_DEAD_PEER,
                CONFER_DURATION_PROBE,
                CONFER_DURATION_IDLE_EVENTS,
                CONFER_DURATION_IDLE_OTHER,
                CONFER_DURATION_MAX_AGE,
                CONFER_DURATION_FIRST_RETRY,
                CONFER_DURATION_LONGEST_RETRY
            ],
        )
    })
}
