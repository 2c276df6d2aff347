//! Streams: the section "Stream" of the header. Callbacks and pulls are two readers of the same inbox.

use std::ffi::{c_int, c_void};
use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::connect::{confer_client, pipe};
use super::error::confer_error;
use super::event::confer_event;
use super::request::confer_chat_request;
use super::route::confer_request;
use super::status::{CONFER_END, CONFER_OK, CONFER_TIMEOUT, confer_status};
use super::support::guard::{self, Poison};
use super::support::handle::{self, Out};
use super::support::signal::Pipe;
use super::support::user_data::{UserData, confer_destroy_fn};
use crate::client::{Client, Next, Signal, Stream, Writes, deadline};
use crate::error::{Error, Progress, Result, Status};
use crate::host::{Callbacks, Hold, Pump};
use crate::panics;

/// A request under way, of any kind, and what it brings. Any thread; but only one at a time may read it with
/// confer_stream_next().
#[allow(non_camel_case_types)]
pub struct confer_stream {
    stream: Stream,
    reader: Reader,
    poison: Poison,
}

impl confer_stream {
    /// Runs `work` with the document that the application writes.
    pub(super) fn upload<T>(&self, work: impl FnOnce(&Writes) -> Result<T>) -> Result<T> {
        self.poison.guard(|| work(self.stream.writes()?))
    }
}

enum Reader {
    Pull(Pull),
    Callbacks,
}

#[derive(Default)]
struct Pull {
    busy: AtomicBool,
    /// What the last call lent.
    lent: Mutex<Option<Box<confer_event>>>,
    pipe: OnceLock<Arc<Pipe>>,
}

/// What a stream calls, on the client's callback thread: one call at a time, in order.
///
/// Set `size` to `sizeof(confer_stream_callbacks)` and whatever is not used to NULL, for example by
/// `confer_stream_callbacks c = {sizeof c, data, on_event, on_done, destroy}`. A smaller size is that of an older header
/// and is accepted; a larger one is accepted if all that this version does not know is zero.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct confer_stream_callbacks {
    /// sizeof(confer_stream_callbacks).
    pub size: usize,
    /// Passed to each call.
    pub user_data: *mut c_void,
    /// An event came. `event` is lent during the call. Returning anything but 0 stops the stream: `on_done` follows with
    /// CONFER_E_STOPPED. May be NULL.
    pub on_event: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream: *mut confer_stream,
            event: *const confer_event,
        ) -> i32,
    >,
    /// The stream ended: CONFER_OK if the answer is complete; otherwise how it failed, with `error` lent during the
    /// call. Exactly once, after the last event. May be NULL.
    pub on_done: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream: *mut confer_stream,
            status: confer_status,
            error: *const confer_error,
        ),
    >,
    /// Destroys the user data. Exactly once, after `on_done`; nothing is called after it. May be NULL.
    pub destroy: confer_destroy_fn,
}

/// How much an unknown, newer table may be longer than this one.
const MAX_TABLE: usize = 1_024;

impl confer_stream_callbacks {
    /// Reads a table of any known or newer size.
    ///
    /// # Safety
    /// `table` is NULL or readable for the size that its first member says.
    unsafe fn read(table: *const confer_stream_callbacks) -> Result<Table> {
        let invalid = |why: &str| Error::new(Status::InvalidArgument, format!("callbacks: {why}"));
        if table.is_null() {
            return Err(invalid(
                "it is NULL (to pull the events, call confer_chat_pull() or confer_request_pull())",
            ));
        }
        // SAFETY: not NULL, so its first member is readable.
        let size = unsafe { (&raw const (*table).size).read_unaligned() };
        if !(offset_of!(confer_stream_callbacks, on_event)..=MAX_TABLE).contains(&size) {
            return Err(invalid(&format!(
                "invalid size {size} (expected sizeof(confer_stream_callbacks))"
            )));
        }
        let mut known = confer_stream_callbacks {
            size: size_of::<confer_stream_callbacks>(),
            user_data: std::ptr::null_mut(),
            on_event: None,
            on_done: None,
            destroy: None,
        };
        // SAFETY: readable for `size` bytes; a prefix of the table is whole members, and NULL is their absence.
        let unknown = unsafe {
            let bytes = std::slice::from_raw_parts(table.cast::<u8>(), size);
            let (head, tail) = bytes.split_at(size.min(size_of::<confer_stream_callbacks>()));
            let whole = head.len() - head.len() % size_of::<*const c_void>();
            std::ptr::copy_nonoverlapping(head.as_ptr(), (&raw mut known).cast::<u8>(), whole);
            tail.iter().any(|byte| *byte != 0)
        };
        // From here on `destroy` runs, whatever comes.
        let user_data = UserData::new(known.user_data, known.destroy);
        if unknown {
            return Err(invalid(
                "a member is set that this version of the library does not support",
            ));
        }
        Ok(Table {
            calls: known,
            user_data,
        })
    }
}

/// An application's callbacks, and its data, which this owns.
struct Table {
    calls: confer_stream_callbacks,
    user_data: UserData,
}

/// Sends a chat and streams its answer to callbacks.
///
/// `callbacks`: copied. They run on a thread of the client's own, never on one that serves the network, and not before
/// this call has stored the handle in `stream`.
/// `stream`: receives the handle; free it with confer_stream_free().
///
/// If this call fails, its return value is all there is: no event, no `on_done`; `destroy` runs once before it returns,
/// unless the table itself was NULL or its `size` that of no table.
/// Errors: CONFER_E_CLOSED and the status with which the connection ended; CONFER_E_TOO_LARGE, CONFER_E_TOO_MANY;
/// CONFER_E_INVALID_ARGUMENT, also for a request without a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_stream(
    client: *const confer_client,
    request: *const confer_chat_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: readable for the size that it says. First of all, so that `destroy` runs on every failure below.
    let table = unsafe { confer_stream_callbacks::read(callbacks) };
    // SAFETY: `stream` is NULL or writable.
    guard::gives(error, unsafe { handle::out(stream, "stream") }, |out| {
        // SAFETY: the handles are NULL or live.
        unsafe { deliver(client, table?, out, |client| chat(client, request)) }
    })
}

/// # Safety
/// `request` is NULL or a live handle.
unsafe fn chat(client: &Client, request: *const confer_chat_request) -> Result<Stream> {
    // SAFETY: passed on.
    client.chat(unsafe { confer_chat_request::with(request, |request| request.prepare()) }?)
}

/// # Safety
/// `request` is NULL or a live handle.
unsafe fn other(client: &Client, request: *const confer_request) -> Result<Stream> {
    // SAFETY: passed on.
    client.request(unsafe { confer_request::with(request, |request| request.prepare()) }?)
}

/// Starts a stream whose events go to callbacks.
///
/// # Safety
/// `client` is NULL or a live handle.
unsafe fn deliver(
    client: *const confer_client,
    table: Table,
    out: &Out<*mut confer_stream>,
    start: impl FnOnce(&Client) -> Result<Stream>,
) -> Result<()> {
    let Table { calls, user_data } = table;
    // SAFETY: passed on.
    let (stream, thread, hold) = unsafe {
        confer_client::with(client, |client| {
            let (thread, hold) = client.callbacks()?;
            Ok((start(client)?, thread, hold))
        })
    }?;
    let handle = handle::give(confer_stream {
        stream,
        reader: Reader::Callbacks,
        poison: Poison::default(),
    });
    out.set(handle);
    // SAFETY: it was just made.
    let shared = unsafe { handle::borrow(handle, "stream") }?;
    let delivery = Arc::new_cyclic(|this| Delivery {
        this: this.clone(),
        thread,
        open: Mutex::new(Some(Open {
            stream: shared.clone(),
            calls,
            _user_data: user_data,
            _hold: hold,
        })),
    });
    shared.stream.set_signal(delivery);
    Ok(())
}

/// Starts a stream that is pulled.
///
/// # Safety
/// `client` is NULL or a live handle.
unsafe fn pull(
    client: *const confer_client,
    out: &Out<*mut confer_stream>,
    start: impl FnOnce(&Client) -> Result<Stream>,
) -> Result<()> {
    // SAFETY: passed on.
    let stream = unsafe { confer_client::with(client, start) }?;
    out.set(handle::give(confer_stream {
        stream,
        reader: Reader::Pull(Pull::default()),
        poison: Poison::default(),
    }));
    Ok(())
}

/// Sends a chat, whose answer is then pulled with confer_stream_next(). As confer_chat_stream() otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_pull(
    client: *const confer_client,
    request: *const confer_chat_request,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `stream` is NULL or writable.
    guard::gives(error, unsafe { handle::out(stream, "stream") }, |out| {
        // SAFETY: the handles are NULL or live.
        unsafe { pull(client, out, |client| chat(client, request)) }
    })
}

/// Sends a request of another kind and brings what comes of it to callbacks. As confer_chat_stream() otherwise; and
/// CONFER_E_INVALID_ARGUMENT for a request that is not complete: see the function that makes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_stream(
    client: *const confer_client,
    request: *const confer_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: readable for the size that it says. First of all, so that `destroy` runs on every failure below.
    let table = unsafe { confer_stream_callbacks::read(callbacks) };
    // SAFETY: `stream` is NULL or writable.
    guard::gives(error, unsafe { handle::out(stream, "stream") }, |out| {
        // SAFETY: the handles are NULL or live.
        unsafe { deliver(client, table?, out, |client| other(client, request)) }
    })
}

/// Sends a request of another kind; what comes of it is pulled with confer_stream_next(). As confer_request_stream()
/// otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_request_pull(
    client: *const confer_client,
    request: *const confer_request,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `stream` is NULL or writable.
    guard::gives(error, unsafe { handle::out(stream, "stream") }, |out| {
        // SAFETY: the handles are NULL or live.
        unsafe { pull(client, out, |client| other(client, request)) }
    })
}

/// Takes the next event.
///
/// `timeout_ms`: 0 looks and does not wait; negative waits until something comes, the idle limit at the latest.
/// `event`: receives the event, lent until the next call on this stream or until it is freed.
///
/// Returns CONFER_OK with an event; CONFER_TIMEOUT if there is none yet; CONFER_END when the answer is complete. If the
/// stream failed, the call after the last event returns that status and error, once, and then CONFER_END.
/// Errors besides: CONFER_E_BUSY if another thread is in this call; CONFER_E_WOULD_DEADLOCK in a callback unless
/// `timeout_ms` is 0; CONFER_E_INVALID_ARGUMENT for a stream with callbacks. None of these ends the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_next(
    stream: *mut confer_stream,
    timeout_ms: i64,
    event: *mut *const confer_event,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::status(error, || {
        // SAFETY: `event` is NULL or writable; `stream` is NULL or live.
        let out = unsafe { Out::new(event, "event") }?;
        out.set(std::ptr::null());
        let stream = unsafe { handle::borrow(stream, "stream") }?;
        let Reader::Pull(pull) = &stream.reader else {
            return Err(has_callbacks());
        };
        if timeout_ms != 0 {
            guard::may_wait("confer_stream_next")?;
        }
        let _turn = Turn::take(&pull.busy)?;
        stream.poison.guard(|| {
            let mut lent = pull.lent.lock().unwrap_or_else(PoisonError::into_inner);
            *lent = None; // before the wait, which may be for the round that follows its call
            match stream.stream.next(deadline(timeout_ms)) {
                Next::Item(event) => {
                    out.set(&raw const **lent.insert(Box::new(confer_event(event))));
                    Ok(CONFER_OK)
                }
                Next::Empty => Ok(CONFER_TIMEOUT),
                Next::End(Ok(())) | Next::Over => Ok(CONFER_END),
                Next::End(Err(error)) => Err(error),
            }
        })
    })
}

fn has_callbacks() -> Error {
    Error::new(
        Status::InvalidArgument,
        "stream: its events go to callbacks and cannot be pulled",
    )
}

/// The right to read a stream, for one thread at a time.
struct Turn<'a>(&'a AtomicBool);

impl Turn<'_> {
    fn take(busy: &AtomicBool) -> Result<Turn<'_>> {
        if busy.swap(true, Ordering::Acquire) {
            return Err(Error::new(
                Status::Busy,
                "another thread is in confer_stream_next() on this stream",
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

/// A descriptor that is readable while confer_stream_next() has something to return at once, for poll(), epoll, kqueue
/// or an event loop: level-triggered. It belongs to the stream: do not read, write or close it, nor use it after the
/// stream was freed.
///
/// Errors: CONFER_E_SYSTEM; CONFER_E_INVALID_ARGUMENT for a stream with callbacks.
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
        let Reader::Pull(pull) = &stream.reader else {
            return Err(has_callbacks());
        };
        stream.poison.guard(|| {
            out.set(pipe(&pull.pipe, |pipe| stream.stream.set_signal(pipe))?.fd());
            Ok(())
        })
    })
}

/// Gives the answer up: events that were not delivered are dropped, and the stream ends with CONFER_E_CANCELLED, unless
/// its end was decided already. The server is not told: the protocol has no way to. Never waits; calling it again
/// changes nothing; NULL is allowed. Any thread, also in a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_cancel(stream: *mut confer_stream) {
    guard::quiet(|| {
        // SAFETY: NULL or a live handle.
        if let Ok(stream) = unsafe { handle::borrow(stream, "stream") } {
            stream.stream.cancel();
        }
    });
}

/// Cancels and frees a stream. Callbacks still run to their end: `on_done`, then `destroy`. A thread that waits in
/// confer_stream_next() wakes. Never waits, and is allowed in a callback. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_stream_free(stream: *mut confer_stream) {
    guard::quiet(|| {
        // SAFETY: NULL, or a live handle that is not used afterwards.
        if let Some(stream) = unsafe { handle::take(stream) } {
            stream.stream.cancel();
        }
    });
}

/// Brings a stream's events to its callbacks, on the client's callback thread.
struct Delivery {
    this: Weak<Delivery>,
    thread: Arc<Callbacks>,
    /// Gone once `on_done` was called. Only the callback thread looks into it.
    open: Mutex<Option<Open>>,
}

struct Open {
    stream: Arc<confer_stream>,
    calls: confer_stream_callbacks,
    /// Dropped behind the stream, and its drop is `destroy`.
    _user_data: UserData,
    /// Until all of that is over.
    _hold: Hold,
}

// SAFETY: the table's pointers are the application's, which the header asks to be callable on the callback thread; no
// other thread looks at them.
unsafe impl Send for Open {}

/// Events that one stream delivers before another has its turn.
const TURN: usize = 64;

impl Signal for Delivery {
    fn raise(&self) {
        if let Some(this) = self.this.upgrade() {
            self.thread.post_pump(this);
        }
    }

    fn clear(&self) {}
}

impl Pump for Delivery {
    fn run(&self) -> bool {
        // Taken out while the callbacks run: no lock is held then, and only this thread runs pumps.
        let Some(open) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return false;
        };
        let turn = panics::catch(|| open.turn()).unwrap_or_else(|panic| {
            open.stream.stream.cancel();
            Turned::Done(Err(panic))
        });
        match turn {
            Turned::Done(result) => open.done(result),
            Turned::Over => {}
            // What came since `Waits` raised the signal, and so posted this pump again.
            Turned::Waits | Turned::GoesOn => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
                return matches!(turn, Turned::GoesOn);
            }
        }
        false
    }
}

/// What came of a stream's turn.
enum Turned {
    /// There is nothing to deliver for now.
    Waits,
    /// There is more, after other streams had their turn.
    GoesOn,
    /// The stream ended so, and `on_done` is due.
    Done(Result<()>),
    /// `on_done` was called before.
    Over,
}

impl Open {
    fn handle(&self) -> *mut confer_stream {
        Arc::as_ptr(&self.stream).cast_mut()
    }

    /// Delivers the events that are there, a bounded number of them.
    fn turn(&self) -> Turned {
        let at_once = Some(Instant::now());
        for _ in 0..TURN {
            match self.stream.stream.next(at_once) {
                Next::Item(event) => {
                    if !self.event(event) {
                        self.stream.stream.cancel();
                        let stopped = Error::new(Status::Stopped, "on_event asked to stop");
                        return Turned::Done(Err(stopped.with_progress(Progress::PartlyAnswered)));
                    }
                }
                Next::End(result) => return Turned::Done(result),
                Next::Over => return Turned::Over,
                Next::Empty => return Turned::Waits,
            }
        }
        Turned::GoesOn
    }

    fn event(&self, event: crate::client::Event) -> bool {
        let Some(on_event) = self.calls.on_event else {
            return true;
        };
        let event = confer_event(event);
        // SAFETY: the application gave function and user data together; handle and event live during the call.
        unsafe { on_event(self.calls.user_data, self.handle(), &raw const event) == 0 }
    }

    /// The end: `on_done`, and then, with the drop of the user data, `destroy`.
    fn done(self, result: Result<()>) {
        let error = result.err().map(confer_error::new);
        if let Some(on_done) = self.calls.on_done {
            let lent = error.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let status = error.as_ref().map_or(CONFER_OK, confer_error::status);
            // SAFETY: as in `event`; the error lives during the call.
            unsafe { on_done(self.calls.user_data, self.handle(), status, lent) };
        }
    }
}
