//! Tasks: what the server may have this device do, and that nothing is left of it.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use protocol_core::{
    code::{Role, TaskState},
    message::Order,
};
use rustix::process::Signal;
use support::{
    Device, LONGEST_WAIT, Peer, TestServer,
    tasks::{Process, connected, order, reboots_by, text, until_gone},
    until,
};

/// What stands in for the device's SSH server.
struct SshServer(TcpListener);

impl SshServer {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// The configuration that names it.
    fn rules(&self) -> String {
        format!("[tasks.ssh]\naddress = '{}'\n", self.0.local_addr().unwrap())
    }

    fn accept(&self) -> TcpStream {
        let stream = self.0.accept().unwrap().0;
        stream.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        stream
    }
}

#[test]
fn what_the_configuration_does_not_allow_is_not_offered_and_refused() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure("[tasks.ssh]\nallow = []\n[tasks.reboot]\nallow = ['admin']\ncommand = ['true']\n");
    device.run();
    let mut peer = server.accept(LONGEST_WAIT).unwrap();
    peer.hello();
    peer.welcome_as(2, 0, protocol_core::message::Window { messages: 24, bytes: 1 << 20 });
    assert_eq!(peer.offer(), (vec!["reboot".to_owned()], vec![]));
    for (task, order, words) in [
        (1, order(1, "ssh"), "[tasks.ssh] allow = []"),
        (
            2,
            order(2, "reboot"),
            "from admin alone ([tasks.reboot] allow in its agent.toml), not from the role operator",
        ),
        (3, Order { role: Role::Viewer, ..order(3, "reboot") }, "not from the role viewer"),
        (4, Order { role: Role::Other(9), ..order(4, "reboot") }, "not from the role code-9"),
        (5, Order { role: Role::Admin, ..order(5, "surgery") }, "no tasks of the kind \"surgery\""),
        (6, Order { role: Role::Admin, parameters: b"-f", ..order(6, "reboot") }, "parameters"),
    ] {
        peer.notice(&order);
        let report = peer.report();
        assert_eq!((report.task, report.state), (task, TaskState::Refused));
        assert!(report.detail.contains(words), "{report:?}");
    }
    assert!(device.descendants().is_empty());
    peer.notice(&Order { role: Role::Admin, ..order(7, "reboot") });
    assert_eq!(peer.report().state, TaskState::Starting);
    peer.reported(7, TaskState::Running);
}

#[test]
fn a_server_of_version_1_hears_nothing_of_tasks() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure(&reboots_by("exec sleep 1000"));
    device.run();
    let (mut peer, _) = server.open(0);
    peer.notice(&order(1, "reboot"));
    peer.no_report(Duration::from_secs(1));
    assert!(device.descendants().is_empty());
}

#[test]
fn an_ssh_session_carries_bytes_both_ways_and_each_sides_end() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&sshd.rules());
    peer.notice(&order(7, "ssh"));
    assert_eq!(peer.report().state, TaskState::Starting);
    let mut local = sshd.accept();
    local.write_all(b"SSH-2.0-test\r\n").unwrap();
    let (mut data, task) = server.accept_data();
    assert_eq!(task, 7);
    // What the SSH server says first does not wait for the answer.
    assert_eq!(text(&data.read(14)), "SSH-2.0-test\r\n");
    // What may not be the task's yet is not for the SSH server.
    local.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(local.read(&mut [0; 10]).is_err());
    local.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    peer.no_report(Duration::from_millis(200));
    data.joined();
    peer.reported(7, TaskState::Running);
    assert_eq!(device.status()["tasks"][0]["state"], "running");
    assert!(device.must(&["status"]).contains("ssh for ada: running since"));

    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    std::thread::scope(|scope| {
        // An echo, as long as there is something to echo.
        scope.spawn(|| {
            let (mut room, mut all) = (vec![0; 64 * 1024], 0);
            while let count @ 1.. = local.read(&mut room).unwrap() {
                local.write_all(&room[..count]).unwrap();
                all += count;
            }
            assert_eq!(all, large.len());
            // It knows that nothing more comes, and has still something to say.
            local.write_all(b"farewell").unwrap();
            local.shutdown(Shutdown::Both).unwrap();
        });
        for piece in large.chunks(100_000) {
            data.write(piece);
            assert_eq!(data.read(piece.len()), piece);
        }
        data.finish();
        assert_eq!(text(&data.read_to_end()), "farewell");
    });
    let report = peer.reported(7, TaskState::Done);
    assert_eq!(report.detail, "the session has ended");
    until("no process", || device.descendants().is_empty());
    assert_eq!(device.status()["tasks"].as_array().unwrap().len(), 0);
}

#[test]
fn the_ssh_servers_end_is_passed_on_too() {
    let sshd = SshServer::start();
    let (server, _device, mut peer) = connected(&sshd.rules());
    peer.notice(&order(7, "ssh"));
    let mut local = sshd.accept();
    let (mut data, _) = server.accept_data();
    data.joined();
    local.write_all(b"last").unwrap();
    local.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(&data.read_to_end()), "last");
    data.write(b"heard");
    data.finish();
    let mut heard = String::new();
    local.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "heard");
    peer.reported(7, TaskState::Done);
}

#[test]
fn a_session_that_comes_to_nothing_says_why() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&sshd.rules());
    peer.notice(&order(1, "ssh"));
    let (mut data, _) = server.accept_data();
    data.refuse("this key was used");
    let report = peer.reported(1, TaskState::Failed);
    assert!(report.detail.contains("this key was used (not-served)"), "{report:?}");
    peer.notice(&order(2, "ssh"));
    let (mut data, _) = server.accept_data();
    data.write(b"HTTP/1.1 400 Bad Request\r\n");
    let report = peer.reported(2, TaskState::Failed);
    assert!(report.detail.contains("does not keep to the protocol"), "{report:?}");
    let address = sshd.0.local_addr().unwrap();
    drop(sshd);
    peer.notice(&order(3, "ssh"));
    let report = peer.reported(3, TaskState::Failed);
    assert!(report.detail.starts_with(&format!("{address}: no SSH server there (")), "{report:?}");
    assert!(report.detail.contains("[tasks.ssh] address"), "{report:?}");
    until("no process", || device.descendants().is_empty());
}

#[test]
fn a_task_that_is_stopped_ends_with_all_that_it_has_started() {
    let (_server, device, mut peer) =
        connected(&reboots_by("trap \"\" TERM; sleep 1000 & echo deaf >&2; while true; do sleep 1000; done"));
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Starting);
    // Told twice, it runs once; one that is not there is none of its business.
    peer.notice(&order(1, "reboot"));
    assert_eq!(peer.report().state, TaskState::Starting);
    peer.stop(99);
    until("the program", || device.descendants().len() >= 5);
    let processes = device.descendants();
    device.task_process();
    peer.stop(1);
    let report = peer.report();
    assert_eq!((report.state, report.detail.as_str()), (TaskState::Stopping, "stopped: as the test wants"));
    // The program does not listen, and is killed in the end.
    let start = Instant::now();
    let report = peer.reported(1, TaskState::Done);
    assert!(start.elapsed() < Duration::from_secs(9), "the server waits for 10 s");
    assert_eq!(report.detail, "stopped: as the test wants");
    assert!(text(&report.output).contains("deaf\n"), "{report:?}");
    until_gone(&processes);
}

#[test]
fn an_ssh_session_that_is_stopped_ends_at_once() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&sshd.rules());
    peer.notice(&order(1, "ssh"));
    let mut local = sshd.accept();
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(1, TaskState::Running);
    peer.stop(1);
    let start = Instant::now();
    peer.reported(1, TaskState::Done);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    data.wait_for_end();
    assert!(local.read(&mut [0; 10]).map_or(true, |count| count == 0));
    until("no process", || device.descendants().is_empty());
}

#[test]
fn nothing_outlives_an_agent_that_is_killed() {
    let sshd = SshServer::start();
    let script = "sleep 1000 & trap \"\" TERM HUP; while true; do sleep 1000; done";
    let (server, mut device, mut peer) = connected(&(sshd.rules() + &reboots_by(script)));
    peer.notice(&order(1, "ssh"));
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(1, TaskState::Running);
    peer.notice(&order(2, "reboot"));
    peer.reported(2, TaskState::Starting);
    // One process for ssh; for the other the task's, the guard, the shell, two times sleep.
    until("all processes", || device.descendants().len() == 6);
    let processes = device.descendants();
    device.kill();
    until_gone(&processes);
    data.wait_for_end();
    device.run();
    let (mut peer, tasks) = server.open_for_tasks();
    assert_eq!(tasks, [2], "whether the device has started anew is known");
    assert_eq!(peer.reported(2, TaskState::Failed).detail, "the agent started anew, the device did not");
}

#[test]
fn a_stopped_process_does_not_outlive_its_agent_either() {
    let (_server, mut device, mut peer) = connected(&reboots_by("exec sleep 1000"));
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Starting);
    until("all processes", || {
        device.descendants().iter().any(|process| process.command.starts_with("sleep"))
    });
    let processes = device.descendants();
    processes.iter().for_each(|process| process.stop());
    device.kill();
    until_gone(&processes);
}

#[test]
fn a_program_does_not_outlive_those_who_watch_it() {
    let (_server, mut device, mut peer) = connected(&reboots_by("exec sleep 1000"));
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Starting);
    let is_program = |process: &Process| process.command.starts_with("sleep");
    until("all processes", || device.descendants().iter().any(is_program));
    let processes = device.descendants();
    // All that have the agent's name, as by `pkill -9`: none of them is left to end anything.
    let watchers = processes.iter().filter(|process| !is_program(process));
    watchers.clone().for_each(|process| process.stop());
    watchers.for_each(|process| process.signal(Signal::KILL));
    device.kill();
    until_gone(&processes);
}

#[test]
fn a_signal_to_the_agent_ends_its_tasks() {
    let (_server, mut device, mut peer) = connected(&reboots_by("trap \"\" TERM; sleep 1000; sleep 1000"));
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Starting);
    until("the program", || device.descendants().len() == 4);
    let processes = device.descendants();
    device.terminate();
    until_gone(&processes);
}

#[test]
fn a_task_without_progress_is_noticed() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&format!("[tasks]\nprogress_seconds = 1\n{}", sshd.rules()));
    peer.notice(&order(1, "ssh"));
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(1, TaskState::Running);
    // As long as it beats, an idle session lives.
    peer.no_report(Duration::from_secs(3));
    let process = device.task_process();
    process.signal(Signal::STOP);
    let report = peer.reported(1, TaskState::Failed);
    assert_eq!(report.detail, "no progress for 1 s: it was ended");
    until_gone(&[process]);
    data.wait_for_end();
}

#[test]
fn a_task_that_never_runs_is_given_up() {
    let sshd = SshServer::start();
    let (server, device, mut peer) =
        connected(&format!("[tasks]\nstart_seconds = 1\n{}{}", sshd.rules(), reboots_by("exec sleep 1000")));
    peer.notice(&order(1, "ssh"));
    let (data, _) = server.accept_data();
    let report = peer.reported(1, TaskState::Failed);
    assert_eq!(report.detail, "it did not run within 1 s, and was ended");
    data.wait_for_end();
    peer.notice(&order(2, "reboot"));
    let report = peer.reported(2, TaskState::Failed);
    assert_eq!(report.detail, "its command has not ended in 1 s");
    until("no process", || device.descendants().is_empty());
}

#[test]
fn a_process_that_dies_is_reported_with_its_signal() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&sshd.rules());
    for (task, signal, name) in [(1, Signal::ABORT, "SIGABRT"), (2, Signal::KILL, "SIGKILL")] {
        peer.notice(&order(task, "ssh"));
        let (mut data, _) = server.accept_data();
        data.joined();
        peer.reported(task, TaskState::Running);
        device.task_process().signal(signal);
        let report = peer.reported(task, TaskState::Failed);
        assert_eq!(report.detail, format!("its process ended without a word: {name}"));
    }
}

#[test]
fn a_program_that_floods_costs_bounded_memory_and_delays_nobody() {
    let script = "yes flood >&2 & yes flood";
    let (_server, device, mut peer) =
        connected(&format!("[tasks]\nstart_seconds = 1000\n{}", reboots_by(script)));
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", device.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    peer.notice(&order(1, "reboot"));
    peer.reported(1, TaskState::Starting);
    for _ in 0..20 {
        peer.no_report(Duration::from_millis(100));
        device.must(&["send", "hello"]);
        let sent = Instant::now();
        assert_eq!(peer.take(1), [b"hello"]);
        assert!(sent.elapsed() < Duration::from_secs(1), "a message took {:?}", sent.elapsed());
        assert!(memory() < before + 4_096, "{before} kB became {} kB", memory());
    }
    peer.stop(1);
    let report = peer.reported(1, TaskState::Done);
    assert_eq!(report.output.len(), 8 * 1024);
    assert!(text(&report.output).contains("flood\nflood\n"));
    until("no process", || device.descendants().is_empty());
}

#[test]
fn a_task_ends_when_its_time_is_over() {
    let (_server, device, mut peer) = connected(&reboots_by("exec sleep 1000"));
    let start = Instant::now();
    peer.notice(&Order { limit: 1, ..order(1, "reboot") });
    peer.reported(1, TaskState::Stopping);
    let report = peer.reported(1, TaskState::Failed);
    assert_eq!(report.detail, "its command has not ended in 1 s");
    assert!(start.elapsed() >= Duration::from_secs(1));
    until("no process", || device.descendants().is_empty());
}

#[test]
fn a_cut_connection_does_not_end_a_session() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&(sshd.rules() + &reboots_by("exit 3")));
    peer.notice(&order(1, "ssh"));
    let mut local = sshd.accept();
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(1, TaskState::Running);
    drop(peer);
    data.write(b"still there?");
    let mut room = [0; 12];
    local.read_exact(&mut room).unwrap();
    local.write_all(b"yes").unwrap();
    assert_eq!(text(&data.read(3)), "yes");

    let (mut peer, tasks) = server.open_for_tasks();
    assert_eq!(tasks, [1]);
    peer.reported(1, TaskState::Running);
    peer.notice(&order(2, "reboot"));
    assert_eq!(peer.report().state, TaskState::Starting);
    let failed = peer.reported(2, TaskState::Failed);
    assert_eq!(failed.detail, "the command \"sh\" ended with exit code 3 (attempt 3)");
    drop(peer);
    // It ends while nobody can be told.
    data.finish();
    local.shutdown(Shutdown::Both).unwrap();
    until("the end", || device.status()["tasks"].as_array().is_some_and(Vec::is_empty));

    let (mut peer, tasks) = server.open_for_tasks();
    assert_eq!(tasks, [1, 2], "one has ended, and the end of the other may not have been heard");
    assert_eq!((peer.report().state, peer.report()), (TaskState::Done, failed));
    // What the server knows need not be said again.
    peer.stop(1);
    until("the stop is heard", || device.log().contains("the server says stop"));
    drop(peer);
    let (_peer, tasks) = server.open_for_tasks();
    assert!(tasks.is_empty());
}

/// A session from its beginning to its end. Gives its process.
fn session(task: u64, sshd: &SshServer, server: &TestServer, device: &Device, peer: &mut Peer) -> Process {
    peer.notice(&order(task, "ssh"));
    let local = sshd.accept();
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(task, TaskState::Running);
    let process = device.task_process();
    data.finish();
    drop(local);
    peer.reported(task, TaskState::Done);
    process
}

#[test]
fn a_process_waits_for_the_next_task_for_a_while() {
    let sshd = SshServer::start();
    let (server, mut device, mut peer) = connected(&format!("[tasks]\nready_seconds = 3\n{}", sshd.rules()));
    let ready = |device: &Device| {
        until("a process is ready", || device.ready_process().is_some());
        device.ready_process().unwrap()
    };
    assert_eq!(device.ready_process(), None, "nobody has used this device");
    session(1, &sshd, &server, &device, &mut peer);
    let first = ready(&device);
    assert_eq!(session(2, &sshd, &server, &device, &mut peer).id, first.id);
    // One that is gone is replaced.
    let second = ready(&device);
    assert_ne!(first.id, second.id);
    second.signal(Signal::KILL);
    until_gone(std::slice::from_ref(&second));
    assert_ne!(session(3, &sshd, &server, &device, &mut peer).id, second.id);
    // Not longer than its agent, and not for ever.
    let third = ready(&device);
    third.stop();
    device.kill();
    until_gone(&[third]);
    device.run();
    let (mut peer, _) = server.open_for_tasks();
    assert_eq!(device.ready_process(), None);
    session(4, &sshd, &server, &device, &mut peer);
    until_gone(&[ready(&device)]);
}

#[test]
fn a_device_has_a_limit_of_its_own() {
    let sshd = SshServer::start();
    let (server, _device, mut peer) = connected(&format!("[tasks]\nlimit_seconds = 1\n{}", sshd.rules()));
    peer.notice(&Order { limit: 1_000, ..order(1, "ssh") });
    let (mut data, _) = server.accept_data();
    data.joined();
    let report = peer.reported(1, TaskState::Failed);
    assert_eq!(report.detail, "its time is over: 1 s");
    data.wait_for_end();
}

#[test]
fn tasks_have_their_number_and_their_limits() {
    let rules = reboots_by("ulimit -t >&2; ulimit -d >&2; ulimit -c >&2; exec sleep 1000");
    let (_server, device, mut peer) = connected(&format!(
        "[tasks]\nmax_tasks = 2\nmax_memory_bytes = 33554432\nmax_cpu_seconds = 77\n{rules}"
    ));
    for task in [1, 2] {
        peer.notice(&order(task, "reboot"));
        peer.reported(task, TaskState::Starting);
    }
    peer.notice(&order(3, "reboot"));
    let report = peer.report();
    assert_eq!((report.task, report.state), (3, TaskState::Failed));
    assert!(report.detail.contains("this device has 2 tasks"), "{report:?}");
    until("the programs", || {
        device.descendants().iter().filter(|process| process.command.starts_with("sleep")).count() == 2
    });
    peer.stop(1);
    let report = peer.reported(1, TaskState::Done);
    assert!(text(&report.output).starts_with("77\n32768\n0\n"), "{:?}", text(&report.output));
    peer.notice(&order(4, "reboot"));
    peer.reported(4, TaskState::Starting);
}

#[test]
fn an_orders_secrets_are_not_seen() {
    let sshd = SshServer::start();
    let (server, device, mut peer) = connected(&sshd.rules());
    peer.notice(&order(1, "ssh"));
    let (mut data, _) = server.accept_data();
    data.joined();
    peer.reported(1, TaskState::Running);
    let process = device.task_process();
    assert_eq!(process.command.trim_end(), "holdfast-agent run-task");
    let environment = text(&fs::read(format!("/proc/{}/environ", process.id)).unwrap());
    assert!(!environment.contains("PRIVATE") && !device.log().contains("PRIVATE"));
}
