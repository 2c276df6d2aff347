//! The local enclave as a child process, and thin owners for the handles of the C API.

use std::ffi::{CStr, c_char, c_void};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use confer::ffi::callbacks::*;
use confer::ffi::client_event::*;
use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::conversation::*;
use confer::ffi::embeddings::*;
use confer::ffi::error::*;
use confer::ffi::event::*;
use confer::ffi::extraction::*;
use confer::ffi::fetch::*;
use confer::ffi::policy::*;
use confer::ffi::raw::*;
use confer::ffi::report::*;
use confer::ffi::request::*;
use confer::ffi::settings::*;
use confer::ffi::start::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use confer::ffi::tool::*;
use confer::ffi::types::*;
use confer::ffi::watch::*;
use serde_json::Value;

/// A prompt that tests search for.
pub const PROMPT: &str = "an-unmistakable-prompt-7d1f";

/// The path of chats in the enclave's log.
pub const CHATS: &str = "/v1/vllm/chat/completions";

/// The longest wait for something that happens, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn enclave_program() -> PathBuf {
    let default =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/enclave/target/debug/confer-enclave");
    let path = std::env::var_os("CONFER_ENCLAVE").map_or(default, PathBuf::from);
    assert!(
        path.exists(),
        "{} is not built: run `make enclave`",
        path.display()
    );
    path
}

/// A new folder for this test process, with one trust world for all tests. Process ids repeat, so a
/// folder of an earlier run could contain its logs.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        if let Some(folder) = FOLDER.get() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
    FOLDER.get_or_init(|| {
        let (id, now) = (std::process::id(), SystemTime::now());
        let now = now.duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let folder = std::env::temp_dir().join(format!("confer-api-{id}-{now}"));
        std::fs::create_dir(&folder).unwrap();
        // SAFETY: the function takes nothing and cannot unwind into C.
        unsafe { libc::atexit(remove) };
        folder
    })
}

/// Returns an unused path.
pub fn fresh(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    scratch().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A server that the enclave imitates. Tests of requests, uploads and keepalive run against each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    V0_1_14,
    Newer,
}

impl Server {
    /// The value of `--server`.
    pub fn name(self) -> &'static str {
        match self {
            Server::V0_1_14 => "0.1.14",
            Server::Newer => "newer",
        }
    }

    /// Returns the value expected from this server.
    pub fn expect<T>(self, v0_1_14: T, newer: T) -> T {
        match self {
            Server::V0_1_14 => v0_1_14,
            Server::Newer => newer,
        }
    }
}

/// A running enclave. Ends when this value is dropped, or with the test process.
pub struct Enclave {
    child: Child,
    pub url: String,
    pub token: String,
    pub policy: String,
    log: PathBuf,
}

impl Enclave {
    pub fn start(fault: Option<&str>) -> Enclave {
        Enclave::of(Server::Newer, fault)
    }

    /// Starts an enclave that imitates this server.
    pub fn of(server: Server, fault: Option<&str>) -> Enclave {
        let fault = fault.map(|fault| ["--fault", fault]);
        let server = ["--server", server.name()];
        Enclave::with(fault.iter().flatten().chain(&server))
    }

    /// Starts an enclave with further options.
    pub fn with<'a>(
        options: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr> + 'a>,
    ) -> Enclave {
        // Enclaves share the keys. Each writes another policy.
        let (log, state) = (fresh("log"), scratch().join("state"));
        let mut command = Command::new(enclave_program());
        command
            .arg("--exit-with-stdin")
            .arg("--state")
            .arg(state)
            .arg("--log")
            .arg(&log)
            .args(options);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let line: Value = serde_json::from_str(&line).expect("the enclave prints one JSON line");
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        Enclave {
            child,
            url: text("url"),
            token: text("token"),
            policy: text("policy"),
            log,
        }
    }

    pub fn port(&self) -> u16 {
        let (_, rest) = self.url.rsplit_once(':').unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// Returns the enclave's log in order.
    pub fn events(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns the logged requests of this path, over all connections.
    pub fn requests(&self, path: &str) -> Vec<Value> {
        let of_path = |line: &Value| line["event"] == "request" && line["path"] == path;
        self.events().into_iter().filter(of_path).collect()
    }

    /// Kills the enclave without closing its connections.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn saw(&self, event: &str) -> bool {
        self.count(event) > 0
    }

    /// Returns how many lines of the log have this event.
    pub fn count(&self, event: &str) -> usize {
        let events = self.events();
        events.iter().filter(|line| line["event"] == event).count()
    }
}

impl Drop for Enclave {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // it removes its files and exits
        let _ = self.child.wait();
    }
}

pub fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    Some(unsafe { CStr::from_ptr(pointer) }.to_str().unwrap())
}

pub fn name(status: confer_status) -> String {
    text(confer_status_name(status)).unwrap().into()
}

macro_rules! owner {
    ($name:ident, $handle:ident, $free:ident) => {
        pub struct $name(pub *mut $handle);
        impl Drop for $name {
            fn drop(&mut self) {
                unsafe { $free(self.0) }
            }
        }
        unsafe impl Send for $name {}
        unsafe impl Sync for $name {}
    };
}

owner!(Config, confer_config, confer_config_free);
owner!(Client, confer_client, confer_client_free);
owner!(Stream, confer_stream, confer_stream_free);
owner!(Event, confer_event, confer_event_free);
owner!(Conversation, confer_conversation, confer_conversation_free);
owner!(Failure, confer_error, confer_error_free);
owner!(Report, confer_report, confer_report_free);

/// A request that starts a stream.
pub trait Start {
    fn start(
        &self,
        client: *mut confer_client,
        table: *const confer_stream_callbacks,
        stream: *mut *mut confer_stream,
        error: *mut *mut confer_error,
    ) -> confer_status;
}

macro_rules! request {
    ($name:ident, $handle:ident, $free:ident, $start:ident) => {
        owner!($name, $handle, $free);
        impl Start for $name {
            fn start(
                &self,
                client: *mut confer_client,
                table: *const confer_stream_callbacks,
                stream: *mut *mut confer_stream,
                error: *mut *mut confer_error,
            ) -> confer_status {
                unsafe { $start(client, self.0, table, stream, error) }
            }
        }
    };
}

request!(
    Request,
    confer_chat_request,
    confer_chat_request_free,
    confer_chat_stream
);
request!(
    Embeddings,
    confer_embeddings_request,
    confer_embeddings_request_free,
    confer_embeddings_stream
);
request!(
    Extraction,
    confer_extraction_request,
    confer_extraction_request_free,
    confer_extraction_stream
);
request!(
    Fetch,
    confer_fetch_request,
    confer_fetch_request_free,
    confer_fetch_stream
);
request!(
    Raw,
    confer_raw_request,
    confer_raw_request_free,
    confer_raw_stream
);

pub struct Ping;

impl Start for Ping {
    fn start(
        &self,
        client: *mut confer_client,
        table: *const confer_stream_callbacks,
        stream: *mut *mut confer_stream,
        error: *mut *mut confer_error,
    ) -> confer_status {
        unsafe { confer_ping_stream(client, table, stream, error) }
    }
}

impl Failure {
    pub fn status(&self) -> confer_status {
        unsafe { confer_error_status(self.0) }
    }
    pub fn message(&self) -> &str {
        text(unsafe { confer_error_message(self.0, ptr::null_mut()) }).unwrap_or("")
    }
    pub fn progress(&self) -> i32 {
        unsafe { confer_error_progress(self.0) }
    }
    pub fn http_status(&self) -> i32 {
        unsafe { confer_error_http_status(self.0) }
    }
    pub fn retryable(&self) -> bool {
        unsafe { confer_error_retryable(self.0) }
    }
    pub fn check(&self) -> Option<&str> {
        text(unsafe { confer_error_check_id(self.0, ptr::null_mut()) })
    }
    pub fn peer_text(&self) -> Option<&str> {
        text(unsafe { confer_error_peer_text(self.0, ptr::null_mut()) })
    }
    pub fn report(&self) -> Option<Value> {
        let report = unsafe { confer_error_report(self.0) };
        text(unsafe { confer_report_json(report, ptr::null_mut()) })
            .map(|json| serde_json::from_str(json).unwrap())
    }
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", name(self.status()), self.message())
    }
}

/// Finds text that no message for people may have: Rust's debug formats, links to a dependency's
/// documentation, and paths.
pub fn slip(message: &str) -> Option<&str> {
    let slips = [
        "true://",
        "false://",
        "Some(",
        "None",
        "Ok(",
        "Err(",
        " { ",
        "docs.rs",
        "crates.io",
        ".rs:",
    ];
    let path = |word: &&str| {
        let word = word.trim_start_matches(['(', '"', '\'', '`']);
        word.starts_with('/') && word.len() > 1
    };
    let found = slips.into_iter().find(|slip| message.contains(slip));
    found.or_else(|| message.split_whitespace().find(path))
}

/// Turns a call that takes `confer_error **` into a result.
pub fn call(
    f: impl FnOnce(*mut *mut confer_error) -> confer_status,
) -> Result<confer_status, Failure> {
    let mut error = ptr::null_mut();
    let status = f(&mut error);
    if status <= CONFER_END {
        assert!(error.is_null(), "{} came with an error", name(status));
        return Ok(status);
    }
    assert!(!error.is_null(), "{} came without an error", name(status));
    let failure = Failure(error);
    assert_eq!(failure.status(), status);
    assert!(!failure.message().is_empty());
    Err(failure)
}

impl Config {
    pub fn set_endpoint(&self, url: &str) {
        call(|e| unsafe { confer_config_set_endpoint(self.0, url.as_ptr().cast(), url.len(), e) })
            .unwrap();
    }

    pub fn set_token(&self, token: &str) {
        call(|e| unsafe { confer_config_set_token(self.0, token.as_ptr().cast(), token.len(), e) })
            .unwrap();
    }

    pub fn set_ask(&self, questions: u32) {
        call(|e| unsafe { confer_config_set_ask(self.0, questions, e) }).unwrap();
    }

    pub fn set_duration(&self, key: i32, ms: u64) {
        call(|e| unsafe { confer_config_set_duration_ms(self.0, key, ms, e) }).unwrap();
    }

    pub fn set_limit(&self, key: i32, value: u64) {
        call(|e| unsafe { confer_config_set_limit(self.0, key, value, e) }).unwrap();
    }

    pub fn set_idle(&self, ms: u64) {
        self.set_duration(CONFER_DURATION_IDLE_EVENTS, ms);
        self.set_duration(CONFER_DURATION_IDLE_OTHER, ms);
    }

    /// Turns reconnecting on, with delays in milliseconds.
    pub fn set_retries(&self, attempts: u32, first: u64, longest: u64) {
        self.set_limit(CONFER_LIMIT_ATTEMPTS, attempts.into());
        self.set_duration(CONFER_DURATION_FIRST_RETRY, first);
        self.set_duration(CONFER_DURATION_LONGEST_RETRY, longest);
    }
}

/// Makes a configuration for an enclave, with its token.
pub fn config(enclave: &Enclave) -> Config {
    let config = without_token(enclave);
    config.set_token(&enclave.token);
    config
}

/// Makes a configuration for an enclave that asks for each token.
pub fn asking(enclave: &Enclave) -> Config {
    let config = without_token(enclave);
    config.set_ask(CONFER_ASK_TOKEN);
    config
}

fn without_token(enclave: &Enclave) -> Config {
    let (mut config, mut policy) = (ptr::null_mut(), ptr::null_mut());
    let path = &enclave.policy;
    unsafe {
        call(|e| confer_config_new(&mut config, e)).unwrap();
        let config = Config(config);
        config.set_endpoint(&enclave.url);
        call(|e| confer_policy_load(path.as_ptr().cast(), path.len(), &mut policy, e)).unwrap();
        call(|e| confer_config_set_policy(config.0, policy, e)).unwrap();
        confer_policy_free(policy);
        config
    }
}

/// Makes one attempt to connect, and waits for its outcome.
pub fn connect(config: &Config) -> Result<Client, Failure> {
    let mut client = ptr::null_mut();
    call(|e| unsafe { confer_connect(config.0, &mut client, e) })
        .inspect_err(|_| assert!(client.is_null()))
        .map(|_| Client(client))
}

/// Starts a client, which connects in the background.
pub fn start(config: &Config) -> Client {
    let mut client = ptr::null_mut();
    call(|e| unsafe { confer_connect_start(config.0, &mut client, e) }).unwrap();
    Client(client)
}

/// Waits until a client is connected or has ended.
pub fn wait(client: &Client) -> Result<(), Failure> {
    let ms = PATIENCE.as_millis() as i64;
    let waited = call(|e| unsafe { confer_client_wait(client.0, ms, e) })?;
    assert_eq!(waited, CONFER_OK, "{} within a minute", name(waited));
    Ok(())
}

/// Returns `CONFER_OK`, or the error with which a client ended.
pub fn check(client: &Client) -> Result<confer_status, Failure> {
    call(|e| unsafe { confer_client_check(client.0, e) })
}

/// Closes a client.
pub fn close(client: &Client) {
    let closed = call(|e| unsafe { confer_close(client.0, PATIENCE.as_millis() as i64, e) });
    assert_eq!(closed.unwrap(), CONFER_OK);
}

pub fn is_connected(client: &Client) -> bool {
    unsafe { confer_client_state(client.0) == CONFER_CLIENT_CONNECTED }
}

pub fn counter(client: &Client, counter: i32) -> u64 {
    unsafe { confer_client_counter(client.0, counter) }
}

/// An event of a watch, or its end.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Stage(i32),
    /// A connection serves. Its release has changed, or not.
    Connected(bool),
    Lost(confer_status),
    /// The attempt before the next `Retry` failed.
    Failed(confer_status),
    /// An attempt with this number begins after a delay.
    Retry(u32),
    /// A question for a token, with its reason. `answer` has returned.
    AskToken(i32),
    AskRelease,
    Answered,
    Ended(confer_status),
}

type Answer = Box<dyn FnMut(usize, *const confer_event) + Send>;

/// The callbacks of a watch.
struct Recorder {
    news: Sender<News>,
    asked: Arc<AtomicUsize>,
    answer: Answer,
}

impl Recorder {
    fn ask(&mut self, event: *const confer_event) {
        assert!(unsafe { confer_event_wants_answer(event) });
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        (self.answer)(number, event);
    }

    unsafe extern "C" fn on_event(
        user_data: *mut c_void,
        _: *mut confer_stream,
        event: *const confer_event,
    ) -> i32 {
        let this = unsafe { &mut *user_data.cast::<Recorder>() };
        let (error, kind) = unsafe { (confer_event_error(event), confer_event_type(event)) };
        let status = unsafe { confer_error_status(error) };
        let news = match kind {
            CONFER_EVENT_STAGE => News::Stage(unsafe { confer_event_stage(event) }),
            CONFER_EVENT_CONNECTED => unsafe {
                assert!(confer_report_verified(confer_event_report(event)));
                News::Connected(confer_event_release_changed(event))
            },
            CONFER_EVENT_DISCONNECTED => News::Lost(status),
            CONFER_EVENT_RETRY => {
                if !error.is_null() {
                    let _ = this.news.send(News::Failed(status));
                }
                assert!(unsafe { confer_event_delay_ms(event) } >= 0);
                News::Retry(unsafe { confer_event_attempt(event) })
            }
            CONFER_EVENT_ASK_TOKEN => {
                this.ask(event);
                News::AskToken(unsafe { confer_event_token_reason(event) })
            }
            CONFER_EVENT_ASK_RELEASE => {
                this.ask(event);
                News::AskRelease
            }
            CONFER_EVENT_ANSWERED => News::Answered,
            other => panic!("an event of type {other}"),
        };
        let _ = this.news.send(news); // a test may leave early
        0
    }

    unsafe extern "C" fn on_done(
        user_data: *mut c_void,
        _: *mut confer_stream,
        status: confer_status,
        _: *const confer_error,
    ) {
        let this = unsafe { &*user_data.cast::<Recorder>() };
        let _ = this.news.send(News::Ended(status));
    }

    unsafe extern "C" fn destroy(user_data: *mut c_void) {
        drop(unsafe { Box::from_raw(user_data.cast::<Recorder>()) });
    }
}

/// A watch of a client. Its callbacks record the news and answer the questions.
pub struct Watch {
    news: Receiver<News>,
    asked: Arc<AtomicUsize>,
}

impl Watch {
    /// Watches a client that asks nothing.
    pub fn of(client: &Client) -> Watch {
        Watch::answering(client, |_, _| panic!("a question"))
    }

    /// `answer` gets each question and its number, from 0.
    pub fn answering(
        client: &Client,
        answer: impl FnMut(usize, *const confer_event) + Send + 'static,
    ) -> Watch {
        let (told, news) = channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let recorder = Recorder {
            news: told,
            asked: asked.clone(),
            answer: Box::new(answer),
        };
        let table = confer_stream_callbacks {
            size: size_of::<confer_stream_callbacks>(),
            user_data: Box::into_raw(Box::new(recorder)).cast(),
            on_event: Some(Recorder::on_event),
            on_done: Some(Recorder::on_done),
            destroy: Some(Recorder::destroy),
            on_ready: None,
        };
        // Without a handle, the watch runs until the client's end.
        call(|e| unsafe { confer_client_watch(client.0, &table, ptr::null_mut(), e) }).unwrap();
        Watch { news, asked }
    }

    /// Waits for the next event.
    pub fn next(&self) -> News {
        let news = self.news.recv_timeout(PATIENCE);
        news.expect("an event within a minute")
    }

    /// Waits for an event, and returns those before it.
    pub fn until(&self, wanted: &News) -> Vec<News> {
        let mut before = Vec::new();
        loop {
            let news = self.news.recv_timeout(PATIENCE);
            let news = news.unwrap_or_else(|_| panic!("{wanted:?} after {before:?}"));
            if news == *wanted {
                return before;
            }
            before.push(news);
        }
    }

    /// Returns the number of questions so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Connects, and watches what comes afterwards.
pub fn watched(config: &Config) -> (Client, Watch) {
    let client = connect(config).unwrap();
    let watch = Watch::of(&client);
    assert_eq!(watch.next(), News::Connected(false)); // the present state
    (client, watch)
}

/// Connects with tokens that `answer` gives, and watches what comes afterwards.
pub fn connect_answering(
    config: &Config,
    answer: impl FnMut(usize, *const confer_event) + Send + 'static,
) -> (Client, Watch) {
    let client = start(config);
    let watch = Watch::answering(&client, answer);
    wait(&client).unwrap();
    watch.until(&News::Connected(false));
    (client, watch)
}

/// Keeps a lent event.
pub fn keep(event: *const confer_event) -> Event {
    Event(unsafe { confer_event_clone(event) })
}

pub fn answer_token(event: *const confer_event, token: &str) -> Result<confer_status, Failure> {
    call(|e| unsafe { confer_event_answer_token(event, token.as_ptr().cast(), token.len(), e) })
}

/// Answers a question with a token.
pub fn give(event: *const confer_event, token: &str) {
    answer_token(event, token).unwrap();
}

pub fn request(prompt: &str) -> Request {
    let mut request = ptr::null_mut();
    unsafe {
        call(|e| confer_chat_request_new(&mut request, e)).unwrap();
        let request = Request(request);
        call(|e| {
            confer_chat_request_add_message(
                request.0,
                CONFER_ROLE_USER,
                prompt.as_ptr().cast(),
                prompt.len(),
                e,
            )
        })
        .unwrap();
        request
    }
}

/// Starts a chat.
pub fn pull(client: &Client, prompt: &str) -> Result<Stream, Failure> {
    send(client, &request(prompt))
}

/// Starts any request.
pub fn send(client: &Client, request: &impl Start) -> Result<Stream, Failure> {
    let mut stream = ptr::null_mut();
    call(|e| request.start(client.0, ptr::null(), &mut stream, e))
        .inspect_err(|_| assert!(stream.is_null()))
        .map(|_| Stream(stream))
}

/// Makes an extraction of a document in memory.
pub fn extraction(document: &[u8]) -> Extraction {
    let request = extraction_of("test.pdf");
    call(|e| unsafe {
        let (bytes, len) = (document.as_ptr(), document.len());
        confer_extraction_request_set_document_bytes(request.0, bytes, len, e)
    })
    .unwrap();
    request
}

/// Makes an extraction without a document.
pub fn extraction_of(name: &str) -> Extraction {
    let mut request = ptr::null_mut();
    call(|e| unsafe {
        confer_extraction_request_new(name.as_ptr().cast(), name.len(), &mut request, e)
    })
    .unwrap();
    Extraction(request)
}

/// Waits for the next event of a stream, which is lent.
pub fn next(stream: &Stream) -> *const confer_event {
    let (mut event, ms) = (ptr::null(), PATIENCE.as_millis() as i64);
    let next = call(|e| unsafe { confer_stream_next(stream.0, ms, &mut event, e) });
    assert_eq!(next.unwrap(), CONFER_OK);
    event
}

/// Reads a stream to its end, passes each event to `take`, and returns how it ended.
pub fn drain(stream: &Stream, mut take: impl FnMut(*const confer_event)) -> Result<(), Failure> {
    let ms = PATIENCE.as_millis() as i64;
    loop {
        let mut event = ptr::null();
        match call(|e| unsafe { confer_stream_next(stream.0, ms, &mut event, e) }) {
            Ok(CONFER_OK) => take(event),
            Ok(CONFER_END) => return Ok(()),
            Ok(other) => panic!("{} within a minute", name(other)),
            Err(failure) => {
                let again = call(|e| unsafe { confer_stream_next(stream.0, 0, &mut event, e) });
                assert_eq!(again.unwrap_err().status(), failure.status());
                return Err(failure);
            }
        }
    }
}

/// Returns the content of an event.
pub fn content(event: *const confer_event) -> Vec<u8> {
    let mut len = 0;
    let content = unsafe { confer_event_content(event, &mut len) };
    assert!(!content.is_null());
    unsafe {
        assert_eq!(*content.add(len), 0, "a NUL stands behind it");
        std::slice::from_raw_parts(content.cast::<u8>(), len).to_vec()
    }
}

/// Reads a stream of pieces to its end.
pub fn read_body(stream: &Stream) -> (Vec<u8>, Result<(), Failure>) {
    let mut body = Vec::new();
    let end = drain(stream, |event| {
        if unsafe { confer_event_type(event) } == CONFER_EVENT_BODY {
            body.extend(content(event));
            assert_eq!(
                unsafe { confer_event_received(event, ptr::null_mut()) },
                body.len() as i64
            );
        }
    });
    (body, end)
}

/// Reads a stream to its end. Returns the text, and how it ended.
pub fn read(stream: &Stream) -> (String, Result<(), Failure>) {
    let mut answer = String::new();
    let end = drain(stream, |event| {
        if unsafe { confer_event_type(event) } == CONFER_EVENT_TOKEN {
            answer += std::str::from_utf8(&content(event)).unwrap();
        }
    });
    (answer, end)
}
