//! The properties of events, as the application reads them.

use std::sync::Arc;
use std::time::Duration;

use super::news::ClientEvent;

/// NUL-terminated text, so that C can borrow it.
#[derive(Clone)]
pub struct Text(Box<str>);

impl Text {
    /// Copies `text` and appends the NUL.
    pub fn new(text: &str) -> Text {
        let mut owned = String::with_capacity(text.len() + 1);
        owned.push_str(text);
        owned.push('\0');
        Text(owned.into_boxed_str())
    }

    /// Returns the bytes that it takes, with its NUL.
    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }

    /// Returns the text without its NUL.
    pub fn as_str(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }
}

/// Properties that only some events have.
#[derive(Default)]
pub struct Details {
    /// The type's name, as received.
    pub type_name: Option<Text>,
    /// The id of the tool call.
    pub tool_call_id: Option<Text>,
    /// The name of the tool.
    pub tool_name: Option<Text>,
    /// The arguments, as JSON text.
    pub tool_arguments: Option<Text>,
    /// The complete result, for the history.
    pub full_content: Option<Text>,
    /// The answer calls tools of the application.
    pub pending_tool_calls: Option<bool>,
    /// Tokens of the conversation so far.
    pub context_tokens: Option<i64>,
    /// The most tokens of a conversation.
    pub max_context_tokens: Option<i64>,
    /// Bytes of the upload sent so far, and the total, if known.
    pub sent: Option<(u64, Option<u64>)>,
    /// Bytes of the answer received so far, with this piece, and the announced total, if any.
    pub received: Option<(u64, Option<u64>)>,
    /// The round-trip time of a ping.
    pub round_trip: Option<Duration>,
    /// Embeddings.
    pub matrix: Option<Matrix>,
    /// An event of a client.
    pub client: Option<Arc<ClientEvent>>,
}

/// Embeddings: one row for each text, all of the same length.
pub struct Matrix {
    /// The rows, one after the other.
    pub values: Box<[f32]>,
    /// The number of texts.
    pub rows: usize,
    /// The length of a row.
    pub columns: usize,
}

impl Details {
    /// Returns the bytes that they take.
    pub(super) fn weight(&self) -> usize {
        let texts = [
            &self.type_name,
            &self.tool_call_id,
            &self.tool_name,
            &self.tool_arguments,
            &self.full_content,
        ];
        let matrix = self.matrix.as_ref().map_or(0, |m| size_of_val(&*m.values));
        size_of::<Details>() + matrix + texts.map(weight).iter().sum::<usize>()
    }
}

fn weight(text: &Option<Text>) -> usize {
    text.as_ref().map_or(0, Text::weight)
}

/// The properties of an event that has only its content.
pub(super) static NONE: Details = Details {
    type_name: None,
    tool_call_id: None,
    tool_name: None,
    tool_arguments: None,
    full_content: None,
    pending_tool_calls: None,
    context_tokens: None,
    max_context_tokens: None,
    sent: None,
    received: None,
    round_trip: None,
    matrix: None,
    client: None,
};
