//! Opaque handles: each is an `Arc`, whose raw pointer the application holds.
//!
//! A call holds a reference while it runs. So another thread may free the handle during the call,
//! and handles may be freed in any order.

use std::sync::Arc;

use crate::error::{Error, Result, Status};

/// Gives a new handle to the application.
pub(crate) fn give<T>(value: T) -> *mut T {
    give_shared(Arc::new(value))
}

/// Gives the application a count of a handle that the library holds too.
pub(crate) fn give_shared<T>(handle: Arc<T>) -> *mut T {
    Arc::into_raw(handle).cast_mut()
}

/// Borrows a handle during a call.
///
/// # Safety
/// `handle` is NULL, or came from [`give`] for this type and was not freed.
pub(crate) unsafe fn borrow<T>(handle: *const T, name: &str) -> Result<Arc<T>> {
    if handle.is_null() {
        return Err(missing(name));
    }
    // SAFETY: by the contract, `handle` is the raw pointer of a live `Arc`; this takes another
    // reference.
    unsafe {
        Arc::increment_strong_count(handle);
        Ok(Arc::from_raw(handle))
    }
}

/// Borrows a handle during a getter.
///
/// # Safety
/// As [`borrow`]; and the application does not free it during the call.
pub(crate) unsafe fn peek<'a, T>(handle: *const T) -> Option<&'a T> {
    // SAFETY: by the contract, the pointer is NULL or valid for reads while the call lasts.
    unsafe { handle.as_ref() }
}

/// Takes a handle back.
///
/// # Safety
/// As [`borrow`]; afterwards the application does not use it again.
pub(crate) unsafe fn take<T>(handle: *mut T) -> Option<Arc<T>> {
    if handle.is_null() {
        return None;
    }
    // SAFETY: by the contract, this is the count that `give` handed out.
    Some(unsafe { Arc::from_raw(handle) })
}

/// An output argument. Refuses NULL before any work. An output for a handle is set to NULL first.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `out` is NULL or writable.
    pub(crate) unsafe fn new(out: *mut T, name: &str) -> Result<Out<T>> {
        if out.is_null() {
            Err(missing(name))
        } else {
            Ok(Out(out))
        }
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: it is not NULL, and so writable by the contract of `new`.
        unsafe { self.0.write(value) }
    }
}

/// An output argument for a handle.
///
/// # Safety
/// `out` is NULL or writable.
pub(crate) unsafe fn out<T>(out: *mut *mut T, name: &str) -> Result<Out<*mut T>> {
    // SAFETY: passed on.
    let out = unsafe { Out::new(out, name) }?;
    out.set(std::ptr::null_mut());
    Ok(out)
}

/// An output argument for what a handle lends.
///
/// # Safety
/// `out` is NULL or writable.
pub(crate) unsafe fn out_const<T>(out: *mut *const T, name: &str) -> Result<Out<*const T>> {
    // SAFETY: passed on.
    let out = unsafe { Out::new(out, name) }?;
    out.set(std::ptr::null());
    Ok(out)
}

/// An output argument for a handle that may be left out.
///
/// # Safety
/// `out` is NULL or writable.
pub(crate) unsafe fn out_or_none<T>(out: *mut *mut T) -> Option<Out<*mut T>> {
    // SAFETY: passed on.
    unsafe { self::out(out, "") }.ok()
}

/// The error for an argument that is NULL.
pub(crate) fn missing(name: &str) -> Error {
    Error::new(Status::InvalidArgument, format!("{name}: it is NULL"))
}
