//! A thousand connections, and a thousand streams on one connection.

mod common;

use std::collections::HashMap;

use common::{Client, Enclave, run, said};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

const MANY: usize = 1_000;

fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum.map(|most| most.min(10_000)).or(Some(10_000)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("the limit of open files is raised");
}

#[test]
fn serves_a_thousand_connections_at_once() {
    allow_many_files();
    let enclave = Enclave::start_with_few_files();
    run(async {
        let mut clients = join_all((0..MANY).map(|_| Client::connect(&enclave))).await;
        let chats = clients.iter_mut().enumerate().map(async |(n, client)| {
            client.chat(1, &format!("/repeat 3 20 {n}:"), true).await;
            assert_eq!(said(&client.events(1).await), format!("{n}:0{n}:1{n}:2"));
        });
        join_all(chats).await;
    });
}

#[test]
fn a_thousand_streams_of_a_connection_stay_separate() {
    const TOKENS: usize = 30;
    let enclave = Enclave::start(&[]);
    run(async {
        let mut client = Client::connect(&enclave).await;
        for id in 0..MANY {
            let directive = format!("/repeat {TOKENS} 100 {id}:");
            client.chat(id as i64, &directive, true).await;
        }
        let (mut answers, mut ended, mut open, mut most) = (HashMap::new(), 0, 0, 0);
        while ended < MANY {
            let response = client.receive().await.expect("an event");
            let event: Value =
                serde_json::from_slice(&response.body.expect("a body")).expect("JSON");
            let answer: &mut String =
                answers
                    .entry(response.id.expect("an id"))
                    .or_insert_with(|| {
                        open += 1;
                        String::new()
                    });
            answer.push_str(event["content"].as_str().unwrap_or_default());
            most = most.max(open);
            if event["type"] == "completion" {
                ended += 1;
                open -= 1;
            }
        }
        for (id, answer) in answers {
            let whole: String = (0..TOKENS).map(|at| format!("{id}:{at}")).collect();
            assert_eq!(answer, whole);
        }
        assert_eq!(most, MANY, "streams that were open at once");
    });
}
