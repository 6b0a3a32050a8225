//! `ssh-config`: what ssh is told so that it reaches devices by itself; and the same as options of one call.

use std::{env, path::Path};

use clap::Args;

use super::{
    DOMAIN, host_name,
    installed::{self, Installed, REFRESH_TIMEOUT},
    user,
};
use crate::{
    api::view::{DeviceView, Page},
    cli::{Shared, api_client::ApiClient, error::CliError, output::Output},
};

/// The arguments of `ssh-config`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct SshConfig {
    /// Write it to ~/.ssh/holdfast.conf and holdfast-devices.conf, which ~/.ssh/config is made to include; the devices are
    /// brought up to date whenever ssh is used for one of them
    #[arg(long)]
    install: bool,
    /// Bring what is installed up to date, if HOST is not in it or it is older than a minute
    #[arg(long, value_name = "HOST", hide = true, conflicts_with = "install")]
    refresh: Option<String>,
    /// Take out of ~/.ssh what --install has put there
    #[arg(long, conflicts_with_all = ["install", "refresh"])]
    uninstall: bool,
}

impl SshConfig {
    /// The host for whose sake ssh asks that what is installed is brought up to date.
    pub(in crate::cli) fn refresh(&self) -> Option<&str> {
        self.refresh.as_deref()
    }

    /// Whether what is installed is to be removed.
    pub(in crate::cli) const fn uninstall(&self) -> bool {
        self.uninstall
    }
}

/// What ssh is told for all devices.
pub(super) struct Options {
    /// This program, and its server.
    holdfast: String,
    /// The option by which it knows its server.
    server: String,
    proxy: String,
    /// Whether ssh is passed the connection itself, and no process of ours copies its bytes.
    pass: &'static str,
    known_hosts: String,
}

impl Options {
    /// With this program, and this server.
    pub(super) fn new(api: &ApiClient, wait: bool) -> Result<Self, CliError> {
        let program = env::current_exe()?;
        let (option, value) = api.option();
        let text = |path: &Path| {
            let unusable = || CliError::failed(format!("ssh can't be told a path like {}", path.display()));
            path.to_str()
                .filter(|text| !text.contains(['\'', '"', '\\', '\n', '\r']) && !text.contains("${"))
                .map(percent)
                .ok_or_else(unusable)
        };
        let server = format!("{option} '{}'", text(&value)?);
        let holdfast = format!("'{}' {server}", text(&program)?);
        let wait = if wait { " --wait" } else { "" };
        let (pass, as_passed) = if api.is_local() { ("yes", " --pass") } else { ("no", "") };
        Ok(Self {
            proxy: format!("{holdfast} proxy{wait}{as_passed} %h"),
            pass,
            known_hosts: format!("{holdfast} known-hosts %H --shown %t %K"),
            holdfast,
            server,
        })
    }

    /// The options, by name.
    pub(super) fn all(&self) -> [(&'static str, &str); 6] {
        [
            ("ProxyCommand", &self.proxy),
            ("ProxyUseFdpass", self.pass),
            ("KnownHostsCommand", &self.known_hosts),
            ("UserKnownHostsFile", "/dev/null"),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "yes"),
        ]
    }
}

/// A path in which ssh sees no tokens.
fn percent(path: &str) -> String {
    path.replace('%', "%%")
}

/// `holdfast ssh-config [--install]`.
pub(in crate::cli) async fn ssh_config(
    api: &ApiClient,
    config: &SshConfig,
    output: &mut Output,
) -> Result<(), CliError> {
    let devices = devices(api).await?;
    let options = Options::new(api, false)?;
    if !config.install {
        let text = format!("{HEAD}\n{devices}{}", domain(&options));
        return Ok(output.bytes(text.as_bytes())?);
    }
    let installed = Installed::of_user()?;
    let turn = installed.lock().await?;
    let text = format!("{HEAD}{}{}", refreshing(&options), domain(&options));
    let replaced = installed.write(&options.server, &text)?;
    installed.write_devices(&devices)?;
    let path = installed.include()?;
    drop(turn);
    if let Some(before) = replaced {
        let now = &options.server;
        eprintln!("holdfast: *{DOMAIN} was another server's ({before}), and is this one's now ({now})");
    }
    if let Some(home) = installed::other_home() {
        eprintln!(
            "holdfast: HOME is not the home that ssh knows: it reads {}/.ssh, where nothing was changed",
            home.display()
        );
    }
    Ok(output.line(&format!(
        "{} includes the devices now: `ssh DEVICE{DOMAIN}` reaches them, also those to come.",
        path.display()
    ))?)
}

/// `holdfast ssh-config --uninstall`.
pub(in crate::cli) async fn uninstall(output: &mut Output) -> Result<(), CliError> {
    let installed = Installed::of_user()?;
    let _turn = installed.lock().await?;
    let was_there = installed.remove()?;
    Ok(output.line(match was_there {
        true => "ssh does not know of the devices any longer.",
        false => "Nothing was installed.",
    })?)
}

/// `holdfast ssh-config --refresh HOST`, as ssh calls it. It says nothing, and stands in nobody's way: where the server is away,
/// what is there stays.
pub(in crate::cli) async fn refresh(shared: &Shared, host: &str) {
    let refreshed = async {
        let installed = Installed::of_user()?;
        let Some(turn) = installed.turn(host).await? else { return Ok(()) };
        let text = devices(&ApiClient::chosen(shared)?).await?;
        installed.write_devices(&text)?;
        drop(turn);
        Ok::<_, CliError>(())
    };
    let _ = tokio::time::timeout(REFRESH_TIMEOUT, refreshed).await;
}

const HEAD: &str = "# Written by `holdfast ssh-config`, which writes it anew.\n";

/// A block for each device; with its user, if it has said who logs in there. `Host` is for programs that look for hosts
/// that they can offer; `Match host` is the same name, in capitals too.
async fn devices(api: &ApiClient) -> Result<String, CliError> {
    let Page { items, .. } = api.get::<Page<DeviceView>>("/api/v1/devices").await?;
    Ok(blocks(&items))
}

fn blocks(items: &[DeviceView]) -> String {
    let mut text = String::new();
    for device in items.iter().filter(|device| device.revoked.is_none()) {
        let Some(name) = host_name(device) else { continue };
        let user = user(device).map(|user| format!("    User {user}\n")).unwrap_or_default();
        text.push_str(&format!("Host {name}{DOMAIN}\nMatch host {name}{DOMAIN}\n{user}\n"));
    }
    text
}

/// What is so for all devices.
fn domain(options: &Options) -> String {
    let all = options.all().map(|(name, value)| format!("    {name} {value}\n")).concat();
    format!("Host *{DOMAIN}\n{all}")
}

/// Has ssh bring the list of devices up to date before it reads it: the file is included behind this one.
fn refreshing(options: &Options) -> String {
    format!("\nMatch originalhost *{DOMAIN} exec \"{} ssh-config --refresh '%n'\"\n\n", options.holdfast)
}

#[cfg(test)]
mod tests {
    use super::{DeviceView, blocks};

    fn device(name: &str, user: Option<&str>, revoked: bool) -> DeviceView {
        let time = revoked.then_some("2026-11-22T08:00:00Z");
        let said = serde_json::json!({
            "name": name, "kind": "agent", "online": false, "ssh_user": user, "revoked": time,
            "queued": 0, "created": "2026-11-22T08:00:00Z", "sessions": 0, "connected_seconds": 0,
            "messages_in": 0, "bytes_in": 0, "messages_out": 0, "bytes_out": 0
        });
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn each_device_has_a_block_and_what_a_server_lies_has_none() {
        let mut items = vec![
            device("kiosk", Some("ada"), false),
            device("sensor", None, false),
            device("rooted", Some("-oProxyCommand=id"), false),
            device("gone", Some("ada"), true),
        ];
        for lie in ["a\n    ProxyCommand id", "* !kiosk", "-oProxyCommand=id", "Kiosk", "a b", ""] {
            items.push(device(lie, Some("ada"), false));
        }
        assert_eq!(
            blocks(&items),
            "Host kiosk.fleet\nMatch host kiosk.fleet\n    User ada\n\n\
             Host sensor.fleet\nMatch host sensor.fleet\n\n\
             Host rooted.fleet\nMatch host rooted.fleet\n\n"
        );
    }
}
