//! The steps of an answer, and how they are played to the connection's writer.
//!
//! Independent of requests: a fault of the stream is another list of steps.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::server::Server;
use crate::wire::{Frame, Response, response};

/// One message or action for the connection's writer.
pub(crate) enum Outgoing {
    /// A correctly framed and sealed response.
    Response(Response),
    /// Exactly these frames, in this order.
    Frames(Vec<Frame>),
    /// A sealed message whose plaintext need not be a frame.
    Plaintext(Vec<u8>),
    /// Responses whose sealed messages pass through this function before sending.
    Distorted(Vec<Response>, fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>),
    /// A WebSocket binary message that bypasses Noise.
    Binary(Vec<u8>),
    /// Bytes that bypass WebSocket; needs `Twist::Tap`.
    Raw(&'static [u8]),
    /// A WebSocket text message.
    Text(String),
    /// Close with this code, then end the connection.
    Close(u16),
    /// Drop the connection without a close frame.
    Drop,
    /// Keep the connection, but write nothing more.
    Stall,
}

pub(crate) enum Step {
    /// A response with status 200 and this JSON.
    Event(Value),
    /// A response with status 200 and these bytes.
    Body(Bytes),
    /// A response with another status.
    Refuse(i32, String),
    /// The model fails. A server that reports this answers with this status and reason.
    Fail(i32, String),
    Send(Outgoing),
    Wait(Duration),
}

/// Steps, created while they are played, so that a long answer is never completely in memory.
pub(crate) type Steps = Pin<Box<dyn Stream<Item = Step> + Send>>;

/// Steps that are known in advance.
pub(crate) fn script<I>(steps: I) -> Steps
where
    I: IntoIterator<Item = Step>,
    I::IntoIter: Send + 'static,
{
    Box::pin(futures_util::stream::iter(steps))
}

pub(crate) type Outbox = mpsc::Sender<Outgoing>;

/// The connection has ended, so answers are no longer needed.
pub(crate) struct Gone;

pub(crate) async fn send(outbox: &Outbox, outgoing: Outgoing) -> Result<(), Gone> {
    outbox.send(outgoing).await.map_err(|_| Gone)
}

/// Plays steps as a streamed answer.
pub(crate) async fn stream(
    outbox: &Outbox,
    id: i64,
    mut steps: Steps,
    server: Server,
) -> Result<(), Gone> {
    while let Some(step) = steps.next().await {
        let outgoing = match step {
            Step::Fail(..) if server.fails_silently() => return Ok(()),
            Step::Fail(status, reason) => {
                return send(outbox, Outgoing::Response(response(id, status, reason))).await;
            }
            Step::Event(event) => Outgoing::Response(response(id, 200, event.to_string())),
            Step::Body(body) => Outgoing::Response(response(id, 200, body)),
            Step::Refuse(status, reason) => Outgoing::Response(response(id, status, reason)),
            Step::Send(outgoing) => outgoing,
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
        };
        send(outbox, outgoing).await?;
    }
    Ok(())
}

/// Plays steps as one text: the contents of the token events up to `completion`. Sends nothing if
/// `completion` is missing.
pub(crate) async fn text(
    outbox: &Outbox,
    id: i64,
    mut steps: Steps,
    server: Server,
) -> Result<(), Gone> {
    let mut text = String::new();
    while let Some(step) = steps.next().await {
        match step {
            Step::Event(event) if event["type"] == "token" => {
                text.push_str(event["content"].as_str().unwrap_or_default());
            }
            Step::Event(event) if event["type"] == "completion" => {
                return send(outbox, Outgoing::Response(response(id, 200, text))).await;
            }
            Step::Event(_) | Step::Body(_) => {}
            Step::Fail(..) if server.fails_silently() => {
                let failed = response(id, 500, "Internal Server Error");
                return send(outbox, Outgoing::Response(failed)).await;
            }
            Step::Refuse(status, reason) | Step::Fail(status, reason) => {
                return send(outbox, Outgoing::Response(response(id, status, reason))).await;
            }
            Step::Send(outgoing) => send(outbox, outgoing).await?,
            Step::Wait(time) => tokio::time::sleep(time).await,
        }
    }
    Ok(())
}
