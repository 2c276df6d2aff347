//! A driver for tests: it does what the core asks, and checks the rules that hold for every
//! sequence of inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::attestation::{Policy, Verifier};
use crate::lifecycle::policy::{Reconnect, Renew};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// When the clocks of a simulation begin, in Unix seconds.
pub(super) const EPOCH: u64 = 1_800_000_000;

/// A report that names a manifest. The verdict does not concern the core.
pub(in crate::lifecycle) fn evidenced(manifest: &str, expires_at: Option<u64>) -> Arc<Evidenced> {
    static VERIFIER: LazyLock<Verifier> =
        LazyLock::new(|| Verifier::new(Policy::production()).unwrap());
    let verifier = &*VERIFIER;
    let (mut report, _) = verifier.admit(b"{}", &[0; 32], None, EPOCH);
    report.manifest_sha256 = Some(manifest.into());
    report.expires_at = expires_at;
    let export = verifier.export(b"{}", &[0; 32], None, EPOCH);
    Arc::new(Evidenced { report, export })
}

pub(in crate::lifecycle) fn rules() -> Rules {
    Rules {
        reconnect: Some(Reconnect {
            attempts: 3,
            first: Duration::from_secs(1),
            most: Duration::from_secs(8),
        }),
        retry_first: true,
        renew: Renew::default(),
        leeway: 60,
        asks_token: false,
        asks_release: false,
        answer: Duration::from_secs(30),
    }
}

pub(super) const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn error(status: Status) -> Error {
    Error::new(status, "simulated")
}

/// A token with this `exp`, in Unix seconds.
pub(super) fn ending_token(at: u64) -> Token {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{at}}}"));
    Token::new(&format!("a.{claims}.b")).unwrap()
}

/// A connection that the core was given.
#[derive(Default)]
struct Line {
    requests: BTreeMap<RequestId, Progress>,
    /// Requests that were cancelled, and have not ended yet.
    cancelled: BTreeSet<RequestId>,
    /// It was closed, and has not ended yet.
    closed: Option<Error>,
}

/// See the module.
pub(super) struct Sim {
    pub(super) core: Core,
    pub(super) now: Now,
    /// Actions wait, as if another thread worked them off.
    pub(super) held: bool,
    /// These are actions that waited, so what they name may be over.
    waited: bool,
    /// Connections report later what was cancelled and closed: see [`Sim::report`].
    pub(super) late: bool,
    asks_release: bool,
    /// [`Notice::Ended`] was given.
    over: bool,
    /// Attempts under way, with their tokens.
    pub(super) dials: BTreeMap<AttemptId, Token>,
    /// Every attempt that began.
    begun: BTreeSet<AttemptId>,
    /// The enclaves of attempts.
    verified: BTreeMap<AttemptId, Arc<Evidenced>>,
    /// Attempts whose release the application accepted.
    accepted: BTreeSet<AttemptId>,
    /// Attempts that may complete their handshakes.
    pub(super) approved: BTreeSet<AttemptId>,
    lines: BTreeMap<ConnectionId, Line>,
    /// The manifest of each connection that there was.
    made: BTreeMap<ConnectionId, Option<String>>,
    /// Requests that were given to a connection.
    given: BTreeSet<RequestId>,
    /// Requests that the application cancelled on a connection.
    given_up: BTreeSet<RequestId>,
    /// Everything sent, in order.
    pub(super) sent: Vec<(RequestId, ConnectionId)>,
    /// Requests that may be sent (again): never sent, or returned by the enclave undone.
    sendable: BTreeMap<RequestId, u32>,
    refused: BTreeSet<RequestId>,
    /// Requests that cannot be sent again.
    once: BTreeSet<RequestId>,
    pub(super) finished: BTreeMap<RequestId, Result<()>>,
    /// Open questions.
    pub(super) questions: BTreeMap<u64, &'static str>,
    pub(super) notices: Vec<String>,
    next_request: RequestId,
}

impl Sim {
    pub(super) fn new(rules: Rules) -> Sim {
        Sim::with_token(rules, Some(Token::new("t").unwrap()))
    }

    pub(super) fn with_token(rules: Rules, token: Option<Token>) -> Sim {
        let now = Now {
            monotonic: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_secs(EPOCH),
        };
        let asks_release = rules.asks_release;
        let mut sim = Sim {
            core: Core::new(rules, token, 7, now),
            now,
            held: false,
            waited: false,
            late: false,
            asks_release,
            over: false,
            dials: BTreeMap::new(),
            begun: BTreeSet::new(),
            verified: BTreeMap::new(),
            accepted: BTreeSet::new(),
            approved: BTreeSet::new(),
            lines: BTreeMap::new(),
            made: BTreeMap::new(),
            given: BTreeSet::new(),
            given_up: BTreeSet::new(),
            sent: Vec::new(),
            sendable: BTreeMap::new(),
            refused: BTreeSet::new(),
            once: BTreeSet::new(),
            finished: BTreeMap::new(),
            questions: BTreeMap::new(),
            notices: Vec::new(),
            next_request: 1,
        };
        sim.run();
        sim
    }

    /// Does what the core asks for, unless its actions wait.
    pub(super) fn run(&mut self) {
        if self.held {
            return;
        }
        while let Some(action) = self.core.poll_action() {
            self.act(action);
        }
    }

    /// The actions wait, or wait no more.
    pub(super) fn hold(&mut self, held: bool) {
        self.waited = std::mem::replace(&mut self.held, held);
        self.run();
        self.waited = false;
    }

    /// Connections report what was cancelled and closed.
    pub(super) fn report(&mut self) {
        for connection in self.connections() {
            let line = self.lines.get_mut(&connection).expect("it is there");
            let cancelled = std::mem::take(&mut line.cancelled);
            let why = line.closed.take();
            for request in cancelled {
                self.end_cancelled(connection, request);
            }
            if let Some(why) = why {
                self.break_line(connection, why);
            }
        }
        self.run();
    }

    fn end_cancelled(&mut self, connection: ConnectionId, request: RequestId) {
        let line = self.lines.get_mut(&connection);
        if let Some(progress) = line.and_then(|line| line.requests.remove(&request)) {
            let error = cancelled().with_progress(progress);
            self.report_end(request, Err(error), false);
        }
    }

    fn act(&mut self, action: Action) {
        let ends = matches!(action, Action::Finish { .. } | Action::Cancel { .. });
        assert!(ends || !self.over, "an ended client does nothing else");
        match action {
            Action::Dial { attempt, token } => {
                assert!(self.dials.is_empty(), "two attempts at once");
                assert!(self.begun.insert(attempt), "dials twice");
                self.dials.insert(attempt, token);
            }
            Action::Approve { attempt, .. } => {
                let enclave = self.verified.get(&attempt);
                let manifest = &enclave.expect("approves what was verified").report;
                let manifest = &manifest.manifest_sha256;
                let other = self.made.values().last().is_some_and(|it| it != manifest);
                let accepted = self.accepted.contains(&attempt);
                assert!(accepted || !self.asks_release || !other, "was not accepted");
                let runs = self.dials.contains_key(&attempt);
                assert!(runs || self.waited, "approves nothing");
                if runs {
                    assert!(self.approved.insert(attempt), "approves twice");
                }
            }
            Action::Abort { attempt } => {
                assert!(self.begun.contains(&attempt), "aborts what began");
                let dial = self.dials.remove(&attempt);
                assert!(dial.is_some() || self.waited, "aborts what runs");
                self.approved.remove(&attempt);
            }
            Action::Send {
                request,
                connection,
                again,
            } => {
                let left = self.sendable.get_mut(&request).expect("a known request");
                assert_eq!(*left, 1, "request {request} goes out twice");
                *left = 0;
                let verified = self.made.contains_key(&connection);
                assert!(verified, "requests go to verified connections only");
                assert_eq!(again, !self.given.insert(request));
                assert!(
                    !self.given_up.contains(&request),
                    "sends what was cancelled"
                );
                let Some(line) = self.lines.get_mut(&connection) else {
                    assert!(self.waited, "it broke between the decision and this");
                    self.may_go_again(request);
                    let error = error(Status::ConnectionLost).with_progress(Progress::NotSent);
                    return self.report_end(request, Err(error), true);
                };
                line.requests.insert(request, Progress::NotSent);
                self.sent.push((request, connection));
            }
            Action::Cancel { request } => {
                self.given_up.insert(request);
                let mut lines = self.lines.iter_mut();
                let on = lines.find(|(_, line)| line.requests.contains_key(&request));
                if let Some((connection, line)) = on {
                    let connection = *connection;
                    line.cancelled.insert(request);
                    if !self.late {
                        self.end_cancelled(connection, request);
                    }
                }
            }
            Action::Finish { request, result } => {
                let before = self.finished.insert(request, result);
                assert!(before.is_none(), "request {request} ends twice");
                self.sendable.remove(&request).expect("a known request");
            }
            Action::Probe { connection } | Action::Retire { connection } => {
                assert!(self.made.contains_key(&connection));
                assert!(self.waited || self.lines.contains_key(&connection));
            }
            Action::Close { connection, why } => {
                assert!(self.made.contains_key(&connection));
                match self.lines.get_mut(&connection) {
                    Some(line) if self.late => drop(line.closed.get_or_insert(why)),
                    _ => self.break_line(connection, why),
                }
            }
            Action::Ask(question) => {
                let kind = match question.kind {
                    QuestionKind::Token(reason) => match reason {
                        TokenReason::FirstConnection => "token: first",
                        TokenReason::Reconnect => "token: reconnect",
                        TokenReason::Expiring => "token: expiring",
                        TokenReason::Refused => "token: refused",
                    },
                    QuestionKind::Release { .. } => "release",
                };
                self.questions.insert(question.id, kind);
                assert_eq!(self.questions.len(), 1, "one question at a time");
            }
            Action::Withdraw { question } => {
                let asked = self.questions.remove(&question);
                assert!(asked.is_some(), "withdraws what was not asked");
            }
            Action::Notify(notice) => self.notices.push(match notice {
                Notice::Ended(error) => {
                    self.over = true;
                    format!("ended {:?}", error.status())
                }
                Notice::Stage(stage) => format!("stage {}", stage.name()),
                Notice::Connected { first, .. } => format!("connected first={first}"),
                Notice::Disconnected(error) => format!("disconnected {:?}", error.status()),
                Notice::Attempt { number, .. } => format!("attempt {number}"),
                Notice::Failed(error) => format!("failed {:?}", error.status()),
            }),
        }
    }

    // --- what an application does ---------------------------------------------------------------

    pub(super) fn submit(&mut self) -> RequestId {
        self.submit_if(true)
    }

    /// `repeatable`: its upload, if any, can be read from the beginning.
    pub(super) fn submit_if(&mut self, repeatable: bool) -> RequestId {
        let request = self.next_request;
        self.next_request += 1;
        self.sendable.insert(request, 1);
        if !repeatable {
            self.once.insert(request);
        }
        self.core.submit(request, PATIENCE, self.now);
        self.run();
        request
    }

    /// The number of requests so far, and the id of the last.
    pub(super) fn submitted(&self) -> RequestId {
        self.next_request - 1
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        self.core.cancel(request);
        self.run();
    }

    pub(super) fn close(&mut self) {
        self.core.close();
        self.run();
    }

    pub(super) fn question(&self) -> (u64, &'static str) {
        let (id, kind) = self.questions.iter().next().expect("a question is open");
        (*id, kind)
    }

    pub(super) fn answer(&mut self, answer: Result<Token>) {
        let (id, _) = self.question();
        let answered = self.core.answer_token(id, answer, self.now);
        assert!(answered.is_ok() || self.held, "it is open");
        self.run();
    }

    pub(super) fn accept(&mut self, accept: bool) {
        let (id, _) = self.question();
        let answered = self.core.answer_release(id, accept, self.now);
        assert!(answered.is_ok() || self.held, "it is open");
        if answered.is_ok() && accept {
            self.accepted.extend(self.dials.keys());
        }
        self.run();
    }

    pub(super) fn set_token(&mut self, token: &str) {
        self.core.set_token(Token::new(token).unwrap(), self.now);
        self.run();
    }

    // --- what the network and the enclave do ----------------------------------------------------

    /// The current attempt verifies an enclave with this manifest, and connects if it is approved.
    pub(super) fn connect(&mut self, manifest: &str) -> Option<ConnectionId> {
        self.connect_until(manifest, None)
    }

    pub(super) fn connect_until(
        &mut self,
        manifest: &str,
        expires_at: Option<u64>,
    ) -> Option<ConnectionId> {
        let attempt = *self.dials.keys().next()?;
        let evidenced = evidenced(manifest, expires_at);
        let enclave = self.verified.entry(attempt).or_insert(evidenced);
        self.core.verified(attempt, enclave.clone(), self.now);
        self.run();
        self.complete()
    }

    /// An approved attempt completes its handshake.
    pub(super) fn complete(&mut self) -> Option<ConnectionId> {
        let attempt = self.approved.pop_first()?;
        self.dials.remove(&attempt);
        let evidenced = self.verified[&attempt].clone();
        let manifest = evidenced.report.manifest_sha256.clone();
        let connected = Connected { attempt, evidenced };
        let connection = self.core.connected(connected, self.now);
        assert!(connection.is_some() || self.held, "it is current");
        let connection = connection?;
        self.lines.insert(connection, Line::default());
        let before = self.made.insert(connection, manifest);
        assert!(before.is_none() && self.made.keys().last() == Some(&connection));
        self.run();
        Some(connection)
    }

    /// Attempts that are not approved, or over, claim to be connected.
    pub(super) fn connect_unapproved(&mut self, evidenced: &Arc<Evidenced>) {
        for attempt in self.begun.difference(&self.approved) {
            let (attempt, evidenced) = (*attempt, evidenced.clone());
            let connected = Connected { attempt, evidenced };
            let connection = self.core.connected(connected, self.now);
            assert!(connection.is_none(), "it was not approved");
        }
    }

    pub(super) fn fail_dial(&mut self, error: Error) {
        let (attempt, _) = self.dials.pop_first().expect("an attempt is under way");
        self.approved.remove(&attempt);
        self.core.attempt_failed(attempt, error, self.now);
        self.run();
    }

    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.lines.keys().copied().collect()
    }

    /// Open requests with their connections.
    pub(super) fn on_lines(&self) -> Vec<(ConnectionId, RequestId)> {
        let lines = self.lines.iter();
        lines
            .flat_map(|(at, line)| line.requests.keys().map(|request| (*at, *request)))
            .collect()
    }

    pub(super) fn progress(&mut self, request: RequestId, progress: Progress) {
        for line in self.lines.values_mut() {
            if let Some(now) = line.requests.get_mut(&request) {
                *now = progress;
            }
        }
    }

    /// The enclave ends a request.
    pub(super) fn end(&mut self, request: RequestId, result: Result<()>) {
        let lines = self.lines.values_mut();
        let found: Vec<_> = lines
            .filter_map(|line| line.requests.remove(&request))
            .collect();
        let [progress] = found[..] else {
            panic!("request {request} is on {} connections", found.len());
        };
        if let Err(error) = &result
            && is_token_refusal(error)
            && self.refused.insert(request)
        {
            // It did nothing, so that the request may go out once more.
            self.may_go_again(request);
        }
        let result = result.map_err(|error| error.with_progress(progress.max_sent()));
        self.report_end(request, result, false);
        self.run();
    }

    pub(super) fn lose(&mut self, connection: ConnectionId, status: Status) {
        self.break_line(connection, error(status));
        self.run();
    }

    fn report_end(&mut self, request: RequestId, result: Result<()>, lost: bool) {
        let ended = Ended {
            result,
            lost,
            repeatable: !self.once.contains(&request),
        };
        self.core.request_ended(request, ended, self.now);
    }

    /// It may be sent once more, unless its document can be read only once.
    fn may_go_again(&mut self, request: RequestId) {
        if !self.once.contains(&request)
            && let Some(left) = self.sendable.get_mut(&request)
        {
            *left = 1;
        }
    }

    fn break_line(&mut self, connection: ConnectionId, why: Error) {
        let Some(line) = self.lines.remove(&connection) else {
            return;
        };
        for (request, progress) in line.requests {
            if progress == Progress::NotSent {
                self.may_go_again(request);
            }
            let error = why.clone().with_progress(progress);
            self.report_end(request, Err(error), true);
        }
        self.core.connection_lost(connection, why, self.now);
    }

    /// Both clocks go on.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
        self.core.tick(self.now);
        self.run();
    }

    /// The clocks go on until the core has something to do.
    pub(super) fn pass_until_due(&mut self) -> bool {
        let Some(due) = self.core.poll_timeout() else {
            return false;
        };
        self.pass(due.saturating_duration_since(self.now.monotonic));
        true
    }

    pub(super) fn status(&self, request: RequestId) -> Option<std::result::Result<(), Status>> {
        let result = self.finished.get(&request)?;
        Some(result.clone().map_err(|error| error.status()))
    }
}

impl Progress {
    /// A refusal by the enclave shows that it got the request.
    fn max_sent(self) -> Progress {
        match self {
            Progress::NotSent => Progress::MaybeSent,
            other => other,
        }
    }
}
