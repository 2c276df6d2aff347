//! What an answer is made of: steps, of which the writer understands the last kind directly.
//!
//! Knows nothing of what is asked. A fault of the stream is nothing but another list of steps.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::server::Server;
use crate::wire::{Frame, Response, response};

/// One thing for the connection's writer to do.
pub(crate) enum Outgoing {
    /// A response, framed and sealed as it should be.
    Response(Response),
    /// These frames, whatever they are, in this order.
    Frames(Vec<Frame>),
    /// A sealed message whose plaintext need not be a frame.
    Plaintext(Vec<u8>),
    /// Responses whose sealed messages go through a function on their way out.
    Distorted(Vec<Response>, fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>),
    /// A WebSocket binary message that Noise never saw.
    Binary(Vec<u8>),
    /// Bytes that WebSocket never saw; with `Twist::Tap` alone.
    Raw(&'static [u8]),
    /// A WebSocket text message.
    Text(&'static str),
    /// Close with this code, then end the connection.
    Close(u16),
    /// End the connection without a word.
    Drop,
    /// Write nothing more, and keep the connection.
    Stall,
}

pub(crate) enum Step {
    /// A response with status 200 and this JSON.
    Event(Value),
    /// A response with status 200 and these bytes.
    Body(Bytes),
    /// A response with another status.
    Refuse(i32, String),
    /// The model has failed; a server that says so gives this status and this reason.
    Fail(i32, String),
    Send(Outgoing),
    Wait(Duration),
}

/// Steps, made while they are played: a long answer is never in memory as a whole.
pub(crate) type Steps = Pin<Box<dyn Stream<Item = Step> + Send>>;

/// Steps that are known beforehand.
pub(crate) fn script<I>(steps: I) -> Steps
where
    I: IntoIterator<Item = Step>,
    I::IntoIter: Send + 'static,
{
    Box::pin(futures_util::stream::iter(steps))
}

pub(crate) type Outbox = mpsc::Sender<Outgoing>;

/// The connection has ended; whoever answers may stop.
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

/// Plays steps as one text: the contents of the token events up to `completion`. Without one, no answer comes.
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
