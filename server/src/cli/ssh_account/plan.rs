//! What is to be done, step by step; shown before any of it is done.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{
    account::Account,
    found::{self, Found},
    run,
    sshd::{self, Snippet},
};
use crate::{
    cli::{error::CliError, output::Output},
    files,
    ssh_account::ACCOUNT,
};

/// What is to be done, in this order.
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// What else has to be known.
    pub(super) notes: Vec<String>,
}

/// One step.
pub(super) enum Step<'a> {
    /// Make the account.
    Create { arguments: Vec<&'a str> },
    /// Run a program of the system's.
    Run { what: &'static str, program: &'static str, arguments: Vec<&'a str> },
    /// Write our part of sshd's configuration, in the place of what is there.
    Write { sshd: &'static str, snippet: &'a Snippet, before: Option<&'a str> },
    /// Have sshd read its configuration again: the process that is named in this file, if there is one.
    Reload { pid_file: PathBuf, snippet: &'a Snippet },
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
        let Found { account, sshd, no_login, snippet, snippet_now, is_snippet_plain, effective, .. } = found;
        let mut obstacles = found.obstacles.clone();
        if !found.is_included {
            obstacles.push(format!(
                "{} takes in no other files: add this as its first line: {}",
                sshd::CONFIG,
                sshd::INCLUDE
            ));
        }
        obstacles.extend(account.iter().flat_map(Account::obstacles));
        obstacles.extend(sshd::shut_out(effective).map(|list| {
            format!("sshd lets {ACCOUNT} not log in, by {list} in its configuration: let it in there first")
        }));
        let pid_file = sshd::pid_file(effective);
        if pid_file.is_none() {
            obstacles.push(
                "sshd can't be told to read its configuration: take `PidFile none` out of it, and restart sshd".to_owned(),
            );
        }
        let is = |text: String| *is_snippet_plain && snippet_now.as_deref() == Some(&text);
        let is_read = is(snippet.text());
        let is_written = is_read || is(snippet.unread_text());
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
        if account.as_ref().is_some_and(Account::ends_some_day) {
            steps.push(Step::Run {
                what: "Let the account be used for ever: it expires, or its password has to be changed",
                program: "chage",
                arguments: vec![
                    "--lastday",
                    "-1",
                    "--maxdays",
                    "-1",
                    "--inactive",
                    "-1",
                    "--expiredate",
                    "-1",
                    ACCOUNT,
                ],
            });
        }
        if !is_written {
            steps.push(Step::Write { sshd, snippet, before: snippet_now.as_deref() });
        }
        // Also where an earlier run has come no further than that.
        if let Some(pid_file) = pid_file.filter(|_| !is_read) {
            steps.push(Step::Reload { pid_file, snippet });
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
    let without = |setting| {
        format!(
            "This sshd knows no {setting} (OpenSSH has it from 9.2 on): a device that stays logged in behind its session keeps its port until root ends its login. Its port is an event `port-kept` then."
        )
    };
    settings.into_iter().map(note).chain(found.snippet.left_out().map(without)).collect()
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
        Self::Create { arguments }
    }

    fn view(&self) -> StepView {
        let (what, by) = match self {
            Self::Create { arguments } => {
                let what = "Make the account: without a home, a shell and a password";
                (what.to_owned(), Some(command("useradd", arguments)))
            }
            Self::Run { what, program, arguments } => ((*what).to_owned(), Some(command(program, arguments))),
            Self::Write { snippet, before, .. } => {
                let verb = if before.is_some() { "Replace" } else { "Write" };
                (format!("{verb} {}", sshd::SNIPPET), Some(snippet.text()))
            }
            Self::Reload { pid_file, .. } => (
                "Have sshd read its configuration again, if it runs: what is open stays open".to_owned(),
                Some(format!("kill -HUP $(cat {})", pid_file.display())),
            ),
        };
        StepView { what, by }
    }

    fn carry_out(&self) -> Result<(), CliError> {
        match self {
            Self::Create { arguments } => create(arguments),
            Self::Run { program, arguments, .. } => succeed(program, arguments),
            Self::Write { sshd, snippet, before } => write(sshd, snippet, *before),
            Self::Reload { pid_file, snippet } => {
                reload(pid_file)?;
                replace(Some(&snippet.text()))
            }
        }
    }
}

/// The command as it is typed.
fn command(program: &str, arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|word| match word.contains([' ', '*']) {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    });
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// Makes the account, and looks at it: rules that are about its name, or everybody, were there before it.
fn create(arguments: &[&str]) -> Result<(), CliError> {
    succeed("useradd", arguments)?;
    let obstacles = found::account()?.map(|account| account.obstacles()).unwrap_or_default();
    match obstacles.is_empty() {
        true => Ok(()),
        false => Err(CliError::failed(obstacles.join("\n"))),
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
    replace(Some(&snippet.unread_text()))?;
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
    files::replace(Path::new(sshd::SNIPPET), sshd::SNIPPET_MODE, text.as_bytes()).map_err(failed)
}

/// Has sshd read its configuration. One that does not run reads it when it starts.
fn reload(pid_file: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        CliError::failed(format!(
            "sshd can't be told to read its configuration ({}): {error}",
            pid_file.display()
        ))
    };
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let id = text.trim().parse().ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| failed(io::Error::other("expected the number of a process")))?;
    // The file of one that was killed is still there, and its number may be another's.
    let name = fs::read_to_string(format!("/proc/{}/comm", id.as_raw_nonzero())).unwrap_or_default();
    match name.trim() {
        "sshd" => kill_process(id, Signal::HUP).map_err(|error| failed(error.into())),
        _ => Ok(()),
    }
}
