//! `holdfast reboot`: devices that start anew, and such that don't. A script stands in for what does it.

use std::{fs, io, path::PathBuf};

use holdfast_tests::{
    agent::{Agent, COMMON},
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
    /// A device that is online, and starts anew by this script.
    fn start(rules: &str, script: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let server = Server::start()?;
        let agent = Agent::enrolled(&server, DEVICE)?;
        let boot_id = directory.path().join("boot_id");
        agent.configure_all(&format!(
            "ssh_directory = '/nonexistent'\nboot_id = '{}'\n{COMMON}{rules}\n[tasks.reboot]\ncommand = ['sh', '-c', '{script}']\n",
            boot_id.display()
        ))?;
        let mut scene = Self { server, agent, directory };
        scene.start_kernel("first")?;
        scene.agent.run()?;
        scene.server.wait_online(DEVICE, true);
        Ok(scene)
    }

    /// Has the device's kernel say that this is another start of it.
    fn start_kernel(&self, boot_id: &str) -> io::Result<()> {
        fs::write(self.file("boot_id"), boot_id)
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
    // As systemd's, which ends when all is begun; and one by which the device is gone before it has ended.
    for ends in ["exit 0", "exec sleep 1000"] {
        let mut scene = Scene::start("", ends)?;
        let mut reboot = scene.reboot()?;
        scene.wait_for(if ends == "exit 0" { "running" } else { "starting" });
        scene.agent.kill();
        scene.server.wait_online(DEVICE, false);
        assert!(scene.task()["ended"].is_null() && reboot.ended().is_none(), "{}", reboot.printed());
        scene.start_kernel("second")?;
        scene.agent.run()?;
        let status = reboot.wait(LONGEST_WAIT);
        let printed = reboot.printed();
        assert!(status.success() && printed.contains("kiosk is back after "), "{printed}");
        let task = scene.task();
        assert_eq!(
            (&task["state"], &task["reason"]),
            (&"done".into(), &"the device has started anew".into())
        );
    }
    Ok(())
}

#[test]
fn a_device_of_which_only_the_agent_starts_anew_has_failed() -> io::Result<()> {
    for (command, state) in [("exit 0", "running"), ("exec sleep 1000", "starting")] {
        let mut scene = Scene::start("", command)?;
        let mut reboot = scene.reboot()?;
        scene.wait_for(state);
        scene.agent.kill();
        scene.agent.run()?;
        assert_eq!(reboot.wait(LONGEST_WAIT).code(), Some(1));
        let words = "the agent started anew, the device did not";
        assert!(reboot.printed().contains(words), "{}", reboot.printed());
        assert_eq!(scene.wait_for("failed")["reason"], words);
    }
    Ok(())
}

#[test]
fn a_restart_that_fails_says_how() -> io::Result<()> {
    let scene = Scene::start("", "echo the disk is busy >&2; exit 3")?;
    let mut reboot = scene.reboot()?;
    assert_eq!(reboot.wait(LONGEST_WAIT).code(), Some(1));
    let words = "the command \"sh\" ended with exit code 3 (attempt 3)";
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
fn an_agent_that_has_not_heard_of_it_has_done_nothing() -> io::Result<()> {
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
