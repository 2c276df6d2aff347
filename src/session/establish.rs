//! From an endpoint to a verified channel, stage by stage, each with a time limit and a name for errors.
//!
//! The order is the rule: message 3 is made from [`Unverified::accept`](crate::noise::Unverified::accept), which takes
//! the proof of a verified report, so nothing is sent before verification.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::bounds::Bounds;
use super::core::noise_error;
use super::driver::{During, closed, lost};
use crate::attestation::{
    Check, CheckId, Evidenced, Export, JwkSet, Passing, Report, Verified, Verifier,
};
use crate::clock;
use crate::error::{Error, Result, Status};
use crate::net::{self, Endpoint, KeySource, Route, Socket, Token};
use crate::noise::{Channel, Initiator, Unverified};

/// What connecting does. The numbers are those of the C API, and mostly the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Stage {
    /// The host name is looked up.
    Resolve = 0,
    /// A TCP connection is made.
    Tcp = 1,
    /// TLS is negotiated.
    Tls = 2,
    /// The WebSocket upgrade is asked for.
    Upgrade = 3,
    /// Noise messages 1 and 2.
    Handshake = 4,
    /// Intel's key set is read or fetched.
    KeySet = 5,
    /// The evidence is verified; if it holds, message 3 is sent.
    Verify = 6,
    /// Where there is a proxy, a tunnel through it, between [`Stage::Tcp`] and [`Stage::Tls`].
    Proxy = 7,
    /// The application is asked for a token.
    Token = 8,
    /// The application is asked whether another release than before will do.
    Release = 9,
}

impl Stage {
    /// All of them, by number.
    pub const ALL: [Stage; 10] = [
        Stage::Resolve,
        Stage::Tcp,
        Stage::Tls,
        Stage::Upgrade,
        Stage::Handshake,
        Stage::KeySet,
        Stage::Verify,
        Stage::Proxy,
        Stage::Token,
        Stage::Release,
    ];

    /// The stage's name, as in errors and in the report's `timings_us`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Resolve => "resolve",
            Stage::Tcp => "tcp",
            Stage::Tls => "tls",
            Stage::Upgrade => "upgrade",
            Stage::Handshake => "handshake",
            Stage::KeySet => "key_set",
            Stage::Verify => "verify",
            Stage::Proxy => "proxy",
            Stage::Token => "token",
            Stage::Release => "release",
        }
    }
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Streamed, event by event.
    Events,
    /// At once, or in pieces after minutes of work.
    Pieces,
}

impl Pace {
    /// The C constant of the limit for its silence.
    pub fn limit_name(self) -> &'static str {
        match self {
            Pace::Events => "CONFER_DURATION_IDLE_EVENTS",
            Pace::Pieces => "CONFER_DURATION_IDLE_OTHER",
        }
    }
}

/// How long a request may be silent, by the pace of its answer (protocol section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Before and between the events of a streamed answer.
    pub events: Duration,
    /// Before and between the pieces of any other.
    pub pieces: Duration,
}

impl Idle {
    /// The same limit for both.
    pub fn both(limit: Duration) -> Idle {
        Idle {
            events: limit,
            pieces: limit,
        }
    }

    /// The limit of an answer that comes so.
    pub fn of(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Events => self.events,
            Pace::Pieces => self.pieces,
        }
    }
}

/// The time limits of a connection, and the bounds of what it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For each [`Stage`] but those in which the application is asked, by its number.
    pub stage: [Duration; Stage::Token as usize],
    /// For each question to the application: [`Stage::Token`], [`Stage::Release`].
    pub answer: Duration,
    /// For all stages together.
    pub connect: Duration,
    /// Between pings.
    pub keepalive: Duration,
    /// How long a ping may be open while no byte moves.
    pub dead_after: Duration,
    /// How long a request may be silent.
    pub idle: Idle,
    /// How long the peer may be silent after the network changed.
    pub probe: Duration,
    /// Of memory.
    pub bounds: Bounds,
}

impl Limits {
    /// The limit of a stage.
    fn of(&self, stage: Stage) -> Duration {
        self.stage
            .get(stage as usize)
            .copied()
            .unwrap_or(self.answer)
    }
}

/// What a connection is made from.
pub struct Settings {
    /// Where to.
    pub endpoint: Endpoint,
    /// Which way.
    pub route: Route,
    /// The policy, and what it remembers.
    pub verifier: Arc<Verifier>,
    /// Intel's keys.
    pub keys: Arc<KeySource>,
    /// Time limits.
    pub limits: Limits,
}

/// A connection to a verified enclave, not yet running.
pub struct Established {
    /// The upgraded socket.
    pub socket: Socket,
    /// The Noise channel that ends inside the enclave.
    pub channel: Channel,
    /// Why it is trusted.
    pub evidenced: Arc<Evidenced>,
}

/// What all stages together are called in the report's `timings_us`.
pub const TOTAL: &str = "total";

/// Told of each stage as it begins.
pub type Watch<'a> = &'a (dyn Fn(Stage) + Sync);

/// Asked, once an enclave is verified and before message 3 can leave, whether it is wanted too.
pub type Approval<'a> = &'a (dyn Fn(Arc<Evidenced>) -> Approving<'a> + Sync);
/// The answer of an [`Approval`].
pub type Approving<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Runs one stage within its time limit.
pub async fn stage<T>(
    limits: &Limits,
    stage: Stage,
    watch: Watch<'_>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let limit = limits.of(stage);
    watch(stage);
    let result = tokio::time::timeout(limit, work).await;
    result.unwrap_or_else(|_| Err(timed_out(stage.name(), limit)))
}

struct Run<'a> {
    limits: &'a Limits,
    watch: Watch<'a>,
    began: Instant,
    timings_us: Vec<(&'static str, u64)>,
}

impl Run<'_> {
    async fn stage<T>(&mut self, stage: Stage, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let result = self::stage(self.limits, stage, self.watch, work).await;
        self.timings_us.push((stage.name(), micros(began)));
        result
    }
}

/// Connects, verifies, and completes the handshake; or says which stage failed, how, and what the report is.
pub async fn establish(
    settings: &Settings,
    token: &Token,
    watch: Watch<'_>,
    approval: Approval<'_>,
) -> Result<Established> {
    let Settings {
        endpoint,
        route,
        verifier,
        keys,
        limits,
    } = settings;
    let mut run = Run {
        limits,
        watch,
        began: Instant::now(),
        timings_us: Vec::new(),
    };

    // A proxy that does not lead there, a cache file that cannot be read: the application's mistakes are told before
    // anything is sent.
    let proxy = route.proxy(endpoint)?;
    let known = keys.known().await?;
    let addresses = run
        .stage(Stage::Resolve, net::resolve(endpoint, proxy))
        .await?;
    let mut socket = run
        .stage(Stage::Tcp, net::connect(&addresses, proxy))
        .await?;
    if let Some(proxy) = proxy {
        let tunnel = net::tunnel(proxy, endpoint, socket);
        socket = run.stage(Stage::Proxy, tunnel).await?;
    }
    let stream = run
        .stage(Stage::Tls, net::secure(endpoint, route, socket))
        .await?;
    let (mut socket, servers_time) = run
        .stage(Stage::Upgrade, net::upgrade(endpoint, token, stream))
        .await?;
    let unverified = run
        .stage(Stage::Handshake, exchange(&mut socket))
        .await
        .map_err(|error| error.during(Stage::Handshake.name()))?;
    // A key set that cannot be had ends nothing here: the check `ita.key` fails for it, in a report that says so.
    let (known, failure) = match run
        .stage(
            Stage::KeySet,
            find_key(verifier, keys, &unverified, known.clone()),
        )
        .await
    {
        Ok(known) => (known, None),
        Err(failure) => (known, Some(failure)),
    };

    let began = Instant::now();
    let appraised = run
        .stage(Stage::Verify, async {
            Ok(appraise(verifier, &unverified, known.as_deref()))
        })
        .await?;
    let (mut report, verified, export) = appraised;
    report.endpoint = Some(endpoint.to_string());
    run.timings_us.push((TOTAL, micros(run.began)));
    report.timings_us = run.timings_us;
    let evidenced = Arc::new(Evidenced { report, export });
    let Some(verified) = verified else {
        let by_clock = |check: &Check| check.passing() == Some(Passing::Clock);
        let without_key = |check: &Check| check.id() == CheckId::ItaKey;
        // A key set that could not be fetched may be there later.
        let may_come = failure.as_ref().is_some_and(Error::retryable);
        let passes = |check: &Check| check.passing().is_some() || (may_come && without_key(check));
        let report = &evidenced.report;
        let mut rejection = rejection(&evidenced).with_retryable(report.fails_only(passes));
        if report.fails_only(by_clock) {
            rejection = rejection.adding(&doubt(report.verified_at, servers_time));
        }
        return Err(match failure {
            // It says nothing of the enclave.
            Some(failure)
                if failure.status() == Status::System && report.fails_only(without_key) =>
            {
                failure.during(Stage::KeySet.name())
            }
            Some(failure) => rejection.because("The key set could not be fetched", &failure),
            None => rejection,
        });
    };

    let limit = limits.of(Stage::Verify);
    let left = limit.saturating_sub(began.elapsed());
    stage(limits, Stage::Release, &|_| (), approval(evidenced.clone())).await?;
    let (message, channel) = unverified.accept(&verified).map_err(noise_error)?;
    let sent = tokio::time::timeout(left, send(&mut socket, message)).await;
    sent.unwrap_or_else(|_| Err(timed_out(Stage::Verify.name(), limit)))
        .map_err(|error| error.during(Stage::Verify.name()))?;
    Ok(Established {
        socket,
        channel,
        evidenced,
    })
}

/// Messages 1 and 2.
async fn exchange(socket: &mut Socket) -> Result<Unverified> {
    let (initiator, message) = Initiator::start().map_err(noise_error)?;
    send(socket, message).await?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) => {
                return initiator.read(&message).map_err(noise_error);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => return Err(closed(frame, During::Handshake)),
            Some(Ok(_)) => {
                return Err(Error::new(
                    Status::Protocol,
                    "the server sent a text message (expected a binary one)",
                ));
            }
            Some(Err(error)) => return Err(lost(error)),
            None => return Err(closed(None, During::Handshake)),
        }
    }
}

async fn send(socket: &mut Socket, message: Vec<u8>) -> Result<()> {
    socket
        .send(Message::Binary(message.into()))
        .await
        .map_err(lost)
}

/// The key set, fetched if the token's key is not in what is known, and once: the name is the enclave's choice. What
/// another connection fetched meanwhile is looked at first.
async fn find_key(
    verifier: &Verifier,
    keys: &KeySource,
    unverified: &Unverified,
    mut known: Option<Arc<JwkSet>>,
) -> Result<Option<Arc<JwkSet>>> {
    for _ in 0..2 {
        if verifier
            .needs_keys(unverified.evidence(), known.as_deref())
            .is_none()
        {
            break;
        }
        match keys.newer_than(known.as_ref()).await? {
            Some(newer) => {
                known = Some(newer.keys);
                if newer.fetched {
                    break;
                }
            }
            None => break,
        }
    }
    Ok(known)
}

fn appraise(
    verifier: &Verifier,
    unverified: &Unverified,
    keys: Option<&JwkSet>,
) -> (Report, Option<Verified>, Export) {
    let now = clock::now();
    let (evidence, key) = (unverified.evidence(), unverified.server_key());
    let (report, verified) = verifier.admit(evidence, key, keys, now);
    (report, verified, verifier.export(evidence, key, keys, now))
}

/// Says why an enclave was refused: the check that decided, what it expected and what it found.
pub fn rejection(evidenced: &Arc<Evidenced>) -> Error {
    let Some(check) = evidenced.report.first_failure() else {
        return Error::new(Status::Rejected, "no check was made")
            .with_report(None, evidenced.clone());
    };
    let mut message = format!("{}: {}", check.id().as_str(), check.detail());
    if let Some(expected) = check.expected() {
        message += &format!(" Expected: {expected}.");
    }
    if let Some(observed) = check.observed() {
        message += &format!(" Found: {observed}.");
    }
    Error::new(Status::Rejected, message).with_report(Some(check.id().as_str()), evidenced.clone())
}

/// Asks whether the device's clock is right. The time in the server's answer helps to tell, and has no other use.
fn doubt(now: u64, servers_time: Option<u64>) -> String {
    let question = clock::question(now);
    match servers_time {
        Some(time) => format!(
            "{question} The server's answer says {}.",
            clock::in_words(time)
        ),
        None => question,
    }
}

fn timed_out(what: &str, limit: Duration) -> Error {
    Error::new(
        Status::StageTimeout,
        format!("{what}: no result within {} ms", limit.as_millis()),
    )
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
