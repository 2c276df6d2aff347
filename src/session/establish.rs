//! Connects to an endpoint and verifies the enclave, in stages. Each has a time limit and a name.
//!
//! No request can be sent before verification: message 3 comes from
//! [`Unverified::accept`](crate::noise::Unverified::accept), which takes the proof of a verified
//! report. Only [`Proven::complete`] calls it, which takes the approval of the enclave.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::core::noise_error;
use super::limits::Limits;
use super::lost::{During, closed, lost};
use super::stage::Stage;
use crate::attestation::{
    Check, CheckId, Evidenced, Export, JwkSet, Passing, Report, Verified, Verifier,
};
use crate::clock;
use crate::error::{Error, Result, Status};
use crate::net::{self, Endpoint, KeySource, Route, Socket, Token};
use crate::noise::{Channel, Initiator, Unverified};

/// Settings for connecting.
pub struct Settings {
    /// The server.
    pub endpoint: Endpoint,
    /// The way to it.
    pub route: Route,
    /// The policy with its memory.
    pub verifier: Arc<Verifier>,
    /// Intel's keys.
    pub keys: Arc<KeySource>,
    /// Limits of time and memory.
    pub limits: Limits,
}

/// The approval of a verified enclave: its release needs no question, or the application accepted
/// it.
pub struct Approved(());

impl Approved {
    /// Grants it. Only the core of a client's life does this.
    pub(crate) fn grant() -> Approved {
        Approved(())
    }
}

/// A connection to a verified enclave that needs an approval. Message 3 was not sent yet.
pub struct Proven {
    socket: Socket,
    unverified: Unverified,
    verified: Verified,
    evidenced: Arc<Evidenced>,
    /// The limit of the last stage, and the time left of it.
    limit: Duration,
    left: Duration,
}

/// A connection to a verified enclave that does not run yet.
pub struct Established {
    /// The upgraded socket.
    pub socket: Socket,
    /// The Noise channel that ends inside the enclave.
    pub channel: Channel,
    /// The evidence, and the report about it.
    pub evidenced: Arc<Evidenced>,
}

/// The name of all stages together in the report's `timings_us`.
pub const TOTAL: &str = "total";

/// Called when a stage begins.
pub type Watch<'a> = &'a (dyn Fn(Stage) + Sync);

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

/// Connects and verifies the enclave. The error names the stage, and holds the report of a refused
/// enclave.
pub async fn verify(settings: &Settings, token: &Token, watch: Watch<'_>) -> Result<Proven> {
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

    // Mistakes of the application fail before anything is sent: a proxy of the wrong kind, or a
    // cache file that cannot be read.
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
    // A missing key set does not fail here: the check `ita.key` fails then, and the report says so.
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
        // A later attempt may fetch the key set.
        let may_come = failure.as_ref().is_some_and(Error::retryable);
        let passes = |check: &Check| check.passing().is_some() || (may_come && without_key(check));
        let report = &evidenced.report;
        let mut rejection = rejection(&evidenced).with_retryable(report.fails_only(passes));
        if report.fails_only(by_clock) {
            rejection = rejection.adding(&doubt(report.verified_at, servers_time));
        }
        return Err(match failure {
            // This failure says nothing about the enclave.
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
    Ok(Proven {
        socket,
        unverified,
        verified,
        evidenced,
        limit,
        left: limit.saturating_sub(began.elapsed()),
    })
}

impl Proven {
    /// Returns the evidence, and the report about it.
    pub fn evidenced(&self) -> &Arc<Evidenced> {
        &self.evidenced
    }

    /// Completes the handshake: sends message 3, within the time that the stage has left.
    pub async fn complete(mut self, _: Approved) -> Result<Established> {
        let accepted = self.unverified.accept(&self.verified);
        let (message, channel) = accepted.map_err(noise_error)?;
        let sent = tokio::time::timeout(self.left, send(&mut self.socket, message)).await;
        sent.unwrap_or_else(|_| Err(timed_out(Stage::Verify.name(), self.limit)))
            .map_err(|error| error.during(Stage::Verify.name()))?;
        Ok(Established {
            socket: self.socket,
            channel,
            evidenced: self.evidenced,
        })
    }
}

/// Exchanges messages 1 and 2.
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

/// Returns the key set, and fetches it if the known one lacks the token's key. Fetches only once,
/// because the enclave chooses the key's name. Uses a set that another connection has fetched
/// since.
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

/// The error of a refused enclave: the first check that failed, what it expected and what it found.
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
    message += &format!(" Policy: {}.", evidenced.report.policy.name);
    Error::new(Status::Rejected, message).with_report(Some(check.id().as_str()), evidenced.clone())
}

/// Asks whether the device's clock is right. The server's time is a hint, and has no other use.
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
