//! Encodes requests and decodes responses (protocol section 4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::DecodeContext;

use super::{Error, frugal, pb};

/// Most headers of one response. The protocol uses only `Content-Length` (section 4).
pub const MAX_HEADERS: usize = 64;
/// Most encoded bytes of all headers of one response.
pub const MAX_HEADER_BYTES: usize = 16 << 10;

/// A request to send.
#[derive(Clone)]
pub struct Request {
    /// Unique on the connection.
    pub id: i64,
    /// `GET` or `POST`. Never empty.
    pub verb: Cow<'static, str>,
    /// The route. Never empty.
    pub path: Cow<'static, str>,
    /// UTF-8 text. An empty body is left out.
    pub body: Bytes,
    /// The first chunk, if the request opens an upload.
    pub chunk: Option<Chunk>,
}

/// A part of an uploaded document (protocol section 6).
#[derive(Clone)]
pub struct Chunk {
    /// From 0.
    pub seq: u32,
    /// May be empty.
    pub data: Bytes,
    /// True for the last chunk.
    pub last: bool,
}

impl Request {
    /// Encodes the message.
    pub fn encode(self) -> Bytes {
        encode(pb::WebsocketRequest {
            id: Some(self.id),
            verb: Some(self.verb.into()),
            path: Some(self.path.into()),
            body: (!self.body.is_empty()).then_some(self.body),
            chunk: self.chunk.map(Chunk::into_message),
        })
    }
}

impl Chunk {
    /// Encodes the message that continues the upload of request `id`.
    pub fn encode(self, id: i64) -> Bytes {
        encode(pb::WebsocketRequest {
            id: Some(id),
            chunk: Some(self.into_message()),
            ..Default::default()
        })
    }

    fn into_message(self) -> pb::StreamChunk {
        pb::StreamChunk {
            data: (!self.data.is_empty()).then_some(self.data),
            r#final: Some(self.last),
            seq: Some(self.seq),
        }
    }
}

fn encode(request: pb::WebsocketRequest) -> Bytes {
    request.encode_to_vec().into()
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Request({} {}, body of {} bytes)", // a path can hold a secret
            self.id,
            self.verb,
            self.body.len()
        )
    }
}

/// A received response. Its required fields are present and in range.
pub struct Response {
    /// Id of the request.
    pub id: i64,
    /// 100 to 599.
    pub status: u16,
    /// A view of the received message, or a copy if it is a small part of it.
    pub body: Bytes,
    /// Names as received. Compare them without case.
    pub headers: HashMap<String, String>,
}

impl Response {
    /// Decodes a whole message. Fails without an `id`, or without a status from 100 to 599. Such a
    /// response ends the connection.
    pub fn decode(message: Bytes) -> Result<Response, Error> {
        let held = message.len();
        bound_headers(&message)?;
        let response = pb::WebsocketResponse::decode(message).map_err(not_a_response)?;
        let id = response
            .id
            .ok_or_else(|| Error::Message("the enclave sent a response without id".into()))?;
        let status = response
            .status
            .ok_or_else(|| Error::Message("the enclave sent a response without status".into()))?;
        let status = u16::try_from(status)
            .ok()
            .filter(|status| (100..=599).contains(status))
            .ok_or_else(|| {
                Error::Message(format!(
                    "the enclave sent a response with status {status} (expected 100 to 599)"
                ))
            })?;
        Ok(Response {
            id,
            status,
            body: frugal(response.body.unwrap_or_default(), held),
            headers: response.headers,
        })
    }
}

/// Counts the headers before prost decodes them: in a map they take many times their encoded size.
fn bound_headers(mut message: &[u8]) -> Result<(), Error> {
    /// `WebsocketResponse.headers`.
    const TAG: u32 = 4;
    let (mut count, mut bytes) = (0, 0);
    while !message.is_empty() {
        let before = message.len();
        // Not in prost's documentation, but its derive generates calls of these functions.
        let tag = prost::encoding::decode_key(&mut message)
            .and_then(|(tag, wire_type)| {
                prost::encoding::skip_field(
                    wire_type,
                    tag,
                    &mut message,
                    DecodeContext::default(),
                )?;
                Ok(tag)
            })
            .map_err(not_a_response)?;
        if tag == TAG {
            count += 1;
            bytes += before - message.len();
        }
    }
    if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(Error::Limit(format!(
            "the enclave sent a response with {count} headers of {bytes} bytes (at most {MAX_HEADERS} and {MAX_HEADER_BYTES})"
        )));
    }
    Ok(())
}

fn not_a_response(e: prost::DecodeError) -> Error {
    Error::Message(format!(
        "the enclave sent a message that is not a response: {e}"
    ))
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Response({} {}, body of {} bytes)",
            self.id,
            self.status,
            self.body.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(id: Option<i64>, status: Option<i32>) -> Result<Response, Error> {
        let response = pb::WebsocketResponse {
            id,
            status,
            ..Default::default()
        };
        Response::decode(response.encode_to_vec().into())
    }

    #[test]
    fn response_needs_id_and_status_from_100_to_599() {
        assert!(decode(None, Some(200)).is_err());
        assert!(decode(Some(1), None).is_err());
        for bad in [-1, 0, 99, 600, 65_736 /* 200 + 2^16 */, i32::MAX] {
            assert!(decode(Some(1), Some(bad)).is_err(), "{bad}");
        }
        for good in [100, 200, 599] {
            assert_eq!(decode(Some(-7), Some(good)).unwrap().status as i32, good);
        }
    }

    #[test]
    fn headers_have_a_limit_of_count_and_bytes() {
        let decode = |headers: HashMap<String, String>| {
            let (id, status) = (Some(1), Some(200));
            let response = pb::WebsocketResponse {
                id,
                status,
                headers,
                ..Default::default()
            };
            Response::decode(response.encode_to_vec().into())
        };
        let many = |n| (0..n).map(|i| (format!("h{i}"), "v".into())).collect();
        let long = |len| HashMap::from([("Content-Length".into(), "1".repeat(len))]);
        assert_eq!(
            decode(many(MAX_HEADERS)).unwrap().headers.len(),
            MAX_HEADERS
        );
        assert!(matches!(
            decode(many(MAX_HEADERS + 1)),
            Err(Error::Limit(_))
        ));
        assert!(decode(long(MAX_HEADER_BYTES - 100)).is_ok());
        assert!(matches!(
            decode(long(MAX_HEADER_BYTES)),
            Err(Error::Limit(_))
        ));
    }

    #[test]
    fn small_body_does_not_keep_its_message_in_memory() {
        let response = pb::WebsocketResponse {
            id: Some(1),
            status: Some(200),
            body: Some("x".into()),
            headers: HashMap::from([("h".into(), "v".repeat(1_000))]),
        };
        let message = Bytes::from(response.encode_to_vec());
        let within = message.as_ptr_range();
        let response = Response::decode(message.clone()).unwrap();
        assert_eq!(response.body, "x");
        assert!(!within.contains(&response.body.as_ptr()));
    }

    #[test]
    fn debug_output_omits_bodies() {
        let request = Request {
            id: 1,
            verb: "POST".into(),
            path: "/x".into(),
            body: Bytes::from_static(b"secret"),
            chunk: None,
        };
        assert!(!format!("{request:?}").contains("secret"));
        let pb = pb::WebsocketResponse {
            id: Some(1),
            status: Some(200),
            body: Some("secret".into()),
            ..Default::default()
        };
        assert!(
            !format!("{:?}", Response::decode(pb.encode_to_vec().into()).unwrap())
                .contains("secret")
        );
    }
}
