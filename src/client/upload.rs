//! Documents for uploads: from memory, a file, or the application's read callback. Reads a chunk
//! when the connection will soon take it, so memory holds only a part of a document.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::writes::{FromWrites, Writes};
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, FILES, Hold};
use crate::lifecycle::Lifecycle;
use crate::panics;
use crate::session::{Again, Data, MAX_CHUNK, Source, Supply};

/// The largest document that every server takes (protocol section 6).
pub(super) const MAX_DOCUMENT: u64 = 50 << 20;
/// The largest document that newer servers take.
pub(super) const NEWER_MAX_DOCUMENT: u64 = 256 << 20;

/// A document that can be uploaded.
#[derive(Clone)]
pub enum Document {
    /// The whole document, copied from the application.
    Memory(Bytes),
    /// An open file, and its length when it was opened.
    File(Arc<File>, u64),
    /// Read once, by the application's callback.
    Callback {
        /// `None` once it was used.
        read: Arc<Mutex<Option<Box<dyn Read>>>>,
        /// `None` if unknown.
        length: Option<u64>,
    },
    /// Written by the application to the stream; of this length, if it is known.
    Written(Option<u64>),
}

/// An application's read callback.
pub trait Read: Send {
    /// Reads into `buffer` and returns the number of bytes; 0 at the end. Called on the client's
    /// callback thread.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// The source of a document, and the document itself if the application writes it to the stream.
type Sourced = (Box<dyn Source>, Option<Arc<Writes>>);

impl Document {
    /// Opens a file, which is read later.
    pub fn open(path: &Path) -> Result<Document> {
        let failed = |e| Error::io(Status::File, path.display(), &e);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let message = format!(
                "{}: it is no regular file; read others by a callback",
                path.display()
            );
            return Err(Error::new(Status::File, message));
        }
        Ok(Document::File(Arc::new(file), metadata.len()))
    }

    /// Creates a document that the application reads. `length`: `None` if unknown.
    pub fn callback(read: Box<dyn Read>, length: Option<u64>) -> Document {
        let read = Arc::new(Mutex::new(Some(read)));
        Document::Callback { read, length }
    }

    /// Returns the length, if known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Document::Memory(bytes) => Some(bytes.len() as u64),
            Document::File(_, length) => Some(*length),
            Document::Callback { length, .. } | Document::Written(length) => *length,
        }
    }

    /// Returns the source for one request. Takes a callback only if the client has not ended,
    /// because it can be read only once.
    pub(super) fn source(self, life: &Lifecycle) -> Result<Sourced> {
        let source: Box<dyn Source> = match self {
            Document::Written(length) => {
                let writes = Arc::new(Writes::new(length));
                return Ok((Box::new(FromWrites(writes.clone())), Some(writes)));
            }
            Document::Memory(rest) => Box::new(Memory {
                whole: rest.clone(),
                rest,
            }),
            Document::File(file, length) => Box::new(FromFile::new(file, length)),
            Document::Callback { read, length } => {
                let (thread, hold) = life.callbacks()?;
                life.end_error().map_or(Ok(()), Err)?;
                let read = read.lock().unwrap_or_else(PoisonError::into_inner).take();
                if read.is_none() {
                    let message = "request: its document's callback was used by an earlier start; \
                                   set it again";
                    return Err(Error::new(Status::InvalidArgument, message));
                }
                Box::new(FromCallback {
                    reader: Arc::new(Reader {
                        read: Mutex::new(Reading {
                            read,
                            left: length,
                            length,
                        }),
                        given_up: AtomicBool::new(false),
                    }),
                    thread,
                    _hold: hold,
                })
            }
        };
        Ok((source, None))
    }
}

struct Memory {
    whole: Bytes,
    rest: Bytes,
}

impl Source for Memory {
    fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
        supply.not_needed();
        let bytes = self.rest.split_to(self.rest.len().min(MAX_CHUNK));
        let last = self.rest.is_empty();
        Some(Ok(Data { bytes, last }))
    }

    fn again(&self) -> Option<Again> {
        let whole = self.whole.clone();
        Some(Box::new(move || {
            Box::new(Memory {
                whole: whole.clone(),
                rest: whole.clone(),
            })
        }))
    }
}

/// Read by a helper thread, because a disk may be slow.
struct FromFile {
    file: Arc<File>,
    length: u64,
    at: u64,
    /// Dropped with the upload, so that no further part is read.
    waiter: Arc<()>,
}

impl FromFile {
    fn new(file: Arc<File>, length: u64) -> FromFile {
        let (at, waiter) = (0, Arc::new(()));
        FromFile {
            file,
            length,
            at,
            waiter,
        }
    }
}

impl Source for FromFile {
    fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
        let (file, at) = (self.file.clone(), self.at);
        let left = self.length - at;
        let len = usize::try_from(left).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        self.at += len as u64;
        let last = self.at == self.length;
        FILES.run(&self.waiter, move |thread| {
            let read = thread.and_then(|running| {
                let mut bytes = vec![0; len];
                let read = read_exact_at(&file, &mut bytes, at);
                drop(running);
                let what = format_args!("the document: at byte {at}");
                match read {
                    Ok(()) => Ok(bytes.into()),
                    Err(e) => Err(Error::io(Status::File, what, &e)),
                }
            });
            supply.give(read.map(|bytes| Data { bytes, last }));
        });
        None
    }

    fn again(&self) -> Option<Again> {
        let (file, length) = (self.file.clone(), self.length);
        Some(Box::new(move || {
            Box::new(FromFile::new(file.clone(), length))
        }))
    }
}

/// Fills `bytes` from a position. Several requests may read one file at once.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

/// Read by the application on the callback thread, where it is dropped too.
struct FromCallback {
    reader: Arc<Reader>,
    thread: Arc<Callbacks>,
    /// Keeps the thread until the application's data is dropped.
    _hold: Hold,
}

struct Reader {
    read: Mutex<Reading>,
    /// The upload has ended.
    given_up: AtomicBool,
}

struct Reading {
    read: Option<Box<dyn Read>>,
    left: Option<u64>,
    length: Option<u64>,
}

impl Source for FromCallback {
    fn next(&mut self, supply: Supply) -> Option<Result<Data>> {
        let reader = self.reader.clone();
        self.thread.post(move || {
            let data = panics::catch(|| reader.fill()).and_then(|data| data);
            supply.give(data);
        });
        None
    }

    fn again(&self) -> Option<Again> {
        None // what the application has read out is gone
    }
}

impl Drop for FromCallback {
    fn drop(&mut self) {
        self.reader.given_up.store(true, Ordering::Relaxed);
        let reader = self.reader.clone();
        // This may be a worker, where no code of the application may run.
        self.thread.post(move || {
            let mut reading = reader.read.lock().unwrap_or_else(PoisonError::into_inner);
            drop(reading.read.take());
        });
    }
}

impl Reader {
    /// Reads a whole chunk, or up to the end.
    fn fill(&self) -> Result<Data> {
        let mut reading = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { read, left, length } = &mut *reading;
        let Some(read) = read else {
            return Err(Error::new(Status::Cancelled, "the upload has ended"));
        };
        let most = left.map_or(MAX_CHUNK, |left| {
            usize::try_from(left).unwrap_or(MAX_CHUNK).min(MAX_CHUNK)
        });
        let (mut bytes, mut len, mut last) = (vec![0; most], 0, false);
        while len < most && !self.given_up.load(Ordering::Relaxed) {
            let more = read.read(&mut bytes[len..])?;
            if more > most - len {
                let message = format!("read: {more} bytes for a buffer of {}", most - len);
                return Err(Error::new(Status::InvalidArgument, message));
            }
            if more == 0 {
                if let Some(length) = length {
                    let message = format!("read: the document ended before its {length} bytes");
                    return Err(Error::new(Status::InvalidArgument, message));
                }
                last = true;
                break;
            }
            len += more;
        }
        bytes.truncate(len);
        if let Some(left) = left {
            *left -= len as u64;
            last = *left == 0;
        }
        let bytes = bytes.into();
        Ok(Data { bytes, last })
    }
}
