//! Uploads in progress (protocol.md section 6): chunks in, a document or a refusal out.
//!
//! Pure. Independent of the wire and of the document's use.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use crate::server::Server;
use crate::wire::Chunk;

/// Limits of every server (section 6).
const MAX_UPLOADS: usize = 10;
const MAX_EARLY: usize = 256;
/// Uploads, at most, whose chunks are kept before their request arrives.
const MAX_EARLY_REQUESTS: usize = 64;
/// Ended uploads that are remembered, at most, so that their late chunks are ignored.
const MAX_ENDED: usize = 1_024;

/// The servers' vague messages.
const FAILED: &str = "Document extraction failed";
const WRITE_FAILED: &str = "Stream write failed";

/// The result of a chunk.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress<Options> {
    /// The upload needs more chunks, or this chunk belongs to no upload.
    Quiet,
    Complete(Options, Vec<u8>),
    /// A status, a reason, and the data received so far. Later chunks are ignored.
    Refused(i32, &'static str, Vec<u8>),
}

/// All uploads of a connection, by request id.
pub(crate) struct Uploads<Options> {
    server: Server,
    open: HashMap<i64, Upload<Options>>,
    /// Uploads that hold a place: those that are open, and ended ones that lack their final chunk or
    /// the end of their response.
    places: HashMap<i64, Place>,
    early: HashMap<i64, Vec<Chunk>>,
    ended: VecDeque<i64>,
}

/// A place is free when both are true.
struct Place {
    /// The final chunk has come.
    received: bool,
    /// The response has ended.
    answered: bool,
}

struct Upload<Options> {
    options: Options,
    /// Largest size of the document, in bytes.
    most: usize,
    /// Smallest size of the document, in bytes.
    least: usize,
    max_out_of_order: usize,
    data: Vec<u8>,
    next: u32,
    ahead: BTreeMap<u32, Chunk>,
    bytes: usize,
}

impl<Options> Uploads<Options> {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            open: HashMap::new(),
            places: HashMap::new(),
            early: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// Opens an upload with its first chunk, and adds chunks that overtook it. `length` is the
    /// length that the server enforces.
    pub(crate) fn open(
        &mut self,
        id: i64,
        options: Options,
        length: Option<usize>,
        first: Chunk,
    ) -> Progress<Options> {
        let early = self.early.remove(&id).unwrap_or_default();
        if first.seq.unwrap_or(0) != 0 {
            return self.refuse(id, 400, "an upload begins with seq 0");
        }
        if self.open.contains_key(&id) {
            return self.refuse(id, 400, "an upload with this id is open");
        }
        if self.places.len() == MAX_UPLOADS {
            return self.refuse(id, 500, FAILED);
        }
        let received = early.iter().chain([&first]).any(is_final);
        let place = Place {
            received,
            answered: false,
        };
        self.places.insert(id, place);
        let upload = Upload {
            options,
            most: length.unwrap_or(self.server.max_document()),
            least: length.unwrap_or(0),
            max_out_of_order: self.server.max_out_of_order(),
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

    /// Adds the next chunk of an upload.
    pub(crate) fn proceed(&mut self, id: i64, chunk: Chunk) -> Progress<Options> {
        if is_final(&chunk)
            && let Some(place) = self.places.get_mut(&id)
        {
            place.received = true;
            self.free(id);
        }
        let Some(upload) = self.open.get_mut(&id) else {
            return self.keep_early(id, chunk);
        };
        match upload.take(chunk) {
            Ok(false) => Progress::Quiet,
            Ok(true) => match self.end(id) {
                Some(upload) => Progress::Complete(upload.options, upload.data),
                None => Progress::Quiet,
            },
            Err((status, reason)) => self.refuse(id, status, reason),
        }
    }

    /// Ends an upload that took too long, if it is still open. Frees its place, unless its response
    /// is under way.
    pub(crate) fn expire(&mut self, id: i64) -> Progress<Options> {
        let open = self.open.contains_key(&id);
        if open || self.waits_for_chunks(id) {
            self.places.remove(&id);
        }
        match open {
            true => self.refuse(id, self.server.upload_timeout_status(), FAILED),
            false => Progress::Quiet,
        }
    }

    /// Whether an upload holds a place and lacks its final chunk.
    pub(crate) fn waits_for_chunks(&self, id: i64) -> bool {
        self.places.get(&id).is_some_and(|place| !place.received)
    }

    /// Notes the end of an upload's response. Call it before the client can see that end.
    pub(crate) fn answered(&mut self, id: i64) {
        if let Some(place) = self.places.get_mut(&id) {
            place.answered = true;
            self.free(id);
        }
    }

    fn free(&mut self, id: i64) {
        self.places
            .retain(|at, place| *at != id || !place.received || !place.answered);
    }

    fn keep_early(&mut self, id: i64, chunk: Chunk) -> Progress<Options> {
        if self.ended.contains(&id) {
            return Progress::Quiet;
        }
        if !self.early.contains_key(&id) && self.early.len() == MAX_EARLY_REQUESTS {
            return self.refuse(id, 500, WRITE_FAILED);
        }
        let early = self.early.entry(id).or_default();
        let bytes: usize = early
            .iter()
            .chain([&chunk])
            .map(|chunk| data(chunk).len())
            .sum();
        if early.len() == MAX_EARLY || bytes > self.server.max_document() {
            return self.refuse(id, 500, WRITE_FAILED);
        }
        early.push(chunk);
        Progress::Quiet
    }

    /// Refuses an upload, also one that has not begun.
    pub(crate) fn refuse(
        &mut self,
        id: i64,
        status: i32,
        reason: &'static str,
    ) -> Progress<Options> {
        let data = self.end(id).map(|upload| upload.data);
        Progress::Refused(status, reason, data.unwrap_or_default())
    }

    /// Ends an open upload as if it were complete.
    pub(crate) fn cut_short(&mut self, id: i64) -> Option<(Options, Vec<u8>)> {
        let upload = self.open.contains_key(&id).then(|| self.end(id))??;
        Some((upload.options, upload.data))
    }

    /// Returns the number of chunks received for an open upload.
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
    /// Returns true when the document is complete. Stricter than the servers, which ignore a
    /// repeated chunk.
    fn take(&mut self, chunk: Chunk) -> Result<bool, (i32, &'static str)> {
        let seq = chunk.seq.unwrap_or(0);
        if seq < self.next || self.ahead.contains_key(&seq) {
            return Err((400, "a chunk came twice"));
        }
        self.bytes += data(&chunk).len();
        if self.bytes > self.most {
            return Err((500, WRITE_FAILED));
        }
        self.ahead.insert(seq, chunk);
        while let Some(chunk) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.data.extend_from_slice(&data(&chunk));
            if is_final(&chunk) {
                return self.whole();
            }
        }
        if self.ahead.len() > self.max_out_of_order {
            return Err((500, WRITE_FAILED));
        }
        Ok(false)
    }

    fn whole(&self) -> Result<bool, (i32, &'static str)> {
        if !self.ahead.is_empty() {
            return Err((400, "a chunk after the final one"));
        }
        if self.data.len() < self.least {
            return Err((502, FAILED));
        }
        Ok(true)
    }
}

fn is_final(chunk: &Chunk) -> bool {
    chunk.r#final.unwrap_or(false)
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

    fn none_open() -> Uploads<()> {
        Uploads::new(Server::Newer)
    }

    fn opened(length: Option<usize>) -> Uploads<()> {
        opened_at(Server::Newer, length)
    }

    fn opened_at(server: Server, length: Option<usize>) -> Uploads<()> {
        let mut uploads = Uploads::new(server);
        assert_eq!(
            uploads.open(ID, (), length, chunk(0, "a", false)),
            Progress::Quiet
        );
        uploads
    }

    fn status(progress: &Progress<()>) -> Option<i32> {
        match progress {
            Progress::Refused(status, ..) => Some(*status),
            _ => None,
        }
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
        let mut uploads = none_open();
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
        let whole = none_open().open(ID, (), Some(0), only);
        assert_eq!(whole, Progress::Complete((), Vec::new()));
    }

    #[test]
    fn chunks_of_an_ended_upload_are_ignored() {
        let mut uploads = opened(None);
        assert!(matches!(
            uploads.proceed(ID, chunk(1, "b", true)),
            Progress::Complete(..)
        ));
        assert_eq!(uploads.proceed(ID, chunk(2, "c", false)), Progress::Quiet);
        assert!(uploads.early.is_empty());
    }

    #[test]
    fn upload_that_breaks_a_rule_is_refused() {
        for (broken, expected) in [
            (vec![chunk(0, "a", false)], 400),
            (vec![chunk(2, "c", false), chunk(2, "c", false)], 400),
            (vec![chunk(2, "c", false), chunk(1, "b", true)], 400),
            (vec![chunk(1, "bcd", false)], 500),
            (vec![chunk(1, "b", true)], 502),
        ] {
            let mut uploads = opened(Some(3));
            let mut last = Progress::Quiet;
            for chunk in broken {
                last = uploads.proceed(ID, chunk);
            }
            assert_eq!(status(&last), Some(expected));
            assert!(uploads.open.is_empty());
        }
        let late = none_open().open(ID, (), None, chunk(1, "", false));
        assert_eq!(status(&late), Some(400));
    }

    #[test]
    fn each_server_has_separate_limits() {
        const MIB: &str = match std::str::from_utf8(&[b'x'; 1 << 20]) {
            Ok(text) => text,
            Err(_) => "",
        };
        for (server, out_of_order, mib) in [(Server::V0_1_14, 64, 50), (Server::Newer, 256, 256)] {
            let mut uploads = opened_at(server, None);
            for seq in 0..out_of_order {
                let quiet = uploads.proceed(ID, chunk(seq + 2, "", false));
                assert_eq!(quiet, Progress::Quiet);
            }
            let more = uploads.proceed(ID, chunk(1_000, "", false));
            assert_eq!(status(&more), Some(500));

            let mut uploads = Uploads::new(server);
            for seq in 0..mib {
                let quiet = match seq {
                    0 => uploads.open(ID, (), None, chunk(0, MIB, false)),
                    _ => uploads.proceed(ID, chunk(seq, MIB, false)),
                };
                assert_eq!(quiet, Progress::Quiet);
            }
            let more = uploads.proceed(ID, chunk(mib, "x", true));
            assert_eq!(status(&more), Some(500));
        }
    }

    #[test]
    fn chunks_ahead_of_their_request_are_bounded() {
        let mut uploads = none_open();
        for seq in 0..MAX_EARLY as u32 {
            let quiet = uploads.proceed(ID, chunk(seq + 1, "", false));
            assert_eq!(quiet, Progress::Quiet);
        }
        let more = uploads.proceed(ID, chunk(1_000, "", false));
        assert_eq!(status(&more), Some(500));
    }

    #[test]
    fn place_is_free_after_final_chunk_and_response() {
        let mut uploads = none_open();
        let open = |uploads: &mut Uploads<()>, id| uploads.open(id, (), None, chunk(0, "", false));
        for id in 0..MAX_UPLOADS as i64 {
            assert_eq!(open(&mut uploads, id), Progress::Quiet);
        }
        assert_eq!(status(&open(&mut uploads, 10)), Some(500));
        // The final chunk comes first.
        let last = uploads.proceed(3, chunk(1, "", true));
        assert!(matches!(last, Progress::Complete(..)));
        assert_eq!(uploads.expire(3), Progress::Quiet);
        assert_eq!(status(&open(&mut uploads, 11)), Some(500));
        uploads.answered(3);
        assert_eq!(open(&mut uploads, 12), Progress::Quiet);
        // The response ends first.
        assert_eq!(status(&uploads.refuse(4, 422, "no")), Some(422));
        uploads.answered(4);
        assert!(uploads.waits_for_chunks(4));
        assert_eq!(status(&open(&mut uploads, 13)), Some(500));
        assert_eq!(uploads.proceed(4, chunk(1, "", true)), Progress::Quiet);
        assert_eq!(open(&mut uploads, 14), Progress::Quiet);
        assert_eq!(status(&open(&mut uploads, 15)), Some(500));
    }

    #[test]
    fn place_is_free_when_the_time_is_over() {
        for (server, timeout) in [(Server::V0_1_14, 502), (Server::Newer, 503)] {
            let mut uploads = Uploads::new(server);
            for id in 0..MAX_UPLOADS as i64 {
                let open = uploads.open(id, (), None, chunk(0, "", false));
                assert_eq!(open, Progress::Quiet);
            }
            uploads.refuse(6, 422, "no");
            uploads.answered(6);
            assert_eq!(status(&uploads.expire(5)), Some(timeout));
            assert_eq!(uploads.expire(6), Progress::Quiet);
            for (id, expected) in [(10, None), (11, None), (12, Some(500))] {
                let open = uploads.open(id, (), None, chunk(0, "", false));
                assert_eq!(status(&open), expected);
            }
        }
    }
}
