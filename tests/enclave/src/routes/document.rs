//! `POST /v1/document/extract` and `/v2/document/extract`: what a request must be, and the documents they answer.
//!
//! Specification: protocol.md sections 4 and 6. What is extracted is what can be told of any bytes.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::log::sha256;
use crate::wire::{Response, response};

/// The longest piece of an answer.
const PIECE: usize = 16 << 10;
const SUPPORTED: [&str; 8] = [
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "image/jpeg",
    "image/png",
    "text/csv",
    "text/html",
    "text/markdown",
    "text/plain",
];

/// What the request that opens an upload says.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    filename: String,
    content_type: Option<String>,
    pub(crate) total_length: Option<usize>,
}

impl Options {
    /// For a part of the document: it may end within a character, so it is no text.
    pub(crate) fn of_a_part(self) -> Self {
        Self {
            content_type: None,
            ..self
        }
    }
}

/// A status and a reason.
pub(crate) type Refusal = (i32, &'static str);

pub(crate) fn read_options(body: &str) -> Result<Options, Refusal> {
    let Ok(Value::Object(options)) = serde_json::from_str(body) else {
        return Err((400, "body is not a JSON object"));
    };
    let filename = options
        .get("filename")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    let filename = filename.ok_or((400, "filename is required"))?.to_owned();
    for name in ["ocr", "table_structure", "include_images"] {
        if !matches!(options.get(name), None | Some(Value::Null | Value::Bool(_))) {
            return Err((400, "an option that must be true or false is neither"));
        }
    }
    if !matches!(
        options.get("image_export_mode"),
        None | Some(Value::Null | Value::String(_))
    ) {
        return Err((400, "image_export_mode must be a string"));
    }
    let total_length = match options.get("total_length") {
        None | Some(Value::Null) => None,
        Some(length) => {
            let length = length
                .as_u64()
                .and_then(|length| usize::try_from(length).ok());
            Some(length.ok_or((400, "total_length must be a length"))?)
        }
    };
    let content_type = match options.get("content_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) if SUPPORTED.contains(&kind.as_str()) => Some(kind.clone()),
        Some(_) => return Err((415, "unsupported content type")),
    };
    Ok(Options {
        filename,
        content_type,
        total_length,
    })
}

/// What is extracted from an uploaded document.
pub(crate) fn extract(options: &Options, document: &[u8]) -> Result<String, Refusal> {
    let is_text = options
        .content_type
        .as_deref()
        .is_some_and(|kind| kind.starts_with("text/"));
    let text = match std::str::from_utf8(document) {
        Ok(text) if is_text => Some(text),
        Err(_) if is_text => return Err((422, "the document is no UTF-8 text")),
        _ => None,
    };
    Ok(json!({
        "filename": options.filename,
        "content_type": options.content_type,
        "length": document.len(),
        "sha256": sha256(document),
        "text": text,
    })
    .to_string())
}

/// What is extracted from a stored document: there is no store, so its reference alone is told, without the key.
pub(crate) fn extract_stored(body: &str) -> Result<String, Refusal> {
    match serde_json::from_str(body) {
        Ok(Value::Object(mut reference)) if !reference.is_empty() => {
            reference.remove("encryptionKey");
            Ok(json!({ "reference": reference, "text": "A stored document." }).to_string())
        }
        _ => Err((400, "body is not a document's reference")),
    }
}

/// An answer's pieces, at least two where there are two bytes, each with the length of the whole.
pub(crate) fn pieces(id: i64, answer: String) -> Vec<Response> {
    let answer = Bytes::from(answer);
    let size = answer.len().div_ceil(2).clamp(1, PIECE);
    let headers = HashMap::from([("Content-Length".to_owned(), answer.len().to_string())]);
    (0..answer.len())
        .step_by(size)
        .map(|start| Response {
            headers: headers.clone(),
            ..response(id, 200, answer.slice(start..answer.len().min(start + size)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_refused_with_the_status_that_fits() {
        let status = |body: Value| {
            read_options(&body.to_string())
                .map_err(|(status, _)| status)
                .err()
        };
        assert_eq!(
            status(json!({ "filename": "a.txt", "content_type": "text/plain", "total_length": 3 })),
            None
        );
        assert_eq!(status(json!([])), Some(400));
        assert_eq!(status(json!({ "content_type": "text/plain" })), Some(400));
        assert_eq!(
            status(json!({ "filename": "a", "total_length": -1 })),
            Some(400)
        );
        assert_eq!(status(json!({ "filename": "a", "ocr": "yes" })), Some(400));
        assert_eq!(
            status(json!({ "filename": "a", "content_type": "audio/mpeg" })),
            Some(415)
        );
    }

    #[test]
    fn text_that_is_none_cannot_be_processed() {
        let options =
            read_options(r#"{"filename":"a","content_type":"text/plain"}"#).expect("good");
        assert_eq!(
            extract(&options, b"\xff").map_err(|(status, _)| status),
            Err(422)
        );
        assert!(
            extract(&options, b"word")
                .expect("text")
                .contains("\"text\":\"word\"")
        );
    }

    #[test]
    fn pieces_add_up_to_the_length_they_state() {
        for length in [2, 3, PIECE, 5 * PIECE + 1] {
            let pieces = pieces(1, "x".repeat(length));
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
