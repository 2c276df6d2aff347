//! Knows whether this process was forked from one that had used the library.
//!
//! A child has no threads of the library, and its locks may be held forever. So calls that return a
//! status fail there with `Forked`, and freeing does nothing. `ffi` registers the fork handler.

use std::sync::atomic::{AtomicBool, Ordering};

static CHILD: AtomicBool = AtomicBool::new(false);

/// Called in the child right after a fork.
pub fn mark_child() {
    CHILD.store(true, Ordering::Relaxed);
}

/// Whether the library was used before this process was forked.
pub fn in_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}
