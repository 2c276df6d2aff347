//! The log of a client, for an application that asked for it. Contains no secrets at any level, and
//! uses no global logger.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::callbacks::Callbacks;

/// The level of a record. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is wrong, but the work continues.
    Warn = 2,
    /// A connection was opened or closed.
    Info = 3,
    /// Each stage of connecting.
    Debug = 4,
}

/// Receives records.
pub trait Sink: Send + Sync {
    /// Receives a record, on the client's callback thread.
    fn record(&self, level: Level, target: &'static str, message: &str);
}

/// Most records that wait for a slow sink. More are counted and dropped.
const MAX_WAITING: usize = 1_024;

/// The log of one client. Silent without a sink.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Open>>);

struct Open {
    level: Level,
    sink: Arc<dyn Sink>,
    /// Weak: queued records hold this value, so the queue would own itself.
    callbacks: Weak<Callbacks>,
    waiting: AtomicUsize,
    dropped: AtomicUsize,
}

impl Log {
    /// Makes a log that passes records up to `level` to the sink, on the thread of `callbacks`.
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

    /// Logs the result of `message`. Does not call it without a listener.
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
