//! A driver for tests: it does what the core asks, and checks the rules that hold for every
//! sequence of inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::*;
use crate::attestation::{Policy, Verifier};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// When the clocks of a simulation begin, in Unix seconds.
pub(super) const EPOCH: u64 = 1_800_000_000;

/// A report that names a manifest. The verdict does not concern the core.
pub(super) fn evidenced(manifest: &str, expires_at: Option<u64>) -> Arc<Evidenced> {
    let verifier = Verifier::new(Policy::production()).unwrap();
    let (mut report, _) = verifier.admit(b"{}", &[0; 32], None, EPOCH);
    report.manifest_sha256 = Some(manifest.into());
    report.expires_at = expires_at;
    let export = verifier.export(b"{}", &[0; 32], None, EPOCH);
    Arc::new(Evidenced { report, export })
}

pub(super) fn rules() -> Rules {
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

/// A connection that the core was given.
#[derive(Default)]
struct Line {
    requests: BTreeMap<RequestId, Progress>,
}

/// See the module.
pub(super) struct Sim {
    pub(super) core: Core,
    pub(super) now: Now,
    /// Attempts under way, with their tokens.
    pub(super) dials: BTreeMap<AttemptId, Token>,
    /// Attempts that may complete their handshakes.
    pub(super) approved: BTreeSet<AttemptId>,
    lines: BTreeMap<ConnectionId, Line>,
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
        let mut sim = Sim {
            core: Core::new(rules, token, 7, now),
            now,
            dials: BTreeMap::new(),
            approved: BTreeSet::new(),
            lines: BTreeMap::new(),
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

    /// Does what the core asks for.
    pub(super) fn run(&mut self) {
        while let Some(action) = self.core.poll_action() {
            self.act(action);
        }
    }

    fn ended(&self) -> bool {
        self.core.phase() == Phase::Ended
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { attempt, token } => {
                assert!(!self.ended(), "an ended client dials");
                assert!(self.dials.is_empty(), "two attempts at once");
                self.dials.insert(attempt, token);
            }
            Action::Approve { attempt } => {
                assert!(self.dials.contains_key(&attempt), "approves nothing");
                assert!(self.approved.insert(attempt), "approves twice");
            }
            Action::Abort { attempt } => {
                self.dials.remove(&attempt).expect("aborts what runs");
                self.approved.remove(&attempt);
            }
            Action::Send {
                request,
                connection,
                again,
            } => {
                assert!(!self.ended(), "an ended client sends");
                let left = self.sendable.get_mut(&request).expect("a known request");
                assert_eq!(*left, 1, "request {request} goes out twice");
                *left = 0;
                let before = self.sent.iter().any(|(sent, _)| *sent == request);
                assert_eq!(again, before);
                let line = self.lines.get_mut(&connection);
                let line = line.expect("requests go to verified connections only");
                line.requests.insert(request, Progress::NotSent);
                self.sent.push((request, connection));
            }
            Action::Cancel { request } => {
                let mut lines = self.lines.values_mut();
                if let Some(progress) = lines.find_map(|line| line.requests.remove(&request)) {
                    let error = cancelled().with_progress(progress);
                    self.report_end(request, Err(error), false);
                }
            }
            Action::Finish { request, result } => {
                let before = self.finished.insert(request, result);
                assert!(before.is_none(), "request {request} ends twice");
                self.sendable.remove(&request).expect("a known request");
            }
            Action::Probe { connection } | Action::Retire { connection } => {
                assert!(self.lines.contains_key(&connection));
            }
            Action::Close { connection, why } => self.break_line(connection, why),
            Action::Ask(question) => {
                assert!(!self.ended(), "an ended client asks");
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
                Notice::Stage(stage) => format!("stage {}", stage.name()),
                Notice::Connected {
                    first,
                    release_changed,
                    ..
                } => format!("connected first={first} changed={release_changed}"),
                Notice::Disconnected(error) => format!("disconnected {:?}", error.status()),
                Notice::Attempt { number, .. } => format!("attempt {number}"),
                Notice::Failed(error) => format!("failed {:?}", error.status()),
                Notice::Ended(error) => format!("ended {:?}", error.status()),
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

    pub(super) fn answer(&mut self, answer: TokenAnswer) {
        let (id, _) = self.question();
        self.core.answer_token(id, answer, self.now).unwrap();
        self.run();
    }

    pub(super) fn accept(&mut self, accept: bool) {
        let (id, _) = self.question();
        self.core.answer_release(id, accept, self.now).unwrap();
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
        self.core.verified(attempt, evidenced.clone(), self.now);
        self.run();
        self.complete(manifest, expires_at)
    }

    /// An approved attempt completes its handshake.
    pub(super) fn complete(
        &mut self,
        manifest: &str,
        expires_at: Option<u64>,
    ) -> Option<ConnectionId> {
        let attempt = *self.approved.iter().next()?;
        self.approved.remove(&attempt);
        self.dials.remove(&attempt);
        let evidenced = evidenced(manifest, expires_at);
        let connected = Connected { attempt, evidenced };
        let connection = self.core.connected(connected, self.now);
        let connection = connection.expect("an approved attempt is current");
        self.lines.insert(connection, Line::default());
        self.run();
        Some(connection)
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

    pub(super) fn wall(&self) -> SystemTime {
        self.now.wall
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
