//! Faults in the response to a streamed chat: frames, Noise messages, WebSocket messages,
//! responses, events, and wrong ends. Each starts with a valid event, `FIRST`.

use bytes::Bytes;
use prost::Message as _;
use serde_json::json;

use super::Scope::Stream;
use super::{Expect, Fault, Scope, Twist, ends};
use crate::answer::{Outgoing, Step};
use crate::noise::MAX_MESSAGE;
use crate::routes::chat::{completion, token};
use crate::wire::{Frame, MAX_PAYLOAD, Response, cut, response};

const FRAME: &str = "CONFER_E_FRAME";
const LIMIT: &str = "CONFER_E_LIMIT";
const DECRYPT: &str = "CONFER_E_DECRYPT";
const PROTOCOL: &str = "CONFER_E_PROTOCOL";
const EVENT: &str = "CONFER_E_EVENT";
const LOST: &str = "CONFER_E_CONNECTION_LOST";

const FIRST: &str = "before ";
/// The header of a binary frame of 1,000 bytes, then three bytes (RFC 6455, 5.2).
const CUT_FRAME: &[u8] = &[0x82, 126, 0x03, 0xe8, 1, 2, 3];
/// A client's default limits (sections 3 and 5), which these faults exceed.
const UNFINISHED: i64 = 64;
const CHUNKS: u32 = 4_096;
const BYTES: usize = 64 << 20;
const EVENT_BYTES: usize = 16 << 20;
const LEVELS: usize = 64;

const fn well(name: &'static str, description: &'static str, twists: &'static [Twist]) -> Fault {
    Fault {
        name,
        expect: Expect::Ok,
        scope: Scope::Stream,
        description,
        twists,
    }
}

/// Puts a valid event before `steps`.
fn then(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    std::iter::once(Step::Event(token(FIRST)))
        .chain(steps)
        .collect()
}

/// Puts a valid event before `steps`, and a valid end after them.
fn between(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let end = [Step::Event(token("after")), Step::Event(completion(3))];
    then(steps.into_iter().chain(end))
}

fn frames(frames: impl IntoIterator<Item = Frame>) -> Vec<Step> {
    then([Step::Send(Outgoing::Frames(frames.into_iter().collect()))])
}

fn good_frames(frames: impl IntoIterator<Item = Frame>) -> Vec<Step> {
    between([Step::Send(Outgoing::Frames(frames.into_iter().collect()))])
}

fn frame(chunk_id: i64, index: u32, total: u32, payload: impl Into<Bytes>) -> Frame {
    Frame {
        chunk_id: Some(chunk_id),
        chunk_index: Some(index),
        total_chunks: Some(total),
        payload: Some(payload.into()),
    }
}

/// Splits an event's response into small frames.
fn event_frames(id: i64, chunk_id: i64, content: &str) -> Vec<Frame> {
    let message = event(id, content).encode_to_vec();
    cut(&message.into(), chunk_id, 16)
}

fn event(id: i64, content: &str) -> Response {
    response(id, 200, token(content).to_string())
}

fn body(text: impl Into<Bytes>) -> Vec<Step> {
    then([Step::Body(text.into())])
}

/// Makes an event of exactly `size` bytes.
fn sized(size: usize) -> String {
    let around = token("").to_string().len();
    token(&"x".repeat(size - around)).to_string()
}

/// Makes an event with exactly `levels` levels of nesting. Its outer object is the first.
fn nested(levels: usize) -> String {
    let lists = levels - 1;
    format!(
        r#"{{"type":"nested","value":{}{}}}"#,
        "[".repeat(lists),
        "]".repeat(lists)
    )
}

pub(super) const FAULTS: &[Fault] = &[
    // ---- frames: rules broken
    ends(
        Stream,
        FRAME,
        "frame-undecodable",
        "a plaintext that is no frame",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Plaintext(vec![0xff; 40]))])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-empty",
        "an empty plaintext: a frame without a total",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Plaintext(Vec::new()))])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-index-beyond",
        "chunk 2 of 2, counted from 0",
        &[Twist::Answer(|_| frames([frame(5, 2, 2, "x")]))],
    ),
    ends(
        Stream,
        FRAME,
        "frame-total-zero",
        "a total of 0",
        &[Twist::Answer(|_| frames([frame(5, 0, 0, "x")]))],
    ),
    ends(
        Stream,
        FRAME,
        "frame-total-absent",
        "no total",
        &[Twist::Answer(|_| {
            frames([Frame {
                total_chunks: None,
                ..frame(5, 0, 1, "x")
            }])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-total-grows",
        "a total of 3, then of 4",
        &[Twist::Answer(|_| {
            frames([frame(5, 0, 3, "x"), frame(5, 1, 4, "y")])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-total-shrinks",
        "a total of 3, then of 1",
        &[Twist::Answer(|_| {
            frames([frame(5, 0, 3, "x"), frame(5, 0, 1, "x")])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-duplicate-differs",
        "a chunk twice, with other bytes",
        &[Twist::Answer(|_| {
            frames([frame(5, 0, 2, "x"), frame(5, 0, 2, "y")])
        })],
    ),
    ends(
        Stream,
        FRAME,
        "frame-duplicate-longer",
        "a chunk twice, first empty",
        &[Twist::Answer(|_| {
            frames([frame(5, 0, 2, ""), frame(5, 0, 2, "y")])
        })],
    ),
    // ---- frames: bounds
    ends(
        Stream,
        LIMIT,
        "frame-too-many-unfinished",
        "65 unfinished messages",
        &[Twist::Answer(|_| {
            frames((0..=UNFINISHED).map(|chunk_id| frame(chunk_id, 0, 2, "x")))
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "frame-too-many-chunks",
        "a message of 4,097 chunks",
        &[Twist::Answer(|_| frames([frame(5, 0, CHUNKS + 1, "x")]))],
    ),
    ends(
        Stream,
        LIMIT,
        "frame-most-chunks",
        "a message of 2^32 - 1 chunks",
        &[Twist::Answer(|_| frames([frame(5, 0, u32::MAX, "x")]))],
    ),
    ends(
        Stream,
        LIMIT,
        "frame-too-many-bytes",
        "an unfinished message of more than 64 MiB",
        &[Twist::Answer(|_| {
            let payload = Bytes::from(vec![0; MAX_PAYLOAD]);
            let count = (BYTES / MAX_PAYLOAD) as u32 + 2;
            frames((0..count).map(|index| frame(5, index, CHUNKS, payload.clone())))
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "frame-too-many-bytes-spread",
        "more than 64 MiB in 20 unfinished messages",
        &[Twist::Answer(|_| {
            let payload = Bytes::from(vec![0; MAX_PAYLOAD]);
            let count = (BYTES / MAX_PAYLOAD) as u32 + 2;
            frames((0..count).map(|at| frame(i64::from(at % 20), at / 20, CHUNKS, payload.clone())))
        })],
    ),
    // ---- frames: allowed
    well(
        "frame-interleaved",
        "three messages, their frames in turns",
        &[Twist::Answer(|id| {
            let messages =
                ["one ", "two ", "six "].map(|word| event_frames(id, word.len() as i64 + id, word));
            let mut turns: Vec<_> = Vec::new();
            for (at, message) in messages.into_iter().enumerate() {
                let chunk_id = -(at as i64);
                turns.extend(message.into_iter().map(|frame| {
                    (
                        frame.chunk_index,
                        Frame {
                            chunk_id: Some(chunk_id),
                            ..frame
                        },
                    )
                }));
            }
            turns.sort_by_key(|(index, _)| *index);
            good_frames(turns.into_iter().map(|(_, frame)| frame))
        })],
    ),
    well(
        "frame-out-of-order",
        "a message, its last frame first",
        &[Twist::Answer(|id| {
            good_frames(event_frames(id, 5, "backwards ").into_iter().rev())
        })],
    ),
    well(
        "frame-duplicate-same",
        "every frame of a message but the last three times",
        &[Twist::Answer(|id| {
            let frames = event_frames(id, 5, "thrice ");
            let last = frames.len() - 1;
            good_frames(frames.into_iter().enumerate().flat_map(move |(at, frame)| {
                std::iter::repeat_n(frame, if at == last { 1 } else { 3 })
            }))
        })],
    ),
    well(
        "frame-no-id",
        "a message whose frames have no chunk_id, and no index where it is 0",
        &[Twist::Answer(|id| {
            good_frames(
                event_frames(id, 0, "nameless ")
                    .into_iter()
                    .map(|frame| Frame {
                        chunk_id: None,
                        chunk_index: frame.chunk_index.filter(|index| *index > 0),
                        ..frame
                    }),
            )
        })],
    ),
    well(
        "frame-negative-id",
        "the smallest chunk_id there is",
        &[Twist::Answer(|id| {
            good_frames(event_frames(id, i64::MIN, "negative "))
        })],
    ),
    well(
        "frame-empty-chunks",
        "a message with an empty frame before each of its own",
        &[Twist::Answer(|id| {
            let full = event_frames(id, 5, "hollow ");
            let total = full.len() as u32 * 2;
            good_frames(full.into_iter().enumerate().flat_map(move |(at, full)| {
                let at = at as u32 * 2;
                [
                    frame(5, at, total, ""),
                    frame(5, at + 1, total, full.payload.unwrap_or_default()),
                ]
            }))
        })],
    ),
    well(
        "frame-id-again",
        "one chunk_id for one message after another",
        &[Twist::Answer(|id| {
            good_frames(
                ["one ", "two "]
                    .into_iter()
                    .flat_map(|word| event_frames(id, 5, word))
                    .collect::<Vec<_>>(),
            )
        })],
    ),
    // ---- Noise messages
    ends(
        Stream,
        DECRYPT,
        "noise-replayed",
        "a Noise message twice",
        &[Twist::Answer(|id| {
            then([Step::Send(Outgoing::Distorted(
                vec![event(id, "twice ")],
                |messages| [messages.clone(), messages].concat(),
            ))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-truncated",
        "a Noise message without its last byte",
        &[Twist::Answer(|id| {
            then([Step::Send(Outgoing::Distorted(
                vec![event(id, "cut ")],
                |mut messages| {
                    messages[0].pop();
                    messages
                },
            ))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-altered",
        "one bit of a Noise message",
        &[Twist::Answer(|id| {
            then([Step::Send(Outgoing::Distorted(
                vec![event(id, "bent ")],
                |mut messages| {
                    messages[0][3] ^= 0x10;
                    messages
                },
            ))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-dropped",
        "a Noise message that never arrives, and the one after it",
        &[Twist::Answer(|id| {
            let lost = Outgoing::Distorted(vec![event(id, "lost ")], |_| Vec::new());
            then([Step::Send(lost), Step::Event(token("found"))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-replayed-later",
        "a Noise message once more, after another",
        &[Twist::Answer(|id| {
            let two = vec![event(id, "one "), event(id, "two ")];
            then([Step::Send(Outgoing::Distorted(two, |mut messages| {
                messages.push(messages[0].clone());
                messages
            }))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-swapped",
        "two Noise messages, the second first",
        &[Twist::Answer(|id| {
            let two = vec![event(id, "one "), event(id, "two ")];
            then([Step::Send(Outgoing::Distorted(two, |mut messages| {
                messages.swap(0, 1);
                messages
            }))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-short",
        "a Noise message shorter than its tag",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Binary(vec![7; 15]))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-empty",
        "an empty WebSocket message",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Binary(Vec::new()))])
        })],
    ),
    ends(
        Stream,
        DECRYPT,
        "noise-junk",
        "bytes that Noise never saw",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Binary(vec![7; 1_000]))])
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "noise-oversized",
        "a WebSocket message of 65,536 bytes",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Binary(vec![0; MAX_MESSAGE + 1]))])
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "noise-far-oversized",
        "a WebSocket message of 16 MiB",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Binary(vec![0; EVENT_BYTES]))])
        })],
    ),
    ends(
        Stream,
        PROTOCOL,
        "websocket-text",
        "a WebSocket text message",
        &[Twist::Answer(|_| {
            then([Step::Send(Outgoing::Text("hello".into()))])
        })],
    ),
    ends(
        Stream,
        LOST,
        "websocket-cut-drop",
        "a WebSocket frame that announces 1,000 bytes and holds 3, then hangs up",
        &[
            Twist::Tap,
            Twist::Answer(|_| {
                then([
                    Step::Send(Outgoing::Raw(CUT_FRAME)),
                    Step::Send(Outgoing::Drop),
                ])
            }),
        ],
    ),
    ends(
        Stream,
        "CONFER_E_DEAD_PEER",
        "websocket-cut-stall",
        "the same, and then nothing",
        &[
            Twist::Tap,
            Twist::Answer(|_| {
                then([
                    Step::Send(Outgoing::Raw(CUT_FRAME)),
                    Step::Send(Outgoing::Stall),
                ])
            }),
        ],
    ),
    // ---- responses
    ends(
        Stream,
        PROTOCOL,
        "response-undecodable",
        "a message that is no response",
        &[Twist::Answer(|_| {
            frames([frame(5, 0, 1, [0xff; 20].to_vec())])
        })],
    ),
    ends(
        Stream,
        PROTOCOL,
        "response-no-id",
        "a response without id",
        &[Twist::Answer(|id| {
            then([Step::Send(Outgoing::Response(Response {
                id: None,
                ..event(id, "whose ")
            }))])
        })],
    ),
    ends(
        Stream,
        PROTOCOL,
        "response-no-status",
        "a response without status",
        &[Twist::Answer(|id| {
            then([Step::Send(Outgoing::Response(Response {
                status: None,
                ..event(id, "what ")
            }))])
        })],
    ),
    ends(
        Stream,
        PROTOCOL,
        "response-status-low",
        "status 99",
        &[Twist::Answer(|_| then([Step::Refuse(99, "".into())]))],
    ),
    ends(
        Stream,
        PROTOCOL,
        "response-status-high",
        "status 600",
        &[Twist::Answer(|_| then([Step::Refuse(600, "".into())]))],
    ),
    ends(
        Stream,
        PROTOCOL,
        "response-status-negative",
        "status -200",
        &[Twist::Answer(|_| then([Step::Refuse(-200, "".into())]))],
    ),
    well(
        "response-unknown-id",
        "responses, good and bad, to a request that nobody made",
        &[Twist::Answer(|id| {
            let stranger = id ^ 0x4000_0000_0000_0000;
            between([
                Step::Send(Outgoing::Response(event(stranger, "stray "))),
                Step::Send(Outgoing::Response(response(stranger, 500, "stray"))),
            ])
        })],
    ),
    well(
        "response-empty",
        "responses without a body, and with an empty one",
        &[Twist::Answer(|id| {
            let absent = Response {
                body: None,
                ..event(id, "")
            };
            between([
                Step::Send(Outgoing::Response(absent)),
                Step::Body(Bytes::new()),
            ])
        })],
    ),
    well(
        "response-headers",
        "a response with headers that nobody asked for",
        &[Twist::Answer(|id| {
            let headers = [
                ("Content-Length".to_owned(), "3".to_owned()),
                ("X-Other".to_owned(), String::new()),
            ];
            between([Step::Send(Outgoing::Response(Response {
                headers: headers.into(),
                ..event(id, "decked ")
            }))])
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "response-headers-many",
        "a response with 65 headers",
        &[Twist::Answer(|id| {
            let headers = (0..65).map(|index| (format!("h{index}"), String::new()));
            then([Step::Send(Outgoing::Response(Response {
                headers: headers.collect(),
                ..event(id, "decked ")
            }))])
        })],
    ),
    ends(
        Stream,
        LIMIT,
        "response-headers-long",
        "a response with a header of 17 KiB",
        &[Twist::Answer(|id| {
            let headers = [("Content-Length".to_owned(), "1".repeat(17 << 10))];
            then([Step::Send(Outgoing::Response(Response {
                headers: headers.into(),
                ..event(id, "decked ")
            }))])
        })],
    ),
    // ---- events
    well(
        "event-token-empty",
        "tokens without a content, and with one that is no text",
        &[Twist::Answer(|_| {
            between([
                Step::Body(r#"{"type":"token"}"#.into()),
                Step::Body(r#"{"type":"token","content":5}"#.into()),
                Step::Body(r#"{"type":"thinking","content":null}"#.into()),
            ])
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-not-json",
        "bytes that are no JSON",
        &[Twist::Answer(|_| body("{not json}"))],
    ),
    ends(
        Stream,
        EVENT,
        "event-list",
        "a list, not an object",
        &[Twist::Answer(|_| body(format!("[{}]", token("listed"))))],
    ),
    ends(
        Stream,
        EVENT,
        "event-text",
        "a bare word",
        &[Twist::Answer(|_| body("token"))],
    ),
    ends(
        Stream,
        EVENT,
        "event-comma",
        "a comma between two events",
        &[Twist::Answer(|_| {
            body(format!("{},{}", token("one "), token("two")))
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-lone-surrogate",
        "a high surrogate on its own",
        &[Twist::Answer(|_| {
            body(r#"{"type":"token","content":"\ud83d alone"}"#)
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-lone-low-surrogate",
        "a low surrogate on its own",
        &[Twist::Answer(|_| {
            body(r#"{"type":"token","content":"\ude00"}"#)
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-not-utf8",
        "a byte that is no UTF-8, within a string",
        &[Twist::Answer(|_| {
            body(b"{\"type\":\"token\",\"content\":\"\xff\"}".to_vec())
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-control",
        "a raw newline within a string",
        &[Twist::Answer(|_| {
            body("{\"type\":\"token\",\"content\":\"\n\"}")
        })],
    ),
    ends(
        Stream,
        EVENT,
        "event-too-deep",
        "an event of 65 levels",
        &[Twist::Answer(|_| body(nested(LEVELS + 1)))],
    ),
    ends(
        Stream,
        EVENT,
        "event-far-too-deep",
        "an event of a million levels",
        &[Twist::Answer(|_| body(nested(1_000_000)))],
    ),
    ends(
        Stream,
        EVENT,
        "event-too-big",
        "an event of 16 MiB and a byte",
        &[Twist::Answer(|_| body(sized(EVENT_BYTES + 1)))],
    ),
    well(
        "event-deep",
        "an event of 64 levels",
        &[Twist::Answer(|_| {
            between([Step::Body(nested(LEVELS).into())])
        })],
    ),
    well(
        "event-big",
        "an event of 16 MiB",
        &[Twist::Answer(|_| {
            between([Step::Body(sized(EVENT_BYTES).into())])
        })],
    ),
    well(
        "event-after-completion",
        "events and garbage after completion",
        &[Twist::Answer(|id| {
            then([
                Step::Body(format!("{}{}{{garbage", completion(1), token("late")).into()),
                Step::Event(token("later")),
                Step::Send(Outgoing::Response(response(id, 500, "too late"))),
            ])
        })],
    ),
    well(
        "event-no-type",
        "an event without type, and one whose type is a number",
        &[Twist::Answer(|_| {
            between([
                Step::Event(json!({ "content": "untyped" })),
                Step::Event(json!({ "type": 7 })),
            ])
        })],
    ),
    // ---- ends
    ends(
        Stream,
        "CONFER_E_STREAM_IDLE",
        "answer-never",
        "not one event; pings are answered",
        &[Twist::Answer(|_| Vec::new())],
    ),
    well(
        "ping-never",
        "chats are answered, pings never: it lives while bytes move, and is dead after that",
        &[Twist::NoPongs],
    ),
    ends(
        Stream,
        "CONFER_E_DEAD_PEER",
        "ping-never-then-silence",
        "the answer stops, and pings are never answered",
        &[Twist::NoPongs, Twist::Answer(|_| then([]))],
    ),
    ends(
        Stream,
        "CONFER_E_STREAM_IDLE",
        "completion-never",
        "the answer stops; pings are answered",
        &[Twist::Answer(|_| then([]))],
    ),
    ends(
        Stream,
        "CONFER_E_STREAM_IDLE",
        "completion-half",
        "the answer stops within an event; pings are answered",
        &[Twist::Answer(|_| body(r#"{"type":"token","conte"#))],
    ),
    ends(
        Stream,
        "CONFER_E_REFUSED",
        "midstream-500",
        "status 500 in mid-stream",
        &[Twist::Answer(|_| {
            then([Step::Refuse(500, "generation failed".into())])
        })],
    ),
    ends(
        Stream,
        "CONFER_E_REFUSED",
        "midstream-500-then-more",
        "status 500 in mid-stream, and more of the answer",
        &[Twist::Answer(|_| {
            between([Step::Refuse(500, "generation failed".into())])
        })],
    ),
    ends(
        Stream,
        "CONFER_E_UNAUTHORIZED",
        "midstream-401",
        "status 401 in mid-stream",
        &[Twist::Answer(|_| {
            then([Step::Refuse(401, "Unauthorized".into())])
        })],
    ),
    ends(
        Stream,
        "CONFER_E_PAYMENT_REQUIRED",
        "midstream-402",
        "status 402 in mid-stream",
        &[Twist::Answer(|_| {
            then([Step::Refuse(402, "Payment required".into())])
        })],
    ),
    ends(
        Stream,
        LOST,
        "stream-drop",
        "hangs up in mid-stream",
        &[Twist::Answer(|_| then([Step::Send(Outgoing::Drop)]))],
    ),
    ends(
        Stream,
        LOST,
        "stream-reset",
        "resets TCP in mid-stream",
        &[
            Twist::Reset,
            Twist::Answer(|_| then([Step::Send(Outgoing::Drop)])),
        ],
    ),
    ends(
        Stream,
        LOST,
        "stream-close",
        "closes the WebSocket in mid-stream, with 1011",
        &[Twist::Answer(|_| then([Step::Send(Outgoing::Close(1011))]))],
    ),
    ends(
        Stream,
        LOST,
        "stream-close-1003",
        "closes the WebSocket in mid-stream, with 1003",
        &[Twist::Answer(|_| then([Step::Send(Outgoing::Close(1003))]))],
    ),
    ends(
        Stream,
        LOST,
        "stream-close-normal",
        "closes the WebSocket in mid-stream, with 1000",
        &[Twist::Answer(|_| then([Step::Send(Outgoing::Close(1000))]))],
    ),
    ends(
        Stream,
        LOST,
        "stream-half-message",
        "hangs up after the first frame of two",
        &[Twist::Answer(|_| {
            let first = Outgoing::Frames(vec![frame(5, 0, 2, "x")]);
            then([Step::Send(first), Step::Send(Outgoing::Drop)])
        })],
    ),
    ends(
        Stream,
        "CONFER_E_DEAD_PEER",
        "stream-stall",
        "stops writing in mid-stream, pongs too",
        &[Twist::Answer(|_| then([Step::Send(Outgoing::Stall)]))],
    ),
];
