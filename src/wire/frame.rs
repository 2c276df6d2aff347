//! Splits a message into transport frames (protocol section 3).

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use super::pb;

/// The longest plaintext of one Noise message: 65,535 bytes minus the 16-byte AES-GCM tag.
pub const MAX_FRAME_LEN: usize = 65_519;

/// The longest payload of one frame. Reserves 30 bytes for the frame's other fields, which take at
/// most 27: an `int64` (tag 1, value 10), two `uint32` (1 + 5 each), the payload's tag and length
/// (1 + 3).
pub const MAX_FRAME_PAYLOAD: usize = MAX_FRAME_LEN - 30;

/// Makes the frames of one message, one at a time, when the socket can take one.
pub struct Fragments {
    chunk_id: i64,
    next_index: u32,
    total: u32,
    rest: Bytes,
}

impl Fragments {
    /// Splits `message`. Pass a random `chunk_id` for each message. An empty message is one frame.
    pub fn new(chunk_id: i64, message: Bytes) -> Fragments {
        let total = message.len().div_ceil(MAX_FRAME_PAYLOAD).max(1);
        Fragments {
            chunk_id,
            next_index: 0,
            total: u32::try_from(total).expect("a message is far below 2^32 frames"),
            rest: message,
        }
    }

    /// Whether a frame was taken. If so, all others must be sent too.
    pub fn begun(&self) -> bool {
        self.next_index > 0
    }

    /// Whether all frames were taken.
    pub fn finished(&self) -> bool {
        self.next_index == self.total
    }

    /// Clears `out` and writes the next frame to it. Returns false if no frame is left.
    pub fn next_into(&mut self, out: &mut BytesMut) -> bool {
        if self.finished() {
            return false;
        }
        let payload = self
            .rest
            .split_to(self.rest.remaining().min(MAX_FRAME_PAYLOAD));
        let frame = pb::NoiseTransportFrame {
            chunk_id: Some(self.chunk_id),
            chunk_index: Some(self.next_index),
            total_chunks: Some(self.total),
            payload: Some(payload),
        };
        self.next_index += 1;
        out.clear();
        out.reserve(frame.encoded_len());
        frame.encode(out).expect("a BytesMut grows as needed");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(len: usize) -> Vec<usize> {
        let mut fragments = Fragments::new(i64::MIN, Bytes::from(vec![7; len]));
        let (mut out, mut lens) = (BytesMut::new(), Vec::new());
        while fragments.next_into(&mut out) {
            assert!(
                out.len() <= MAX_FRAME_LEN,
                "a frame fits into one Noise message"
            );
            let frame = pb::NoiseTransportFrame::decode(&out[..]).unwrap();
            assert_eq!(frame.chunk_index, Some(lens.len() as u32));
            lens.push(frame.payload.unwrap().len());
        }
        lens
    }

    #[test]
    fn messages_are_split_at_65489_bytes() {
        assert_eq!(frames_of(0), [0]);
        assert_eq!(frames_of(1), [1]);
        assert_eq!(frames_of(65_489), [65_489]);
        assert_eq!(frames_of(65_490), [65_489, 1]);
        assert_eq!(frames_of(3 * 65_489), [65_489; 3]);
    }

    #[test]
    fn longest_frame_fields_fit_the_reserve() {
        let frame = pb::NoiseTransportFrame {
            chunk_id: Some(-1),
            chunk_index: Some(u32::MAX),
            total_chunks: Some(u32::MAX),
            payload: Some(Bytes::from(vec![0; MAX_FRAME_PAYLOAD])),
        };
        assert_eq!(frame.encoded_len() - MAX_FRAME_PAYLOAD, 27);
    }
}
