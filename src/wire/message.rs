//! Requests and responses as whole messages (protocol section 4).

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use prost::Message as _;

use super::{Error, pb};

/// A request as it goes out.
#[derive(Clone)]
pub struct Request {
    /// Unique on the connection.
    pub id: i64,
    /// `GET` or `POST`.
    pub verb: &'static str,
    /// The route.
    pub path: &'static str,
    /// UTF-8 text, or empty for none.
    pub body: Bytes,
}

impl Request {
    /// The message's bytes.
    pub fn encode(self) -> Bytes {
        let request = pb::WebsocketRequest {
            id: Some(self.id),
            verb: Some(self.verb.into()),
            path: Some(self.path.into()),
            body: (!self.body.is_empty()).then_some(self.body),
            chunk: None,
        };
        request.encode_to_vec().into()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Request({} {} {}, body of {} bytes)",
            self.id,
            self.verb,
            self.path,
            self.body.len()
        )
    }
}

/// A response as it came in, its obligatory fields present and in range.
pub struct Response {
    /// The request that it answers.
    pub id: i64,
    /// 100 to 599.
    pub status: u16,
    /// A view of the message it came in.
    pub body: Bytes,
    /// As they came; names are compared without case.
    pub headers: HashMap<String, String>,
}

impl Response {
    /// Reads a whole message. A response without `id` or `status`, or with a status outside 100 to 599, is an error of
    /// the connection.
    pub fn decode(message: Bytes) -> Result<Response, Error> {
        let response = pb::WebsocketResponse::decode(message)
            .map_err(|e| Error::Message(format!("not a response: {e}")))?;
        let id = response
            .id
            .ok_or_else(|| Error::Message("a response without id".into()))?;
        let status = response
            .status
            .ok_or_else(|| Error::Message("a response without status".into()))?;
        let status = u16::try_from(status)
            .ok()
            .filter(|status| (100..=599).contains(status))
            .ok_or_else(|| Error::Message(format!("a response with status {status}")))?;
        Ok(Response {
            id,
            status,
            body: response.body.unwrap_or_default(),
            headers: response.headers,
        })
    }
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
    fn a_response_needs_id_and_a_status_from_100_to_599() {
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
    fn a_debug_format_shows_no_body() {
        let request = Request {
            id: 1,
            verb: "POST",
            path: "/x",
            body: Bytes::from_static(b"secret"),
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
