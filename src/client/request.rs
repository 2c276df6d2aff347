//! Requests to every route except the chat's, one type for each kind (protocol section 4).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Ending, Reading, Transfer};
use super::argument::invalid;
use super::event::Event;
use super::inbox::Inbox;
use super::size::Size;
use super::upload::Document;
use super::writes::Writes;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Exchange, Lifecycle};
use crate::session::Request;

/// Most texts of one embeddings request (protocol section 4).
pub const MAX_TEXTS: usize = 64;
/// Most bytes of a verb and of a path.
pub const MAX_VERB: usize = 32;
/// See [`MAX_VERB`].
pub const MAX_PATH: usize = 2_048;
/// Most headers of one fetch.
pub const MAX_FETCH_HEADERS: usize = 64;

/// A request of any route: verb, path, body and ending.
#[derive(Clone)]
pub struct RawRequest {
    verb: String,
    path: String,
    body: String,
    ending: Ending,
    size: Size,
}

impl RawRequest {
    /// Creates a request without a body.
    pub fn new(verb: &str, path: &str, ending: Ending) -> Result<RawRequest> {
        for (name, text, most) in [("verb", verb, MAX_VERB), ("path", path, MAX_PATH)] {
            if text.is_empty() || text.len() > most || text.contains(['\0', '\r', '\n']) {
                return invalid(format!(
                    "{name}: invalid text (expected 1 to {most} bytes on one line, without NUL)"
                ));
            }
        }
        Ok(RawRequest {
            verb: verb.into(),
            path: path.into(),
            body: String::new(),
            ending,
            size: Size::default(),
        })
    }

    /// Sets the body.
    pub fn set_body(&mut self, body: &str) -> Result<()> {
        self.size.replace(self.body.len(), body.len())?;
        self.body = body.into();
        Ok(())
    }

    /// Returns the request ready to be sent.
    pub fn prepare(&self) -> Result<PreparedRequest> {
        Ok(PreparedRequest {
            verb: self.verb.clone().into(),
            path: self.path.clone().into(),
            body: self.body.clone().into(),
            reading: self.ending.reading(),
            document: None,
        })
    }
}

/// `POST /v1/embeddings`.
#[derive(Clone, Default)]
pub struct EmbeddingsRequest {
    texts: Vec<String>,
    is_query: bool,
    size: Size,
}

impl EmbeddingsRequest {
    /// Sets whether the texts are queries, or texts to search.
    pub fn set_is_query(&mut self, is_query: bool) {
        self.is_query = is_query;
    }

    /// Adds a text.
    pub fn add_text(&mut self, text: &str) -> Result<()> {
        if self.texts.len() == MAX_TEXTS {
            let message = format!(
                "text: the request already has {MAX_TEXTS} texts, the most that it can have"
            );
            return Err(Error::new(Status::TooLarge, message));
        }
        self.size.grow(text.len())?;
        self.texts.push(text.into());
        Ok(())
    }

    /// Returns the request ready to be sent.
    ///
    /// # Errors
    /// `InvalidArgument` without a text.
    pub fn prepare(&self) -> Result<PreparedRequest> {
        if self.texts.is_empty() {
            return invalid("request: it has no text".into());
        }
        let body = json!({ "texts": self.texts, "isQuery": self.is_query });
        let texts = self.texts.len();
        let reading = Reading::Embeddings { texts };
        Ok(PreparedRequest::post("/v1/embeddings", body, reading))
    }
}

/// `POST /v1/fetch/html`.
#[derive(Clone)]
pub struct FetchRequest {
    url: String,
    headers: Map<String, Value>,
    size: Size,
}

impl FetchRequest {
    /// Creates a request for this page.
    pub fn new(url: &str) -> Result<FetchRequest> {
        if url.is_empty() {
            return invalid("url: it is empty".into());
        }
        let mut size = Size::default();
        size.grow(url.len())?;
        Ok(FetchRequest {
            url: url.into(),
            headers: Map::new(),
            size,
        })
    }

    /// Sets a header of the fetch.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<()> {
        if name.is_empty() {
            return invalid("name: it is empty".into());
        }
        if self.headers.len() == MAX_FETCH_HEADERS && !self.headers.contains_key(name) {
            let message = format!(
                "name: the request already has {MAX_FETCH_HEADERS} headers, the most that it can have"
            );
            return Err(Error::new(Status::TooLarge, message));
        }
        let known = self.headers.get(name).and_then(Value::as_str);
        let old = known.map_or(0, |known| name.len() + known.len());
        self.size.replace(old, name.len() + value.len())?;
        self.headers.insert(name.into(), value.into());
        Ok(())
    }

    /// Returns the request ready to be sent.
    pub fn prepare(&self) -> Result<PreparedRequest> {
        let body = json!({ "url": self.url, "headers": self.headers });
        let reading = Reading::OneResponse;
        Ok(PreparedRequest::post("/v1/fetch/html", body, reading))
    }
}

/// `POST /v1/document/extract`.
#[derive(Clone)]
pub struct ExtractionRequest {
    options: Map<String, Value>,
    document: Option<Document>,
    size: Size,
}

impl ExtractionRequest {
    /// Creates a request for a document with this name.
    pub fn new(filename: &str) -> Result<ExtractionRequest> {
        if filename.is_empty() {
            return invalid("filename: it is empty".into());
        }
        let mut size = Size::default();
        size.grow(filename.len())?;
        Ok(ExtractionRequest {
            options: Map::from_iter([("filename".to_owned(), filename.into())]),
            document: None,
            size,
        })
    }

    /// Sets an option to a JSON value. It may be an option of later servers. The document sets
    /// `total_length`.
    pub fn set_option(&mut self, name: &str, json: &str) -> Result<()> {
        if name.is_empty() || ["filename", "total_length"].contains(&name) {
            return invalid("name: it is empty, or is set by the library".into());
        }
        let value: Value = serde_json::from_str(super::json::raw("json", json)?.get())
            .map_err(|_| Error::new(Status::InvalidJson, "json: it is not JSON"))?;
        let known = self.options.get(name);
        let old = known.map_or(0, |known| name.len() + known.to_string().len());
        self.size
            .replace(old, name.len() + value.to_string().len())?;
        self.options.insert(name.into(), value);
        Ok(())
    }

    /// Sets the document, and returns the replaced one.
    pub fn set_document(&mut self, document: Document) -> Option<Document> {
        self.document.replace(document)
    }

    /// Returns the request ready to be sent.
    ///
    /// # Errors
    /// `InvalidArgument` without a document.
    pub fn prepare(&self) -> Result<PreparedRequest> {
        let Some(document) = self.document.clone() else {
            return invalid("request: it has no document".into());
        };
        let mut options = self.options.clone();
        if let Some(length) = document.length() {
            options.insert("total_length".into(), length.into());
        }
        let reading = Ending::ContentLength.reading();
        Ok(PreparedRequest {
            document: Some(document),
            ..PreparedRequest::post("/v1/document/extract", Value::Object(options), reading)
        })
    }
}

/// A request ready to be sent.
pub struct PreparedRequest {
    verb: Cow<'static, str>,
    path: Cow<'static, str>,
    body: Bytes,
    reading: Reading,
    document: Option<Document>,
}

impl PreparedRequest {
    /// `GET /ping`.
    pub fn ping() -> PreparedRequest {
        PreparedRequest {
            verb: "GET".into(),
            path: "/ping".into(),
            body: Bytes::new(),
            reading: Reading::Ping { sent: None },
            document: None,
        }
    }

    fn post(path: &'static str, body: Value, reading: Reading) -> PreparedRequest {
        PreparedRequest {
            verb: "POST".into(),
            path: path.into(),
            body: body.to_string().into(),
            reading,
            document: None,
        }
    }

    /// Whether the answer is a text or bytes.
    pub(super) fn collects(&self) -> bool {
        !matches!(
            self.reading,
            Reading::Embeddings { .. } | Reading::Ping { .. }
        )
    }

    /// Sends the request. Returns the document that the application writes to the stream, if any.
    pub(super) fn send(
        self,
        life: &Lifecycle,
        exchange: &Arc<Exchange>,
        inbox: &Arc<Inbox<Event>>,
    ) -> Result<Option<Arc<Writes>>> {
        let transfer = self.document.as_ref().map(|document| Transfer {
            sent: 0,
            total: document.length(),
        });
        let (upload, writes) = match self.document {
            None => (None, None),
            Some(document) => {
                let (source, writes) = document.source(life)?;
                (Some(source), writes)
            }
        };
        let request = Request {
            verb: self.verb,
            path: self.path,
            body: self.body,
            upload,
            pace: self.reading.pace(),
        };
        let answer = Answer::new(self.reading, transfer, inbox.clone());
        life.request(request, exchange, answer)?;
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::MAX_BODY;

    #[test]
    fn a_part_that_is_replaced_gives_its_room_back_and_one_that_is_refused_takes_none() {
        let mut request = RawRequest::new("POST", "/x", Ending::OneResponse).unwrap();
        request.set_body(&"x".repeat(100)).unwrap();
        let too_large = "x".repeat(MAX_BODY + 1);
        let refused = request.set_body(&too_large).unwrap_err();
        assert_eq!(refused.status(), Status::TooLarge);
        for _ in 0..3 {
            request.set_body(&too_large[1..]).unwrap();
            request.set_body("x").unwrap();
        }
        let mut fetch = FetchRequest::new("http://x").unwrap();
        let mut extraction = ExtractionRequest::new("a").unwrap();
        let half = "y".repeat(MAX_BODY / 2);
        for _ in 0..3 {
            fetch.set_header("name", &half).unwrap();
            extraction
                .set_option("name", &format!("\"{half}\""))
                .unwrap();
        }
    }
}
