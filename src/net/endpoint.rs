//! The endpoint's URL and the token, checked before any look-up (protocol section 1).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::{Host, Url};

use crate::clock::in_words;
use crate::error::{Error, Result, Status};

/// The account's secret token. Leaves this type only in the request line of the upgrade. Clones
/// share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The longest token, so that servers accept the request line.
    pub const MAX_LEN: usize = 8_192;

    /// Accepts a token in any format, without a newline at its end. Refuses characters that often
    /// get copied along with a token, because the published server would only answer 500.
    pub fn new(text: &str) -> Result<Token> {
        let token = match text.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => text,
        };
        if token.len() > Self::MAX_LEN {
            let (len, most) = (token.len(), Self::MAX_LEN);
            let message = format!("token: it has {len} bytes (at most {most})");
            return Err(Error::new(Status::TooLarge, message));
        }
        match flaw(token) {
            Some(flaw) => {
                let message = format!("token: {flaw}");
                Err(Error::new(Status::InvalidArgument, message))
            }
            None => Ok(Token(token.into())),
        }
    }

    /// Returns the token's `exp` in Unix seconds, if it is a JWT with one. Unverified: only used to
    /// ask for the next token in time (protocol section 1).
    pub fn ends(&self) -> Option<u64> {
        #[derive(serde::Deserialize)]
        struct Claims {
            exp: u64,
        }
        let mut parts = self.0.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        Some(claims.exp)
    }

    /// Returns the token's `exp`, if it is not after `now`.
    pub fn ended(&self, now: u64) -> Option<u64> {
        self.ends().filter(|end| *end <= now)
    }

    /// Adds to an error that the token had expired before `now`, if so.
    pub fn explain(&self, error: Error, now: u64) -> Error {
        let Some(end) = self.ended(now) else {
            return error;
        };
        let (end, now) = (in_words(end), in_words(now));
        error.adding(&format!(
            "The token expired at {end}, by its `exp`; this device's clock says {now}."
        ))
    }
}

/// Describes what is wrong with a token, without repeating it.
fn flaw(token: &str) -> Option<&'static str> {
    const QUOTES: [char; 7] = [
        '"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}',
    ];
    const SCHEME: &str = "Bearer ";
    let start = token.trim_start_matches('\u{feff}').get(..SCHEME.len());
    if token.is_empty() {
        Some("it is empty")
    } else if start.is_some_and(|start| start.eq_ignore_ascii_case(SCHEME)) {
        Some("it begins with `Bearer `; pass only the token")
    } else if token.contains('\u{feff}') {
        Some("it contains a byte order mark; save its file without one")
    } else if token.contains(QUOTES) {
        Some("it contains quotes; pass the token without them")
    } else if token.contains(char::is_whitespace) {
        Some("it contains white space; pass only the token")
    } else if token.contains(char::is_control) {
        Some("it contains a control character")
    } else {
        None
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A server to connect to, with TLS, or without it on loopback.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    secure: bool,
}

impl Endpoint {
    /// Confer's service.
    pub const PRODUCTION: &str = "wss://inference.confer.to/websocket";
    /// The longest accepted URL.
    pub const MAX_LEN: usize = 2_048;

    /// Parses a WebSocket URL. It has no token: the library adds it.
    pub fn websocket(text: &str) -> Result<Endpoint> {
        let endpoint = Self::parse(text, "wss", "ws")?;
        if endpoint.url.query_pairs().any(|(name, _)| name == "token") {
            return Err(invalid("it contains a token; set the token separately"));
        }
        Ok(endpoint)
    }

    /// Parses the URL of a key set. The policy's parser has already refused other schemes.
    pub fn https(text: &str) -> Result<Endpoint> {
        Self::parse(text, "https", "http")
    }

    fn parse(text: &str, with_tls: &str, plain: &str) -> Result<Endpoint> {
        if text.len() > Self::MAX_LEN {
            return Err(invalid(&format!(
                "it has {} bytes (at most {})",
                text.len(),
                Self::MAX_LEN
            )));
        }
        // Errors do not repeat the text, because it may contain a credential.
        let url = Url::parse(text).map_err(|e| match e {
            url::ParseError::RelativeUrlWithoutBase => {
                invalid(&format!("it does not begin with {with_tls}://"))
            }
            _ => invalid(&format!("it is not a URL: {e}")),
        })?;
        let secure = match url.scheme() {
            scheme if scheme == with_tls => true,
            scheme if scheme == plain => false,
            _ => {
                return Err(invalid(&format!("its scheme is not {with_tls} or {plain}")));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it contains a user name or password"));
        }
        if url.fragment().is_some() {
            return Err(invalid("it has a fragment"));
        }
        let endpoint = Endpoint { url, secure };
        // Accepts only names that can be loopback. `check_address` checks the address of the name.
        let loopback = match endpoint.url.host() {
            None => return Err(invalid("it has no host")),
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
        };
        if !endpoint.secure && !loopback {
            return Err(invalid(&format!(
                "{plain}:// is for loopback addresses only; use {with_tls}://"
            )));
        }
        Ok(endpoint)
    }

    /// Returns whether the endpoint uses TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Returns the host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        unbracketed(self.url.host_str().expect("checked when it was read"))
    }

    /// Returns host and port, always both, as a proxy needs them.
    pub(super) fn host_and_port(&self) -> String {
        let host = self.url.host_str().expect("checked when it was read");
        format!("{host}:{}", self.port())
    }

    /// Returns the `Host` header: the host, and the port unless it is the default.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().expect("checked when it was read");
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Returns the port, or the scheme's default.
    pub fn port(&self) -> u16 {
        self.url
            .port()
            .unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// Returns path and query, for a request without a token.
    pub fn target(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    /// Returns the URL with the percent-encoded token. Only this function turns a token into text.
    pub(super) fn with_token(&self, token: &Token) -> Url {
        // Form encoding differs from percent-encoding only for spaces, and a token has no space.
        let encoded: String = url::form_urlencoded::byte_serialize(token.0.as_bytes()).collect();
        let token = format!("token={encoded}");
        let query = match self.url.query() {
            Some(query) if !query.is_empty() => format!("{query}&{token}"),
            _ => token,
        };
        let mut url = self.url.clone();
        url.set_query(Some(&query));
        url
    }

    /// Checks that a plain connection stays on this machine, whatever its name resolves to.
    pub(super) fn check_address(&self, address: &SocketAddr) -> Result<()> {
        if self.secure || address.ip().is_loopback() {
            return Ok(());
        }
        Err(invalid(&format!(
            "{} resolves to {}, which is not a loopback address",
            self.host(),
            address.ip()
        )))
    }
}

/// Removes the brackets that an IPv6 address has in a URL.
pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
}

fn invalid(why: &str) -> Error {
    Error::new(Status::InvalidUrl, format!("endpoint: {why}"))
}

/// Omits the query, because it may contain a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.url.scheme(),
            self.authority(),
            self.url.path()
        )
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connection_is_only_for_loopback() {
        for good in [
            "ws://127.0.0.1:1/websocket",
            "ws://127.9.9.9/",
            "ws://[::1]:8/x",
            "ws://localhost:80/x",
        ] {
            assert!(Endpoint::websocket(good).is_ok(), "{good}");
        }
        for bad in [
            "ws://example.com/",
            "ws://10.0.0.1/",
            "ws://localhost.example.com/",
            "ws://0.0.0.0/",
            "ws://[::]/",
        ] {
            let error = Endpoint::websocket(bad).unwrap_err();
            assert_eq!(error.status(), Status::InvalidUrl, "{bad}");
            assert!(error.message().contains("use wss://"), "{error}");
        }
        for bad in ["", "example.com/websocket", "/websocket"] {
            let error = Endpoint::websocket(bad).unwrap_err();
            assert!(
                error.message().contains("does not begin with wss://"),
                "{error}"
            );
        }
        let error = Endpoint::https("http://example.com/").unwrap_err();
        assert!(error.message().contains("use https://"), "{error}");
    }

    #[test]
    fn name_with_another_address_than_loopback_is_refused() {
        let endpoint = Endpoint::websocket("ws://localhost:1/").unwrap();
        assert!(
            endpoint
                .check_address(&"127.0.0.1:1".parse().unwrap())
                .is_ok()
        );
        assert!(
            endpoint
                .check_address(&"192.0.2.1:1".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn invalid_urls_are_refused() {
        for bad in [
            "",
            "nonsense",
            "http://127.0.0.1/",
            "https://example.com/",
            "file:///etc/passwd",
            "wss://",
            "wss://user@example.com/",
            "wss://user:pass@example.com/",
            "wss://example.com/#x",
            "wss://example.com/?token=abc",
        ] {
            let error = Endpoint::websocket(bad).unwrap_err();
            assert_eq!(error.status(), Status::InvalidUrl, "{bad}");
            assert!(!error.message().contains("user:pass"), "{error}");
        }
    }

    #[test]
    fn token_is_percent_encoded_and_never_shown() {
        let endpoint = Endpoint::websocket("wss://example.com/websocket?x=1").unwrap();
        let token = Token::new("a*b+&c=d/ü%20").unwrap();
        let url = endpoint.with_token(&token);
        assert_eq!(
            url.as_str(),
            "wss://example.com/websocket?x=1&token=a*b%2B%26c%3Dd%2F%C3%BC%2520"
        );
        assert_eq!(endpoint.to_string(), "wss://example.com/websocket");
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn flawed_token_is_refused_by_its_flaw_and_never_shown() {
        const SECRET: &str = "eyJhbGciOi.c2VjcmV0.c2ln";
        for (around, flaw) in [
            ("", "empty"),
            ("\n", "empty"),
            ("\r\n", "empty"),
            (" ", "white space"),
            (" *", "white space"),
            ("* ", "white space"),
            ("*\n\n", "white space"),
            ("*\r", "white space"),
            ("*\t*", "white space"),
            ("*\u{a0}*", "white space"),
            ("\u{feff}*", "byte order mark"),
            ("*\u{feff}", "byte order mark"),
            ("\"*\"", "quotes"),
            ("'*'", "quotes"),
            ("\u{201c}*\u{201d}", "quotes"),
            ("Bearer *", "`Bearer `"),
            ("bearer *", "`Bearer `"),
            ("\u{feff}BEARER *", "`Bearer `"),
            ("*\0", "control character"),
            ("*\u{1b}[0m", "control character"),
        ] {
            let error = Token::new(&around.replace('*', SECRET)).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument, "{around:?}");
            assert!(error.message().starts_with("token: it "), "{error}");
            assert!(error.message().contains(flaw), "{around:?}: {error}");
            assert!(!error.message().contains(&SECRET[..6]), "{error}");
        }
    }

    #[test]
    fn one_trailing_newline_is_trimmed() {
        for text in ["a.b.c", "a.b.c\n", "a.b.c\r\n"] {
            assert_eq!(&*Token::new(text).unwrap().0, "a.b.c");
        }
        let longest = "x".repeat(Token::MAX_LEN);
        assert!(Token::new(&format!("{longest}\n")).is_ok());
        let error = Token::new(&format!("{longest}x")).unwrap_err();
        assert_eq!(error.status(), Status::TooLarge);
    }

    #[test]
    fn expired_token_is_explained_with_both_times() {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1701735000}"#);
        let token = Token::new(&format!("e30.{claims}.c2ln")).unwrap();
        let explain = |token: &Token, now| {
            let error = Error::new(Status::Upgrade, "refused.");
            token.explain(error, now).message().to_owned()
        };
        assert_eq!(token.ended(1_701_734_999), None);
        assert_eq!(explain(&token, 1_701_734_999), "refused.");
        assert_eq!(token.ended(1_701_735_000), Some(1_701_735_000));
        assert_eq!(
            explain(&token, 1_701_735_060),
            "refused. The token expired at 2023-12-05 00:10:00 UTC, by its `exp`; \
             this device's clock says 2023-12-05 00:11:00 UTC."
        );
        let opaque = Token::new("opaque").unwrap();
        assert_eq!(explain(&opaque, u64::MAX), "refused.");
    }

    #[test]
    fn host_and_port_come_from_the_url() {
        let of = |text| {
            let e = Endpoint::websocket(text).unwrap();
            let both = (e.authority(), e.host_and_port());
            (e.host().to_owned(), e.port(), both.0, both.1)
        };
        for (url, host, port, authority, both) in [
            (
                "wss://example.com/x",
                "example.com",
                443,
                "example.com",
                "example.com:443",
            ),
            ("ws://[::1]/x", "::1", 80, "[::1]", "[::1]:80"),
            (
                "ws://127.0.0.1:81/x",
                "127.0.0.1",
                81,
                "127.0.0.1:81",
                "127.0.0.1:81",
            ),
        ] {
            assert_eq!(of(url), (host.into(), port, authority.into(), both.into()));
        }
    }
}
