//! Helpers of every section: the guard of each export, handles, texts, callbacks, descriptors, and
//! the library's use of the process. No exports.

pub(super) mod guard;
pub(super) mod handle;
mod process;
mod randomness;
pub(super) mod signal;
pub(super) mod text;
pub(super) mod turns;
pub(super) mod user_data;
