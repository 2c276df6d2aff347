//! Types. The handles, all opaque, and the function that destroys user data.
//!
//! The header declares all handles here, because C99 forbids a second declaration. In Rust, each is
//! in the file of its functions.

use std::ffi::c_void;

/// Destroys the user data: called once, after the last callback. May be NULL.
#[allow(non_camel_case_types)]
pub type confer_destroy_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;
