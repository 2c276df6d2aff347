//! Types. The handles, all opaque, and the function that destroys user data.
//!
//! All handles are here, so that a section can use any of them and import only earlier sections.
//! The functions that several sections or the guard need to make or borrow a handle are here too.

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use super::support::handle;
use super::support::signal::Pipe;
use super::support::turns::{Poison, Turns};
use crate::client::{
    ChatRequest, Client, Collected, Config, Conversation, EmbeddingsRequest, Event, Evidenced,
    ExtractionRequest, FetchRequest, RawRequest, Report, Stream, Text, Verifier,
};
use crate::error::{Error, Result, Status};

/// Destroys the user data: called once, after the last callback. May be NULL.
#[allow(non_camel_case_types)]
pub type confer_destroy_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Why a call or a stream failed. Immutable: several threads may read it at once.
#[derive(Clone)]
#[allow(non_camel_case_types)]
pub struct confer_error(pub(super) Arc<SharedError>);

pub(super) struct SharedError {
    pub(super) error: Error,
    pub(super) message: Text,
    pub(super) check: Option<Text>,
    pub(super) peer_text: Option<Text>,
    pub(super) report: Option<confer_report>,
}

impl confer_error {
    pub(super) fn new(error: Error) -> confer_error {
        confer_error(Arc::new(SharedError {
            message: Text::new(error.message()),
            check: error.check().map(Text::new),
            peer_text: error.peer_text().map(Text::new),
            report: error
                .report()
                .map(|evidenced| confer_report::new(evidenced.clone())),
            error,
        }))
    }

    pub(super) fn status(&self) -> Status {
        self.0.error.status()
    }
}

/// The settings of clients. Any thread may use it; calls on one configuration take turns.
/// Connecting copies the settings, so the configuration can be changed or freed at once afterwards.
/// It can serve many clients, which then share the policy's memory and the key set.
#[allow(non_camel_case_types)]
pub struct confer_config(Turns<Config>);

/// The parties and values that are trusted: one JSON document with Intel's root, the firmware, the
/// accepted patch levels and the signer of releases. Immutable: several threads may use it at once.
/// It remembers verified releases, so clients that share a policy connect faster.
#[allow(non_camel_case_types)]
pub struct confer_policy {
    pub(super) verifier: Arc<Verifier>,
    pub(super) json: Text,
    pub(super) name: Text,
    pub(super) sha256: Text,
}

/// A client: one connection to a verified enclave, or several in sequence; see
/// CONFER_LIMIT_ATTEMPTS. Several threads may use it at once. It stays open until it is closed, or
/// until it and all its requests' streams are freed.
#[allow(non_camel_case_types)]
pub struct confer_client {
    pub(super) client: Client,
    poison: Poison,
}

impl confer_client {
    pub(super) fn give(client: Client) -> *mut confer_client {
        handle::give(confer_client {
            client,
            poison: Poison::default(),
        })
    }

    /// # Safety
    /// `client` is NULL or a live handle.
    pub(super) unsafe fn with<T>(
        client: *const confer_client,
        work: impl FnOnce(&Client) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        let client = unsafe { handle::borrow(client, "client") }?;
        client.poison.guard(|| work(&client.client))
    }
}

/// Why an enclave was trusted or refused, check by check. Immutable: several threads may read it at
/// once.
#[derive(Clone)]
#[allow(non_camel_case_types)]
pub struct confer_report(pub(super) Arc<SharedReport>);

pub(super) struct SharedReport {
    pub(super) evidenced: Arc<Evidenced>,
    pub(super) lent: LentByReport,
}

/// Values that getters of a report lend, made at the first call.
#[derive(Default)]
pub(super) struct LentByReport {
    pub(super) json: OnceLock<Text>,
    pub(super) evidence: OnceLock<Text>,
    pub(super) checks: OnceLock<Vec<CheckTexts>>,
    pub(super) fields: OnceLock<Vec<Option<Text>>>,
    pub(super) server_key: OnceLock<Text>,
    pub(super) advisories: OnceLock<Vec<Text>>,
}

pub(super) struct CheckTexts {
    pub(super) id: Text,
    pub(super) detail: Text,
    pub(super) expected: Option<Text>,
    pub(super) observed: Option<Text>,
}

impl confer_report {
    pub(super) fn new(evidenced: Arc<Evidenced>) -> confer_report {
        let lent = LentByReport::default();
        confer_report(Arc::new(SharedReport { evidenced, lent }))
    }

    pub(super) fn report(&self) -> &Report {
        &self.0.evidenced.report
    }
}

/// A history of messages. It exists only in this process: the library stores nothing. Any thread.
/// Pass it to a request with confer_chat_request_set_conversation().
///
/// A server refuses a history in which a tool call is not directly followed by its response. So a
/// conversation keeps calls and responses in pairs: it puts a response directly after its call. It
/// drops a response without a call, and a server tool's call without a response. A call of the
/// application's tools waits for its response until the next answer is complete.
#[allow(non_camel_case_types)]
pub struct confer_conversation {
    pub(super) conversation: Conversation,
    /// The last text that confer_conversation_json() lent.
    pub(super) lent: Mutex<Option<Text>>,
    pub(super) poison: Poison,
}

/// A chat request. Any thread may use it; calls on one request take turns. Starting a chat copies
/// it, so it can be changed, sent again or freed at once afterwards. A failed setter keeps the old
/// value.
#[allow(non_camel_case_types)]
pub struct confer_chat_request(Turns<ChatRequest>);

/// A request for the embeddings of 1 to 64 texts. Any thread may use it; calls on one request take
/// turns. Starting it copies it, so it can be changed, sent again or freed at once afterwards. A
/// failed setter keeps the old value.
#[allow(non_camel_case_types)]
pub struct confer_embeddings_request(Turns<EmbeddingsRequest>);

/// A request that uploads a document and returns its content. Any thread may use it; calls on one
/// request take turns. Starting it copies it, so it can be changed, sent again or freed at once
/// afterwards. A document from a callback can be sent only once. A failed setter keeps the old
/// value.
#[allow(non_camel_case_types)]
pub struct confer_extraction_request(Turns<ExtractionRequest>);

/// A request for a page, which the enclave fetches. The page's server and observers of the
/// enclave's traffic learn that it was fetched, but not for whom. Any thread may use it; calls on
/// one request take turns. Starting it copies it, so it can be changed, sent again or freed at once
/// afterwards. A failed setter keeps the old value.
#[allow(non_camel_case_types)]
pub struct confer_fetch_request(Turns<FetchRequest>);

/// A request to any route, for example to one that this version has no function for. Any thread may
/// use it; calls on one request take turns. Starting it copies it, so it can be changed, sent again
/// or freed at once afterwards. A failed setter keeps the old value.
#[allow(non_camel_case_types)]
pub struct confer_raw_request(Turns<RawRequest>);

/// Gives and borrows handles whose calls take turns.
macro_rules! take_turns {
    ($($handle:ident: $content:ty, $name:literal;)*) => {$(
        impl $handle {
            pub(super) fn give(content: $content) -> *mut $handle {
                handle::give($handle(Turns::new(content)))
            }

            /// # Safety
            /// The pointer is NULL or a live handle.
            pub(super) unsafe fn with<T>(
                pointer: *const $handle,
                work: impl FnOnce(&mut $content) -> Result<T>,
            ) -> Result<T> {
                // SAFETY: passed on.
                unsafe { handle::borrow(pointer, $name) }?.0.with(work)
            }
        }
    )*};
}

take_turns! {
    confer_config: Config, "config";
    confer_chat_request: ChatRequest, "request";
    confer_embeddings_request: EmbeddingsRequest, "request";
    confer_extraction_request: ExtractionRequest, "request";
    confer_fetch_request: FetchRequest, "request";
    confer_raw_request: RawRequest, "request";
}

/// A request in progress, and its events. Any thread may use it, but only one at a time may read it
/// with confer_stream_next() or confer_stream_collect().
#[allow(non_camel_case_types)]
pub struct confer_stream {
    pub(super) stream: Stream,
    pub(super) reader: Reader,
    pub(super) freed: AtomicBool,
    pub(super) poison: Poison,
}

pub(super) enum Reader {
    Pull(Pull),
    Callbacks,
}

#[derive(Default)]
pub(super) struct Pull {
    pub(super) busy: AtomicBool,
    /// `on_ready` reports when to read.
    pub(super) wakes: bool,
    /// The event or text that the last call lent.
    pub(super) lent: Mutex<LentByStream>,
    pub(super) pipe: OnceLock<Arc<Pipe>>,
}

#[derive(Default)]
pub(super) struct LentByStream {
    pub(super) event: Option<Box<confer_event>>,
    pub(super) text: Collected,
}

impl confer_stream {
    fn new(stream: Stream, reader: Reader) -> confer_stream {
        confer_stream {
            stream,
            reader,
            freed: AtomicBool::new(false),
            poison: Poison::default(),
        }
    }

    /// A stream that the application reads. `wakes`: its `on_ready` reports when.
    pub(super) fn pulled(stream: Stream, wakes: bool) -> confer_stream {
        let pull = Pull {
            wakes,
            ..Pull::default()
        };
        confer_stream::new(stream, Reader::Pull(pull))
    }

    /// A stream whose events are delivered.
    pub(super) fn delivered(stream: Stream) -> confer_stream {
        confer_stream::new(stream, Reader::Callbacks)
    }
}

/// One event of a stream. It is lent by a stream or a callback, or is a clone, which belongs to the
/// application. Immutable: several threads may read it at once.
#[allow(non_camel_case_types)]
pub struct confer_event {
    pub(super) event: Event,
    pub(super) lent: LentByEvent,
}

/// Values that getters of a client's event lend.
#[derive(Default)]
pub(super) struct LentByEvent {
    pub(super) error: OnceLock<Option<confer_error>>,
    pub(super) report: OnceLock<Option<confer_report>>,
    pub(super) previous: OnceLock<Option<confer_report>>,
}

impl confer_event {
    pub(super) fn new(event: Event) -> confer_event {
        let lent = LentByEvent::default();
        confer_event { event, lent }
    }
}
