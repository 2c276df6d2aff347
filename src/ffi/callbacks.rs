//! Callbacks. The table of functions that receive a stream's events, or wake-ups to read them.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::status::{CONFER_OK, confer_status};
use super::support::handle::{self, Out};
use super::support::user_data::UserData;
use super::types::{confer_destroy_fn, confer_error, confer_event, confer_stream};
use crate::client::{self, Event, Stream};
use crate::error::{Error, Result, Status};

/// The callbacks of a stream. They run on the client's callback thread, one at a time, in order.
///
/// Set `size` to `sizeof(confer_stream_callbacks)` and unused members to NULL, for example by
/// `confer_stream_callbacks c = {sizeof c, data, on_event, on_done, destroy, NULL}`. A smaller
/// size, of an older header, is accepted. A larger one, of at most 1,024 bytes, is accepted if all
/// members unknown to this version are zero.
///
/// The table has two uses. With `on_event`, the library delivers the events. With `on_ready`, it
/// wakes the application, which takes them with confer_stream_next() or confer_stream_collect() on
/// any thread; `on_event` must be NULL then.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct confer_stream_callbacks {
    /// sizeof(confer_stream_callbacks).
    pub size: usize,
    /// Passed to each call.
    pub user_data: *mut c_void,
    /// Receives an event, which is lent during the call. Return 0 to continue; anything else stops
    /// the stream, and `on_done` follows with CONFER_E_STOPPED. May be NULL.
    pub on_event: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream: *mut confer_stream,
            event: *const confer_event,
        ) -> i32,
    >,
    /// Called exactly once, at the end of the stream, after the last event or the last `on_ready`.
    /// `status` is CONFER_OK if the answer is complete; otherwise `error` says why it failed, and
    /// is lent during the call. May be NULL.
    ///
    /// With `on_ready`, events may still wait: free the stream only after confer_stream_next() has
    /// returned the end, which has the same status. (If confer_close() comes first, it drops these
    /// events, and confer_stream_next() returns CONFER_E_CLOSED.)
    pub on_done: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream: *mut confer_stream,
            status: confer_status,
            error: *const confer_error,
        ),
    >,
    /// Destroys the user data. Called exactly once, after `on_done` and all other callbacks. May be
    /// NULL.
    pub destroy: confer_destroy_fn,
    /// Called when an event or the end is ready to be taken. Then call confer_stream_next() with a
    /// timeout of 0, here or on another thread, until it returns CONFER_TIMEOUT, CONFER_END or an
    /// error. The next call comes after everything was taken, and one more comes for the end. A
    /// call can come after another thread has taken everything. None begins after
    /// confer_stream_free(), but one that has begun can last longer than a free on another thread.
    /// After confer_close(), `on_done` may come without a call of `on_ready`. NULL: the library
    /// delivers the events to `on_event`.
    pub on_ready: Option<unsafe extern "C" fn(user_data: *mut c_void, stream: *mut confer_stream)>,
}

/// Largest size of a newer table.
const MAX_TABLE: usize = 1_024;

impl confer_stream_callbacks {
    /// Reads a table of any known or newer size. Returns None for NULL.
    ///
    /// # Safety
    /// `table` is NULL or readable for the size that its first member says.
    unsafe fn read(table: *const confer_stream_callbacks) -> Result<Option<Table>> {
        let invalid = |why: &str| Error::new(Status::InvalidArgument, format!("callbacks: {why}"));
        if table.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL, so its first member is readable.
        let size = unsafe { (&raw const (*table).size).read_unaligned() };
        if !(offset_of!(confer_stream_callbacks, on_event)..=MAX_TABLE).contains(&size) {
            return Err(invalid(&format!(
                "invalid size {size} (expected sizeof(confer_stream_callbacks))"
            )));
        }
        let mut known = confer_stream_callbacks {
            size: size_of::<confer_stream_callbacks>(),
            user_data: std::ptr::null_mut(),
            on_event: None,
            on_done: None,
            destroy: None,
            on_ready: None,
        };
        // SAFETY: readable for `size` bytes; a prefix of the table is whole members, and NULL is
        // their absence.
        let unknown = unsafe {
            let bytes = std::slice::from_raw_parts(table.cast::<u8>(), size);
            let (head, tail) = bytes.split_at(size.min(size_of::<confer_stream_callbacks>()));
            let whole = head.len() - head.len() % size_of::<*const c_void>();
            std::ptr::copy_nonoverlapping(head.as_ptr(), (&raw mut known).cast::<u8>(), whole);
            tail.iter().any(|byte| *byte != 0)
        };
        // From here on `destroy` runs on every path.
        let user_data = UserData::new(known.user_data, known.destroy);
        if unknown {
            return Err(invalid(
                "a member is set that this version of the library does not support",
            ));
        }
        if known.on_event.is_some() && known.on_ready.is_some() {
            return Err(invalid(
                "on_event and on_ready are both set: events are either delivered or taken",
            ));
        }
        Ok(Some(Table {
            calls: known,
            user_data,
        }))
    }
}

/// An application's callbacks. Owns its user data.
pub(super) struct Table {
    calls: confer_stream_callbacks,
    user_data: UserData,
}

impl Table {
    /// Returns whether the application takes the events, when `on_ready` says so.
    pub(super) fn wakes(&self) -> bool {
        self.calls.on_ready.is_some()
    }
}

/// The arguments of a call that starts a stream: its callbacks, and the output for its handle.
pub(super) struct Target {
    pub(super) table: Result<Option<Table>>,
    pub(super) out: Option<Out<*mut confer_stream>>,
}

impl Target {
    /// Reads the table first, so that `destroy` runs on every failure, and then sets `stream` to
    /// NULL.
    ///
    /// # Safety
    /// `table` is NULL or readable for the size that its first member says. `stream` is NULL or
    /// writable.
    pub(super) unsafe fn read(
        table: *const confer_stream_callbacks,
        stream: *mut *mut confer_stream,
    ) -> Target {
        // SAFETY: passed on.
        let table = unsafe { confer_stream_callbacks::read(table) };
        // SAFETY: passed on.
        let out = unsafe { handle::out_or_none(stream) };
        Target { table, out }
    }
}

/// An application's callbacks and the stream that they belong to.
pub(super) struct Calls {
    stream: Arc<confer_stream>,
    calls: confer_stream_callbacks,
    /// Dropped after the stream. The drop calls `destroy`.
    _user_data: UserData,
}

// SAFETY: the table's pointers are the application's, which the header asks to be callable on the
// callback thread; no other thread uses them.
unsafe impl Send for Calls {}

impl Calls {
    pub(super) fn new(stream: Arc<confer_stream>, table: Table) -> Calls {
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
        &self.stream.stream
    }

    fn takes(&self) -> bool {
        self.calls.on_ready.is_some()
    }

    fn ready(&self) {
        if let Some(on_ready) = self.calls.on_ready
            && !self.stream.freed.load(Ordering::Relaxed)
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
            let status = error
                .as_ref()
                .map_or(CONFER_OK, |error| error.status() as confer_status);
            // SAFETY: as in `ready`; the error lives during the call.
            unsafe { on_done(self.calls.user_data, self.handle(), status, lent) };
        }
    }
}
