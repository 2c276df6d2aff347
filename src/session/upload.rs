//! The data of an upload on its way into a connection (protocol section 6): it is asked for when the socket will soon
//! take it, and no earlier, so that a document of any size takes the memory of a few chunks.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result, Status};

/// Data in one chunk: few and large ones, because the server handles each on a thread of its own and keeps at most 64
/// that are out of order (protocol section 6).
pub const MAX_CHUNK: usize = 1 << 20;
/// Chunks of one upload that wait to be sent: one that goes out, and one so that the next is there when it has.
pub(super) const MAX_AHEAD: usize = 2;
/// Uploads that may be open on one connection: as many as the server takes (protocol section 6).
pub const MAX_UPLOADS: usize = 10;

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
