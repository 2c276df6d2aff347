//! A stream: the handle of a request in progress, of any kind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::collect::Collected;
use super::event::Event;
use super::inbox::{Inbox, Next, Signal};
use super::keeper::Keeper;
use super::run::Run;
use super::watch::Watch;
use super::writes::Writes;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Exchange, Lifecycle, cancelled};

/// The events of one request, until its end. Dropping it cancels the request.
pub struct Stream {
    source: Source,
    inbox: Arc<Inbox<Event>>,
}

/// The origin of a stream's events.
enum Source {
    Request {
        /// Keeps the client, whose handle may be dropped first.
        _keeper: Arc<Keeper>,
        exchange: Arc<Exchange>,
        input: Input,
        /// The answer is a text, and no tool wants an answer.
        collects: bool,
    },
    /// A client, which the stream does not keep.
    Watch(Arc<Watch>),
}

/// The application's input to an open stream.
pub(super) enum Input {
    Nothing,
    /// Answers to calls of its tools.
    Answers(Arc<Run>),
    /// A document.
    Document(Arc<Writes>),
}

impl Stream {
    /// Creates a stream. `start` sends its request, and returns the input that the request takes.
    pub(super) fn start(
        keeper: &Arc<Keeper>,
        collects: bool,
        start: impl FnOnce(&Lifecycle, &Arc<Exchange>, &Arc<Inbox<Event>>) -> Result<Input>,
    ) -> Result<Stream> {
        let life = &keeper.life;
        let exchange = Arc::new(life.exchange());
        let reader = exchange.clone();
        let inbox = Inbox::new(life.limits().bounds, keeper.meter.clone(), move || {
            reader.resume()
        });
        let inbox = Arc::new(inbox);
        let input = start(life, &exchange, &inbox)?;
        let source = Source::Request {
            _keeper: keeper.clone(),
            exchange,
            input,
            collects,
        };
        Ok(Stream { source, inbox })
    }

    /// Creates a stream of a client's events.
    pub(super) fn watch(life: &Lifecycle) -> Stream {
        let watch = Watch::new();
        life.watch(watch.clone());
        Stream {
            inbox: watch.inbox.clone(),
            source: Source::Watch(watch),
        }
    }

    /// Whether its events are a client's.
    pub fn is_watch(&self) -> bool {
        matches!(self.source, Source::Watch(_))
    }

    /// Returns the number of events that a watch dropped because nobody read them.
    pub fn dropped(&self) -> u64 {
        match &self.source {
            Source::Watch(watch) => watch.dropped.load(Ordering::Relaxed),
            Source::Request { .. } => 0,
        }
    }

    /// Waits for the next event until `deadline`.
    pub fn next(&self, deadline: Option<Instant>) -> Next<Event> {
        let next = self.inbox.next(deadline);
        if let Next::Item(event) = &next
            && let Some(owed) = event.owed()
        {
            owed.taken();
        }
        next
    }

    /// Returns the document that the application writes.
    ///
    /// # Errors
    /// `InvalidArgument` for a stream that takes none.
    pub fn writes(&self) -> Result<&Writes> {
        match &self.source {
            Source::Request {
                input: Input::Document(writes),
                ..
            } => Ok(writes),
            _ => Err(Error::new(
                Status::InvalidArgument,
                "stream: its request has no document that is written",
            )),
        }
    }

    /// Appends the text until the end, or until `deadline`. Returns the result of the stream if it
    /// has ended, and again at later calls.
    ///
    /// # Errors
    /// `TooLarge`, also at later calls, and the stream is cancelled.
    pub fn collect(
        &self,
        collected: &mut Collected,
        deadline: Option<Instant>,
    ) -> Option<Result<()>> {
        if let Err(error) = collected.fits() {
            return Some(Err(error));
        }
        loop {
            match self.next(deadline) {
                Next::Item(event) => {
                    if let Err(error) = collected.add(&event) {
                        self.inbox.note_loss();
                        self.cancel();
                        return Some(Err(error));
                    }
                }
                Next::End(result) => return Some(result),
                Next::Empty => return None,
            }
        }
    }

    /// Refuses a stream whose answer is not a text, or whose tools want answers.
    pub fn can_collect(&self) -> Result<()> {
        if !matches!(self.source, Source::Request { collects: true, .. }) {
            let message = "stream: its answer is no text, or its tools want answers; read its events one by one";
            return Err(Error::new(Status::InvalidArgument, message));
        }
        Ok(())
    }

    /// The result of the stream, once it has ended. Its last events may still wait.
    pub fn ended(&self) -> Option<Result<()>> {
        self.inbox.ended()
    }

    /// Cancels the request: only the end is still delivered. Never waits; calling it again changes
    /// nothing.
    pub fn cancel(&self) {
        match &self.source {
            Source::Request {
                exchange, input, ..
            } => {
                exchange.cancel();
                if let Input::Answers(run) = input {
                    run.cancel();
                }
            }
            Source::Watch(_) => self.inbox.end(Err(cancelled())),
        }
        self.inbox.discard(); // last: from here on no tool call can be answered
    }

    /// Installs a signal, which is raised when something can be taken.
    pub fn set_signal(&self, signal: Arc<dyn Signal>) {
        self.inbox.set_signal(signal);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}
