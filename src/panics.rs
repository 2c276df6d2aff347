//! Catches panics at every boundary and turns them into errors.
//!
//! A panic is a defect of this library. The error names its place in the source, and never its
//! payload, which may contain secrets. Nothing is printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Once;

use crate::error::{Error, Status};

thread_local! {
    /// Number of guarded calls on this thread's stack.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`. Turns a panic into [`Status::Panic`] with its place in the source.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    static HOOK: Once = Once::new();
    HOOK.call_once(silence_guarded_panics);
    DEPTH.set(DEPTH.get() + 1);
    // The caller poisons or drops the state that `work` left half changed.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        forget(payload);
        let place = PLACE.take().unwrap_or_else(|| "an unknown place".into());
        Error::new(Status::Panic, format!("a defect in libconfer, at {place}"))
    })
}

/// Does the same for a future: guards each poll.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch(|| work.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => std::task::Poll::Ready(Err(error)),
    })
    .await
}

/// Leaks the payload, because its `Drop` could panic too.
fn forget(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}

/// Installs a hook that prints nothing for guarded panics, because stderr belongs to the
/// application. Other panics still reach the previous hook, for a Rust application that shares our
/// standard library.
fn silence_guarded_panics() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
            return previous(info);
        }
        let place = info.location().map(|at| place(at.file(), at.line()));
        let _ = PLACE.try_with(|cell| cell.replace(place));
    }));
}

/// Names a place in the source by crate and module. A path would reveal the machine that built the
/// library.
fn place(file: &str, line: u32) -> String {
    let file = file.replace('\\', "/");
    // Paths of our files start like this file's. Those of other crates contain a folder with the
    // crate's name.
    let ours = file!().strip_suffix("src/panics.rs").unwrap_or_default();
    let own = file
        .strip_prefix(ours)
        .and_then(|rest| rest.strip_prefix("src/"));
    let (package, module) = match (own, file.rsplit_once("/src/")) {
        (Some(module), _) => (env!("CARGO_PKG_NAME"), module),
        (None, Some((folder, module))) => (folder.rsplit('/').next().unwrap_or_default(), module),
        (None, None) => ("", file.rsplit('/').next().unwrap_or_default()),
    };
    let module = module.trim_end_matches(".rs").replace('/', "::");
    format!("{package}::{module}, line {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_names_crate_and_module_and_no_path() {
        let registry = "/home/me/.cargo/registry/src/registry.example-0123456789abcdef";
        for (file, expected) in [
            ("src/net/tcp.rs", "confer::net::tcp, line 7"),
            (
                &format!("{registry}/tokio-1.54.1/src/runtime/blocking/pool.rs"),
                "tokio-1.54.1::runtime::blocking::pool, line 7",
            ),
            (
                "/rustc/0123abcd/library/core/src/option.rs",
                "core::option, line 7",
            ),
            ("/home/me/build/out/confer.wire.rs", "::confer.wire, line 7"),
        ] {
            assert_eq!(place(file, 7), expected);
        }
    }

    #[test]
    fn panic_error_has_the_place_and_not_the_payload() {
        let error = catch(|| panic!("a secret")).unwrap_err();
        assert_eq!(error.status(), Status::Panic);
        assert!(error.message().contains("confer::panics, line "), "{error}");
        assert!(!error.message().contains("secret"));
        assert!(!error.message().contains('/'), "{error}");
        assert_eq!(catch(|| 7).unwrap(), 7);
    }
}
