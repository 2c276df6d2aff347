//! Requests of every route but the chat: ping, embeddings, fetch, documents, and whatever will come (protocol section 4).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Ending, Reading, Transfer};
use super::event::Event;
use super::inbox::Inbox;
use super::size::Size;
use super::stream::Input;
use super::upload::Document;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Exchange, Lifecycle};
use crate::session::Request;

/// Texts of one embeddings request (protocol section 4).
pub const MAX_TEXTS: usize = 64;
/// Bytes of a verb and of a path that an application gives.
pub const MAX_VERB: usize = 32;
/// See [`MAX_VERB`].
pub const MAX_PATH: usize = 2_048;
/// Headers of one fetch.
pub const MAX_FETCH_HEADERS: usize = 64;

/// A request under construction.
#[derive(Clone)]
pub struct RouteRequest {
    route: Route,
    /// What all of its texts come to, about.
    size: Size,
}

#[derive(Clone)]
enum Route {
    Any {
        verb: String,
        path: String,
        body: String,
        ending: Ending,
    },
    Ping,
    Embeddings {
        texts: Vec<String>,
        is_query: bool,
    },
    Fetch {
        url: String,
        headers: Map<String, Value>,
    },
    Extraction {
        options: Map<String, Value>,
        document: Option<Document>,
    },
}

impl Route {
    fn name(&self) -> &'static str {
        match self {
            Route::Any { .. } => "a general",
            Route::Ping => "a ping",
            Route::Embeddings { .. } => "an embeddings",
            Route::Fetch { .. } => "a fetch",
            Route::Extraction { .. } => "an extraction",
        }
    }
}

impl RouteRequest {
    fn new(route: Route) -> RouteRequest {
        RouteRequest {
            route,
            size: Size::default(),
        }
    }

    /// Any route: its verb, its path, and how its answer ends.
    pub fn any(verb: &str, path: &str, ending: Ending) -> Result<RouteRequest> {
        for (name, text, most) in [("verb", verb, MAX_VERB), ("path", path, MAX_PATH)] {
            if text.is_empty() || text.len() > most || text.contains(['\0', '\r', '\n']) {
                let message = format!(
                    "{name}: invalid text (expected 1 to {most} bytes on one line, without NUL)"
                );
                return Err(Error::new(Status::InvalidArgument, message));
            }
        }
        Ok(RouteRequest::new(Route::Any {
            verb: verb.into(),
            path: path.into(),
            body: String::new(),
            ending,
        }))
    }

    /// `GET /ping`.
    pub fn ping() -> RouteRequest {
        RouteRequest::new(Route::Ping)
    }

    /// `POST /v1/embeddings`.
    pub fn embeddings(is_query: bool) -> RouteRequest {
        RouteRequest::new(Route::Embeddings {
            texts: Vec::new(),
            is_query,
        })
    }

    /// `POST /v1/fetch/html`.
    pub fn fetch(url: &str) -> Result<RouteRequest> {
        if url.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "url: it is empty"));
        }
        let mut request = RouteRequest::new(Route::Fetch {
            url: url.into(),
            headers: Map::new(),
        });
        request.size.grow(url.len())?;
        Ok(request)
    }

    /// `POST /v1/document/extract`.
    pub fn extraction(filename: &str) -> Result<RouteRequest> {
        if filename.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "filename: it is empty"));
        }
        let mut request = RouteRequest::new(Route::Extraction {
            options: Map::from_iter([("filename".to_owned(), filename.into())]),
            document: None,
        });
        request.size.grow(filename.len())?;
        Ok(request)
    }

    fn not_for(&self, what: &str) -> Error {
        let message = format!(
            "request: {what} cannot be set on {} request",
            self.route.name()
        );
        Error::new(Status::InvalidArgument, message)
    }

    /// The body of a general request.
    pub fn set_body(&mut self, text: &str) -> Result<()> {
        let Route::Any { body, .. } = &self.route else {
            return Err(self.not_for("a body"));
        };
        self.size.replace(body.len(), text.len())?;
        if let Route::Any { body, .. } = &mut self.route {
            *body = text.into();
        }
        Ok(())
    }

    /// One more text to embed.
    pub fn add_text(&mut self, text: &str) -> Result<()> {
        let Route::Embeddings { texts, .. } = &self.route else {
            return Err(self.not_for("a text"));
        };
        if texts.len() == MAX_TEXTS {
            let message = format!(
                "text: the request already has {MAX_TEXTS} texts, the most that it can have"
            );
            return Err(Error::new(Status::TooLarge, message));
        }
        self.size.grow(text.len())?;
        if let Route::Embeddings { texts, .. } = &mut self.route {
            texts.push(text.into());
        }
        Ok(())
    }

    /// A header with which the page is fetched; a name that was set before gets the new value.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<()> {
        let Route::Fetch { headers, .. } = &self.route else {
            return Err(self.not_for("a header"));
        };
        if name.is_empty() {
            return Err(Error::new(Status::InvalidArgument, "name: it is empty"));
        }
        if headers.len() == MAX_FETCH_HEADERS && !headers.contains_key(name) {
            let message = format!(
                "name: the request already has {MAX_FETCH_HEADERS} headers, the most that it can have"
            );
            return Err(Error::new(Status::TooLarge, message));
        }
        let known = headers.get(name).and_then(Value::as_str);
        let old = known.map_or(0, |known| name.len() + known.len());
        self.size.replace(old, name.len() + value.len())?;
        if let Route::Fetch { headers, .. } = &mut self.route {
            headers.insert(name.into(), value.into());
        }
        Ok(())
    }

    /// An option of an extraction, as JSON; the newer ones too that this version does not know. `total_length` is set by
    /// the document, `filename` when the request is made.
    pub fn set_option(&mut self, name: &str, json: &str) -> Result<()> {
        let Route::Extraction { options, .. } = &self.route else {
            return Err(self.not_for("an option"));
        };
        if name.is_empty() || ["filename", "total_length"].contains(&name) {
            let message = "name: it is empty, or is set by the library";
            return Err(Error::new(Status::InvalidArgument, message));
        }
        let value: Value = serde_json::from_str(super::json::raw("json", json)?.get())
            .map_err(|_| Error::new(Status::InvalidJson, "json: it is not JSON"))?;
        let known = options.get(name);
        let old = known.map_or(0, |known| name.len() + known.to_string().len());
        self.size
            .replace(old, name.len() + value.to_string().len())?;
        if let Route::Extraction { options, .. } = &mut self.route {
            options.insert(name.into(), value);
        }
        Ok(())
    }

    /// The document of an extraction. Returns the one whose place it takes, and itself where it has none.
    pub fn set_document(
        &mut self,
        new: Document,
    ) -> std::result::Result<Option<Document>, (Error, Document)> {
        let Route::Extraction { document, .. } = &mut self.route else {
            return Err((self.not_for("a document"), new));
        };
        Ok(document.replace(new))
    }

    /// The request as it will be sent.
    ///
    /// # Errors
    /// `InvalidArgument` for embeddings of no text, and for an extraction without a document, or with one that was sent.
    pub fn prepare(&self) -> Result<PreparedRequest> {
        let missing = |what: &str| {
            let message = format!("request: {what}");
            Err(Error::new(Status::InvalidArgument, message))
        };
        let prepared = |verb, path, body: String, reading| PreparedRequest {
            verb: Cow::Borrowed(verb),
            path: Cow::Borrowed(path),
            body: body.into(),
            reading,
            document: None,
        };
        Ok(match &self.route {
            Route::Any {
                verb,
                path,
                body,
                ending,
            } => PreparedRequest {
                verb: verb.clone().into(),
                path: path.clone().into(),
                body: body.clone().into(),
                reading: ending.reading(),
                document: None,
            },
            Route::Ping => {
                let reading = Reading::Ping { sent: None };
                prepared("GET", "/ping", String::new(), reading)
            }
            Route::Embeddings { texts, is_query } => {
                if texts.is_empty() {
                    return missing("it has no text");
                }
                let body = json!({ "texts": texts, "isQuery": is_query });
                let texts = texts.len();
                let reading = Reading::Embeddings { texts };
                prepared("POST", "/v1/embeddings", body.to_string(), reading)
            }
            Route::Fetch { url, headers } => {
                let body = json!({ "url": url, "headers": headers });
                let reading = Reading::OneResponse;
                prepared("POST", "/v1/fetch/html", body.to_string(), reading)
            }
            Route::Extraction { options, document } => {
                let Some(document) = document else {
                    return missing("it has no document");
                };
                let document = document.clone();
                let mut options = options.clone();
                if let Some(length) = document.length() {
                    options.insert("total_length".into(), length.into());
                }
                let body = Value::Object(options).to_string();
                let reading = Ending::ContentLength.reading();
                PreparedRequest {
                    document: Some(document),
                    ..prepared("POST", "/v1/document/extract", body, reading)
                }
            }
        })
    }
}

/// A request that can be sent.
pub struct PreparedRequest {
    verb: Cow<'static, str>,
    path: Cow<'static, str>,
    body: Bytes,
    reading: Reading,
    document: Option<Document>,
}

impl PreparedRequest {
    pub(super) fn send(
        self,
        life: &Lifecycle,
        exchange: &Arc<Exchange>,
        inbox: &Arc<Inbox<Event>>,
    ) -> Result<Input> {
        let transfer = self.document.as_ref().map(|document| Transfer {
            sent: 0,
            total: document.length(),
        });
        let (upload, input) = match self.document {
            None => (None, Input::Nothing),
            Some(document) => {
                let (source, input) = document.source(life)?;
                (Some(source), input)
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
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::MAX_BODY;

    #[test]
    fn a_part_that_is_replaced_gives_its_room_back_and_one_that_is_refused_takes_none() {
        let mut request = RouteRequest::any("POST", "/x", Ending::OneResponse).unwrap();
        request.set_body(&"x".repeat(100)).unwrap();
        let too_large = "x".repeat(MAX_BODY + 1);
        let refused = request.set_body(&too_large).unwrap_err();
        assert_eq!(refused.status(), Status::TooLarge);
        for _ in 0..3 {
            request.set_body(&too_large[1..]).unwrap();
            request.set_body("x").unwrap();
        }
        let mut fetch = RouteRequest::fetch("http://x").unwrap();
        let mut extraction = RouteRequest::extraction("a").unwrap();
        let half = "y".repeat(MAX_BODY / 2);
        for _ in 0..3 {
            fetch.set_header("name", &half).unwrap();
            extraction
                .set_option("name", &format!("\"{half}\""))
                .unwrap();
        }
    }
}
