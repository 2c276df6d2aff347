//! Joins transport frames into messages, within limits (protocol section 3).
//!
//! Messages may be interleaved, and the chunks of a message may arrive in any order. The published
//! server trusts `total_chunks` and keeps unfinished messages forever. A client must not.

use std::collections::BTreeMap;
use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Error, frugal, pb};

/// Most unfinished messages at once (protocol section 3).
pub const MAX_UNFINISHED: usize = 64;
/// Most chunks of one message (protocol section 3).
pub const MAX_CHUNKS: u32 = 4_096;
/// Most payload bytes of all unfinished messages together (protocol section 3).
pub const MAX_UNFINISHED_BYTES: usize = 64 << 20;

/// Unfinished messages of one connection.
pub struct Reassembler {
    /// Limit of `bytes`.
    most: usize,
    unfinished: HashMap<i64, Unfinished>,
    bytes: usize,
}

struct Unfinished {
    total: u32,
    /// Holds received chunks only, so a large `total` takes no memory.
    chunks: BTreeMap<u32, Bytes>,
}

impl Default for Reassembler {
    fn default() -> Reassembler {
        Reassembler::new(MAX_UNFINISHED_BYTES)
    }
}

impl Reassembler {
    /// Keeps at most `most` bytes of unfinished messages.
    pub fn new(most: usize) -> Reassembler {
        Reassembler {
            most,
            unfinished: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes one frame. Returns the message that it completes, if any. A message of one frame is a
    /// view of `frame`, without a copy.
    pub fn push(&mut self, frame: Bytes) -> Result<Option<Bytes>, Error> {
        let held = frame.len();
        let frame = pb::NoiseTransportFrame::decode(frame).map_err(|e| {
            Error::Frame(format!(
                "the enclave sent a message that is not a transport frame: {e}"
            ))
        })?;
        // A missing `chunk_id` or `chunk_index` is 0. A missing or zero `total_chunks` is an error.
        let (id, index, total) = (frame.chunk_id(), frame.chunk_index(), frame.total_chunks());
        let payload = frugal(frame.payload.unwrap_or_default(), held);

        if total == 0 {
            return Err(Error::Frame(
                "the enclave sent a frame whose total_chunks is absent or 0".into(),
            ));
        }
        if total > MAX_CHUNKS {
            return Err(Error::Limit(format!(
                "the enclave sent a message of {total} chunks (at most {MAX_CHUNKS})"
            )));
        }
        if index >= total {
            return Err(Error::Frame(format!(
                "the enclave sent a frame with chunk_index {index} of {total} chunks (expected less)"
            )));
        }

        let Some(message) = self.unfinished.get_mut(&id) else {
            if total == 1 {
                return Ok(Some(payload));
            }
            if self.unfinished.len() == MAX_UNFINISHED {
                return Err(Error::Limit(format!(
                    "the enclave sent parts of more than {MAX_UNFINISHED} unfinished messages"
                )));
            }
            self.reserve(payload.len())?;
            let chunks = BTreeMap::from([(index, payload)]);
            self.unfinished.insert(id, Unfinished { total, chunks });
            return Ok(None);
        };

        if total != message.total {
            let first = message.total;
            return Err(Error::Frame(format!(
                "the enclave changed total_chunks of a message from {first} to {total}"
            )));
        }
        if let Some(known) = message.chunks.get(&index) {
            if *known == payload {
                return Ok(None);
            }
            return Err(Error::Frame(format!(
                "the enclave sent chunk {index} of a message twice, with different bytes"
            )));
        }
        let (received, len) = (message.chunks.len() + 1, payload.len());
        if received < total as usize {
            message.chunks.insert(index, payload);
            self.reserve(len)?;
            return Ok(None);
        }

        self.reserve(len)?;
        let mut message = self.unfinished.remove(&id).expect("it was found above");
        message.chunks.insert(index, payload);
        let size = message.chunks.values().map(Bytes::len).sum();
        self.bytes -= size;
        let mut whole = BytesMut::with_capacity(size);
        for chunk in message.chunks.values() {
            whole.extend_from_slice(chunk);
        }
        Ok(Some(whole.freeze()))
    }

    fn reserve(&mut self, len: usize) -> Result<(), Error> {
        self.bytes += len;
        if self.bytes > self.most {
            return Err(Error::Limit(format!(
                "the enclave sent more than {} bytes of unfinished messages",
                self.most
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Fragments, MAX_FRAME_PAYLOAD};

    fn frame(id: Option<i64>, index: Option<u32>, total: Option<u32>, payload: &[u8]) -> Bytes {
        pb::NoiseTransportFrame {
            chunk_id: id,
            chunk_index: index,
            total_chunks: total,
            payload: Some(Bytes::copy_from_slice(payload)),
        }
        .encode_to_vec()
        .into()
    }

    fn chunk(id: i64, index: u32, total: u32, payload: &[u8]) -> Bytes {
        frame(Some(id), Some(index), Some(total), payload)
    }

    #[test]
    fn missing_chunk_id_and_index_are_zero() {
        let mut r = Reassembler::default();
        assert_eq!(r.push(frame(None, None, Some(2), b"a")), Ok(None));
        assert_eq!(
            r.push(chunk(0, 1, 2, b"b")),
            Ok(Some(Bytes::from_static(b"ab")))
        );
    }

    #[test]
    fn missing_payload_is_an_empty_message() {
        let bytes = pb::NoiseTransportFrame {
            total_chunks: Some(1),
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(
            Reassembler::default().push(bytes.into()),
            Ok(Some(Bytes::new()))
        );
    }

    #[test]
    fn missing_or_zero_total_is_refused() {
        for total in [None, Some(0)] {
            let e = Reassembler::default()
                .push(frame(Some(1), Some(0), total, b""))
                .unwrap_err();
            assert!(matches!(e, Error::Frame(_)), "{e:?}");
        }
    }

    #[test]
    fn index_beyond_the_total_is_refused() {
        assert!(matches!(
            Reassembler::default().push(chunk(1, 2, 2, b"")),
            Err(Error::Frame(_))
        ));
        assert!(matches!(
            Reassembler::default().push(chunk(1, 1, 1, b"")),
            Err(Error::Frame(_))
        ));
    }

    #[test]
    fn changed_total_is_refused() {
        for later in [1, 2, 4] {
            let mut r = Reassembler::default();
            r.push(chunk(1, 0, 3, b"a")).unwrap();
            assert!(matches!(
                r.push(chunk(1, 0, later, b"a")),
                Err(Error::Frame(_))
            ));
        }
    }

    #[test]
    fn equal_duplicate_is_ignored_and_different_one_refused() {
        let mut r = Reassembler::default();
        r.push(chunk(1, 0, 2, b"a")).unwrap();
        assert_eq!(r.push(chunk(1, 0, 2, b"a")), Ok(None));
        assert!(matches!(r.push(chunk(1, 0, 2, b"b")), Err(Error::Frame(_))));
    }

    #[test]
    fn malformed_frame_is_refused() {
        assert!(matches!(
            Reassembler::default().push(Bytes::from_static(b"\xff\xff")),
            Err(Error::Frame(_))
        ));
    }

    #[test]
    fn at_most_64_messages_are_unfinished() {
        let mut r = Reassembler::default();
        for id in 0..MAX_UNFINISHED as i64 {
            r.push(chunk(id, 0, 2, b"a")).unwrap();
        }
        assert_eq!(
            r.push(chunk(-1, 0, 1, b"whole")),
            Ok(Some(Bytes::from_static(b"whole")))
        );
        assert!(matches!(
            r.push(chunk(-1, 0, 2, b"a")),
            Err(Error::Limit(_))
        ));
    }

    #[test]
    fn message_has_at_most_4096_chunks() {
        let mut r = Reassembler::default();
        r.push(chunk(1, MAX_CHUNKS - 1, MAX_CHUNKS, b"a")).unwrap();
        assert!(matches!(
            r.push(chunk(2, 0, MAX_CHUNKS + 1, b"a")),
            Err(Error::Limit(_))
        ));
    }

    #[test]
    fn unfinished_messages_hold_at_most_64_mib() {
        let mut r = Reassembler::default();
        let payload = vec![0; MAX_UNFINISHED_BYTES / 1_024];
        for index in 0..1_024 {
            r.push(chunk(1, index, 2_000, &payload)).unwrap();
        }
        assert!(matches!(
            r.push(chunk(1, 1_024, 2_000, b"x")),
            Err(Error::Limit(_))
        ));
    }

    #[test]
    fn small_payload_does_not_keep_its_frame_in_memory() {
        // An unknown field of 48 KiB, and a payload of one byte.
        let mut padded = vec![0xfa, 0x01, 0x80, 0x80, 0x03];
        padded.resize(padded.len() + (48 << 10), 7);
        padded.extend_from_slice(&chunk(1, 0, 1, b"x"));
        let frame = Bytes::from(padded);
        let within = frame.as_ptr_range();
        let whole = Reassembler::default().push(frame.clone()).unwrap().unwrap();
        assert_eq!(whole, "x");
        assert!(
            !within.contains(&whole.as_ptr()),
            "a copy, not a view of 48 KiB"
        );
    }

    #[test]
    fn finished_message_frees_its_bytes() {
        let mut r = Reassembler::default();
        let half = vec![0; 20 << 20];
        for id in 0..8 {
            r.push(chunk(id, 0, 2, &half)).unwrap();
            assert_eq!(
                r.push(chunk(id, 1, 2, &half)).unwrap().unwrap().len(),
                40 << 20
            );
        }
        assert_eq!(r.bytes, 0);
    }

    proptest! {
        #[test]
        fn shuffled_frames_of_many_messages_come_out_whole(
            lens in prop::collection::vec(0usize..4 * MAX_FRAME_PAYLOAD, 1..6),
            seed in any::<u64>(),
        ) {
            let messages: Vec<Bytes> = lens.iter().enumerate()
                .map(|(i, len)| Bytes::from((0..*len).map(|b| (b ^ i) as u8).collect::<Vec<_>>())).collect();
            let mut frames = Vec::new();
            for (i, message) in messages.iter().enumerate() {
                let mut fragments = Fragments::new(i as i64 - 2, message.clone());
                let mut out = BytesMut::new();
                while fragments.next_into(&mut out) { frames.push(out.split().freeze()); }
            }
            let mut state = seed | 1;
            for i in (1..frames.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                frames.swap(i, (state >> 33) as usize % (i + 1));
            }
            let mut r = Reassembler::default();
            let mut whole: Vec<Bytes> = frames.into_iter().filter_map(|f| r.push(f).unwrap()).collect();
            let mut expected = messages;
            whole.sort();
            expected.sort();
            prop_assert_eq!(whole, expected);
            prop_assert_eq!(r.bytes, 0);
        }

        #[test]
        fn no_bytes_cause_a_panic(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32)) {
            let mut r = Reassembler::default();
            for frame in frames { let _ = r.push(frame.into()); }
        }
    }
}
