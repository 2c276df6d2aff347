//! The one error of this crate: what went wrong, in words that are safe to log, and what a caller can do about it.
//!
//! Responsible for the list of statuses (the C constants of `ffi/status.rs` are held against it) and for what each
//! of them implies. It must never know a token, a prompt, an answer or a key: whoever makes an error passes texts
//! that hold none.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::attestation::Evidenced;

/// How a call or a stream ended. The numbers are those of the C API and are never changed.
///
/// Families are spaced by a hundred: 1xx the caller's mistake, 2xx ended on this side, 3xx the network,
/// 4xx the peer broke the protocol, 5xx the enclave was refused, 6xx the enclave answered, but not with 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // each is described once, in `description`, which the header repeats
pub enum Status {
    Ok = 0,
    Timeout = 1,
    End = 2,

    InvalidArgument = 100,
    InvalidUtf8 = 101,
    InvalidUrl = 102,
    InvalidJson = 103,
    InvalidPolicy = 104,
    Busy = 105,
    WouldDeadlock = 106,
    Forked = 107,
    File = 108,
    TooLarge = 109,
    TooMany = 110,

    Cancelled = 200,
    Closed = 201,
    Stopped = 202,
    Panic = 203,
    System = 204,
    Token = 205,
    Expired = 206,

    Resolve = 300,
    Connect = 301,
    Tls = 302,
    Upgrade = 303,
    StageTimeout = 304,
    ConnectionLost = 305,
    DeadPeer = 306,
    Proxy = 307,

    Protocol = 400,
    Handshake = 401,
    Decrypt = 402,
    Frame = 403,
    Limit = 404,
    Event = 405,

    Rejected = 500,
    ReleaseRefused = 501,

    Refused = 600,
    Unauthorized = 601,
    PaymentRequired = 602,
    StreamIdle = 603,
    SlowConsumer = 604,
    ToolRounds = 605,
}

impl Status {
    /// Every status with the name of its C constant and one sentence.
    pub const ALL: &'static [(Status, &'static str, &'static str)] = &[
        (Status::Ok, "CONFER_OK", "success"),
        (
            Status::Timeout,
            "CONFER_TIMEOUT",
            "the time was up before there was anything to return",
        ),
        (Status::End, "CONFER_END", "the stream is over"),
        (
            Status::InvalidArgument,
            "CONFER_E_INVALID_ARGUMENT",
            "an argument is missing or outside its bounds",
        ),
        (
            Status::InvalidUtf8,
            "CONFER_E_INVALID_UTF8",
            "a text argument is not UTF-8",
        ),
        (
            Status::InvalidUrl,
            "CONFER_E_INVALID_URL",
            "the endpoint is not a URL that this library connects to",
        ),
        (
            Status::InvalidJson,
            "CONFER_E_INVALID_JSON",
            "an argument is not the expected JSON",
        ),
        (
            Status::InvalidPolicy,
            "CONFER_E_INVALID_POLICY",
            "the policy document is not valid",
        ),
        (
            Status::Busy,
            "CONFER_E_BUSY",
            "another thread is in this call on the same handle",
        ),
        (
            Status::WouldDeadlock,
            "CONFER_E_WOULD_DEADLOCK",
            "a call that waits was made from a callback",
        ),
        (
            Status::Forked,
            "CONFER_E_FORKED",
            "the library was in use before this process was forked",
        ),
        (
            Status::File,
            "CONFER_E_FILE",
            "a local file cannot be read or written",
        ),
        (
            Status::TooLarge,
            "CONFER_E_TOO_LARGE",
            "an argument is larger than its limit",
        ),
        (
            Status::TooMany,
            "CONFER_E_TOO_MANY",
            "too many requests are open on this connection",
        ),
        (
            Status::Cancelled,
            "CONFER_E_CANCELLED",
            "cancelled by the application",
        ),
        (Status::Closed, "CONFER_E_CLOSED", "the client was closed"),
        (
            Status::Stopped,
            "CONFER_E_STOPPED",
            "a callback asked to stop",
        ),
        (
            Status::Panic,
            "CONFER_E_PANIC",
            "a defect in the library; the handle is unusable",
        ),
        (
            Status::System,
            "CONFER_E_SYSTEM",
            "the system refused a thread, a descriptor, memory or randomness",
        ),
        (
            Status::Token,
            "CONFER_E_TOKEN",
            "there is no token to connect with",
        ),
        (
            Status::Expired,
            "CONFER_E_EXPIRED",
            "the connection reached its maximum age, or its evidence expired",
        ),
        (
            Status::Resolve,
            "CONFER_E_RESOLVE",
            "the host name of the endpoint, or of the proxy, has no address",
        ),
        (
            Status::Connect,
            "CONFER_E_CONNECT",
            "no TCP connection to the endpoint, or to the proxy",
        ),
        (
            Status::Tls,
            "CONFER_E_TLS",
            "no TLS session with the endpoint",
        ),
        (
            Status::Upgrade,
            "CONFER_E_UPGRADE",
            "the endpoint refused the WebSocket upgrade",
        ),
        (
            Status::StageTimeout,
            "CONFER_E_STAGE_TIMEOUT",
            "connecting exceeded a time limit",
        ),
        (
            Status::ConnectionLost,
            "CONFER_E_CONNECTION_LOST",
            "the connection broke or was closed by the peer",
        ),
        (
            Status::DeadPeer,
            "CONFER_E_DEAD_PEER",
            "the peer no longer answers keepalive pings",
        ),
        (
            Status::Proxy,
            "CONFER_E_PROXY",
            "the proxy refused or failed the tunnel",
        ),
        (
            Status::Protocol,
            "CONFER_E_PROTOCOL",
            "the peer broke the protocol",
        ),
        (
            Status::Handshake,
            "CONFER_E_HANDSHAKE",
            "the Noise handshake failed",
        ),
        (
            Status::Decrypt,
            "CONFER_E_DECRYPT",
            "a Noise message does not authenticate",
        ),
        (
            Status::Frame,
            "CONFER_E_FRAME",
            "a transport frame is malformed or breaks a reassembly rule",
        ),
        (Status::Limit, "CONFER_E_LIMIT", "the peer exceeded a bound"),
        (
            Status::Event,
            "CONFER_E_EVENT",
            "a streamed answer contains bytes that are not an event",
        ),
        (
            Status::Rejected,
            "CONFER_E_REJECTED",
            "the enclave's evidence does not satisfy the policy",
        ),
        (
            Status::ReleaseRefused,
            "CONFER_E_RELEASE_REFUSED",
            "the enclave's release has changed, and the application refused it",
        ),
        (
            Status::Refused,
            "CONFER_E_REFUSED",
            "the enclave answered with a status other than 200",
        ),
        (
            Status::Unauthorized,
            "CONFER_E_UNAUTHORIZED",
            "the enclave answered 401: a fresh token is needed",
        ),
        (
            Status::PaymentRequired,
            "CONFER_E_PAYMENT_REQUIRED",
            "the enclave answered 402: a fresh token is needed",
        ),
        (
            Status::StreamIdle,
            "CONFER_E_STREAM_IDLE",
            "a streamed answer stopped without an end",
        ),
        (
            Status::SlowConsumer,
            "CONFER_E_SLOW_CONSUMER",
            "the application reads a stream too slowly",
        ),
        (
            Status::ToolRounds,
            "CONFER_E_TOOL_ROUNDS",
            "the model still calls tools after the last round that was allowed",
        ),
    ];

    fn entry(self) -> (&'static str, &'static str) {
        Self::ALL
            .iter()
            .find(|(status, ..)| *status == self)
            .map_or(("CONFER_E_UNKNOWN", "unknown"), |(_, name, text)| {
                (name, text)
            })
    }

    /// The name of the C constant.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// One sentence that says what the status means.
    pub fn description(self) -> &'static str {
        self.entry().1
    }

    /// The rule on retries: one line for each kind of error. `confer_error_retryable()`, a client that reconnects, and the
    /// table in the header follow it. Where a status stands for several kinds, the code that makes the error tells them
    /// apart by [`Error::with_retry`].
    fn retry(self, http_status: Option<u16>) -> Retry {
        match self {
            // Passing states of this process.
            Status::Timeout | Status::Busy | Status::TooMany | Status::System => Retry::Later,

            // Success, mistakes of the caller, and what the caller asked for.
            Status::Ok
            | Status::End
            | Status::InvalidArgument
            | Status::InvalidUtf8
            | Status::InvalidUrl
            | Status::InvalidJson
            | Status::InvalidPolicy
            | Status::WouldDeadlock
            | Status::Forked
            | Status::File
            | Status::TooLarge
            | Status::Cancelled
            | Status::Closed
            | Status::Stopped
            | Status::SlowConsumer
            | Status::ToolRounds => Retry::Never,
            Status::Panic => Retry::Never,

            // The application's provider may have a token later.
            Status::Token => Retry::Later,
            // Another connection is young again.
            Status::Expired => Retry::Later,

            // The network. Certificates and proxies that refuse are told apart in `net/`.
            Status::Resolve
            | Status::Connect
            | Status::Tls
            | Status::StageTimeout
            | Status::ConnectionLost
            | Status::DeadPeer
            | Status::StreamIdle => Retry::Later,
            Status::Proxy => match http_status {
                Some(code) if !passes(code) => Retry::Never,
                _ => Retry::Later,
            },
            Status::Upgrade => match http_status {
                Some(401..=403) => Retry::FreshToken,
                Some(code) if !passes(code) => Retry::Never,
                _ => Retry::Later,
            },

            // Bytes that broke on the way: another connection may bring them whole.
            Status::Protocol
            | Status::Handshake
            | Status::Decrypt
            | Status::Frame
            | Status::Limit => Retry::Later,
            Status::Event => Retry::Never,

            // A refused enclave, but for passing trouble: `session/establish.rs` tells that apart.
            Status::Rejected | Status::ReleaseRefused => Retry::Never,

            // The enclave's own answers.
            Status::Refused => match http_status {
                Some(429 | 502..=504) => Retry::Later,
                _ => Retry::Never,
            },
            Status::Unauthorized | Status::PaymentRequired => Retry::FreshToken,
        }
    }
}

/// Whether an HTTP status tells of trouble that passes: a time-out, too many requests, or a failure of the server.
fn passes(http_status: u16) -> bool {
    matches!(http_status, 408 | 429 | 500..=599)
}

/// What helps after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing: the same again fails the same way.
    Never,
    /// Time.
    Later,
    /// A fresh token, and nothing else.
    FreshToken,
}

/// How far a request had come when it failed: what an application must know before it sends it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum Progress {
    /// Not a byte of the request left this process.
    #[default]
    NotSent = 0,
    /// Some or all of the request was handed to the network; the enclave may have acted on it.
    MaybeSent = 1,
    /// The enclave had begun to answer.
    PartlyAnswered = 2,
}

/// Why something failed. Cheap to clone: a broken connection gives the same error to each of its streams.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    status: Status,
    message: String,
    check: Option<&'static str>,
    http_status: Option<u16>,
    retry: Retry,
    retry_delay: Option<Duration>,
    progress: Progress,
    peer_text: Option<String>,
    report: Option<Arc<Evidenced>>,
}

/// Names the limit that the system reached, and says what to do, if `reason` says that there was no descriptor or no memory.
pub fn shortage(reason: &io::Error) -> Option<&'static str> {
    match reason.raw_os_error()? {
        libc::EMFILE => Some(
            "this process has all the files and sockets open that it may have; close some, or raise the limit (RLIMIT_NOFILE, ulimit -n)",
        ),
        libc::ENFILE => Some(
            "the system has all the files and sockets open that it may have (on Linux fs.file-max)",
        ),
        libc::ENOBUFS | libc::ENOMEM => Some("the system has no memory for it"),
        _ => None,
    }
}

/// What is kept of a refusal's text; the protocol calls it short.
const MAX_PEER_TEXT: usize = 1_024;

impl Error {
    /// An error with its status and a message that holds nothing secret.
    pub fn new(status: Status, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            status,
            message: message.into(),
            check: None,
            http_status: None,
            retry: status.retry(None),
            retry_delay: None,
            progress: Progress::NotSent,
            peer_text: None,
            report: None,
        }))
    }

    /// An error of an operation of the system. The status is [`Status::System`] where the system ran out of descriptors or
    /// memory, and `otherwise` for all other reasons. The message is `what` with the reason, and names the limit.
    pub fn io(otherwise: Status, what: impl fmt::Display, reason: &io::Error) -> Error {
        match shortage(reason) {
            Some(limit) => Error::new(Status::System, format!("{what}: {reason}: {limit}")),
            None => Error::new(otherwise, format!("{what}: {reason}")),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Error {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Adds the HTTP or response status that the peer gave, which says more on whether a retry can help.
    pub fn with_http_status(self, code: u16) -> Error {
        self.with(|e| {
            e.http_status = Some(code);
            e.retry = e.status.retry(Some(code));
        })
    }

    /// Adds the delay that the peer asked for.
    pub fn with_retry_delay(self, delay: Option<Duration>) -> Error {
        self.with(|e| e.retry_delay = delay)
    }

    /// Adds the reason that the enclave gave in its own words, cut to a bound and without control characters. It may
    /// repeat parts of the request, so it is no part of the message and in no format of this type.
    pub fn with_peer_text(self, text: &[u8]) -> Error {
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_PEER_TEXT)]);
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        self.with(|e| e.peer_text = Some(text.chars().map(shown).collect()))
    }

    /// Adds how far the request had come.
    pub fn with_progress(self, progress: Progress) -> Error {
        self.with(|e| e.progress = progress)
    }

    /// Says what helps, where the status stands for several kinds of error.
    pub fn with_retry(self, retry: Retry) -> Error {
        self.with(|e| e.retry = retry)
    }

    /// [`Error::with_retry`], where a fresh token is out of the question.
    pub fn with_retryable(self, retryable: bool) -> Error {
        self.with_retry(match retryable {
            true => Retry::Later,
            false => Retry::Never,
        })
    }

    /// Names the stage in front of the message, unless it does so by itself.
    pub fn during(self, stage: &str) -> Error {
        if self.0.message.starts_with(stage) {
            return self;
        }
        self.with(|e| e.message = format!("{stage}: {}", e.message))
    }

    /// Adds a sentence to the message.
    pub fn adding(self, sentence: &str) -> Error {
        self.with(|e| e.message += &format!(" {sentence}"))
    }

    /// Adds another error's message, as the reason behind this one.
    pub fn because(self, what: &str, cause: &Error) -> Error {
        let end = match cause.message().ends_with(['.', '?']) {
            true => "",
            false => ".",
        };
        self.with(|e| e.message += &format!(" {what}: {}{end}", cause.message()))
    }

    /// Adds the report of the enclave that was refused, and the check that decided.
    pub fn with_report(self, check: Option<&'static str>, report: Arc<Evidenced>) -> Error {
        self.with(|e| {
            e.check = check;
            e.report = Some(report);
        })
    }

    /// How the call or stream ended.
    pub fn status(&self) -> Status {
        self.0.status
    }
    /// What happened, for people: what was expected and what was found. Never a secret.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The id of the verification check that decided, for [`Status::Rejected`].
    pub fn check(&self) -> Option<&'static str> {
        self.0.check
    }
    /// The HTTP status of a refused upgrade or tunnel, or the status of a refused request.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }
    /// What helps.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }
    /// Whether the same call may succeed later, with the same token.
    pub fn retryable(&self) -> bool {
        self.0.retry == Retry::Later
    }
    /// How long the peer asked to wait before a retry.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }
    /// How far the request had come.
    pub fn progress(&self) -> Progress {
        self.0.progress
    }
    /// The reason of a refused request in the enclave's own words: to be shown to the user, and not to be logged.
    pub fn peer_text(&self) -> Option<&str> {
        self.0.peer_text.as_deref()
    }
    /// The report of the refused enclave.
    pub fn report(&self) -> Option<&Arc<Evidenced>> {
        self.0.report.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.status.name(), self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::Retry::{FreshToken, Later, Never};
    use super::*;

    /// The header's table holds every status without an HTTP status; see `ffi/error.rs`.
    #[test]
    fn http_status_decides_where_the_status_stands_for_several_kinds() {
        for (status, http_status, retry) in [
            (Status::Upgrade, 101, Never),
            (Status::Upgrade, 200, Never),
            (Status::Upgrade, 302, Never),
            (Status::Upgrade, 400, Never),
            (Status::Upgrade, 401, FreshToken),
            (Status::Upgrade, 402, FreshToken),
            (Status::Upgrade, 403, FreshToken),
            (Status::Upgrade, 404, Never),
            (Status::Upgrade, 408, Later),
            (Status::Upgrade, 429, Later),
            (Status::Upgrade, 500, Later),
            (Status::Upgrade, 503, Later),
            (Status::Proxy, 302, Never),
            (Status::Proxy, 403, Never),
            (Status::Proxy, 407, Never),
            (Status::Proxy, 429, Later),
            (Status::Proxy, 502, Later),
            (Status::Refused, 400, Never),
            (Status::Refused, 404, Never),
            (Status::Refused, 429, Later),
            (Status::Refused, 500, Never),
            (Status::Refused, 502, Later),
            (Status::Refused, 503, Later),
            (Status::Unauthorized, 401, FreshToken),
            (Status::PaymentRequired, 402, FreshToken),
        ] {
            let error = Error::new(status, "x").with_http_status(http_status);
            assert_eq!(error.retry(), retry, "{status:?} {http_status}");
            assert_eq!(error.retryable(), retry == Later);
        }
    }

    #[test]
    fn refused_enclave_is_never_retried_unless_told_otherwise() {
        for status in [Status::Rejected, Status::ReleaseRefused] {
            assert_eq!(Error::new(status, "x").retry(), Never);
        }
        let passing = Error::new(Status::Rejected, "x").with_retryable(true);
        assert!(passing.retryable());
    }

    #[test]
    fn running_out_of_descriptors_or_memory_is_retryable_and_names_the_limit() {
        for (number, limit) in [
            (libc::EMFILE, "RLIMIT_NOFILE"),
            (libc::ENFILE, "fs.file-max"),
            (libc::ENOBUFS, "memory"),
            (libc::ENOMEM, "memory"),
        ] {
            let reason = io::Error::from_raw_os_error(number);
            let error = Error::io(Status::Connect, "127.0.0.1:1", &reason);
            assert_eq!(error.status(), Status::System, "{error}");
            assert!(error.retryable());
            assert!(error.message().starts_with("127.0.0.1:1: "), "{error}");
            assert!(error.message().contains(limit), "{error}");
        }
    }

    #[test]
    fn other_failures_of_the_system_keep_their_status() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let error = Error::io(Status::Connect, "127.0.0.1:1", &refused);
        assert_eq!(error.status(), Status::Connect);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::io(Status::File, "policy.json", &missing);
        assert_eq!(error.message(), "policy.json: entity not found");
    }
}
