//! Starting a device anew, as far as its agent sees it.

mod support;

use std::{fs, time::Duration};

use protocol_core::{code::TaskState, message::Order};
use rustix::process::Signal;
use support::{
    tasks::{connected, order, reboots_by, text},
    until,
};

#[test]
fn a_reboot_waits_until_the_device_goes_down() {
    let (_server, device, mut peer) = connected(&reboots_by("echo going down >&2; exit 0"));
    let programs =
        || device.descendants().iter().filter(|process| process.command.contains("run-program")).count();
    peer.notice(&Order { limit: 5, ..order(1, "reboot") });
    peer.reported(1, TaskState::Running);
    until("the command's end", || programs() == 0);
    peer.no_report(Duration::from_secs(1));
    peer.reported(1, TaskState::Stopping);
    let report = peer.reported(1, TaskState::Failed);
    assert_eq!(report.detail, "the device has not gone down in 5 s");
    assert_eq!(text(&report.output), "going down\n");
    until("no process", || device.descendants().is_empty());

    // Who does not want it any longer is obeyed soon.
    peer.notice(&order(2, "reboot"));
    peer.reported(2, TaskState::Running);
    until("the command's end", || programs() == 0);
    peer.stop(2);
    let report = peer.reported(2, TaskState::Done);
    assert_eq!(report.detail, "stopped: as the test wants");
    until("no process", || device.descendants().is_empty());
}

#[test]
fn whether_the_device_has_started_anew_is_the_kernels_word() {
    let (server, mut device, mut peer) = connected(&reboots_by("true"));
    for (task, boot, state, detail) in [
        (1, "first", TaskState::Failed, "the agent started anew, the device did not"),
        (2, "second", TaskState::Done, "the device has started anew"),
    ] {
        peer.notice(&order(task, "reboot"));
        peer.reported(task, TaskState::Running);
        device.kill();
        device.start_anew(boot);
        // Until the server knows, each agent tells.
        for _ in 0..2 {
            device.run();
            let (told, tasks) = server.open_for_tasks();
            peer = told;
            assert_eq!(tasks, [task]);
            let report = peer.report();
            assert_eq!((report.state, report.detail.as_str()), (state, detail));
            device.kill();
        }
        device.run();
        (peer, _) = server.open_for_tasks();
        peer.reported(task, state);
        peer.stop(task);
        until("it is forgotten", || !device.state().join("reboots.json").exists());
    }
}

#[test]
fn what_a_dying_device_does_to_a_reboot_is_not_how_it_has_ended() {
    let (_server, device, mut peer) = connected(&reboots_by("true"));
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Running);
    until("the command's end", || device.descendants().len() == 1);
    // As systemd does with all that belongs to a unit.
    let task = device.task_process();
    task.signal(Signal::TERM);
    peer.no_report(Duration::from_secs(1));
    assert!(task.lives());
}

#[test]
fn a_reboot_whose_command_fails_is_tried_again_a_few_times() {
    let directory = tempfile::tempdir().unwrap();
    let tries = directory.path().join("tries");
    let count = || fs::read_to_string(&tries).map_or(0, |tries| tries.lines().count());
    let script = format!("echo try >>{}; echo not now >&2; exit 3", tries.display());
    let (_server, device, mut peer) = connected(&reboots_by(&script));
    peer.notice(&order(1, "reboot"));
    assert_eq!(peer.report().state, TaskState::Starting);
    let report = peer.report();
    assert_eq!(report.state, TaskState::Failed, "it is not said to run: {report:?}");
    assert_eq!(report.detail, "the command \"sh\" ended with exit code 3 (attempt 3)");
    assert_eq!((text(&report.output).as_str(), count()), ("not now\n", 3));

    // Not for longer than it may last, and not against the wish of the server.
    peer.notice(&Order { limit: 1, ..order(2, "reboot") });
    peer.reported(2, TaskState::Failed);
    assert!((4..6).contains(&count()), "{}", count());
    let before = count();
    peer.notice(&order(3, "reboot"));
    peer.reported(3, TaskState::Starting);
    until("the second try", || count() == before + 2);
    peer.stop(3);
    assert_eq!(peer.reported(3, TaskState::Done).detail, "stopped: as the test wants");
    until("no process", || device.descendants().is_empty());
    assert!(count() <= before + 3);

    let (_server, _device, mut peer) = connected("[tasks.reboot]\ncommand = ['/no/such/program']\n");
    peer.notice(&order(1, "reboot"));
    let report = peer.reported(1, TaskState::Failed);
    assert!(report.detail.contains("\"/no/such/program\" can't be run on this device"), "{report:?}");
}
