//! The part of sshd's configuration that is about the account.

use std::path::{Path, PathBuf};

use super::run;
use crate::{
    cli::error::CliError,
    ssh_account::{ACCOUNT, KEY_TYPE},
};

/// The system's configuration.
pub(super) const CONFIG: &str = "/etc/ssh/sshd_config";

/// What has to stand there, before all else.
pub(super) const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf";

/// Where our part is: before others, as the first word on a setting stands.
pub(super) const SNIPPET: &str = "/etc/ssh/sshd_config.d/00-holdfast.conf";

/// Everybody may read it, root alone may change it.
pub(super) const SNIPPET_MODE: u32 = 0o644;

/// What stands at its end until sshd was told to read it.
const UNREAD: &str = "# sshd may not have read this yet: `holdfast setup-ssh-account` tells it to.\n";

/// A setting that sshd has from version 9.2 on: a login whose session is over does not stay, whoever forgets it.
const UNUSED: (&str, &str) = ("UnusedConnectionTimeout", "10");

/// What our part says for the account: what is not here is forbidden by each key's own line as well.
pub(super) struct Snippet {
    settings: Vec<(&'static str, String)>,
    /// What this version of sshd does not know.
    left_out: Option<&'static str>,
}

impl Snippet {
    /// With what asks the server, as whom, and what runs where somebody asks for a shell.
    pub(super) fn new(program: &Path, data: &Path, user: &str, no_login: &str) -> Self {
        let command = format!("{} --data {} authorized-keys %t %k", program.display(), data.display());
        let fixed = [
            ("AuthenticationMethods", "publickey"),
            ("PubkeyAuthentication", "yes"),
            ("PasswordAuthentication", "no"),
            ("KbdInteractiveAuthentication", "no"),
            ("PubkeyAcceptedAlgorithms", KEY_TYPE),
            ("AuthorizedKeysFile", "none"),
            ("AuthorizedPrincipalsFile", "none"),
            ("TrustedUserCAKeys", "none"),
            ("ChrootDirectory", "none"),
            ("DisableForwarding", "no"),
            ("AllowTcpForwarding", "remote"),
            ("PermitListen", "127.0.0.1:*"),
            ("PermitOpen", "none"),
            ("GatewayPorts", "no"),
            ("AllowStreamLocalForwarding", "no"),
            ("AllowAgentForwarding", "no"),
            ("X11Forwarding", "no"),
            ("PermitTunnel", "no"),
            ("PermitTTY", "no"),
            ("PermitUserRC", "no"),
            ("MaxSessions", "0"),
            ("ForceCommand", no_login),
            ("ClientAliveInterval", "15"),
            ("ClientAliveCountMax", "3"),
            UNUSED,
        ];
        let mut settings =
            vec![("AuthorizedKeysCommand", command), ("AuthorizedKeysCommandUser", user.to_owned())];
        settings.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        Self { settings, left_out: None }
    }

    /// Leaves out what sshd does not know. Gives whether there was such a thing.
    fn leave_out(&mut self, complaint: &str) -> bool {
        let before = self.settings.len();
        self.settings.retain(|(name, _)| *name != UNUSED.0 || !complaint.contains(name));
        let is_left_out = self.settings.len() < before;
        if is_left_out {
            self.left_out = Some(UNUSED.0);
        }
        is_left_out
    }

    /// The setting that is not in it, as this version of sshd does not know it.
    pub(super) fn left_out(&self) -> Option<&'static str> {
        self.left_out
    }

    /// The file, until sshd was told to read it.
    pub(super) fn unread_text(&self) -> String {
        self.text() + UNREAD
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let settings: String =
            self.settings.iter().map(|(name, value)| format!("    {name} {value}\n")).collect();
        format!(
            "# Written by `holdfast setup-ssh-account`: devices of the fleet log in to this account to be found behind a\n\
             # port of loopback, and for nothing else.\nMatch User {ACCOUNT}\n{settings}"
        )
    }

    /// Has sshd look at it, before it counts for anything. What this version of sshd does not know is left out.
    pub(super) fn check(&mut self, sshd: &str) -> Result<(), CliError> {
        loop {
            let whole = format!("Include {CONFIG}\n{}", self.text());
            let checked = run(sshd, &["-t", "-f", "/dev/stdin"], &whole)?;
            let complaint = String::from_utf8_lossy(&checked.stderr);
            if checked.status.success() {
                return Ok(());
            }
            if !self.leave_out(&complaint) {
                return Err(CliError::failed(format!(
                    "sshd does not take its configuration: {}",
                    complaint.trim()
                )));
            }
        }
    }

    /// The settings that sshd's own view of the account, as `sshd -T` prints it, has not.
    pub(super) fn missing(&self, effective: &str) -> Vec<&'static str> {
        let has = |name: &str, value: &str| {
            let is_it = |line: &str| {
                line.split_once(' ')
                    .is_some_and(|(key, found)| key.eq_ignore_ascii_case(name) && found == value)
            };
            effective.lines().any(is_it)
        };
        let missing = self.settings.iter().filter(|(name, value)| !has(name, value));
        missing.map(|(name, _)| *name).collect()
    }
}

/// How sshd sees its configuration for the account.
pub(super) fn effective(sshd: &str) -> Result<String, CliError> {
    let connection = format!("user={ACCOUNT},host=localhost,addr=127.0.0.1");
    let shown = run(sshd, &["-T", "-C", &connection], "")?;
    match shown.status.success() {
        true => Ok(String::from_utf8_lossy(&shown.stdout).into_owned()),
        false => Err(CliError::failed(format!(
            "sshd does not take its configuration: {}",
            String::from_utf8_lossy(&shown.stderr).trim()
        ))),
    }
}

/// The list of those who may log in, by sshd's own view, that leaves the account out or names it as one who may not.
pub(super) fn shut_out(effective: &str) -> Option<&'static str> {
    let patterns = |list: &str| -> Vec<&str> {
        effective.lines().filter_map(|line| line.strip_prefix(list)?.strip_prefix(' ')).collect()
    };
    let named = |pattern: &&str| pattern.split('@').next() == Some(ACCOUNT);
    // What a pattern means is for sshd to say: it is taken for one that may mean the account.
    let may_mean_it = |pattern: &&str| named(pattern) || pattern.contains(['*', '?']);
    let allowed = [("allowusers", "AllowUsers"), ("allowgroups", "AllowGroups")];
    let denied = [("denyusers", "DenyUsers"), ("denygroups", "DenyGroups")];
    let leaves_out = |list: &str| {
        let patterns = patterns(list);
        !patterns.is_empty() && !patterns.iter().any(may_mean_it)
    };
    let left_out = allowed.into_iter().find(|(list, _)| leaves_out(list));
    let refused = denied.into_iter().find(|(list, _)| patterns(list).iter().any(named));
    left_out.or(refused).map(|(_, name)| name)
}

/// The file in which sshd says which process it is, by its own view.
pub(super) fn pid_file(effective: &str) -> Option<PathBuf> {
    let file = effective.lines().find_map(|line| line.strip_prefix("pidfile "))?;
    (file != "none").then(|| PathBuf::from(file))
}

/// The ports that sshd listens on, by its own view.
pub(super) fn ports(effective: &str) -> Vec<u16> {
    effective.lines().filter_map(|line| line.strip_prefix("port ")?.parse().ok()).collect()
}

/// The files of the public host keys of which sshd shows one, by its own view.
pub(super) fn host_keys(effective: &str) -> Vec<PathBuf> {
    let keys = effective.lines().filter_map(|line| line.strip_prefix("hostkey "));
    keys.map(|file| PathBuf::from(format!("{file}.pub"))).collect()
}

/// Whether the system's configuration takes in the directory of our part.
pub(super) fn is_included(config: &str) -> bool {
    config.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && words.any(|word| word.trim_matches('"').ends_with("sshd_config.d/*.conf"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sshd_does_not_do_is_noticed() {
        let mut snippet = Snippet::new(
            Path::new("/usr/bin/holdfast"),
            Path::new("/var/lib/holdfast"),
            "holdfast",
            "/bin/false",
        );
        let text = snippet.text();
        assert!(
            text.contains("\nMatch User ssh_server\n    AuthorizedKeysCommand /usr/bin/holdfast --data "),
            "{text}"
        );
        let effective: String = snippet
            .settings
            .iter()
            .map(|(name, value)| format!("{} {value}\n", name.to_lowercase()))
            .collect();
        assert!(snippet.missing(&effective).is_empty());
        let changed = effective.replace("maxsessions 0", "maxsessions 10");
        assert_eq!(snippet.missing(&changed), ["MaxSessions"]);
        assert!(!snippet.leave_out("line 2: Bad configuration option: MaxSessions"));
        assert!(snippet.leave_out("line 27: Bad configuration option: UnusedConnectionTimeout"));
        assert!(!snippet.text().contains("Unused") && snippet.left_out() == Some("UnusedConnectionTimeout"));
        assert_eq!(pid_file("port 22\npidfile /run/sshd.pid\n"), Some(PathBuf::from("/run/sshd.pid")));
        assert_eq!(pid_file("pidfile none\n"), None);
        let keys = host_keys("hostkeyagent none\nhostkey /etc/a\n");
        assert_eq!(keys, [Path::new("/etc/a.pub")]);
        assert_eq!(ports("port 22\nport 2222\nportal 3\n"), [22, 2222]);
    }

    #[test]
    fn lists_of_those_who_may_log_in() {
        for (effective, list) in [
            ("port 22\n", None),
            ("allowusers anna\nallowusers ssh_server\n", None),
            ("allowusers ssh_server@192.0.2.*\nallowgroups ssh_*\n", None),
            ("allowusers anna\nallowusers bob\n", Some("AllowUsers")),
            ("allowgroups staff\n", Some("AllowGroups")),
            ("denyusers anna\n", None),
            ("denyusers anna\ndenyusers ssh_server\n", Some("DenyUsers")),
        ] {
            assert_eq!(shut_out(effective), list, "{effective}");
        }
    }

    #[test]
    fn the_directory_is_included_or_not() {
        assert!(is_included("# x\n include \"/etc/ssh/sshd_config.d/*.conf\"\n"));
        assert!(is_included(INCLUDE));
        assert!(!is_included("#Include /etc/ssh/sshd_config.d/*.conf\nInclude /etc/other/*.conf\n"));
    }
}
