//! Calls a stream's callbacks.

use std::sync::Arc;

use super::user_data::UserData;
use crate::client::{self, Event, Stream};
use crate::error::Result;
use crate::ffi::callbacks::{Table, confer_stream_callbacks};
use crate::ffi::error::confer_error;
use crate::ffi::event::confer_event;
use crate::ffi::status::CONFER_OK;
use crate::ffi::stream::confer_stream;

/// An application's callbacks and the stream that they belong to.
pub(crate) struct Calls {
    stream: Arc<confer_stream>,
    calls: confer_stream_callbacks,
    /// Dropped after the stream. The drop calls `destroy`.
    _user_data: UserData,
}

// SAFETY: the table's pointers are the application's, which the header asks to be callable on the
// callback thread; no other thread uses them.
unsafe impl Send for Calls {}

impl Calls {
    pub(crate) fn new(stream: Arc<confer_stream>, table: Table) -> Calls {
        Calls {
            stream,
            calls: table.calls,
            _user_data: table.user_data,
        }
    }

    fn handle(&self) -> *mut confer_stream {
        Arc::as_ptr(&self.stream).cast_mut()
    }
}

impl client::Calls for Calls {
    fn stream(&self) -> &Stream {
        self.stream.stream()
    }

    fn takes(&self) -> bool {
        self.calls.on_ready.is_some()
    }

    fn ready(&self) {
        if let Some(on_ready) = self.calls.on_ready
            && !self.stream.is_freed()
        {
            // SAFETY: the application gave function and user data together; the handle lives during
            // the call.
            unsafe { on_ready(self.calls.user_data, self.handle()) };
        }
    }

    fn event(&self, event: Event) -> bool {
        let Some(on_event) = self.calls.on_event else {
            return true;
        };
        let event = confer_event::new(event);
        // SAFETY: as in `ready`; the event lives during the call.
        unsafe { on_event(self.calls.user_data, self.handle(), &raw const event) == 0 }
    }

    /// Calls `on_done`, and then, by dropping the user data, `destroy`.
    fn done(self, result: Result<()>) {
        let error = result.err().map(confer_error::new);
        if let Some(on_done) = self.calls.on_done {
            let lent = error.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let status = error.as_ref().map_or(CONFER_OK, confer_error::status);
            // SAFETY: as in `ready`; the error lives during the call.
            unsafe { on_done(self.calls.user_data, self.handle(), status, lent) };
        }
    }
}
