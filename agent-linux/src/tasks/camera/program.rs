//! A camera's program as it runs, with all that it starts.
//!
//! It runs behind a guard (`tasks/program.rs`), in a process group of its own: that can be killed without whoever watches it,
//! and is by its guard when that one is gone.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    process::{Child, ChildStdin, ChildStdout},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{CommandLine, words::Words};
use crate::tasks::{
    process::{describe, own_program},
    program::RUN_PROGRAM,
};

/// How long a program that has closed its output may take to end by itself, before it is killed.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long a program that was killed may take to go, and its last words to be read.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// A camera's program, and its guard.
pub(super) struct CameraProgram {
    guard: Child,
    group: Pid,
    /// As long as it is open, this process is there.
    _lifeline: ChildStdin,
    output: ChildStdout,
    words: Words,
    listener: JoinHandle<()>,
    /// What the program needs as long as it runs.
    _command: CommandLine,
    is_over: bool,
}

/// How a program has ended, and what it has said.
#[derive(Debug)]
pub(super) struct HowItEnded {
    /// In words: `exit code 1`.
    pub(super) how: String,
    /// The last lines on its standard error, escaped; oldest first.
    pub(super) said: Vec<String>,
}

impl CameraProgram {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says. A program that can't be run ends at once, and says so.
    pub(super) fn start(command: CommandLine) -> io::Result<Self> {
        let mut guard = own_program(RUN_PROGRAM)
            .args(&command.words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("it has no process id, or no pipe");
        let group = guard.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).ok_or_else(missing)?;
        let (lifeline, output) =
            (guard.stdin.take().ok_or_else(missing)?, guard.stdout.take().ok_or_else(missing)?);
        let errors = guard.stderr.take().ok_or_else(missing)?;
        let words = Words::default();
        let (heard, secrets) = (words.clone(), command.secrets());
        let listener = tokio::spawn(async move { heard.hear(errors, secrets).await });
        Ok(Self {
            guard,
            group,
            _lifeline: lifeline,
            output,
            words,
            listener,
            _command: command,
            is_over: false,
        })
    }

    /// What it writes.
    pub(super) const fn output(&mut self) -> &mut ChildStdout {
        &mut self.output
    }

    /// Waits until a program that has closed its output has ended by itself, for a moment.
    pub(super) async fn farewell(&self) {
        // It must not be waited for in earnest: its id, which is the group's, would be another's afterwards.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = async {
            while matches!(waitid(WaitId::Pid(self.group), look), Ok(None)) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(FAREWELL, ended).await;
    }

    /// Ends it, and all that it has started.
    pub(super) async fn end(mut self) -> HowItEnded {
        self.kill();
        let status = timeout(LAST_STEPS, self.guard.wait()).await;
        // Whoever has left the group may hold the pipe open.
        let _ = timeout(LAST_STEPS / 10, &mut self.listener).await;
        self.listener.abort();
        let how = status.ok().and_then(Result::ok).map_or_else(|| "nobody knows how".to_owned(), describe);
        HowItEnded { how, said: self.words.lines() }
    }

    fn kill(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            // There may be nobody left.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

impl Drop for CameraProgram {
    fn drop(&mut self) {
        self.kill();
    }
}
