//! The queue of messages to send, which gives one frame at a time.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::random::Random;
use crate::wire::{Fragments, MAX_FRAME_PAYLOAD};

/// Messages in the order in which they are sent.
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    /// Protocol section 3: `chunk_id` is random for each message. It need not be secret; none
    /// repeats.
    ids: Random,
}

struct Message {
    id: i64,
    /// Opens the request, and holds its body.
    opens: bool,
    /// Bytes of a document that no frame has taken yet.
    data: usize,
    /// Ends an upload.
    last: bool,
    fragments: Fragments,
}

/// A frame from the queue.
pub(super) struct Frame {
    pub(super) id: i64,
    /// Bytes of a document in it.
    pub(super) data: usize,
    /// The message that it completes.
    pub(super) completes: Option<Sent>,
}

/// A message whose last frame was taken.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    /// It opened the request, and held its body.
    pub(super) opens: bool,
    /// Ends an upload.
    pub(super) last: bool,
}

impl Outgoing {
    pub(super) fn new(seed: u64) -> Outgoing {
        Outgoing {
            messages: VecDeque::new(),
            ids: Random::new(seed),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
    }

    /// Queues the only message of a request.
    pub(super) fn push(&mut self, id: i64, message: Bytes) {
        self.push_chunk(id, message, true, 0, false);
    }

    /// Queues a message with `data` bytes of a document.
    pub(super) fn push_chunk(
        &mut self,
        id: i64,
        message: Bytes,
        opens: bool,
        data: usize,
        last: bool,
    ) {
        let chunk_id = self.ids.number().cast_signed();
        self.messages.push_back(Message {
            id,
            opens,
            data,
            last,
            fragments: Fragments::new(chunk_id, message),
        });
    }

    /// Queues a ping before everything else, even between the frames of a long message. So its
    /// round trip measures the network and not the queue.
    pub(super) fn push_ping(&mut self, id: i64, message: Bytes) {
        let chunk_id = self.ids.number().cast_signed();
        self.messages.push_front(Message {
            id,
            opens: false,
            data: 0,
            last: false,
            fragments: Fragments::new(chunk_id, message),
        });
    }

    /// Takes the next frame and writes it to `out`. Returns None if the queue is empty.
    pub(super) fn next_frame(&mut self, out: &mut BytesMut) -> Option<Frame> {
        let message = self.messages.front_mut()?;
        message.fragments.next_into(out);
        // Ignores which bytes of a frame are data: the sum is right at the last frame.
        let data = message.data.min(MAX_FRAME_PAYLOAD);
        message.data -= data;
        let (id, opens, last) = (message.id, message.opens, message.last);
        let completes = message.fragments.finished().then(|| {
            self.messages.pop_front();
            Sent { opens, last }
        });
        Some(Frame {
            id,
            data,
            completes,
        })
    }

    /// Drops the messages of a request that have not begun to leave. A message that has begun goes
    /// out whole: a server keeps an unfinished one forever. Returns the number of dropped messages.
    pub(super) fn drop_unsent(&mut self, id: i64) -> u32 {
        let mut dropped = 0;
        self.messages.retain(|message| {
            let kept = message.id != id || message.fragments.begun();
            dropped += u32::from(!kept);
            kept
        });
        dropped
    }
}
