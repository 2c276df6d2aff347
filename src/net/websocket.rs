//! The WebSocket upgrade (protocol section 1). One Noise message is one binary message.

use std::time::Duration;

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};

use super::{Endpoint, Stream, Token};
use crate::error::{Error, Result, Status};
use crate::noise::MAX_NOISE_MESSAGE;

/// An upgraded connection.
pub type Socket = WebSocketStream<Stream>;

/// What a read asks of the socket at once. tungstenite's default of 128 KiB is allocated by each idle connection and
/// cleared before each read; 16 KiB takes a 64 KiB message in four reads.
const READ_BUFFER: usize = 24 << 10;
/// Writes are collected up to this size; a message that exceeds it goes out at once.
const WRITE_BUFFER: usize = 16 << 10;
/// The session hands over a message only when the one before is out, so this is never reached.
const MAX_WRITE_BUFFER: usize = 4 * MAX_NOISE_MESSAGE;
/// A server that asks for a longer pause before a retry is not taken at its word.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Asks for the upgrade. Any status but 101 is a refusal, a redirect too.
pub async fn upgrade(endpoint: &Endpoint, token: &Token, stream: Stream) -> Result<Socket> {
    let request = endpoint
        .with_token(token)
        .as_str()
        .into_client_request()
        .map_err(|_| {
            Error::new(
                Status::InvalidUrl,
                "endpoint: it cannot be a request target",
            )
        })?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(MAX_NOISE_MESSAGE))
        .max_frame_size(Some(MAX_NOISE_MESSAGE));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(refusal(endpoint, error)),
    }
}

/// Nothing of the request, and so of the token, is repeated here.
fn refusal(endpoint: &Endpoint, error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let what = if status.is_redirection() {
                "a redirect is a refusal"
            } else {
                "the upgrade was refused"
            };
            Error::new(
                Status::Upgrade,
                format!("{endpoint}: {what}: HTTP status {}", status.as_u16()),
            )
            .with_http_status(status.as_u16())
            .with_retry_delay(retry_after(&response))
        }
        tungstenite::Error::Io(e) => Error::new(
            Status::ConnectionLost,
            format!("{endpoint}: during the upgrade: {e}"),
        ),
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => {
            Error::new(
                Status::ConnectionLost,
                format!("{endpoint}: closed during the upgrade"),
            )
        }
        tungstenite::Error::Protocol(e) => Error::new(Status::Upgrade, format!("{endpoint}: {e}")),
        tungstenite::Error::Capacity(e) => Error::new(Status::Upgrade, format!("{endpoint}: {e}")),
        _ => Error::new(
            Status::Upgrade,
            format!("{endpoint}: the answer is not an HTTP upgrade"),
        ),
    }
}

/// `Retry-After` in its form of seconds (RFC 9110, section 10.2.3).
pub(super) fn retry_after<B>(response: &http::Response<B>) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
