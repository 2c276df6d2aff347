//! Client CPU of connecting, to a new and to a known release. The comparison is the primitives.

use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use confer::attestation::{JwkSet, Policy, Verifier};
use confer::ffi::connect::confer_close;
use confer::net::{KeySources, Route};
use confer::noise::{Channel, Initiator};
use futures_util::SinkExt;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

use crate::bare::{self, Socket};
use crate::harness::{self, Config, Enclave};
use crate::measure::{median, micros, process_cpu, timed};
use crate::primitives::Primitives;
use crate::table::{Aim, Table};

const ROUNDS: usize = 15;
/// Connections of each type in a round.
const EACH: usize = 4;

pub fn run(enclave: &Enclave, table: &mut Table) {
    let runtime = bare::runtime();
    let trust = Trust::load(enclave, &runtime);
    let primitives =
        Primitives::new(establish(enclave, &runtime, &trust.verifier(), &trust.keys).evidence);
    // Keeps the runtime and the key set, which a process sets up once.
    let known = harness::config(enclave);
    let _runtime = harness::connect(&known).unwrap();

    let (mut cold, mut known_release) = (Vec::new(), Vec::new());
    let (mut cold_pure, mut known_pure) = (Vec::new(), Vec::new());
    let (mut cold_limit, mut known_limit) = (Vec::new(), Vec::new());
    let verifier = trust.verifier();
    for _ in 0..ROUNDS {
        for _ in 0..EACH {
            cold.push(connect(&harness::config(enclave)));
            known_release.push(connect(&known));
            cold_pure.push(establish(enclave, &runtime, &trust.verifier(), &trust.keys).cpu);
            known_pure.push(establish(enclave, &runtime, &verifier, &trust.keys).cpu);
            let (each_time, with_release) = primitives.sums();
            known_limit.push(each_time);
            cold_limit.push(with_release);
        }
    }
    for (what, whole, pure, limit) in [
        ("cold", cold, cold_pure, cold_limit),
        ("release known", known_release, known_pure, known_limit),
    ] {
        let (whole, limit) = (median(&whole), median(&limit));
        table.row(
            &format!("client CPU of connect and verify, {what}"),
            format!("{whole:.0} µs"),
            format!("{limit:.0} µs"),
            whole / limit,
            "×",
            Aim::AtMost(1.5),
        );
        let pure = median(&pure);
        table.note(
            "of it handshake and verification",
            format!("{pure:.0} µs"),
            String::new(),
        );
    }
}

/// Measures the CPU time of this process from the start of connecting until the client is ready.
fn connect(config: &Config) -> f64 {
    let before = process_cpu();
    let client = harness::connect(config).unwrap();
    let spent = process_cpu() - before;
    // SAFETY: the handle is live.
    unsafe { confer_close(client.0, -1, ptr::null_mut()) };
    micros(spent)
}

/// The inputs of a verification.
pub struct Trust {
    policy: Vec<u8>,
    pub keys: JwkSet,
}

impl Trust {
    pub fn load(enclave: &Enclave, runtime: &Runtime) -> Trust {
        let policy = std::fs::read(&enclave.policy).unwrap();
        let parsed = Policy::parse(&policy).unwrap();
        let source = KeySources::default().at(parsed.jwks_url(), None, &Route::default());
        let keys = runtime
            .block_on(source.newer_than(None))
            .unwrap()
            .expect("the policy names a URL");
        Trust {
            policy,
            keys: (*keys.keys).clone(),
        }
    }

    /// Makes a verifier that knows no release.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(Policy::parse(&self.policy).unwrap()).unwrap()
    }
}

/// A verified channel, and the CPU time that handshake and verification took on this thread.
pub struct Established {
    pub socket: Socket,
    pub channel: Channel,
    pub evidence: usize,
    pub cpu: f64,
}

/// Runs the library's handshake and verification over a socket of the benchmark.
pub fn establish(
    enclave: &Enclave,
    runtime: &Runtime,
    verifier: &Verifier,
    keys: &JwkSet,
) -> Established {
    let mut socket = runtime.block_on(bare::upgrade(enclave, &enclave.url));
    let mut cpu = 0.0;
    let mut started = None;
    cpu += timed(|| started = Some(Initiator::start().unwrap()));
    let (initiator, message) = started.expect("it was just made");
    let message = runtime.block_on(async {
        send(&mut socket, message).await;
        bare::binary(&mut socket).await
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut accepted = None;
    cpu += timed(|| {
        let unverified = initiator.read(&message).unwrap();
        let (evidence, key) = (unverified.evidence(), unverified.server_key());
        let (report, verified) = verifier.admit(evidence, key, Some(keys), now);
        let evidence = evidence.len();
        let verified = verified.unwrap_or_else(|| panic!("{}", report.to_json()));
        accepted = Some((evidence, unverified.accept(&verified).unwrap()));
    });
    let (evidence, (message, channel)) = accepted.expect("it was just made");
    runtime.block_on(send(&mut socket, message));
    Established {
        socket,
        channel,
        evidence,
        cpu,
    }
}

pub async fn send(socket: &mut Socket, message: impl Into<Bytes>) {
    socket.send(Message::Binary(message.into())).await.unwrap();
}
