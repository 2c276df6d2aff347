//! The error of this crate: what went wrong, and whether a retry can help.
//!
//! A message is safe to log: it never contains a token, prompt, answer or key.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::attestation::Evidenced;

mod status;
pub use status::{Retry, Status};

/// Progress of a request when it failed. An application needs this before it repeats a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum Progress {
    /// Nothing was sent.
    #[default]
    NotSent = 0,
    /// At least a part was handed to the network, so the enclave may have acted on it.
    MaybeSent = 1,
    /// The enclave had begun to answer.
    PartlyAnswered = 2,
}

/// An error: its status, message and details. Cheap to clone, because all streams of a broken
/// connection get the same error.
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

/// Explains a lack of descriptors or memory, if that is the reason, and names the system's limit.
pub fn shortage(reason: &io::Error) -> Option<&'static str> {
    let number = reason.raw_os_error()?;
    let is =
        |(numbers, limit): &(&[i32], &'static str)| numbers.contains(&number).then_some(*limit);
    SHORTAGES.iter().find_map(is)
}

/// The system's error numbers for a lack of something, and the limit.
#[cfg(unix)]
const SHORTAGES: [(&[i32], &str); 3] = [
    (
        &[libc::EMFILE],
        "this process has all the files and sockets open that it may have; close some, or raise the limit (RLIMIT_NOFILE, ulimit -n)",
    ),
    (
        &[libc::ENFILE],
        "the system has all the files and sockets open that it may have (on Linux fs.file-max)",
    ),
    (&[libc::ENOBUFS, libc::ENOMEM], NO_MEMORY),
];
#[cfg(windows)]
const SHORTAGES: [(&[i32], &str); 2] = [
    // ERROR_TOO_MANY_OPEN_FILES, WSAEMFILE
    (
        &[4, 10_024],
        "this process has all the files and sockets open that it may have; close some",
    ),
    // ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES,
    // ERROR_COMMITMENT_LIMIT, WSAENOBUFS
    (&[8, 14, 1_450, 1_455, 10_055], NO_MEMORY),
];
const NO_MEMORY: &str = "the system has no memory for it";

/// Longest kept text of the peer. The protocol calls it short.
const MAX_PEER_TEXT: usize = 1_024;

impl Error {
    /// Makes an error. The message must not contain a secret.
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

    /// Makes an error for a failed system call: `what` and the reason. If the system has no
    /// descriptor or memory left, the status is [`Status::System`] and the message names the limit.
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

    /// Adds the HTTP or response status of the peer, which also decides whether a retry can help.
    pub fn with_http_status(self, code: u16) -> Error {
        self.with(|e| {
            e.http_status = Some(code);
            e.retry = e.status.retry(Some(code));
        })
    }

    /// Adds the delay that the peer requested.
    pub fn with_retry_delay(self, delay: Option<Duration>) -> Error {
        self.with(|e| e.retry_delay = delay)
    }

    /// Adds the enclave's reason, truncated and without control characters. It may repeat parts of
    /// the request, so it never appears in the message, `Debug` or `Display`.
    pub fn with_peer_text(self, text: &[u8]) -> Error {
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_PEER_TEXT)]);
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        self.with(|e| e.peer_text = Some(text.chars().map(shown).collect()))
    }

    /// Adds how far the request got.
    pub fn with_progress(self, progress: Progress) -> Error {
        self.with(|e| e.progress = progress)
    }

    /// Sets what can help, for a status that covers several kinds of error.
    pub fn with_retry(self, retry: Retry) -> Error {
        self.with(|e| e.retry = retry)
    }

    /// Like [`Error::with_retry`], if a fresh token cannot help.
    pub fn with_retryable(self, retryable: bool) -> Error {
        self.with_retry(match retryable {
            true => Retry::Later,
            false => Retry::Never,
        })
    }

    /// Puts the stage before the message, unless the message starts with it.
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

    /// Adds another error's message as the cause.
    pub fn because(self, what: &str, cause: &Error) -> Error {
        let end = match cause.message().ends_with(['.', '?']) {
            true => "",
            false => ".",
        };
        self.with(|e| e.message += &format!(" {what}: {}{end}", cause.message()))
    }

    /// Adds the refused enclave's report, and the check that decided.
    pub fn with_report(self, check: Option<&'static str>, report: Arc<Evidenced>) -> Error {
        self.with(|e| {
            e.check = check;
            e.report = Some(report);
        })
    }

    /// Returns the status.
    pub fn status(&self) -> Status {
        self.0.status
    }
    /// Returns the message for people, without secrets.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// Returns the id of the deciding check, for [`Status::Rejected`].
    pub fn check(&self) -> Option<&'static str> {
        self.0.check
    }
    /// Returns the HTTP status of a refused upgrade or tunnel, or the status of a refused request.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }
    /// Returns what can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }
    /// Returns whether the same call with the same token may succeed later.
    pub fn retryable(&self) -> bool {
        self.0.retry == Retry::Later
    }
    /// Returns the delay before a retry that the peer requested.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }
    /// Returns how far the request got.
    pub fn progress(&self) -> Progress {
        self.0.progress
    }
    /// Returns the enclave's reason for a refused request. Show it to the user, but do not log it.
    pub fn peer_text(&self) -> Option<&str> {
        self.0.peer_text.as_deref()
    }
    /// Returns the refused enclave's report.
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

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortage_is_retryable_and_names_the_limit() {
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
    fn other_system_failures_keep_their_status() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let error = Error::io(Status::Connect, "127.0.0.1:1", &refused);
        assert_eq!(error.status(), Status::Connect);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::io(Status::File, "policy.json", &missing);
        assert_eq!(error.message(), "policy.json: entity not found");
    }
}
