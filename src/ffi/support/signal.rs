//! A descriptor that an event loop can poll: readable while there is something to take.

use std::ffi::c_int;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;

use crate::client::Signal;
use crate::error::{Error, Result, Status};

/// A pipe that holds one byte while the level is up. An inbox raises and clears in turns, so it never blocks.
pub(crate) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Result<Pipe> {
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
