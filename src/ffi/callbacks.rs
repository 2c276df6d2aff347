//! Callbacks. The table of functions that receive a stream's events, or wake-ups to read them.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

use super::error::confer_error;
use super::event::confer_event;
use super::status::confer_status;
use super::stream::confer_stream;
use super::support::user_data::UserData;
use super::types::confer_destroy_fn;
use crate::error::{Error, Result, Status};

/// The callbacks of a stream. They run on the client's callback thread, one at a time, in order.
///
/// Set `size` to `sizeof(confer_stream_callbacks)` and unused members to NULL, for example by
/// `confer_stream_callbacks c = {sizeof c, data, on_event, on_done, destroy, NULL}`. A smaller
/// size, of an older header, is accepted. A larger one is accepted if all members unknown to this
/// version are zero.
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
    /// call can come after another thread has taken everything, but not after confer_stream_free().
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
    pub(in crate::ffi) unsafe fn read(
        table: *const confer_stream_callbacks,
    ) -> Result<Option<Table>> {
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
    pub(super) calls: confer_stream_callbacks,
    pub(super) user_data: UserData,
}
