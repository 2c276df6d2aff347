//! The data of an upload on its way into a connection (protocol section 6): it is asked for when the socket will soon
//! take it, and no earlier, so that a document of any size takes the memory of a few chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result, Status};

/// Data in one chunk: few and large ones, because the server handles each on a thread of its own and keeps at most 64
/// that are out of order (protocol section 6).
pub const MAX_CHUNK: usize = 1 << 20;
/// Chunks of one upload that wait to be sent: one that goes out, and one so that the next is there when it has.
pub(super) const MAX_AHEAD: usize = 2;
/// Places for uploads on one connection, as many as the server has (protocol section 6). Further uploads wait.
pub const MAX_UPLOADS: usize = 10;

/// The server's places for uploads: how many are taken, and who waits for one, in order.
///
/// An upload takes a place before its request is sent. The place is free again when the final chunk has been written
/// *and* the request has ended. The server frees it at the final chunk, or after 10 minutes.
#[derive(Default)]
pub(super) struct Places {
    taken: usize,
    waiting: VecDeque<i64>,
}

impl Places {
    pub(super) fn wait(&mut self, id: i64) {
        self.waiting.push_back(id);
    }

    /// Gives a free place to the upload that has waited longest, and returns its id.
    pub(super) fn give(&mut self) -> Option<i64> {
        if self.taken == MAX_UPLOADS {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.taken += 1;
        Some(id)
    }

    /// An upload no longer waits.
    pub(super) fn forget(&mut self, id: i64) {
        self.waiting.retain(|waiting| *waiting != id);
    }

    /// A place is free again.
    pub(super) fn free(&mut self) {
        self.taken -= 1;
    }
}

/// A part of the document.
pub struct Data {
    /// At most [`MAX_CHUNK`] bytes.
    pub bytes: Bytes,
    /// Nothing follows it.
    pub last: bool,
}

/// Where a document comes from.
pub trait Source: Send {
    /// Asks for the next part. It is returned, if it is there at once; otherwise `supply` brings it later. Called on the
    /// connection's task: it must not wait. Not called again before the part has come, nor after the last one.
    fn next(&mut self, supply: Supply) -> Option<Result<Data>>;
    /// The way to the same document from its beginning, if it can be had again.
    fn again(&self) -> Option<Again>;
}

/// Makes a source anew.
pub type Again = Box<dyn Fn() -> Box<dyn Source> + Send>;

/// The way of an upload's parts into its connection.
#[derive(Clone)]
pub(super) struct Way(Arc<dyn Fn(Result<Data>) + Send + Sync>);

impl Way {
    pub(super) fn new(way: impl Fn(Result<Data>) + Send + Sync + 'static) -> Way {
        Way(Arc::new(way))
    }

    pub(super) fn supply(&self) -> Supply {
        Supply {
            way: self.clone(),
            given: false,
        }
    }
}

/// What one part is given to.
pub struct Supply {
    way: Way,
    given: bool,
}

impl Supply {
    /// Brings the part, or says why there is none: that ends the request.
    pub fn give(mut self, data: Result<Data>) {
        self.send(data);
    }

    /// The part was there at once.
    pub fn not_needed(mut self) {
        self.given = true;
    }

    fn send(&mut self, data: Result<Data>) {
        self.given = true;
        (self.way.0)(data);
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        if !self.given {
            let message = "the upload's source ended without a word";
            self.send(Err(Error::new(Status::Panic, message)));
        }
    }
}
