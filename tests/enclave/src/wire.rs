//! Messages and frames (protocol.md section 3). Shares no code with the library's framing.
//!
//! Pure. Knows neither Noise nor sockets.

use std::collections::HashMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

mod schema {
    #![allow(unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/confer.rs"));
}
pub(crate) use schema::{
    NoiseTransportFrame as Frame, StreamChunk as Chunk, WebsocketRequest as Request,
    WebsocketResponse as Response,
};

/// A Noise message has 65,535 bytes: 16 for the tag, 30 for the frame's other fields.
pub(crate) const MAX_PAYLOAD: usize = 65_489;
/// Limits of a client's unfinished messages: those that a client has (section 3).
const MAX_UNFINISHED: usize = 64;
const MAX_CHUNKS: u32 = 4_096;
const MAX_BYTES: usize = 64 << 20;

/// Splits a message into frames.
pub(crate) fn split(message: &Bytes, chunk_id: i64) -> Vec<Frame> {
    cut(message, chunk_id, MAX_PAYLOAD)
}

/// Splits a message into frames with at most `size` bytes of payload.
pub(crate) fn cut(message: &Bytes, chunk_id: i64, size: usize) -> Vec<Frame> {
    let total = message.len().div_ceil(size).max(1);
    (0..total)
        .map(|index| {
            let start = index * size;
            let end = message.len().min(start + size);
            Frame {
                chunk_id: Some(chunk_id),
                chunk_index: Some(index as u32),
                total_chunks: Some(total as u32),
                payload: Some(message.slice(start..end)),
            }
        })
        .collect()
}

/// Makes a response with a body.
pub(crate) fn response(id: i64, status: i32, body: impl Into<Bytes>) -> Response {
    Response {
        id: Some(id),
        status: Some(status),
        body: Some(body.into()),
        headers: HashMap::new(),
    }
}

/// A client's mistake. The connection is closed with 1003.
#[derive(Debug, PartialEq)]
pub(crate) enum Malformed {
    Frame,
    Total,
    Index,
    Duplicate,
    Limit,
    Request(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Frame => "a frame that cannot be decoded",
            Self::Total => "a total that is absent, zero, or changed",
            Self::Index => "an index beyond the total",
            Self::Duplicate => "a chunk twice, with other bytes",
            Self::Limit => "too much left unfinished",
            Self::Request(why) => why,
        })
    }
}

/// Joins frames into messages.
#[derive(Default)]
pub(crate) struct Reassembly {
    unfinished: HashMap<i64, Unfinished>,
    bytes: usize,
}

struct Unfinished {
    chunks: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
}

impl Reassembly {
    /// Takes one frame. Returns the message that it completes, if any.
    pub(crate) fn take(&mut self, plaintext: Bytes) -> Result<Option<Bytes>, Malformed> {
        let frame = Frame::decode(plaintext).map_err(|_| Malformed::Frame)?;
        let id = frame.chunk_id.unwrap_or(0);
        let index = frame.chunk_index.unwrap_or(0);
        let total = frame.total_chunks.unwrap_or(0);
        let payload = frame.payload.unwrap_or_default();
        if total == 0 {
            return Err(Malformed::Total);
        }
        if index >= total {
            return Err(Malformed::Index);
        }
        if total > MAX_CHUNKS {
            return Err(Malformed::Limit);
        }
        if total == 1 && !self.unfinished.contains_key(&id) {
            return Ok(Some(payload));
        }
        if !self.unfinished.contains_key(&id) && self.unfinished.len() == MAX_UNFINISHED {
            return Err(Malformed::Limit);
        }
        let message = self.unfinished.entry(id).or_insert_with(|| Unfinished {
            chunks: vec![None; total as usize],
            missing: total as usize,
            bytes: 0,
        });
        if message.chunks.len() != total as usize {
            return Err(Malformed::Total);
        }
        match &message.chunks[index as usize] {
            Some(known) if *known == payload => return Ok(None),
            Some(_) => return Err(Malformed::Duplicate),
            None => {}
        }
        self.bytes += payload.len();
        if self.bytes > MAX_BYTES {
            return Err(Malformed::Limit);
        }
        message.bytes += payload.len();
        message.missing -= 1;
        message.chunks[index as usize] = Some(payload);
        if message.missing > 0 {
            return Ok(None);
        }
        let Some(message) = self.unfinished.remove(&id) else {
            return Ok(None);
        };
        self.bytes -= message.bytes;
        let mut whole = BytesMut::with_capacity(message.bytes);
        message
            .chunks
            .into_iter()
            .flatten()
            .for_each(|chunk| whole.extend_from_slice(&chunk));
        Ok(Some(whole.freeze()))
    }
}

/// A decoded message (section 4).
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// A request. A chunk opens an upload.
    Open {
        id: i64,
        verb: String,
        path: String,
        body: String,
        chunk: Option<Chunk>,
    },
    /// The next chunk of an upload.
    Continue { id: i64, chunk: Chunk },
}

pub(crate) fn read_request(message: Bytes) -> Result<Asked, Malformed> {
    let request = Request::decode(message)
        .map_err(|_| Malformed::Request("a request that cannot be decoded"))?;
    let id = request
        .id
        .ok_or(Malformed::Request("a request without id"))?;
    if request
        .chunk
        .as_ref()
        .is_some_and(|chunk| chunk.seq.unwrap_or(0) >= 1 << 31)
    {
        return Err(Malformed::Request("a chunk's seq of 2^31 or more"));
    }
    let verb = request.verb.unwrap_or_default();
    let path = request.path.unwrap_or_default();
    let body = String::from_utf8(request.body.unwrap_or_default().into())
        .map_err(|_| Malformed::Request("a body that is no UTF-8"))?;
    match (verb.is_empty(), path.is_empty(), request.chunk) {
        (false, false, chunk) => Ok(Asked::Open {
            id,
            verb,
            path,
            body,
            chunk,
        }),
        (true, true, Some(chunk)) => Ok(Asked::Continue { id, chunk }),
        (true, true, None) => Err(Malformed::Request("a request without verb, path and chunk")),
        _ => Err(Malformed::Request("a verb without path, or the reverse")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(frame: &Frame) -> Bytes {
        frame.encode_to_vec().into()
    }

    fn frame(index: u32, total: u32, payload: &'static [u8]) -> Bytes {
        plain(&Frame {
            chunk_id: Some(-7),
            chunk_index: Some(index),
            total_chunks: Some(total),
            payload: Some(Bytes::from_static(payload)),
        })
    }

    #[test]
    fn frames_of_a_message_may_come_in_any_order() {
        let message = Bytes::from(
            (0..3 * MAX_PAYLOAD + 5)
                .map(|at| at as u8)
                .collect::<Vec<_>>(),
        );
        let frames = split(&message, i64::MIN);
        assert_eq!(frames.len(), 4);
        assert!(frames.iter().all(|frame| frame.encoded_len() <= 65_519));
        let mut reassembly = Reassembly::default();
        for frame in frames[1..].iter().rev() {
            assert_eq!(reassembly.take(plain(frame)), Ok(None));
        }
        assert_eq!(reassembly.take(plain(&frames[0])), Ok(Some(message)));
        assert_eq!(reassembly.bytes, 0);
    }

    #[test]
    fn empty_message_is_one_frame() {
        let frames = split(&Bytes::new(), 1);
        assert_eq!(frames.len(), 1);
        assert_eq!(
            Reassembly::default().take(plain(&frames[0])),
            Ok(Some(Bytes::new()))
        );
    }

    #[test]
    fn missing_id_and_index_are_zero() {
        let first = plain(&Frame {
            total_chunks: Some(2),
            payload: Some("a".into()),
            ..Frame::default()
        });
        let second = plain(&Frame {
            chunk_id: Some(0),
            chunk_index: Some(1),
            total_chunks: Some(2),
            payload: Some("b".into()),
        });
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.take(second), Ok(None));
        assert_eq!(reassembly.take(first), Ok(Some("ab".into())));
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        for (frames, broken) in [
            (vec![frame(0, 0, b"")], Malformed::Total),
            (vec![frame(2, 2, b"")], Malformed::Index),
            (vec![frame(0, 2, b"a"), frame(1, 3, b"b")], Malformed::Total),
            (vec![frame(0, 2, b"a"), frame(0, 1, b"b")], Malformed::Total),
            (
                vec![frame(0, 2, b"a"), frame(0, 2, b"b")],
                Malformed::Duplicate,
            ),
            (vec![frame(0, MAX_CHUNKS + 1, b"")], Malformed::Limit),
            (vec![Bytes::from_static(&[0xff])], Malformed::Frame),
        ] {
            let mut reassembly = Reassembly::default();
            let (last, before) = frames.split_last().expect("at least one");
            for frame in before {
                assert_eq!(reassembly.take(frame.clone()), Ok(None));
            }
            assert_eq!(reassembly.take(last.clone()), Err(broken));
        }
    }

    #[test]
    fn equal_duplicate_is_ignored() {
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.take(frame(0, 2, b"a")), Ok(None));
        assert_eq!(reassembly.take(frame(0, 2, b"a")), Ok(None));
        assert_eq!(reassembly.take(frame(1, 2, b"b")), Ok(Some("ab".into())));
    }

    #[test]
    fn unfinished_messages_have_a_limit() {
        let mut reassembly = Reassembly::default();
        let open = |id| {
            plain(&Frame {
                chunk_id: Some(id),
                chunk_index: Some(0),
                total_chunks: Some(2),
                payload: None,
            })
        };
        for id in 0..MAX_UNFINISHED as i64 {
            assert_eq!(reassembly.take(open(id)), Ok(None));
        }
        assert_eq!(reassembly.take(open(-1)), Err(Malformed::Limit));
    }

    #[test]
    fn incomplete_request_is_refused() {
        let read = |request: Request| read_request(request.encode_to_vec().into());
        let chunk = |seq| {
            Some(Chunk {
                seq: Some(seq),
                ..Chunk::default()
            })
        };
        let text = |text: &str| Some(text.to_owned());
        let whole = Request {
            id: Some(1),
            verb: text("GET"),
            path: text("/ping"),
            ..Request::default()
        };
        assert!(matches!(read(whole.clone()), Ok(Asked::Open { id: 1, .. })));
        let next = Request {
            id: Some(1),
            verb: text(""),
            path: text(""),
            chunk: chunk(3),
            ..Request::default()
        };
        assert!(matches!(read(next.clone()), Ok(Asked::Continue { .. })));
        for request in [
            Request {
                id: None,
                ..whole.clone()
            },
            Request {
                path: None,
                ..whole.clone()
            },
            Request {
                verb: text(""),
                ..whole.clone()
            },
            Request {
                chunk: None,
                ..next.clone()
            },
            Request {
                chunk: chunk(1 << 31),
                ..next
            },
            Request {
                body: Some(Bytes::from_static(&[0xc0])),
                ..whole
            },
        ] {
            assert!(matches!(read(request), Err(Malformed::Request(_))));
        }
    }
}
