//! The types in which the core and its driver talk: rules, inputs and outputs.

use std::sync::Arc;
use std::time::Duration;

use crate::attestation::Evidenced;
use crate::error::{Error, Result};
use crate::lifecycle::policy::{Reconnect, Renew};
use crate::net::Token;
use crate::session::{Approved, Stage};

/// Identifies a request of a client. The driver chooses it; it is unique for the client's life.
pub type RequestId = i64;
/// Identifies a connection. Later connections have greater numbers.
pub type ConnectionId = u64;
/// Identifies one attempt to connect.
pub type AttemptId = u64;

/// Rules that are constant for a client's life.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Retries of lost connections; `None` ends the client with its first connection.
    pub reconnect: Option<Reconnect>,
    /// Whether the first connection is retried like later ones.
    pub retry_first: bool,
    /// When a working connection is replaced.
    pub renew: Renew,
    /// Seconds by which evidence may be used after it expired: the policy's leeway.
    pub leeway: u64,
    /// The application answers token questions.
    pub asks_token: bool,
    /// The application answers release questions.
    pub asks_release: bool,
    /// Time for an answer.
    pub answer: Duration,
}

/// An instruction for the driver. Follow them in order.
pub enum Action {
    /// Connect and verify with this token. Report with `verified`, then `connected`, or
    /// `attempt_failed`.
    Dial { attempt: AttemptId, token: Token },
    /// The release is accepted: complete the handshake.
    Approve {
        attempt: AttemptId,
        approved: Approved,
    },
    /// Drop the attempt. It must report nothing more.
    Abort { attempt: AttemptId },
    /// Send a request. `again`: it was given to an earlier connection, so its upload begins again.
    Send {
        request: RequestId,
        connection: ConnectionId,
        again: bool,
    },
    /// Cancel a request on its connection, which then reports its end.
    Cancel { request: RequestId },
    /// The request has ended. Nothing more is reported of it.
    Finish {
        request: RequestId,
        result: Result<()>,
    },
    /// Ask whether the peer is still there.
    Probe { connection: ConnectionId },
    /// Close the connection when its last request has ended.
    Retire { connection: ConnectionId },
    /// Close the connection now. It reports the end of its requests first, then its own.
    Close {
        connection: ConnectionId,
        why: Error,
    },
    /// Put a question to the application.
    Ask(Question),
    /// The question is over: it was answered, or its answer is no longer needed.
    Withdraw { question: u64 },
    /// Report it to the application.
    Notify(Notice),
}

/// News of the client's connection.
pub enum Notice {
    /// An attempt entered this stage.
    Stage(Stage),
    /// The client has a verified connection.
    Connected {
        evidenced: Arc<Evidenced>,
        /// This is the client's first connection.
        first: bool,
    },
    /// The connection broke; the client reconnects.
    Disconnected(Error),
    /// An attempt begins after this delay.
    Attempt {
        /// Counts attempts in a row, from 1.
        number: u32,
        delay: Duration,
        /// The error of the previous attempt.
        error: Option<Error>,
    },
    /// The attempt failed.
    Failed(Error),
    /// The client has ended.
    Ended(Error),
}

/// The state of the client that an application sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It makes its first connection.
    Connecting,
    /// The client has a verified connection.
    Connected,
    /// The connection broke, and the client makes another one.
    Reconnecting,
    /// It has ended.
    Ended,
}

/// The end of a request on its connection, as the driver reports it.
pub struct Ended {
    /// The answer is complete, or the reason why not.
    pub result: Result<()>,
    /// It ended because the connection broke.
    pub lost: bool,
    /// The driver could send it once more: nothing of its answer was delivered, and its upload can
    /// be read from the beginning.
    pub repeatable: bool,
}

/// A new connection, as the driver reports it.
pub struct Connected {
    pub attempt: AttemptId,
    pub evidenced: Arc<Evidenced>,
}

/// A question to the application. The first answer counts.
#[derive(Clone)]
pub struct Question {
    pub id: u64,
    pub kind: QuestionKind,
}

#[derive(Clone)]
pub enum QuestionKind {
    /// Asks for the token to connect with.
    Token(TokenReason),
    /// Asks whether release `now` is accepted after `before`.
    Release {
        before: Arc<Evidenced>,
        now: Arc<Evidenced>,
    },
}

/// The reason for a token question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenReason {
    /// The first connection needs one.
    FirstConnection,
    /// Another connection needs one.
    Reconnect,
    /// The token in use expires soon.
    Expiring,
    /// The server refused the last token.
    Refused,
}
