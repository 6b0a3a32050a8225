//! `holdfast reboot`: devices that start anew, and such that don't. A script stands in for what does it.

use std::{fs, io, path::PathBuf};

use holdfast_tests::{
    agent::Agent,
    binaries,
    process::Process,
    server::Server,
    wait::{self, LONGEST_WAIT},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const DEVICE: &str = "kiosk";

struct Scene {
    server: Server,
    agent: Agent,
    directory: TempDir,
}

impl Scene {
    /// A device that is online, and starts anew by this script; `$0` is a directory of the test's.
    fn start(rules: &str, script: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let server = Server::start()?;
        let mut agent = Agent::enrolled(&server, DEVICE)?;
        let path = directory.path().display();
        agent.configure(&format!(
            "{rules}\n[tasks.reboot]\ncommand = ['sh', '-c', '''{script}''', '{path}']\n"
        ))?;
        agent.run()?;
        server.wait_online(DEVICE, true);
        Ok(Self { server, agent, directory })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `holdfast reboot --wait`, which goes on.
    fn reboot(&self) -> io::Result<Process> {
        let data = self.server.data().display().to_string();
        let words = ["reboot", DEVICE, "--wait", "--data", &data];
        let log = self.file("reboot.log");
        let _ = fs::remove_file(&log);
        Process::start(&binaries::holdfast(), words, &log)
    }

    /// The newest task.
    fn task(&self) -> Value {
        self.server.api().list("/tasks").expect("the server tells").last().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn wait_for(&self, state: &str) -> Value {
        wait::until(&format!("the task is {state}"), || self.task(), |task| task["state"] == state)
    }
}

#[test]
fn a_device_that_starts_anew_is_waited_for() -> io::Result<()> {
    let script = "until [ -e $0/go ]; do sleep 0.05; done; rm $0/go; kill -$(cat $0/signal) $(cat $0/agent)";
    let mut scene = Scene::start("", script)?;
    // Without a word, and as an orderly system does it.
    for (name, signal) in [("KILL", Signal::KILL), ("TERM", Signal::TERM)] {
        let agent = scene.agent.process_id().expect("it runs");
        fs::write(scene.file("agent"), agent.to_string())?;
        fs::write(scene.file("signal"), name)?;
        let mut reboot = scene.reboot()?;
        scene.wait_for("running");
        fs::write(scene.file("go"), "")?;
        let status = scene.agent.process().wait(LONGEST_WAIT);
        assert_eq!(status.success(), signal == Signal::TERM, "{status}");
        scene.server.wait_online(DEVICE, false);
        assert_eq!(scene.task()["state"], "running");
        assert!(reboot.ended().is_none(), "{}", reboot.printed());

        scene.agent.run()?;
        let status = reboot.wait(LONGEST_WAIT);
        assert!(
            status.success() && reboot.printed().contains("kiosk is back after "),
            "{}",
            reboot.printed()
        );
        let task = scene.task();
        assert_eq!((&task["state"], &task["reason"]), (&"done".into(), &"the device has come back".into()));
    }
    Ok(())
}

#[test]
fn a_restart_that_fails_says_how() -> io::Result<()> {
    let scene = Scene::start("", "echo the disk is busy >&2; exit 3")?;
    let mut reboot = scene.reboot()?;
    assert_eq!(reboot.wait(LONGEST_WAIT).code(), Some(1));
    let words = "kiosk: the command \"sh\" ended with exit code 3 (attempt 3)";
    assert!(reboot.printed().contains(words), "{}", reboot.printed());
    let task = scene.task();
    assert_eq!((&task["state"], &task["output"]), (&"failed".into(), &"the disk is busy\n".into()));
    Ok(())
}

#[test]
fn a_device_that_does_not_go_down_has_failed() -> io::Result<()> {
    let scene = Scene::start("[tasks]\nlimit_seconds = 1", "true")?;
    let mut reboot = scene.reboot()?;
    assert_eq!(reboot.wait(LONGEST_WAIT).code(), Some(1));
    let words = "kiosk: the device has not gone down in 1 s";
    assert!(reboot.printed().contains(words), "{}", reboot.printed());
    assert_eq!(scene.task()["state"], "failed");
    assert!(scene.server.shows_online(DEVICE));
    Ok(())
}

#[test]
fn an_agent_that_only_starts_anew_itself_has_done_nothing() -> io::Result<()> {
    let mut scene = Scene::start("", "true")?;
    // From here on the server knows what the device takes.
    scene.server.tell(&["reboot", DEVICE]);
    scene.server.tell(&["task", "stop", "1"]);
    scene.wait_for("done");
    scene.agent.process().signal(Signal::STOP);
    let mut reboot = scene.reboot()?;
    scene.wait_for("requested");
    scene.agent.kill();
    scene.agent.run()?;
    assert_eq!(reboot.wait(LONGEST_WAIT).code(), Some(1), "{}", reboot.printed());
    let task = scene.wait_for("lost");
    assert_eq!(task["reason"], "the device's agent started anew meanwhile");
    Ok(())
}
