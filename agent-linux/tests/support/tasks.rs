//! What a test says and hears of tasks, and the processes that do them.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use protocol_core::{
    code::{CloseReason, Role, TaskState},
    frame::{self, Decoded, Frame},
    message::{self, Close, Join, Joined, Kind, Offer, Order, Report, Secret, Stop, TaskId, Text, Window},
    session::OPENING_MAX_FRAME,
    tag::Tag,
};
use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use rustls::{ServerConnection, StreamOwned};

use super::{Device, Heard, LONGEST_WAIT, Peer, TestServer, until};

/// The key of all orders here.
pub(crate) const KEY: Secret = Secret([5; 16]);

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reported {
    pub(crate) task: u64,
    pub(crate) state: TaskState,
    pub(crate) detail: String,
    pub(crate) output: Vec<u8>,
}

pub(super) fn heard(frame: Frame<'_>) -> Heard {
    if frame.tag == Tag::OFFER {
        let offer: Offer<'_> = message::decode(frame.body).unwrap();
        let kinds = offer.kinds.iter().map(|kind| kind.to_string()).collect();
        return Heard::Offer { kinds, tasks: offer.tasks.iter().map(|task| task.0).collect() };
    }
    let report: Report<'_> = message::decode(frame.body).unwrap();
    Heard::Report(Reported {
        task: report.task.0,
        state: report.state,
        detail: report.detail.to_string(),
        output: report.output.to_vec(),
    })
}

/// A task that an operator asks for.
pub(crate) fn order(task: u64, kind: &'static str) -> Order<'static> {
    Order {
        task: TaskId(task),
        kind: Kind::new(kind).unwrap(),
        role: Role::Operator,
        who: Text::new("ada").unwrap(),
        key: KEY,
        limit: 0,
        parameters: &[],
    }
}

impl TestServer {
    /// The next device's connection, its session open by version 2. Gives the tasks that the device names.
    pub(crate) fn open_for_tasks(&self) -> (Peer, Vec<u64>) {
        let mut peer = self.accept(LONGEST_WAIT).expect("a connection");
        peer.hello();
        peer.welcome_as(2, 0, Window { messages: 24, bytes: 1 << 20 });
        let (_, tasks) = peer.offer();
        (peer, tasks)
    }

    /// The next data connection, and the task that it is for.
    pub(crate) fn accept_data(&self) -> (Data, u64) {
        let peer = self.accept(LONGEST_WAIT).expect("a data connection");
        assert_eq!(peer.tls.conn.alpn_protocol(), Some(&b"holdfast-data/1"[..]));
        let mut data = Data { tls: peer.tls, input: Vec::new() };
        let join = loop {
            match frame::decode(&data.input, OPENING_MAX_FRAME).unwrap() {
                Decoded::Frame { frame, consumed } => {
                    assert_eq!(frame.tag, Tag::JOIN);
                    let join: Join = message::decode(frame.body).unwrap();
                    data.input.drain(..consumed);
                    break join;
                }
                Decoded::Incomplete => assert!(data.read_some() > 0, "the device left"),
            }
        };
        assert_eq!(join.key, KEY);
        (data, join.task.0)
    }
}

impl Peer {
    /// The kinds that the device offers, and the tasks that it names.
    pub(crate) fn offer(&mut self) -> (Vec<String>, Vec<u64>) {
        loop {
            match self.next(LONGEST_WAIT) {
                Heard::Offer { kinds, tasks } => return (kinds, tasks),
                Heard::Facts { .. } | Heard::Status(_) => {}
                other => panic!("expected an offer, found {other:?}"),
            }
        }
    }

    /// The next report.
    pub(crate) fn report(&mut self) -> Reported {
        let start = Instant::now();
        loop {
            match self.next(LONGEST_WAIT.saturating_sub(start.elapsed())) {
                Heard::Report(report) => return report,
                Heard::Facts { .. } | Heard::Status(_) => {}
                other => panic!("expected a report, found {other:?}"),
            }
        }
    }

    /// Waits for the report that a task is in this state. States before it may come, and nothing else.
    pub(crate) fn reported(&mut self, task: u64, state: TaskState) -> Reported {
        loop {
            let report = self.report();
            assert_eq!(report.task, task);
            if report.state == state {
                return report;
            }
            let (found, wanted) = (u16::from(report.state), u16::from(state));
            assert!(found < wanted && found < u16::from(TaskState::Done), "{state} is not: {report:?}");
        }
    }

    /// Sees that nothing of tasks is said for a while.
    pub(crate) fn no_report(&mut self, time_limit: Duration) {
        self.no_message(time_limit);
    }

    pub(crate) fn stop(&mut self, task: u64) {
        self.notice(&Stop { task: TaskId(task), detail: Text::new("as the test wants").unwrap() });
    }
}

/// A device at the other end of a data connection.
pub(crate) struct Data {
    tls: StreamOwned<ServerConnection, TcpStream>,
    pub(super) input: Vec<u8>,
}

impl Data {
    /// Reads some more; gives how much, 0 at the end.
    pub(super) fn read_some(&mut self) -> usize {
        self.try_read_some().unwrap()
    }

    pub(super) fn try_read_some(&mut self) -> std::io::Result<usize> {
        let mut room = [0; 16 * 1024];
        let count = self.tls.read(&mut room)?;
        self.input.extend_from_slice(&room[..count]);
        Ok(count)
    }

    /// The next bytes.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.read_some() > 0, "it ended behind {:?}", self.input);
        }
        self.input.drain(..count).collect()
    }

    /// All that comes, to the end.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_some() > 0 {}
        std::mem::take(&mut self.input)
    }

    /// Waits until the connection has ended, however it did.
    pub(crate) fn wait_for_end(mut self) {
        let mut room = [0; 16 * 1024];
        let start = Instant::now();
        while self.tls.read(&mut room).is_ok_and(|count| count > 0) {
            assert!(start.elapsed() < LONGEST_WAIT);
        }
        assert!(start.elapsed() < LONGEST_WAIT, "it did not end");
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).unwrap();
        self.tls.flush().unwrap();
    }

    /// Says that all that follows is the task's.
    pub(crate) fn joined(&mut self) {
        let mut room = [0; 64];
        let length = message::encode(&Joined {}, OPENING_MAX_FRAME, &mut room).unwrap();
        self.write(&room[..length]);
    }

    /// Says that the connection is not wanted.
    pub(crate) fn refuse(&mut self, detail: &str) {
        let close =
            Close { reason: CloseReason::NotServed, retry_after: 0, detail: Text::new(detail).unwrap() };
        let mut room = [0; 256];
        let length = message::encode(&close, OPENING_MAX_FRAME, &mut room).unwrap();
        self.write(&room[..length]);
        self.finish();
    }

    /// Ends this side's bytes.
    pub(crate) fn finish(&mut self) {
        self.tls.conn.send_close_notify();
        // A task that has what it needs to know may have gone already.
        let _ = self.tls.flush();
        let _ = self.tls.sock.shutdown(std::net::Shutdown::Write);
    }
}

impl Device {
    /// All processes that the agent has started, and those that these have; not the one that waits for a task.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        self.all_descendants().into_iter().filter(|process| !process.is_ready()).collect()
    }

    /// The process that waits for a task, if there is one.
    pub(crate) fn ready_process(&self) -> Option<Process> {
        let mut ready = self.all_descendants().into_iter().filter(Process::is_ready);
        let found = ready.next();
        assert_eq!(ready.next(), None);
        found
    }

    fn all_descendants(&self) -> Vec<Process> {
        let agent = self.pid() as i32;
        let all: HashMap<i32, Process> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Process::find(&entry.unwrap()))
            .map(|found| (found.id, found))
            .collect();
        let is_of_agent = |process: &&Process| {
            let mut at = process.parent;
            while let Some(parent) = all.get(&at).filter(|_| at != agent) {
                at = parent.parent;
            }
            at == agent
        };
        let mut found: Vec<_> = all.values().filter(is_of_agent).cloned().collect();
        found.sort_by_key(|process| process.id);
        found
    }

    /// The process of the device's one task.
    pub(crate) fn task_process(&self) -> Process {
        let all = self.descendants();
        let mut tasks = all.iter().filter(|process| process.command.contains("run-task"));
        let found = tasks.next().unwrap_or_else(|| panic!("a task's process in {all:?}")).clone();
        assert_eq!(tasks.next(), None);
        found
    }
}

/// A process that was there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) id: i32,
    parent: i32,
    started: u64,
    is_zombie: bool,
    name: String,
    pub(crate) command: String,
}

impl Process {
    fn find(entry: &fs::DirEntry) -> Option<Self> {
        Self::read(entry.file_name().to_str()?.parse().ok()?)
    }

    fn read(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        // The name, in brackets, may hold anything.
        let (name, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        Some(Self {
            id,
            name: name.split_once('(')?.1.to_owned(),
            is_zombie: fields[0] == "Z",
            parent: fields[1].parse().ok()?,
            started: fields[19].parse().ok()?,
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        })
    }

    /// Whether it waits for a task.
    fn is_ready(&self) -> bool {
        self.name == "holdfast-ready"
    }

    /// Whether it is still there.
    pub(crate) fn lives(&self) -> bool {
        Self::read(self.id).is_some_and(|now| now.started == self.started && !now.is_zombie)
    }

    /// Stops it, and waits until it has: what the kernel does for a group of stopped processes it does not do for one
    /// that is about to stop.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        until("it has stopped", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
        });
    }

    /// Sends it a signal; one that has ended needs none.
    pub(crate) fn signal(&self, signal: Signal) {
        match rustix::process::kill_process(Pid::from_raw(self.id).unwrap(), signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("{signal:?}: {error}"),
        }
    }
}

/// Waits until none of them is there any longer.
pub(crate) fn until_gone(processes: &[Process]) {
    until("the processes' end", || !processes.iter().any(Process::lives));
}

/// A device whose agent runs with these rules, connected.
pub(crate) fn connected(rules: &str) -> (TestServer, Device, Peer) {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure(rules);
    device.run();
    let (peer, tasks) = server.open_for_tasks();
    assert!(tasks.is_empty());
    (server, device, peer)
}

/// As people read it.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Rules by which the task `reboot` runs a script of the shell.
pub(crate) fn reboots_by(script: &str) -> String {
    format!("[tasks.reboot]\ncommand = ['sh', '-c', '''{script}''']\n")
}
