//! The tunnels that are measured: ours, and the peers beside it. Each is started anew for each measurement.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use holdfast_tests::{process::Process, sshd::Sshd, system_sshd::SystemSshd, wait};
use serde::{Deserialize, Serialize};

use super::{client::Way, ours};
use crate::{
    error::{Error, Result},
    process::{self, free_port},
};

/// A way from an operator to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tunnel {
    /// `holdfast serve`, and `holdfast-agent`.
    Holdfast,
    /// The same, for an operator who is not on the server's machine.
    Elsewhere,
    /// The same, where the device comes by a stock `ssh -R` to the SSH server of the server's machine.
    StockSsh,
    /// rathole, without encryption.
    Rathole,
    /// `ssh -R` to an OpenSSH server.
    OpenSsh,
    /// None, and nothing behind it: a TLS connection from the device to the server, by which each shows its key.
    Handshake,
    /// None: the operator reaches the device's service itself.
    Direct,
}

impl Tunnel {
    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Elsewhere => "holdfast, operator elsewhere",
            Self::StockSsh => "holdfast, transport openssh",
            Self::Rathole => "rathole, no encryption",
            Self::OpenSsh => "ssh -R through sshd",
            Self::Handshake => "a TLS handshake, both with keys",
            Self::Direct => "no tunnel",
        }
    }

    /// The value of `--tunnel`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Elsewhere => "elsewhere",
            Self::StockSsh => "stock-ssh",
            Self::Rathole => "rathole",
            Self::OpenSsh => "open-ssh",
            Self::Handshake => "handshake",
            Self::Direct => "direct",
        }
    }
}

/// Where the programs are, and where things are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Site {
    /// The server that is measured
    #[arg(long)]
    pub(crate) holdfast: PathBuf,
    /// The agent that is measured
    #[arg(long)]
    pub(crate) agent: PathBuf,
    /// Where rathole is, if it could be installed
    #[arg(long)]
    pub(crate) rathole: PathBuf,
    /// A directory for what is written; it is emptied
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// The server's address, which is one of this network namespace
    #[arg(long)]
    pub(crate) server_address: IpAddr,
    /// The device's address
    #[arg(long)]
    pub(crate) device_address: IpAddr,
    /// The network namespace that the device is in, if that is another
    #[arg(long)]
    pub(crate) device_namespace: Option<String>,
}

/// What a tunnel leads to.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// What the agent's configuration says of it.
    pub(crate) configuration: String,
}

/// A tunnel that is there. All of it ends with this.
pub(crate) struct Running {
    /// How an operator comes to each device.
    pub(crate) ways: Vec<Way>,
    /// What OpenSSH's programs are told, so that they reach the first device as `kiosk.fleet`.
    pub(crate) ssh_config: PathBuf,
    /// The processes of the device's side.
    pub(crate) device: Vec<Process>,
    /// The processes of the server's side.
    pub(crate) server: Vec<Process>,
    pub(crate) sshd: Option<Sshd>,
    /// The SSH server of the server's machine, where ours is reached by that.
    pub(crate) account: Option<SystemSshd>,
}

impl Site {
    /// A command of the device's side.
    pub(crate) fn on_device(&self, program: &Path) -> Command {
        match &self.device_namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Starts a tunnel to `target`, which the device reaches, for so many devices.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn start(&self, tunnel: Tunnel, target: &Target, devices: usize) -> Result<Running> {
        match tunnel {
            Tunnel::Holdfast | Tunnel::Elsewhere | Tunnel::StockSsh => {
                ours::start(self, tunnel, target, devices)
            }
            Tunnel::Rathole => self.start_rathole(target),
            Tunnel::OpenSsh => self.start_open_ssh(target),
            Tunnel::Handshake | Tunnel::Direct => self.started(target.address, Vec::new(), Vec::new(), None),
        }
    }

    fn start_rathole(&self, target: &Target) -> Result<Running> {
        if !self.rathole.exists() {
            return Err(Error::Told("rathole could not be installed".to_owned()));
        }
        let (listen, port) = (SocketAddr::new(self.server_address, free_port()?.port()), free_port()?);
        let server = format!(
            "[server]\nbind_addr = '{listen}'\ndefault_token = 'bench'\n[server.services.ssh]\nbind_addr = '{port}'\n"
        );
        let client = format!(
            "[client]\nremote_addr = '{listen}'\ndefault_token = 'bench'\n[client.services.ssh]\nlocal_addr = '{}'\n",
            target.address
        );
        let (server, client) = (self.write("server.toml", &server)?, self.write("client.toml", &client)?);
        let server = process::start(
            Command::new(&self.rathole).arg("--server").arg(server),
            &self.file("server.log"),
            "",
        )?;
        let device = process::start(
            self.on_device(&self.rathole).arg("--client").arg(client),
            &self.file("client.log"),
            "",
        )?;
        self.started(port, vec![device], vec![server], None)
    }

    fn start_open_ssh(&self, target: &Target) -> Result<Running> {
        let sshd = Sshd::listening_on(self.server_address)?;
        let (port, address) = (free_port()?, sshd.address());
        let mut client = self.on_device(Path::new("ssh"));
        client
            .args([
                "-F",
                "none",
                "-N",
                "-T",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            // The fastest, where the processor has AES.
            .args(["-o", "BatchMode=yes", "-c", "aes128-gcm@openssh.com", "-i"])
            .arg(sshd.key())
            .args([
                "-R",
                &format!("{port}:{}", target.address),
                "-p",
                &address.port().to_string(),
                &address.ip().to_string(),
            ]);
        let device = process::start(&client, &self.file("client.log"), "")?;
        self.started(port, vec![device], Vec::new(), Some(sshd))
    }

    /// A tunnel that an operator enters at `port`.
    fn started(
        &self,
        port: SocketAddr,
        device: Vec<Process>,
        server: Vec<Process>,
        sshd: Option<Sshd>,
    ) -> Result<Running> {
        let way = Way::Port(port);
        wait::until_true("the tunnel is there", || way.connect().is_ok());
        let lines = format!(
            "Host kiosk.fleet\n    HostName {}\n    Port {}\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n",
            port.ip(),
            port.port()
        );
        let ssh_config = self.write("ssh_config", &lines)?;
        Ok(Running { ways: vec![way], ssh_config, device, server, sshd, account: None })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).map_err(Error::file(&path))?;
        Ok(path)
    }
}

impl Running {
    /// The numbers of the processes of the device's side, and of the server's; those that they have started not among
    /// them.
    pub(crate) fn processes(&self) -> [Vec<u32>; 2] {
        let numbers = |processes: &[Process]| processes.iter().map(Process::id).collect::<Vec<_>>();
        let mut server = numbers(&self.server);
        server.extend(self.sshd.as_ref().and_then(Sshd::process_id));
        server.extend(self.account.as_ref().and_then(SystemSshd::process_id));
        [numbers(&self.device), server]
    }
}

/// What a command prints, which succeeds.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::Told(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
