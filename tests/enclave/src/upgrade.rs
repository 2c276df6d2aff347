//! The WebSocket upgrade (RFC 6455, 4.2), by hand, because a fault must be able to send any answer,
//! or half of one.
//!
//! Checks path and token. A wrong token and a missing one get the same answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::Failure;
use crate::server::Server;
use crate::tokens::{Class, Tokens};

pub(crate) const PATH: &str = "/websocket";
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Longest silence of a client during its request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest accepted WebSocket message: a Noise message, with room to detect one that is too
/// long.
const MAX_MESSAGE: usize = 128 << 10;

/// A client's upgrade request, not yet answered.
pub(crate) struct Upgrade {
    stream: TcpStream,
    /// `Sec-WebSocket-Accept`, if this is a valid upgrade.
    accept: Option<String>,
    path: String,
    token: Option<Vec<u8>>,
}

impl Upgrade {
    pub(crate) async fn read(mut stream: TcpStream) -> Result<Self, Failure> {
        let mut head = Vec::with_capacity(1 << 10);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_HEAD {
                return Err("the upgrade's head is too long".into());
            }
            // The client waits for the answer, so nothing follows the head yet.
            if tokio::time::timeout(PATIENCE, stream.read_buf(&mut head)).await?? == 0 {
                return Err("the client left during the upgrade".into());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&head)?;
        let header = |name: &str| {
            request
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .map(|header| header.value)
        };
        let is_upgrade = request.method == Some("GET")
            && header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            && header("sec-websocket-version") == Some(b"13".as_slice());
        let accept = header("sec-websocket-key")
            .filter(|_| is_upgrade)
            .map(derive_accept_key);
        let target = request.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let token = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("token="))
            .map(percent_decode);
        let path = path.to_owned();
        Ok(Self {
            stream,
            accept,
            path,
            token,
        })
    }

    /// Returns the class of the client's token, if the server opens the WebSocket for it.
    pub(crate) fn class(&self, tokens: &Tokens, server: Server) -> Option<Class> {
        let class = self.token.as_deref().and_then(|given| tokens.class(given));
        class.filter(|class| *class != Class::Unauthorized || server.opens_for_unauthorized())
    }

    /// Returns whether the client brings this token.
    pub(crate) fn brings(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token.as_bytes())
    }

    /// Answers like the published server, which throws on a bad token: status 500.
    pub(crate) async fn answer(self, known: bool) -> Result<WebSocketStream<TcpStream>, Failure> {
        match &self.accept {
            _ if self.path != PATH => self.refuse("404 Not Found").await,
            None => self.refuse("400 Bad Request").await,
            Some(_) if !known => self.refuse("500 Internal Server Error").await,
            Some(accept) => {
                let head = accepted(accept);
                self.open(&head).await
            }
        }
    }

    /// Opens the WebSocket with this head, correct or not.
    async fn open(mut self, head: &str) -> Result<WebSocketStream<TcpStream>, Failure> {
        self.stream.write_all(head.as_bytes()).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(32 << 10)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        Ok(WebSocketStream::from_raw_socket(self.stream, Role::Server, Some(config)).await)
    }

    async fn refuse(mut self, status: &str) -> Result<WebSocketStream<TcpStream>, Failure> {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        self.stream.write_all(answer.as_bytes()).await?;
        self.stream.shutdown().await?;
        Err(format!("upgrade refused: {status}").into())
    }

    /// Writes a fault's answer, and returns the connection.
    pub(crate) async fn write(mut self, answer: fn(&str) -> String) -> Result<TcpStream, Failure> {
        let answer = answer(self.accept.as_deref().unwrap_or_default());
        self.stream.write_all(answer.as_bytes()).await?;
        Ok(self.stream)
    }
}

/// The head that opens a WebSocket.
pub(crate) fn accepted(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (
            bytes[at],
            digit(bytes.get(at + 1)),
            digit(bytes.get(at + 2)),
        ) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_be_percent_encoded() {
        assert_eq!(percent_decode("a%2eb%2B%zz%"), b"a.b+%zz%");
    }
}
