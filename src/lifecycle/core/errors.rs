//! The errors that the core makes itself.

use crate::error::{Error, Status};

/// The end of a connection that must be replaced, without reconnecting.
pub(super) fn expired() -> Error {
    let message =
        "the connection reached its maximal age, or its evidence expired, and reconnecting is off";
    Error::new(Status::Expired, message)
}

/// The end of a request that the application cancelled.
pub fn cancelled() -> Error {
    Error::new(Status::Cancelled, "cancelled by the application")
}

/// The end of requests when the application closes the client.
pub fn closed() -> Error {
    Error::new(Status::Closed, "the client was closed")
}
