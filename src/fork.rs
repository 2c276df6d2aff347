//! Whether this process is the forked child of one that used the library.
//!
//! Threads do not survive a fork, and locks stay as they were: in such a child every call that returns a status answers
//! `Forked`, and freeing leaves everything alone. `ffi` registers the handler that marks a child.

use std::sync::atomic::{AtomicBool, Ordering};

static CHILD: AtomicBool = AtomicBool::new(false);

/// Called in a child, right after the fork of a process that used the library.
pub fn mark_child() {
    CHILD.store(true, Ordering::Relaxed);
}

/// Whether the library was in use before this process was forked.
pub fn in_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}
