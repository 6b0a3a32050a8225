//! Sessions end: because somebody wants it, because a part dies, and always with all that belongs to them.

use std::{
    fs, io,
    process::{Child, Command, Stdio},
};

use holdfast_tests::wait::{self, LONGEST_WAIT};

use crate::fleet::{DEVICE, Fleet};

/// A session that goes on until something ends it.
pub(crate) fn open(fleet: &Fleet) -> io::Result<Child> {
    fleet.ended();
    let session = Command::new("ssh")
        .arg("-F")
        .arg(fleet.config())
        .args(["kiosk.fleet", "echo ready; sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    fleet.wait_running(1);
    Ok(session)
}

/// It has ended, and nothing of it is left.
#[track_caller]
pub(crate) fn assert_gone(fleet: &Fleet, session: &mut Child) {
    let ended = wait::find(LONGEST_WAIT, || session.try_wait().expect("a child can be waited for"));
    if ended.is_none() {
        let _ = session.kill();
        panic!(
            "the session did not end; the server: {}; the agent: {}",
            fleet.server.log(),
            fleet.agent.log()
        );
    }
    fleet.ended();
    wait::until("no process is left", || fleet.processes(), Vec::is_empty);
}

/// A new session works at once.
#[track_caller]
pub(crate) fn assert_works(fleet: &Fleet) {
    fleet.server.wait_online(DEVICE, true);
    assert_eq!(fleet.tell("ssh", &["kiosk.fleet", "echo", "again"]), "again\n");
}

#[test]
fn a_session_is_stopped_by_an_operator() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let mut session = open(&fleet)?;
    let id = fleet.tasks()[0]["id"].to_string();
    fleet.server.tell(&["task", "stop", &id]);
    assert_gone(&fleet, &mut session);
    let task = &fleet.tasks()[0];
    assert_eq!(task["state"], "done");
    assert!(task["reason"].as_str().unwrap_or_default().starts_with("stopped by "), "{task}");
    let again = fleet.server.command(&["task", "stop", &id]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_works(&fleet);
    Ok(())
}

#[test]
fn a_revoked_device_has_no_sessions() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let mut session = open(&fleet)?;
    fleet.server.tell(&["revoke", DEVICE]);
    assert_gone(&fleet, &mut session);
    assert_eq!(fleet.tasks()[0]["reason"], "the device was revoked");
    assert_eq!(fleet.run("ssh", &["kiosk.fleet", "true"]).status.code(), Some(255));
    Ok(())
}

#[test]
fn whatever_dies_the_session_ends_and_the_next_one_works() -> io::Result<()> {
    let mut fleet = Fleet::start()?;

    let mut session = open(&fleet)?;
    session.kill()?;
    assert_gone(&fleet, &mut session);
    assert_works(&fleet);

    let mut session = open(&fleet)?;
    fleet.agent.kill();
    fleet.agent.run()?;
    assert_gone(&fleet, &mut session);
    assert_works(&fleet);

    let mut session = open(&fleet)?;
    fleet.server.kill();
    fleet.server.run()?;
    fleet.server.wait_online(DEVICE, true);
    assert_gone(&fleet, &mut session);
    assert_works(&fleet);

    let mut session = open(&fleet)?;
    for process in fleet.task_processes() {
        let id = rustix::process::Pid::from_raw(process.cast_signed()).expect("a process has a number");
        rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
    }
    assert_gone(&fleet, &mut session);
    assert_works(&fleet);

    fleet.sshd.kill();
    let without = fleet.run("ssh", &["kiosk.fleet", "true"]);
    let error = String::from_utf8_lossy(&without.stderr);
    assert!(without.status.code() == Some(255) && error.contains("no SSH server"), "{error}");
    assert_eq!(fleet.ended().last().expect("there was one")["state"], "failed");
    fleet.sshd.run()?;
    assert_works(&fleet);
    Ok(())
}

#[test]
fn a_device_that_is_offline_is_told_of_at_once_or_waited_for() -> io::Result<()> {
    let mut fleet = Fleet::start()?;
    fleet.agent.terminate();
    fleet.server.wait_online(DEVICE, false);
    let output = fleet.holdfast_ssh(&[], &["true"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("is offline; it was last seen"), "{output:?}");
    let output = fleet.run("ssh", &["kiosk.fleet", "true"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is offline"), "{output:?}");

    let (waiting, told) = (fleet.file("waiting"), fleet.file("told"));
    // The server may be away just then, too.
    fleet.server.terminate();
    let (data, key) = (fleet.server.data().to_owned(), fleet.sshd.key());
    let mut session = Command::new(holdfast_tests::binaries::holdfast())
        .args(["ssh", "--wait", "--data"])
        .arg(data)
        .args([DEVICE, "--", "-F", "none", "-o", "BatchMode=yes", "-i"])
        .arg(key)
        .args(["echo", "waited"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(&waiting)?)
        .stderr(fs::File::create(&told)?)
        .spawn()?;
    let says = |what: &str| {
        let said = || fs::read_to_string(&told).unwrap_or_default();
        wait::until(&format!("it says {what:?}"), said, |said| said.contains(what));
    };
    says("Waiting for the server…");
    fleet.server.run()?;
    says("Waiting for kiosk to come online…");
    fleet.agent.run()?;
    let ended = wait::find(LONGEST_WAIT, || session.try_wait().expect("a child can be waited for"));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    assert_eq!(fs::read_to_string(&waiting)?, "waited\n");
    Ok(())
}

#[test]
fn a_device_that_allows_nobody_refuses() -> io::Result<()> {
    let fleet = Fleet::configured("allow = []\n")?;
    let output = fleet.run("ssh", &["kiosk.fleet", "true"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("takes no ssh tasks"), "{error}");
    assert!(fleet.tasks().is_empty());
    fleet
        .server
        .wait_event("task-refused", |event| event["device"] == DEVICE && event["detail"]["kind"] == "ssh");
    assert!(fleet.task_processes().is_empty());
    Ok(())
}
