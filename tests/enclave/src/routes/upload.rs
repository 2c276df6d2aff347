//! Uploads in the making (protocol.md section 6): chunks in, a document or a refusal out.
//!
//! Pure. Knows neither the wire nor what a document is good for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use crate::wire::Chunk;

/// What the server takes (section 6).
const MAX_BYTES: usize = 50 << 20;
const MAX_UPLOADS: usize = 10;
const MAX_OUT_OF_ORDER: usize = 64;
const MAX_EARLY: usize = 256;
/// Requests of which chunks may be kept before the request itself has come.
const MAX_EARLY_REQUESTS: usize = 64;
/// Ended uploads whose late chunks are known as such.
const MAX_ENDED: usize = 1_024;

/// What came of a chunk.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress<Options> {
    /// More chunks are to come; or nobody waits for this one.
    Quiet,
    Complete(Options, Vec<u8>),
    /// A status, a reason, and what had come until then; further chunks vanish.
    Refused(i32, &'static str, Vec<u8>),
}

/// All uploads of a connection, by the id of their requests.
pub(crate) struct Uploads<Options> {
    open: HashMap<i64, Upload<Options>>,
    early: HashMap<i64, Vec<Chunk>>,
    ended: VecDeque<i64>,
}

struct Upload<Options> {
    options: Options,
    total_length: Option<usize>,
    data: Vec<u8>,
    next: u32,
    ahead: BTreeMap<u32, Chunk>,
    bytes: usize,
}

impl<Options> Default for Uploads<Options> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            early: HashMap::new(),
            ended: VecDeque::new(),
        }
    }
}

impl<Options> Uploads<Options> {
    /// Opens an upload with its first chunk; chunks that overtook it are taken too.
    pub(crate) fn open(
        &mut self,
        id: i64,
        options: Options,
        total_length: Option<usize>,
        first: Chunk,
    ) -> Progress<Options> {
        let early = self.early.remove(&id).unwrap_or_default();
        if first.seq.unwrap_or(0) != 0 {
            return self.refuse(id, 400, "an upload begins with seq 0");
        }
        if self.open.contains_key(&id) {
            return self.refuse(id, 400, "an upload with this id is open");
        }
        if self.open.len() == MAX_UPLOADS {
            return self.refuse(id, 503, "too many uploads at once");
        }
        if total_length.is_some_and(|length| length > MAX_BYTES) {
            return self.refuse(id, 400, "the document is too large");
        }
        let upload = Upload {
            options,
            total_length,
            data: Vec::new(),
            next: 0,
            ahead: BTreeMap::new(),
            bytes: 0,
        };
        self.open.insert(id, upload);
        let mut progress = self.proceed(id, first);
        for chunk in early {
            if !matches!(progress, Progress::Quiet) {
                break;
            }
            progress = self.proceed(id, chunk);
        }
        progress
    }

    /// Takes the next chunk of an upload.
    pub(crate) fn proceed(&mut self, id: i64, chunk: Chunk) -> Progress<Options> {
        let Some(upload) = self.open.get_mut(&id) else {
            return self.keep_early(id, chunk);
        };
        match upload.take(chunk) {
            Ok(false) => Progress::Quiet,
            Ok(true) => match self.end(id) {
                Some(upload) => Progress::Complete(upload.options, upload.data),
                None => Progress::Quiet,
            },
            Err(reason) => self.refuse(id, 400, reason),
        }
    }

    fn keep_early(&mut self, id: i64, chunk: Chunk) -> Progress<Options> {
        if self.ended.contains(&id) {
            return Progress::Quiet;
        }
        if !self.early.contains_key(&id) && self.early.len() == MAX_EARLY_REQUESTS {
            return self.refuse(id, 400, "too many chunks ahead of their requests");
        }
        let early = self.early.entry(id).or_default();
        let bytes: usize = early
            .iter()
            .chain([&chunk])
            .map(|chunk| data(chunk).len())
            .sum();
        if early.len() == MAX_EARLY || bytes > MAX_BYTES {
            return self.refuse(id, 400, "too many chunks ahead of the request");
        }
        early.push(chunk);
        Progress::Quiet
    }

    /// Ends an upload, or one that never began.
    pub(crate) fn refuse(
        &mut self,
        id: i64,
        status: i32,
        reason: &'static str,
    ) -> Progress<Options> {
        let data = self.end(id).map(|upload| upload.data);
        Progress::Refused(status, reason, data.unwrap_or_default())
    }

    /// Ends an open upload as if it were whole.
    pub(crate) fn cut_short(&mut self, id: i64) -> Option<(Options, Vec<u8>)> {
        let upload = self.open.contains_key(&id).then(|| self.end(id))??;
        Some((upload.options, upload.data))
    }

    /// How many chunks of an open upload have come.
    pub(crate) fn chunks(&self, id: i64) -> usize {
        let upload = self.open.get(&id);
        upload.map_or(0, |upload| upload.next as usize + upload.ahead.len())
    }

    fn end(&mut self, id: i64) -> Option<Upload<Options>> {
        self.early.remove(&id);
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
        self.open.remove(&id)
    }
}

impl<Options> Upload<Options> {
    /// True when the document is whole.
    fn take(&mut self, chunk: Chunk) -> Result<bool, &'static str> {
        let seq = chunk.seq.unwrap_or(0);
        if seq < self.next || self.ahead.contains_key(&seq) {
            return Err("a chunk came twice");
        }
        self.bytes += data(&chunk).len();
        if self.bytes > MAX_BYTES {
            return Err("the document is too large");
        }
        self.ahead.insert(seq, chunk);
        while let Some(chunk) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.data.extend_from_slice(&data(&chunk));
            if chunk.r#final.unwrap_or(false) {
                return self.whole();
            }
        }
        if self.ahead.len() > MAX_OUT_OF_ORDER {
            return Err("too many chunks out of order");
        }
        Ok(false)
    }

    fn whole(&self) -> Result<bool, &'static str> {
        if !self.ahead.is_empty() {
            return Err("a chunk after the final one");
        }
        match self.total_length {
            Some(length) if length != self.data.len() => {
                Err("the document's length is not total_length")
            }
            _ => Ok(true),
        }
    }
}

fn data(chunk: &Chunk) -> Bytes {
    chunk.data.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: i64 = 7;

    fn chunk(seq: u32, data: &'static str, last: bool) -> Chunk {
        Chunk {
            data: Some(data.into()),
            r#final: Some(last),
            seq: Some(seq),
        }
    }

    fn opened(length: Option<usize>) -> Uploads<()> {
        let mut uploads = Uploads::default();
        assert_eq!(
            uploads.open(ID, (), length, chunk(0, "a", false)),
            Progress::Quiet
        );
        uploads
    }

    fn refused(progress: Progress<()>) -> bool {
        matches!(progress, Progress::Refused(400, ..))
    }

    #[test]
    fn chunks_may_come_out_of_order() {
        let mut uploads = opened(Some(4));
        assert_eq!(uploads.proceed(ID, chunk(3, "d", true)), Progress::Quiet);
        assert_eq!(uploads.proceed(ID, chunk(1, "b", false)), Progress::Quiet);
        let whole = uploads.proceed(ID, chunk(2, "c", false));
        assert_eq!(whole, Progress::Complete((), b"abcd".to_vec()));
    }

    #[test]
    fn chunks_may_overtake_the_request_that_opens_the_upload() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.proceed(ID, chunk(1, "b", true)), Progress::Quiet);
        let whole = uploads.open(ID, (), None, chunk(0, "a", false));
        assert_eq!(whole, Progress::Complete((), b"ab".to_vec()));
    }

    #[test]
    fn an_empty_document_is_one_final_chunk() {
        let only = Chunk {
            data: None,
            r#final: Some(true),
            seq: Some(0),
        };
        let whole = Uploads::default().open(ID, (), Some(0), only);
        assert_eq!(whole, Progress::Complete((), Vec::new()));
    }

    #[test]
    fn chunks_of_an_ended_upload_vanish() {
        let mut uploads = opened(None);
        assert!(matches!(
            uploads.proceed(ID, chunk(1, "b", true)),
            Progress::Complete(..)
        ));
        assert_eq!(uploads.proceed(ID, chunk(2, "c", false)), Progress::Quiet);
        assert!(uploads.early.is_empty());
    }

    #[test]
    fn an_upload_that_breaks_a_rule_is_refused_and_forgotten() {
        for broken in [
            vec![chunk(0, "a", false)],
            vec![chunk(2, "c", false), chunk(2, "c", false)],
            vec![chunk(2, "c", false), chunk(1, "b", true)],
            vec![chunk(1, "bcdef", true)],
        ] {
            let mut uploads = opened(Some(3));
            let mut last = Progress::Quiet;
            for chunk in broken {
                last = uploads.proceed(ID, chunk);
            }
            assert!(refused(last));
            assert!(uploads.open.is_empty());
        }
        assert!(refused(Uploads::default().open(
            ID,
            (),
            None,
            chunk(1, "", false)
        )));
        assert!(refused(Uploads::default().open(
            ID,
            (),
            Some(MAX_BYTES + 1),
            chunk(0, "", false)
        )));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut uploads = opened(None);
        for seq in 0..MAX_OUT_OF_ORDER as u32 {
            assert_eq!(
                uploads.proceed(ID, chunk(seq + 2, "", false)),
                Progress::Quiet
            );
        }
        assert!(refused(uploads.proceed(ID, chunk(1_000, "", false))));

        let mut uploads = Uploads::<()>::default();
        for seq in 0..MAX_EARLY as u32 {
            assert_eq!(
                uploads.proceed(ID, chunk(seq + 1, "", false)),
                Progress::Quiet
            );
        }
        assert!(refused(uploads.proceed(ID, chunk(1_000, "", false))));

        let mut uploads = Uploads::default();
        for id in 0..MAX_UPLOADS as i64 {
            assert_eq!(
                uploads.open(id, (), None, chunk(0, "", false)),
                Progress::Quiet
            );
        }
        let more = uploads.open(-1, (), None, chunk(0, "", false));
        assert!(matches!(more, Progress::Refused(503, ..)));
    }
}
