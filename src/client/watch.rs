//! A watch: turns the news of a client into the events of a stream. Old news is dropped when nobody
//! reads it. The present state, an open question and the end are never dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::event::{ClientEvent, Event, Kind};
use super::inbox::Inbox;
use super::meter::Meter;
use crate::attestation::Evidenced;
use crate::error::Status;
use crate::lifecycle::{Asker, News, Notice, Observer, Question};
use crate::session::Bounds;

/// Most events that wait to be read.
const MAX_WAITING: usize = 256;

/// The observer behind a watch's stream.
pub(super) struct Watch {
    pub(super) inbox: Arc<Inbox<Event>>,
    /// Number of events dropped unread.
    pub(super) dropped: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The report of the last `Connected` event.
    last: Option<Arc<Evidenced>>,
    /// The open question.
    open: Option<u64>,
    /// A change of the release was dropped, and no later event has reported it yet.
    missed: bool,
}

impl Watch {
    pub(super) fn new() -> Arc<Watch> {
        // The bound of a watch counts events, not bytes.
        let unbounded = Bounds {
            stream: usize::MAX,
            stream_rest: usize::MAX,
            ..Bounds::default()
        };
        let meter = Arc::new(Meter::unbounded());
        Arc::new(Watch {
            inbox: Arc::new(Inbox::new(unbounded, meter, || ())),
            dropped: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: ClientEvent) {
        self.shed();
        // It fails only above the bounds in bytes, which are infinite.
        let _ = self.inbox.deliver(&mut vec![event.into_event()]);
    }

    /// Drops old news if too much waits.
    fn shed(&self) {
        let (open, mut missed) = (self.state().open, false);
        let dropped = self.inbox.shed(MAX_WAITING, |waiting| {
            let is_state =
                |event: &Event| matches!(event.kind(), Kind::Connected | Kind::Disconnected);
            let last_state = waiting.iter().rposition(is_state);
            let is_answer = |event: &Event| event.kind() == Kind::Answered;
            let last_answer = waiting.iter().rposition(is_answer);
            let droppable = |(at, event): (usize, &Event)| match event.client() {
                Some(
                    ClientEvent::AskToken { asked, .. } | ClientEvent::AskRelease { asked, .. },
                ) => open != Some(asked.id),
                _ if is_state(event) => Some(at) != last_state,
                _ if is_answer(event) => Some(at) != last_answer,
                _ => true,
            };
            let at = waiting.iter().enumerate().position(droppable)?;
            let changed = |event: &Event| {
                matches!(
                    event.client(),
                    Some(ClientEvent::Connected {
                        release_changed: true,
                        ..
                    })
                )
            };
            if !changed(&waiting[at]) {
                return Some(at);
            }
            // The next `Connected` event reports the change of a dropped one.
            let mut later = waiting.iter_mut().skip(at + 1);
            match later.find(|event| event.kind() == Kind::Connected) {
                Some(next) => {
                    if let Some(ClientEvent::Connected { evidenced, .. }) = next.client() {
                        *next = connected(evidenced.clone(), true).into_event();
                    }
                }
                None => missed = true,
            }
            Some(at)
        });
        self.state().missed |= missed;
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    fn pass(&self, notice: &Notice) {
        match notice {
            Notice::Stage(stage) => self.push(ClientEvent::Stage(*stage)),
            Notice::Connected { evidenced, .. } => {
                let manifest = |it: &Arc<Evidenced>| it.report.manifest_sha256.clone();
                let changed = {
                    let mut state = self.state();
                    let last = state.last.replace(evidenced.clone());
                    let differs = last.is_some_and(|last| manifest(&last) != manifest(evidenced));
                    std::mem::take(&mut state.missed) || differs
                };
                self.push(connected(evidenced.clone(), changed));
            }
            Notice::Disconnected(error) => self.push(ClientEvent::Disconnected(error.clone())),
            Notice::Attempt {
                number,
                delay,
                error,
            } => self.push(ClientEvent::Retry {
                number: *number,
                delay: *delay,
                error: error.clone(),
            }),
            // The event of the next attempt, or the end, has this error.
            Notice::Failed(_) => {}
            // After a close no event is delivered.
            Notice::Ended(error) if error.status() == Status::Closed => {
                self.inbox.shed(1, |_| Some(0));
                self.inbox.end(Ok(()));
            }
            Notice::Ended(error) => self.inbox.end(Err(error.clone())),
        }
    }

    fn ask(&self, question: &Question, asker: Weak<dyn Asker>) {
        self.state().open = Some(question.id);
        self.push(ClientEvent::question(question, asker));
    }

    /// Reports the end of a question, unless it is from before this watch.
    fn over(&self, id: u64) {
        let seen = self.state().open.take_if(|open| *open == id);
        if seen.is_some() {
            self.push(ClientEvent::Answered(id));
        }
    }
}

fn connected(evidenced: Arc<Evidenced>, release_changed: bool) -> ClientEvent {
    ClientEvent::Connected {
        evidenced,
        release_changed,
    }
}

impl Observer for Watch {
    fn notice(&self, news: &News<'_>) {
        match news {
            News::Notice(notice) => self.pass(notice),
            News::Asked(question, asker) => self.ask(question, (*asker).clone()),
            News::Over(id) => self.over(*id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::client::inbox::Next;
    use crate::error::Error;
    use crate::lifecycle::{Lifecycle, QuestionKind, TokenReason};
    use crate::session::Stage;

    fn lost() -> Error {
        Error::new(Status::ConnectionLost, "simulated")
    }

    fn read(watch: &Watch) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Next::Item(event) = watch.inbox.next(Some(Instant::now())) {
            kinds.push(event.kind());
        }
        kinds
    }

    #[test]
    fn old_news_is_dropped_and_counted_but_not_the_state() {
        let watch = Watch::new();
        watch.pass(&Notice::Disconnected(lost()));
        for _ in 0..1_000 {
            watch.pass(&Notice::Stage(Stage::Tcp));
        }
        let dropped = watch.dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, 1_001 - MAX_WAITING as u64);
        let kinds = read(&watch);
        assert_eq!(kinds.len(), MAX_WAITING);
        assert_eq!(kinds[0], Kind::Disconnected, "the present state is kept");
    }

    #[test]
    fn of_several_states_the_last_one_is_kept() {
        let watch = Watch::new();
        let states = [Status::ConnectionLost, Status::DeadPeer];
        for status in states {
            let error = Error::new(status, "simulated");
            watch.pass(&Notice::Disconnected(error));
        }
        (0..1_000).for_each(|_| watch.pass(&Notice::Stage(Stage::Tcp)));
        let Next::Item(first) = watch.inbox.next(Some(Instant::now())) else {
            panic!("events wait");
        };
        assert!(matches!(
            first.client(),
            Some(ClientEvent::Disconnected(error)) if error.status() == Status::DeadPeer
        ));
        assert!(!read(&watch).contains(&Kind::Disconnected));
    }

    #[test]
    fn an_open_question_is_kept_and_one_that_is_over_is_not() {
        let watch = Watch::new();
        let flood = || (0..1_000).for_each(|_| watch.pass(&Notice::Stage(Stage::Tcp)));
        let (id, kind) = (7, QuestionKind::Token(TokenReason::FirstConnection));
        let question = Question { id, kind };
        watch.ask(&question, Weak::<Lifecycle>::new());
        flood();
        assert_eq!(read(&watch)[0], Kind::AskToken);
        watch.ask(&question, Weak::<Lifecycle>::new());
        watch.over(id);
        flood();
        let kinds = read(&watch);
        assert!(!kinds.contains(&Kind::AskToken));
        assert_eq!(kinds[0], Kind::Answered, "a reader may have the question");
    }

    /// A report that names a manifest.
    fn evidenced(manifest: &str) -> Arc<Evidenced> {
        use crate::attestation::{Policy, Verifier};
        let verifier = Verifier::new(Policy::production()).unwrap();
        let (mut report, _) = verifier.admit(b"{}", &[0; 32], None, 1_800_000_000);
        report.manifest_sha256 = Some(manifest.into());
        let export = verifier.export(b"{}", &[0; 32], None, 1_800_000_000);
        Arc::new(Evidenced { report, export })
    }

    fn connect(watch: &Watch, manifest: &str) {
        watch.pass(&Notice::Connected {
            evidenced: evidenced(manifest),
            first: false,
        });
    }

    /// Whether each `Connected` event that is read tells of a change.
    fn changes(watch: &Watch) -> Vec<bool> {
        let mut changes = Vec::new();
        while let Next::Item(event) = watch.inbox.next(Some(Instant::now())) {
            if let Some(ClientEvent::Connected {
                release_changed, ..
            }) = event.client()
            {
                changes.push(*release_changed);
            }
        }
        changes
    }

    #[test]
    fn a_change_of_release_is_told_although_its_event_was_dropped() {
        for fills_before_it_returns in [true, false] {
            let watch = Watch::new();
            let fill = || (0..2 * MAX_WAITING).for_each(|_| watch.pass(&Notice::Stage(Stage::Tcp)));
            connect(&watch, "a");
            assert_eq!(changes(&watch), [false]);
            connect(&watch, "b");
            watch.pass(&Notice::Disconnected(lost()));
            if fills_before_it_returns {
                fill();
            }
            connect(&watch, "b");
            if !fills_before_it_returns {
                fill();
            }
            assert_eq!(changes(&watch), [true]);
            connect(&watch, "b");
            assert_eq!(changes(&watch), [false]);
        }
    }

    #[test]
    fn the_end_comes_last_and_a_close_is_no_error_and_delivers_nothing() {
        for (error, kinds) in [
            (lost(), vec![Kind::Stage]),
            (crate::lifecycle::closed(), vec![]),
        ] {
            let watch = Watch::new();
            watch.pass(&Notice::Stage(Stage::Tcp));
            let closed = error.status() == Status::Closed;
            watch.pass(&Notice::Ended(error));
            assert_eq!(read(&watch), kinds);
            assert_eq!(watch.inbox.ended().map(|end| end.is_ok()), Some(closed));
        }
    }
}
