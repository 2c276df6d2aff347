//! A local enclave: serves Confer's protocol on a loopback port, with its own trust world.
//!
//! The library connects with a policy file, through the same code as to the real service. Shares
//! only `proto/confer.proto` with the library. This file starts and stops the enclave; README.md
//! explains its use.

mod answer;
mod cli;
mod connection;
mod faults;
mod files;
mod key_server;
mod log;
mod noise;
mod routes;
mod script;
mod server;
mod tokens;
mod upgrade;
mod upstream;
mod wire;
mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Command, Options};
use faults::Twist;
use files::Folder;
use server::{Server, Times};
use tokens::Class;
use world::{Kept, World};

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Open files that a few thousand connections need; many shells allow 1,024, or 256.
const OPEN_FILES: u64 = 10_000;
/// URL of the key set in an exported policy, which has no key server.
const NO_KEYS: &str = "http://127.0.0.1:9/keys";

/// The reason why something ended, for the log and for stderr.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The state that all connections share.
pub(crate) struct Enclave {
    pub(crate) server: Server,
    pub(crate) times: Times,
    pub(crate) world: World,
    pub(crate) static_key: noise::StaticKey,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) log: log::Log,
    pub(crate) upstream: Option<upstream::Upstream>,
    pub(crate) script: Option<Arc<script::Script>>,
    faulty: Faulty,
}

/// The fault, and the connections that it applies to.
#[derive(Clone, Copy)]
pub(crate) struct Faulty {
    pub(crate) fault: Option<&'static faults::Fault>,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Default for Faulty {
    fn default() -> Self {
        Self {
            fault: None,
            from: 1,
            until: u64::MAX,
        }
    }
}

impl Faulty {
    fn worldwide(&self) -> &'static [Twist] {
        self.fault.map_or(&[], |fault| fault.twists)
    }

    fn of(&self, connection: u64) -> &'static [Twist] {
        if (self.from..=self.until).contains(&connection) {
            self.worldwide()
        } else {
            &[]
        }
    }
}

impl Enclave {
    pub(crate) fn worldwide_twists(&self) -> &'static [Twist] {
        self.faulty.worldwide()
    }

    pub(crate) fn twists(&self, connection: u64) -> &'static [Twist] {
        match &self.script {
            Some(script) => script.twists(connection),
            None => self.faulty.of(connection),
        }
    }
}

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args().skip(1)) {
        Ok(Command::Serve(options)) => options,
        Ok(Command::ListFaults) => return print(&faults::list()),
        Ok(Command::Help) => return print(&format!("{}\n{}", cli::USAGE, cli::HELP)),
        Err(why) => {
            eprintln!(
                "confer-enclave: {why}\n{}--help explains the options.",
                cli::USAGE
            );
            return ExitCode::from(2);
        }
    };
    match start(*options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("confer-enclave: {why}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Raises this process's limit of open files, as far as the system allows.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = OPEN_FILES.min(limit.maximum.unwrap_or(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            eprintln!("confer-enclave: open files: {error}");
        }
    }
}

fn start(options: Options) -> Result<(), Failure> {
    if let Some(folder) = options.export.clone() {
        return export(options, &folder);
    }
    allow_many_connections();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(options));
    runtime.shutdown_background();
    served
}

/// Writes the evidence that a connection would get, and the policy and the key set, to a folder.
fn export(options: Options, folder: &Path) -> Result<(), Failure> {
    let twists = options.faulty.worldwide();
    let world = World::new(
        kept(options.state.as_deref())?,
        None,
        NO_KEYS.into(),
        twists,
    )?;
    let key = noise::StaticKey::generate()?.public;
    let evidence = BASE64_STANDARD.encode(world.evidence(&key, twists)?);
    let export = json!({
        "version": 1, "captured_at": world::time::now(), "server_key": world::hex(&key),
        "evidence_base64": evidence, "jwks": null,
    });
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("evidence.json"), export.to_string())?;
    std::fs::write(folder.join("policy.json"), world.policy)?;
    std::fs::write(folder.join("keys.json"), world.key_set)?;
    Ok(())
}

fn kept(state: Option<&Path>) -> Result<Kept, Failure> {
    let Some(path) = state else {
        return Kept::generate();
    };
    files::kept(path)?;
    Kept::load_or_generate(&path.join("world.json"))
}

/// Creates the world, prints its address, and serves until a signal stops it.
async fn serve(mut options: Options) -> Result<(), Failure> {
    // From here on a signal ends the wait below, so the temporary folder is always removed.
    let mut stop: Vec<Ending> = Vec::new();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ] {
        let mut signal = signal(kind)?;
        stop.push(Box::pin(async move { _ = signal.recv().await }));
    }
    let folder = Folder::temporary()?;
    let log = log::Log::open(options.log.as_deref())?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    let key_listener = TcpListener::bind(("127.0.0.1", options.key_port)).await?;

    let kept = kept(options.state.as_deref())?;
    let key_set_url = format!("http://{}{}", key_listener.local_addr()?, key_server::PATH);
    let release = options.release.as_deref();
    let twists = match &options.script {
        Some(script) => script.twists_of_release(),
        None => options.faulty.worldwide(),
    };
    let world = World::new(kept, release, key_set_url, twists)?;
    // Not under `--state`, which several enclaves may share: each has another key server, and so
    // another policy.
    let policy = folder.file("policy.json");
    files::create(&policy, world.policy.as_bytes())?;

    if options.tokens.accepted().is_none() {
        options
            .tokens
            .add(world::account_token(), Class::Accepted)?;
    }
    let enclave = Arc::new(Enclave {
        server: options.server,
        times: options.times,
        world,
        static_key: noise::StaticKey::generate()?,
        tokens: options.tokens,
        log,
        upstream: options.upstream,
        script: options.script.map(Arc::new),
        faulty: options.faulty,
    });
    let line = json!({
        "url": format!("ws://{}{}", listener.local_addr()?, upgrade::PATH),
        "token": enclave.tokens.accepted(),
        "policy": policy,
    });
    let mut out = std::io::stdout();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()?;

    tokio::spawn(key_server::serve(key_listener, Arc::clone(&enclave)));
    tokio::spawn(accept(listener, Arc::clone(&enclave)));
    stop.push(Box::pin(closed_stdin(options.exit_with_stdin)));
    futures_util::future::select_all(stop).await;
    match &enclave.script {
        Some(script) => script.outcome().await,
        None => Ok(()),
    }
}

type Ending = std::pin::Pin<Box<dyn Future<Output = ()>>>;

async fn accept(listener: TcpListener, enclave: Arc<Enclave>) {
    for number in 1.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection::serve(stream, Arc::clone(&enclave), number));
            }
            Err(error) => {
                // Probably out of descriptors: the next connection to end frees one.
                eprintln!("confer-enclave: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends when stdin does, if `--exit-with-stdin` is set, so that a killed test leaves no enclave.
async fn closed_stdin(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let (told, ended) = tokio::sync::oneshot::channel();
    // A thread, because a read of stdin cannot be cancelled.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = told.send(());
    });
    let _ = ended.await;
}
