//! A request, as a connection takes it.

use std::borrow::Cow;

use bytes::Bytes;

use super::limits::Pace;
use super::upload::Source;

/// A request to send.
pub struct Request {
    /// `GET` or `POST`; not empty.
    pub verb: Cow<'static, str>,
    /// The route; not empty.
    pub path: Cow<'static, str>,
    /// Empty, or UTF-8 text.
    pub body: Bytes,
    /// A document to send with it, in chunks.
    pub upload: Option<Box<dyn Source>>,
    /// The way its answer arrives.
    pub pace: Pace,
}
