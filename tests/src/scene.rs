//! A server and one microcontroller, joined by a network or by a serial line; and one in QEMU, and what the firmware's
//! example does there: it counts, and answers.

use std::{io, sync::Arc};

use crate::{
    agent::Agent,
    machine::{Machine, from_within},
    proxy::Proxy,
    serial_line::SerialLine,
    server::Server,
    wait,
};

/// The microcontroller's name.
pub const BOARD: &str = "barometer";

/// The name of the agent that it is wired to.
pub const GATEWAY: &str = "pi";

/// A server, a network that can be cut, and a machine on it.
#[derive(Debug)]
pub struct OnNetwork {
    /// The network.
    pub proxy: Proxy,
    /// The server.
    pub server: Server,
    /// The machine.
    pub machine: Machine,
}

/// A server, an agent, and a machine that is wired to it.
#[derive(Debug)]
pub struct OnWire {
    /// The server.
    pub server: Server,
    /// The gateway.
    pub agent: Agent,
    /// The wire.
    pub line: Arc<SerialLine>,
    /// The machine.
    pub machine: Machine,
}

impl OnNetwork {
    /// All are there, and the machine is online.
    ///
    /// # Errors
    /// Something can't be started.
    ///
    /// # Panics
    /// The machine does not come online.
    #[track_caller]
    pub fn start() -> io::Result<Self> {
        let (proxy, server) = network()?;
        let mut machine = Machine::provisioned(&server, BOARD)?;
        machine.run()?;
        server.wait_online(BOARD, true);
        Ok(Self { proxy, server, machine })
    }
}

impl OnWire {
    /// All are there, and the machine is online.
    ///
    /// # Errors
    /// Something can't be started.
    ///
    /// # Panics
    /// The machine does not come online.
    #[track_caller]
    pub fn start() -> io::Result<Self> {
        let server = Server::start()?;
        let line = Arc::new(SerialLine::new()?);
        let mut agent = Agent::enrolled(&server, GATEWAY)?;
        enrol_wired(&server);
        agent.configure(&wiring(&line))?;
        agent.run()?;
        let mut machine = Machine::wired(&line)?;
        machine.run()?;
        server.wait_online(BOARD, true);
        Ok(Self { server, agent, line, machine })
    }
}

/// A server that machines find behind a network.
///
/// # Errors
/// It can't be started.
pub fn network() -> io::Result<(Proxy, Server)> {
    let proxy = Proxy::start()?;
    let server = Server::configured("", Some(from_within(proxy.address())))?;
    proxy.lead_to(server.address());
    Ok((proxy, server))
}

/// Makes the microcontroller known, wired to the gateway.
///
/// # Panics
/// It can't be enrolled.
#[track_caller]
pub fn enrol_wired(server: &Server) {
    server.tell(&["enroll", "--name", BOARD, "--gateway", GATEWAY]);
}

/// What the gateway's configuration says of the microcontroller at the end of this line.
pub fn wiring(line: &SerialLine) -> String {
    format!("[[serial]]\npath = '{}'\ndevice = '{BOARD}'\n", line.path().display())
}

/// Whatever became of what is wired to it, the gateway's own connection has noticed nothing.
///
/// # Panics
/// It has.
#[track_caller]
pub fn assert_gateway_undisturbed(server: &Server) {
    let sessions = server.ask(&["sessions", GATEWAY]);
    assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
}

/// So many texts, each another.
pub fn texts(what: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{what} {number}")).collect()
}

/// The bodies of the messages of one kind that were archived from a device, in their order.
///
/// # Panics
/// The server does not tell.
#[track_caller]
pub fn archived(server: &Server, device: &str, kind: &str) -> Vec<String> {
    let messages = server.api().list(&format!("/messages?device={device}")).expect("the server tells");
    let of_kind = messages.iter().filter(|message| message["direction"] == "in" && message["kind"] == kind);
    of_kind.map(|message| message["body"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The numbers that a device has sent since each of its starts.
///
/// # Panics
/// They do not begin with 1, or one is left out or comes twice.
#[track_caller]
pub fn counts(server: &Server, device: &str) -> Vec<Vec<u64>> {
    let all = archived(server, device, "count");
    let mut starts: Vec<Vec<u64>> = Vec::new();
    for body in &all {
        let number: u64 = body.parse().unwrap_or_else(|_| panic!("expected a number, found {body:?}"));
        match starts.last_mut() {
            Some(start) if number == start.len() as u64 + 1 => start.push(number),
            _ if number == 1 => starts.push(vec![1]),
            _ => panic!("{number} does not follow what is before it: {all:?}"),
        }
    }
    starts
}

/// Waits until `more` numbers more than now are archived.
///
/// # Panics
/// They are not in time.
#[track_caller]
pub fn wait_counts(server: &Server, device: &str, more: usize) {
    let count = || archived(server, device, "count").len();
    let enough = count() + more;
    wait::until(&format!("{device} has sent {more} numbers more"), count, |now| *now >= enough);
}

/// Sends texts to a device one by one, each when the one before was answered.
///
/// # Panics
/// They are not answered in time, each once.
#[track_caller]
pub fn assert_answers(server: &Server, device: &str, texts: &[String]) {
    let before = archived(server, device, "answer");
    for (number, text) in (1..).zip(texts) {
        server.tell(&["send", device, text]);
        let answers = || archived(server, device, "answer");
        wait::until("it is answered", answers, |all| all.len() == before.len() + number);
    }
    assert_eq!(archived(server, device, "answer"), [before.as_slice(), texts].concat());
}

/// What a device's last status says, by a name.
pub fn reading(server: &Server, device: &str, name: &str) -> Option<f64> {
    server.device(device)?["status"][name].as_f64()
}
