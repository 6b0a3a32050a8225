//! `setup-ssh-account`, `authorized-keys`: this machine's own SSH server as a way to devices.

mod account;
mod authorized;
mod found;
mod plan;
mod sshd;

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Output as Ended, Stdio},
};

use clap::Args;

pub(super) use self::authorized::{AuthorizedKeys, authorized_keys};
use self::{found::Found, plan::Plan};
use super::{confirm::confirm, error::CliError, output::Output};

/// The arguments of `setup-ssh-account`.
#[derive(Args, Clone, Debug)]
pub(super) struct Setup {
    /// Do it without a question
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// `holdfast setup-ssh-account`.
pub(super) fn setup(data: &Path, setup: &Setup, output: &mut Output) -> Result<(), CliError> {
    if output.json && !setup.yes && !setup.dry_run {
        return Err(CliError::Usage("--json asks nothing: add --yes or --dry-run".to_owned()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(CliError::failed("only root sees and makes accounts: run this by sudo"));
    }
    let found = Found::look(data)?;
    let plan = Plan::new(&found).map_err(|obstacles| CliError::failed(obstacles.join("\n")))?;
    if !output.json {
        plan.show(output)?;
        output.flush()?;
    }
    let is_wanted =
        !setup.dry_run && !plan.steps.is_empty() && (setup.yes || confirm("Do this?", "--yes or --dry-run")?);
    if is_wanted {
        plan.carry_out()?;
    }
    let is_done = is_wanted || plan.steps.is_empty();
    match output.json {
        true => output.json_line(&plan.view(is_done))?,
        false if is_done => {
            for line in plan.notes.iter().map(String::as_str).chain([NEXT]) {
                output.line(line)?;
            }
        }
        false => {}
    }
    Ok(())
}

/// What is left to be done, elsewhere.
const NEXT: &str =
    "On a device that is to use it: transport = \"openssh\" under [tasks.ssh] in its agent.toml.";

/// Runs one of the system's programs, in the language of its documentation, with this on its standard input.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<Ended, CliError> {
    let failed = |error: io::Error| CliError::failed(format!("{program} can't be run: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Less than a pipe holds; who does not read it does not want it.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().map_err(failed)
}
