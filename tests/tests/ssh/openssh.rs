//! The other way to a device: a stock `ssh -R` from there to the server's own SSH server.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
};

use holdfast_tests::{namespace, process, server::Server, sshd::Sshd, system_sshd::SystemSshd, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    ends::{assert_gone, assert_works},
    fleet::{DEVICE, Fleet},
    many, tools,
};

const HOST: &str = "kiosk.fleet";

/// A server with its own SSH server, and a device that comes by that. In a process with a view of its own.
pub(crate) struct Stock {
    pub(crate) account: SystemSshd,
    pub(crate) fleet: Fleet,
}

impl Stock {
    pub(crate) fn start() -> io::Result<Self> {
        Self::configured("")
    }

    /// With these lines more in the server's configuration, behind those of its SSH server.
    pub(crate) fn configured(more: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let account = SystemSshd::set_up(&data)?;
        let configuration = account.server_configuration() + more;
        let server = Server::in_directory(directory, data, &configuration, None)?;
        let fleet = Fleet::of(server, Sshd::start()?, "transport = 'openssh'\n")?;
        Ok(Self { account, fleet })
    }

    /// The device's ssh of each session: its process, and the port behind which it has the device found.
    fn forwards(&self) -> Vec<(u32, u16)> {
        let forward = |id| {
            let words = process::words(id);
            let at = words.iter().position(|word| word == "-R")?;
            let is_ssh = words.first().is_some_and(|program| program == "ssh");
            let port = words.get(at + 1)?.strip_prefix("127.0.0.1:")?.split(':').next()?.parse().ok()?;
            is_ssh.then_some((id, port))
        };
        self.fleet.processes().into_iter().filter_map(forward).collect()
    }

    /// A session that goes on until something ends it, and the port behind which it is.
    fn open(&self) -> io::Result<(Child, u16)> {
        self.fleet.ended();
        // A session has ended when the server says so; its ssh goes a moment later.
        wait::until("the ssh of each session before has gone", || self.forwards(), Vec::is_empty);
        let mut session = Command::new("ssh")
            .arg("-F")
            .arg(self.fleet.config())
            .args([HOST, "echo ready; sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // A login that is cut short would be tried again.
        session.stdout.as_mut().expect("it is piped").read_exact(&mut [0; 6])?;
        let [(_, port)] = self.forwards()[..] else {
            panic!("expected one ssh, found {:?}", self.forwards())
        };
        Ok((session, port))
    }

    /// Nothing of any session is left on the server's machine, on the device, or in the store.
    #[track_caller]
    fn assert_nothing_left(&self, port: u16) {
        self.fleet.ended();
        wait::until("no process is left on the device", || self.fleet.processes(), Vec::is_empty);
        wait::until("nobody is logged in", || self.account.sessions(), Vec::is_empty);
        wait::until_true("nobody listens on the port", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
        });
    }
}

/// Kills a part of a session, and starts it again where that is not by itself.
type Kill<'a> = &'a dyn Fn(&mut Stock) -> io::Result<()>;

fn kill(id: u32) -> io::Result<()> {
    let id = Pid::from_raw(id.cast_signed()).expect("a process has a number");
    Ok(kill_process(id, Signal::KILL)?)
}

#[test]
fn sessions_by_a_stock_ssh() -> io::Result<()> {
    if !namespace::is_inside("openssh::sessions_by_a_stock_ssh")? {
        return Ok(());
    }
    let mut stock = Stock::start()?;
    // So many begin at once here.
    stock.account.run_with("MaxStartups 200")?;
    let fleet = &stock.fleet;
    let output = fleet.holdfast_ssh(&[], &["echo", "here;", "exit", "7"]);
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()),
        ("here\n", Some(7)),
        "{output:?}; the agent: {}; sshd: {}",
        fleet.agent.log(),
        stock.account.log()
    );
    let task = &fleet.ended()[0];
    assert_eq!((&task["state"], &task["kind"]), (&"done".into(), &"openssh".into()), "{task}");
    assert!(task["bytes_in"].as_u64() > Some(1_000) && task["bytes_out"].as_u64() > Some(1_000), "{task}");

    tools::carry_files(fleet)?;
    tools::share_repository(fleet)?;
    tools::share_connection(fleet)?;
    let hosts = vec![HOST.to_owned(); 20];
    many::all_at_once(fleet, &hosts, hosts.len())?;
    tools::ask_by_ansible(fleet)?;

    let (mut session, port) = stock.open()?;
    session.kill()?;
    assert_gone(fleet, &mut session);
    stock.assert_nothing_left(port);
    assert!(!fleet.agent.log().contains("PRIVATE") && !fleet.server.log().contains("PRIVATE"));
    assert_eq!(fleet.server.ask(&["sessions", DEVICE]).len(), 1, "the device was online throughout");
    Ok(())
}

#[test]
fn whatever_dies_nothing_is_left_of_a_session() -> io::Result<()> {
    if !namespace::is_inside("openssh::whatever_dies_nothing_is_left_of_a_session")? {
        return Ok(());
    }
    let mut stock = Stock::start()?;
    let kills: [(&str, Kill<'_>); 5] = [
        ("the device's ssh", &|stock| kill(stock.forwards()[0].0)),
        ("the task's process", &|stock| kill(stock.fleet.task_processes()[0])),
        ("the agent", &|stock| {
            stock.fleet.agent.kill();
            stock.fleet.agent.run()
        }),
        ("sshd's processes", &|stock| stock.account.sessions().into_iter().try_for_each(kill)),
        ("the server", &|stock| {
            stock.fleet.server.kill();
            stock.fleet.server.run()
        }),
    ];
    for (what, end) in kills {
        eprintln!("{what} is killed");
        let (mut session, port) = stock.open()?;
        end(&mut stock)?;
        assert_gone(&stock.fleet, &mut session);
        stock.assert_nothing_left(port);
        assert_works(&stock.fleet);
    }
    stock.fleet.sshd.kill();
    let without = stock.fleet.run("ssh", &[HOST, "true"]);
    let error = String::from_utf8_lossy(&without.stderr);
    assert!(without.status.code() == Some(255) && error.contains("does not answer"), "{error}");
    assert_eq!(stock.fleet.ended().last().expect("there was one")["state"], "failed");
    stock.fleet.sshd.run()?;
    assert_works(&stock.fleet);

    stock.account.kill();
    let without = stock.fleet.run("ssh", &[HOST, "true"]);
    let error = String::from_utf8_lossy(&without.stderr);
    assert!(without.status.code() == Some(255) && error.contains("ended with exit code 255"), "{error}");
    let failed = stock.fleet.ended().pop().expect("there was one");
    assert!(failed["output"].as_str().is_some_and(|said| said.contains("Connection refused")), "{failed}");
    stock.account.run()?;
    assert_works(&stock.fleet);
    Ok(())
}

#[test]
fn a_session_that_sshd_turns_away_comes_on_the_retry() -> io::Result<()> {
    if !namespace::is_inside("openssh::a_session_that_sshd_turns_away_comes_on_the_retry")? {
        return Ok(());
    }
    let mut stock = Stock::start()?;
    stock.account.run_with("MaxStartups 1")?;
    // Somebody has the only place of those who are not logged in yet.
    let mut place = TcpStream::connect((Ipv4Addr::LOCALHOST, stock.account.port()))?;
    place.read_exact(&mut [0; 4])?;
    let session = Command::new("ssh")
        .arg("-F")
        .arg(stock.fleet.config())
        .args([HOST, "echo here"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    wait::until("it is turned away", || stock.account.log(), |log| log.contains("MaxStartups"));
    drop(place);
    let output = session.wait_with_output()?;
    assert!(output.status.success() && output.stdout == b"here\n", "{output:?}");
    Ok(())
}

#[test]
fn a_session_ends_when_it_is_told_to() -> io::Result<()> {
    if !namespace::is_inside("openssh::a_session_ends_when_it_is_told_to")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let fleet = &stock.fleet;
    let (mut session, port) = stock.open()?;
    let running = fleet.tasks().into_iter().find(|task| task["state"] == "running").expect("it runs");
    fleet.server.tell(&["task", "stop", &running["id"].to_string()]);
    assert_gone(fleet, &mut session);
    stock.assert_nothing_left(port);
    assert_works(fleet);

    let (mut session, port) = stock.open()?;
    fleet.server.tell(&["revoke", DEVICE]);
    assert_gone(fleet, &mut session);
    stock.assert_nothing_left(port);
    assert_eq!(fleet.run("ssh", &[HOST, "true"]).status.code(), Some(255));
    Ok(())
}
