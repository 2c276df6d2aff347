//! A panic is a defect of this library, and it stays here: caught at every boundary by one function, told by its place
//! in the source and never by its payload (which may hold what was being processed), and not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Once;

use crate::error::{Error, Status};

thread_local! {
    /// How many guarded calls are on this thread's stack.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic becomes [`Status::Panic`] with the place in the source.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    static HOOK: Once = Once::new();
    HOOK.call_once(silence_guarded_panics);
    DEPTH.set(DEPTH.get() + 1);
    // Whoever owned the state that the panic left poisons or ends it: that is the caller's part.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        forget(payload);
        let place = PLACE.take().unwrap_or_else(|| "an unknown place".into());
        Error::new(Status::Panic, format!("a defect in libconfer, at {place}"))
    })
}

/// The same for a task: each poll is guarded.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch(|| work.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => std::task::Poll::Ready(Err(error)),
    })
    .await
}

/// Dropping a payload could panic in turn.
fn forget(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}

/// The default hook prints to stderr, which is the application's. The hook is that of the standard library linked into
/// this one; where an application in Rust shares it, its own panics reach its own hook as before.
fn silence_guarded_panics() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
            return previous(info);
        }
        let place = info
            .location()
            .map(|at| format!("{}:{}", at.file(), at.line()));
        let _ = PLACE.try_with(|cell| cell.replace(place));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_by_its_place_and_not_by_its_payload() {
        let error = catch(|| panic!("a secret")).unwrap_err();
        assert_eq!(error.status(), Status::Panic);
        assert!(error.message().contains("src/panics.rs:"), "{error}");
        assert!(!error.message().contains("secret"));
        assert_eq!(catch(|| 7).unwrap(), 7);
    }
}
