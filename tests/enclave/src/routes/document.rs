//! `POST /v1/document/extract` and `/v2/document/extract`: the rules for requests, and the answers.
//!
//! Specification: protocol.md sections 4 and 6. A text is extracted unchanged. Any other document
//! gives its name, length and hash.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::log::sha256;
use crate::server::Server;
use crate::wire::{Response, response};

/// The longest piece of an answer.
const PIECE: usize = 16 << 10;
/// Treated as if the media type were absent.
const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";
const STORED_JSON: &str = "application/vnd.confer.document-extraction+json";
/// The content of every stored document, because the enclave has no store.
const STORED_TEXT: &str = "A stored document.";
/// Characters of a stored document in an answer, unless the request gives a number.
const INLINE_CHARACTERS: u64 = 256 << 10;

/// Media types that newer servers derive from the ending of the file's name.
const BY_NAME: [(&str, &str); 13] = [
    (".pdf", "application/pdf"),
    (
        ".docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    (
        ".pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    (
        ".xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    (".html", "text/html"),
    (".htm", "text/html"),
    (".md", "text/markdown"),
    (".txt", "text/plain"),
    (".csv", "text/csv"),
    (".json", JSON),
    (".xml", "application/xml"),
    (".yaml", "application/x-yaml"),
    (".yml", "application/x-yaml"),
];
/// Media types that a request must state.
const BY_REQUEST: [&str; 6] = [
    "application/javascript",
    "text/css",
    "text/javascript",
    "text/x-markdown",
    "text/xml",
    "text/yaml",
];

/// The properties of the request that opens an upload.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    filename: String,
    kind: Kind,
    /// The length that newer servers enforce.
    pub(crate) length: Option<usize>,
}

/// The kind of a document.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Text, by the request's `content_type`.
    Text,
    /// Known only by its name: text if its bytes are.
    PerhapsText,
    Other,
}

impl Options {
    /// Returns the kind for a part of a document, which may end inside a character.
    pub(crate) fn of_a_part(self) -> Self {
        Self {
            kind: Kind::Other,
            ..self
        }
    }
}

/// A status and a reason.
pub(crate) type Refusal = (i32, &'static str);

const INVALID: Refusal = (400, "Invalid document extraction request");

pub(crate) fn read_options(server: Server, body: &str) -> Result<Options, Refusal> {
    let options = object(body)?;
    let filename = not_blank(&options, "filename").ok_or((400, "filename is required"))?;
    let said = match options.get("content_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(_) => return Err(INVALID),
    };
    let (media_type, length) = match server {
        Server::V0_1_14 => {
            for name in ["ocr", "table_structure", "include_images"] {
                if !matches!(options.get(name), None | Some(Value::Null | Value::Bool(_))) {
                    return Err(INVALID);
                }
            }
            match options.get("total_length") {
                None | Some(Value::Null) => {}
                Some(length) if length.is_i64() => {}
                Some(_) => return Err(INVALID),
            }
            (said.map(str::to_owned), None)
        }
        Server::Newer => {
            let length = total_length(server, &options)?;
            (Some(media_type(said, filename)?), Some(length))
        }
    };
    Ok(Options {
        filename: filename.to_owned(),
        kind: kind(media_type.as_deref(), said, filename),
        length,
    })
}

fn object(body: &str) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_str(body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(INVALID),
    }
}

fn not_blank<'a>(options: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let text = options.get(name)?.as_str()?;
    (!text.trim().is_empty()).then_some(text)
}

/// Returns the length that newer servers require.
fn total_length(server: Server, options: &Map<String, Value>) -> Result<usize, Refusal> {
    let length = options.get("total_length").and_then(Value::as_u64);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length
        .filter(|length| (1..=server.max_document()).contains(length))
        .ok_or(INVALID)
}

/// Returns the media type that newer servers assume: the stated one, or that of the file's name.
fn media_type(said: Option<&str>, filename: &str) -> Result<String, Refusal> {
    let said = said.unwrap_or_default().split(';').next();
    let mut found = said.unwrap_or_default().trim().to_ascii_lowercase();
    if found.is_empty() || found == OCTETS {
        found = by_name(filename).unwrap_or_default().to_owned();
    }
    let by_name = BY_NAME.iter().any(|(_, known)| *known == found);
    if by_name || BY_REQUEST.contains(&found.as_str()) {
        Ok(found)
    } else {
        Err((415, "Unsupported document type"))
    }
}

fn by_name(filename: &str) -> Option<&'static str> {
    let filename = filename.to_ascii_lowercase();
    let found = BY_NAME.iter().find(|(end, _)| filename.ends_with(end));
    found.map(|(_, kind)| *kind)
}

fn kind(media_type: Option<&str>, said: Option<&str>, filename: &str) -> Kind {
    let is_text = |kind: &str| kind.starts_with("text/");
    let media_type = media_type.filter(|kind| *kind != OCTETS);
    if said.is_some_and(is_text) {
        Kind::Text
    } else if media_type.or(by_name(filename)).is_some_and(is_text) {
        Kind::PerhapsText
    } else {
        Kind::Other
    }
}

/// Returns the extraction of an uploaded document.
pub(crate) fn extract(
    server: Server,
    options: &Options,
    document: &[u8],
) -> Result<Answer, Refusal> {
    let text = match (std::str::from_utf8(document), options.kind) {
        (Ok(text), Kind::Text | Kind::PerhapsText) => text.to_owned(),
        (Err(_), Kind::Text) => return Err((422, "Document extraction failed")),
        _ => format!(
            "{}: {} bytes, SHA-256 {}",
            options.filename,
            document.len(),
            sha256(document)
        ),
    };
    let body = match server {
        // The form of Docling, whose answers this server passes on.
        Server::V0_1_14 => json!({
            "document": { "filename": options.filename, "md_content": text, "json_content": null, "html_content": null },
            "status": "success", "errors": [], "processing_time": 0.1,
        }),
        Server::Newer => json!({ "document": { "md_content": text } }),
    };
    Ok(Answer {
        body: body.to_string(),
        content_type: JSON,
    })
}

/// Returns the extraction of a stored document, given its reference.
pub(crate) fn extract_stored(server: Server, body: &str) -> Result<Answer, Refusal> {
    let options = object(body)?;
    let filename = not_blank(&options, "filename").ok_or(INVALID)?;
    let said = options.get("content_type").and_then(Value::as_str);
    total_length(server, &options)?;
    media_type(said, filename)?;
    for name in ["source_object_key", "encryption_key"] {
        not_blank(&options, name).ok_or((400, "Stored document reference is invalid"))?;
    }
    let most = match options.get("inline_text_max_characters") {
        None | Some(Value::Null) => INLINE_CHARACTERS,
        Some(most) => most.as_u64().ok_or(INVALID)?,
    };
    let mut answer = json!({ "text_length": STORED_TEXT.len() });
    if STORED_TEXT.len() as u64 <= most {
        answer["markdown"] = STORED_TEXT.into();
    }
    Ok(Answer {
        body: answer.to_string(),
        content_type: STORED_JSON,
    })
}

/// The answer to a document.
#[derive(Debug)]
pub(crate) struct Answer {
    body: String,
    content_type: &'static str,
}

impl Answer {
    /// Splits the answer into pieces, each with the total length. Makes at least two from two
    /// bytes.
    pub(crate) fn pieces(self, id: i64) -> Vec<Response> {
        let answer = Bytes::from(self.body);
        let size = answer.len().div_ceil(2).clamp(1, PIECE);
        let headers = HashMap::from([
            ("Content-Length".to_owned(), answer.len().to_string()),
            ("Content-Type".to_owned(), self.content_type.to_owned()),
        ]);
        (0..answer.len())
            .step_by(size)
            .map(|start| Response {
                headers: headers.clone(),
                ..response(id, 200, answer.slice(start..answer.len().min(start + size)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(server: Server, body: &Value) -> Option<i32> {
        let read = read_options(server, &body.to_string());
        read.map_err(|(status, _)| status).err()
    }

    #[test]
    fn bad_options_are_refused_with_the_right_status() {
        const MAX: usize = 256 << 20;
        for (body, older, newer) in [
            (json!([]), Some(400), Some(400)),
            (json!({ "total_length": 3 }), Some(400), Some(400)),
            (json!({ "filename": "a.txt" }), None, Some(400)),
            (
                json!({ "filename": "a.txt", "total_length": 0 }),
                None,
                Some(400),
            ),
            (
                json!({ "filename": "a.txt", "total_length": -1 }),
                None,
                Some(400),
            ),
            (
                json!({ "filename": "a.txt", "total_length": "1" }),
                Some(400),
                Some(400),
            ),
            (
                json!({ "filename": "a.txt", "total_length": 1 }),
                None,
                None,
            ),
            (
                json!({ "filename": "a.txt", "total_length": MAX }),
                None,
                None,
            ),
            (
                json!({ "filename": "a.txt", "total_length": MAX + 1 }),
                None,
                Some(400),
            ),
            (
                json!({ "filename": "a.txt", "total_length": 1, "ocr": "yes" }),
                Some(400),
                None,
            ),
            (
                json!({ "filename": "a.bin", "total_length": 1 }),
                None,
                Some(415),
            ),
        ] {
            assert_eq!(status(Server::V0_1_14, &body), older, "{body}");
            assert_eq!(status(Server::Newer, &body), newer, "{body}");
        }
    }

    #[test]
    fn newer_servers_accept_only_listed_media_types() {
        for (filename, said, taken) in [
            ("a.pdf", None, true),
            ("A.PDF", Some("application/octet-stream"), true),
            ("a", Some("Text/Plain; charset=utf-8"), true),
            ("a", Some("text/x-markdown"), true),
            ("a.yml", Some(""), true),
            ("a.css", None, false),
            ("a.css", Some("text/css"), true),
            ("a.png", None, false),
            ("a.pdf", Some("image/png"), false),
            ("a", None, false),
        ] {
            let found = media_type(said, filename);
            assert_eq!(found.is_ok(), taken, "{filename} {said:?}");
        }
    }

    fn extracted(
        server: Server,
        filename: &str,
        kind: &str,
        document: &[u8],
    ) -> Result<Value, i32> {
        let body =
            json!({ "filename": filename, "content_type": kind, "total_length": document.len() });
        let options = read_options(server, &body.to_string()).expect("good options");
        let answer = extract(server, &options, document).map_err(|(status, _)| status)?;
        Ok(serde_json::from_str(&answer.body).expect("JSON"))
    }

    #[test]
    fn text_is_extracted_and_other_documents_described() {
        for server in [Server::V0_1_14, Server::Newer] {
            let text = |name, kind, document| {
                let answer = extracted(server, name, kind, document)?;
                Ok(answer["document"]["md_content"]
                    .as_str()
                    .expect("text")
                    .to_owned())
            };
            assert_eq!(text("a", "text/plain", b"word"), Ok("word".into()));
            assert_eq!(text("a.txt", OCTETS, b"word"), Ok("word".into()));
            assert_eq!(text("a", "text/plain", b"\xff"), Err(422));
            for (name, document) in [("a.txt", &b"\xff\x00"[..]), ("a.pdf", b"%P")] {
                let said = format!("{name}: 2 bytes, SHA-256 {}", sha256(document));
                assert_eq!(text(name, OCTETS, document), Ok(said));
            }
        }
        let exactly = json!({ "document": { "md_content": "word" } });
        assert_eq!(extracted(Server::Newer, "a.txt", "", b"word"), Ok(exactly));
    }

    #[test]
    fn a_stored_document_needs_its_whole_reference() {
        let good = json!({
            "filename": "a.pdf", "content_type": "application/pdf", "total_length": 9,
            "source_object_key": "k", "encryption_key": "e",
        });
        let answer = |request: &Value| {
            let answer = extract_stored(Server::Newer, &request.to_string());
            let answer = answer.map_err(|(status, _)| status)?;
            Ok::<Value, i32>(serde_json::from_str(&answer.body).expect("JSON"))
        };
        let whole = json!({ "text_length": 18, "markdown": "A stored document." });
        assert_eq!(answer(&good), Ok(whole));
        for (name, value, status) in [
            ("filename", json!(" "), 400),
            ("content_type", json!("image/png"), 415),
            ("total_length", json!(0), 400),
            ("source_object_key", Value::Null, 400),
            ("encryption_key", json!(""), 400),
            ("inline_text_max_characters", json!("9"), 400),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert_eq!(answer(&bad), Err(status), "{name}");
        }
        let mut short = good;
        short["inline_text_max_characters"] = 17.into();
        assert_eq!(answer(&short), Ok(json!({ "text_length": 18 })));
    }

    #[test]
    fn pieces_have_the_announced_total_length() {
        for length in [2, 3, PIECE, 5 * PIECE + 1] {
            let answer = Answer {
                body: "x".repeat(length),
                content_type: JSON,
            };
            let pieces = answer.pieces(1);
            assert!(pieces.len() > 1);
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.headers["Content-Length"] == length.to_string())
            );
            let sum: usize = pieces
                .iter()
                .filter_map(|piece| piece.body.as_ref())
                .map(Bytes::len)
                .sum();
            assert_eq!(sum, length);
        }
    }
}
