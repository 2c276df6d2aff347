//! The command line.

use std::path::PathBuf;

use crate::faults::{self, Fault};
use crate::upstream::Upstream;

pub(crate) const USAGE: &str = "\
usage: confer-enclave [--port N] [--state DIR] [--token TOKEN] [--log FILE] [--fault NAME]
                      [--upstream URL [--upstream-model M]] [--exit-with-stdin]
       confer-enclave --list-faults
";

pub(crate) enum Command {
    Serve(Box<Options>),
    ListFaults,
    Help,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) state: Option<PathBuf>,
    pub(crate) token: Option<String>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) fault: Option<&'static Fault>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) exit_with_stdin: bool,
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options::default();
    let (mut upstream, mut model) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--port" => options.port = value()?.parse().map_err(|_| "--port needs a number")?,
            "--state" => options.state = Some(value()?.into()),
            "--token" => options.token = Some(value()?),
            "--log" => options.log = Some(value()?.into()),
            "--fault" => {
                let name = value()?;
                options.fault =
                    Some(faults::find(&name).ok_or(format!("no fault is named {name}"))?);
            }
            "--upstream" => upstream = Some(value()?),
            "--upstream-model" => model = Some(value()?),
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
    Ok(Command::Serve(Box::new(options)))
}
