//! The rules, one by one.

use super::connections::{MAX_RETIRED, SETTLED};
use super::sim::*;
use super::*;
use crate::error::Retry;
use crate::lifecycle::policy::Renew;

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn asking() -> Rules {
    Rules {
        asks_token: true,
        asks_release: true,
        ..rules()
    }
}

#[test]
fn requests_wait_for_the_first_connection_in_order() {
    let mut sim = Sim::new(rules());
    let requests = [sim.submit(), sim.submit()];
    assert!(sim.sent.is_empty());
    assert_eq!(sim.core.phase(), Phase::Connecting);
    let connection = sim.connect("a").unwrap();
    assert_eq!(sim.sent, requests.map(|request| (request, connection)));
    assert_eq!(sim.core.phase(), Phase::Connected);
    assert_eq!(sim.notices, ["connected first=true"]);
}

#[test]
fn one_attempt_ends_a_client_that_does_not_retry_its_first() {
    for reconnect in [rules().reconnect, None] {
        let mut sim = Sim::new(Rules {
            reconnect,
            retry_first: false,
            ..rules()
        });
        let request = sim.submit();
        sim.fail_dial(error(Status::Connect));
        assert_eq!(sim.status(request), Some(Err(Status::Connect)));
        assert_eq!(sim.core.end_error().unwrap().status(), Status::Connect);
    }
}

#[test]
fn a_refused_token_is_worth_another_attempt_only_if_a_fresh_one_is_asked_for() {
    for (retry_first, asks_token) in [(false, true), (true, false), (false, false)] {
        let mut sim = Sim::new(Rules {
            retry_first,
            asks_token,
            ..rules()
        });
        let refused = error(Status::Upgrade).with_http_status(401);
        sim.fail_dial(refused.with_retry(Retry::FreshToken));
        let end = sim.core.end_error().expect("no other attempt is made");
        assert!(!end.retryable(), "{retry_first} {asks_token}");
    }
}

#[test]
fn whoever_comes_during_a_pause_hears_of_the_next_attempt() {
    let mut sim = Sim::new(rules());
    sim.fail_dial(error(Status::Connect));
    let present = sim.core.present();
    let [Notice::Attempt { number, error, .. }] = &present[..] else {
        panic!("{} notices", present.len());
    };
    assert_eq!(*number, 2);
    assert_eq!(error.as_ref().unwrap().status(), Status::Connect);
}

#[test]
fn failed_attempts_are_retried_up_to_their_number() {
    let mut sim = Sim::new(rules());
    for number in 1..=3 {
        sim.fail_dial(error(Status::Connect));
        assert_eq!(sim.core.phase() == Phase::Ended, number == 3);
        sim.pass_until_due();
    }
}

#[test]
fn errors_that_time_does_not_help_end_the_client() {
    for status in [Status::Rejected, Status::ReleaseRefused, Status::File] {
        let mut sim = Sim::new(rules());
        sim.fail_dial(error(status));
        assert_eq!(sim.core.end_error().unwrap().status(), status);
        assert_eq!(sim.core.poll_timeout(), None);
    }
}

#[test]
fn a_server_that_asks_for_a_delay_gets_it() {
    let mut sim = Sim::new(rules());
    let delay = Duration::from_secs(77);
    sim.fail_dial(error(Status::Connect).with_retry_delay(Some(delay)));
    assert_eq!(sim.core.poll_timeout(), Some(sim.now.monotonic + delay));
}

#[test]
fn unsent_requests_go_to_the_next_connection() {
    let mut sim = Sim::new(rules());
    let first = sim.connect("a").unwrap();
    let [answered, sent, unsent] = [sim.submit(), sim.submit(), sim.submit()];
    sim.progress(answered, Progress::PartlyAnswered);
    sim.progress(sent, Progress::MaybeSent);
    sim.lose(first, Status::ConnectionLost);
    for request in [answered, sent] {
        assert_eq!(sim.status(request), Some(Err(Status::ConnectionLost)));
    }
    assert_eq!(sim.core.phase(), Phase::Reconnecting);
    sim.pass_until_due();
    let second = sim.connect("a").unwrap();
    assert_eq!(sim.sent.last(), Some(&(unsent, second)));
    sim.end(unsent, Ok(()));
    assert_eq!(sim.status(unsent), Some(Ok(())));
}

#[test]
fn documents_that_are_read_once_are_not_sent_again() {
    let mut sim = Sim::new(rules());
    let first = sim.connect("a").unwrap();
    let request = sim.submit_if(false);
    sim.lose(first, Status::ConnectionLost);
    assert_eq!(sim.status(request), Some(Err(Status::ConnectionLost)));
}

#[test]
fn waiting_requests_have_a_limit() {
    let mut sim = Sim::new(rules());
    let request = sim.submit();
    sim.pass(PATIENCE - Duration::from_secs(1));
    assert_eq!(sim.status(request), None);
    sim.pass_until_due();
    assert_eq!(sim.status(request), Some(Err(Status::StreamIdle)));
    assert_eq!(
        sim.finished[&request].as_ref().unwrap_err().progress(),
        Progress::NotSent
    );
}

#[test]
fn a_client_without_reconnecting_ends_with_its_connection() {
    let mut sim = Sim::new(Rules {
        reconnect: None,
        ..rules()
    });
    let connection = sim.connect("a").unwrap();
    let unsent = sim.submit();
    sim.lose(connection, Status::DeadPeer);
    assert_eq!(sim.core.end_error().unwrap().status(), Status::DeadPeer);
    assert_eq!(sim.status(unsent), Some(Err(Status::DeadPeer)));
    let late = sim.submit();
    assert_eq!(sim.status(late), Some(Err(Status::DeadPeer)));
}

#[test]
fn connections_that_break_at_once_count_as_failures() {
    let mut sim = Sim::new(rules());
    let mut connections = 0;
    while sim.core.phase() != Phase::Ended {
        let connection = sim.connect("a").unwrap();
        connections += 1;
        sim.lose(connection, Status::ConnectionLost);
        sim.pass_until_due();
        assert!(connections < 10, "a loop");
    }
    assert_eq!(connections, 4, "the first, and three attempts");
}

#[test]
fn a_settled_connection_clears_the_failures() {
    let mut sim = Sim::new(rules());
    for _ in 0..10 {
        let connection = sim.connect("a").unwrap();
        sim.pass(SETTLED);
        sim.lose(connection, Status::ConnectionLost);
        sim.pass_until_due();
    }
    assert_eq!(sim.core.phase(), Phase::Reconnecting);
}

#[test]
fn a_network_change_ends_the_pause_or_probes() {
    let mut sim = Sim::new(rules());
    sim.fail_dial(error(Status::Connect));
    assert!(sim.dials.is_empty());
    sim.core.network_changed(sim.now);
    sim.run();
    assert_eq!(sim.dials.len(), 1);
    sim.connect("a").unwrap();
    sim.core.network_changed(sim.now);
    assert!(matches!(sim.core.poll_action(), Some(Action::Probe { .. })));
}

#[test]
fn an_old_connection_is_replaced_and_finishes_its_requests() {
    let mut sim = Sim::new(Rules {
        renew: Renew {
            max_age: Some(HOUR),
            with_evidence: false,
        },
        ..rules()
    });
    let first = sim.connect("a").unwrap();
    let old = sim.submit();
    while sim.dials.is_empty() {
        assert!(sim.pass_until_due());
    }
    let second = sim.connect("a").unwrap();
    assert_eq!(sim.connections(), [first, second]);
    let new = sim.submit();
    assert_eq!(sim.sent, [(old, first), (new, second)]);
    sim.end(old, Ok(()));
    sim.lose(first, Status::Closed);
    assert_eq!(sim.core.phase(), Phase::Connected);
}

#[test]
fn a_fifth_replaced_connection_closes_the_oldest() {
    let mut sim = Sim::new(Rules {
        renew: Renew {
            max_age: Some(HOUR),
            with_evidence: false,
        },
        ..rules()
    });
    let first = sim.connect("a").unwrap();
    let request = sim.submit();
    sim.progress(request, Progress::MaybeSent);
    for _ in 0..=MAX_RETIRED {
        assert_eq!(sim.status(request), None);
        while sim.dials.is_empty() {
            assert!(sim.pass_until_due());
        }
        sim.connect("a").unwrap();
    }
    assert_eq!(sim.status(request), Some(Err(Status::Expired)));
    assert!(!sim.connections().contains(&first));
}

#[test]
fn expired_evidence_serves_no_further_request() {
    let mut sim = Sim::new(Rules {
        renew: Renew {
            max_age: None,
            with_evidence: true,
        },
        ..rules()
    });
    let first = sim.connect_until("a", Some(EPOCH + 300)).unwrap();
    // The machine sleeps: timers stand still.
    sim.now.wall += HOUR;
    let request = sim.submit();
    assert!(sim.sent.is_empty());
    assert_eq!(sim.dials.len(), 1, "a new connection is made at once");
    let second = sim.connect_until("a", Some(EPOCH + 7_200)).unwrap();
    assert_eq!(sim.sent, [(request, second)]);
    assert!(first < second);
    assert_eq!(sim.core.current(), Some(second));
}

#[test]
fn a_working_connection_is_kept_while_its_renewal_fails_in_passing() {
    let mut sim = Sim::new(Rules {
        renew: Renew {
            max_age: Some(HOUR),
            with_evidence: false,
        },
        ..rules()
    });
    sim.connect("a").unwrap();
    let open = sim.submit();
    let mut failed = 0;
    while failed < 3 {
        match sim.dials.is_empty() {
            true => assert!(sim.pass_until_due()),
            false => {
                failed += 1;
                sim.fail_dial(error(Status::Rejected).with_retryable(true));
            }
        }
    }
    assert_eq!(sim.core.phase(), Phase::Connected);
    sim.end(open, Ok(()));
    while sim.dials.is_empty() {
        assert!(sim.pass_until_due(), "it is tried again");
    }
    sim.fail_dial(error(Status::Rejected));
    assert_eq!(sim.core.end_error().unwrap().status(), Status::Rejected);
}

#[test]
fn the_first_connection_uses_the_configured_token_and_later_ones_ask() {
    let mut sim = Sim::new(asking());
    assert_eq!(sim.dials.values().next(), Some(&token("t")));
    let connection = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    sim.lose(connection, Status::ConnectionLost);
    sim.pass_until_due();
    assert_eq!(sim.question().1, "token: reconnect");
    sim.answer(Ok(token("u")));
    assert_eq!(sim.dials.values().next(), Some(&token("u")));
}

#[test]
fn a_client_without_a_token_asks_before_it_dials() {
    let mut sim = Sim::with_token(asking(), None);
    assert_eq!(sim.question().1, "token: first");
    assert!(sim.dials.is_empty());
    sim.set_token("u");
    assert!(sim.questions.is_empty(), "the question is over");
    assert_eq!(sim.dials.values().next(), Some(&token("u")));
}

#[test]
fn an_unanswered_token_question_fails_the_attempt_and_is_asked_anew() {
    let mut sim = Sim::with_token(asking(), None);
    let (id, _) = sim.question();
    sim.pass_until_due();
    assert!(sim.questions.is_empty());
    let late = sim.core.answer_token(id, Ok(token("u")), sim.now);
    assert!(late.is_err() && sim.dials.is_empty());
    sim.pass_until_due();
    assert_ne!(sim.question().0, id);
    sim.answer(Err(error(Status::Token)));
    assert_eq!(sim.core.end_error().unwrap().status(), Status::Token);
}

#[test]
fn a_request_refused_for_its_token_goes_out_once_more() {
    for status in [Status::Unauthorized, Status::PaymentRequired] {
        let mut sim = Sim::new(asking());
        sim.connect("a").unwrap();
        let request = sim.submit();
        sim.end(request, Err(error(status)));
        assert_eq!(sim.question().1, "token: refused");
        sim.answer(Ok(token("u")));
        let second = sim.connect("a").unwrap();
        assert_eq!(sim.sent.last(), Some(&(request, second)));
        sim.end(request, Err(error(status)));
        assert_eq!(sim.status(request), Some(Err(status)), "once");
    }
}

#[test]
fn without_a_fresh_token_the_refusal_stands_and_the_connection_serves_on() {
    for refuses in [true, false] {
        let mut sim = Sim::new(asking());
        let connection = sim.connect("a").unwrap();
        let request = sim.submit();
        sim.end(request, Err(error(Status::PaymentRequired)));
        match refuses {
            true => sim.answer(Err(error(Status::Token))),
            false => assert!(sim.pass_until_due()),
        }
        assert_eq!(sim.status(request), Some(Err(Status::PaymentRequired)));
        let next = sim.submit();
        assert_eq!(sim.sent.last(), Some(&(next, connection)));
    }
}

#[test]
fn without_a_way_to_a_token_a_refusal_is_the_end_of_its_request() {
    let mut sim = Sim::new(rules());
    sim.connect("a").unwrap();
    let request = sim.submit();
    sim.end(request, Err(error(Status::PaymentRequired)));
    assert_eq!(sim.status(request), Some(Err(Status::PaymentRequired)));
}

#[test]
fn another_release_waits_for_its_answer() {
    let mut sim = Sim::new(asking());
    let first = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    let request = sim.submit();
    sim.lose(first, Status::ConnectionLost);
    sim.pass_until_due();
    sim.answer(Ok(token("u")));
    assert_eq!(sim.connect("b"), None);
    assert_eq!(sim.question().1, "release");
    assert_eq!(sim.sent.len(), 1);
    sim.accept(true);
    let second = sim.complete().unwrap();
    assert_eq!(sim.sent.last(), Some(&(request, second)));
    let last = sim.notices.last().unwrap();
    assert_eq!(last, "connected first=false");
}

#[test]
fn a_client_that_is_closed_before_it_begins_dials_nothing() {
    let now = Now::read();
    let mut core = Core::new(rules(), Some(token("t")), 7, now);
    core.close();
    let actions: Vec<_> = std::iter::from_fn(|| core.poll_action()).collect();
    assert!(matches!(actions[..], [Action::Notify(Notice::Ended(_))]));
}

#[test]
fn a_question_is_over_when_its_attempt_fails() {
    let mut sim = Sim::new(asking());
    let first = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    sim.lose(first, Status::ConnectionLost);
    sim.pass_until_due();
    sim.answer(Ok(token("u")));
    sim.connect("b");
    assert_eq!(sim.question().1, "release");
    sim.fail_dial(error(Status::StageTimeout));
    assert!(sim.questions.is_empty());
}

#[test]
fn a_refused_token_that_is_given_again_unasked_does_not_stop_the_questions() {
    let mut sim = Sim::new(asking());
    sim.fail_dial(error(Status::Upgrade).with_retry(crate::error::Retry::FreshToken));
    sim.set_token("t");
    sim.pass_until_due();
    assert!(
        sim.dials.is_empty(),
        "the refused token is not dialled again"
    );
    sim.pass_until_due();
    assert_eq!(sim.question().1, "token: refused");
}

#[test]
fn a_token_that_ends_is_asked_for_once_and_the_connection_goes_on() {
    let mut sim = Sim::with_token(asking(), Some(ending_token(EPOCH + 300)));
    let connection = sim.connect("a").unwrap();
    while sim.questions.is_empty() {
        assert!(sim.pass_until_due());
    }
    assert_eq!(sim.question().1, "token: expiring");
    sim.answer(Err(error(Status::Token)));
    sim.pass(HOUR);
    assert!(sim.questions.is_empty(), "it is not asked again");
    let request = sim.submit();
    assert_eq!(sim.sent.last(), Some(&(request, connection)));
}

#[test]
fn a_held_request_ends_with_its_refusal_when_its_connection_is_lost_too() {
    let mut sim = Sim::new(asking());
    let connection = sim.connect("a").unwrap();
    let request = sim.submit();
    sim.end(request, Err(error(Status::PaymentRequired)));
    sim.lose(connection, Status::ConnectionLost);
    sim.answer(Err(error(Status::Token)));
    assert_eq!(sim.status(request), Some(Err(Status::PaymentRequired)));
}

#[test]
fn a_refused_release_ends_the_client() {
    let mut sim = Sim::new(asking());
    let first = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    sim.lose(first, Status::ConnectionLost);
    sim.pass_until_due();
    sim.answer(Ok(token("u")));
    sim.connect("b");
    sim.accept(false);
    let ended = sim.core.end_error().unwrap().status();
    assert_eq!(ended, Status::ReleaseRefused);
    assert!(sim.dials.is_empty() && sim.approved.is_empty());
}

#[test]
fn an_unanswered_release_is_never_accepted_and_asked_anew() {
    let mut sim = Sim::new(asking());
    let first = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    sim.lose(first, Status::ConnectionLost);
    for turn in 0..2 {
        sim.pass_until_due();
        sim.answer(Ok(token("u")));
        sim.connect("b");
        assert_eq!(sim.question().1, "release", "turn {turn}");
        let (old, _) = sim.question();
        sim.pass_until_due();
        assert!(sim.approved.is_empty());
        assert!(sim.core.answer_release(old, true, sim.now).is_err());
    }
    assert_eq!(sim.core.phase(), Phase::Reconnecting);
}

#[test]
fn the_same_release_is_not_asked_about() {
    let mut sim = Sim::new(asking());
    let first = sim.connect("a").unwrap();
    sim.pass(SETTLED);
    sim.lose(first, Status::ConnectionLost);
    sim.pass_until_due();
    sim.answer(Ok(token("u")));
    assert!(sim.connect("a").is_some());
}

#[test]
fn closing_ends_everything_in_any_state() {
    for until in 0..5 {
        let mut sim = Sim::new(asking());
        let waiting = sim.submit();
        if until > 0 {
            sim.connect("a").unwrap();
            sim.pass(SETTLED);
        }
        if until > 1 {
            sim.lose(sim.connections()[0], Status::ConnectionLost);
        }
        if until > 2 {
            sim.pass_until_due();
        }
        if until > 3 {
            sim.answer(Ok(token("u")));
            sim.connect("b");
        }
        let open = sim.submit();
        sim.close();
        assert!(sim.questions.is_empty() && sim.dials.is_empty());
        for request in [waiting, open] {
            assert_eq!(sim.status(request), Some(Err(Status::Closed)), "{until}");
        }
        assert_eq!(sim.core.poll_timeout(), None);
        assert_eq!(sim.notices.last().unwrap(), "ended Closed");
        sim.set_token("v");
        sim.pass(HOUR);
        assert!(sim.dials.is_empty());
    }
}

#[test]
fn a_cancelled_request_ends_once_wherever_it_is() {
    let mut sim = Sim::new(rules());
    let waiting = sim.submit();
    sim.cancel(waiting);
    assert_eq!(sim.status(waiting), Some(Err(Status::Cancelled)));
    sim.connect("a").unwrap();
    assert!(sim.sent.is_empty());
    let on = sim.submit();
    sim.cancel(on);
    sim.cancel(on);
    assert_eq!(sim.status(on), Some(Err(Status::Cancelled)));
}
