//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Faulty;
use crate::faults::{self, Twist};
use crate::script::Script;
use crate::server::{Server, Times};
use crate::tokens::{Class, Tokens};
use crate::upstream::Upstream;

pub(crate) const USAGE: &str = "\
usage: confer-enclave [OPTION]…
       confer-enclave --export DIR [--state DIR] [--fault NAME]
       confer-enclave --list-faults
       confer-enclave --help
";

pub(crate) const HELP: &str = "\
Serves Confer's protocol on a loopback port, for tests and the demo. Prints one JSON line when it is
ready: the URL, a token that it accepts, and the path of a policy file that trusts its evidence.
Answers a chat with \"You said: \" and the prompt. Serves until a signal ends it.

What it serves
  --server VERSION            behave like this published server: 0.1.14 or newer (default: newer)
  --release VERSION           show another release, signed and logged in the same world
  --upstream URL              let an OpenAI-compatible server, such as http://127.0.0.1:8000/v1,
                              answer chats
  --upstream-model MODEL      with this model
  --script FILE               play the script of a test vector; end with status 1 if the client
                              sends anything else, or connects more or less often

Ports and files
  --port N                    the port (default: a free one)
  --key-port N                the port of the key server (default: a free one)
  --state DIR                 keep keys, authorities and release in DIR and use them again, so that
                              a start is quick; with both ports, a policy outlives a restart
  --log FILE                  append a JSON line for each event, without bodies, tokens and keys
  --export DIR                write evidence.json, policy.json and keys.json to DIR, and exit
  --exit-with-stdin           end when standard input ends

Tokens
  --token TOKEN               accept this token (default: a new one)
  --expired-token TOKEN       answer each request with 402
  --unauthorized-token TOKEN  answer each request with 401; 0.1.14 refuses the connection
                              Each can be repeated.

Faults
  --fault NAME                misbehave in this way
  --fault-from N              only from the Nth connection on, counted from 1
  --fault-until N             only up to the Nth connection
  --list-faults               print a JSON line for each fault, and exit

Times
  --silence-ms N              drop a client that sent nothing for this time (default: 300000)
  --silence-check-ms N        check for such clients at this interval (default: 120000)
  --upload-timeout-ms N       end an upload that is not complete after this time (default: 600000)

In a chat, a first line such as \"/tokens 100 20\" or \"/status 503\" asks for a special answer.
tests/enclave/README.md lists these directives, the servers, and the events of the log.
";

pub(crate) enum Command {
    Serve(Box<Options>),
    ListFaults,
    Help,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) server: Server,
    pub(crate) times: Times,
    pub(crate) port: u16,
    pub(crate) key_port: u16,
    pub(crate) state: Option<PathBuf>,
    pub(crate) release: Option<String>,
    pub(crate) tokens: Tokens,
    pub(crate) log: Option<PathBuf>,
    pub(crate) faulty: Faulty,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) script: Option<Script>,
    pub(crate) export: Option<PathBuf>,
    pub(crate) exit_with_stdin: bool,
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options::default();
    let (mut upstream, mut model) = (None, None);
    let (mut from, mut until) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--server" => options.server = Server::named(&value()?)?,
            "--silence-ms" => options.times.silence = milliseconds(&argument, value()?)?,
            "--silence-check-ms" => {
                options.times.silence_check = milliseconds(&argument, value()?)?;
            }
            "--upload-timeout-ms" => options.times.upload = milliseconds(&argument, value()?)?,
            "--port" => options.port = number(&argument, value()?)?,
            "--key-port" => options.key_port = number(&argument, value()?)?,
            "--state" => options.state = Some(value()?.into()),
            "--release" => {
                let version = value()?;
                if version.is_empty() {
                    return Err("--release needs a version".into());
                }
                options.release = Some(version);
            }
            "--token" => options.tokens.add(value()?, Class::Accepted)?,
            "--expired-token" => options.tokens.add(value()?, Class::Expired)?,
            "--unauthorized-token" => options.tokens.add(value()?, Class::Unauthorized)?,
            "--log" => options.log = Some(value()?.into()),
            "--fault" => {
                let name = value()?;
                options.faulty.fault =
                    Some(faults::find(&name).ok_or(format!("unknown fault {name}"))?);
            }
            "--fault-from" => from = Some(number(&argument, value()?)?),
            "--fault-until" => until = Some(number(&argument, value()?)?),
            "--upstream" => upstream = Some(value()?),
            "--upstream-model" => model = Some(value()?),
            "--script" => options.script = Some(Script::read(value()?.as_ref())?),
            "--export" => options.export = Some(value()?.into()),
            "--exit-with-stdin" => options.exit_with_stdin = true,
            "--list-faults" => return Ok(Command::ListFaults),
            "--help" => return Ok(Command::Help),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    options.upstream = match (upstream, model) {
        (Some(url), model) => Some(Upstream::new(&url, model)?),
        (None, None) => None,
        (None, Some(_)) => return Err("--upstream-model needs --upstream".into()),
    };
    if options.script.is_some() && !options.faulty.worldwide().is_empty() {
        return Err("a script names the faults of its connections: --fault cannot".into());
    }
    if from.is_some() || until.is_some() {
        limit(
            &mut options.faulty,
            from.unwrap_or(1),
            until.unwrap_or(u64::MAX),
        )?;
    }
    Ok(Command::Serve(Box::new(options)))
}

fn number<N: FromStr>(option: &str, text: String) -> Result<N, String> {
    text.parse().map_err(|_| format!("{option} needs a number"))
}

/// Parses a time of at least one millisecond.
fn milliseconds(option: &str, text: String) -> Result<Duration, String> {
    match number(option, text)? {
        0 => Err(format!("{option} must be at least 1")),
        time => Ok(Duration::from_millis(time)),
    }
}

/// Restricts a fault to some connections.
fn limit(faulty: &mut Faulty, from: u64, until: u64) -> Result<(), String> {
    let fault = faulty
        .fault
        .ok_or("--fault-from and --fault-until need --fault")?;
    if from == 0 || until < from {
        return Err(
            "--fault-from must be at least 1, and --fault-until at least --fault-from".into(),
        );
    }
    if fault.twists.iter().any(Twist::is_worldwide) {
        return Err(format!(
            "{} changes policy or key set, which all connections share: \
             --fault-from and --fault-until cannot limit it",
            fault.name
        ));
    }
    (faulty.from, faulty.until) = (from, until);
    Ok(())
}
