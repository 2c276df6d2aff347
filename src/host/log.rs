//! What the library tells an application that asked for a log. Nothing secret at any level, and no global logger.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::callbacks::Callbacks;

/// How much a record matters. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is not as it should be; the work goes on.
    Warn = 2,
    /// A connection came or went.
    Info = 3,
    /// Each stage of connecting.
    Debug = 4,
}

/// Where records go.
pub trait Sink: Send + Sync {
    /// Takes a record, on the client's callback thread.
    fn record(&self, level: Level, target: &'static str, message: &str);
}

/// Records that may wait for a slow sink; what comes on top is counted and dropped.
const MAX_WAITING: usize = 1_024;

/// One client's log; silent unless a sink was given.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Open>>);

struct Open {
    level: Level,
    sink: Arc<dyn Sink>,
    /// Not kept by what runs there: its own queue would be its last owner.
    callbacks: Weak<Callbacks>,
    waiting: AtomicUsize,
    dropped: AtomicUsize,
}

impl Log {
    /// A log that passes records up to `level` on, on the thread of `callbacks`.
    pub fn new(level: Level, sink: Arc<dyn Sink>, callbacks: &Arc<Callbacks>) -> Log {
        let callbacks = Arc::downgrade(callbacks);
        let (waiting, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Log(Some(Arc::new(Open {
            level,
            sink,
            callbacks,
            waiting,
            dropped,
        })))
    }

    /// Lets go of the sink on the callback thread: a task's end must not run the application's `destroy` on a worker.
    pub fn release(self) {
        if let Some(open) = self.0
            && let Some(callbacks) = open.callbacks.upgrade()
        {
            callbacks.post(move || drop(open));
        }
    }

    /// Records what `message` makes; it is not called if no one listens.
    pub fn record(&self, level: Level, target: &'static str, message: impl FnOnce() -> String) {
        let Some(open) = self.0.as_ref().filter(|open| level <= open.level) else {
            return;
        };
        let Some(callbacks) = open.callbacks.upgrade() else {
            return;
        };
        if open.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            open.waiting.fetch_sub(1, Ordering::Relaxed);
            open.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (message, record) = (message(), open.clone());
        callbacks.post(move || {
            record.waiting.fetch_sub(1, Ordering::Relaxed);
            let dropped = record.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                record.sink.record(
                    Level::Warn,
                    "confer",
                    &format!("{dropped} log records were dropped"),
                );
            }
            record.sink.record(level, target, &message);
        });
    }
}
