//! A session is broken at each step of its way, by each part that can break: nothing is left of it, and the next works at once.
//!
//! Each step is held where it is until it has been broken there: by stopping a process, or by what the network lets pass.

use std::{
    collections::HashSet,
    env, fs, io,
    process::{Child, Command, Stdio},
};

use holdfast_tests::{
    proxy::{Break, Network, Proxy},
    server::Server,
    sshd::Sshd,
    wait::{self, LONGEST_WAIT},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::{DEVICE, Fleet};

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The device was not told yet.
    Requested,
    /// The device was told, and its data connection does not stand yet.
    Ordered,
    /// The server has the `JOIN`, and the device has no answer yet.
    Joined,
    /// Bytes go both ways.
    Running,
    /// It was told to stop, and its process does not.
    Stopping,
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Server,
    Agent,
    TaskProcess,
    /// The operator's ssh.
    Operator,
    /// The network, under the control connection.
    Control(Break),
    /// The network, under the data connection.
    Data(Break),
}

impl Fault {
    /// All that can break at this step.
    fn all(step: Step) -> Vec<Self> {
        let mut all = vec![Self::Server, Self::Agent, Self::Operator];
        let has_process = step != Step::Requested;
        all.extend(has_process.then_some(Self::TaskProcess));
        let slow = env::var_os("HOLDFAST_SLOW").is_some();
        for how in [Break::Cut, Break::HalfOpenAtServer, Break::HalfOpenAtDevice] {
            if how == Break::Cut || slow {
                all.push(Self::Control(how));
                all.extend(has_process.then_some(Self::Data(how)));
            }
        }
        all
    }

    /// Whether a session goes on that this hits at this step: its device comes back, and has it, or is told again.
    fn is_survived(self, step: Step) -> bool {
        matches!(self, Self::Control(_)) && step != Step::Stopping
    }
}

struct Scene {
    proxy: Proxy,
    fleet: Fleet,
}

impl Scene {
    fn start() -> io::Result<Self> {
        let proxy = Proxy::start()?;
        let fleet = Fleet::of(Server::behind(&proxy)?, Sshd::start()?, "")?;
        Ok(Self { proxy, fleet })
    }

    fn agent(&self) -> u32 {
        self.fleet.agent.process_id().expect("the agent runs")
    }

    /// The process of the one task; nothing if there is none.
    fn task_process(&self) -> Option<u32> {
        self.fleet.task_processes().first().copied()
    }

    /// Has a session begin that gets as far as this step, and stays there.
    fn hold_at(&mut self, step: Step) -> io::Result<Child> {
        self.fleet.ended();
        // What is not the agent itself is a task's process.
        let network = if step == Step::Requested { Network::Stalled } else { Network::Good };
        self.proxy.set(self.agent(), network);
        match step {
            Step::Requested => {}
            Step::Ordered | Step::Stopping => self.proxy.set_others(Network::Stalled),
            Step::Joined => self.proxy.set_others(Network::Unanswered),
            Step::Running => {}
        }
        let session = Command::new("ssh")
            .arg("-F")
            .arg(self.fleet.config())
            .args(["kiosk.fleet", "sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        match step {
            Step::Requested => {
                self.wait_for("requested");
                assert_eq!(self.fleet.proxies().len(), 1, "it waits for the connection");
            }
            Step::Running => self.wait_for("running"),
            Step::Ordered | Step::Joined | Step::Stopping => {
                self.wait_for("starting");
                wait::until_true("the data connection is held", || {
                    self.task_process().is_some_and(|task| match step {
                        Step::Joined => self.proxy.holds_answer(task),
                        _ => self.proxy.connections(task) == 1,
                    })
                });
            }
        }
        if step == Step::Stopping {
            let id = self.fleet.tasks().last().map(|task| task["id"].to_string()).unwrap_or_default();
            signal(self.task_process().unwrap_or_default(), Signal::STOP);
            self.fleet.server.tell(&["task", "stop", &id]);
            self.wait_for("stopping");
        }
        Ok(session)
    }

    #[track_caller]
    fn wait_for(&self, state: &str) {
        let newest = || self.fleet.tasks().last().cloned().unwrap_or_default();
        wait::until(&format!("the session is {state}"), newest, |task| task["state"] == state);
    }

    /// Breaks something.
    fn inflict(&mut self, fault: Fault, session: &mut Child) -> io::Result<()> {
        let task = self.task_process();
        match fault {
            Fault::Server => self.fleet.server.kill(),
            Fault::Agent => self.fleet.agent.kill(),
            Fault::TaskProcess => signal(task.expect("there is one"), Signal::KILL),
            Fault::Operator => session.kill()?,
            Fault::Control(how) => assert_eq!(self.proxy.break_all(self.agent(), how), 1),
            Fault::Data(how) => assert_eq!(self.proxy.break_all(task.expect("there is one"), how), 1),
        }
        Ok(())
    }

    /// Lets go on what was held, and begins again what was killed.
    fn release(&mut self) -> io::Result<()> {
        self.proxy.set_others(Network::Good);
        if let Some(agent) = self.fleet.agent.process_id() {
            self.proxy.set(agent, Network::Good);
        }
        if let Some(task) = self.task_process() {
            signal(task, Signal::CONT);
        }
        if !self.fleet.server.is_running() {
            self.fleet.server.run()?;
        }
        if self.fleet.agent.process_id().is_none() {
            self.fleet.agent.run()?;
        }
        Ok(())
    }

    /// Nothing of a session is left, wherever one looks.
    #[track_caller]
    fn assert_nothing_left(&mut self, session: &mut Child, what: &str) {
        let ended = wait::find(LONGEST_WAIT, || session.try_wait().expect("a child can be waited for"));
        if ended.is_none() {
            let _ = session.kill();
            let (server, agent) = (self.fleet.server.log(), self.fleet.agent.log());
            panic!("{what}: the session did not end; the server: {server}; the agent: {agent}");
        }
        wait::until(
            &format!("{what}: all tasks have ended"),
            || self.fleet.tasks(),
            |tasks| tasks.iter().all(|task| task["ended"].is_string()),
        );
        wait::until(&format!("{what}: no process is left"), || self.fleet.task_processes(), Vec::is_empty);
        wait::until(&format!("{what}: no proxy is left"), || self.fleet.proxies(), Vec::is_empty);
        self.fleet.server.wait_online(DEVICE, true);
        let (server, agent) = (self.fleet.server.process().id(), self.agent());
        let address = self.fleet.server.address().to_string();
        assert_eq!(sockets(server, LISTENING), [address], "{what}: where the server listens");
        assert_eq!(sockets(agent, LISTENING), [""; 0], "{what}: where the agent listens");
        wait::until(
            &format!("{what}: one connection is left"),
            || sockets(server, ESTABLISHED),
            |all| all.len() == 1,
        );
    }
}

fn signal(process: u32, signal: Signal) {
    // It may have gone.
    let _ = Pid::from_raw(process.cast_signed()).map(|process| kill_process(process, signal));
}

/// States of a socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";
const ESTABLISHED: &str = "01";

/// The own addresses of all TCP sockets in this state that a process has.
fn sockets(process: u32, state: &str) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let own: HashSet<String> = links.map(|link| link.display().to_string()).collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default()
        + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, address, _, now, ..] = fields.as_slice() else { continue };
        let is_own = fields.get(9).is_some_and(|inode| own.contains(&format!("socket:[{inode}]")));
        if is_own && *now == state {
            found.push(readable(address));
        }
    }
    found
}

/// An address of `/proc/net/tcp` as people write it.
fn readable(address: &str) -> String {
    let parts = address.split_once(':').and_then(|(ip, port)| {
        Some((u32::from_str_radix(ip, 16).ok()?, u16::from_str_radix(port, 16).ok()?))
    });
    parts.map_or_else(
        || address.to_owned(),
        |(ip, port)| format!("{}:{port}", std::net::Ipv4Addr::from(ip.to_ne_bytes())),
    )
}

/// Breaks a session at this step by all that can.
fn break_at(step: Step) -> io::Result<()> {
    let mut scene = Scene::start()?;
    for fault in Fault::all(step) {
        let what = format!("{fault:?} at {step:?}");
        let mut session = scene.hold_at(step)?;
        scene.inflict(fault, &mut session)?;
        scene.release()?;
        if fault.is_survived(step) {
            scene.fleet.server.wait_online(DEVICE, true);
            scene.wait_for("running");
            assert_eq!(session.try_wait()?, None, "{what}: it goes on");
            session.kill()?;
        }
        scene.assert_nothing_left(&mut session, &what);
        assert_eq!(scene.fleet.tell("ssh", &["kiosk.fleet", "echo", "again"]), "again\n", "{what}");
    }
    Ok(())
}

#[test]
fn broken_before_the_device_is_told() -> io::Result<()> {
    break_at(Step::Requested)
}

#[test]
fn broken_before_the_data_connection_stands() -> io::Result<()> {
    break_at(Step::Ordered)
}

#[test]
fn broken_between_join_and_its_answer() -> io::Result<()> {
    break_at(Step::Joined)
}

#[test]
fn broken_while_bytes_go_both_ways() -> io::Result<()> {
    break_at(Step::Running)
}

#[test]
fn broken_while_it_is_being_stopped() -> io::Result<()> {
    break_at(Step::Stopping)
}
