//! The command line: arguments, and one file for each of the larger verbs.

mod cameras;
mod error;
mod log;
mod receive;
mod send;
mod show;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::json;

use crate::{config::Config, enrol, run, tasks};

use error::CliError;

/// The state directory, if nothing else is said.
const DEFAULT_STATE: &str = "/var/lib/holdfast-agent";

/// The agent of a Holdfast fleet: holds this device's connection to its server, and loses no message.
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  holdfast-agent enroll hf1.…          make this device known, with the line of `holdfast enroll`
  holdfast-agent run                   hold the connection
  holdfast-agent send 'door open'      say something to the server
  holdfast-agent receive --follow      hear what it says
  holdfast-agent status                is it connected?

Exit codes: 0 fine, 1 failed, 2 usage, 3 the server or the agent can't be reached, 5 refused.")]
struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    verb: Verb,
}

/// What all verbs share; it may stand before or after the verb.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of all commands")]
struct Shared {
    /// The directory of what the agent must not forget
    #[arg(long, global = true, env = "HOLDFAST_STATE", hide_env_values = true, default_value = DEFAULT_STATE, value_name = "DIR")]
    state: PathBuf,
    /// The configuration; it must be there if it is named [default: /etc/holdfast/agent.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make this device known to a server, with the line that `holdfast enroll` printed there
    #[command(after_help = "\
The device makes its own key, which never leaves it. If the answer got lost, give the same line again.

Example:
  holdfast-agent enroll hf1.BHx2…")]
    Enroll {
        /// The line, `hf1.…`
        line: String,
        /// Give the device a new identity, although it has one
        #[arg(long)]
        again: bool,
    },
    /// Hold the connection to the server until a signal ends it
    #[command(after_help = "\
It waits for the network, for the server, and for an enrolment, as long as need be.
HOLDFAST_LOG sets how much is logged to standard error: error, warn, info, debug or trace.

Example:
  holdfast-agent run --state ./state")]
    Run,
    /// Keep a message for the server; it succeeds once the message is on disk
    #[command(after_help = "\
It works whether or not the agent runs. The bytes are kept as they are; a body has at most 16,344 bytes.

Examples:
  holdfast-agent send 'door open'
  holdfast-agent send --kind reading --id 2026-11-22T07:30 21.5
  df -h | holdfast-agent send --kind disk -")]
    Send(send::Send),
    /// Print the messages from the server that wait, and take them
    #[command(after_help = "\
A line for each message, its body alone; --json tells all. What was printed is taken,
wherever the output goes: a closed one loses it. One program receives at a time.

Examples:
  holdfast-agent receive
  holdfast-agent receive --follow --json")]
    Receive {
        /// Stay, and print what comes; Ctrl-C ends it
        #[arg(long, short)]
        follow: bool,
    },
    /// Show whether the agent runs and is connected, why not, and what waits
    #[command(after_help = "Example:\n  holdfast-agent status --json")]
    Status,
    /// List this device's cameras, and what they would run; or try one
    #[command(after_help = "\
It needs no agent that runs. A camera that is shown at the moment can't be tried: most serve one at a time.

Examples:
  holdfast-agent cameras
  holdfast-agent cameras --try front")]
    Cameras {
        /// Run this camera for five seconds, and count its pictures
        #[arg(long = "try", value_name = "NAME")]
        to_try: Option<String>,
    },
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  holdfast-agent completions bash > /etc/bash_completion.d/holdfast-agent"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Does what the command line asks for. Gives the exit code that stands in the help.
pub fn main() -> ExitCode {
    // Whatever is made belongs to this user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Some(exit_code) = run_for_agent() {
        return exit_code;
    }
    let Arguments { shared, verb } = Arguments::parse();
    match perform(&shared, verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(shared.json),
    }
}

/// Does what the agent starts itself for, if that is asked for. Completions would show these verbs even if they were
/// hidden from the help: they are no part of the command line.
fn run_for_agent() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    match words.next()?.to_str()? {
        tasks::RUN_TASK => {
            log::start("warn");
            Some(tasks::run_task())
        }
        tasks::RUN_PROGRAM => Some(tasks::guard(&words.collect::<Vec<_>>())),
        tasks::EXEC_PROGRAM => Some(tasks::become_program(&words.collect::<Vec<_>>())),
        _ => None,
    }
}

fn perform(shared: &Shared, verb: Verb) -> Result<(), CliError> {
    if let Verb::Completions { shell } = verb {
        // Made in memory first: the generator panics where it can't write.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "holdfast-agent", &mut script);
        return Ok(io::stdout().write_all(&script)?);
    }
    let config = Config::read(shared.config.as_deref())?;
    match verb {
        Verb::Enroll { line, again } => {
            log::start("warn");
            enroll(shared, &line, &config, again)
        }
        Verb::Run => {
            log::start("info");
            Ok(run::run(&shared.state, config)?)
        }
        Verb::Send(arguments) => send::send(shared, &config, &arguments),
        Verb::Receive { follow } => receive::receive(shared, &config, follow),
        Verb::Status => show::status(shared, &config),
        Verb::Cameras { to_try } => cameras::cameras(shared, &config, to_try.as_deref()),
        Verb::Completions { .. } => Ok(()),
    }
}

/// The command that starts the agent of this directory; the unit is for the usual one.
fn how_to_start(state: &Path, config: Option<&Path>, by_unit: &str) -> String {
    let config = config.map(|config| format!(" --config {}", config.display())).unwrap_or_default();
    match state == Path::new(DEFAULT_STATE) {
        true if config.is_empty() => format!("systemctl {by_unit} holdfast-agent, or holdfast-agent run"),
        true => format!("holdfast-agent run{config}"),
        false => format!("holdfast-agent run --state {}{config}", state.display()),
    }
}

fn enroll(shared: &Shared, line: &str, config: &Config, again: bool) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let identity = runtime.block_on(enrol::enrol(line, &shared.state, config, again))?;
    runtime.shutdown_background();
    // An agent that runs already need not be told twice: whoever looks in makes it look.
    let runs = std::os::unix::net::UnixStream::connect(shared.state.join("agent.sock")).is_ok();
    let mut output = io::stdout().lock();
    if shared.json {
        writeln!(output, "{}", json!({ "name": identity.name, "server": identity.targets() }))?;
    } else {
        let next = match runs {
            true => "the agent that runs connects as such".to_owned(),
            false => {
                format!("start it: {}", how_to_start(&shared.state, shared.config.as_deref(), "enable --now"))
            }
        };
        writeln!(output, "enrolled as {}; {next}", identity.name)?;
    }
    Ok(())
}
