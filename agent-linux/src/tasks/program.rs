//! A task that runs a program of the device's configuration to its end.
//!
//! Between the task's process and the program stands a guard, a process that does nothing but wait: for the program, and
//! for the task's process to be gone, however that ends. Then it kills the whole group, whatever the program has started.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{ExitCode, Stdio},
    time::Duration,
};

use rustix::process::{Signal, getpgrp, getppid, kill_process_group, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::{Child, ChildStdin},
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    process::{describe, own_program},
    progress::{Progress, tell},
};

/// The word by which this program is started as a guard; the program and its arguments follow.
pub const RUN_PROGRAM: &str = "run-program";

/// The word by which a guard becomes the program; the guard's process id, the program and its arguments follow.
pub const EXEC_PROGRAM: &str = "exec-program";

/// What a guard exits with where there is no such program, as shells do.
const NO_PROGRAM: u8 = 127;

/// How long a process that was asked to end waits for its agent to go first: a device that goes down ends all processes
/// at once, and what one of them says of that is not how the task has ended.
const AGENT_FIRST: Duration = Duration::from_secs(2);

/// A program and its arguments.
#[derive(Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
}

/// A program that runs, behind its guard.
pub(super) struct RunningProgram {
    name: String,
    guard: Child,
    /// As long as it is open, this process is there.
    _lifeline: Option<ChildStdin>,
}

/// Why a program was not run, or not well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("the command could not be started: {0}")]
    Start(#[from] io::Error),
    #[error("the command {name:?} can't be run on this device; correct it in its agent.toml")]
    Missing { name: String },
    #[error("the command {name:?} ended with {how}")]
    Ended { name: String, how: String },
}

impl Program {
    /// Runs the program that starts the device anew. Behind that it waits: the device goes down, and this process with it.
    pub(super) async fn reboot(self) -> Result<String, ProgramError> {
        // Whoever is to stop asks the whole group: the program's own end is waited for.
        let mut asked_to_end = signal(SignalKind::terminate())?;
        tell(&Progress::Waiting("its command has not ended".to_owned()))?;
        self.start()?.end().await?;
        tell(&Progress::Running)?;
        tell(&Progress::Waiting("the device has not gone down".to_owned()))?;
        asked_to_end.recv().await;
        sleep(AGENT_FIRST).await;
        Ok("it was asked to end".to_owned())
    }

    /// Starts the program.
    pub(super) fn start(self) -> Result<RunningProgram, ProgramError> {
        // What it says goes to the task's output: standard output is for steps.
        let output = io::stderr().as_fd().try_clone_to_owned()?;
        let mut guard =
            own_program(RUN_PROGRAM).args(&self.command).stdin(Stdio::piped()).stdout(output).spawn()?;
        let lifeline = guard.stdin.take();
        let name = self.command.into_iter().next().unwrap_or_default();
        Ok(RunningProgram { name, guard, _lifeline: lifeline })
    }
}

impl RunningProgram {
    /// Waits for the program's good end.
    pub(super) async fn end(mut self) -> Result<(), ProgramError> {
        let (status, name) = (self.guard.wait().await?, self.name);
        match status.code() {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(NO_PROGRAM) => Err(ProgramError::Missing { name }),
            _ => Err(ProgramError::Ended { name, how: describe(status) }),
        }
    }
}

/// `holdfast-agent run-program`: runs a program until it ends, or until standard input does. Gives the exit code of
/// the program.
pub fn guard(command: &[OsString]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return no_program(command.first(), &error),
    };
    runtime
        .block_on(async { watch(command).await.unwrap_or_else(|error| no_program(command.first(), &error)) })
}

/// `holdfast-agent exec-program`: becomes the program, which dies with the guard: nothing else would end it where both
/// the task's process and the guard are killed at once.
pub fn become_program(words: &[OsString]) -> ExitCode {
    let become_it = || -> io::Result<Infallible> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let [guard, name, arguments @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
        // And who died before?
        if getppid().map(|parent| parent.as_raw_nonzero().to_string()).as_deref() != guard.to_str() {
            return Err(io::Error::other("the guard has gone"));
        }
        Err(std::process::Command::new(name).args(arguments).exec())
    };
    match become_it() {
        Err(error) => no_program(words.get(1), &error),
    }
}

fn no_program(name: Option<&OsString>, error: &io::Error) -> ExitCode {
    eprintln!("holdfast-agent: the command {:?} can't be run: {error}", name.cloned().unwrap_or_default());
    ExitCode::from(NO_PROGRAM)
}

async fn watch(command: &[OsString]) -> io::Result<ExitCode> {
    let _asked_to_end = signal(SignalKind::terminate())?;
    let mut lifeline = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut nothing = [0];
    let mut program = own_program(EXEC_PROGRAM)
        .arg(std::process::id().to_string())
        .args(command)
        .stdin(Stdio::null())
        .spawn()?;
    let status = tokio::select! {
        status = program.wait() => status?,
        _ = lifeline.read(&mut nothing) => {
            // This ends the guard as well.
            kill_process_group(getpgrp(), Signal::KILL)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        None => {
            eprintln!("holdfast-agent: the command ended by {}", describe(status));
            ExitCode::FAILURE
        }
    })
}
