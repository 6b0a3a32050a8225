//! A task's process: the agent's own program, in a process group of its own, started and ended as a whole.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    assignment::{Assignment, Preparation},
    output::Output,
    progress::Steps,
};

/// This program as it runs, whatever has taken its file's place since.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The word by which this program is started as a task's process.
pub const RUN_TASK: &str = "run-task";

/// How long a process that was killed may take to go, and its last words to be read.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// This program once more, to do what this word says.
pub(super) fn own_program(word: &str) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("holdfast-agent").arg(word);
    command
}

/// A process with all that it has started.
pub(super) struct Process {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    pub(super) steps: Steps<ChildStdout>,
    pub(super) output: Output<ChildStderr>,
}

impl Process {
    /// Starts a process, which makes ready by this and waits for what it is to do.
    pub(super) async fn start(preparation: &Preparation) -> io::Result<Self> {
        let mut line = serde_json::to_vec(preparation)?;
        line.push(b'\n');
        let mut child = own_program(RUN_TASK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("it has no process id, or no pipe");
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).ok_or_else(missing)?;
        let (stdout, stderr) =
            (child.stdout.take().ok_or_else(missing)?, child.stderr.take().ok_or_else(missing)?);
        let stdin = child.stdin.take();
        let mut process =
            Self { child, group, stdin, steps: Steps::new(stdout), output: Output::new(stderr) };
        process.tell(&line).await;
        Ok(process)
    }

    /// Hands it what it is to do, once.
    pub(super) async fn assign(&mut self, assignment: &Assignment) -> io::Result<()> {
        self.tell(&serde_json::to_vec(assignment)?).await;
        // Its end is the assignment's.
        self.stdin = None;
        Ok(())
    }

    /// Says something on its standard input, since arguments and environment can be read by others.
    async fn tell(&mut self, text: &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        // Far less than a pipe holds: it does not wait. A process that is gone already has said why.
        let _ = timeout(LAST_STEPS, stdin.write_all(text)).await;
    }

    /// Whether it has not ended. One that has can be dropped, and no more.
    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process's id.
    pub(super) fn id(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Asks the process, and all that it has started, to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the process and all that it has started. Gives how it ended and its last output.
    ///
    /// It must not have been waited for before: its id, which is the group's, is another's afterwards.
    pub(super) async fn end(mut self) -> (Option<ExitStatus>, Vec<u8>) {
        self.signal(Signal::KILL);
        let status = timeout(LAST_STEPS, self.child.wait()).await;
        // Whoever has left the group may hold the pipe open.
        let _ = timeout(LAST_STEPS / 10, self.output.read_on()).await;
        (status.ok().and_then(Result::ok), self.output.take())
    }

    fn signal(&self, signal: Signal) {
        // There may be nobody left.
        let _ = kill_process_group(self.group, signal);
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => status.to_string(),
    }
}

fn signal_name(number: i32) -> String {
    let name = match Signal::from_named_raw(number) {
        Some(Signal::ABORT) => "SIGABRT",
        Some(Signal::BUS) => "SIGBUS",
        Some(Signal::FPE) => "SIGFPE",
        Some(Signal::HUP) => "SIGHUP",
        Some(Signal::ILL) => "SIGILL",
        Some(Signal::INT) => "SIGINT",
        Some(Signal::KILL) => "SIGKILL",
        Some(Signal::PIPE) => "SIGPIPE",
        Some(Signal::QUIT) => "SIGQUIT",
        Some(Signal::SEGV) => "SIGSEGV",
        Some(Signal::SYS) => "SIGSYS",
        Some(Signal::TERM) => "SIGTERM",
        Some(Signal::TRAP) => "SIGTRAP",
        Some(Signal::XCPU) => "SIGXCPU (it has used all of [tasks] max_cpu_seconds)",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_names() {
        for (raw, words) in [
            (0, "exit code 0"),
            (7 << 8, "exit code 7"),
            (11, "SIGSEGV"),
            (24, "SIGXCPU (it"),
            (40, "signal 40"),
        ] {
            assert!(describe(ExitStatus::from_raw(raw)).starts_with(words), "{raw}");
        }
    }
}
