//! The source of an upload's data.

use std::sync::Arc;

use super::core::Data;
use crate::error::{Error, Result, Status};

/// A document, read part by part.
pub trait Source: Send {
    /// Asks for the next part. Returns it if it is available; otherwise `supply` brings it later.
    /// Runs on the connection's task, so it must not wait. It is not called again before the part
    /// has come, nor after the last one.
    fn next(&mut self, supply: Supply) -> Option<Result<Data>>;
    /// Returns a way to read the document from its beginning again, if that is possible.
    fn again(&self) -> Option<Again>;
}

/// Makes a new source for the same document.
pub type Again = Box<dyn Fn() -> Box<dyn Source> + Send>;

/// Brings the parts of one upload to its connection.
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

/// Takes one part. If it is dropped before it has one, the request fails.
pub struct Supply {
    way: Way,
    given: bool,
}

impl Supply {
    /// Brings the part. An error ends the request.
    pub fn give(mut self, data: Result<Data>) {
        self.send(data);
    }

    /// Closes this way: the part was returned at once.
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
