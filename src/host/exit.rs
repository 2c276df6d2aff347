//! The end of the process, when threads of the library may still run.
//!
//! aws-lc's destructor locks the random number generator of each thread. A thread that asks for its
//! first random number afterwards aborts the process. A thread that asked before waits forever,
//! which is harmless. So every worker asks when it starts, and no worker starts once the process
//! ends. No other thread of the library asks aws-lc.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result, Status};

static ENDS: Mutex<bool> = Mutex::new(false);

fn ends() -> MutexGuard<'static, bool> {
    ENDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws the calling thread's first random number. Fails if the process is ending: then the thread
/// must not draw one.
pub(super) fn draw_first() -> Result<()> {
    let ends = ends();
    if *ends {
        let message = "the process is ending, so no new connection can be made";
        return Err(Error::new(Status::System, message).with_retryable(false));
    }
    let _ = aws_lc_rs::rand::fill(&mut [0]);
    Ok(())
}

/// Prevents new workers. Call it when the process ends, before its destructors run. Waits for
/// threads in `draw_first`.
pub fn process_ends() {
    *ends() = true;
}
