//! The library's changes to its process: a fork handler, an exit handler, and blocked signals while
//! it starts a thread.

use std::ffi::c_int;
use std::sync::Once;

use crate::{client, fork};

/// Registers the handlers, once, at the first call of a process.
pub(crate) fn note_use() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(unix)]
        unix::note_use();
        // SAFETY: the handler takes a lock that is never held for long. If the library is unloaded,
        // the C library calls the handler then, and not at the exit.
        let _: c_int = unsafe { libc::atexit(at_exit) };
    });
}

extern "C" fn at_exit() {
    // In a forked child, a thread of the parent may hold the lock.
    if !fork::in_child() {
        client::process_ends();
    }
}

/// Windows has neither fork nor signals.
#[cfg(unix)]
mod unix {
    use std::mem::MaybeUninit;
    use std::ptr;

    use super::*;

    pub(super) fn note_use() {
        // SAFETY: the handler only stores to an atomic, which is allowed in a forked child. If the
        // library is unloaded, the C library drops its handlers.
        let _: c_int = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        client::block_signals_with(without_signals);
    }

    unsafe extern "C" fn in_child() {
        fork::mark_child();
    }

    /// Signals that report a fault of the thread itself. Their handlers must run on that thread, and
    /// the kernel ends a process that blocks them.
    const OWN_FAULTS: [c_int; 7] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGABRT,
    ];

    /// Runs `start`, which starts a thread, with all other signals blocked. The new thread inherits the
    /// mask, so the application's threads handle the application's signals.
    fn without_signals(start: &mut dyn FnMut()) {
        let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the sets are filled before they are read; the numbers are signals.
        let changed = unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for fault in OWN_FAULTS {
                libc::sigdelset(blocked.as_mut_ptr(), fault);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr())
        };
        start();
        if changed == 0 {
            // SAFETY: the call above filled the set.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
        }
    }
}
