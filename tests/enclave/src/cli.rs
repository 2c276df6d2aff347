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
usage: confer-enclave [--server 0.1.14|newer] [--port N] [--key-port N] [--state DIR] [--release VERSION]
                      [--silence-ms N] [--silence-check-ms N] [--upload-timeout-ms N]
                      [--token TOKEN]… [--expired-token TOKEN]… [--unauthorized-token TOKEN]…
                      [--fault NAME [--fault-from N] [--fault-until M]] [--log FILE]
                      [--upstream URL [--upstream-model M]] [--script FILE] [--exit-with-stdin]
       confer-enclave --export DIR [--state DIR] [--fault NAME]
       confer-enclave --list-faults
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
