//! The messages of protocol section 3 and 4 as bytes: schema, framing, bounded reassembly. Pure: no I/O, no clock.
//!
//! It must never know who is on the other side, what a request means or how bytes are encrypted.

mod frame;
mod message;
mod reassembly;

use bytes::Bytes;

/// The messages of `proto/confer.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/confer.rs"));
}

pub use frame::{Fragments, MAX_FRAME_LEN, MAX_FRAME_PAYLOAD};
pub use message::{Chunk, MAX_HEADER_BYTES, MAX_HEADERS, Request, Response};
pub use reassembly::{MAX_CHUNKS, MAX_UNFINISHED, MAX_UNFINISHED_BYTES, Reassembler};

/// A peer that broke a rule of the wire. Either one ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are not a transport frame, or the frame contradicts itself or an earlier one.
    Frame(String),
    /// The frame is well formed, but what it announces exceeds a bound.
    Limit(String),
    /// A whole message is not the response that the protocol describes.
    Message(String),
}

/// `view`, or a copy of it where it is a small part of the `held` bytes of memory that it keeps alive. Bounds count what
/// is kept by its length; without this a peer could have each byte keep a whole message, in fields that nobody reads.
pub fn frugal(view: Bytes, held: usize) -> Bytes {
    /// The fields of a frame, or of a response, around what is kept of it.
    const FIELDS: usize = 64;
    if held <= view.len() + view.len() / 4 + FIELDS {
        view
    } else {
        Bytes::copy_from_slice(&view)
    }
}

/// The enclave's side of the messages, for the tests of rooms above.
#[cfg(test)]
pub(crate) mod testing {
    use bytes::Bytes;
    use prost::Message as _;

    use super::pb;

    /// Id, and verb and path, of a request; of a chunk, its number, size, and whether it is the last.
    pub(crate) fn read_request(message: Bytes) -> (i64, String) {
        let request = pb::WebsocketRequest::decode(message).unwrap();
        let mut text = format!("{} {}", request.verb(), request.path());
        if let Some(chunk) = &request.chunk {
            let end = if chunk.r#final() { " final" } else { "" };
            text += &format!("[{}: {}{end}]", chunk.seq(), chunk.data().len());
        }
        (request.id(), text.trim().to_owned())
    }

    /// A response as a whole message.
    pub(crate) fn write_response(id: i64, status: i32, body: &'static str) -> Bytes {
        let body = Some(Bytes::from_static(body.as_bytes()));
        pb::WebsocketResponse {
            id: Some(id),
            status: Some(status),
            body,
            ..Default::default()
        }
        .encode_to_vec()
        .into()
    }
}
