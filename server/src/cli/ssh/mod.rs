//! `ssh`, `proxy`, `known-hosts`, `ssh-config`: a device's SSH server by stock tools.
//!
//! What a device says of itself ends up on command lines and in configuration files of ssh here: each such word is
//! checked, and left out if it is not what it should be.

mod accept;
mod config;
mod hosts;
mod installed;
mod proxy;

use std::{os::unix::process::CommandExt, process::Command, time::Duration};

use clap::Args;
use protocol_core::task::is_user_name;

use super::{api_client::ApiClient, devices, error::CliError, output::exact_and_ago};
use crate::{
    api::view::{DeviceView, Time},
    id::DeviceName,
};

pub(super) use self::{
    accept::{AcceptHostKey, accept},
    config::{SshConfig, refresh, ssh_config, uninstall},
    hosts::{KnownHosts, known_hosts},
    proxy::{Proxy, proxy},
};

/// What stands behind a device's name where ssh is to know that it is one.
const DOMAIN: &str = ".fleet";

/// The arguments of `ssh`.
#[derive(Args, Clone, Debug)]
pub(super) struct Ssh {
    /// The device's name; USER@DEVICE as with ssh itself
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Wait until the device is online
    #[arg(long)]
    wait: bool,
    /// The user to log in as [default: the one that the device has reported; where it has none, ssh decides]
    #[arg(long, short = 'l', value_name = "USER")]
    user: Option<String>,
    /// What ssh is to be told beside this: options, behind --, and the command to be run
    #[arg(trailing_var_arg = true, value_name = "SSH ARGUMENTS")]
    rest: Vec<String>,
}

impl Ssh {
    /// The user, if one is said there, and the device: `pi@kiosk`.
    fn parts(&self) -> (Option<&str>, &str) {
        match self.device.rsplit_once('@') {
            Some((user, device)) => (Some(user), device),
            None => (None, &self.device),
        }
    }
}

/// `holdfast ssh DEVICE`: becomes ssh; returns only if it can't.
pub(super) fn ssh(api: &ApiClient, ssh: &Ssh) -> Result<(), CliError> {
    let device = super::ask(find(api, ssh))?;
    let name = host_name(&device)
        .ok_or_else(|| CliError::failed("what the server calls this device is no name of a device"))?;
    let options = config::Options::new(api, ssh.wait)?;
    let mut command = Command::new("ssh");
    for (name, value) in options.all() {
        command.arg("-o").arg(format!("{name}={value}"));
    }
    let user = ssh.user.as_deref().or(ssh.parts().0).or_else(|| user(&device));
    match user {
        Some(user) => {
            command.arg("-l").arg(user);
        }
        None => eprintln!("holdfast: {name} reports no user: ssh says who logs in (--user USER)"),
    }
    // ssh takes options behind the host as well, up to the command.
    command.arg(format!("{name}{DOMAIN}")).args(&ssh.rest);
    let error = command.exec();
    Err(CliError::failed(format!("ssh can't be run: {error}; install OpenSSH's client (openssh-client)")))
}

/// The device. One that is offline is told of here, in fewer words than ssh would need; unless it is waited for.
async fn find(api: &ApiClient, ssh: &Ssh) -> Result<DeviceView, CliError> {
    let name = &device_name(ssh.parts().1);
    let device = match ssh.wait {
        true => await_answer(api, name).await?,
        false => api.get(&devices::path(name, "")).await?,
    };
    if device.online || device.revoked.is_some() {
        return Ok(device);
    }
    if ssh.wait {
        eprintln!("Waiting for {name} to come online…");
        return Ok(device);
    }
    let seen = device.last_seen.map(|seen| exact_and_ago(seen, Time::now()));
    let seen = seen.map_or_else(|| "was never seen".to_owned(), |seen| format!("was last seen {seen}"));
    Err(CliError::failed(format!("{name} is offline; it {seen}; --wait waits for it")))
}

/// How often it is looked whether a device has come online.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Waits until a device is online, and until then for a server that is away as well.
async fn wait_for(api: &ApiClient, name: &str) -> Result<(), CliError> {
    loop {
        let device = await_answer(api, name).await?;
        if device.online || device.revoked.is_some() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What the server says of a device, as soon as it says something. That it is away is told once.
async fn await_answer(api: &ApiClient, name: &str) -> Result<DeviceView, CliError> {
    let mut is_told = false;
    loop {
        match api.get(&devices::path(name, "")).await {
            Err(error) if error.may_pass() => {
                if !is_told {
                    eprintln!("holdfast: {error}");
                    eprintln!("Waiting for the server…");
                }
                is_told = true;
            }
            answer => return answer,
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The device's name in what people and ssh call it: `kiosk`, `kiosk.fleet`, `Kiosk.Fleet`. Names of hosts have no case.
fn device_name(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(DOMAIN).map(ToOwned::to_owned).unwrap_or(host)
}

/// The device's name, if it is one: what the server says becomes no line of a configuration, and no option of ssh.
fn host_name(device: &DeviceView) -> Option<DeviceName> {
    device.name.parse().ok()
}

/// The user that the device has reported, if that is a user's name: it never becomes an option of ssh.
fn user(device: &DeviceView) -> Option<&str> {
    device.ssh_user.as_deref().filter(|user| is_user_name(user))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Ssh, device_name};

    #[test]
    fn words_are_taken_as_ssh_takes_them() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            ssh: Ssh,
        }
        let read = |words: &[&str]| Line::parse_from([&["ssh"], words].concat()).ssh;
        for words in [&["pi@kiosk", "ls", "-l"][..], &["pi@kiosk", "--", "ls", "-l"]] {
            let ssh = read(words);
            assert_eq!((ssh.parts(), ssh.rest.join(" ").as_str()), ((Some("pi"), "kiosk"), "ls -l"));
        }
        let ssh = read(&["kiosk", "--wait", "-l", "ada", "--", "-L", "1:a:2"]);
        assert_eq!((ssh.wait, ssh.parts(), ssh.user.as_deref()), (true, (None, "kiosk"), Some("ada")));
        assert_eq!(ssh.rest, ["-L", "1:a:2"]);
    }

    #[test]
    fn names() {
        assert_eq!(["kiosk", "kiosk.fleet", "Kiosk.FLEET"].map(device_name), ["kiosk"; 3]);
    }
}
