//! Selects the proxy of a connection, if any: the application's, or that of its environment.
//!
//! Does not connect: `tunnel` does. An invalid proxy URL is an error, because a direct connection
//! instead could send traffic where it must not go.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::Url;

use super::Endpoint;
use crate::error::{Error, Result, Status};

/// Environment variables with a proxy for TLS. The first that is not empty counts. `HTTP_PROXY` is
/// ignored, because it is for plain connections, which never leave the machine.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Environment variables with the hosts to reach without a proxy.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Default port of HTTP URLs. (curl uses 1080 for HTTP proxies too.)
const HTTP_PORT: u16 = 80;
/// RFC 1928, section 3.
const SOCKS_PORT: u16 = 1080;
/// RFC 1929, section 2: a length is one byte and not zero.
const MAX_SOCKS_CREDENTIAL: usize = 255;

/// A proxy between this machine and an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) protocol: Protocol,
    host: String,
    port: u16,
    pub(super) credentials: Option<Credentials>,
}

/// The protocol that requests a tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RFC 9110, section 9.3.6.
    Connect,
    /// RFC 1928.
    Socks5,
}

/// Credentials for a proxy. A secret: it has no `Debug`, and only `tunnel` reads it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// An application's choice of proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxies {
    /// None.
    #[default]
    Direct,
    /// Use this proxy for each connection.
    Always(Proxy),
    /// Use the environment's proxy, except for the hosts in its list.
    Except(Proxy, String),
}

impl Proxies {
    /// Reads the application's proxy. An empty URL means none.
    pub fn given(url: &str) -> Result<Proxies> {
        match url {
            "" => Ok(Proxies::Direct),
            url => Proxy::parse("proxy", url).map(Proxies::Always),
        }
    }

    /// Reads the environment with `read`. An empty variable means none, as in curl.
    pub fn from_environment(read: impl Fn(&str) -> Option<OsString>) -> Result<Proxies> {
        let first = |names: &[&'static str]| {
            let found = names
                .iter()
                .find_map(|name| Some((*name, read(name).filter(|value| !value.is_empty())?)));
            found
                .map(|(name, value)| {
                    let text = value.into_string();
                    text.map(|text| (name, text))
                        .map_err(|_| invalid(name, "it is not UTF-8"))
                })
                .transpose()
        };
        let Some((name, url)) = first(&VARIABLES)? else {
            return Ok(Proxies::Direct);
        };
        let proxy = Proxy::parse(name, &url)?;
        let exceptions = first(&EXCEPTIONS)?.map_or_else(String::new, |(_, list)| list);
        Ok(Proxies::Except(proxy, exceptions))
    }

    /// Returns the proxy for `endpoint`. A plain endpoint is on this machine, and a proxy would
    /// connect to its own loopback instead. So the environment's proxy is not used for it, and an
    /// explicit one is an error.
    pub fn between(&self, endpoint: &Endpoint) -> Result<Option<&Proxy>> {
        match self {
            Proxies::Direct => Ok(None),
            Proxies::Always(_) if !endpoint.secure() => Err(invalid(
                "endpoint",
                &format!(
                    "{endpoint} is on this machine, where a proxy cannot reach it: use wss://, or no proxy"
                ),
            )),
            Proxies::Always(proxy) => Ok(Some(proxy)),
            Proxies::Except(proxy, list) => {
                let used = endpoint.secure() && !is_exempt(list, endpoint.host());
                Ok(used.then_some(proxy))
            }
        }
    }
}

impl Proxy {
    /// Reads a proxy's URL. Without a scheme it is an HTTP proxy, as in curl. Errors call it `name`
    /// and never quote it, because it may contain a password.
    fn parse(name: &str, text: &str) -> Result<Proxy> {
        let refused = |why: &str| invalid(name, why);
        if text.len() > Endpoint::MAX_LEN {
            let (len, max) = (text.len(), Endpoint::MAX_LEN);
            return Err(refused(&format!("it has {len} bytes (at most {max})")));
        }
        let text = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let url = Url::parse(&text).map_err(|e| refused(&format!("it is not a URL: {e}")))?;
        let (protocol, port) = match url.scheme() {
            "http" => (Protocol::Connect, HTTP_PORT),
            // The proxy resolves names for both: it may know more of them, and the network sees
            // none.
            "socks5" | "socks5h" => (Protocol::Socks5, SOCKS_PORT),
            _ => return Err(refused("its scheme is not http, socks5 or socks5h")),
        };
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(refused("it has no host"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it has a path, a query or a fragment"));
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from)
                .map_err(|_| refused("its user name or password is not UTF-8"))
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(Credentials {
                user: decoded(user)?,
                password: decoded(password.unwrap_or_default())?,
            }),
        };
        if let Some(Credentials { user, password }) = &credentials {
            let fits = |text: &str| (1..=MAX_SOCKS_CREDENTIAL).contains(&text.len());
            match protocol {
                // RFC 7617, section 2.
                Protocol::Connect if user.contains(':') => {
                    return Err(refused("its user name contains a colon"));
                }
                Protocol::Socks5 if !fits(user) || !fits(password) => {
                    return Err(refused(
                        "its user name and password must have 1 to 255 bytes each (SOCKS5)",
                    ));
                }
                _ => {}
            }
        }
        Ok(Proxy {
            protocol,
            host: super::endpoint::unbracketed(host).to_owned(),
            port: url.port().unwrap_or(port),
            credentials,
        })
    }

    /// Host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Omits the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Connect => "http",
            Protocol::Socks5 => "socks5",
        };
        let Proxy { host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "proxy {scheme}://[{host}]:{port}"),
            false => write!(f, "proxy {scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn invalid(name: &str, why: &str) -> Error {
    Error::new(Status::InvalidUrl, format!("{name}: {why}"))
}

/// Returns whether a list of exceptions contains the host, by curl's rules (CURLOPT_NOPROXY(3)).
/// Commas or spaces separate entries. `*` is every host. A name, with or without a leading dot,
/// also covers its subdomains. An address may have a prefix length. hyper-util's matcher does not
/// fit: its `*` does not cover addresses, and it ignores a proxy that it cannot read.
fn is_exempt(list: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ', '\t']).any(|entry| match address {
        _ if entry == "*" => true,
        Some(address) => covers(entry, address),
        None => {
            let domain = entry.strip_prefix('.').unwrap_or(entry);
            let domain = domain.strip_suffix('.').unwrap_or(domain);
            let below = host.len().checked_sub(domain.len());
            !domain.is_empty()
                && below
                    .and_then(|at| host.split_at_checked(at))
                    .is_some_and(|(before, end)| {
                        end.eq_ignore_ascii_case(domain)
                            && (before.is_empty() || before.ends_with('.'))
                    })
        }
    })
}

/// Returns whether an entry is this address, or a network that contains it.
fn covers(entry: &str, address: IpAddr) -> bool {
    let (network, length) = match entry.split_once('/') {
        Some((network, length)) => (network, Some(length)),
        None => (entry, None),
    };
    let Ok(network) = super::endpoint::unbracketed(network).parse() else {
        return false;
    };
    let (difference, width) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a) ^ u32::from(b)), u32::BITS),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b), u128::BITS),
        _ => return false,
    };
    let length = length.map_or(Ok(width), str::parse::<u32>);
    length.is_ok_and(|length| {
        length <= width && difference.checked_shr(width - length).unwrap_or(0) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::from_environment(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn to(url: &str) -> Endpoint {
        Endpoint::websocket(url).unwrap()
    }

    #[test]
    fn proxy_url_gives_scheme_port_and_credentials() {
        let of = |text: &str| {
            let proxy = Proxy::parse("proxy", text).unwrap();
            let credentials = proxy.credentials.as_ref();
            let credentials = credentials.map(|c| format!("{}|{}", c.user, c.password));
            (proxy.to_string(), proxy.host().to_owned(), credentials)
        };
        let plain = |shown: &str, host: &str| (shown.into(), host.into(), None);
        for (text, shown, host) in [
            (
                "http://proxy.test",
                "proxy http://proxy.test:80",
                "proxy.test",
            ),
            (
                "http://proxy.test:3128/",
                "proxy http://proxy.test:3128",
                "proxy.test",
            ),
            (
                "proxy.test:3128",
                "proxy http://proxy.test:3128",
                "proxy.test",
            ),
            ("192.0.2.1:8080", "proxy http://192.0.2.1:8080", "192.0.2.1"),
            (
                "http://[2001:db8::1]:80",
                "proxy http://[2001:db8::1]:80",
                "2001:db8::1",
            ),
            (
                "socks5://proxy.test",
                "proxy socks5://proxy.test:1080",
                "proxy.test",
            ),
            ("socks5h://[::1]:9050", "proxy socks5://[::1]:9050", "::1"),
        ] {
            assert_eq!(of(text), plain(shown, host), "{text}");
        }
        let secrets = |text: &str| of(text).2.unwrap();
        assert_eq!(secrets("http://me:p%40ss%3Aw%2F@h:1"), "me|p@ss:w/");
        assert_eq!(secrets("http://me@h:1"), "me|");
        assert_eq!(secrets("socks5://m%C3%A9:x@h"), "mé|x");
    }

    #[test]
    fn invalid_proxy_is_refused_without_quoting_its_password() {
        let long = format!("socks5://hunter2:{}@h", "x".repeat(256));
        let longer = format!("http://hunter2:{}@h", "x".repeat(Endpoint::MAX_LEN));
        for bad in [
            "https://me:hunter2@h:1",
            "socks4://hunter2@h",
            "ftp://hunter2@h",
            "http://",
            "http://me:hunter2@",
            "socks5://hunter2:@h",
            "socks5://:hunter2@h",
            "socks5://me:hunter2@/x",
            "http://a%3Ab:hunter2@h",
            "http://me:hunter2%ff@h",
            "http://me:hunter2@h/path",
            "http://me:hunter2@h?query",
            "http://me:hunter2@h#fragment",
            "http://me:hunter2@h:99999",
            "http://me:hunter2@a b",
            &long,
            &longer,
        ] {
            let error = Proxies::given(bad).unwrap_err();
            assert_eq!(error.status(), Status::InvalidUrl, "{bad}");
            assert!(error.message().starts_with("proxy: "), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
            let error = environment(&[("ALL_PROXY", bad)]).unwrap_err();
            assert!(error.message().starts_with("ALL_PROXY: "), "{error}");
        }
        let proxies = Proxies::given("http://me:hunter2@h").unwrap();
        assert!(!format!("{proxies:?}").contains("hunter2"), "{proxies:?}");
    }

    #[test]
    fn first_variable_that_is_not_empty_counts() {
        assert_eq!(environment(&[]).unwrap(), Proxies::Direct);
        assert_eq!(
            environment(&[("HTTP_PROXY", "http://a")]).unwrap(),
            Proxies::Direct
        );
        let all = [
            ("all_proxy", "socks5://d"),
            ("ALL_PROXY", "socks5://c"),
            ("https_proxy", "http://b"),
            ("HTTPS_PROXY", "http://a"),
        ];
        for (count, expected) in ["d:1080", "c:1080", "b:80", "a:80"].iter().enumerate() {
            let proxies = environment(&all[..=count]).unwrap();
            let proxy = proxies.between(&to("wss://example.com/")).unwrap().unwrap();
            assert!(proxy.to_string().ends_with(expected), "{proxy}");
        }
        let empty = [("HTTPS_PROXY", ""), ("all_proxy", "h")];
        assert!(matches!(environment(&empty).unwrap(), Proxies::Except(..)));
        assert_eq!(environment(&empty[..1]).unwrap(), Proxies::Direct);
    }

    #[test]
    fn no_proxy_follows_curls_rules() {
        for (list, host, exempt) in [
            ("", "example.com", false),
            (",, ,", "example.com", false),
            ("*", "example.com", true),
            ("*", "192.0.2.1", true),
            ("a.test, *", "2001:db8::1", true),
            ("example.com", "example.com", true),
            ("EXAMPLE.com", "example.COM", true),
            ("example.com", "inference.example.com", true),
            (".example.com", "inference.example.com", true),
            (".example.com", "example.com", true),
            ("example.com.", "example.com", true),
            ("example.com", "example.com.", true),
            ("example.com", "notexample.com", false),
            ("example.com", "example.com.evil.test", false),
            ("inference.example.com", "example.com", false),
            ("*.example.com", "inference.example.com", false),
            (".", "example.com", false),
            ("a.test b.test\tc.test", "c.test", true),
            ("é.test", "xx.test", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "192.0.2.77", true),
            ("192.0.2.0/24", "192.0.3.77", false),
            ("192.0.2.0/33", "192.0.2.0", false),
            ("192.0.2.0/x", "192.0.2.0", false),
            ("192.0.2.0/", "192.0.2.0", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2.1", "192.0.2.1", false),
        ] {
            assert_eq!(is_exempt(list, host), exempt, "{list} {host}");
        }
    }

    #[test]
    fn only_the_environments_proxy_respects_no_proxy() {
        let variables = [("HTTPS_PROXY", "http://p"), ("no_proxy", "example.com,::1")];
        let proxies = environment(&variables).unwrap();
        let given = Proxies::given("http://p").unwrap();
        for (url, proxied) in [
            ("wss://example.com/", false),
            ("wss://[::1]/", false),
            ("wss://example.org/", true),
            ("wss://localhost/", true),
        ] {
            let endpoint = to(url);
            assert_eq!(
                proxies.between(&endpoint).unwrap().is_some(),
                proxied,
                "{url}"
            );
            assert!(given.between(&endpoint).unwrap().is_some(), "{url}");
            assert!(Proxies::Direct.between(&endpoint).unwrap().is_none());
        }
    }

    #[test]
    fn plain_connection_never_uses_a_proxy() {
        let plain = to("ws://127.0.0.1:1/websocket");
        let environments = environment(&[("HTTPS_PROXY", "http://p")]).unwrap();
        assert!(environments.between(&plain).unwrap().is_none());
        let error = Proxies::given("http://p").unwrap();
        let error = error.between(&plain).unwrap_err();
        assert_eq!(error.status(), Status::InvalidUrl);
        assert!(error.message().contains("ws://127.0.0.1:1"), "{error}");
    }
}
