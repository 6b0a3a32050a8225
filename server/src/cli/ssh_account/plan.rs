//! What is to be done, step by step; shown before any of it is done.

use std::{fs, io, path::Path};

use serde::Serialize;

use super::{
    found::Found,
    run,
    sshd::{self, Snippet},
};
use crate::{
    cli::{error::CliError, output::Output},
    ssh_account::ACCOUNT,
};

/// The units that sshd may be.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];

/// What is to be done, in this order.
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// What else has to be known.
    pub(super) notes: Vec<String>,
}

/// One step.
pub(super) enum Step<'a> {
    /// Run a program of the system's.
    Run { what: &'static str, program: &'static str, arguments: Vec<&'a str> },
    /// Write our part of sshd's configuration, in the place of what is there.
    Write { sshd: &'static str, snippet: &'a Snippet, before: Option<&'a str> },
    /// Have sshd read its configuration again.
    Reload,
}

/// The plan, for programs.
#[derive(Serialize)]
pub(super) struct PlanView {
    /// Whether all of it is done now.
    done: bool,
    steps: Vec<StepView>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct StepView {
    what: String,
    /// The command that does it, or the file's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl<'a> Plan<'a> {
    /// What is to be done where this was found; or all that stands in the way, each with what to do about it.
    pub(super) fn new(found: &'a Found) -> Result<Self, Vec<String>> {
        let Found { account, sshd, no_login, snippet, snippet_now, effective, .. } = found;
        let mut obstacles = found.obstacles.clone();
        if !found.is_included {
            obstacles.push(format!(
                "{} takes in no other files: add this as its first line: {}",
                sshd::CONFIG,
                sshd::INCLUDE
            ));
        }
        obstacles.extend(account.iter().flat_map(super::account::Account::obstacles));
        obstacles.extend(sshd::shut_out(effective).map(|list| {
            format!("sshd lets {ACCOUNT} not log in, by {list} in its configuration: let it in there first")
        }));
        let is_written = snippet_now.as_deref() == Some(&snippet.text());
        let missing = snippet.missing(effective);
        if is_written && found.is_included && !missing.is_empty() {
            obstacles.push(overridden(&missing));
        }
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
        let mut steps = Vec::new();
        match account {
            None => steps.push(Step::create(no_login)),
            Some(account) if account.is_switched_off() => steps.push(Step::Run {
                what: "Let the account be used with keys: it has no password, and is switched off",
                program: "usermod",
                arguments: vec!["--password", "*", ACCOUNT],
            }),
            Some(_) => {}
        }
        if !is_written {
            steps.push(Step::Write { sshd, snippet, before: snippet_now.as_deref() });
            steps.push(Step::Reload);
        }
        Ok(Self { steps, notes: notes(found) })
    }

    /// Shows it.
    pub(super) fn show(&self, output: &mut Output) -> io::Result<()> {
        if self.steps.is_empty() {
            return output.line(&format!("Nothing is to be done: {ACCOUNT} and sshd are as they should be."));
        }
        output.line("This is to be done:")?;
        for (number, step) in (1..).zip(&self.steps) {
            let StepView { what, by } = step.view();
            output.line(&format!("{number}. {what}{}", if by.is_some() { ":" } else { "." }))?;
            for line in by.iter().flat_map(|by| by.lines()) {
                output.line(&format!("     {line}"))?;
            }
        }
        Ok(())
    }

    /// The same for programs.
    pub(super) fn view(&self, done: bool) -> PlanView {
        PlanView { done, steps: self.steps.iter().map(Step::view).collect(), notes: self.notes.clone() }
    }

    /// Does it, step by step, to the first that fails.
    pub(super) fn carry_out(&self) -> Result<(), CliError> {
        self.steps.iter().try_for_each(Step::carry_out)
    }
}

/// What the server's configuration has to say, so that devices find sshd.
fn notes(found: &Found) -> Vec<String> {
    let (ports, keys) = (sshd::ports(&found.effective), sshd::host_keys(&found.effective));
    let told = &found.told;
    let mut settings = Vec::new();
    if let Some(port) = ports.first().filter(|_| !ports.contains(&told.port)) {
        settings.push(format!("port = {port}"));
    }
    if let Some(key) = keys.first().filter(|_| !keys.iter().any(|key| told.host_keys.contains(key))) {
        settings.push(format!("host-keys = [\"{}\"]", key.display()));
    }
    let note = |setting| {
        format!(
            "Devices would look for another sshd: write `{setting}` under [ssh-account] into the server's configuration, and restart it."
        )
    };
    settings.into_iter().map(note).collect()
}

fn overridden(missing: &[&str]) -> String {
    format!(
        "sshd does not do for {ACCOUNT} what {} says ({}): look for another file before it with a Match block that sets this",
        sshd::SNIPPET,
        missing.join(", ")
    )
}

impl<'a> Step<'a> {
    fn create(no_login: &'a str) -> Self {
        let mut arguments =
            vec!["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
        arguments.extend([
            "--shell",
            no_login,
            "--password",
            "*",
            "--comment",
            "Devices of the Holdfast fleet",
        ]);
        arguments.push(ACCOUNT);
        Self::Run {
            what: "Make the account: without a home, a shell and a password",
            program: "useradd",
            arguments,
        }
    }

    fn view(&self) -> StepView {
        let (what, by) = match self {
            Self::Run { what, program, arguments } => {
                let quoted = arguments.iter().map(|word| match word.contains([' ', '*']) {
                    true => format!("'{word}'"),
                    false => (*word).to_owned(),
                });
                let by = std::iter::once((*program).to_owned()).chain(quoted).collect::<Vec<_>>().join(" ");
                ((*what).to_owned(), Some(by))
            }
            Self::Write { snippet, before, .. } => {
                let verb = if before.is_some() { "Replace" } else { "Write" };
                (format!("{verb} {}", sshd::SNIPPET), Some(snippet.text()))
            }
            Self::Reload => {
                ("Have sshd read its configuration again: what is open stays open".to_owned(), None)
            }
        };
        StepView { what, by }
    }

    fn carry_out(&self) -> Result<(), CliError> {
        match self {
            Self::Run { program, arguments, .. } => succeed(program, arguments),
            Self::Write { sshd, snippet, before } => write(sshd, snippet, *before),
            Self::Reload => reload(),
        }
    }
}

/// Runs a program that has to succeed.
fn succeed(program: &str, arguments: &[&str]) -> Result<(), CliError> {
    let ended = run(program, arguments, "")?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(CliError::failed(format!(
            "{program} failed ({}): {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr).trim()
        ))),
    }
}

/// Writes our part, and has sshd say that it does all of it: else what was there before is there again.
fn write(sshd: &str, snippet: &Snippet, before: Option<&str>) -> Result<(), CliError> {
    replace(Some(&snippet.text()))?;
    let wrong = match sshd::effective(sshd) {
        Ok(effective) => {
            let missing = snippet.missing(&effective);
            (!missing.is_empty()).then(|| CliError::failed(overridden(&missing)))
        }
        Err(error) => Some(error),
    };
    match wrong {
        None => Ok(()),
        Some(error) => {
            replace(before)?;
            Err(error)
        }
    }
}

/// Puts a text in the place of our part; or takes that away.
fn replace(text: Option<&str>) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::failed(format!("{}: {error}", sshd::SNIPPET));
    let Some(text) = text else { return fs::remove_file(sshd::SNIPPET).map_err(failed) };
    // sshd reads what ends with .conf: never a half of it.
    let new = format!("{}.new", sshd::SNIPPET);
    fs::write(&new, text).and_then(|()| fs::rename(&new, sshd::SNIPPET)).map_err(failed)
}

/// Has sshd read its configuration, where one runs that can be told.
fn reload() -> Result<(), CliError> {
    if !Path::new("/run/systemd/system").exists() {
        eprintln!("There is no systemd here to tell sshd: send SIGHUP to it yourself.");
        return Ok(());
    }
    for unit in UNITS {
        if run("systemctl", &["cat", unit], "")?.status.success() {
            // One that does not run reads it when it starts.
            return succeed("systemctl", &["try-reload-or-restart", unit]);
        }
    }
    Err(CliError::failed(format!("no unit of sshd is found ({}): reload it yourself", UNITS.join(", "))))
}
