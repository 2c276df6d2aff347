//! The local enclave as a child process, and thin owners for the handles of the C API.

use std::ffi::{CStr, c_char};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::conversation::*;
use confer::ffi::error::*;
use confer::ffi::event::*;
use confer::ffi::policy::*;
use confer::ffi::report::*;
use confer::ffi::request::*;
use confer::ffi::route::*;
use confer::ffi::settings::*;
use confer::ffi::start::*;
use confer::ffi::status::*;
use confer::ffi::stream::*;
use serde_json::Value;

/// A prompt that tests search for.
pub const PROMPT: &str = "an-unmistakable-prompt-7d1f";

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
        self.events().iter().any(|line| line["event"] == event)
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
owner!(Request, confer_chat_request, confer_chat_request_free);
owner!(Stream, confer_stream, confer_stream_free);
owner!(Route, confer_request, confer_request_free);
owner!(Conversation, confer_conversation, confer_conversation_free);
owner!(Failure, confer_error, confer_error_free);
owner!(Report, confer_report, confer_report_free);

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

/// Makes a configuration for an enclave, with limits for tests.
pub fn config(enclave: &Enclave) -> Config {
    let mut config = ptr::null_mut();
    unsafe {
        call(|e| confer_config_new(&mut config, e)).unwrap();
        let config = Config(config);
        call(|e| {
            confer_config_set_endpoint(config.0, enclave.url.as_ptr().cast(), enclave.url.len(), e)
        })
        .unwrap();
        call(|e| {
            confer_config_set_token(
                config.0,
                enclave.token.as_ptr().cast(),
                enclave.token.len(),
                e,
            )
        })
        .unwrap();
        let mut policy = ptr::null_mut();
        let path = &enclave.policy;
        call(|e| confer_policy_load(path.as_ptr().cast(), path.len(), &mut policy, e)).unwrap();
        call(|e| confer_config_set_policy(config.0, policy, e)).unwrap();
        confer_policy_free(policy);
        for stage in CONFER_DURATION_STAGE_RESOLVE..=CONFER_DURATION_STAGE_PROXY {
            config.set_duration(stage, 3_000);
        }
        config
    }
}

pub fn connect(config: &Config) -> Result<Client, Failure> {
    let mut client = ptr::null_mut();
    call(|e| unsafe { confer_connect(config.0, ptr::null(), &mut client, e) })
        .inspect_err(|_| assert!(client.is_null()))
        .map(|_| Client(client))
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

pub fn pull(client: &Client, prompt: &str) -> Result<Stream, Failure> {
    let mut stream = ptr::null_mut();
    call(|e| unsafe { confer_chat_pull(client.0, request(prompt).0, &mut stream, e) })
        .map(|_| Stream(stream))
}

/// Starts any other request.
pub fn send(client: &Client, request: &Route) -> Result<Stream, Failure> {
    let mut stream = ptr::null_mut();
    call(|e| unsafe { confer_request_pull(client.0, request.0, &mut stream, e) })
        .inspect_err(|_| assert!(stream.is_null()))
        .map(|_| Stream(stream))
}

/// Makes a request with one of the constructors.
pub fn route(
    make: impl FnOnce(*mut *mut confer_request, *mut *mut confer_error) -> confer_status,
) -> Result<Route, Failure> {
    let mut request = ptr::null_mut();
    call(|e| make(&mut request, e)).map(|_| Route(request))
}

/// Makes an extraction of a document in memory.
pub fn extraction(document: &[u8]) -> Route {
    let request = extraction_of("test.pdf");
    call(|e| unsafe {
        confer_request_set_document_bytes(request.0, document.as_ptr(), document.len(), e)
    })
    .unwrap();
    request
}

/// Makes an extraction without a document.
pub fn extraction_of(name: &str) -> Route {
    route(|r, e| unsafe { confer_request_new_extraction(name.as_ptr().cast(), name.len(), r, e) })
        .unwrap()
}

/// Reads a stream to its end, passes each event to `take`, and returns how it ended.
pub fn drain(stream: &Stream, mut take: impl FnMut(*const confer_event)) -> Result<(), Failure> {
    loop {
        let mut event = ptr::null();
        match call(|e| unsafe { confer_stream_next(stream.0, 60_000, &mut event, e) }) {
            Ok(CONFER_OK) => take(event),
            Ok(CONFER_END) => return Ok(()),
            Ok(other) => panic!("{} within a minute", name(other)),
            Err(failure) => {
                // The end is reported once. Later calls return `CONFER_END`.
                assert_eq!(
                    call(|e| unsafe { confer_stream_next(stream.0, 0, &mut event, e) }).unwrap(),
                    CONFER_END
                );
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
