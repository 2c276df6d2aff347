//! Streams. Reading events or a whole answer, cancelling and freeing.
//!
//! Callbacks and pulling read the same inbox.

use std::ffi::{c_char, c_int};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use super::status::confer_status;
use super::support::handle::{self, Out};
use super::support::signal::Pipe;
use super::support::{guard, text};
use super::types::{LentByStream, Pull, Reader, confer_error, confer_event, confer_stream};
use crate::client::{Next, deadline};
use crate::error::{Error, Result, Status};

impl confer_stream {
    fn pull(&self) -> Result<&Pull> {
        match &self.reader {
            Reader::Pull(pull) => Ok(pull),
            Reader::Callbacks => Err(Error::new(
                Status::InvalidArgument,
                "stream: its events go to callbacks and cannot be pulled",
            )),
        }
    }
}

impl Pull {
    /// Runs `work` with the lent event and text, in a turn of the calling thread.
    fn turn<T>(&self, work: impl FnOnce(&mut LentByStream) -> Result<T>) -> Result<T> {
        let _turn = Turn::take(&self.busy)?;
        // Never contended: only the thread that has the turn locks it.
        work(&mut self.lent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The right to read a stream, for one thread at a time.
struct Turn<'a>(&'a AtomicBool);

impl Turn<'_> {
    fn take(busy: &AtomicBool) -> Result<Turn<'_>> {
        if busy.swap(true, Ordering::Acquire) {
            return Err(Error::new(
                Status::Busy,
                "another thread reads this stream, with confer_stream_next() or confer_stream_collect()",
            ));
        }
        Ok(Turn(busy))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Takes the next event.
///
/// `timeout_ms`: 0 does not wait; negative waits for the next event or the end. The wait on a
/// request is bounded: it ends if the enclave is silent for the idle limit, which does not run
/// while the library waits for the application's document or answers. The wait on a watch is not
/// bounded.
/// `event`: receives the event, lent until the next confer_stream_next() or confer_stream_collect()
/// on this stream, or until the stream is freed. confer_event_clone() keeps it longer.
///
/// Returns CONFER_OK with an event; CONFER_TIMEOUT without one; CONFER_END when the answer is
/// complete. If the stream failed, the calls after the last event return that status and error.
/// Other errors, which do not end the stream: CONFER_E_BUSY if another thread reads this stream;
/// CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0; CONFER_E_INVALID_ARGUMENT for a
/// stream whose events go to callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_next(
    stream: *mut confer_stream,
    timeout_ms: i64,
    event: *mut *const confer_event,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `event` is NULL or writable. It is written even if the guard refuses the call.
    let out = unsafe { handle::out_const(event, "event") };
    guard::status(error, || {
        let out = out?;
        // SAFETY: `stream` is NULL or live.
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        let pull = stream.pull()?;
        if timeout_ms != 0 {
            guard::may_wait("confer_stream_next")?;
        }
        pull.turn(|lent| {
            stream.poison.guard(|| {
                lent.event = None;
                match stream.stream.next(deadline(timeout_ms)) {
                    Next::Item(event) => {
                        out.set(&raw const **lent.event.insert(Box::new(confer_event::new(event))));
                        Ok(Status::Ok)
                    }
                    Next::Empty => Ok(Status::Timeout),
                    Next::End(Ok(())) => Ok(Status::End),
                    Next::End(Err(error)) => Err(error),
                }
            })
        })
    })
}

/// Reads to the end and returns the whole answer: the text of a chat, without its reasoning, or the
/// bytes of another answer. It is the content of all CONFER_EVENT_TOKEN and CONFER_EVENT_BODY
/// events, without those that confer_stream_next() has taken before.
///
/// `timeout_ms`: 0 takes the waiting events; negative waits for the end, as in
/// confer_stream_next().
/// `text`, `len`: receive the text and its length. It may contain NUL characters, and is
/// NUL-terminated. Borrowed until the next confer_stream_collect() or until the stream is freed.
/// `len` may be NULL.
///
/// Returns CONFER_OK with the text, and again at later calls; CONFER_TIMEOUT before the end: call
/// it again to read on. If the stream failed, it returns that status and error, and
/// confer_stream_text() has the received part.
/// Other errors: CONFER_E_TOO_LARGE above 32 MiB, which cancels the stream and is returned again at
/// later calls; CONFER_E_INVALID_ARGUMENT at once for a ping and for embeddings, for a stream whose
/// events go to callbacks, and for a chat whose tools want answers; CONFER_E_BUSY if another thread
/// reads this stream; CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_collect(
    stream: *mut confer_stream,
    timeout_ms: i64,
    text: *mut *const c_char,
    len: *mut usize,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `text` is NULL or writable. It is written even if the guard refuses the call.
    let out = unsafe { handle::out_const(text, "text") };
    guard::status(error, || {
        let out = out?;
        // SAFETY: `stream` is NULL or live.
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        let pull = stream.pull()?;
        stream.stream.can_collect()?;
        if timeout_ms != 0 {
            guard::may_wait("confer_stream_collect")?;
        }
        pull.turn(|lent| {
            stream.poison.guard(|| {
                lent.event = None;
                match stream.stream.collect(&mut lent.text, deadline(timeout_ms)) {
                    Some(end) => end?,
                    None => return Ok(Status::Timeout),
                }
                // SAFETY: `len` is NULL or writable.
                out.set(unsafe { text::lend_bytes(lent.text.bytes(), len) });
                Ok(Status::Ok)
            })
        })
    })
}

/// Returns the text that confer_stream_collect() has read so far, even after a failure. Empty
/// before the first call; NULL while another thread reads the stream, and for a stream whose events
/// go to callbacks. Borrowed from the stream until the next confer_stream_collect(),
/// NUL-terminated. `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_text(
    stream: *const confer_stream,
    len: *mut usize,
) -> *const c_char {
    guard::get(std::ptr::null(), || {
        if !len.is_null() {
            // SAFETY: not NULL, and so writable by the contract.
            unsafe { len.write(0) };
        }
        // SAFETY: NULL or a live handle; `len` is NULL or writable.
        let pull = unsafe { guard::unlocked(stream) }?.pull().ok()?;
        pull.turn(|lent| Ok(unsafe { text::lend_bytes(lent.text.bytes(), len) }))
            .ok()
    })
}

/// Returns a descriptor for poll(), epoll, kqueue or an event loop. It is readable while
/// confer_stream_next() can return at once (level-triggered), so also after the end: then take it
/// out of the set. It belongs to the stream: do not read, write or close it, and do not use it
/// after the stream was freed. Windows has no such descriptor: use `on_ready` there.
///
/// Errors: CONFER_E_SYSTEM; CONFER_E_INVALID_ARGUMENT for a stream with callbacks, and on Windows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_fd(
    stream: *mut confer_stream,
    fd: *mut c_int,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: `fd` is NULL or writable; `stream` is NULL or live.
        let out = unsafe { Out::new(fd, "fd") }?;
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        let pull = stream.pull()?;
        if pull.wakes {
            let message = "stream: on_ready says when to read it, so it has no descriptor";
            return Err(Error::new(Status::InvalidArgument, message));
        }
        stream.poison.guard(|| {
            out.set(Pipe::of(&pull.pipe, |pipe| stream.stream.set_signal(pipe))?.fd());
            Ok(())
        })
    })
}

/// Cancels the request; ends a watch, but not its client. Drops undelivered events, and ends the
/// stream with CONFER_E_CANCELLED, unless it has failed or all of the answer was delivered. The
/// server continues, because the protocol has no message for cancelling. Never waits; calling it
/// again changes nothing; NULL is allowed. Any thread; allowed in a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_cancel(stream: *mut confer_stream) {
    guard::quiet(|| {
        // SAFETY: NULL or a live handle.
        if let Ok(stream) = unsafe { handle::borrow(stream, "stream") } {
            stream.stream.cancel();
        }
    });
}

/// Cancels and frees a stream. Callbacks still run to their end: `on_done`, then `destroy`. A
/// thread that waits in confer_stream_next() wakes. Never waits, and is allowed in a callback. NULL
/// is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_free(stream: *mut confer_stream) {
    guard::quiet(|| {
        // SAFETY: NULL, or a live handle that is not used afterwards.
        if let Some(stream) = unsafe { handle::take(stream) } {
            stream.freed.store(true, Ordering::Relaxed);
            stream.stream.cancel();
        }
    });
}
