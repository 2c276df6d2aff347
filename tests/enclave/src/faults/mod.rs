//! The faults: each has a name, the result that the client must report, and the twists that cause
//! it.
//!
//! A `Twist` is one change. `world`, `connection` and `key_server` apply twists and know no faults.
//! The other files of this folder hold the tables of faults.

mod attestation;
mod connection;
mod document;
mod stream;

use serde_json::{Map, Value, json};

use crate::answer::Step;
use crate::noise::Weak;
use crate::world::ita::ChainPlan;
use crate::world::sigstore::SigningPlan;

pub(crate) struct Fault {
    pub(crate) name: &'static str,
    expect: Expect,
    scope: Scope,
    description: &'static str,
    pub(crate) twists: &'static [Twist],
}

/// The result that the client must report.
#[derive(Clone, Copy)]
enum Expect {
    /// Everything works.
    Ok,
    /// Verified, with a warning from this check.
    Warn(&'static str),
    /// `CONFER_E_REJECTED`, and only this check fails.
    Rejected(&'static str),
    /// This status.
    Status(&'static str),
}

/// The call that must have this result.
#[derive(Clone, Copy)]
enum Scope {
    /// Connecting fails.
    Connect,
    /// The first chat. Connecting works.
    Stream,
    /// The first document. Connecting and chats work.
    Document,
    /// Connecting or the first chat: the fault happens between the two.
    Any,
}

/// The moments of a connection, in order.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    /// After accepting TCP, before reading.
    Accept,
    /// After reading the upgrade request, before answering.
    Upgrade,
    /// After opening the WebSocket, before reading.
    Open,
    /// After reading handshake message 1.
    Message1,
    /// After sending handshake message 2.
    Message2,
    /// After reading handshake message 3.
    Message3,
}

#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// Close TCP.
    Drop,
    /// Close the WebSocket with this code.
    Close(u16),
    /// Keep the connection open and do nothing.
    Stall,
}

/// Changes how an upload is handled.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Upload {
    /// Answer completely after the first chunk.
    AnswersEarly,
    /// Refuse after the third chunk, or at the end if that comes first.
    RefusedMidway,
    /// Handle chunks before the opening message.
    OpensLate,
    /// Stop reading the socket after some bytes, and do not answer.
    NotRead,
}

/// Changes how the key server answers.
#[derive(Clone, Copy)]
pub(crate) enum KeyServer {
    Stall,
    Drop,
    /// Send a head, and never the body.
    HalfAnswer,
    /// Send this head before the valid body.
    Head(&'static str),
    Body(fn() -> String),
}

/// One change. Holds function pointers, so that tables can be constants.
pub(crate) enum Twist {
    Chain(fn(&mut ChainPlan)),
    KeySet(fn(&mut Vec<Value>)),
    KeyServer(KeyServer),
    Header(fn(&mut Map<String, Value>)),
    HeaderText(fn(String) -> String),
    Claims(fn(&mut Map<String, Value>)),
    ClaimsText(fn(String) -> String),
    /// Sign the token with RS256.
    Rs256,
    Token(fn(String) -> String),
    /// Change the manifest before signing.
    Manifest(fn(String) -> String),
    Signing(fn(&mut SigningPlan)),
    Bundle(fn(&mut Value)),
    BundleText(fn(String) -> String),
    /// Change the manifest after signing.
    SentManifest(fn(String) -> String),
    Evidence(fn(&mut Value)),
    EvidenceBytes(fn(Vec<u8>) -> Vec<u8>),
    Policy(fn(&mut Value)),
    /// Put the key set into the policy.
    KeysInPolicy,
    At(Stage, Act),
    /// Close TCP with a reset.
    Reset,
    /// Answer the upgrade with this text, then drop or stall. The function gets the correct
    /// `Sec-WebSocket-Accept`.
    UpgradeAnswer(fn(&str) -> String, Act),
    Weak(Weak),
    /// Change handshake message 2.
    Message2(fn(Vec<u8>) -> Vec<u8>),
    /// Send handshake message 2 as a WebSocket text message.
    Message2Text,
    /// Send handshake message 2 in a WebSocket frame that announces more bytes, then drop or stall.
    Message2Cut(Act),
    Message2Twice,
    /// Send a message 2 that answers another connection's message 1.
    Message2Earlier,
    /// Permit writing to the socket under the WebSocket.
    Tap,
    /// After the handshake, read but never answer.
    Mute,
    /// After the handshake, answer everything except pings.
    NoPongs,
    /// After the handshake, answer each request with this status.
    RefuseAll(i32, &'static str),
    /// After the handshake, answer the first request that is not a ping with this status.
    RefuseFirst(i32, &'static str),
    /// Answer each streamed chat with these steps. The function gets the request's id.
    Answer(fn(i64) -> Vec<Step>),
    /// Answer each document with these steps. The function gets the request's id.
    Document(fn(i64) -> Vec<Step>),
    Upload(Upload),
}

impl Twist {
    /// Returns true for a change of the policy, key set or chain, which all connections share.
    pub(crate) fn is_worldwide(&self) -> bool {
        matches!(
            self,
            Self::Chain(_)
                | Self::KeySet(_)
                | Self::KeyServer(_)
                | Self::Policy(_)
                | Self::KeysInPolicy
        )
    }

    pub(crate) fn changes_release(&self) -> bool {
        matches!(
            self,
            Self::Manifest(_)
                | Self::Signing(_)
                | Self::Bundle(_)
                | Self::BundleText(_)
                | Self::SentManifest(_)
        )
    }
}

/// All checks pass.
const fn accepted(
    name: &'static str,
    description: &'static str,
    twists: &'static [Twist],
) -> Fault {
    Fault {
        name,
        expect: Expect::Ok,
        scope: Scope::Connect,
        description,
        twists,
    }
}

/// This check warns, and all others pass.
const fn warned(
    check: &'static str,
    name: &'static str,
    description: &'static str,
    twists: &'static [Twist],
) -> Fault {
    Fault {
        name,
        expect: Expect::Warn(check),
        scope: Scope::Connect,
        description,
        twists,
    }
}

/// Only this check fails.
const fn rejected(
    check: &'static str,
    name: &'static str,
    description: &'static str,
    twists: &'static [Twist],
) -> Fault {
    Fault {
        name,
        expect: Expect::Rejected(check),
        scope: Scope::Connect,
        description,
        twists,
    }
}

/// The call in `scope` ends with this status.
const fn ends(
    scope: Scope,
    status: &'static str,
    name: &'static str,
    description: &'static str,
    twists: &'static [Twist],
) -> Fault {
    Fault {
        name,
        expect: Expect::Status(status),
        scope,
        description,
        twists,
    }
}

fn all() -> impl Iterator<Item = &'static Fault> {
    [
        attestation::FAULTS,
        connection::FAULTS,
        stream::FAULTS,
        document::FAULTS,
    ]
    .into_iter()
    .flatten()
}

pub(crate) fn find(name: &str) -> Option<&'static Fault> {
    all().find(|fault| fault.name == name)
}

/// Lists all faults, one JSON line each.
pub(crate) fn list() -> String {
    all().map(|fault| fault.line().to_string() + "\n").collect()
}

impl Fault {
    fn line(&self) -> Value {
        let (status, check, outcome) = match self.expect {
            Expect::Ok => ("CONFER_OK", None, None),
            Expect::Warn(check) => ("CONFER_OK", Some(check), Some("warn")),
            Expect::Rejected(check) => ("CONFER_E_REJECTED", Some(check), Some("fail")),
            Expect::Status(status) => (status, None, None),
        };
        let scope = match self.scope {
            Scope::Connect => "connect",
            Scope::Stream => "stream",
            Scope::Document => "document",
            Scope::Any => "any",
        };
        json!({
            "fault": self.name, "status": status, "check": check, "outcome": outcome, "scope": scope,
            "description": self.description,
        })
    }
}
