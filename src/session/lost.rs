//! The error of a connection that was lost: by its socket, by its peer, or by a dead worker.

use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::error::{Error, Status};

/// The error of a connection whose task was dropped.
pub fn worker_gone() -> Error {
    let message = "connection lost: the library's worker thread is gone";
    Error::new(Status::ConnectionLost, message)
}

/// The error of a socket. It never repeats what was sent.
pub(super) fn lost(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Error::new(
                Status::Limit,
                format!("the server sent a WebSocket message of {size} bytes (at most {max_size})"),
            )
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed => closed(None, During::Session),
        tungstenite::Error::Protocol(error) => Error::new(
            Status::Protocol,
            format!("the server broke the WebSocket protocol: {error}"),
        ),
        tungstenite::Error::Utf8(_) => Error::new(
            Status::Protocol,
            "the server sent a text message (expected only binary ones)",
        ),
        tungstenite::Error::Io(error) => {
            Error::new(Status::ConnectionLost, format!("connection lost: {error}"))
        }
        _ => Error::new(Status::ConnectionLost, "connection lost"),
    }
}

/// When the peer closed. A close code means different things at different times.
#[derive(Clone, Copy)]
pub(super) enum During {
    Handshake,
    Session,
}

/// The error of a close by the peer (protocol section 4, "Close codes"). The reason may repeat a
/// prompt, so it is kept apart from the message as the peer's text.
pub(super) fn closed(frame: Option<CloseFrame>, during: During) -> Error {
    let what = "the server closed the connection";
    let Some(CloseFrame { code, reason }) = frame else {
        return Error::new(
            Status::ConnectionLost,
            format!("{what} without a close code"),
        );
    };
    let code = u16::from(code);
    let meaning = match (code, during) {
        (1003, _) => ": it cannot accept what it received",
        (1011, During::Handshake) => ": the handshake failed on its side",
        (1011, During::Session) => {
            ": something failed on its side, such as decryption, a response or a stream"
        }
        _ => "",
    };
    let mut message = format!("{what}{meaning} (close code {code})");
    if reason.is_empty() {
        return Error::new(Status::ConnectionLost, message);
    }
    message += "; the error's peer text has its reason";
    Error::new(Status::ConnectionLost, message).with_peer_text(reason.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u16, reason: &str) -> Option<CloseFrame> {
        Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })
    }

    #[test]
    fn close_codes_mean_what_they_mean_at_their_stage() {
        for (code, during, part) in [
            (1003, During::Handshake, "cannot accept what it received"),
            (1003, During::Session, "cannot accept what it received"),
            (1011, During::Handshake, "the handshake failed on its side"),
            (1011, During::Session, "decryption, a response or a stream"),
            (
                4000,
                During::Session,
                "closed the connection (close code 4000)",
            ),
        ] {
            let error = closed(frame(code, ""), during);
            assert!(error.message().contains(part), "{error}");
            assert!(
                error.message().ends_with(&format!("(close code {code})")),
                "{error}"
            );
            assert_eq!(error.peer_text(), None);
        }
        let error = closed(None, During::Session);
        assert_eq!(
            error.message(),
            "the server closed the connection without a close code"
        );
    }

    #[test]
    fn close_reason_is_kept_apart_from_the_message() {
        let error = closed(frame(1011, "a prompt\nand \u{1b}[31mmore"), During::Session);
        assert!(!format!("{error} {error:?} {}", error.message()).contains("prompt"));
        assert_eq!(
            error.peer_text(),
            Some("a prompt\u{fffd}and \u{fffd}[31mmore")
        );
    }
}
