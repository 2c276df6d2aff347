//! Pairs of tool calls and responses (protocol section 5).

use std::collections::{BTreeMap, VecDeque};

use super::message::{Message, Side};

/// Puts each response directly after its call, the only order that servers accept. Calls with the
/// same id get their responses in the order of the calls.
#[derive(Default)]
pub(super) struct Pairs {
    entries: Vec<Entry>,
    /// Entries of calls without a response, by id. A tree, because a peer chooses the ids.
    open: BTreeMap<String, VecDeque<usize>>,
}

enum Entry {
    Message(Message),
    Call(Message, Option<Message>),
}

impl Pairs {
    /// Reads a stored history. In it, a response belongs to the call directly before it if the ids
    /// match.
    pub(super) fn of(messages: impl IntoIterator<Item = Message>) -> Pairs {
        let mut pairs = Pairs::default();
        for message in messages {
            pairs.place(message, true);
        }
        pairs
    }

    /// Adds a message. Drops a response without a call, and returns false.
    pub(super) fn push(&mut self, message: Message) -> bool {
        self.place(message, false).is_none()
    }

    /// Adds a message, or returns it if it is a response without a call.
    fn place(&mut self, message: Message, kept: bool) -> Option<Message> {
        let at = self.entries.len();
        match message.tool_id() {
            Some((Side::Call, id)) => {
                self.open.entry(id).or_default().push_back(at);
                self.entries.push(Entry::Call(message, None));
            }
            Some((Side::Response, id)) => return self.answer(message, &id, kept),
            None => self.entries.push(Entry::Message(message)),
        }
        None
    }

    pub(super) fn answer(&mut self, message: Message, id: &str, kept: bool) -> Option<Message> {
        let Some(calls) = self.open.get_mut(id) else {
            return Some(message);
        };
        let call = match calls.back() {
            Some(last) if kept && last + 1 == self.entries.len() => calls.pop_back(),
            _ => calls.pop_front(),
        };
        if calls.is_empty() {
            self.open.remove(id);
        }
        match call.and_then(|at| self.entries.get_mut(at)) {
            Some(Entry::Call(_, response)) => response.replace(message),
            _ => Some(message),
        }
    }

    /// Returns the messages in order, with open calls only if `keep_open`.
    pub(super) fn messages(self, keep_open: bool) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            match entry {
                Entry::Message(message) => messages.push(message),
                Entry::Call(call, Some(response)) => messages.extend([call, response]),
                Entry::Call(call, None) if keep_open => messages.push(call),
                Entry::Call(_, None) => {}
            }
        }
        messages
    }
}

/// Adds responses to a history, in the order of its calls. Omits calls without a response.
pub(in crate::client) fn answered(history: Vec<Message>, responses: Vec<Message>) -> Vec<Message> {
    let mut pairs = Pairs::of(history);
    for response in responses {
        pairs.push(response);
    }
    pairs.messages(false)
}

#[cfg(test)]
mod tests {
    use super::super::message::Role;
    use super::*;

    fn call(id: &str) -> Message {
        Message::tool_call(id, "tool", "{}")
    }

    fn response(id: &str, content: &str) -> Message {
        Message::tool_response(id, "tool", content)
    }

    fn text(content: &str) -> Message {
        Message::Text {
            role: Role::User,
            content: content.into(),
        }
    }

    /// Shows calls as `id?`, responses as `id=content`, others as their content.
    fn outline(messages: &[Message]) -> String {
        let outline = messages.iter().map(|message| {
            let whole = serde_json::to_value(message).unwrap();
            let content = whole["content"].as_str().unwrap().to_owned();
            let tool: serde_json::Value = serde_json::from_str(&content).unwrap_or_default();
            let id = tool["toolCallId"].as_str().unwrap_or_default();
            match message.tool_id() {
                Some((Side::Call, _)) => format!("{id}?"),
                Some((Side::Response, _)) => format!("{id}={}", tool["content"].as_str().unwrap()),
                None => content,
            }
        });
        outline.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn responses_go_directly_behind_their_calls() {
        let history = || vec![call("a"), text("t"), call("b"), call("c")];
        let responses = vec![response("c", "3"), response("x", "0"), response("a", "1")];
        assert_eq!(outline(&answered(history(), responses)), "a? a=1 t c? c=3");
        assert_eq!(outline(&Pairs::of(history()).messages(true)), "a? t b? c?");
    }

    #[test]
    fn doubled_ids_are_answered_in_the_order_of_the_calls() {
        let responses = vec![response("x", "1"), response("x", "2"), response("x", "3")];
        let messages = answered(vec![call("x"), call("x")], responses);
        assert_eq!(outline(&messages), "x? x=1 x? x=2");
    }

    #[test]
    fn kept_response_stays_behind_its_call() {
        let kept = [
            call("x"),
            text("t"),
            call("x"),
            response("x", "1"),
            text("u"),
        ];
        assert_eq!(
            outline(&Pairs::of(kept.clone()).messages(true)),
            "x? t x? x=1 u"
        );
        assert_eq!(outline(&Pairs::of(kept).messages(false)), "t x? x=1 u");
    }
}
