//! Encodes and decodes the messages of protocol sections 3 and 4: schema, frames, reassembly. Pure.
//!
//! Knows nothing of the peer, of encryption, or of what a request means.

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

/// The peer broke a rule of the protocol. Each of these ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Malformed frame, or one that contradicts itself or an earlier frame.
    Frame(String),
    /// Well-formed frame or response that exceeds a limit.
    Limit(String),
    /// Invalid response.
    Message(String),
}

/// Returns `view`, or a copy of it if `view` is a small part of the `held` bytes that it keeps in
/// memory. Limits count the length of a view. Without the copy, a peer could pad messages with
/// fields that nobody reads, and one counted byte would keep a whole message.
pub fn frugal(view: Bytes, held: usize) -> Bytes {
    /// Room for the other fields of a frame or response.
    const FIELDS: usize = 64;
    if held <= view.len() + view.len() / 4 + FIELDS {
        view
    } else {
        Bytes::copy_from_slice(&view)
    }
}

/// The enclave's side of the messages, for tests of other modules.
#[cfg(test)]
pub(crate) mod testing {
    use bytes::Bytes;
    use prost::Message as _;

    use super::pb;

    /// Returns a request's id and its verb, path and chunk as text, such as `POST /x[0: 12 final]`.
    pub(crate) fn read_request(message: Bytes) -> (i64, String) {
        let request = pb::WebsocketRequest::decode(message).unwrap();
        let mut text = format!("{} {}", request.verb(), request.path());
        if let Some(chunk) = &request.chunk {
            let end = if chunk.r#final() { " final" } else { "" };
            text += &format!("[{}: {}{end}]", chunk.seq(), chunk.data().len());
        }
        (request.id(), text.trim().to_owned())
    }

    /// Decodes a request.
    pub(crate) fn read_parts(message: Bytes) -> Parts {
        let request = pb::WebsocketRequest::decode(message).unwrap();
        let parts = |chunk: &pb::StreamChunk| {
            let data = chunk.data.clone().unwrap_or_default();
            (chunk.seq(), data, chunk.r#final())
        };
        Parts {
            id: request.id(),
            opens: request.verb.is_some(),
            chunk: request.chunk.as_ref().map(parts),
            body: request.body.unwrap_or_default(),
        }
    }

    /// What [`read_parts`] returns.
    pub(crate) struct Parts {
        pub(crate) id: i64,
        /// It has a verb.
        pub(crate) opens: bool,
        pub(crate) body: Bytes,
        /// Number, data and final mark.
        pub(crate) chunk: Option<(u32, Bytes, bool)>,
    }

    /// Encodes a response.
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
