//! The relay of SSH sessions in a process of its own: when that is killed, nothing else notices.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use holdfast_tests::{
    binaries,
    device::Device,
    process::Process,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::message::StreamId;
use serde_json::Value;

use crate::fleet::{DEVICE, Fleet};

/// So much of a transfer has come when the relay is killed.
const ENOUGH: u64 = 8 << 20;

/// A relay in a process of its own, and where operators find it.
struct OwnRelay {
    process: Process,
    address: SocketAddr,
}

impl OwnRelay {
    fn start(fleet: &Fleet, log: &str) -> io::Result<Self> {
        let socket = fleet.server.data().join("api.sock");
        let words = [socket.as_os_str(), DEVICE.as_ref()];
        let process = Process::start(&binaries::relay(), words, &fleet.file(log))?;
        let address = || process.printed().lines().next().and_then(|line| line.parse().ok());
        let address = wait::find(LONGEST_WAIT, address).expect("it says where it listens");
        Ok(Self { process, address })
    }

    /// ssh to the device by this relay.
    fn ssh(&self, fleet: &Fleet, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        let port = format!("Port={}", self.address.port());
        // Which key the device has is not asked here.
        let way = ["ProxyCommand=none", "HostName=127.0.0.1", &port];
        let key = ["KnownHostsCommand=none", "StrictHostKeyChecking=no", "LogLevel=ERROR"];
        way.into_iter().chain(key).for_each(|option| {
            ssh.args(["-o", option]);
        });
        ssh.arg("-F").arg(fleet.config()).args(["kiosk.fleet", command]);
        ssh
    }
}

/// A session that says back what it is told.
struct Echo {
    session: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Echo {
    fn start(mut ssh: Command) -> io::Result<Self> {
        let mut session = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (to, from) = (session.stdin.take(), session.stdout.take());
        Ok(Self { session, to: to.expect("it is piped"), from: BufReader::new(from.expect("it is piped")) })
    }

    #[track_caller]
    fn assert_answers(&mut self, words: &str) {
        writeln!(self.to, "{words}").expect("the session goes on");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the session goes on");
        assert_eq!(line.trim_end(), words);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}

/// Sends messages both ways until this many are through each way.
fn send_both_ways(fleet: &Fleet, through: &AtomicU64, wanted: &AtomicU64) -> io::Result<()> {
    let stream = StreamId(0x5e1a);
    let mut program = Device::local(&fleet.agent.state(), stream, LONGEST_WAIT)?;
    for number in 1.. {
        if number > wanted.load(Ordering::SeqCst) {
            return Ok(());
        }
        program.send_text(stream, number, &format!("message {number}"))?;
        program.echoed(number)?;
        fleet.server.tell(&["send", DEVICE, &format!("order {number}")]);
        through.store(number, Ordering::SeqCst);
    }
    Ok(())
}

/// Ends the messages when it is dropped, if nobody has ended them before.
struct EndOfMessages<'a>(&'a AtomicU64);

impl Drop for EndOfMessages<'_> {
    fn drop(&mut self) {
        self.0.fetch_min(0, Ordering::SeqCst);
    }
}

/// The device's one session with the server, which goes on.
fn control(fleet: &Fleet) -> Value {
    let sessions = fleet.server.ask(&["sessions", DEVICE]);
    assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
    sessions[0]["id"].clone()
}

#[test]
fn a_relay_that_dies_in_a_process_of_its_own_is_noticed_by_nobody_else() -> io::Result<()> {
    let fleet = Fleet::start()?;
    let before = control(&fleet);
    let mut relay = OwnRelay::start(&fleet, "relay.log")?;
    let mut direct = Command::new("ssh");
    direct.arg("-F").arg(fleet.config()).args(["kiosk.fleet", "cat"]);
    let mut other = Echo::start(direct)?;
    other.assert_answers("before");

    let (through, wanted) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    thread::scope(|scope| -> io::Result<()> {
        let _end = EndOfMessages(&wanted);
        let messages = scope.spawn(|| send_both_ways(&fleet, &through, &wanted));
        let mut ssh = relay.ssh(&fleet, "cat /dev/zero");
        let mut transfer = ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut bytes = transfer.stdout.take().expect("it is piped");
        let come = io::copy(&mut (&mut bytes).take(ENOUGH), &mut io::sink())?;
        assert_eq!(come, ENOUGH, "{} {}", relay.process.printed(), fleet.agent.log());
        wait::until_true("messages go both ways", || through.load(Ordering::SeqCst) > 5);

        relay.process.kill();
        io::copy(&mut bytes, &mut io::sink())?;
        assert_eq!(transfer.wait()?.code(), Some(255), "its session has ended");
        other.assert_answers("behind");
        wanted.store(through.load(Ordering::SeqCst) + 20, Ordering::SeqCst);
        messages.join().expect("the messages' thread ends")
    })?;

    let count = through.load(Ordering::SeqCst);
    let numbered = |what: &str| (1..=count).map(|number| format!("{what} {number}")).collect::<Vec<_>>();
    assert_eq!(fleet.server.archived(DEVICE), numbered("message"), "none lost, none twice");
    let queued = || fleet.server.device(DEVICE).map(|device| device["queued"].clone());
    wait::until("all orders are delivered", queued, |queued| *queued == Some(0.into()));
    assert_eq!(fleet.agent.receive(), numbered("order"), "none lost, none twice");
    assert_eq!(control(&fleet), before, "the device was online throughout");
    assert_eq!(fleet.server.events("device-offline"), [] as [Value; 0]);

    // Of its session nothing is left, the other one goes on, and a new one works at once.
    let open = || fleet.tasks().into_iter().filter(|task| task["ended"].is_null()).count();
    wait::until("its task has ended", open, |open| *open == 1);
    wait::until("one process is left", || fleet.task_processes().len(), |count| *count == 1);
    other.assert_answers("still");
    relay = OwnRelay::start(&fleet, "relay2.log")?;
    let output = relay.ssh(&fleet, "echo again").stdin(Stdio::null()).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "again\n", "{output:?}");
    Ok(())
}
