//! `cargo xtask demo`: the main job at work, for someone who sees it for the first time.

use crate::shell::{Result, Shell, target};

/// A server and two agents, exchanging messages; stays until Ctrl-C
///
/// Builds, starts a server on its defaults, enrols and runs two agents, sends messages both ways, and shows the
/// devices live. Nothing is written outside of target/, and nothing is left running.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo
  cargo xtask demo --once    the same, checked, without staying")]
pub(crate) struct Arguments {
    /// End once everything was shown: with success if all of it was as it should be
    #[arg(long)]
    once: bool,
}

/// `cargo xtask demo`.
///
/// # Errors
/// Something could not be built or started, or was not as it should be.
pub(crate) fn run(arguments: &Arguments) -> Result {
    println!("Building the server and the agent (the first time takes a minute or two) ...");
    Shell::cargo(BUILD).run_alone()?;
    if arguments.once { once().run_alone() } else { demo().become_it() }
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// As [`run`].
pub(crate) fn step() -> Result<String> {
    Shell::cargo(BUILD).run()?;
    once().run()?;
    Ok(String::new())
}

const BUILD: &str =
    "build --package holdfast --package holdfast-agent --package holdfast-tests --bins --locked";

fn demo() -> Shell {
    Shell::new(target().join("debug/demo"), "").argument(target().join("demo"))
}

fn once() -> Shell {
    demo().argument("--once")
}
