//! The WebSocket upgrade (protocol section 1). One Noise message is one binary message.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};

use super::{Endpoint, Stream, Token};
use crate::clock;
use crate::error::{Error, Result, Retry, Status};
use crate::noise::MAX_NOISE_MESSAGE;

/// An upgraded connection.
pub type Socket = WebSocketStream<Stream>;

/// Read buffer. Each idle connection allocates it, and each read clears it. tungstenite's default
/// is 128 KiB. This size reads a 64 KiB message in four reads.
const READ_BUFFER: usize = 24 << 10;
/// Collects writes up to this size. A larger message is sent at once.
const WRITE_BUFFER: usize = 16 << 10;
/// Never reached: the session passes the next message only after the previous one was written.
const MAX_WRITE_BUFFER: usize = 4 * MAX_NOISE_MESSAGE;
/// Longest accepted pause before a retry that a server can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Upgrades the connection. Any status but 101 is a refusal, even a redirect. Also returns the
/// server's time in Unix seconds, only as a hint for people whose clock is wrong.
pub async fn upgrade(
    endpoint: &Endpoint,
    token: &Token,
    stream: Stream,
) -> Result<(Socket, Option<u64>)> {
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
        Ok((socket, response)) => Ok((socket, date(&response))),
        Err(error) => Err(refusal(endpoint, token, error)),
    }
}

/// Never repeats the request, because it contains the token.
fn refusal(endpoint: &Endpoint, token: &Token, error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) => refused(endpoint, token, &response),
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

/// Returns the `Date` of an answer in Unix seconds, if it occurs once in the standard format
/// (IMF-fixdate, RFC 9110, section 5.6.7).
fn date<B>(response: &http::Response<B>) -> Option<u64> {
    const LEN: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
    let mut dates = response.headers().get_all(http::header::DATE).iter();
    let (Some(date), None) = (dates.next(), dates.next()) else {
        return None;
    };
    let date = date.as_bytes();
    if date.len() != LEN || !date.ends_with(b" GMT") {
        return None;
    }
    let date = DateTimeParser::new().parse_timestamp(date).ok()?;
    u64::try_from(date.as_second()).ok()
}

/// Makes the error for a status other than 101.
fn refused<B>(endpoint: &Endpoint, token: &Token, response: &http::Response<B>) -> Error {
    let now = clock::now();
    let status = response.status();
    let code = status.as_u16();
    let why = match code {
        401..=403 => " The server does not accept the token; connect with a fresh one.",
        500 => {
            " The published server answers so to a token that it does not accept: one that is malformed, expired or signed \
             by another key."
        }
        404 => " The path of the URL is probably wrong.",
        _ if status.is_redirection() => " A redirect is not followed.",
        _ => "",
    };
    let message = format!("{endpoint}: the upgrade was refused: HTTP status {code}.{why}");
    let error = Error::new(Status::Upgrade, message)
        .with_http_status(code)
        .with_retry_delay(retry_after(response));
    match code {
        401..=403 => token.explain(error, now),
        // An expired token is certainly the reason, or this clock is wrong. Then a fresh token does
        // no harm.
        500 if token.ended(now).is_some() => {
            token.explain(error.with_retry(Retry::FreshToken), now)
        }
        _ => error,
    }
}

/// Returns `Retry-After`, if it is in seconds (RFC 9110, section 10.2.3).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_strict_date_is_read_from_an_answer() {
        let read = |dates: &[&str]| {
            let mut response = http::Response::builder();
            for value in dates {
                response = response.header("Date", *value);
            }
            date(&response.body(()).unwrap())
        };
        let good = "Tue, 05 Dec 2023 00:10:00 GMT";
        assert_eq!(read(&[good]), Some(1_701_735_000));
        for bad in [
            &[] as &[&str],
            &[good, good],
            &[""],
            &["1701735000"],
            &["2023-12-05T00:10:00Z"],
            &["Tue, 05 Dec 2023 00:10:00 UTC"],
            &["Tue, 5 Dec 2023 00:10:00 GMT"],
            &["Mon, 05 Dec 2023 00:10:00 GMT"],
            &["Tue, 05 Dec 2023 24:10:00 GMT"],
            &["Tue, 32 Dec 2023 00:10:00 GMT"],
            &["Tue, 05 Dec 1923 00:10:00 GMT"],
            &["Tuesday, 05-Dec-23 00:10:00 GMT"],
            &["Tue, 05 Dec 2023 00:10:00 GMT Tue, 05 Dec 2023 00:10:00 GMT"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
