//! Keeps one core busy, like an application that computes while it receives.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A thread that spins on one core until this is dropped.
pub struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    pub fn start() -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            pin();
            while !stopped.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        Busy {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeps this thread on the first core that the process may use.
fn pin() {
    // SAFETY: the sets are plain bits, valid when zero, and the calls only read and write them.
    unsafe {
        let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        let known = libc::sched_getaffinity(0, size, &raw mut allowed);
        assert_eq!(known, 0, "Linux");
        let first = (0..libc::CPU_SETSIZE as usize).find(|core| libc::CPU_ISSET(*core, &allowed));
        libc::CPU_SET(first.expect("this thread runs on one"), &mut one);
        let pinned = libc::sched_setaffinity(0, size, &raw const one);
        assert_eq!(pinned, 0, "the process may use this core");
    }
}
