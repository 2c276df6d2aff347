//! Statuses. Results of calls and streams, with their names and descriptions.

use std::ffi::{CString, c_char};

use once_cell::sync::Lazy;

use super::support::guard;
use crate::error::Status;

/// The result of a call or a stream. 0 is success, and 1 and 2 are not errors. Each hundred is a
/// family: 1xx mistakes of the caller, 2xx ended on this side, 3xx network, 4xx the peer broke the
/// protocol, 5xx the enclave was refused, 6xx the enclave answered with an error. Numbers are never
/// changed or reused. Later versions may add numbers to any family.
#[allow(non_camel_case_types)]
pub type confer_status = i32;

/// Success.
pub const CONFER_OK: confer_status = 0;
/// The time limit passed without a result. Not an error: wait again.
pub const CONFER_TIMEOUT: confer_status = 1;
/// The stream is complete: everything was read. Not an error.
pub const CONFER_END: confer_status = 2;

/// An argument is missing or outside its bounds; the message names it.
pub const CONFER_E_INVALID_ARGUMENT: confer_status = 100;
/// A text argument is not UTF-8; the message names it and the first bad byte.
pub const CONFER_E_INVALID_UTF8: confer_status = 101;
/// The URL of the endpoint or the proxy is not one that this library connects to.
pub const CONFER_E_INVALID_URL: confer_status = 102;
/// An argument is not the expected JSON; the message has line and column.
pub const CONFER_E_INVALID_JSON: confer_status = 103;
/// The policy document is not valid; the message names the key.
pub const CONFER_E_INVALID_POLICY: confer_status = 104;
/// Another thread is in this call on the same handle, or the worker threads run already.
pub const CONFER_E_BUSY: confer_status = 105;
/// A callback made a call that waits.
pub const CONFER_E_WOULD_DEADLOCK: confer_status = 106;
/// The library was in use before this process was forked.
pub const CONFER_E_FORKED: confer_status = 107;
/// A local file cannot be read or written.
pub const CONFER_E_FILE: confer_status = 108;
/// An argument exceeds its limit.
pub const CONFER_E_TOO_LARGE: confer_status = 109;
/// Too many requests of the client are open, or too many bytes wait to be sent.
pub const CONFER_E_TOO_MANY: confer_status = 110;
/// The question, tool call or upload is already over: the call changes nothing.
pub const CONFER_E_STALE: confer_status = 111;
/// The client has not connected yet.
pub const CONFER_E_NOT_CONNECTED: confer_status = 112;

/// Cancelled by the application.
pub const CONFER_E_CANCELLED: confer_status = 200;
/// The client was closed.
pub const CONFER_E_CLOSED: confer_status = 201;
/// A callback returned a value other than 0.
pub const CONFER_E_STOPPED: confer_status = 202;
/// The library contained a defect. The handle is unusable; others are not affected. Please report
/// it.
pub const CONFER_E_PANIC: confer_status = 203;
/// The system refused a thread, a descriptor, memory or randomness.
pub const CONFER_E_SYSTEM: confer_status = 204;
/// No token to connect with: the application gave none, and the message has its reason, or the
/// server refused the only one.
pub const CONFER_E_TOKEN: confer_status = 205;
/// The connection reached its maximum age, or its evidence expired, and reconnecting is off.
pub const CONFER_E_EXPIRED: confer_status = 206;

/// The host name of the endpoint, or of the proxy, has no address.
pub const CONFER_E_RESOLVE: confer_status = 300;
/// No TCP connection to the endpoint, or to the proxy; the message has the failure of each address.
pub const CONFER_E_CONNECT: confer_status = 301;
/// No TLS session with the endpoint.
pub const CONFER_E_TLS: confer_status = 302;
/// The endpoint refused the WebSocket upgrade, for example because the token is not valid; see
/// confer_error_http_status().
pub const CONFER_E_UPGRADE: confer_status = 303;
/// Connecting exceeded a time limit; the message names the stage.
pub const CONFER_E_STAGE_TIMEOUT: confer_status = 304;
/// The connection broke or was closed by the peer.
pub const CONFER_E_CONNECTION_LOST: confer_status = 305;
/// The peer no longer answers keepalive pings, and no byte was sent or received for the time limit.
pub const CONFER_E_DEAD_PEER: confer_status = 306;
/// The proxy refused the tunnel or failed to open it; see confer_error_http_status(). The status
/// 407 means that it wants other credentials.
pub const CONFER_E_PROXY: confer_status = 307;

/// The peer broke the protocol of WebSocket messages or responses.
pub const CONFER_E_PROTOCOL: confer_status = 400;
/// The Noise handshake failed.
pub const CONFER_E_HANDSHAKE: confer_status = 401;
/// A Noise message fails authentication: it was altered, truncated, replayed or reordered.
pub const CONFER_E_DECRYPT: confer_status = 402;
/// A transport frame is malformed or breaks a reassembly rule.
pub const CONFER_E_FRAME: confer_status = 403;
/// The peer exceeded a limit.
pub const CONFER_E_LIMIT: confer_status = 404;
/// A streamed answer contains bytes that are not an event. Ends only that stream.
pub const CONFER_E_EVENT: confer_status = 405;

/// The enclave's evidence does not satisfy the policy. Only the token, with the upgrade, and the
/// first handshake message were sent; see confer_error_check_id() and confer_error_report().
pub const CONFER_E_REJECTED: confer_status = 500;
/// The enclave satisfies the policy, but its release has changed, and the application did not
/// accept it.
pub const CONFER_E_RELEASE_REFUSED: confer_status = 501;

/// The enclave answered with a status other than 200; see confer_error_http_status() and
/// confer_error_peer_text().
pub const CONFER_E_REFUSED: confer_status = 600;
/// The enclave answered 401: it does not accept the token. Connect again with a fresh one. With
/// CONFER_ASK_TOKEN and reconnecting, the library has first asked for a fresh token and, if it got
/// one, sent the request again.
pub const CONFER_E_UNAUTHORIZED: confer_status = 601;
/// The enclave answered 402, for example because a free account's token has expired. Otherwise like
/// CONFER_E_UNAUTHORIZED.
pub const CONFER_E_PAYMENT_REQUIRED: confer_status = 602;
/// The request was silent for longer than its idle limit, or waited that long for a connection.
pub const CONFER_E_STREAM_IDLE: confer_status = 603;
/// The application reads a stream too slowly. Its unread data exceeds CONFER_LIMIT_STREAM_UNREAD,
/// or all streams together exceed a limit and this one holds more than an equal share; see
/// confer_config_set_limit(). If it is the client's only request, the library stops reading the
/// socket instead.
pub const CONFER_E_SLOW_CONSUMER: confer_status = 604;
/// The model still calls tools after the last allowed round; see
/// confer_chat_request_set_tool_rounds().
pub const CONFER_E_TOOL_ROUNDS: confer_status = 605;

static TEXTS: Lazy<Vec<(confer_status, CString, CString)>> = Lazy::new(|| {
    let text = |text: &str| CString::new(text).expect("no NUL in our own texts");
    Status::ALL
        .iter()
        .map(|(status, name, what)| (*status as i32, text(name), text(what)))
        .collect()
});

/// Returns the name of a status, such as "CONFER_E_REJECTED", or "CONFER_E_UNKNOWN" for a number
/// that this version does not know. Static, NUL-terminated, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn confer_status_name(status: confer_status) -> *const c_char {
    guard::get(c"CONFER_E_UNKNOWN".as_ptr(), || {
        TEXTS
            .iter()
            .find(|(known, ..)| *known == status)
            .map(|(_, name, _)| name.as_ptr())
    })
}

/// Returns one sentence that explains a status, in English. Static, NUL-terminated, never NULL. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn confer_status_description(status: confer_status) -> *const c_char {
    guard::get(c"an unknown status".as_ptr(), || {
        TEXTS
            .iter()
            .find(|(known, ..)| *known == status)
            .map(|(_, _, what)| what.as_ptr())
    })
}
