//! Sampling. The model's choice of words, and the length and form of its answer.

use super::status::confer_status;
use super::support::guard;
use super::types::{confer_chat_request, confer_error};
use crate::client::Number;

/// Sets the temperature: 0 or more; a higher one gives more varied answers. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Samples only from the most likely tokens whose probabilities add up to `top_p`, a number above 0
/// and at most 1. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Sets the lowest probability of a token, relative to the most likely one: 0 to 1. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Samples only from the `top_k` most likely tokens: 1 or more, or -1 for all. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Sets the penalty of a token that has occurred before: -2 to 2. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Sets the penalty of a token for each time that it has occurred before: -2 to 2. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Divides the weight of a token that has occurred before: above 0; 1 changes nothing. Default: the
/// server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Sets the maximum number of tokens of the answer: 1 to 2,147,483,647. Default: the server's.
///
/// Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
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

/// Sets whether the answer must be JSON. Default: the server's.
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

/// Sets whether the model reasons before it answers, in CONFER_EVENT_THINKING. Default: the
/// server's.
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
