//! A device with an SSH server, and an operator with OpenSSH's programs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Output,
};

use holdfast_tests::{
    agent::{Agent, MARK},
    binaries, process,
    server::Server,
    sshd::Sshd,
    wait::{self, LONGEST_WAIT},
};
use serde_json::Value;
use tempfile::TempDir;

/// The device's name.
pub(crate) const DEVICE: &str = "kiosk";

/// All of it, and the device is online.
pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    pub(crate) sshd: Sshd,
    directory: TempDir,
}

impl Fleet {
    pub(crate) fn start() -> io::Result<Self> {
        Self::configured("")
    }

    /// With these lines more in the agent's configuration, behind those of its SSH server.
    pub(crate) fn configured(more: &str) -> io::Result<Self> {
        Self::with(Sshd::start()?, more)
    }

    /// With this SSH server.
    pub(crate) fn with(sshd: Sshd, more: &str) -> io::Result<Self> {
        Self::of(Server::start()?, sshd, more)
    }

    /// With this server, and this SSH server.
    pub(crate) fn of(server: Server, sshd: Sshd, more: &str) -> io::Result<Self> {
        let agent = Agent::new(DEVICE)?;
        sshd.belong_to(&agent, more)?;
        agent.tell(&["enroll", &server.invite(&["--name", DEVICE])]);
        Self::enrolled(server, agent, sshd)
    }

    /// With this device, which is enrolled.
    pub(crate) fn enrolled(server: Server, agent: Agent, sshd: Sshd) -> io::Result<Self> {
        let mut fleet = Self { server, agent, sshd, directory: tempfile::tempdir()? };
        fleet.agent.run()?;
        fleet.server.wait_online(DEVICE, true);
        wait::until_true("the device has said who logs in there", || {
            fleet.server.device(DEVICE).is_some_and(|device| device["ssh_user"].is_string())
        });
        fs::write(fleet.config(), fleet.server.tell(&["ssh-config"]) + &fleet.identity())?;
        Ok(fleet)
    }

    /// What the operator's own configuration says beside ours.
    pub(crate) fn identity(&self) -> String {
        let key = self.sshd.key();
        format!("Host *\n    IdentityFile {}\n    IdentitiesOnly yes\n    BatchMode yes\n", key.display())
    }

    /// The configuration that the operator gives to OpenSSH's programs.
    pub(crate) fn config(&self) -> PathBuf {
        self.file("ssh_config")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs one of OpenSSH's programs with the operator's configuration.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let config = self.config().display().to_string();
        let all = [&["-F", &config], arguments].concat();
        process::run(Path::new(program), all, LONGEST_WAIT).expect("the program runs")
    }

    /// The same, of which it is expected that it succeeds: gives what it prints.
    #[track_caller]
    pub(crate) fn tell(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}; the server: {}; the agent: {}; sshd: {}",
            self.server.log(),
            self.agent.log(),
            self.sshd.log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `holdfast ssh DEVICE -- …`, with the operator's key.
    #[track_caller]
    pub(crate) fn holdfast_ssh(&self, options: &[&str], rest: &[&str]) -> Output {
        let (data, key) = (self.server.data().display().to_string(), self.sshd.key().display().to_string());
        let own = ["-F", "none", "-i", &key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
        let all = [&["ssh", "--data", &data], options, &[DEVICE, "--"], &own, rest].concat();
        process::run(&binaries::holdfast(), all, LONGEST_WAIT).expect("holdfast runs")
    }

    /// All tasks, oldest first.
    pub(crate) fn tasks(&self) -> Vec<Value> {
        self.server.api().list("/tasks").expect("the server tells")
    }

    /// Waits until all tasks have ended, and gives them.
    #[track_caller]
    pub(crate) fn ended(&self) -> Vec<Value> {
        let has_ended = |task: &Value| task["ended"].is_string();
        wait::until("all tasks have ended", || self.tasks(), |tasks| tasks.iter().all(has_ended))
    }

    /// Waits until this many tasks run.
    #[track_caller]
    pub(crate) fn wait_running(&self, count: usize) {
        let running = |tasks: &Vec<Value>| tasks.iter().filter(|task| task["state"] == "running").count();
        wait::until("the sessions run", || self.tasks(), |tasks| running(tasks) == count);
    }

    /// The processes of the agent's tasks that are there now.
    pub(crate) fn task_processes(&self) -> Vec<u32> {
        let all = self.processes().into_iter();
        all.filter(|id| process::words(*id).iter().any(|word| word == "run-task")).collect()
    }

    /// The processes that carry an operator's bytes now.
    pub(crate) fn proxies(&self) -> Vec<u32> {
        let data = self.server.data().display().to_string();
        let is_one = |id: &u32| {
            let words = process::words(*id);
            words.contains(&"proxy".to_owned()) && words.contains(&data)
        };
        process::all().into_iter().filter(is_one).collect()
    }

    /// All processes that the agent has started, and what they have; not the one that waits for the next task.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.agent.state().display());
        let own = self.agent.process_id();
        process::all()
            .into_iter()
            .filter(|id| Some(*id) != own && process::has_variable(*id, &mark))
            .filter(|id| process::name(*id) != "holdfast-ready")
            .collect()
    }
}
