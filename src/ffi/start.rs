//! Starting requests. One function for each kind of request. Each starts a stream.

use std::sync::Arc;

use super::callbacks::{Calls, Target, confer_stream_callbacks};
use super::status::confer_status;
use super::support::guard;
use super::support::handle::{self, missing};
use super::types::{
    confer_chat_request, confer_client, confer_embeddings_request, confer_error,
    confer_extraction_request, confer_fetch_request, confer_raw_request, confer_stream,
};
use crate::client::{Client, Delivery, PreparedRequest, Stream};
use crate::error::Result;

/// Starts a stream with or without callbacks.
///
/// # Safety
/// `client` is NULL or a live handle.
pub(super) unsafe fn start(
    client: *mut confer_client,
    target: Target,
    send: impl FnOnce(&Client) -> Result<Stream>,
) -> Result<()> {
    let Target { table, out } = target;
    let Some(table) = table? else {
        let out = out.ok_or_else(|| missing("stream"))?;
        // SAFETY: passed on.
        let stream = unsafe { confer_client::with(client, send) }?;
        out.set(handle::give(confer_stream::pulled(stream, false)));
        return Ok(());
    };
    // SAFETY: passed on.
    let (stream, thread, hold) = unsafe {
        confer_client::with(client, |client| {
            let (thread, hold) = client.callbacks()?;
            Ok((send(client)?, thread, hold))
        })
    }?;
    let stream = Arc::new(if table.wakes() {
        confer_stream::pulled(stream, true)
    } else {
        confer_stream::delivered(stream)
    });
    if let Some(out) = out {
        out.set(handle::give_shared(stream.clone()));
    }
    let calls = Calls::new(stream.clone(), table);
    let delivery = Delivery::new(calls, thread, hold);
    stream.stream.set_signal(delivery);
    Ok(())
}

/// Starts a stream of any kind but a chat.
///
/// # Safety
/// As [`start`].
unsafe fn start_other(
    client: *mut confer_client,
    target: Target,
    prepare: impl FnOnce() -> Result<PreparedRequest>,
) -> Result<()> {
    // SAFETY: passed on.
    unsafe { start(client, target, |client| client.request(prepare()?)) }
}

/// Sends a chat and starts the stream of its answer.
///
/// `callbacks`: copied. They run on the client's callback thread, after this call has stored the
/// handle in `stream`. NULL: the application takes the events with confer_stream_next() or
/// confer_stream_collect().
/// `stream`: receives the handle; free it with confer_stream_free(). With callbacks it may be NULL:
/// the stream then runs to its end, and the handle in the callbacks is valid until `on_done`
/// returns and must not be freed.
///
/// If this call fails, no callback runs except `destroy`, which runs once before the call returns.
/// It does not run for a NULL table or an invalid `size`.
/// Errors: CONFER_E_CLOSED, or the status with which the client ended; CONFER_E_TOO_LARGE,
/// CONFER_E_TOO_MANY; CONFER_E_INVALID_ARGUMENT, for example for a request without a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_stream(
    client: *mut confer_client,
    request: *const confer_chat_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start(client, target, |client| {
            client.chat(confer_chat_request::with(request, |it| it.prepare())?)
        })
    })
}

/// Sends an embeddings request and starts the stream of its answer: one CONFER_EVENT_EMBEDDINGS
/// with a row for each text. Otherwise like confer_chat_stream(); CONFER_E_INVALID_ARGUMENT for a
/// request without a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_embeddings_stream(
    client: *mut confer_client,
    request: *const confer_embeddings_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start_other(client, target, || {
            confer_embeddings_request::with(request, |it| it.prepare())
        })
    })
}

/// Uploads a document and starts the stream of its content: CONFER_EVENT_PROGRESS and
/// CONFER_EVENT_BODY. Otherwise like confer_chat_stream(); CONFER_E_INVALID_ARGUMENT for a request
/// without a document, or with a callback that an earlier start used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_extraction_stream(
    client: *mut confer_client,
    request: *const confer_extraction_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start_other(client, target, || {
            confer_extraction_request::with(request, |it| it.prepare())
        })
    })
}

/// Makes the enclave fetch a page, and starts the stream of its HTML: one CONFER_EVENT_BODY.
/// Otherwise like confer_chat_stream().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_fetch_stream(
    client: *mut confer_client,
    request: *const confer_fetch_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start_other(client, target, || {
            confer_fetch_request::with(request, |it| it.prepare())
        })
    })
}

/// Sends a raw request and starts the stream of its answer, whose events depend on the request's
/// ending. Otherwise like confer_chat_stream().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_raw_stream(
    client: *mut confer_client,
    request: *const confer_raw_request,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start_other(client, target, || {
            confer_raw_request::with(request, |it| it.prepare())
        })
    })
}

/// Sends a ping and starts the stream of its answer: one CONFER_EVENT_PONG with the round-trip
/// time. (The library's keepalive needs no call.) Otherwise like confer_chat_stream().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_ping_stream(
    client: *mut confer_client,
    callbacks: *const confer_stream_callbacks,
    stream: *mut *mut confer_stream,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: the table is NULL or readable for its size; `stream` is NULL or writable.
    let target = unsafe { Target::read(callbacks, stream) };
    // SAFETY: the handles are NULL or live.
    guard::done(error, || unsafe {
        start_other(client, target, || Ok(PreparedRequest::ping()))
    })
}
