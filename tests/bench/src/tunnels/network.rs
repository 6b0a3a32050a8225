//! What lies between server and device: nothing, or a link between two network namespaces.

use std::{
    env,
    path::Path,
    process::{Command, id},
};

use holdfast_tests::process::Process;
use rustix::process::geteuid;

use crate::{
    error::{Error, Result},
    process,
};

/// Where the server is, where there is a link.
pub(crate) const SERVER: &str = "10.77.0.1";

/// Where the device is, where there is a link.
const DEVICE: &str = "10.77.1.1";

/// Where each of them finds the way to the other, where that leads through a router.
const ROUTER: [&str; 2] = ["10.77.0.2", "10.77.1.2"];

/// What lies between server and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// They are one machine.
    Loopback,
    /// A router between them, which takes 1 MB a second from the device, and has a queue of 50 ms for what is more.
    Slow,
    /// A link on which each packet is under way for so many milliseconds.
    Far(u64),
}

/// Network namespaces, and the links between them. They go when this is dropped.
pub(crate) struct Link {
    server: String,
    device: String,
    router: Option<String>,
    /// Who carries the packets, where the kernel does not.
    _carrier: Option<Process>,
}

impl Link {
    /// Sets up a link; there is none to set up on the loopback.
    ///
    /// # Errors
    /// It takes root's rights, `ip` and `tc`.
    pub(crate) fn set_up(network: Network, log: &Path) -> Result<Option<Self>> {
        if network == Network::Loopback {
            return Ok(None);
        }
        if !geteuid().is_root() {
            return Err(Error::Told("a link takes root's rights".to_owned()));
        }
        // Such a name is also an interface's, which has 15 letters at most.
        let name = |side| format!("hfb{}{side}", id());
        let (server, device) = (name("s"), name("d"));
        let (router, carrier) = match network {
            Network::Far(milliseconds) => (None, Some(carry(&server, &device, milliseconds, log)?)),
            Network::Slow | Network::Loopback => (Some(name("r")), None),
        };
        let link = Self { server, device, router, _carrier: carrier };
        for namespace in link.namespaces() {
            tell(&format!("ip netns add {namespace}"))?;
            tell(&format!("ip -n {namespace} link set lo up"))?;
        }
        match &link.router {
            Some(router) => link.join_by(router)?,
            None => {
                Self::place(&link.server, &link.server, SERVER, 16)?;
                Self::place(&link.device, &link.device, DEVICE, 16)?;
            }
        }
        Ok(Some(link))
    }

    /// Joins server and device by a router, which is slow where it leads to the server.
    fn join_by(&self, router: &str) -> Result {
        let sides = [(&self.server, SERVER), (&self.device, DEVICE)];
        for ((name, address), at_router) in sides.into_iter().zip(ROUTER) {
            let peer = format!("{name}r");
            tell(&format!("ip link add {name} type veth peer name {peer}"))?;
            Self::place(name, name, address, 24)?;
            Self::place(&peer, router, at_router, 24)?;
            tell(&format!("ip -n {name} route add default via {at_router}"))?;
        }
        tell(&format!("ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        let slow = "root tbf rate 8mbit burst 16kb latency 50ms";
        tell(&format!("tc -n {router} qdisc add dev {}r {slow}", self.server))
    }

    /// Puts an interface into a namespace, with an address.
    fn place(interface: &str, namespace: &str, address: &str, prefix: u8) -> Result {
        tell(&format!("ip link set {interface} netns {namespace}"))?;
        tell(&format!("ip -n {namespace} address add {address}/{prefix} dev {interface}"))?;
        tell(&format!("ip -n {namespace} link set {interface} up"))
    }

    fn namespaces(&self) -> impl Iterator<Item = &String> {
        [&self.server, &self.device].into_iter().chain(&self.router)
    }

    /// Has servers on the server's side take the client's first words with its first packet (TCP Fast Open).
    ///
    /// # Errors
    /// The system does not have it.
    pub(crate) fn open_fast(&self) -> Result {
        tell(&format!("ip netns exec {} sysctl -qw net.ipv4.tcp_fastopen=3", self.server))
    }

    /// `program`, as a command of the server's side.
    pub(crate) fn on_server(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server]).arg(program);
        command
    }

    /// The name of the namespace that the device is in, and the device's address there.
    pub(crate) fn device(&self) -> (&str, &'static str) {
        (&self.device, DEVICE)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            // Its interfaces go with it.
            let _ = tell(&format!("ip netns delete {namespace}"));
        }
    }
}

/// Starts who carries packets, slowly, between two interfaces of these names.
fn carry(left: &str, right: &str, milliseconds: u64, log: &Path) -> Result<Process> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["delay", "--left", left, "--right", right]);
    command.args(["--milliseconds", &milliseconds.to_string()]);
    process::start(&command, log, "ready")
}

/// Runs a command of words that are separated by spaces.
fn tell(line: &str) -> Result {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .map_err(|error| Error::Told(format!("`{line}`: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Told(format!("`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
