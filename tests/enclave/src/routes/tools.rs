//! Directives for applications that run tools: which calls come next, and what the history must hold by then.
//!
//! Specification: protocol.md section 5. Pure: a directive and the messages after it in, a turn out. The history is
//! all that a server knows of earlier rounds, so it is held to every call that was made.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Most calls at once, and most rounds.
const MAX_CALLS: usize = 64;
const MAX_ROUNDS: usize = 1_000;

/// What `/mixed-tools` says and does itself before it calls.
pub(super) const LOOK: &str = "Let me look. ";
const SEARCH: Call<'_> = Call {
    id: "search-1",
    name: "web_search",
    arguments: r#"{"query":"weather"}"#,
};
const SEEN: &str = "clear sky";
const SEEN_IN_FULL: &str = "clear sky, 21 degrees";

/// What the generator does now.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// These events, and `completion` with `pending_tool_calls`.
    Call(Vec<Value>),
    /// An answer, made of what the tools said.
    Answer(String),
}

#[derive(Clone, Copy)]
struct Call<'a> {
    id: &'a str,
    name: &'a str,
    arguments: &'a str,
}

/// The turn that a directive asks for, given its name, what follows the name, and the messages after it. None: it is no
/// directive of this file. An error is the reason of a refusal with 400.
pub(super) fn turn(name: &str, rest: &str, since: &[Value]) -> Result<Option<Turn>, String> {
    let counted = |usage: &'static str, most| {
        let (count, tool) = rest.split_once(' ').ok_or(usage)?;
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=most).contains(count));
        let (name, arguments) = tool_of(tool).ok_or(usage)?;
        Ok::<_, String>((count.ok_or(usage)?, name, arguments))
    };
    let turn = match name {
        "/client-tools" => {
            let (count, name, arguments) = counted("/client-tools N NAME JSON", MAX_CALLS)?;
            rounds(count, 1, name, arguments, since)
        }
        "/tool-rounds" => {
            let (count, name, arguments) = counted("/tool-rounds K NAME JSON", MAX_ROUNDS)?;
            rounds(1, count, name, arguments, since)
        }
        "/endless-tool" => {
            let (name, arguments) = tool_of(rest).ok_or("/endless-tool NAME JSON")?;
            rounds(1, usize::MAX, name, arguments, since)
        }
        "/mixed-tools" => {
            let (name, arguments) = tool_of(rest).ok_or("/mixed-tools NAME JSON")?;
            mixed(name, arguments, since)
        }
        _ => return Ok(None),
    };
    turn.map(Some)
}

/// A tool's name and arguments, which must be JSON: `{}` if there are none.
pub(super) fn tool_of(text: &str) -> Option<(&str, &str)> {
    let (name, arguments) = text.split_once(' ').unwrap_or((text, "{}"));
    let good = !name.is_empty() && serde_json::from_str::<Value>(arguments).is_ok();
    good.then_some((name, arguments))
}

pub(super) fn client_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({
        "type": "client_tool_call", "tool_call_id": id, "tool_name": name, "tool_arguments": arguments,
    })
}

/// What a server's own tool does, as events.
pub(super) fn server_search(id: &str) -> [Value; 2] {
    [
        json!({
            "type": "tool_call", "tool_call_id": id, "tool_name": SEARCH.name,
            "tool_arguments": SEARCH.arguments,
        }),
        json!({
            "type": "tool_response", "tool_call_id": id, "tool_name": SEARCH.name, "content": SEEN,
            "full_content": SEEN_IN_FULL, "image_refs": [],
        }),
    ]
}

/// So many calls in each round, so many rounds, then the answer.
fn rounds(
    at_once: usize,
    most: usize,
    name: &str,
    arguments: &str,
    since: &[Value],
) -> Result<Turn, String> {
    let answers = answers(name, arguments, since)?;
    let done = answers.len().div_ceil(at_once);
    let ids = |round: usize| (round * at_once + 1..=(round + 1) * at_once).map(id);
    let asked: Vec<_> = (0..done.min(most)).flat_map(ids).collect();
    if let Some(id) = answers.keys().find(|id| !asked.contains(id)) {
        return Err(format!("nobody made the call {id}"));
    }
    let contents: Vec<_> = asked
        .iter()
        .map(|id| answers.get(id).map(String::as_str).ok_or(id))
        .collect::<Result<_, _>>()
        .map_err(|id| format!("no tool_response for {id}"))?;
    if done < most {
        let calls = ids(done).map(|id| client_call(&id, name, arguments));
        return Ok(Turn::Call(calls.collect()));
    }
    Ok(Turn::Answer(answered(&contents)))
}

fn id(number: usize) -> String {
    format!("call-{number}")
}

fn answered(contents: &[&str]) -> String {
    format!("The tools answered: {}", contents.join(" | "))
}

/// The contents of the tool responses, by the id of their calls. Each must follow its call, which must be as it was made.
fn answers(
    name: &str,
    arguments: &str,
    since: &[Value],
) -> Result<HashMap<String, String>, String> {
    let (mut calls, mut answers) = (Vec::new(), HashMap::new());
    for message in since {
        let role = message["role"].as_str().unwrap_or_default();
        if role != "tool_call" && role != "tool_response" {
            continue;
        }
        let said = Said::read(message)?;
        if said.name != name {
            return Err(format!("a {role} of another tool: {}", said.name));
        }
        if role == "tool_call" {
            if said.text != arguments {
                return Err(format!("{} has other arguments than the call", said.id));
            }
            if calls.contains(&said.id) {
                return Err(format!("the call {} twice", said.id));
            }
            calls.push(said.id);
        } else if !calls.contains(&said.id) {
            return Err(format!(
                "no tool_call before the tool_response for {}",
                said.id
            ));
        } else if answers.insert(said.id.clone(), said.text).is_some() {
            return Err(format!("two tool_responses for {}", said.id));
        }
    }
    match calls.iter().find(|id| !answers.contains_key(*id)) {
        Some(id) => Err(format!("no tool_response for {id}")),
        None => Ok(answers),
    }
}

/// A message of the tool history: `text` is a call's arguments or a response's content.
struct Said {
    id: String,
    name: String,
    text: String,
}

impl Said {
    fn read(message: &Value) -> Result<Self, String> {
        let role = message["role"].as_str().unwrap_or_default();
        let content = message["content"].as_str().unwrap_or_default();
        let content: Value =
            serde_json::from_str(content).map_err(|_| format!("a {role} that is no JSON"))?;
        let part = |name: &str| {
            let part = content[name].as_str().map(str::to_owned);
            part.ok_or(format!("a {role} without {name}"))
        };
        let text = if role == "tool_call" {
            "toolArguments"
        } else {
            "content"
        };
        Ok(Self {
            id: part("toolCallId")?,
            name: part("toolName")?,
            text: part(text)?,
        })
    }
}

/// Text, a tool of the server's own, a call; and then all three must be in the history, in that order.
fn mixed(name: &str, arguments: &str, since: &[Value]) -> Result<Turn, String> {
    if since.is_empty() {
        let words = LOOK.split_inclusive(' ').map(super::chat::token);
        let call = client_call(&id(1), name, arguments);
        return Ok(Turn::Call(
            words
                .chain(server_search(SEARCH.id))
                .chain([call])
                .collect(),
        ));
    }
    let first = id(1);
    let client = Call {
        id: &first,
        name,
        arguments,
    };
    let wanted = [
        ("the assistant's text", "assistant", None),
        ("the server's tool_call", "tool_call", Some(SEARCH)),
        ("the server's tool_response", "tool_response", Some(SEARCH)),
        ("the client's tool_call", "tool_call", Some(client)),
        ("the client's tool_response", "tool_response", Some(client)),
    ];
    let mut answer = String::new();
    for (at, (what, role, call)) in wanted.into_iter().enumerate() {
        let message = since
            .get(at)
            .filter(|message| message["role"] == role)
            .ok_or(format!("message {at} after the user's is not {what}"))?;
        let Some(call) = call else {
            if message["content"] != LOOK {
                return Err(format!("{what} is not what was streamed"));
            }
            continue;
        };
        let said = Said::read(message)?;
        if (said.id.as_str(), said.name.as_str()) != (call.id, call.name) {
            return Err(format!(
                "{what} has another id or name: {} {}",
                said.id, said.name
            ));
        }
        match (role, call.id) {
            ("tool_call", _) if said.text != call.arguments => {
                return Err(format!("{what} has other arguments"));
            }
            ("tool_response", id) if id == SEARCH.id && said.text != SEEN_IN_FULL => {
                return Err(format!("the content of {what} is not its full_content"));
            }
            _ => answer = said.text,
        }
    }
    match since.get(wanted.len()) {
        Some(_) => Err("a message too many after the client's tool_response".into()),
        None => Ok(Turn::Answer(answered(&[SEEN_IN_FULL, &answer]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &str = r#"{"zone": "UTC"}"#;

    fn called(id: &str) -> Value {
        let content = json!({ "toolCallId": id, "toolName": "clock", "toolArguments": ARGUMENTS });
        json!({ "role": "tool_call", "content": content.to_string() })
    }

    fn responded(id: &str, content: &str) -> Value {
        let content = json!({ "toolCallId": id, "toolName": "clock", "content": content });
        json!({ "role": "tool_response", "content": content.to_string() })
    }

    fn run(directive: &str, since: &[Value]) -> Result<Turn, String> {
        let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        turn(name, rest, since).map(|turn| turn.expect("a directive of this file"))
    }

    fn calls(turn: Result<Turn, String>) -> Vec<String> {
        let Ok(Turn::Call(events)) = turn else {
            panic!("no calls: {turn:?}")
        };
        let ids = events
            .iter()
            .filter(|event| event["type"] == "client_tool_call");
        ids.map(|event| event["tool_call_id"].as_str().expect("an id").to_owned())
            .collect()
    }

    fn answer(text: &str) -> Result<Turn, String> {
        Ok(Turn::Answer(text.into()))
    }

    #[test]
    fn parallel_calls_are_answered_in_the_order_of_the_calls() {
        let directive = format!("/client-tools 3 clock {ARGUMENTS}");
        assert_eq!(calls(run(&directive, &[])), ["call-1", "call-2", "call-3"]);
        let history = [
            called("call-1"),
            called("call-2"),
            called("call-3"),
            responded("call-3", "c"),
            responded("call-1", "a"),
            responded("call-2", "b"),
        ];
        assert_eq!(
            run(&directive, &history),
            answer("The tools answered: a | b | c")
        );
    }

    #[test]
    fn a_history_that_lacks_a_part_or_has_a_stranger_is_refused_with_the_reason() {
        let directive = format!("/client-tools 2 clock {ARGUMENTS}");
        let whole = [
            called("call-1"),
            called("call-2"),
            responded("call-1", "a"),
            responded("call-2", "b"),
        ];
        let without = |at: usize| {
            let mut history = whole.to_vec();
            history.remove(at);
            history
        };
        let and = |more: &[Value]| [&whole, more].concat();
        for (history, reason) in [
            (
                without(0),
                "no tool_call before the tool_response for call-1",
            ),
            (without(2), "no tool_response for call-1"),
            (without(3), "no tool_response for call-2"),
            (whole[..2].to_vec(), "no tool_response for call-1"),
            (
                and(&[called("call-9"), responded("call-9", "i")]),
                "nobody made the call call-9",
            ),
            (
                and(&[responded("call-2", "b")]),
                "two tool_responses for call-2",
            ),
            (and(&[called("call-2")]), "the call call-2 twice"),
        ] {
            assert_eq!(run(&directive, &history), Err(reason.into()));
        }
        let mut other = whole.to_vec();
        other[0]["content"] = other[0]["content"]
            .as_str()
            .expect("text")
            .replace("UTC", "CET")
            .into();
        assert_eq!(
            run(&directive, &other),
            Err("call-1 has other arguments than the call".into())
        );
    }

    #[test]
    fn rounds_end_after_as_many_as_asked_or_never() {
        let (two, endless) = (
            format!("/tool-rounds 2 clock {ARGUMENTS}"),
            format!("/endless-tool clock {ARGUMENTS}"),
        );
        let history = [
            called("call-1"),
            responded("call-1", "a"),
            called("call-2"),
            responded("call-2", "b"),
        ];
        for directive in [&two, &endless] {
            assert_eq!(calls(run(directive, &[])), ["call-1"]);
            assert_eq!(calls(run(directive, &history[..2])), ["call-2"]);
        }
        assert_eq!(run(&two, &history), answer("The tools answered: a | b"));
        assert_eq!(calls(run(&endless, &history)), ["call-3"]);
    }

    #[test]
    fn a_mixed_history_must_be_whole_and_in_order() {
        let directive = format!("/mixed-tools clock {ARGUMENTS}");
        assert_eq!(calls(run(&directive, &[])), ["call-1"]);
        let search = |role: &str, name: &str, text: &str| {
            let content = json!({ "toolCallId": SEARCH.id, "toolName": SEARCH.name, name: text });
            json!({ "role": role, "content": content.to_string() })
        };
        let whole = vec![
            json!({ "role": "assistant", "content": LOOK }),
            search("tool_call", "toolArguments", SEARCH.arguments),
            search("tool_response", "content", SEEN_IN_FULL),
            called("call-1"),
            responded("call-1", "noon"),
        ];
        assert_eq!(
            run(&directive, &whole),
            answer("The tools answered: clear sky, 21 degrees | noon")
        );
        for at in 0..whole.len() {
            let mut lacking = whole.clone();
            lacking.remove(at);
            assert!(run(&directive, &lacking).is_err(), "without {at}");
            if at > 0 {
                let mut swapped = whole.clone();
                swapped.swap(at - 1, at);
                assert!(run(&directive, &swapped).is_err(), "{at} too early");
            }
        }
        let mut short = whole.clone();
        short[2] = search("tool_response", "content", SEEN);
        assert_eq!(
            run(&directive, &short),
            Err("the content of the server's tool_response is not its full_content".into())
        );
    }

    #[test]
    fn a_directive_written_wrong_says_how_it_is_written() {
        for directive in [
            "/client-tools 0 clock {}",
            "/client-tools 65 clock {}",
            "/client-tools clock {}",
            "/client-tools 2 clock {",
            "/tool-rounds 2",
            "/endless-tool",
            "/mixed-tools",
        ] {
            let name = directive.split(' ').next().expect("a name");
            let usage = run(directive, &[]).expect_err(directive);
            assert!(
                usage.starts_with(name) && usage.ends_with("NAME JSON"),
                "{usage}"
            );
        }
    }
}
