//! Sessions have their limits; and one that stands still holds nobody up but itself.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use holdfast_tests::{
    process,
    server::Server,
    sshd::Sshd,
    wait::{self, LONGEST_WAIT},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fleet::{DEVICE, Fleet};

/// What the server may need beside what it had, in kilobytes, for sessions that stand still.
const MOST_MEMORY: u64 = 8 * 1024;

/// A session in which this command runs, whose output is read.
fn session(fleet: &Fleet, command: &str) -> io::Result<Child> {
    Command::new("ssh")
        .arg("-F")
        .arg(fleet.config())
        .args(["kiosk.fleet", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Waits until a session has ended by itself; gives its task.
#[track_caller]
fn ended(fleet: &Fleet, session: &mut Child, id: u64) -> Value {
    let status = wait::find(LONGEST_WAIT, || session.try_wait().expect("a child can be waited for"));
    assert_eq!(status.and_then(|status| status.code()), Some(255), "{:#?}", fleet.tasks());
    let find = || fleet.server.api().get(&format!("/tasks/{id}")).expect("the server tells");
    wait::until("its task has ended", find, |task| task["ended"].is_string())
}

#[test]
fn a_session_in_which_nothing_moves_ends() -> io::Result<()> {
    let server = Server::configured("ssh.idle-limit = \"5s\"\n", None)?;
    let fleet = Fleet::of(server, Sshd::start()?, "")?;
    let mut idle = session(&fleet, "sleep 1000")?;
    fleet.wait_running(1);
    let mut busy = session(&fleet, "while echo beat; do sleep 0.2; done")?;
    let mut beats = BufReader::new(busy.stdout.take().expect("it is piped")).lines();
    assert!(beats.next().is_some());
    let task = ended(&fleet, &mut idle, 1);
    assert_eq!((&task["state"], &task["reason"]), (&"done".into(), &"nothing moved for 5s".into()));
    // It began later, and has had all its time since.
    assert_eq!(beats.by_ref().take(30).count(), 30);
    busy.kill()?;
    busy.wait()?;
    fleet.ended();
    wait::until("no process is left", || fleet.task_processes(), Vec::is_empty);
    Ok(())
}

#[test]
fn a_session_that_lasts_too_long_ends() -> io::Result<()> {
    let busy = "while echo beat; do sleep 0.2; done";
    let by_server = Server::configured("ssh.time-limit = \"6s\"\n", None)?;
    for (server, device, reason) in [
        (by_server, "", ["its time is over", "its time is over: 6 s"]),
        (Server::start()?, "[tasks]\nlimit_seconds = 6\n", ["its time is over: 6 s"; 2]),
    ] {
        let fleet = Fleet::of(server, Sshd::start()?, device)?;
        let mut long = session(&fleet, busy)?;
        let task = ended(&fleet, &mut long, 1);
        assert!(reason.iter().any(|reason| task["reason"] == *reason), "{task}");
        let mut beats = String::new();
        long.stdout.take().expect("it is piped").read_to_string(&mut beats)?;
        assert!(beats.lines().count() > 1, "it was not idle: {beats}");
        wait::until("no process is left", || fleet.task_processes(), Vec::is_empty);
        assert_eq!(fleet.tell("ssh", &["kiosk.fleet", "echo", "again"]), "again\n");
    }
    Ok(())
}

/// A process with all that it has started.
fn family(root: u32) -> Vec<u32> {
    let all = process::all();
    let mut family = vec![root];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(all.iter().filter(|id| process::parent(**id) == Some(parent)));
        at += 1;
    }
    family
}

fn signal_all(processes: &[u32], signal: Signal) {
    for id in processes {
        // It may have gone.
        let _ = Pid::from_raw(id.cast_signed()).map(|id| kill_process(id, signal));
    }
}

/// How many bytes a process has read and written.
fn moved(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let counts = text.lines().take(2).filter_map(|line| line.split(": ").nth(1)?.parse::<u64>().ok());
    counts.sum()
}

/// Waits until a process has moved much, and then nothing any longer.
#[track_caller]
fn wait_for_stillness(process: u32) {
    let mut before = 0;
    wait::until_true("it stands still", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = moved(process);
        let is_still = now == before && now > 100_000;
        before = now;
        is_still
    });
}

#[test]
fn sessions_that_stand_still_hold_nobody_up() -> io::Result<()> {
    let mut fleet = Fleet::start()?;
    let sshd = fleet.sshd.process_id().expect("it runs");
    let control = fleet.server.ask(&["sessions", DEVICE])[0]["id"].clone();
    assert_eq!(fleet.tell("ssh", &["kiosk.fleet", "echo", "first"]), "first\n");
    let before = fleet.server.process().memory();

    // One whose SSH server has stopped, while much is sent to it.
    let mut upload = Command::new("ssh");
    upload.arg("-F").arg(fleet.config()).args(["kiosk.fleet", "cat > /dev/null"]);
    let zeros = fs::File::open("/dev/zero")?;
    let mut upload = upload.stdin(zeros).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    fleet.wait_running(1);
    wait::until_true("much has been sent", || moved(upload.id()) > 4_000_000);
    let mut stopped: Vec<u32> = family(sshd).into_iter().filter(|id| *id != sshd).collect();
    signal_all(&stopped, Signal::STOP);
    wait_for_stillness(upload.id());

    // One whose operator does not read, while much is sent from the device.
    let mut download = session(&fleet, "cat /dev/zero")?;
    fleet.wait_running(2);
    let mut bytes = download.stdout.take().expect("it is piped");
    bytes.read_exact(&mut vec![0; 1_000_000])?;
    signal_all(&[download.id()], Signal::STOP);
    stopped.push(download.id());
    let carrier = *fleet.task_processes().last().expect("one carries it");
    wait_for_stillness(carrier);

    for number in 0..10 {
        assert_eq!(fleet.tell("ssh", &["kiosk.fleet", "echo", "other"]), "other\n");
        fleet.agent.send(&format!("message {number}"));
        fleet.server.tell(&["send", DEVICE, &format!("order {number}")]);
        fleet.server.tell(&["ping", DEVICE]);
    }
    let numbered = |what: &str| (0..10).map(|number| format!("{what} {number}")).collect::<Vec<_>>();
    wait::until("all is archived", || fleet.server.archived(DEVICE), |all| *all == numbered("message"));
    let mut received = Vec::new();
    wait::until_true("all orders are there", || {
        received.extend(fleet.agent.receive());
        received == numbered("order")
    });
    let sessions = fleet.server.ask(&["sessions", DEVICE]);
    assert!(sessions.len() == 1 && sessions[0]["id"] == control, "{sessions:#?}");
    let after = fleet.server.process().memory();
    assert!(after < before + MOST_MEMORY, "{before} kB became {after} kB");

    // Both only stood still: they go on.
    signal_all(&stopped, Signal::CONT);
    let sent = moved(upload.id());
    bytes.read_exact(&mut vec![0; 4_000_000])?;
    wait::until_true("the upload goes on", || moved(upload.id()) > sent + 4_000_000);
    drop(bytes);
    upload.kill()?;
    upload.wait()?;
    download.wait()?;
    fleet.ended();
    wait::until("no process is left", || fleet.task_processes(), Vec::is_empty);
    Ok(())
}
