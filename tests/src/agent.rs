//! A real agent, in a directory of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binaries, files,
    process::{self, Process},
    server::Server,
    wait::LONGEST_WAIT,
};

/// The configuration of all agents of tests, but for who logs in where: they don't wait long before they try again.
pub const COMMON: &str = "
status_interval_seconds = 0
[connection]
timeout_seconds = 3
least_wait_seconds = 0.1
most_wait_seconds = 0.5
refused_wait_seconds = 1
";

/// The name of a variable in the environment of an agent, and of all that it starts: its state directory.
pub const MARK: &str = "HOLDFAST_TESTED_AGENT";

/// What shows a program the calendar of the file that `FAKETIME_TIMESTAMP_FILE` names: the Debian package `faketime`.
/// The clocks that only measure go on as they are.
const CALENDAR: [&str; 3] = [
    "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1",
    "FAKETIME_NO_CACHE=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
];

/// An agent: it may run or not, and keeps its state until it is dropped.
#[derive(Debug)]
pub struct Agent {
    directory: TempDir,
    name: String,
    process: Option<Process>,
}

impl Agent {
    /// An agent that is enrolled as `name`, and runs and is online.
    ///
    /// # Errors
    /// It can't be started.
    ///
    /// # Panics
    /// It can't be enrolled, or does not come online.
    #[track_caller]
    pub fn start(server: &Server, name: &str) -> io::Result<Self> {
        let mut agent = Self::enrolled(server, name)?;
        agent.run()?;
        server.wait_online(name, true);
        Ok(agent)
    }

    /// An agent that is enrolled as `name` and does not run.
    ///
    /// # Errors
    /// Its directory can't be made.
    ///
    /// # Panics
    /// It can't be enrolled.
    #[track_caller]
    pub fn enrolled(server: &Server, name: &str) -> io::Result<Self> {
        let agent = Self::new(name)?;
        agent.tell(&["enroll", &server.invite(&["--name", name])]);
        Ok(agent)
    }

    /// An agent that nobody knows.
    ///
    /// # Errors
    /// Its directory can't be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let agent = Self { directory, name: name.to_owned(), process: None };
        agent.configure("")?;
        Ok(agent)
    }

    /// Adds lines to its configuration, for its next start.
    ///
    /// # Errors
    /// They can't be written.
    pub fn configure(&self, more: &str) -> io::Result<()> {
        self.configure_all(&format!("ssh_directory = '/nonexistent'\n{COMMON}{more}"))
    }

    /// Writes its whole configuration, for its next start.
    ///
    /// # Errors
    /// It can't be written.
    pub fn configure_all(&self, text: &str) -> io::Result<()> {
        fs::write(self.directory.path().join("agent.toml"), text)
    }

    /// Another agent with a copy of this one's state: a cloned SD card. It does not run.
    ///
    /// # Errors
    /// The state can't be copied.
    pub fn cloned(&self) -> io::Result<Self> {
        let clone = Self::new(&self.name)?;
        files::copy(&self.state(), &clone.state())?;
        Ok(clone)
    }

    /// Puts another agent's state in the place of this one's, which does not run: a restored SD card.
    ///
    /// # Errors
    /// The state can't be copied.
    pub fn restore(&self, older: &Self) -> io::Result<()> {
        fs::remove_dir_all(self.state())?;
        files::copy(&older.state(), &self.state())
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts it.
    ///
    /// # Errors
    /// It can't be started.
    pub fn run(&mut self) -> io::Result<()> {
        let log = self.directory.path().join("agent.log");
        let arguments = self.commands().arguments(&["run"]);
        self.process = Some(Process::start(Path::new("env"), &arguments, &log)?);
        Ok(())
    }

    /// Sets its calendar, from its next start on: to a time, which then goes on. Once it has one of its own it may be set
    /// while it runs as well.
    ///
    /// # Errors
    /// The file that says so can't be written.
    pub fn set_calendar(&self, time: &str) -> io::Result<()> {
        fs::write(self.calendar(), time)
    }

    fn calendar(&self) -> PathBuf {
        self.directory.path().join("calendar")
    }

    /// The process that runs.
    ///
    /// # Panics
    /// None does.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent was started")
    }

    /// The number of the process that runs, if one does.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it has printed, since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("agent.log")).unwrap_or_default()
    }

    /// Kills it, as a loss of power would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process().terminate(LONGEST_WAIT);
        self.process = None;
    }

    /// The command line for it.
    pub fn commands(&self) -> Commands {
        let (config, calendar) = (self.directory.path().join("agent.toml"), self.calendar());
        Commands { state: self.state(), config, calendar: calendar.exists().then_some(calendar) }
    }

    /// Runs `holdfast-agent` for it with these arguments.
    ///
    /// # Errors
    /// It can't be run, or takes longer than `time_limit`.
    pub fn command(&self, arguments: &[&str], time_limit: Duration) -> io::Result<Output> {
        self.commands().run(arguments, time_limit)
    }

    /// Runs `holdfast-agent` for it, which succeeds, and gives what it prints.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments, LONGEST_WAIT).expect("holdfast-agent runs");
        assert!(output.status.success(), "holdfast-agent {arguments:?}: {output:?}; it said {}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Puts a message into its outbox.
    ///
    /// # Panics
    /// It can't.
    #[track_caller]
    pub fn send(&self, text: &str) {
        self.tell(&["send", text]);
    }

    /// The bodies of the messages that wait in its inbox, which are then no longer there.
    ///
    /// # Panics
    /// They can't be had.
    #[track_caller]
    pub fn receive(&self) -> Vec<String> {
        let printed = self.tell(&["receive", "--json"]);
        let body = |line| {
            let message: Value = serde_json::from_str(line).expect("messages are told as JSON");
            message["body"].as_str().unwrap_or_default().to_owned()
        };
        printed.lines().map(body).collect()
    }
}

/// The command line of `holdfast-agent` for one agent, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Commands {
    state: PathBuf,
    config: PathBuf,
    /// The calendar that it is shown, where that is not the machine's.
    calendar: Option<PathBuf>,
}

impl Commands {
    /// The agent's state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Runs it with these arguments.
    ///
    /// # Errors
    /// It can't be run, or takes longer than `time_limit`.
    pub fn run(&self, arguments: &[&str], time_limit: Duration) -> io::Result<Output> {
        process::run(Path::new("env"), self.arguments(arguments), time_limit)
    }

    /// What `env` is told.
    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let mut all = vec![format!("{MARK}={}", self.state.display())];
        if let Some(calendar) = &self.calendar {
            all.extend(CALENDAR.map(str::to_owned));
            all.push(format!("FAKETIME_TIMESTAMP_FILE={}", calendar.display()));
        }
        all.push(binaries::agent().display().to_string());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all.extend(["--state".to_owned(), self.state.display().to_string()]);
        all.extend(["--config".to_owned(), self.config.display().to_string()]);
        all
    }
}
