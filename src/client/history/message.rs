//! One message of a history (protocol section 5).

use std::borrow::Cow;

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::{json, size};
use crate::error::Result;

/// The author of a message. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum Role {
    User = 0,
    Assistant = 1,
    System = 2,
    Developer = 3,
    ToolCall = 4,
    ToolResponse = 5,
}

impl Role {
    /// All roles, by number.
    pub const ALL: [Role; 6] = [
        Role::User,
        Role::Assistant,
        Role::System,
        Role::Developer,
        Role::ToolCall,
        Role::ToolResponse,
    ];

    fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Developer => "developer",
            Role::ToolCall => "tool_call",
            Role::ToolResponse => "tool_response",
        }
    }
}

/// A tool call that the application must answer.
#[derive(Clone, Default)]
pub(in crate::client) struct Call {
    pub(in crate::client) id: String,
    pub(in crate::client) name: String,
}

/// One message.
#[derive(Clone)]
pub(in crate::client) enum Message {
    Text {
        role: Role,
        content: String,
    },
    /// Exact JSON.
    Json(Box<RawValue>),
}

impl Message {
    pub(in crate::client) fn json(json: &str) -> Result<Message> {
        json::object("message", json).map(Message::Json)
    }

    /// Makes the message that shows the model the images of a tool's result. Servers read
    /// `imageRefs` only in `user` messages.
    pub(super) fn images(references: &[&RawValue]) -> Option<Message> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Images<'a> {
            role: &'a str,
            content: &'a str,
            image_refs: &'a [&'a RawValue],
        }
        let images = Images {
            role: Role::User.name(),
            content: "Images of a tool's result.",
            image_refs: references,
        };
        let json = serde_json::value::to_raw_value(&images).ok()?;
        (!references.is_empty()).then_some(Message::Json(json))
    }

    /// Makes the message of a tool call. `arguments` is JSON text.
    pub(in crate::client) fn tool_call(id: &str, name: &str, arguments: &str) -> Message {
        let content = json!({ "toolCallId": id, "toolName": name, "toolArguments": arguments });
        Message::Text {
            role: Role::ToolCall,
            content: content.to_string(),
        }
    }

    /// Makes the message of a tool's response.
    pub(in crate::client) fn tool_response(id: &str, name: &str, content: &str) -> Message {
        let content = json!({ "toolCallId": id, "toolName": name, "content": content });
        Message::Text {
            role: Role::ToolResponse,
            content: content.to_string(),
        }
    }

    /// Refuses a text that is longer than servers accept.
    pub(in crate::client) fn check(&self) -> Result<()> {
        match self {
            Message::Text { content, .. } => size::text("content", content),
            Message::Json(_) => Ok(()),
        }
    }

    /// Returns the id of the call that this message makes or answers. None for any other message,
    /// and for one without id.
    pub(super) fn tool_id(&self) -> Option<(Side, String)> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            role: Cow<'a, str>,
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "toolCallId")]
            id: String,
        }
        let (role, content) = match self {
            Message::Text { role, content } => (role.name(), Cow::from(content)),
            Message::Json(json) => {
                let whole: Whole<'_> = serde_json::from_str(json.get()).ok()?;
                let role = Role::ALL.iter().find(|role| role.name() == whole.role)?;
                (role.name(), whole.content)
            }
        };
        let side = match role {
            "tool_call" => Side::Call,
            "tool_response" => Side::Response,
            _ => return None,
        };
        let content: Content = serde_json::from_str(&content).ok()?;
        Some((side, content.id))
    }

    /// Returns the counted size: the text and a fixed overhead.
    pub(in crate::client) fn size(&self) -> usize {
        const FIXED: usize = 64;
        FIXED
            + match self {
                Message::Text { content, .. } => content.len(),
                Message::Json(json) => json.get().len(),
            }
    }

    /// Parses a message that [`Serialize`] wrote. One with only a role and a text becomes `Text`.
    pub(super) fn parse(json: &str) -> Result<Message> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            role: String,
            content: String,
        }
        if let Ok(Plain { role, content }) = serde_json::from_str(json)
            && let Some(role) = Role::ALL.iter().find(|known| known.name() == role)
        {
            let role = *role;
            return Ok(Message::Text { role, content });
        }
        Message::json(json)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Message::Json(json) => json.serialize(serializer),
            Message::Text { role, content } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("role", role.name())?;
                map.serialize_entry("content", content)?;
                map.end()
            }
        }
    }
}

/// The side of a message in a pair.
pub(super) enum Side {
    Call,
    Response,
}
