//! Text across the boundary. In: pointer and length, or NUL-terminated. Out: borrowed, with its
//! length and a NUL.

use std::ffi::{CStr, c_char};

use crate::client::Text;
use crate::error::{Error, Result, Status};

/// Reads a text argument.
///
/// # Safety
/// `text` is NULL, or readable for `len` bytes, or, if `len` is `SIZE_MAX`, up to and including a
/// NUL.
pub(crate) unsafe fn read<'a>(text: *const c_char, len: usize, name: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    let bytes = unsafe { bytes(text, len, name) }?;
    std::str::from_utf8(bytes).map_err(|e| {
        Error::new(
            Status::InvalidUtf8,
            format!(
                "{name}: not UTF-8 (first invalid byte at offset {})",
                e.valid_up_to()
            ),
        )
    })
}

/// Reads an argument of bytes.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn bytes<'a>(text: *const c_char, len: usize, name: &str) -> Result<&'a [u8]> {
    let invalid = |why: &str| {
        Err(Error::new(
            Status::InvalidArgument,
            format!("{name}: {why}"),
        ))
    };
    if text.is_null() {
        return if len == 0 {
            Ok(&[])
        } else {
            invalid("it is NULL")
        };
    }
    if len == usize::MAX {
        // SAFETY: by the contract it is NUL-terminated.
        return Ok(unsafe { CStr::from_ptr(text) }.to_bytes());
    }
    if isize::try_from(len).is_err() {
        return invalid("its length is larger than any object can be");
    }
    // SAFETY: by the contract it is readable for `len` bytes, and `len` is one that a slice can
    // have.
    Ok(unsafe { std::slice::from_raw_parts(text.cast(), len) })
}

/// Reads the argument `bytes`, which is no text and so needs its length.
///
/// # Safety
/// `bytes` is NULL or readable for `len` bytes.
pub(crate) unsafe fn data<'a>(bytes: *const u8, len: usize) -> Result<&'a [u8]> {
    if len == usize::MAX {
        let message =
            "len: SIZE_MAX means NUL-terminated text; a document needs its length in bytes";
        return Err(Error::new(Status::InvalidArgument, message));
    }
    // SAFETY: passed on.
    unsafe { self::bytes(bytes.cast(), len, "bytes") }
}

/// Lends a text; without one, NULL and a length of 0.
///
/// # Safety
/// `len` is NULL or writable.
pub(crate) unsafe fn lend(text: Option<&Text>, len: *mut usize) -> *const c_char {
    let (pointer, size) = match text {
        Some(text) => (text.as_str().as_ptr().cast(), text.as_str().len()),
        None => (std::ptr::null(), 0),
    };
    if !len.is_null() {
        // SAFETY: not NULL, and so writable by the contract.
        unsafe { len.write(size) };
    }
    pointer
}

/// Lends bytes that end with a NUL, which the length does not count.
///
/// # Safety
/// `len` is NULL or writable.
pub(crate) unsafe fn lend_bytes(bytes: &[u8], len: *mut usize) -> *const c_char {
    if !len.is_null() {
        // SAFETY: not NULL, and so writable by the contract.
        unsafe { len.write(bytes.len() - 1) };
    }
    bytes.as_ptr().cast()
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> Text {
    Text::new(
        &bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}
