//! One answer of the model, as messages for the history (protocol section 5).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::event::{Event, Kind, Text};
use super::message::{Call, Message, Role};
use super::pairs::Pairs;
use crate::error::{Error, Result, Status};
use crate::session::MAX_BODY;

/// One answer of the model.
#[derive(Default)]
pub(in crate::client) struct Turn {
    text: String,
    messages: Pairs,
    pub(in crate::client) calls: Vec<Call>,
    pub(in crate::client) pending: bool,
    pub(in crate::client) context_tokens: Option<i64>,
    pub(in crate::client) max_context_tokens: Option<i64>,
    size: usize,
}

impl Turn {
    /// Adds an event to the answer.
    pub(in crate::client) fn note(&mut self, event: &Event) {
        if self.size > MAX_BODY {
            return; // too long for any request: `messages` says so
        }
        let details = event.details();
        let text = |text: &Option<Text>| text.as_ref().map_or("", Text::as_str).to_owned();
        let (id, name) = (text(&details.tool_call_id), text(&details.tool_name));
        match event.kind() {
            Kind::Token => {
                let content = event.content_str();
                self.size += content.len();
                self.text += content;
            }
            Kind::ServerToolCall => {
                let arguments = text(&details.tool_arguments);
                self.push(Message::tool_call(&id, &name, &arguments));
            }
            Kind::ServerToolResponse => {
                // The history needs the complete result. The displayed one may be shorter.
                let full = details.full_content.as_ref().map(Text::as_str);
                let content = full.unwrap_or_else(|| event.content_str());
                let answers = self.push(Message::tool_response(&id, &name, content));
                if answers && let Some(images) = images(event.json_bytes()) {
                    self.push(images);
                }
            }
            Kind::ClientToolCall => {
                let arguments = text(&details.tool_arguments);
                self.push(Message::tool_call(&id, &name, &arguments));
                self.calls.push(Call { id, name });
            }
            Kind::Completion => {
                self.pending = details.pending_tool_calls == Some(true);
                self.context_tokens = details.context_tokens;
                self.max_context_tokens = details.max_context_tokens;
            }
            _ => {}
        }
    }

    /// Adds a message. Drops a response without a call, and returns false.
    fn push(&mut self, message: Message) -> bool {
        self.close_text();
        self.size += message.size();
        self.messages.push(message)
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.messages.push(Message::Text {
                role: Role::Assistant,
                content: std::mem::take(&mut self.text),
            });
        }
    }

    /// Returns the messages for the history, with calls and responses in pairs. Includes the open
    /// calls if the server waits for the application's tools.
    pub(in crate::client) fn messages(&mut self) -> Result<Vec<Message>> {
        if self.size > MAX_BODY {
            let message = format!("the answer is too long for a history of {MAX_BODY} bytes");
            return Err(Error::new(Status::TooLarge, message));
        }
        self.close_text();
        let messages = std::mem::take(&mut self.messages).messages(self.pending);
        messages.iter().try_for_each(Message::check)?;
        Ok(messages)
    }
}

/// Makes the message with the `image_refs` of a tool's result (protocol section 5). Omits invalid
/// references, because a server would refuse the whole history.
fn images(json: &[u8]) -> Option<Message> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        image_refs: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Reference<'a> {
        #[serde(borrow)]
        s3_key: Cow<'a, str>,
        #[serde(borrow)]
        encryption_key: Cow<'a, str>,
        #[serde(borrow)]
        media_type: Cow<'a, str>,
    }
    let event: Event<'_> = serde_json::from_slice(json).ok()?;
    let mut references = event.image_refs?;
    references.retain(|reference| {
        serde_json::from_str(reference.get())
            .is_ok_and(|it: Reference<'_>| it.media_type.starts_with("image/"))
    });
    Message::images(&references)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_on_a_user_message() {
        let image = r#"{"s3Key":"a","encryptionKey":"b","mediaType":"image/png","new":1}"#;
        let event = format!(
            r#"{{"image_refs":[{image},{{"s3Key":"a","encryptionKey":"b","mediaType":"text/html"}},{{}},7]}}"#
        );
        let shown = serde_json::to_string(&images(event.as_bytes()).unwrap()).unwrap();
        assert!(
            shown.contains(&format!(r#""imageRefs":[{image}]"#)),
            "{shown}"
        );
        assert!(shown.contains(r#""role":"user""#), "{shown}");
        for none in [
            "{}",
            r#"{"image_refs":[]}"#,
            r#"{"image_refs":[1]}"#,
            r#"{"image_refs":null}"#,
        ] {
            assert!(images(none.as_bytes()).is_none(), "{none}");
        }
    }
}
