//! `ssh-config`: what ssh is told so that it reaches devices by itself; and the same as options of one call.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{DOMAIN, host_name, user};
use crate::{
    api::view::{DeviceView, Page},
    cli::{api_client::ApiClient, error::CliError, output::Output},
    files,
};

/// The name of the file that is installed, beside ssh's own.
const FILE: &str = "holdfast.conf";

/// The arguments of `ssh-config`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct SshConfig {
    /// Write it to ~/.ssh/holdfast.conf, and have ~/.ssh/config include that
    #[arg(long)]
    install: bool,
}

/// What ssh is told for all devices.
pub(super) struct Options {
    proxy: String,
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
        let holdfast = format!("'{}' {option} '{}'", text(&program)?, text(&value)?);
        let wait = if wait { " --wait" } else { "" };
        Ok(Self {
            proxy: format!("{holdfast} proxy{wait} %h"),
            known_hosts: format!("{holdfast} known-hosts %H --shown %t %K"),
        })
    }

    /// The options, by name.
    pub(super) fn all(&self) -> [(&'static str, &str); 5] {
        [
            ("ProxyCommand", &self.proxy),
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
    let Page { items, .. } = api.get::<Page<DeviceView>>("/api/v1/devices").await?;
    let text = write(&items, &Options::new(api, false)?);
    if !config.install {
        return Ok(output.bytes(text.as_bytes())?);
    }
    let directory = home()?.join(".ssh");
    let path = install(&directory, &text)?;
    Ok(output.line(&format!("{} is written; `ssh DEVICE{DOMAIN}` reaches devices now.", path.display()))?)
}

fn write(devices: &[DeviceView], options: &Options) -> String {
    let mut text = String::from("# Written by `holdfast ssh-config`, which writes it anew.\n");
    for device in devices.iter().filter(|device| device.revoked.is_none()) {
        if let (Some(name), Some(user)) = (host_name(device), user(device)) {
            text.push_str(&format!("\nHost {name}{DOMAIN}\n    User {user}\n"));
        }
    }
    text.push_str(&format!("\nHost *{DOMAIN}\n"));
    for (name, value) in options.all() {
        text.push_str(&format!("    {name} {value}\n"));
    }
    text
}

/// Writes the file, and has ssh's own include it: at its beginning, as the first word on a setting stands.
fn install(directory: &Path, text: &str) -> io::Result<PathBuf> {
    files::create_private_directory(directory)?;
    let path = directory.join(FILE);
    files::replace_private(&path, text.as_bytes())?;
    let config = directory.join("config");
    // Where it is a link it stays one.
    let config = fs::canonicalize(&config).unwrap_or(config);
    let before = match fs::read_to_string(&config) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let include = format!("Include {FILE}");
    if !before.lines().any(|line| line.trim() == include) {
        files::replace_private(&config, format!("{include}\n\n{before}").as_bytes())?;
    }
    Ok(path)
}

fn home() -> Result<PathBuf, CliError> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home.ok_or_else(|| CliError::failed("HOME is not set: it is not known where ssh's configuration is"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::install;

    #[test]
    fn it_is_included_once_and_before_all_else() {
        let directory = tempfile::tempdir().unwrap();
        let ssh = directory.path().join(".ssh");
        install(&ssh, "Host *.fleet\n").unwrap();
        fs::write(ssh.join("config"), "Include holdfast.conf\n\nHost a\n    User b\n").unwrap();
        install(&ssh, "Host x.fleet\n").unwrap();
        assert_eq!(fs::read_to_string(ssh.join("holdfast.conf")).unwrap(), "Host x.fleet\n");
        let config = fs::read_to_string(ssh.join("config")).unwrap();
        assert_eq!(config, "Include holdfast.conf\n\nHost a\n    User b\n");
        fs::write(ssh.join("config"), "Host a\n").unwrap();
        install(&ssh, "").unwrap();
        assert_eq!(fs::read_to_string(ssh.join("config")).unwrap(), "Include holdfast.conf\n\nHost a\n");
    }
}
