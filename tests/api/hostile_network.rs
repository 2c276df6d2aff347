//! Connections on bad networks: no data is lost without an error, an error says what happened, and
//! a dead peer is noticed within the limits.

use std::time::{Duration, Instant};

use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::event::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;

use crate::harness::*;
use crate::network::*;

/// Makes something go wrong.
type Harm = fn(&Network);

/// Time that a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_millis(400);
const DEAD_PEER: Duration = Duration::from_millis(2_000); // a busy machine may stop a process for a second

/// Starts an enclave with a network in front of it. Returns a configuration for this network.
fn through(options: &[&str]) -> (Enclave, Network, Config) {
    let enclave = Enclave::with(options);
    let network = Network::to(enclave.port());
    let config = config(&enclave);
    config.set_endpoint(&network.url());
    (enclave, network, config)
}

fn notice_the_dead(config: &Config) {
    let (keepalive, dead_peer) = (KEEPALIVE.as_millis() as u64, DEAD_PEER.as_millis() as u64);
    config.set_duration(CONFER_DURATION_KEEPALIVE, keepalive);
    config.set_duration(CONFER_DURATION_DEAD_PEER, dead_peer);
}

/// Gives each stage of connecting the time that the slowest line here needs.
fn be_patient(config: &Config) {
    for stage in CONFER_DURATION_STAGE_RESOLVE..=CONFER_DURATION_STAGE_VERIFY {
        config.set_duration(stage, 30_000);
    }
}

/// Waits for a stream's first event.
fn begun(stream: &Stream) {
    let event = next(stream);
    assert_eq!(unsafe { confer_event_type(event) }, CONFER_EVENT_TOKEN);
}

/// Waits for a connection's end without sending anything.
fn ended(client: &Client) -> Failure {
    until("the client ends", || check(client).is_err());
    check(client).unwrap_err()
}

fn noticed_in_time(since: Instant) {
    let took = since.elapsed();
    assert!(took < KEEPALIVE + DEAD_PEER + SLACK, "only after {took:?}");
}

#[test]
fn damaged_message_ends_the_stream_after_its_earlier_events() {
    // Message 1 is the handshake's and 2 the first token, so the third is the second token.
    let damages: [(&str, Harm, usize); 4] = [
        ("lost", |network| network.lose_message(3), 1),
        ("swapped", |network| network.swap_messages(3), 1),
        ("doubled", |network| network.duplicate_message(3), 2),
        ("damaged", |network| network.flip_byte(3), 1),
    ];
    for (what, damage, whole) in damages {
        let (_enclave, network, config) = through(&[]);
        damage(&network);
        let client = connect(&config).unwrap();
        let (answer, end) = read(&pull(&client, "/repeat 50 0 word").unwrap());
        let failure = end.expect_err(what);
        assert_eq!(failure.status(), CONFER_E_DECRYPT, "{what}: {failure:?}");
        let before: String = (0..whole).map(|n| format!("word{n}")).collect();
        assert_eq!(answer, before, "{what}");
        assert_eq!(
            check(&client).unwrap_err().status(),
            CONFER_E_DECRYPT,
            "{what}"
        );
    }
}

#[test]
fn pausing_reader_keeps_its_connection() {
    const TOKENS: usize = 2_560; // 40 MiB: more than the sockets and the stream buffer
    let (_enclave, network, config) = through(&[]);
    network.close_silent(Duration::from_secs(3));
    config.set_duration(CONFER_DURATION_KEEPALIVE, 300);
    let client = connect(&config).unwrap();
    let stream = pull(&client, &format!("/tokens {TOKENS} 16384")).unwrap();
    begun(&stream);
    let began = Instant::now();
    let pings = counter(&client, CONFER_COUNTER_PINGS_SENT);
    until("pings while it pauses", || {
        counter(&client, CONFER_COUNTER_PINGS_SENT) >= pings + 20
    });
    assert!(began.elapsed() > Duration::from_secs(3));
    let (answer, end) = read(&stream);
    end.unwrap();
    assert_eq!(answer.len(), (TOKENS - 1) * 16_384);
    let (sent, answered) = (CONFER_COUNTER_PINGS_SENT, CONFER_COUNTER_PINGS_ANSWERED);
    assert!(counter(&client, answered) <= counter(&client, sent));
}

#[test]
fn pausing_reader_gets_everything_before_a_reset() {
    const TOKENS: usize = 28; // 112 KiB: the stream's 64, and the rest within the socket
    let (_enclave, network, config) = through(&[]);
    config.set_limit(CONFER_LIMIT_STREAM_REST, 64 << 10);
    config.set_duration(CONFER_DURATION_KEEPALIVE, 1_500);
    let client = connect(&config).unwrap();
    network.bandwidth(ToClient, Some(200_000)); // so that little is read beyond the 64 KiB
    let stream = pull(&client, &format!("/tokens {TOKENS} 4096")).unwrap();
    begun(&stream);
    network.reset_idle(Duration::from_millis(500));
    until("the network is cut", || network.open() == 0);
    let pings = || counter(&client, CONFER_COUNTER_PINGS_SENT);
    let before = pings();
    // The socket accepts no more pings.
    until("another ping", || pings() > before);
    std::thread::sleep(Duration::from_millis(200)); // the socket refuses it at once
    let (answer, end) = read(&stream);
    end.unwrap();
    assert_eq!(answer.len(), (TOKENS - 1) * 4_096);
    assert_eq!(ended(&client).status(), CONFER_E_CONNECTION_LOST);
}

#[test]
fn loss_of_the_last_message_is_noticed_later() {
    let (_enclave, network, config) = through(&[]);
    config.set_duration(CONFER_DURATION_KEEPALIVE, 300);
    network.lose_message(3); // the completion
    let client = connect(&config).unwrap();
    let (answer, end) = read(&pull(&client, "/repeat 1 0 word").unwrap());
    assert_eq!(answer, "word0");
    assert_eq!(end.unwrap_err().status(), CONFER_E_DECRYPT);
}

#[test]
fn damaged_handshake_never_gets_message_3() {
    let damages: [(Harm, confer_status); 2] = [
        (|network| network.flip_byte(1), CONFER_E_HANDSHAKE),
        (|network| network.lose_message(1), CONFER_E_STAGE_TIMEOUT),
    ];
    for (damage, status) in damages {
        let (enclave, network, config) = through(&[]);
        damage(&network);
        if status == CONFER_E_STAGE_TIMEOUT {
            config.set_duration(CONFER_DURATION_STAGE_HANDSHAKE, 1_000);
        }
        let failure = connect(&config).err().unwrap();
        assert_eq!(failure.status(), status, "{failure:?}");
        assert!(
            status != CONFER_E_STAGE_TIMEOUT || failure.message().contains("handshake"),
            "{failure:?}"
        );
        until("the client leaves", || enclave.saw("ended"));
        assert!(!enclave.saw("message-3"));
    }
}

#[test]
fn repeated_handshake_message_ends_the_connection() {
    let (_enclave, network, config) = through(&[]);
    network.duplicate_message(1);
    let client = connect(&config).unwrap();
    assert_eq!(ended(&client).status(), CONFER_E_DECRYPT);
}

#[test]
fn black_hole_is_a_dead_peer_within_the_limits() {
    let (_enclave, network, config) = through(&[]);
    notice_the_dead(&config);
    let client = connect(&config).unwrap();
    let stream = pull(&client, "/slow 20 100000").unwrap();
    begun(&stream);
    let since = Instant::now();
    network.black_hole(true);
    let failure = read(&stream).1.unwrap_err();
    noticed_in_time(since);
    assert_eq!(failure.status(), CONFER_E_DEAD_PEER, "{failure:?}");
    assert_eq!(ended(&client).status(), CONFER_E_DEAD_PEER);

    // A new connection only gets past TCP.
    be_patient(&config);
    config.set_duration(CONFER_DURATION_STAGE_UPGRADE, 500);
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_STAGE_TIMEOUT);
    assert!(failure.message().contains("upgrade"), "{failure:?}");
}

#[test]
fn idle_connection_notices_a_black_hole() {
    let (_enclave, network, config) = through(&[]);
    notice_the_dead(&config);
    let client = connect(&config).unwrap();
    let since = Instant::now();
    network.black_hole(true);
    assert_eq!(ended(&client).status(), CONFER_E_DEAD_PEER);
    noticed_in_time(since);
}

#[test]
fn half_open_connection_is_a_dead_peer_within_the_limits() {
    let (_enclave, network, config) = through(&[]);
    notice_the_dead(&config);
    let client = connect(&config).unwrap();
    let stream = pull(&client, "/slow 20 100000").unwrap();
    begun(&stream);
    let since = Instant::now();
    network.half_open();
    let failure = read(&stream).1.unwrap_err();
    noticed_in_time(since);
    assert_eq!(failure.status(), CONFER_E_DEAD_PEER, "{failure:?}");
    // The network recovers, and the next connection works.
    let (answer, end) = read(&pull(&connect(&config).unwrap(), PROMPT).unwrap());
    end.unwrap();
    assert!(answer.contains(PROMPT));
}

#[test]
fn peer_without_pongs_lives_while_bytes_move() {
    let (_enclave, _network, config) = through(&["--fault", "ping-never"]);
    notice_the_dead(&config);
    let client = connect(&config).unwrap();
    // Three times the limit for dead peers.
    let (answer, end) = read(&pull(&client, "/repeat 65 100 word").unwrap());
    let since = Instant::now();
    end.unwrap();
    assert!(answer.ends_with("word64"));
    assert_eq!(ended(&client).status(), CONFER_E_DEAD_PEER);
    noticed_in_time(since);
}

#[test]
fn short_silence_costs_nothing() {
    let (_enclave, network, config) = through(&[]);
    config.set_duration(CONFER_DURATION_KEEPALIVE, 100);
    config.set_duration(CONFER_DURATION_DEAD_PEER, 10_000);
    let client = connect(&config).unwrap();
    let stream = pull(&client, "/repeat 100 5 word").unwrap();
    begun(&stream);
    for _ in 0..3 {
        network.black_hole(true);
        std::thread::sleep(Duration::from_millis(300)); // several pings long
        network.black_hole(false);
    }
    let (answer, end) = read(&stream);
    end.unwrap();
    let rest: String = (1..100).map(|n| format!("word{n}")).collect();
    assert_eq!(answer, rest);
    assert_eq!(check(&client).unwrap(), CONFER_OK);
}

#[test]
fn slow_line_loses_nothing_and_stays_alive() {
    let (_enclave, network, config) = through(&[]);
    be_patient(&config);
    notice_the_dead(&config);
    for direction in [ToServer, ToClient] {
        network.latency(direction, Duration::from_millis(200));
        network.bandwidth(direction, Some(20_000));
    }
    let client = connect(&config).unwrap();
    let streams: Vec<_> = (0..4)
        .map(|n| {
            (
                n,
                pull(&client, &format!("/repeat 100 0 stream {n} word ")).unwrap(),
            )
        })
        .collect();
    for (n, stream) in &streams {
        let (answer, end) = read(stream);
        end.unwrap();
        let whole: String = (0..100).map(|at| format!("stream {n} word {at}")).collect();
        assert_eq!(answer, whole);
    }
    assert_eq!(check(&client).unwrap(), CONFER_OK);
}

/// The answer to a ping comes only after the request, which takes longer than the limit to send. The
/// sockets' buffers are small enough that bytes still move within the limit.
#[test]
fn slow_upload_keeps_the_peer_alive() {
    const LIMIT: Duration = Duration::from_secs(3);
    let (enclave, network, config) = through(&[]);
    be_patient(&config);
    notice_the_dead(&config);
    let limit = LIMIT.as_millis() as u64;
    config.set_duration(CONFER_DURATION_DEAD_PEER, limit);
    let client = connect(&config).unwrap();
    network.bandwidth(ToServer, Some(200_000));
    let began = Instant::now();
    let prompt = format!("/websearch\n{}", "x".repeat(1_200_000));
    let (answer, end) = read(&pull(&client, &prompt).unwrap());
    end.unwrap();
    assert_eq!(answer, "webSearch=false");
    assert!(began.elapsed() > LIMIT, "it was no test");
    let events = enclave.events();
    let request = events
        .iter()
        .find(|line| line["event"] == "request")
        .unwrap();
    assert!(request["body_bytes"].as_u64().unwrap() > 1_200_000);
}

/// Returns the error of connecting, and the stage in which it happened. The stages begin after the
/// answer to the question for a token, so the watch sees all of them.
fn stage_of_the_end(enclave: &Enclave, network: &Network) -> (Failure, Option<News>) {
    let config = asking(enclave);
    config.set_endpoint(&network.url());
    let client = start(&config);
    let token = enclave.token.clone();
    let watch = Watch::answering(&client, move |_, event| give(event, &token));
    let failure = wait(&client).unwrap_err();
    let before = watch.until(&News::Ended(failure.status()));
    (failure, before.last().cloned())
}

#[test]
fn cut_while_connecting_names_its_stage() {
    // The two heads of the upgrade have some hundred bytes each, message 2 some thousand.
    for (direction, bytes, stage) in [
        (ToServer, 20, CONFER_STAGE_UPGRADE),
        (ToClient, 20, CONFER_STAGE_UPGRADE),
        (ToClient, 2_000, CONFER_STAGE_HANDSHAKE),
    ] {
        for ending in [Ending::Reset, Ending::Finish] {
            let (enclave, network, _) = through(&[]);
            network.cut_after(direction, bytes, ending, Times::EachConnection);
            let (failure, last) = stage_of_the_end(&enclave, &network);
            let case = format!("{direction:?} {bytes} {ending:?}: {failure:?}");
            assert_eq!(failure.status(), CONFER_E_CONNECTION_LOST, "{case}");
            assert_eq!(last, Some(News::Stage(stage)), "{case}");
            assert!(failure.retryable(), "{case}");
            if stage == CONFER_STAGE_UPGRADE {
                assert!(failure.message().contains("upgrade"), "{case}");
            }
            assert!(!failure.message().contains(&enclave.token), "{case}");
        }
    }
    let (_enclave, network, config) = through(&[]);
    network.refuse(true);
    let failure = connect(&config).err().unwrap();
    assert!(
        [CONFER_E_CONNECT, CONFER_E_CONNECTION_LOST].contains(&failure.status()),
        "{failure:?}"
    );
    assert!(failure.retryable());
}

#[test]
fn cut_in_mid_stream_ends_all_streams() {
    let (_enclave, network, config) = through(&[]);
    let client = connect(&config).unwrap();
    let streams = [(); 3].map(|()| pull(&client, "/slow 20 100000").unwrap());
    streams.iter().for_each(begun);
    network.cut();
    for stream in &streams {
        assert_eq!(
            read(stream).1.unwrap_err().status(),
            CONFER_E_CONNECTION_LOST
        );
    }
    assert_eq!(ended(&client).status(), CONFER_E_CONNECTION_LOST);

    network.cut_after(ToClient, 200_000, Ending::Finish, Times::Once);
    let client = connect(&config).unwrap();
    let (answer, end) = read(&pull(&client, "/tokens 100000 100").unwrap());
    assert!(!answer.is_empty());
    assert_eq!(end.unwrap_err().status(), CONFER_E_CONNECTION_LOST);
    let (answer, end) = read(&pull(&connect(&config).unwrap(), PROMPT).unwrap());
    end.unwrap();
    assert!(answer.contains(PROMPT));
    assert_eq!(network.connections(), 3);
}
