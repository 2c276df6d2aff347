//! The bounded queue between a connection's task and the reader of one stream.
//!
//! The task delivers in batches and never waits. The reader takes entries and may wait for them. A
//! full inbox makes the task stop reading the socket, if no other request is open. The task
//! continues when the reader has made room.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::meter::Meter;
use crate::error::{Error, Progress, Result, Status};
use crate::lifecycle;
use crate::session::Bounds;

/// The meter gets what was read in portions of this size, because streams share its counters.
const PORTION: usize = 64 << 10;

/// An entry of an inbox.
pub trait Weighted {
    /// Returns the bytes that it keeps in memory.
    fn weight(&self) -> usize;
    /// Whether it replaces an older entry right before it.
    fn replaces(&self, older: &Self) -> bool {
        let _ = older;
        false
    }
}

/// Receives whether an inbox has something to take. `raise` and `clear` alternate, except that the
/// end always calls `raise`, and is never cleared. They run under the inbox's lock, so they must be
/// short and must not call the inbox.
pub trait Signal: Send + Sync {
    /// Something can be taken.
    fn raise(&self);
    /// All was taken.
    fn clear(&self);
}

/// The result of `Inbox::next`.
pub enum Next<T> {
    /// The next entry.
    Item(T),
    /// The stream's end. Later calls return it again.
    End(Result<()>),
    /// Nothing came before the deadline.
    Empty,
}

/// The queue of one stream.
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    bounds: Bounds,
    meter: Arc<Meter>,
    /// Makes the connection's task continue to read.
    resume: Box<dyn Fn() + Send + Sync>,
}

struct State<T> {
    queue: VecDeque<T>,
    bytes: usize,
    /// The part of `bytes` that the meter has counted.
    metered: usize,
    end: Option<Result<()>>,
    /// The connection's task waits for room.
    paused: bool,
    /// The application gave up: entries are dropped, the end is kept.
    discarding: bool,
    /// Entries were dropped, so the stream ends with this error instead of a success.
    lost: Option<fn() -> Error>,
    /// Threads that wait on `ready`.
    waiting: usize,
    signal: Option<Arc<dyn Signal>>,
}

impl<T: Weighted> Inbox<T> {
    /// Creates an empty inbox. `resume` is called when a reader has made room after
    /// [`Inbox::pause_if_full`] returned true.
    pub fn new(
        bounds: Bounds,
        meter: Arc<Meter>,
        resume: impl Fn() + Send + Sync + 'static,
    ) -> Inbox<T> {
        meter.enter();
        Inbox {
            bounds,
            meter,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                metered: 0,
                end: None,
                paused: false,
                discarding: false,
                lost: None,
                waiting: 0,
                signal: None,
            }),
            ready: Condvar::new(),
            resume: Box::new(resume),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No caller's code runs under the lock, so a poisoned state is still valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the application reads too slowly, so that the next batch will be refused.
    pub fn has_room(&self) -> Result<()> {
        let bytes = self.state().bytes;
        self.check(bytes)
    }

    /// Checks the unread bytes against the bounds.
    fn check(&self, own: usize) -> Result<()> {
        let slow = |message| Err(Error::new(Status::SlowConsumer, message));
        let most = self.bounds.stream;
        if own > most {
            return slow(format!(
                "the application reads too slowly: more than {most} bytes wait on this stream"
            ));
        }
        if let Some(most) = self.meter.broken_by(own) {
            return slow(format!(
                "the application reads too slowly: more than {most} bytes wait on all streams, {own} of them on this one"
            ));
        }
        Ok(())
    }

    /// Appends a batch and wakes the reader once. Fails if the application reads too slowly.
    pub fn deliver(&self, batch: &mut Vec<T>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        if state.discarding {
            state.lose(cancelled);
            drop(state);
            batch.clear(); // outside the lock
            return Ok(());
        }
        self.check(state.bytes)?;
        let was_empty = !state.has_something();
        if let (Some(new), Some(last)) = (batch.first(), state.queue.back())
            && new.replaces(last)
            && let Some(old) = state.queue.pop_back()
        {
            state.bytes -= old.weight();
        }
        state.bytes += batch.iter().map(Weighted::weight).sum::<usize>();
        state.queue.extend(batch.drain(..));
        self.settle(&mut state);
        self.wake(state, was_empty);
        Ok(())
    }

    /// Makes room where the writer cannot pause: while `most` entries wait, drops the one that
    /// `choose` names. Returns the number of dropped entries.
    pub fn shed(
        &self,
        most: usize,
        mut choose: impl FnMut(&mut VecDeque<T>) -> Option<usize>,
    ) -> u64 {
        let mut state = self.state();
        let mut dropped = Vec::new();
        while state.queue.len() >= most
            && let Some(at) = choose(&mut state.queue)
            && let Some(entry) = state.queue.remove(at)
        {
            dropped.push(entry);
        }
        if !dropped.is_empty() {
            state.bytes = state.queue.iter().map(Weighted::weight).sum();
            self.settle(&mut state);
        }
        drop(state); // before the entries
        dropped.len() as u64
    }

    /// Ends the stream. Only the first end counts.
    pub fn end(&self, result: Result<()>) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.end = Some(match state.lost {
            Some(lost) => result.and_then(|()| Err(lost())),
            None => result,
        });
        self.wake(state, true); // the end always raises the signal
    }

    /// The result of the stream once it has ended, whether taken or not.
    pub fn ended(&self) -> Option<Result<()>> {
        self.state().end.clone()
    }

    /// Reports changes to the meter.
    fn settle(&self, state: &mut State<T>) {
        self.meter.change(state.metered, state.bytes);
        state.metered = state.bytes;
    }

    fn wake(&self, state: MutexGuard<'_, State<T>>, was_empty: bool) {
        if was_empty && let Some(signal) = &state.signal {
            signal.raise();
        }
        if state.waiting > 0 {
            drop(state);
            self.ready.notify_all(); // all, because an end concerns each; usually only one waits
        }
    }

    /// Whether the inbox is full. If so, `resume` is called when its reader has made room.
    pub fn pause_if_full(&self) -> bool {
        let mut state = self.state();
        state.paused = state.bytes >= self.bounds.stream_rest;
        state.paused
    }

    /// Takes the next entry. Waits for it until `deadline`, or without a limit.
    pub fn next(&self, deadline: Option<Instant>) -> Next<T> {
        let mut state = self.state();
        loop {
            if self.meter.is_closed() && !state.queue.is_empty() {
                state = self.lose(state);
            }
            if let Some(item) = state.queue.pop_front() {
                state.bytes -= item.weight();
                if state.bytes == 0 || state.metered - state.bytes >= PORTION {
                    self.settle(&mut state);
                }
                self.taken(state, true);
                return Next::Item(item);
            }
            if let Some(result) = &state.end {
                return Next::End(result.clone());
            }
            state.waiting += 1;
            state = match deadline {
                None => self
                    .ready
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        state.waiting -= 1;
                        return Next::Empty;
                    }
                    self.ready
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            state.waiting -= 1;
        }
    }

    /// Drops all entries because the client was closed. A complete answer fails, because it loses
    /// entries.
    fn lose<'a>(&'a self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        let dropped = std::mem::take(&mut state.queue);
        state.bytes = 0;
        state.lose(closed);
        self.settle(&mut state);
        self.taken(state, true);
        drop(dropped); // outside the lock
        self.state()
    }

    fn taken(&self, mut state: MutexGuard<'_, State<T>>, had_something: bool) {
        if had_something
            && !state.has_something()
            && let Some(signal) = &state.signal
        {
            signal.clear();
        }
        if state.paused && state.bytes <= self.bounds.stream_rest / 2 {
            state.paused = false;
            drop(state);
            (self.resume)();
        }
    }

    /// Drops all entries and all later ones, because the application gave up. The end is still
    /// delivered. A complete answer fails, unless all of it was taken.
    pub fn discard(&self) {
        let mut state = self.state();
        let had_something = state.has_something();
        state.discarding = true;
        let dropped = std::mem::take(&mut state.queue);
        if !dropped.is_empty() {
            state.lose(cancelled);
        }
        state.bytes = 0;
        self.settle(&mut state);
        self.taken(state, had_something);
        drop(dropped); // outside the lock
    }

    /// Notes that an entry was taken but not used, so the stream cannot end as complete.
    pub fn note_loss(&self) {
        self.state().lose(cancelled);
    }

    /// Installs a signal. Raises it at once if something can be taken.
    pub fn set_signal(&self, signal: Arc<dyn Signal>) {
        let mut state = self.state();
        if state.has_something() {
            signal.raise();
        }
        state.signal = Some(signal);
    }
}

/// The end of an answer that was not delivered before the client was closed.
fn closed() -> Error {
    lifecycle::closed().with_progress(Progress::PartlyAnswered)
}

/// The end of an answer that was not delivered before the application cancelled it.
fn cancelled() -> Error {
    lifecycle::cancelled().with_progress(Progress::PartlyAnswered)
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.meter.change(state.metered, 0);
        self.meter.leave();
    }
}

impl<T> State<T> {
    /// Notes that entries are dropped, and why.
    fn lose(&mut self, why: fn() -> Error) {
        self.lost.get_or_insert(why);
        if let Some(result @ Ok(())) = &mut self.end {
            *result = Err(why());
        }
    }

    /// Whether `next` returns at once. After the end it always does, like a read at a file's end.
    fn has_something(&self) -> bool {
        !self.queue.is_empty() || self.end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Weighted for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    fn inbox<T: Weighted>(resume: impl Fn() + Send + Sync + 'static) -> Inbox<T> {
        Inbox::new(Bounds::default(), Arc::new(Meter::new(usize::MAX)), resume)
    }

    fn now() -> Option<Instant> {
        Some(Instant::now())
    }

    #[test]
    fn entries_come_in_order_then_the_end_at_each_call() {
        let inbox = self::inbox(|| ());
        inbox.deliver(&mut vec![1, 2]).unwrap();
        inbox.end(Ok(()));
        inbox.end(Err(Error::new(Status::Cancelled, "too late")));
        assert!(matches!(inbox.next(None), Next::Item(1)));
        assert!(matches!(inbox.next(None), Next::Item(2)));
        assert!(matches!(inbox.next(None), Next::End(Ok(()))));
        assert!(matches!(inbox.next(now()), Next::End(Ok(()))));
    }

    #[test]
    fn open_inbox_without_entries_is_empty_not_at_its_end() {
        assert!(matches!(inbox::<usize>(|| ()).next(now()), Next::Empty));
    }

    #[test]
    fn full_inbox_resumes_once_when_half_is_taken() {
        let resumed = Arc::new(AtomicUsize::new(0));
        let count = resumed.clone();
        let inbox = self::inbox(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        inbox.deliver(&mut vec![(1 << 20) / 4; 4]).unwrap();
        assert!(inbox.pause_if_full());
        inbox.next(None);
        assert_eq!(resumed.load(Ordering::SeqCst), 0);
        inbox.next(None);
        inbox.next(None);
        assert_eq!(resumed.load(Ordering::SeqCst), 1);
        assert!(!inbox.pause_if_full());
    }

    #[test]
    fn unread_stream_fails_above_its_limit_and_keeps_entries() {
        let inbox = self::inbox(|| ());
        inbox.deliver(&mut vec![(16 << 20) + 1]).unwrap();
        let error = inbox.deliver(&mut vec![1]).unwrap_err();
        assert_eq!(error.status(), Status::SlowConsumer);
        assert!(matches!(inbox.next(None), Next::Item(_)));
    }

    #[test]
    fn signal_follows_whether_something_can_be_taken() {
        #[derive(Default)]
        struct Level(Mutex<Vec<bool>>);
        impl Signal for Level {
            fn raise(&self) {
                self.0.lock().unwrap().push(true);
            }
            fn clear(&self) {
                self.0.lock().unwrap().push(false);
            }
        }
        let (inbox, level) = (self::inbox(|| ()), Arc::new(Level::default()));
        inbox.deliver(&mut vec![1]).unwrap();
        inbox.set_signal(level.clone());
        inbox.deliver(&mut vec![2]).unwrap();
        inbox.next(None);
        inbox.next(None);
        inbox.discard();
        inbox.end(Ok(()));
        inbox.next(None);
        inbox.discard();
        assert_eq!(
            *level.0.lock().unwrap(),
            [true, false, true],
            "up once the end was reached"
        );
    }

    #[test]
    fn cancelled_answer_is_complete_only_if_all_of_it_was_taken() {
        let ends = |inbox: &Inbox<usize>| match inbox.next(None) {
            Next::End(result) => result.map_err(|error| (error.status(), error.progress())),
            _ => panic!("it has ended"),
        };
        let lost = Err((Status::Cancelled, Progress::PartlyAnswered));

        let before = inbox(|| ());
        before.deliver(&mut vec![1]).unwrap();
        before.end(Ok(()));
        before.discard();
        assert_eq!(ends(&before), lost, "an entry waited");

        let later = inbox(|| ());
        later.discard();
        later.deliver(&mut vec![1]).unwrap();
        later.end(Ok(()));
        assert_eq!(ends(&later), lost, "an entry came later");

        let taken = inbox(|| ());
        taken.deliver(&mut vec![1]).unwrap();
        taken.end(Ok(()));
        taken.next(None);
        taken.discard();
        assert_eq!(ends(&taken), Ok(()));
    }

    #[test]
    fn entry_that_replaces_the_last_one_takes_its_place() {
        struct Entry(usize, bool);
        impl Weighted for Entry {
            fn weight(&self) -> usize {
                10
            }
            fn replaces(&self, older: &Entry) -> bool {
                self.1 && older.1
            }
        }
        let inbox = inbox::<Entry>(|| ());
        for (number, replaces) in [(1, true), (2, true), (3, false), (4, true), (5, true)] {
            inbox.deliver(&mut vec![Entry(number, replaces)]).unwrap();
        }
        assert_eq!(inbox.state().bytes, 30);
        for expected in [2, 3, 5] {
            assert!(
                matches!(inbox.next(now()), Next::Item(Entry(number, _)) if number == expected)
            );
        }
        assert!(matches!(inbox.next(now()), Next::Empty));
        assert_eq!(inbox.state().bytes, 0);
    }

    #[test]
    fn closing_drops_undelivered_entries() {
        let closed = |end: Next<usize>| match end {
            Next::End(Err(error)) => (error.status(), error.progress()),
            _ => panic!("it ended well, or did not end"),
        };
        for complete in [true, false] {
            let meter = Arc::new(Meter::new(usize::MAX));
            let inbox = Inbox::new(Bounds::default(), meter.clone(), || ());
            inbox.deliver(&mut vec![1, 2, 3]).unwrap();
            assert!(matches!(inbox.next(now()), Next::Item(1)));
            if complete {
                inbox.end(Ok(()));
            }
            meter.close();
            if !complete {
                assert!(matches!(inbox.next(now()), Next::Empty));
                inbox.end(Ok(()));
            }
            let expected = (Status::Closed, Progress::PartlyAnswered);
            assert_eq!(closed(inbox.next(now())), expected);
            assert_eq!(closed(inbox.next(now())), expected);
        }
    }

    #[test]
    fn closing_keeps_the_end_of_delivered_and_failed_streams() {
        let meter = Arc::new(Meter::new(usize::MAX));
        let inbox = || Inbox::<usize>::new(Bounds::default(), meter.clone(), || ());
        let (delivered, failed) = (inbox(), inbox());
        delivered.end(Ok(()));
        failed.deliver(&mut vec![1]).unwrap();
        failed.end(Err(Error::new(Status::StreamIdle, "silent")));
        meter.close();
        assert!(matches!(delivered.next(now()), Next::End(Ok(()))));
        let Next::End(Err(error)) = failed.next(now()) else {
            panic!("it failed");
        };
        assert_eq!(error.status(), Status::StreamIdle);
    }

    #[test]
    fn stream_with_an_unused_entry_does_not_end_as_complete() {
        for ended_before in [true, false] {
            let inbox = inbox(|| ());
            inbox.deliver(&mut vec![1]).unwrap();
            assert!(matches!(inbox.next(now()), Next::Item(1)));
            if ended_before {
                inbox.end(Ok(()));
            }
            inbox.note_loss();
            inbox.discard();
            inbox.end(Ok(()));
            let Next::End(Err(error)) = inbox.next(now()) else {
                panic!("it lost an entry");
            };
            assert_eq!(error.status(), Status::Cancelled);
        }
    }

    #[test]
    fn every_waiting_reader_wakes_for_the_end() {
        let inbox = Arc::new(inbox::<usize>(|| ()));
        let readers = [(); 2].map(|()| {
            let inbox = inbox.clone();
            std::thread::spawn(move || matches!(inbox.next(None), Next::End(Ok(()))))
        });
        while inbox.state().waiting < 2 {
            std::thread::yield_now();
        }
        assert!(matches!(inbox.next(now()), Next::Empty));
        inbox.end(Ok(()));
        for reader in readers {
            assert!(reader.join().unwrap());
        }
    }

    #[test]
    fn waiting_reader_wakes_for_an_entry() {
        let inbox = Arc::new(inbox(|| ()));
        let reader = std::thread::spawn({
            let inbox = inbox.clone();
            move || matches!(inbox.next(None), Next::Item(7))
        });
        while inbox.state().waiting < 1 {
            std::thread::yield_now();
        }
        inbox.deliver(&mut vec![7]).unwrap();
        assert!(reader.join().unwrap());
    }
}
