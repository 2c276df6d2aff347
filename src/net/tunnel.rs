//! A tunnel through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928, RFC
//! 1929).
//!
//! The proxy is not trusted. TLS runs through the tunnel to the endpoint, so a proxy sees only
//! names and sizes. Its answers are bounded. Errors contain only numbers and known names from them,
//! because a proxy could answer with its credentials.

use std::io;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use hyper::{Request, StatusCode, upgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Endpoint;
use super::dial::Counted;
use super::proxy::{Credentials, Protocol, Proxy};
use super::websocket::retry_after;
use crate::error::{Error, Result, Status};

/// Limit of the head of an answer to CONNECT: the smallest that hyper allows.
const MAX_HEAD: usize = 8 << 10;
/// Limit of the headers in it.
const MAX_HEADERS: usize = 64;

/// Opens a tunnel to the endpoint over a socket connected to the proxy.
pub async fn tunnel(proxy: &Proxy, endpoint: &Endpoint, socket: Counted) -> Result<Counted> {
    match proxy.protocol {
        Protocol::Connect => connect(proxy, endpoint, socket).await,
        Protocol::Socks5 => socks5(proxy, endpoint, socket).await,
    }
}

fn failed(proxy: &Proxy, why: &str) -> Error {
    Error::new(Status::Proxy, format!("{proxy}: {why}"))
}

/// Uses hyper's client, like the key set: it bounds its reads, and returns the status and the
/// socket. hyper-util's `Tunnel` reports no status but 407, and drops bytes after the answer.
async fn connect(proxy: &Proxy, endpoint: &Endpoint, socket: Counted) -> Result<Counted> {
    let broken =
        |e: hyper::Error| failed(proxy, &format!("CONNECT: {e}")).with_retryable(!e.is_parse());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(broken)?;
    let target = endpoint.host_and_port();
    let mut request = Request::connect(&target).header(HOST, &target);
    if let Some(credentials) = &proxy.credentials {
        request = request.header(PROXY_AUTHORIZATION, basic(credentials));
    }
    let request = request.body(Empty::<&[u8]>::new()).map_err(|_| {
        failed(
            proxy,
            "CONNECT: the endpoint's name cannot be written into a request",
        )
    })?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let mut why = format!("CONNECT was refused: HTTP status {}", status.as_u16());
            if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                why += &wants(proxy, response.headers());
            }
            return Err(failed(proxy, &why)
                .with_http_status(status.as_u16())
                .with_retry_delay(retry_after(&response)));
        }
        upgrade::on(response).await.map_err(broken)
    };
    tokio::pin!(answer);
    let upgraded = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection.with_upgrades() => answer.await, // ended; `answer` has the result
    }?;
    let parts = upgraded.downcast::<TokioIo<Counted>>().map_err(|_| {
        failed(
            proxy,
            "CONNECT: the connection was not handed over: a defect in libconfer",
        )
    })?;
    // In TLS the client sends first.
    if !parts.read_buf.is_empty() {
        return Err(failed(
            proxy,
            "CONNECT: the proxy sent more than its answer",
        ));
    }
    Ok(parts.io.into_inner())
}

/// Explains what a proxy that answered 407 wants, and what to do.
fn wants(proxy: &Proxy, headers: &HeaderMap) -> String {
    let offered = schemes(headers);
    let cure = match &proxy.credentials {
        _ if !offered.is_empty() && !offered.contains(&BASIC) => {
            "this library supports only Basic, so use another proxy"
        }
        Some(_) => "it does not accept this user name and password",
        None => "put user name and password into the proxy's URL",
    };
    match offered.as_slice() {
        [] => format!(". It names no scheme; {cure}"),
        offered => format!(". It offers {}; {cure}", offered.join(", ")),
    }
}

const BASIC: &str = "Basic";
/// The schemes that an error may name: the IANA's list and two that proxies use.
const SCHEMES: [&str; 12] = [
    BASIC,
    "Bearer",
    "Concealed",
    "Digest",
    "DPoP",
    "HOBA",
    "Kerberos",
    "Mutual",
    "Negotiate",
    "NTLM",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
];

/// Returns the known schemes in the challenges (RFC 9110, section 11.6.1), each once, in the order
/// of [`SCHEMES`].
fn schemes(headers: &HeaderMap) -> Vec<&'static str> {
    let challenges = headers.get_all(PROXY_AUTHENTICATE).iter();
    let challenges = challenges.filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = challenges.flat_map(items).filter_map(scheme).collect();
    let is_named = |known: &&str| named.iter().any(|name| name.eq_ignore_ascii_case(known));
    SCHEMES.into_iter().filter(is_named).collect()
}

/// Splits at commas outside quotes.
fn items(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// Returns the scheme's name if an item begins a challenge. `=` follows the name of a parameter.
fn scheme(item: &str) -> Option<&str> {
    let item = item.trim_ascii();
    let (name, rest) = item.split_once(' ').unwrap_or((item, ""));
    (!rest.trim_ascii_start().starts_with('=')).then_some(name)
}

/// RFC 7617.
fn basic(credentials: &Credentials) -> HeaderValue {
    let Credentials { user, password } = credentials;
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value =
        HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is printable ASCII");
    value.set_sensitive(true);
    value
}

/// The numbers of RFC 1928 and RFC 1929.
mod socks {
    pub const VERSION: u8 = 5;
    pub const NO_AUTHENTICATION: u8 = 0;
    pub const USER_AND_PASSWORD: u8 = 2;
    pub const NO_METHOD: u8 = 0xff;
    pub const NEGOTIATION: u8 = 1;
    pub const CONNECT: u8 = 1;
    pub const IPV4: u8 = 1;
    pub const NAME: u8 = 3;
    pub const IPV6: u8 = 4;
    pub const SUCCEEDED: u8 = 0;
    pub const NOT_ALLOWED: u8 = 2;
    /// Meanings of the reply codes.
    pub const REPLIES: [&str; 9] = [
        "succeeded",
        "general failure",
        "not allowed by the ruleset",
        "network unreachable",
        "host unreachable",
        "connection refused",
        "TTL expired",
        "command not supported",
        "address type not supported",
    ];
}

/// Opens a tunnel with SOCKS5. Reads each message to its exact length, at most 262 bytes.
/// (tokio-socks needs a second thiserror, and hyper-util's version a whole connector; neither
/// reports unknown reply codes.)
async fn socks5(proxy: &Proxy, endpoint: &Endpoint, mut socket: Counted) -> Result<Counted> {
    let broken = |e: io::Error| failed(proxy, &format!("SOCKS5: {e}"));
    let refused = |why: &str| failed(proxy, &format!("SOCKS5: {why}")).with_retryable(false);

    let methods: &[u8] = match proxy.credentials {
        None => &[socks::VERSION, 1, socks::NO_AUTHENTICATION],
        Some(_) => &[
            socks::VERSION,
            2,
            socks::NO_AUTHENTICATION,
            socks::USER_AND_PASSWORD,
        ],
    };
    socket.write_all(methods).await.map_err(broken)?;
    let [version, method] = read(&mut socket).await.map_err(broken)?;
    if version != socks::VERSION {
        return Err(refused(&format!(
            "the proxy answered with version {version} (expected 5)"
        )));
    }
    match (method, &proxy.credentials) {
        (socks::NO_AUTHENTICATION, _) => {}
        (socks::USER_AND_PASSWORD, Some(credentials)) => {
            socket
                .write_all(&user_and_password(credentials))
                .await
                .map_err(broken)?;
            let [_, status] = read(&mut socket).await.map_err(broken)?;
            if status != socks::SUCCEEDED {
                return Err(refused("the proxy rejected the user name and password"));
            }
        }
        (socks::NO_METHOD, None) => {
            return Err(refused(
                "the proxy requires a user name and password: put them into its URL",
            ));
        }
        (socks::NO_METHOD, Some(_)) => {
            return Err(refused(
                "the proxy does not accept a user name and password",
            ));
        }
        _ => {
            return Err(refused(&format!(
                "the proxy chose authentication method {method}, which was not offered"
            )));
        }
    }

    socket
        .write_all(
            &request(endpoint)
                .ok_or_else(|| refused("the endpoint's name is longer than 255 bytes"))?,
        )
        .await
        .map_err(broken)?;
    let [version, reply, _, kind] = read(&mut socket).await.map_err(broken)?;
    if version != socks::VERSION {
        return Err(refused(&format!(
            "the proxy answered with version {version} (expected 5)"
        )));
    }
    if reply != socks::SUCCEEDED {
        let meaning = socks::REPLIES.get(usize::from(reply)).unwrap_or(&"unknown");
        let error = failed(proxy, &format!("SOCKS5: reply {reply}: {meaning}"));
        return Err(error.with_retryable(reply != socks::NOT_ALLOWED));
    }
    // Skips the proxy's outgoing address, because TLS starts after it.
    let len = match kind {
        socks::IPV4 => 4,
        socks::IPV6 => 16,
        socks::NAME => {
            let [len] = read(&mut socket).await.map_err(broken)?;
            usize::from(len)
        }
        _ => {
            return Err(refused(&format!(
                "the proxy answered with an address of unknown type {kind}"
            )));
        }
    };
    let mut rest = vec![0; len + size_of::<u16>()];
    socket.read_exact(&mut rest).await.map_err(broken)?;
    Ok(socket)
}

async fn read<const LEN: usize>(socket: &mut Counted) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// RFC 1929, section 2. The parser of the proxy's URL has checked the lengths.
fn user_and_password(credentials: &Credentials) -> Vec<u8> {
    let mut message = vec![socks::NEGOTIATION];
    for text in [&credentials.user, &credentials.password] {
        message.push(text.len() as u8);
        message.extend(text.as_bytes());
    }
    message
}

/// RFC 1928, section 4. Leaves names to the proxy to resolve.
fn request(endpoint: &Endpoint) -> Option<Vec<u8>> {
    let mut message = vec![socks::VERSION, socks::CONNECT, 0];
    match endpoint.host().parse() {
        Ok(IpAddr::V4(address)) => {
            message.push(socks::IPV4);
            message.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            message.push(socks::IPV6);
            message.extend(address.octets());
        }
        Err(_) => {
            message.extend([socks::NAME, u8::try_from(endpoint.host().len()).ok()?]);
            message.extend(endpoint.host().as_bytes());
        }
    }
    message.extend(endpoint.port().to_be_bytes());
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_schemes_of_a_challenge_are_named() {
        for (values, expected) in [
            (&[][..], &[][..]),
            (&["Basic realm=\"a\""], &["Basic"]),
            (&["basic realm=\"Digest, Negotiate\""], &["Basic"]),
            (&["NTLM", "Negotiate abc=="], &["Negotiate", "NTLM"]),
            (
                &["Digest realm=\"x\", nonce=\"a, Bearer b\", qop=auth, Basic realm=\"x\""],
                &["Basic", "Digest"],
            ),
            (&["Digest realm=x, Bearer = y"], &["Digest"]),
            (&["bWU6aHVudGVyMg==, x y, ,,", "Custom", ""], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PROXY_AUTHENTICATE, HeaderValue::from_static(value));
            }
            assert_eq!(schemes(&headers), expected, "{values:?}");
        }
    }
}
