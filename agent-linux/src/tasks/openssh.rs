//! `openssh`: has this device's SSH server found behind a port of the server's loopback, by a stock `ssh -R`.
//!
//! What the server says becomes numbers, addresses, names and keys here, before any of it stands on a command line or in
//! a file: no word of it can be an option of ssh, or a line of its own.

use std::{io, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocol_core::{message::OpenSshParameters, task::is_user_name};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    in_memory::InMemory,
    program::{Program, ProgramError},
    progress::{Progress, tell},
};
use crate::{config::host_name, identity::DeviceKey};

/// The types of host keys that ssh is shown.
const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// What the server is called in the file of its keys, wherever it is.
const ALIAS: &str = "holdfast-server";

/// One session of an operator.
#[derive(Serialize, Deserialize)]
pub(super) struct OpenSsh {
    /// The key that the device is registered by.
    pub(super) key: DeviceKey,
    /// Where the server's SSH server is.
    pub(super) target: Target,
    /// How long connecting there may take.
    pub(super) step: Duration,
    /// Where this device's SSH server is: the configuration says so.
    pub(super) address: SocketAddr,
}

/// The server's SSH server, in words that were checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    host: String,
    port: u16,
    account: String,
    listen: u16,
    /// Lines of a file of known hosts.
    known_hosts: String,
}

/// Why a session was none, or has ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenSshError {
    #[error("ssh can't be run on this device; install OpenSSH's client (openssh-client)")]
    NoSsh,
    #[error("ssh to {host}, port {port}, ended with {how}; what it said stands in `holdfast task show`")]
    Ended { host: String, port: u16, how: String },
    #[error("ssh could not be given its keys: {0}")]
    Files(io::Error),
    #[error("ssh could not be started: {0}")]
    Start(io::Error),
}

impl Target {
    /// What the server says, if all of it is what it should be. On which host it is, is not for the server to say: it
    /// would have the device knock at any door of its network.
    pub(super) fn new(parameters: &[u8], host: &str) -> Option<Self> {
        let OpenSshParameters { port, account, listen, host_keys } = OpenSshParameters::decode(parameters)?;
        let known_hosts = host_keys.iter().map(|key| known_host(key.0)).collect::<Option<String>>()?;
        let account = account.as_str();
        let is_whole = port > 0 && listen > 0 && is_user_name(account) && !known_hosts.is_empty();
        is_whole.then_some(())?;
        Some(Self { host: host_name(host)?, port, account: account.to_owned(), listen, known_hosts })
    }
}

/// A key's line in the file of known hosts, if its type is one that ssh knows.
fn known_host(key: &[u8]) -> Option<String> {
    let (length, rest) = key.split_first_chunk()?;
    let name = rest.get(..u32::from_be_bytes(*length).try_into().ok()?)?;
    let name = KEY_TYPES.iter().find(|known| known.as_bytes() == name)?;
    Some(format!("{ALIAS} {name} {}\n", STANDARD.encode(key)))
}

impl OpenSsh {
    /// Has the device's SSH server found behind the port until ssh ends, or is ended.
    pub(super) async fn run(self) -> Result<String, OpenSshError> {
        let (key, known_hosts) = (
            InMemory::new("key", self.key.pem().as_bytes()).map_err(OpenSshError::Files)?,
            InMemory::new("known-hosts", self.target.known_hosts.as_bytes()).map_err(OpenSshError::Files)?,
        );
        // Whoever is to stop asks the whole group: the end of ssh is waited for.
        let _asked_to_end = signal(SignalKind::terminate()).map_err(OpenSshError::Start)?;
        let command = self.command(&key, &known_hosts);
        let ended = run(Program { command }).await;
        // They are read by their names here for as long as ssh runs.
        drop((key, known_hosts));
        let Target { host, port, .. } = self.target;
        let ended_with = |how| OpenSshError::Ended { host, port, how };
        Err(match ended {
            // It has no reason to.
            Ok(_) => ended_with("exit code 0".to_owned()),
            Err(ProgramError::Ended { how, .. }) => ended_with(how),
            Err(ProgramError::Missing { .. }) => OpenSshError::NoSsh,
            Err(ProgramError::Start(error)) => OpenSshError::Start(error),
        })
    }

    /// The whole command: nothing of it depends on a configuration of ssh's.
    fn command(&self, key: &InMemory, known_hosts: &InMemory) -> Vec<String> {
        let Target { host, port, account, listen, .. } = &self.target;
        let options = [
            ("BatchMode", "yes".to_owned()),
            ("PreferredAuthentications", "publickey".to_owned()),
            ("IdentityFile", key.path()),
            ("IdentitiesOnly", "yes".to_owned()),
            ("IdentityAgent", "none".to_owned()),
            ("StrictHostKeyChecking", "yes".to_owned()),
            ("HostKeyAlias", ALIAS.to_owned()),
            ("UserKnownHostsFile", known_hosts.path()),
            ("GlobalKnownHostsFile", "none".to_owned()),
            ("UpdateHostKeys", "no".to_owned()),
            ("CheckHostIP", "no".to_owned()),
            ("ExitOnForwardFailure", "yes".to_owned()),
            ("ForwardAgent", "no".to_owned()),
            ("ForwardX11", "no".to_owned()),
            ("PermitLocalCommand", "no".to_owned()),
            ("ControlPath", "none".to_owned()),
            ("ConnectTimeout", self.step.as_secs().max(1).to_string()),
            ("ServerAliveInterval", "15".to_owned()),
            ("ServerAliveCountMax", "3".to_owned()),
            ("LogLevel", "ERROR".to_owned()),
        ];
        let mut command: Vec<_> = ["ssh", "-N", "-T", "-F", "none"].map(str::to_owned).into();
        for (name, value) in options {
            command.extend(["-o".to_owned(), format!("{name}={value}")]);
        }
        command.extend(["-p".to_owned(), port.to_string(), "-l".to_owned(), account.clone()]);
        command.extend(["-R".to_owned(), format!("127.0.0.1:{listen}:{}", self.address)]);
        command.extend(["--".to_owned(), host.clone()]);
        command
    }
}

/// Runs ssh. It is said to run as soon as it has begun: whether it gets through, the server sees first.
async fn run(program: Program) -> Result<(), ProgramError> {
    let ssh = program.start()?;
    tell(&Progress::Running)?;
    ssh.end().await
}

#[cfg(test)]
mod tests {
    use protocol_core::message::{HostKey, Text};

    use super::*;

    const KEY: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x04good";

    fn target(host: &str, port: u16, account: &str, listen: u16, keys: &[&[u8]]) -> Option<Target> {
        let parameters = OpenSshParameters {
            port,
            account: Text::new(account).unwrap(),
            listen,
            host_keys: keys.iter().map(|key| HostKey(key)).collect(),
        };
        let mut room = [0; 1024];
        Target::new(parameters.encode(&mut room).unwrap(), host)
    }

    #[test]
    fn what_the_server_says_in_words_of_ssh() {
        for (host, expected) in [("fleet.example.org", "fleet.example.org"), ("[2001:db8::1]", "2001:db8::1")]
        {
            assert_eq!(target(host, 22, "ssh_server", 40_000, &[KEY]).unwrap().host, expected);
        }
        let known = target("a", 22, "ssh_server", 40_000, &[KEY]).unwrap().known_hosts;
        assert_eq!(known, "holdfast-server ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAABGdvb2Q=\n");
    }

    #[test]
    fn nothing_that_the_server_says_becomes_an_option_or_a_line() {
        for account in ["", "-x", "a b", "a%u", "Root", "9", "a@b"] {
            assert_eq!(target("a", 22, account, 40_000, &[KEY]), None, "{account}");
        }
        assert_eq!(target("a", 0, "ssh_server", 40_000, &[KEY]), None);
        assert_eq!(target("a", 22, "ssh_server", 0, &[KEY]), None);
        let cut: &[u8] = &KEY[..12];
        for keys in [&[][..], &[&b""[..]], &[b"\0\0\0\x04none"], &[b"\xff\xff\xff\xffssh"], &[KEY, cut]] {
            assert_eq!(target("a", 22, "ssh_server", 40_000, keys), None, "{keys:?}");
        }
        assert_eq!(Target::new(b"", "a"), None);
    }
}
