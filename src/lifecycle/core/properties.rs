//! Checks arbitrary sequences of inputs. The simulation checks most rules at each step: a request
//! ends once, nothing goes out twice, nothing goes to a connection that was not verified and
//! approved, and an ended client does nothing.

use proptest::prelude::*;

use super::sim::*;
use super::*;

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
    FailDial(usize),
    Lose(usize, usize),
    AnswerToken(usize),
    AnswerRelease(bool),
    SetToken(u8),
    NetworkChanged,
    Pass(u64),
    Sleep(u64),
    PassUntilDue,
    Close,
}

const LOST: [Status; 5] = [
    Status::ConnectionLost,
    Status::DeadPeer,
    Status::Decrypt,
    Status::Panic,
    Status::Expired,
];
const DIAL: [Status; 6] = [
    Status::Connect,
    Status::Upgrade,
    Status::Rejected,
    Status::System,
    Status::StageTimeout,
    Status::File,
];
const REFUSED: [Status; 4] = [
    Status::PaymentRequired,
    Status::Unauthorized,
    Status::Refused,
    Status::StreamIdle,
];

fn input() -> impl Strategy<Value = Input> {
    let at = 0..64usize;
    prop_oneof![
        6 => any::<bool>().prop_map(|again| Input::Submit { again }),
        2 => at.clone().prop_map(Input::Cancel),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, all)| Input::Progress(at, all)),
        3 => at.clone().prop_map(Input::Answered),
        3 => (at.clone(), at.clone()).prop_map(|(at, why)| Input::Refused(at, why)),
        6 => (any::<bool>(), proptest::option::of(0..4_000u64))
            .prop_map(|(manifest, expires)| Input::Connect { manifest, expires }),
        3 => at.clone().prop_map(Input::FailDial),
        3 => (at.clone(), at.clone()).prop_map(|(at, why)| Input::Lose(at, why)),
        3 => (0..4usize).prop_map(Input::AnswerToken),
        2 => any::<bool>().prop_map(Input::AnswerRelease),
        1 => any::<u8>().prop_map(Input::SetToken),
        1 => Just(Input::NetworkChanged),
        2 => (0..700u64).prop_map(Input::Pass),
        1 => (0..90_000u64).prop_map(Input::Sleep),
        4 => Just(Input::PassUntilDue),
        1 => Just(Input::Close),
    ]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (
        proptest::option::of(1..5u32),
        any::<[bool; 4]>(),
        proptest::option::of(20..5_000u64),
    )
        .prop_map(|(attempts, [first, token, release, evidence], age)| Rules {
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
        Input::FailDial(why) => {
            if !sim.dials.is_empty() && sim.questions.is_empty() {
                let retry_delay = (why % 3 == 0).then(|| Duration::from_secs(3));
                let error = error(DIAL[why % DIAL.len()]).with_retry_delay(retry_delay);
                sim.fail_dial(error);
            }
        }
        Input::Lose(at, why) => {
            if let Some(connection) = pick(&sim.connections(), at) {
                sim.lose(connection, LOST[why % LOST.len()]);
            }
        }
        Input::AnswerToken(how) => {
            let asked = sim.questions.values().any(|kind| kind.starts_with("token"));
            if asked {
                sim.answer(match how {
                    0 => TokenAnswer::Later(error(Status::Token)),
                    1 => TokenAnswer::Refused(error(Status::Token)),
                    _ => TokenAnswer::Token(Token::new("answered").unwrap()),
                });
            }
        }
        Input::AnswerRelease(accept) => {
            if sim.questions.values().any(|kind| *kind == "release") {
                sim.accept(accept);
                if accept {
                    sim.complete("b", None);
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
        Input::Close => sim.close(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn every_request_ends_exactly_once(
        rules in any_rules(),
        inputs in prop::collection::vec(input(), 0..60),
    ) {
        let mut sim = Sim::new(rules);
        let mut submitted = 0;
        for input in inputs {
            submitted += RequestId::from(matches!(input, Input::Submit { .. }));
            feed(&mut sim, input);
            prop_assert!(sim.dials.len() <= 1);
        }
        sim.close();
        for request in 1..=submitted {
            prop_assert!(sim.finished.contains_key(&request), "{request} has no end");
        }
        prop_assert_eq!(sim.finished.len() as RequestId, submitted);
        prop_assert!(sim.connections().is_empty());
        prop_assert!(sim.questions.is_empty());
        prop_assert_eq!(sim.core.poll_timeout(), None);
    }

    #[test]
    fn time_alone_never_loops(rules in any_rules(), connects in any::<bool>()) {
        let mut sim = Sim::new(rules);
        sim.submit();
        if connects {
            sim.connect_until("a", Some(EPOCH + 300));
        }
        let began = sim.now.monotonic;
        // Each step makes the clock go on, or changes what there is to wait for.
        for _ in 0..200 {
            let before = (sim.now.monotonic, sim.notices.len(), sim.finished.len());
            if !sim.pass_until_due() {
                break;
            }
            let after = (sim.now.monotonic, sim.notices.len(), sim.finished.len());
            let steps = !sim.dials.is_empty() || !sim.questions.is_empty();
            prop_assert!(after != before || steps, "at {:?}", sim.now.monotonic - began);
        }
    }
}
