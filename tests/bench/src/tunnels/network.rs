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
const DEVICE: &str = "10.77.0.2";

/// What lies between server and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// They are one machine.
    Loopback,
    /// A link that takes 1 MB a second from the device, with a queue of 50 ms.
    Slow,
    /// A link on which each packet is under way for so many milliseconds.
    Far(u64),
}

/// Two network namespaces, and the link between them. They go when this is dropped.
pub(crate) struct Link {
    server: String,
    device: String,
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
        // An interface's name has 15 letters at most.
        let name = |side| format!("hfb{}{side}", id());
        let (server, device) = (name("s"), name("d"));
        let carrier = match network {
            Network::Far(milliseconds) => Some(carry(&server, &device, milliseconds, log)?),
            _ => None,
        };
        let link = Self { server, device, _carrier: carrier };
        for namespace in [&link.server, &link.device] {
            tell(&format!("ip netns add {namespace}"))?;
            tell(&format!("ip -n {namespace} link set lo up"))?;
        }
        let (server, device) = (&link.server, &link.device);
        if link._carrier.is_none() {
            tell(&format!("ip link add {server} type veth peer name {device}"))?;
        }
        for (name, address) in [(server, SERVER), (device, DEVICE)] {
            tell(&format!("ip link set {name} netns {name}"))?;
            tell(&format!("ip -n {name} address add {address}/24 dev {name}"))?;
            tell(&format!("ip -n {name} link set {name} up"))?;
        }
        if network == Network::Slow {
            tell(&format!(
                "tc -n {device} qdisc add dev {device} root tbf rate 8mbit burst 16kb latency 50ms"
            ))?;
        }
        Ok(Some(link))
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
        for namespace in [&self.server, &self.device] {
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
