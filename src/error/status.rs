//! The status of calls and streams, and the rule that says which errors are retried.
//!
//! A test compares the C constants in `ffi/status.rs` with this list.

/// The result of a call or a stream. The numbers belong to the C API and never change.
///
/// Each hundred is a family: 1xx mistakes of the caller, 2xx ended on this side, 3xx network, 4xx
/// the peer broke the protocol, 5xx the enclave was refused, 6xx the enclave answered with an
/// error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // `description` describes each
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
    Stale = 111,
    NotConnected = 112,

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
    /// Every status, with the name of its C constant and a description.
    pub const ALL: &'static [(Status, &'static str, &'static str)] = &[
        (Status::Ok, "CONFER_OK", "success"),
        (
            Status::Timeout,
            "CONFER_TIMEOUT",
            "the time limit passed without a result",
        ),
        (Status::End, "CONFER_END", "the stream is complete"),
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
            "the URL of the endpoint or the proxy is not one that this library connects to",
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
            "a callback made a call that waits",
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
            "too many requests are open, or too many bytes wait to be sent",
        ),
        (
            Status::Stale,
            "CONFER_E_STALE",
            "the question, tool call or upload is already over",
        ),
        (
            Status::NotConnected,
            "CONFER_E_NOT_CONNECTED",
            "the client has not connected yet",
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
            "a callback returned a value other than 0",
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
        (Status::Token, "CONFER_E_TOKEN", "no token to connect with"),
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
            "the proxy refused the tunnel or failed to open it",
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
            "a Noise message fails authentication",
        ),
        (
            Status::Frame,
            "CONFER_E_FRAME",
            "a transport frame is malformed or breaks a reassembly rule",
        ),
        (Status::Limit, "CONFER_E_LIMIT", "the peer exceeded a limit"),
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
            "the enclave's release has changed, and the application did not accept it",
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
            "the request was silent for longer than its idle limit",
        ),
        (
            Status::SlowConsumer,
            "CONFER_E_SLOW_CONSUMER",
            "the application reads a stream too slowly",
        ),
        (
            Status::ToolRounds,
            "CONFER_E_TOOL_ROUNDS",
            "the model still calls tools after the last allowed round",
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

    /// Returns the name of the C constant.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// Returns the description, one sentence.
    pub fn description(self) -> &'static str {
        self.entry().1
    }

    /// Returns what can help after this error. `confer_error_retryable()`, reconnecting, and the
    /// table in the header follow this rule. If a status covers several kinds of error, the code
    /// that makes the error decides with [`Error::with_retry`](super::Error::with_retry).
    pub(super) fn retry(self, http_status: Option<u16>) -> Retry {
        match self {
            // Temporary states of this process.
            Status::Timeout | Status::Busy | Status::TooMany | Status::System => Retry::Later,

            // Success, mistakes of the caller, and ends that the application requested.
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
            | Status::Stale
            | Status::NotConnected
            | Status::Cancelled
            | Status::Closed
            | Status::Stopped
            | Status::SlowConsumer
            | Status::ToolRounds => Retry::Never,
            Status::Panic => Retry::Never,

            // The application may have a token later.
            Status::Token => Retry::Later,
            // A new connection has a new age limit.
            Status::Expired => Retry::Later,

            // The network. `net/` separates refused certificates and proxies from temporary
            // failures.
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

            // The bytes may have been damaged in transit. A new connection can deliver them
            // correctly.
            Status::Protocol
            | Status::Handshake
            | Status::Decrypt
            | Status::Frame
            | Status::Limit => Retry::Later,
            Status::Event => Retry::Never,

            // A refused enclave. `session/establish.rs` overrides this for temporary trouble.
            Status::Rejected | Status::ReleaseRefused => Retry::Never,

            // Responses of the enclave.
            Status::Refused => match http_status {
                Some(429 | 502..=504) => Retry::Later,
                _ => Retry::Never,
            },
            Status::Unauthorized | Status::PaymentRequired => Retry::FreshToken,
        }
    }
}

/// Returns whether the cause of an HTTP status can pass: a timeout, too many requests, a server
/// failure.
fn passes(http_status: u16) -> bool {
    matches!(http_status, 408 | 429 | 500..=599)
}

/// A remedy for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No retry: it would fail in the same way.
    Never,
    /// A later retry.
    Later,
    /// A retry with a fresh token, and no other.
    FreshToken,
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::Retry::{FreshToken, Later, Never};
    use super::*;

    /// `ffi/error.rs` tests every status without an HTTP status.
    #[test]
    fn http_status_decides_whether_to_retry() {
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
    fn refused_enclave_is_not_retried_by_default() {
        for status in [Status::Rejected, Status::ReleaseRefused] {
            assert_eq!(Error::new(status, "x").retry(), Never);
        }
        let passing = Error::new(Status::Rejected, "x").with_retryable(true);
        assert!(passing.retryable());
    }
}
