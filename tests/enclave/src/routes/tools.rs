//! Directives for applications that run tools: which calls come next, and which history they
//! require.
//!
//! Specification: protocol.md section 5. Pure: turns a directive and the messages after it into a
//! turn. A server knows earlier rounds only from the history, so every call in it is checked.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Most calls in a round, and most rounds.
const MAX_CALLS: usize = 64;
const MAX_ROUNDS: usize = 1_000;

/// The text, search and calls of the server in `/mixed-tools` and `/parallel-tools`, before the
/// client's calls.
pub(super) const LOOK: &str = "Let me look. ";
const SEARCH: Call<'_> = Call {
    id: "search-1",
    name: "web_search",
    arguments: r#"{"query":"weather"}"#,
};
const VIEW: Call<'_> = Call {
    id: "view-1",
    name: "file_view",
    arguments: r#"{"page_number":1}"#,
};
const VIEWED: &str = "page 1";
/// A tool that is switched off: the server announces the call and never answers it.
pub(super) const SWITCHED_OFF: Call<'_> = Call {
    id: "off-1",
    name: "exec_command",
    arguments: "{}",
};
const SEEN: &str = "clear sky";
const SEEN_IN_FULL: &str = "clear sky, 21 degrees";

/// The generator's next action.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// Send these events, then `completion` with `pending_tool_calls`.
    Call(Vec<Value>),
    /// Answer with this text, made from the tools' results.
    Answer(String),
}

#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    id: &'a str,
    name: &'a str,
    arguments: &'a str,
}

/// Returns the turn for a directive, given its name, the rest of its line, and the messages after
/// it. None means that the directive is not in this file. An error is the reason of a refusal with
/// 400.
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
        "/parallel-tools" => {
            let (name, arguments) = tool_of(rest).ok_or("/parallel-tools NAME JSON")?;
            parallel(name, arguments, since)
        }
        _ => return Ok(None),
    };
    turn.map(Some)
}

/// Parses a tool's name and its arguments, which must be JSON. Absent arguments are `{}`.
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

/// Makes the event of a server tool's call.
pub(super) fn server_call(call: Call<'_>) -> Value {
    json!({
        "type": "tool_call", "tool_call_id": call.id, "tool_name": call.name,
        "tool_arguments": call.arguments,
    })
}

/// Makes the events of a server tool that searches.
pub(super) fn server_search(id: &str) -> [Value; 2] {
    [
        server_call(Call { id, ..SEARCH }),
        json!({
            "type": "tool_response", "tool_call_id": id, "tool_name": SEARCH.name, "content": SEEN,
            "full_content": SEEN_IN_FULL, "image_refs": [],
        }),
    ]
}

/// Makes this many calls in each round, for this many rounds, then answers.
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
        return Err(format!("unknown call {id}"));
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

/// Returns the contents of the tool responses by call id. The history's calls must be unchanged.
fn answers(
    name: &str,
    arguments: &str,
    since: &[Value],
) -> Result<HashMap<String, String>, String> {
    let mut answers = HashMap::new();
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
        } else if answers.insert(said.id.clone(), said.text).is_some() {
            return Err(format!("two tool_responses for {}", said.id));
        }
    }
    Ok(answers)
}

/// Checks that each response directly follows its call: a model's server refuses any other history.
pub(super) fn paired(messages: &[Value]) -> Result<(), String> {
    let mut call: Option<Said> = None;
    for message in messages {
        let is = |role: &str| message["role"] == role;
        if let Some(call) = call.take() {
            if is("tool_response") && Said::read(message)?.id == call.id {
                continue;
            }
            let id = call.id;
            return Err(format!(
                "the tool_call {id} is not directly followed by its tool_response"
            ));
        }
        if is("tool_response") {
            let id = Said::read(message)?.id;
            return Err(format!(
                "the tool_response {id} does not directly follow its tool_call"
            ));
        }
        if is("tool_call") {
            call = Some(Said::read(message)?);
        }
    }
    match call {
        Some(call) => Err(format!("no tool_response for {}", call.id)),
        None => Ok(()),
    }
}

/// A message of the tool history. `text` is a call's arguments or a response's content.
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

/// A message that the history must contain.
enum Wanted<'a> {
    Text(&'a str),
    Call(Call<'a>),
    /// The response of a server's tool.
    Response(Call<'a>, &'a str),
    /// The response of a client's tool, with any content.
    Answer(Call<'a>),
    /// A user's message with these image references.
    Images(Value),
}

/// Checks that exactly these messages follow the user's. Returns the responses of the client's
/// tools.
fn hold(since: &[Value], wanted: &[Wanted<'_>]) -> Result<Vec<String>, String> {
    let mut answers = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        let message = since.get(at).unwrap_or(&Value::Null);
        let wrong = |what: &str| Err(format!("message {at} after the user's is not {what}"));
        let (role, call) = match wanted {
            Wanted::Text(text) => {
                match message["role"] == "assistant" && message["content"] == *text {
                    true => continue,
                    false => return wrong("the assistant's text, as it was streamed"),
                }
            }
            Wanted::Images(references) => {
                match message["role"] == "user" && message["imageRefs"] == *references {
                    true => continue,
                    false => return wrong("a user's with the images of the tool's result"),
                }
            }
            Wanted::Call(call) => ("tool_call", call),
            Wanted::Response(call, _) | Wanted::Answer(call) => ("tool_response", call),
        };
        let (id, name) = (call.id, call.name);
        if message["role"] != role {
            return wrong(&format!("the {role} {id}"));
        }
        let said = Said::read(message)?;
        if (said.id.as_str(), said.name.as_str()) != (id, name) {
            return wrong(&format!(
                "the {role} {id} of {name}, but {} of {}",
                said.id, said.name
            ));
        }
        match wanted {
            Wanted::Call(call) if said.text != call.arguments => {
                return Err(format!("{id} has other arguments than the call"));
            }
            Wanted::Response(_, content) if said.text != *content => {
                return Err(format!(
                    "the content of the tool_response {id} is not its full_content"
                ));
            }
            Wanted::Answer(_) => answers.push(said.text),
            _ => {}
        }
    }
    match since.get(wanted.len()) {
        Some(_) => Err("a message too many after the last tool_response".into()),
        None => Ok(answers),
    }
}

/// Sends text, a server tool and a client's call. The history must then have all three, in this
/// order.
fn mixed(name: &str, arguments: &str, since: &[Value]) -> Result<Turn, String> {
    let id = id(1);
    if since.is_empty() {
        let words = LOOK.split_inclusive(' ').map(super::chat::token);
        let call = client_call(&id, name, arguments);
        return Ok(Turn::Call(
            words
                .chain(server_search(SEARCH.id))
                .chain([call])
                .collect(),
        ));
    }
    let client = Call {
        id: &id,
        name,
        arguments,
    };
    let wanted = [
        Wanted::Text(LOOK),
        Wanted::Call(SEARCH),
        Wanted::Response(SEARCH, SEEN_IN_FULL),
        Wanted::Call(client),
        Wanted::Answer(client),
    ];
    let answers = hold(since, &wanted)?;
    Ok(Turn::Answer(answered(&[SEEN_IN_FULL, &answers[0]])))
}

/// Sends three parallel server tools, one with images and one never answered, and two client calls.
fn parallel(name: &str, arguments: &str, since: &[Value]) -> Result<Turn, String> {
    let image = json!({ "s3Key": "images/1", "encryptionKey": "a2V5", "mediaType": "image/png" });
    let ids = [id(1), id(2)];
    if since.is_empty() {
        let no_image =
            json!({ "s3Key": "files/1", "encryptionKey": "a2V5", "mediaType": "text/html" });
        let viewed = json!({
            "type": "tool_response", "tool_call_id": VIEW.id, "tool_name": VIEW.name, "content": "",
            "full_content": VIEWED, "image_refs": [image, no_image],
        });
        let [search, found] = server_search(SEARCH.id);
        let mut events = vec![
            server_call(VIEW),
            server_call(SWITCHED_OFF),
            search,
            viewed,
            found,
        ];
        events.extend(ids.iter().map(|id| client_call(id, name, arguments)));
        return Ok(Turn::Call(events));
    }
    let [first, second] = ids.each_ref().map(|id| Call {
        id,
        name,
        arguments,
    });
    let wanted = [
        Wanted::Call(VIEW),
        Wanted::Response(VIEW, VIEWED),
        Wanted::Call(SEARCH),
        Wanted::Response(SEARCH, SEEN_IN_FULL),
        Wanted::Images(json!([image])),
        Wanted::Call(first),
        Wanted::Answer(first),
        Wanted::Call(second),
        Wanted::Answer(second),
    ];
    let answers = hold(since, &wanted)?;
    Ok(Turn::Answer(answered(&[&answers[0], &answers[1]])))
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
    fn answers_come_in_the_order_of_the_calls() {
        let directive = format!("/client-tools 3 clock {ARGUMENTS}");
        assert_eq!(calls(run(&directive, &[])), ["call-1", "call-2", "call-3"]);
        let history = [
            called("call-3"),
            responded("call-3", "c"),
            called("call-1"),
            responded("call-1", "a"),
            called("call-2"),
            responded("call-2", "b"),
        ];
        assert_eq!(
            run(&directive, &history),
            answer("The tools answered: a | b | c")
        );
    }

    #[test]
    fn wrong_history_is_refused_with_the_reason() {
        let directive = format!("/client-tools 2 clock {ARGUMENTS}");
        let whole = [
            called("call-1"),
            responded("call-1", "a"),
            called("call-2"),
            responded("call-2", "b"),
        ];
        for (history, reason) in [
            (whole[..2].to_vec(), "no tool_response for call-2"),
            (
                [&whole[..], &[called("call-9"), responded("call-9", "i")]].concat(),
                "unknown call call-9",
            ),
            (
                [&whole[..], &[called("call-2"), responded("call-2", "b")]].concat(),
                "two tool_responses for call-2",
            ),
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
    fn each_call_must_be_directly_followed_by_its_response() {
        let user = json!({ "role": "user", "content": "" });
        let (call, response) = (called("1"), responded("1", "a"));
        let (other_call, other_response) = (called("2"), responded("2", "b"));
        let good = [&user, &call, &response, &other_call, &other_response, &user];
        assert_eq!(paired(&good.map(Clone::clone)), Ok(()));
        for bad in [
            vec![&user, &call],
            vec![&call, &user],
            vec![&call, &user, &response],
            vec![&response],
            vec![&call, &response, &response],
            vec![&call, &call, &response],
            vec![&call, &other_response],
            vec![&call, &other_call, &response, &other_response],
        ] {
            let bad: Vec<Value> = bad.into_iter().cloned().collect();
            assert!(paired(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rounds_end_after_the_requested_number_or_never() {
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
    fn mixed_history_must_be_complete_and_in_order() {
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
            Err("the content of the tool_response search-1 is not its full_content".into())
        );
    }

    #[test]
    fn wrong_directive_explains_its_syntax() {
        for directive in [
            "/client-tools 0 clock {}",
            "/client-tools 65 clock {}",
            "/client-tools clock {}",
            "/client-tools 2 clock {",
            "/tool-rounds 2",
            "/endless-tool",
            "/mixed-tools",
            "/parallel-tools",
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
