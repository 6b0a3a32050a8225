//! What the device says of itself: host name, version, SSH user.

use std::{
    fs,
    path::{Path, PathBuf},
};

use protocol_core::{
    message::{Facts, MAX_SSH_HOST_KEYS, Text},
    task::is_user_name,
};

use crate::config::Config;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    host_name: String,
    ssh_user: String,
    ssh_directory: PathBuf,
}

impl Device {
    /// Finds out about this device, as far as the configuration does not say.
    pub fn find(config: &Config) -> Self {
        let user = || first_user(&fs::read_to_string("/etc/passwd").unwrap_or_default());
        let mut ssh_user = config.ssh_user.clone().unwrap_or_else(user);
        if !ssh_user.is_empty() && !is_user_name(&ssh_user) {
            tracing::warn!(
                ssh_user,
                "not sent: expected the name of a user, a-z, 0-9, _ and -, 32 bytes at most; correct ssh_user"
            );
            ssh_user.clear();
        }
        Self {
            host_name: config.host_name.clone().unwrap_or_else(host_name),
            ssh_user,
            ssh_directory: config.ssh_directory.clone(),
        }
    }

    /// The host name, as it is sent.
    pub fn host_name(&self) -> Text<'_, 64> {
        Text::shortened(&self.host_name)
    }

    /// The host keys that its SSH server has now.
    pub fn ssh_host_keys(&self) -> Vec<String> {
        ssh_host_keys(&self.ssh_directory)
    }

    /// All of it, as it is sent.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            host_name: self.host_name(),
            version: Text::shortened(VERSION),
            ssh_user: Text::shortened(&self.ssh_user),
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user with the id 1000: on a board that is whom its image was made for.
fn first_user(passwd: &str) -> String {
    let mut users = passwd.lines().map(|line| line.split(':'));
    let found = users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == "1000").then(|| name.to_owned())
    });
    found.unwrap_or_default()
}

/// The public SSH host keys in a directory, at most as many as can be registered, in the order of their names.
pub fn ssh_host_keys(directory: &Path) -> Vec<String> {
    let is_public_key = |name: &str| name.starts_with("ssh_host_") && name.ends_with("_key.pub");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_public_key))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let mut keys: Vec<String> = paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .filter(|line| Text::<1024>::new(line).is_some_and(|line| !line.as_str().is_empty()))
        .collect();
    keys.truncate(MAX_SSH_HOST_KEYS);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_1000_is_found() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(first_user(passwd), "ada");
        assert_eq!(first_user("root:x:0:0::/root:/bin/sh"), "");
    }

    #[test]
    fn what_is_configured_is_sent() {
        let config = Config {
            host_name: Some("n".repeat(90)),
            ssh_user: Some("operator".into()),
            ..Config::default()
        };
        let device = Device::find(&config);
        assert_eq!(device.facts().host_name.as_str(), "n".repeat(64));
        assert_eq!(device.facts().ssh_user.as_str(), "operator");
        assert!(!Device::find(&Config::default()).facts().host_name.as_str().is_empty());
    }

    #[test]
    fn what_can_be_no_user_is_not_sent() {
        let sent = |user: &str| {
            let config = Config { ssh_user: Some(user.to_owned()), ..Config::default() };
            Device::find(&config).facts().ssh_user.as_str().to_owned()
        };
        for user in ["a", "_apt", "ada-2_x", &"u".repeat(32)] {
            assert_eq!(sent(user), user);
        }
        for wrong in ["", "-oProxyCommand=x", "1st", "Ada", "a b", "a@b", "é", "root\n", &"u".repeat(33)] {
            assert_eq!(sent(wrong), "", "{wrong}");
        }
    }

    #[test]
    fn ssh_host_keys_are_found_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ssh_host_rsa_key.pub", "ssh-rsa AAAA root@x\n"),
            ("ssh_host_ed25519_key.pub", "ssh-ed25519 BBBB\n"),
            ("ssh_host_ed25519_key", "secret"),
            ("ssh_host_bad_key.pub", "two\nlines"),
            ("sshd_config", "x"),
        ] {
            fs::write(root.path().join(name), text).unwrap();
        }
        assert_eq!(ssh_host_keys(root.path()), ["ssh-ed25519 BBBB", "ssh-rsa AAAA root@x"]);
        assert!(ssh_host_keys(Path::new("/nowhere")).is_empty());
    }
}
