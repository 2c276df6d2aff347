//! Faults before the first request: at each stage of connecting, in the handshake, and a dead peer
//! with an open connection.

use super::Scope::{Any, Connect, Stream};
use super::{Act, Fault, Stage, Twist, ends};
use crate::noise::{MAX_MESSAGE, Weak};
use crate::upgrade::accepted;

const LOST: &str = "CONFER_E_CONNECTION_LOST";
const TIMEOUT: &str = "CONFER_E_STAGE_TIMEOUT";
const UPGRADE: &str = "CONFER_E_UPGRADE";
const HANDSHAKE: &str = "CONFER_E_HANDSHAKE";
const DEAD: &str = "CONFER_E_DEAD_PEER";
const LIMIT: &str = "CONFER_E_LIMIT";

/// Internal error (section 4: handshake or decryption failed).
const INTERNAL: u16 = 1011;
/// A response head longer than any client reads.
const ENDLESS_HEAD: usize = 4 << 20;

fn refused(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
}

pub(super) const FAULTS: &[Fault] = &[
    // ---- TCP
    ends(
        Connect,
        LOST,
        "accept-drop",
        "hangs up as soon as TCP is open",
        &[Twist::At(Stage::Accept, Act::Drop)],
    ),
    ends(
        Connect,
        LOST,
        "accept-reset",
        "resets TCP as soon as it is open",
        &[Twist::Reset, Twist::At(Stage::Accept, Act::Drop)],
    ),
    ends(
        Connect,
        TIMEOUT,
        "accept-stall",
        "accepts TCP and does nothing",
        &[Twist::At(Stage::Accept, Act::Stall)],
    ),
    // ---- upgrade
    ends(
        Connect,
        LOST,
        "upgrade-drop",
        "reads the upgrade and hangs up",
        &[Twist::At(Stage::Upgrade, Act::Drop)],
    ),
    ends(
        Connect,
        TIMEOUT,
        "upgrade-stall",
        "reads the upgrade and never answers",
        &[Twist::At(Stage::Upgrade, Act::Stall)],
    ),
    ends(
        Connect,
        LOST,
        "upgrade-half-drop",
        "half an answer, then hangs up",
        &[Twist::UpgradeAnswer(
            |_| "HTTP/1.1 101 Switching Protocols\r\nUpgrade: web".into(),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        TIMEOUT,
        "upgrade-half-stall",
        "half an answer, then nothing",
        &[Twist::UpgradeAnswer(
            |_| "HTTP/1.1 101 Switching Protocols\r\nUpgrade: web".into(),
            Act::Stall,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-401",
        "refuses with 401",
        &[Twist::UpgradeAnswer(
            |_| refused("401 Unauthorized"),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-402",
        "refuses with 402",
        &[Twist::UpgradeAnswer(
            |_| refused("402 Payment Required"),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-404",
        "refuses with 404",
        &[Twist::UpgradeAnswer(
            |_| refused("404 Not Found"),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-500",
        "refuses with 500",
        &[Twist::UpgradeAnswer(
            |_| refused("500 Internal Server Error"),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-503-open",
        "refuses with 503 and keeps TCP open",
        &[Twist::UpgradeAnswer(
            |_| refused("503 Service Unavailable"),
            Act::Stall,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-200",
        "answers 200, as a web page would",
        &[Twist::UpgradeAnswer(
            |_| {
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
                    .into()
            },
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-redirect",
        "redirects",
        &[Twist::UpgradeAnswer(
            |_| "HTTP/1.1 302 Found\r\nLocation: /websocket\r\nContent-Length: 0\r\n\r\n".into(),
            Act::Drop,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-wrong-accept",
        "accepts with another client's key",
        &[Twist::UpgradeAnswer(
            |_| accepted("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            Act::Stall,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-no-accept",
        "accepts without Sec-WebSocket-Accept",
        &[Twist::UpgradeAnswer(
            |_| {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".into()
            },
            Act::Stall,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-garbage",
        "answers with something that is no HTTP",
        &[Twist::UpgradeAnswer(
            |_| "220 mail.enclave.test ESMTP\r\n\r\n".into(),
            Act::Stall,
        )],
    ),
    ends(
        Connect,
        UPGRADE,
        "upgrade-endless",
        "4 MiB of head",
        &[Twist::UpgradeAnswer(
            |_| {
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nX-Endless: {}",
                    "x".repeat(ENDLESS_HEAD)
                )
            },
            Act::Stall,
        )],
    ),
    // ---- handshake stages
    ends(
        Connect,
        LOST,
        "open-drop",
        "hangs up once the WebSocket is open",
        &[Twist::At(Stage::Open, Act::Drop)],
    ),
    ends(
        Connect,
        LOST,
        "open-close",
        "closes the WebSocket at once",
        &[Twist::At(Stage::Open, Act::Close(INTERNAL))],
    ),
    ends(
        Connect,
        TIMEOUT,
        "open-stall",
        "opens the WebSocket and does nothing",
        &[Twist::At(Stage::Open, Act::Stall)],
    ),
    ends(
        Connect,
        LOST,
        "message1-drop",
        "hangs up before message 2",
        &[Twist::At(Stage::Message1, Act::Drop)],
    ),
    ends(
        Connect,
        LOST,
        "message1-reset",
        "resets TCP before message 2",
        &[Twist::Reset, Twist::At(Stage::Message1, Act::Drop)],
    ),
    ends(
        Connect,
        LOST,
        "message1-close",
        "closes the WebSocket before message 2",
        &[Twist::At(Stage::Message1, Act::Close(INTERNAL))],
    ),
    ends(
        Connect,
        TIMEOUT,
        "message1-stall",
        "never sends message 2",
        &[Twist::At(Stage::Message1, Act::Stall)],
    ),
    ends(
        Any,
        LOST,
        "message2-drop",
        "hangs up after message 2",
        &[Twist::At(Stage::Message2, Act::Drop)],
    ),
    ends(
        Any,
        LOST,
        "message2-close",
        "closes the WebSocket after message 2",
        &[Twist::At(Stage::Message2, Act::Close(INTERNAL))],
    ),
    ends(
        Stream,
        DEAD,
        "message2-stall",
        "never reads message 3, nor anything else",
        &[Twist::At(Stage::Message2, Act::Stall)],
    ),
    ends(
        Any,
        LOST,
        "message3-drop",
        "hangs up after message 3",
        &[Twist::At(Stage::Message3, Act::Drop)],
    ),
    ends(
        Any,
        LOST,
        "message3-close",
        "closes the WebSocket after message 3",
        &[Twist::At(Stage::Message3, Act::Close(INTERNAL))],
    ),
    ends(
        Stream,
        DEAD,
        "message3-stall",
        "reads message 3 and nothing else",
        &[Twist::At(Stage::Message3, Act::Stall)],
    ),
    // ---- handshake messages
    ends(
        Connect,
        HANDSHAKE,
        "message2-empty",
        "an empty message 2",
        &[Twist::Message2(|_| Vec::new())],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-short",
        "message 2 ends within the static key",
        &[Twist::Message2(|message| message[..50].to_vec())],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-truncated",
        "message 2 lacks its last byte",
        &[Twist::Message2(|mut message| {
            message.pop();
            message
        })],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-longer",
        "message 2 has a byte more",
        &[Twist::Message2(|mut message| {
            message.push(0);
            message
        })],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-altered",
        "one bit of the evidence, as it travels",
        &[Twist::Message2(|mut message| {
            message[200] ^= 1;
            message
        })],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-junk-static",
        "junk where the static key should be",
        &[Twist::Message2(|mut message| {
            message[32..80].fill(0x5a);
            message
        })],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-junk-ephemeral",
        "another ephemeral key than the message was made with",
        &[Twist::Message2(|mut message| {
            message[..32].fill(0x5a);
            message
        })],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-zero-ephemeral",
        "an all-zero ephemeral key, and a message 2 that is right by what everyone can compute from it",
        &[Twist::Weak(Weak::Ephemeral)],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-zero-static",
        "an all-zero static key, with evidence bound to it, and a message 2 that is right by it",
        &[Twist::Weak(Weak::Static)],
    ),
    ends(
        Connect,
        LIMIT,
        "message2-oversized",
        "a message 2 of 65,536 bytes",
        &[Twist::Message2(|mut message| {
            message.resize(MAX_MESSAGE + 1, 0);
            message
        })],
    ),
    ends(
        Connect,
        "CONFER_E_PROTOCOL",
        "message2-text",
        "message 2 as a text message",
        &[Twist::Message2Text],
    ),
    ends(
        Connect,
        LOST,
        "message2-cut-drop",
        "half of the frame of message 2, then hangs up",
        &[Twist::Message2Cut(Act::Drop)],
    ),
    ends(
        Connect,
        TIMEOUT,
        "message2-cut-stall",
        "half of the frame of message 2, then nothing",
        &[Twist::Message2Cut(Act::Stall)],
    ),
    ends(
        Connect,
        HANDSHAKE,
        "message2-earlier",
        "a good message 2, made for another connection",
        &[Twist::Message2Earlier],
    ),
    ends(
        Any,
        "CONFER_E_DECRYPT",
        "message2-twice",
        "message 2, and message 2 again where transport messages should be",
        &[Twist::Message2Twice],
    ),
    // ---- a verified enclave that will not answer
    ends(
        Stream,
        DEAD,
        "mute",
        "reads on and answers nothing, pings neither",
        &[Twist::Mute],
    ),
    ends(
        Stream,
        "CONFER_E_UNAUTHORIZED",
        "request-401",
        "answers every request with 401",
        &[Twist::RefuseAll(401, "Unauthorized")],
    ),
    ends(
        Stream,
        "CONFER_E_PAYMENT_REQUIRED",
        "request-402",
        "answers every request with 402",
        &[Twist::RefuseAll(402, "Payment required")],
    ),
    ends(
        Stream,
        "CONFER_E_PAYMENT_REQUIRED",
        "request-402-first",
        "answers a connection's first request, pings aside, with 402",
        &[Twist::RefuseFirst(402, "Payment required")],
    ),
    ends(
        Stream,
        "CONFER_E_REFUSED",
        "request-503",
        "answers every request with 503",
        &[Twist::RefuseAll(503, "Service unavailable")],
    ),
];
