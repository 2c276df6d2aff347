//! Checks arbitrary sequences of inputs. The simulation checks most rules at each step: a request
//! ends once, nothing goes out twice, nothing goes to a connection that was not verified and
//! approved, and an ended client does nothing. Actions may wait while more happens, and connections
//! may report late, as with several threads.

use proptest::prelude::*;

use super::sim::*;
use super::*;
use crate::lifecycle::policy::{LOOK, Reconnect, Renew};
use crate::session::Stage;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Input {
    Submit {
        again: bool,
    },
    Cancel(usize),
    Progress(usize, bool),
    Answered(usize),
    Refused(usize, usize),
    Connect {
        manifest: bool,
        expires: Option<u64>,
    },
    FailDial(Status, bool),
    Lose(usize, Status),
    AnswerToken(usize),
    AnswerRelease(bool),
    SetToken(u8),
    NetworkChanged,
    Pass(u64),
    Sleep(u64),
    PassUntilDue,
    /// Attempts claim a connection without approval.
    ConnectUnapproved,
    Entered(AttemptId),
    Hold(bool),
    Report,
}

const LOST: [Status; 5] = [
    Status::Panic,
    Status::ConnectionLost,
    Status::DeadPeer,
    Status::Decrypt,
    Status::Expired,
];
const DIAL: [Status; 6] = [
    Status::Rejected,
    Status::File,
    Status::Connect,
    Status::Upgrade,
    Status::System,
    Status::StageTimeout,
];
const REFUSED: [Status; 4] = [
    Status::PaymentRequired,
    Status::Unauthorized,
    Status::Refused,
    Status::StreamIdle,
];

/// Chooses a status, rarely one of the first, fatal ones.
fn rarely_fatal(all: &'static [Status], fatal: usize) -> impl Strategy<Value = Status> {
    let (fatal, passing) = all.split_at(fatal);
    prop_oneof![
        1 => prop::sample::select(fatal),
        30 => prop::sample::select(passing),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let at = 0..64usize;
    prop_oneof![
        10 => any::<bool>().prop_map(|again| Input::Submit { again }),
        2 => at.clone().prop_map(Input::Cancel),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, all)| Input::Progress(at, all)),
        3 => at.clone().prop_map(Input::Answered),
        3 => (at.clone(), at.clone()).prop_map(|(at, why)| Input::Refused(at, why)),
        12 => (proptest::bool::weighted(0.8), proptest::option::of(0..4_000u64))
            .prop_map(|(manifest, expires)| Input::Connect { manifest, expires }),
        3 => (rarely_fatal(&DIAL, 2), any::<bool>())
            .prop_map(|(why, delays)| Input::FailDial(why, delays)),
        3 => (at, rarely_fatal(&LOST, 1)).prop_map(|(at, why)| Input::Lose(at, why)),
        8 => (0..24usize).prop_map(Input::AnswerToken),
        6 => proptest::bool::weighted(0.9).prop_map(Input::AnswerRelease),
        1 => any::<u8>().prop_map(Input::SetToken),
        1 => Just(Input::NetworkChanged),
        2 => (0..700u64).prop_map(Input::Pass),
        1 => (0..90_000u64).prop_map(Input::Sleep),
        4 => Just(Input::PassUntilDue),
        1 => Just(Input::ConnectUnapproved),
        1 => (0..30u64).prop_map(Input::Entered),
        4 => proptest::bool::weighted(0.2).prop_map(Input::Hold),
        4 => Just(Input::Report),
    ]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (
        proptest::option::weighted(0.9, prop_oneof![1 => 1..4u32, 3 => 4..20u32]),
        proptest::bool::weighted(0.8),
        any::<[bool; 3]>(),
        proptest::option::of(20..5_000u64),
    )
        .prop_map(|(attempts, first, [token, release, evidence], age)| Rules {
            reconnect: attempts.map(|attempts| Reconnect {
                attempts,
                first: Duration::from_secs(1),
                most: Duration::from_secs(8),
            }),
            retry_first: first,
            renew: Renew {
                max_age: age.map(Duration::from_secs),
                with_evidence: evidence,
            },
            asks_token: token,
            asks_release: release,
            ..rules()
        })
}

fn pick<T: Copy>(from: &[T], at: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[at % from.len()])
}

fn feed(sim: &mut Sim, input: Input) {
    match input {
        Input::Submit { again } => {
            sim.submit_if(again);
        }
        Input::Cancel(at) => sim.cancel(at as RequestId),
        Input::Progress(at, answered) => {
            if let Some((_, request)) = pick(&sim.on_lines(), at) {
                let progress = match answered {
                    true => Progress::PartlyAnswered,
                    false => Progress::MaybeSent,
                };
                sim.progress(request, progress);
            }
        }
        Input::Answered(at) => {
            if let Some((_, request)) = pick(&sim.on_lines(), at) {
                sim.end(request, Ok(()));
            }
        }
        Input::Refused(at, why) => {
            if let Some((_, request)) = pick(&sim.on_lines(), at) {
                sim.end(request, Err(error(REFUSED[why % REFUSED.len()])));
            }
        }
        Input::Connect { manifest, expires } => {
            let expires = expires.map(|after| sim.now.unix() + after);
            sim.connect_until(if manifest { "a" } else { "b" }, expires);
        }
        Input::FailDial(why, delays) => {
            if !sim.dials.is_empty() {
                let retry_delay = delays.then(|| Duration::from_secs(3));
                sim.fail_dial(error(why).with_retry_delay(retry_delay));
            }
        }
        Input::Lose(at, why) => {
            if let Some(connection) = pick(&sim.connections(), at) {
                sim.lose(connection, why);
            }
        }
        Input::AnswerToken(how) => {
            let asked = sim.questions.values().any(|kind| kind.starts_with("token"));
            if asked {
                sim.answer(match how {
                    0 => Err(error(Status::Token)),
                    _ => Ok(Token::new("answered").unwrap()),
                });
            }
        }
        Input::AnswerRelease(accept) => {
            if sim.questions.values().any(|kind| *kind == "release") {
                sim.accept(accept);
                if accept {
                    sim.complete();
                }
            }
        }
        Input::SetToken(n) => sim.set_token(&format!("set-{n}")),
        Input::NetworkChanged => {
            sim.core.network_changed(sim.now);
            sim.run();
        }
        Input::Pass(seconds) => sim.pass(Duration::from_secs(seconds)),
        Input::Sleep(seconds) => sim.now.wall += Duration::from_secs(seconds),
        Input::PassUntilDue => {
            sim.pass_until_due();
        }
        Input::ConnectUnapproved => {
            if !sim.held {
                sim.connect_unapproved(&evidenced("c", None));
            }
        }
        Input::Entered(attempt) => {
            sim.core.entered(attempt, Stage::Tcp);
            sim.run();
        }
        Input::Hold(held) => sim.hold(held),
        Input::Report => sim.report(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_request_ends_exactly_once(
        rules in any_rules(),
        late in any::<bool>(),
        inputs in prop::collection::vec(input(), 0..100),
        later in prop::collection::vec(input(), 0..15),
    ) {
        let mut sim = Sim::new(rules);
        sim.late = late;
        for input in inputs {
            feed(&mut sim, input);
        }
        sim.hold(false);
        sim.close();
        // A closed client ends its requests and does nothing else, whatever happens.
        for input in later {
            feed(&mut sim, input);
            prop_assert_eq!(sim.core.poll_timeout(), None);
        }
        sim.hold(false);
        sim.report();
        sim.close();
        prop_assert!(sim.finished.keys().copied().eq(1..=sim.submitted()));
        prop_assert!(sim.connections().is_empty());
        prop_assert!(sim.dials.is_empty() && sim.questions.is_empty());
    }

    /// Nobody answers, and dials fail or hang.
    #[test]
    fn time_alone_never_loops(
        rules in any_rules(),
        connects in any::<bool>(),
        ends in 0..5_000u64,
        fails in any::<bool>(),
    ) {
        // In each period the client looks at its connection once, and begins one row of attempts at
        // most. Each attempt has a pause, a question and a dial.
        let period = LOOK.min(rules.answer);
        let attempts = rules.reconnect.map_or(1, |it| it.attempts);
        let each_period = 1 + 3 * attempts;
        // The end of the request's patience, and a look at the end of an age.
        let once = 2;
        let mut sim = Sim::with_token(rules, Some(ending_token(EPOCH + ends)));
        let request = sim.submit();
        if connects {
            sim.connect_until("a", Some(EPOCH + 300));
        }
        let began = sim.now.monotonic;
        let mut steps = 0;
        while steps < 200 {
            if fails && !sim.dials.is_empty() {
                sim.fail_dial(error(Status::Connect));
            } else if !sim.pass_until_due() {
                break;
            }
            steps += 1;
            let due = sim.core.poll_timeout();
            prop_assert!(due.is_none_or(|due| due > sim.now.monotonic));
            let periods = (sim.now.monotonic - began).div_duration_f64(period) as u32 + 1;
            prop_assert!(steps <= each_period * periods + once, "{periods} periods");
        }
        if !connects {
            prop_assert!(sim.finished.contains_key(&request), "it waits for ever");
            prop_assert!(!fails || sim.core.phase() == Phase::Ended);
        }
    }
}
