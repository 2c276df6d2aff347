//! The application's pointer for its callbacks, and its destroy function.

use std::ffi::c_void;

use crate::ffi::types::confer_destroy_fn;

/// Owns the user data. The last drop runs the application's `destroy`, so it runs exactly once on
/// every path.
pub(crate) struct UserData {
    pointer: *mut c_void,
    destroy: confer_destroy_fn,
}

// SAFETY: the header asks that user data may be handed from thread to thread, and says where
// several clients may use it at once (those of one configuration); the library itself only passes
// the pointer on.
unsafe impl Send for UserData {}
// SAFETY: as above; a shared reference gives out only the pointer.
unsafe impl Sync for UserData {}

impl UserData {
    pub(crate) fn new(pointer: *mut c_void, destroy: confer_destroy_fn) -> UserData {
        UserData { pointer, destroy }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the application gave both together, and this is the one call.
            unsafe { destroy(self.pointer) };
        }
    }
}
