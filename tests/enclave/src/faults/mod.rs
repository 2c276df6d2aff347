//! The named ways to misbehave: what each must cause at the client, and the twists that make it so.
//!
//! A `Twist` changes one thing at one seam; the seams are in `world`, `connection` and `key_server`, which
//! know twists but no fault. The tables are beside this file, by what they attack.

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

/// What the client must say.
#[derive(Clone, Copy)]
enum Expect {
    /// All is well.
    Ok,
    /// Verified, with a warning from this check.
    Warn(&'static str),
    /// `CONFER_E_REJECTED`, with this check as the only `fail`.
    Rejected(&'static str),
    /// This status.
    Status(&'static str),
}

/// Where the client must say it.
#[derive(Clone, Copy)]
enum Scope {
    /// Connecting fails.
    Connect,
    /// Connecting succeeds, the first chat fails (or ends well, where all is well).
    Stream,
    /// Connecting and chats succeed, the first document does not (or ends well, where all is well).
    Document,
    /// Either connecting or the first chat: the fault comes while the client is between the two.
    Any,
}

/// A moment of a connection, in order.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    /// TCP is accepted; nothing is read.
    Accept,
    /// The upgrade's head is read; nothing is answered.
    Upgrade,
    /// The WebSocket is open; nothing is read.
    Open,
    /// Handshake message 1 is read.
    Message1,
    /// Handshake message 2 is sent.
    Message2,
    /// Handshake message 3 is read.
    Message3,
}

#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// End TCP.
    Drop,
    /// End the WebSocket with this code.
    Close(u16),
    /// Keep the connection and do nothing.
    Stall,
}

/// What becomes of an upload instead.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Upload {
    /// It is answered whole after its first chunk.
    AnswersEarly,
    /// It is refused after its third chunk, or at its end.
    RefusedMidway,
    /// Its opening message waits; chunks overtake it.
    OpensLate,
    /// After so many bytes the socket is read no more, and nothing answered.
    NotRead,
}

/// How the key server answers instead.
#[derive(Clone, Copy)]
pub(crate) enum KeyServer {
    Stall,
    Drop,
    /// A head, and a body that never comes.
    HalfAnswer,
    /// This head before the right body.
    Head(&'static str),
    Body(fn() -> String),
}

/// One change at one seam. Functions, so that a table can hold them.
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
    /// The manifest's text, before it is signed.
    Manifest(fn(String) -> String),
    Signing(fn(&mut SigningPlan)),
    Bundle(fn(&mut Value)),
    BundleText(fn(String) -> String),
    /// The manifest's text, after it was signed.
    SentManifest(fn(String) -> String),
    Evidence(fn(&mut Value)),
    EvidenceBytes(fn(Vec<u8>) -> Vec<u8>),
    Policy(fn(&mut Value)),
    /// The policy carries the key set.
    KeysInPolicy,
    At(Stage, Act),
    /// Ending TCP resets it.
    Reset,
    /// Answer the upgrade with this text (given the right `Sec-WebSocket-Accept`), then drop or stall.
    UpgradeAnswer(fn(&str) -> String, Act),
    Weak(Weak),
    /// Handshake message 2 on its way out.
    Message2(fn(Vec<u8>) -> Vec<u8>),
    /// Handshake message 2 as a WebSocket text message.
    Message2Text,
    /// Handshake message 2 in a WebSocket frame that announces more than comes; then drop or stall.
    Message2Cut(Act),
    Message2Twice,
    /// A handshake message 2 that was made for another connection's message 1.
    Message2Earlier,
    /// The socket beneath the WebSocket can be written to.
    Tap,
    /// After the handshake: read on, answer nothing.
    Mute,
    /// After the handshake: answer all but pings.
    NoPongs,
    /// After the handshake: answer each request with this status.
    RefuseAll(i32, &'static str),
    /// After the handshake: answer a connection's first request, pings aside, with this status.
    RefuseFirst(i32, &'static str),
    /// The answer to each streamed chat, given its id.
    Answer(fn(i64) -> Vec<Step>),
    /// The answer to each document, given its id.
    Document(fn(i64) -> Vec<Step>),
    Upload(Upload),
}

impl Twist {
    /// It changes what all connections share: policy, key set or chain.
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

/// Nothing may fail.
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

/// This check warns, and nothing fails.
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

/// This check alone fails.
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

/// This status, in this scope.
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

/// One JSON line for each fault.
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
