//! Maps paths to answers (protocol.md section 4), and makes the answers that need no module.
//!
//! Sees requests and answers, and only the outbox of a connection.

pub(crate) mod chat;
mod document;
mod embeddings;
mod fetch;
mod tools;
mod upload;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{self, Either};
use serde_json::json;

use crate::Enclave;
use crate::answer::{Gone, Outbox, Outgoing, Step, Steps, script, send, stream, text};
use crate::faults::{Twist, Upload};
use crate::log::sha256;
use crate::server::Server;
use crate::wire::{Asked, Chunk, response};
use document::{Answer, Options, Refusal};
use upload::{Progress, Uploads};

/// For the fault of an upload refused midway: the number of chunks before it, and the answer.
const REFUSED_AFTER: usize = 3;
const MIDWAY: Refusal = (422, "the document cannot be processed");

/// The routes of one connection.
#[derive(Clone)]
pub(crate) struct Routes {
    enclave: Arc<Enclave>,
    connection: u64,
    outbox: Outbox,
    uploads: Arc<Mutex<Uploads<Options>>>,
}

/// A request that no longer depends on the order of messages, so it can run in parallel.
pub(crate) enum Work {
    Request {
        id: i64,
        verb: String,
        path: String,
        body: String,
    },
    Upload {
        id: i64,
        progress: Progress<Options>,
    },
}

impl Routes {
    pub(crate) fn new(enclave: Arc<Enclave>, connection: u64, outbox: Outbox) -> Self {
        let server = enclave.server;
        Self {
            enclave,
            connection,
            outbox,
            uploads: Arc::new(Mutex::new(Uploads::new(server))),
        }
    }

    /// Handles a message in the order of arrival: a chunk must find the upload that it belongs to.
    pub(crate) fn take(&self, asked: Asked) -> Option<Work> {
        let (id, progress) = match asked {
            Asked::Open {
                id,
                verb,
                path,
                body,
                chunk: Some(chunk),
            } if verb == "POST" && path == "/v1/document/extract" => {
                (id, self.open_upload(id, &body, chunk))
            }
            Asked::Open {
                id,
                verb,
                path,
                body,
                ..
            } => {
                return Some(Work::Request {
                    id,
                    verb,
                    path,
                    body,
                });
            }
            Asked::Continue { id, chunk } => (id, self.uploads().proceed(id, chunk)),
        };
        self.ended(id, self.misbehave(id, progress))
    }

    /// Logs the end of an upload, and returns its answer.
    fn ended(&self, id: i64, progress: Progress<Options>) -> Option<Work> {
        let (outcome, data) = match &progress {
            Progress::Quiet => return None,
            Progress::Complete(_, data) => ("complete", data),
            Progress::Refused(_, _, data) => ("refused", data),
        };
        self.enclave.log.write(
            self.connection,
            "upload",
            json!({ "id": id, "outcome": outcome, "bytes": data.len(), "sha256": sha256(data) }),
        );
        Some(Work::Upload { id, progress })
    }

    /// Changes an upload's progress as the fault demands.
    fn misbehave(&self, id: i64, progress: Progress<Options>) -> Progress<Options> {
        let fault = self.twists().iter().find_map(|twist| match twist {
            Twist::Upload(upload) => Some(*upload),
            _ => None,
        });
        match (fault, progress) {
            (Some(Upload::AnswersEarly), Progress::Quiet) => match self.uploads().cut_short(id) {
                Some((options, data)) => Progress::Complete(options.of_a_part(), data),
                None => Progress::Quiet,
            },
            (Some(Upload::RefusedMidway), Progress::Quiet)
                if self.uploads().chunks(id) == REFUSED_AFTER =>
            {
                self.uploads().refuse(id, MIDWAY.0, MIDWAY.1)
            }
            (Some(Upload::RefusedMidway), Progress::Complete(_, data)) => {
                Progress::Refused(MIDWAY.0, MIDWAY.1, data)
            }
            (_, progress) => progress,
        }
    }

    fn twists(&self) -> &'static [Twist] {
        self.enclave.twists(self.connection)
    }

    /// Drops the chunks of a request that was refused unread.
    pub(crate) fn forget_upload(&self, id: i64) {
        self.uploads().refuse(id, 0, "");
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, Uploads<Options>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_upload(&self, id: i64, body: &str, chunk: Chunk) -> Progress<Options> {
        match document::read_options(self.enclave.server, body) {
            Ok(options) => {
                let length = options.length;
                let progress = self.uploads().open(id, options, length, chunk);
                if self.uploads().waits_for_chunks(id) {
                    tokio::spawn(self.clone().expire_upload(id));
                }
                progress
            }
            Err((status, reason)) => self.uploads().refuse(id, status, reason),
        }
    }

    /// Ends an upload that is not complete in time, unless the connection ends first.
    async fn expire_upload(self, id: i64) {
        let timeout = pin!(tokio::time::sleep(self.enclave.times.upload));
        let gone = pin!(self.outbox.closed());
        if let Either::Left(_) = future::select(timeout, gone).await {
            let progress = self.uploads().expire(id);
            if let Some(work) = self.ended(id, progress) {
                let _ = self.answer(work).await; // nobody to tell if the connection has ended
            }
        }
    }

    /// Answers a request completely.
    pub(crate) async fn answer(&self, work: Work) -> Result<(), Gone> {
        let (id, verb, path, body) = match work {
            Work::Request {
                id,
                verb,
                path,
                body,
            } => (id, verb, path, body),
            Work::Upload { id, progress } => {
                return self.document(id, self.extracted(progress)).await;
            }
        };
        let server = self.enclave.server;
        match (verb.as_str(), path.as_str()) {
            ("GET", "/ping") => self.reply(id, Ok("PONG".to_owned())).await,
            ("POST", "/v1/vllm/chat/completions") => self.chat(id, &body).await,
            ("POST", "/v1/embeddings") => {
                self.reply(
                    id,
                    embeddings::answer(&body).map_err(|reason| (400, reason)),
                )
                .await
            }
            ("POST", "/v1/document/extract") => {
                self.reply(id, Err((400, "an upload needs a chunk"))).await
            }
            ("POST", "/v2/document/extract") if server.has_newer_routes() => {
                let answer = document::extract_stored(server, &body);
                self.document(id, answer).await
            }
            ("POST", "/v1/fetch/html") if server.has_newer_routes() => {
                self.reply(id, fetch::answer(&body)).await
            }
            _ => self.reply(id, Err((404, "Route not found"))).await,
        }
    }

    async fn reply(&self, id: i64, answer: Result<String, (i32, &str)>) -> Result<(), Gone> {
        self.uploads().answered(id); // if it is the response to an upload
        let (status, body) = match answer {
            Ok(body) => (200, body),
            Err((status, reason)) => (status, reason.to_owned()),
        };
        send(&self.outbox, Outgoing::Response(response(id, status, body))).await
    }

    async fn document(&self, id: i64, answer: Result<Answer, Refusal>) -> Result<(), Gone> {
        let fault = self.twists().iter().find_map(|twist| match twist {
            Twist::Document(script) => Some(*script),
            _ => None,
        });
        match (answer, fault) {
            (Ok(_), Some(fault)) => {
                let steps = fault(id).into_iter();
                let steps = steps.filter(|step| !self.is_never_sent(step));
                self.stream(id, script(steps.collect::<Vec<_>>())).await?;
                self.uploads().answered(id);
                Ok(())
            }
            (Ok(answer), None) => {
                let mut pieces = answer.pieces(id).into_iter().peekable();
                while let Some(piece) = pieces.next() {
                    if pieces.peek().is_none() {
                        self.uploads().answered(id);
                    }
                    send(&self.outbox, Outgoing::Response(piece)).await?;
                }
                self.uploads().answered(id); // 0.1.14 may send no piece at all
                Ok(())
            }
            (Err(refusal), _) => self.reply(id, Err(refusal)).await,
        }
    }

    /// Version 0.1.14 sends no piece if a document's answer is empty.
    fn is_never_sent(&self, step: &Step) -> bool {
        let Step::Send(Outgoing::Response(piece)) = step else {
            return false;
        };
        let is_empty = piece.body.as_ref().is_none_or(|body| body.is_empty());
        is_empty && self.enclave.server == Server::V0_1_14
    }

    async fn stream(&self, id: i64, steps: Steps) -> Result<(), Gone> {
        stream(&self.outbox, id, steps, self.enclave.server).await
    }

    async fn chat(&self, id: i64, body: &str) -> Result<(), Gone> {
        let chat = match chat::read(self.enclave.server, body) {
            Ok(chat) => chat,
            Err((status, reason)) => return self.reply(id, Err((status, &reason))).await,
        };
        let fault = self.twists().iter().find_map(|twist| match twist {
            Twist::Answer(script) if chat.stream => Some(*script),
            _ => None,
        });
        let steps: Steps = match (fault, &self.enclave.upstream) {
            (Some(fault), _) => script(fault(id)),
            (None, Some(upstream)) if chat.failure.is_none() => upstream.answer(&chat),
            (None, _) => script(chat.answer(body)),
        };
        if chat.stream {
            self.stream(id, steps).await
        } else {
            text(&self.outbox, id, steps, self.enclave.server).await
        }
    }

    fn extracted(&self, progress: Progress<Options>) -> Result<Answer, Refusal> {
        match progress {
            Progress::Complete(options, document) => {
                document::extract(self.enclave.server, &options, &document)
            }
            Progress::Refused(status, reason, _) => Err((status, reason)),
            Progress::Quiet => Err((500, "nothing was asked")),
        }
    }
}
