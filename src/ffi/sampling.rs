//! How the model writes its answer: the section "Chat request: sampling" of the header.

use super::error::confer_error;
use super::request::confer_chat_request;
use super::status::confer_status;
use super::support::guard;
use crate::client::Number;

/// How freely the model chooses: 0 or more. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_temperature(
    request: *mut confer_chat_request,
    temperature: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_number(Number::Temperature, temperature)
            })
        }
    })
}

/// The share of probability from which tokens are chosen: above 0, up to 1. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_top_p(
    request: *mut confer_chat_request,
    top_p: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| request.set_number(Number::TopP, top_p))
        }
    })
}

/// The least probability of a token, as a share of that of the likeliest: 0 to 1. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_min_p(
    request: *mut confer_chat_request,
    min_p: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| request.set_number(Number::MinP, min_p))
        }
    })
}

/// From how many of the likeliest tokens is chosen: 1 or more, or -1 for all. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_top_k(
    request: *mut confer_chat_request,
    top_k: i32,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_integer(Number::TopK, top_k.into())
            })
        }
    })
}

/// What a token loses that occurred already: -2 to 2. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_presence_penalty(
    request: *mut confer_chat_request,
    penalty: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_number(Number::PresencePenalty, penalty)
            })
        }
    })
}

/// What a token loses for each time that it occurred already: -2 to 2. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_frequency_penalty(
    request: *mut confer_chat_request,
    penalty: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_number(Number::FrequencyPenalty, penalty)
            })
        }
    })
}

/// By what the weight of a token is divided that occurred already: above 0; 1 changes nothing.
/// Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_repetition_penalty(
    request: *mut confer_chat_request,
    penalty: f64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_number(Number::RepetitionPenalty, penalty)
            })
        }
    })
}

/// The most tokens that the answer may have: 1 to 2,147,483,647. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside the bounds, which are those of newer servers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_max_tokens(
    request: *mut confer_chat_request,
    max_tokens: i64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_integer(Number::MaxTokens, max_tokens)
            })
        }
    })
}

/// Whether the answer is to be JSON. Default: the server's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_json(
    request: *mut confer_chat_request,
    json: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe { confer_chat_request::with(request, |request| request.set_flag("json", json)) }
    })
}

/// Whether the model reasons before it answers, in CONFER_EVENT_THINKING. Default: the server's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_thinking(
    request: *mut confer_chat_request,
    thinking: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| request.set_flag("thinking", thinking))
        }
    })
}
