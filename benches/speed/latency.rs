//! Latency that the library adds to one token: the time from the relay to the C callback, minus the
//! time from the relay to the bare thread. Tokens arrive one at a time.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::bare::Bare;
use crate::harness::Enclave;
use crate::measure::{micros, percentile};
use crate::relay::Relay;
use crate::stream;
use crate::table::{Aim, Table};

const ROUNDS: usize = 5;
const TOKENS: usize = 400;
const PAUSE_MS: usize = 2;

/// Adds the rows, named with the machine's `load`.
pub fn run(enclave: &Enclave, table: &mut Table, load: &str) {
    let relay = Relay::start(&enclave.url);
    let url = relay.url(&enclave.url);
    let client = stream::connect(enclave, &url);
    let mut bare = Bare::connect(enclave, &url);
    let prompt = format!("/slow {PAUSE_MS} {TOKENS}");
    let (mut library, mut limit, mut woken) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        relay.stamp();
        let heard = Arc::new(Mutex::new(Vec::with_capacity(TOKENS)));
        let hear = heard.clone();
        stream::ask(&client, &prompt, move |_| {
            hear.lock().unwrap().push(Instant::now())
        });
        library.extend(delays(&relay.stamps(), &heard.lock().unwrap()));

        relay.stamp();
        let mut heard = Vec::with_capacity(TOKENS);
        bare.ask(&prompt, |_| heard.push(Instant::now()));
        limit.extend(delays(&relay.stamps(), &heard));

        woken.extend(wake_ups());
    }
    for (what, part, aim) in [("p50", 0.5, 20.0), ("p99", 0.99, 100.0)] {
        let (library, limit) = (percentile(&library, part), percentile(&limit, part));
        table.row(
            &format!("latency added to one token, {what}{load}"),
            format!("{library:.1} µs"),
            format!("{limit:.1} µs"),
            library - limit,
            "µs",
            Aim::AtMost(aim),
        );
    }
    table.note(
        &format!("a thread that wakes another, p50 and p99{load}"),
        String::new(),
        format!(
            "{:.1}, {:.1} µs",
            percentile(&woken, 0.5),
            percentile(&woken, 0.99)
        ),
    );
}

/// Measures how long it takes to wake another thread. Callbacks never run on a network thread, so
/// each token pays this once.
fn wake_ups() -> Vec<f64> {
    let (wake, woken) = channel::<Instant>();
    let sleeper = thread::spawn(move || woken.iter().map(|from| micros(from.elapsed())).collect());
    for _ in 0..TOKENS {
        thread::sleep(Duration::from_millis(PAUSE_MS as u64));
        wake.send(Instant::now()).expect("the sleeper listens");
    }
    drop(wake);
    sleeper.join().expect("it only measures")
}

fn delays(passed_on: &[Instant], heard: &[Instant]) -> Vec<f64> {
    assert_eq!(
        (passed_on.len(), heard.len()),
        (TOKENS + 1, TOKENS),
        "the last message is the completion"
    );
    passed_on
        .iter()
        .zip(heard)
        .map(|(from, to)| micros(*to - *from))
        .collect()
}
