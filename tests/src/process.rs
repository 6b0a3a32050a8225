//! Programs that run beside a test, and end with it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait;

/// A program that runs. It is killed when this is dropped, and when the thread that started it ends in whatever way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints is added to the file `log`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start<I: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = I>,
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        // The kernel then sees to it that nothing is left behind, even if the test itself is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for whoever started it, who then ends it.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in kilobytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("expected the memory of process {}, found {status:?}", self.id()))
    }

    /// How much processor time it has used.
    ///
    /// # Panics
    /// It has ended.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        // Behind the name: state, and then the fields from the fourth on; user and system time are 14 and 15.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Everything that it, and others with the same log, have printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It can't be sent.
    pub fn signal(&self, signal: Signal) {
        let id = self.id().try_into().ok().and_then(Pid::from_raw).expect("a child has a number");
        kill_process(id, signal).expect("a child that was not waited for can be signalled");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Kills it, as a loss of power would.
    pub fn kill(&mut self) {
        // It has ended already, or does now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// It does not within `time_limit`; the message holds what it printed.
    #[track_caller]
    pub fn terminate(&mut self, time_limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(time_limit)
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It does not within `time_limit`; the message holds what it printed.
    #[track_caller]
    pub fn wait(&mut self, time_limit: Duration) -> ExitStatus {
        let Some(status) = wait::find(time_limit, || self.ended()) else {
            panic!("process {} did not end within {time_limit:?}; it printed {}", self.id(), self.printed());
        };
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `program` to its end, without input.
///
/// # Errors
/// It can't be run, or does not end within `time_limit` and is killed.
pub fn run<I: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = I>,
    time_limit: Duration,
) -> io::Result<Output> {
    // `timeout` ends with 124 where it had to end the program, and with 137 where it had to kill it.
    let output = Command::new("timeout")
        .args(["--kill-after", "1", &time_limit.as_secs_f64().to_string()])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    match output.status.code() {
        Some(124 | 137) | None => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no end within {time_limit:?} (signal {:?})", output.status.signal()),
        )),
        Some(_) => Ok(output),
    }
}

/// The objects that a program has printed, one on each line, when it was run with these arguments.
///
/// # Panics
/// It has printed something else.
#[track_caller]
pub fn objects(arguments: &[&str], printed: &str) -> Vec<Value> {
    let parsed: Result<_, _> = printed.lines().map(serde_json::from_str).collect();
    parsed.unwrap_or_else(|error| panic!("{arguments:?}: {error} in {printed}"))
}

/// All processes that there are.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Which process a process was started by; nothing if it has gone.
pub fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// The name of a process, as the kernel has it; none if it has gone.
pub fn name(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The words that a process was started with; none if it has gone.
pub fn words(id: u32) -> Vec<String> {
    strings(&format!("/proc/{id}/cmdline"))
}

/// Whether a process has this in its environment, as `NAME=value`.
pub fn has_variable(id: u32, variable: &str) -> bool {
    strings(&format!("/proc/{id}/environ")).iter().any(|found| found == variable)
}

fn strings(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
