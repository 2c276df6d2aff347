//! A descriptor for event loops: readable while something can be taken.

use std::ffi::c_int;
use std::sync::{Arc, OnceLock};

pub(crate) use platform::Pipe;

use crate::client::Signal;
use crate::error::{Error, Result, Status};

impl Pipe {
    /// The pipe of a handle, made and installed when the application first asks for it.
    pub(crate) fn of(
        slot: &OnceLock<Arc<Pipe>>,
        install: impl FnOnce(Arc<Pipe>),
    ) -> Result<&Arc<Pipe>> {
        if slot.get().is_none() {
            let pipe = Arc::new(Pipe::new()?);
            if slot.set(pipe.clone()).is_ok() {
                install(pipe);
            }
        }
        slot.get()
            .ok_or_else(|| Error::new(Status::System, "the file descriptor was not created"))
    }
}

#[cfg(unix)]
mod platform {
    use std::io::{PipeReader, PipeWriter, Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    /// A pipe that contains one byte while the signal is raised. Raising and clearing alternate, so
    /// it never blocks.
    pub(crate) struct Pipe {
        reader: PipeReader,
        writer: PipeWriter,
    }

    impl Pipe {
        pub(super) fn new() -> Result<Pipe> {
            let (reader, writer) = std::io::pipe()
                .map_err(|e| Error::io(Status::System, "the system gave no file descriptor", &e))?;
            Ok(Pipe { reader, writer })
        }

        pub(crate) fn fd(&self) -> c_int {
            self.reader.as_raw_fd()
        }
    }

    impl Signal for Pipe {
        fn raise(&self) {
            let _ = (&self.writer).write(&[1]);
        }

        fn clear(&self) {
            let _ = (&self.reader).read(&mut [0]);
        }
    }
}

#[cfg(windows)]
mod platform {
    use super::*;

    /// Windows has no descriptor that an event loop can wait for.
    pub(crate) enum Pipe {}

    impl Pipe {
        pub(super) fn new() -> Result<Pipe> {
            let message = "stream: Windows has no descriptors for event loops; use on_ready";
            Err(Error::new(Status::InvalidArgument, message))
        }

        pub(crate) fn fd(&self) -> c_int {
            match *self {}
        }
    }

    impl Signal for Pipe {
        fn raise(&self) {
            match *self {}
        }

        fn clear(&self) {
            match *self {}
        }
    }
}
