//! Faults of uploads (protocol.md section 6) and of the response to a document, which ends after
//! `Content-Length` bytes (section 4).

use std::collections::HashMap;

use super::Scope::Document;
use super::{Expect, Fault, Twist, Upload, ends};
use crate::answer::{Outgoing, Step};
use crate::wire::{Response, response};

const PROTOCOL: &str = "CONFER_E_PROTOCOL";
/// The response in two pieces.
const PIECES: [&str; 2] = ["{\"text\":", "\"hello\"}"];
const LENGTH: &str = "16";

const fn well(name: &'static str, description: &'static str, twists: &'static [Twist]) -> Fault {
    Fault {
        name,
        expect: Expect::Ok,
        scope: Document,
        description,
        twists,
    }
}

/// Makes a piece with these headers.
fn piece(id: i64, body: &'static str, headers: &[(&str, &str)]) -> Step {
    let headers: HashMap<_, _> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Step::Send(Outgoing::Response(Response {
        headers,
        ..response(id, 200, body)
    }))
}

/// Makes a response whose two pieces have these lengths in their headers.
fn lengths(id: i64, first: &str, second: &str) -> Vec<Step> {
    let header = |length| [("Content-Length", length)];
    vec![
        piece(id, PIECES[0], &header(first)),
        piece(id, PIECES[1], &header(second)),
    ]
}

pub(super) const FAULTS: &[Fault] = &[
    // ---- uploads
    well(
        "upload-answers-early",
        "a whole answer after the first chunk, while more chunks come",
        &[Twist::Upload(Upload::AnswersEarly)],
    ),
    ends(
        Document,
        "CONFER_E_REFUSED",
        "upload-refused-midway",
        "status 422 after the third chunk, or at the end if fewer come",
        &[Twist::Upload(Upload::RefusedMidway)],
    ),
    well(
        "upload-opens-late",
        "the message that opens an upload waits for 300 ms, and chunks overtake it",
        &[Twist::Upload(Upload::OpensLate)],
    ),
    ends(
        Document,
        "CONFER_E_STREAM_IDLE",
        "upload-never-answered",
        "the document is taken, pings are answered, and nothing else",
        &[Twist::Document(|_| Vec::new())],
    ),
    ends(
        Document,
        "CONFER_E_DEAD_PEER",
        "upload-not-read",
        "the socket is read no more after 256 KiB, and nothing answered, pings neither",
        &[Twist::Upload(Upload::NotRead)],
    ),
    // ---- answers
    ends(
        Document,
        PROTOCOL,
        "document-no-length",
        "no Content-Length",
        &[Twist::Document(|id| {
            PIECES.map(|body| piece(id, body, &[])).into()
        })],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-once",
        "a Content-Length on the first piece alone",
        &[Twist::Document(|id| {
            vec![
                piece(id, PIECES[0], &[("Content-Length", LENGTH)]),
                piece(id, PIECES[1], &[]),
            ]
        })],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-changes",
        "a Content-Length that grows",
        &[Twist::Document(|id| lengths(id, LENGTH, "17"))],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-negative",
        "a Content-Length of -1",
        &[Twist::Document(|id| lengths(id, "-1", "-1"))],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-plus",
        "a Content-Length with a sign",
        &[Twist::Document(|id| lengths(id, "+16", "+16"))],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-empty",
        "an empty Content-Length",
        &[Twist::Document(|id| lengths(id, "", ""))],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-length-13-digits",
        "a Content-Length of 13 digits",
        &[Twist::Document(|id| {
            lengths(id, "0000000000016", "0000000000016")
        })],
    ),
    ends(
        Document,
        PROTOCOL,
        "document-too-long",
        "more bytes than announced",
        &[Twist::Document(|id| lengths(id, "15", "15"))],
    ),
    ends(
        Document,
        "CONFER_E_STREAM_IDLE",
        "document-too-short",
        "fewer bytes than announced",
        &[Twist::Document(|id| lengths(id, "17", "17"))],
    ),
    ends(
        Document,
        "CONFER_E_REFUSED",
        "document-midstream-500",
        "status 500 between the pieces",
        &[Twist::Document(|id| {
            vec![
                piece(id, PIECES[0], &[("Content-Length", LENGTH)]),
                Step::Refuse(500, "failed".into()),
            ]
        })],
    ),
    well(
        "document-length-zero",
        "a Content-Length of 0, which ends at once",
        &[Twist::Document(|id| {
            vec![piece(id, "", &[("Content-Length", "0")])]
        })],
    ),
    well(
        "document-lower-case",
        "content-length in lower case, then in upper case",
        &[Twist::Document(|id| {
            vec![
                piece(id, PIECES[0], &[("content-length", LENGTH)]),
                piece(id, PIECES[1], &[("CONTENT-LENGTH", LENGTH)]),
            ]
        })],
    ),
    well(
        "document-12-digits",
        "a Content-Length with leading zeros, of 12 digits",
        &[Twist::Document(|id| {
            lengths(id, "000000000016", "000000000016")
        })],
    ),
    well(
        "document-one-byte-pieces",
        "a piece for each byte",
        &[Twist::Document(|id| {
            let whole = "{\"text\":\"hello\"}";
            (0..whole.len())
                .map(|at| piece(id, &whole[at..=at], &[("Content-Length", LENGTH)]))
                .collect()
        })],
    ),
];
