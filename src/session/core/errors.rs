//! The error of each failure of a connection and of its requests.

use std::time::Duration;

use super::Pace;
use super::uploads::MAX_UPLOADS;
use crate::error::{Error, Status};
use crate::noise;
use crate::wire::{self, Response};

/// The reason why a request reached its idle limit.
pub(super) enum Silent {
    /// All places for uploads are taken.
    NoPlace,
    /// The socket takes no bytes.
    NotWritten,
    /// Nothing of the answer arrived.
    NoAnswer,
}

/// The error of a request that reached its idle limit. A server can lose a request and say nothing
/// (protocol section 4), so the message says what may have happened.
pub(super) fn silence(why: Silent, pace: Pace, limit: Duration) -> Error {
    let (limit, setting) = (limit.as_millis(), pace.limit_name());
    let message = match (why, pace) {
        (Silent::NoPlace, _) => format!(
            "the upload waited {limit} ms, its idle limit, for one of the connection's {MAX_UPLOADS} places for \
             uploads and got none ({setting})."
        ),
        (Silent::NotWritten, _) => format!(
            "the request could not be sent within its idle limit: the connection took no byte for {limit} ms \
             ({setting})."
        ),
        (Silent::NoAnswer, Pace::Events) => format!(
            "nothing came for the request within its idle limit, {limit} ms ({setting}). A server can fail in a \
             streamed answer without a word, for example when the messages exceed the model's context."
        ),
        (Silent::NoAnswer, Pace::Pieces) => format!(
            "nothing came for the request within its idle limit, {limit} ms ({setting}). The server needs longer, \
             or failed without a word."
        ),
    };
    Error::new(Status::StreamIdle, message)
}

/// The error of a ping that was open for `limit` while no byte moved.
pub(super) fn peer_is_dead(limit: Duration) -> Error {
    let limit = limit.as_millis();
    let message =
        format!("the server did not answer a keepalive ping, and no byte moved, for {limit} ms");
    Error::new(Status::DeadPeer, message)
}

/// The error of a peer that was silent for `limit` after the network changed.
pub(super) fn probe_failed(limit: Duration) -> Error {
    let limit = limit.as_millis();
    let message = format!("nothing was received for {limit} ms after the network changed");
    Error::new(Status::DeadPeer, message)
}

/// The error of a status other than 200. The body may repeat the request, so it is kept apart from
/// the message as the peer's text.
pub(super) fn refusal(response: &Response) -> Error {
    let (status, cure) = match response.status {
        401 => (
            Status::Unauthorized,
            ": it does not accept the token. Connect again with a fresh one.",
        ),
        402 => (
            Status::PaymentRequired,
            ": it does so when the token of a free account has expired. Connect again with a fresh one.",
        ),
        _ => (Status::Refused, ""),
    };
    Error::new(
        status,
        format!("the enclave answered with status {}{cure}", response.status),
    )
    .with_http_status(response.status)
    .with_peer_text(&response.body)
}

/// The error of a Noise operation.
pub(in crate::session) fn noise_error(error: noise::Error) -> Error {
    match error {
        noise::Error::Decrypt => Error::new(
            Status::Decrypt,
            "a Noise message does not authenticate: it was altered, truncated, replayed or reordered",
        ),
        noise::Error::Handshake => Error::new(
            Status::Handshake,
            "the server's handshake message is malformed or does not authenticate",
        ),
        noise::Error::OtherKey => Error::new(
            Status::Handshake,
            "the evidence was verified for another key",
        ),
        noise::Error::Exhausted => Error::new(
            Status::System,
            "the system gave no random bytes, or the connection's message counter is used up",
        ),
    }
}

/// The error of a frame or response that breaks the protocol.
pub(super) fn wire_error(error: wire::Error) -> Error {
    match error {
        wire::Error::Frame(why) => Error::new(Status::Frame, why),
        wire::Error::Limit(why) => Error::new(Status::Limit, why),
        wire::Error::Message(why) => Error::new(Status::Protocol, why),
    }
}
