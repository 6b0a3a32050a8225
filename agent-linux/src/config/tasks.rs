//! `[tasks]`: what this device lets itself be asked to do, by whom, and how much that may take.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use protocol_core::code::Role;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{DAY, OutOfRange, VideoRules, range, seconds};

/// The most tasks at once; those that have ended lately have to be told of beside them.
const MOST_TASKS: usize = 96;

/// The least memory with which a task can do its work, and the most that one may have, in bytes: 16 MiB to 1 TiB.
const MEMORY: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;

/// How long a task may last, unless the file says otherwise, and at most: a year, as by the server's configuration.
const LONGEST_TASK: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The most words of a command, and the most bytes of all of them.
const MOST_WORDS: usize = 32;
const LONGEST_COMMAND: usize = 1_024;

/// `[tasks]`: which tasks this device takes, and from whom.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskRules {
    /// The most tasks at once.
    pub max_tasks: usize,
    /// The most memory of each process of a task, in bytes.
    pub max_memory_bytes: u64,
    /// The most processor time of each process of a task, in seconds.
    pub max_cpu_seconds: u64,
    /// How long a task may take until it runs.
    #[serde(rename = "start_seconds", deserialize_with = "seconds")]
    pub start: Duration,
    /// For how long a task may show no progress.
    #[serde(rename = "progress_seconds", deserialize_with = "seconds")]
    pub progress: Duration,
    /// How long a task may last at most, whatever the server allows.
    #[serde(rename = "limit_seconds", deserialize_with = "seconds")]
    pub limit: Duration,
    /// For how long a process is kept ready for the next task when one has ended; 0: none is.
    #[serde(rename = "ready_seconds", deserialize_with = "seconds")]
    pub ready: Duration,
    /// Operators' sessions with this device's SSH server.
    pub ssh: SshRules,
    /// Starting this device anew.
    pub reboot: RebootRules,
    /// Looking through this device's cameras.
    pub video: VideoRules,
}

/// `[tasks.ssh]`: operators' sessions with this device's SSH server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshRules {
    /// Who may ask for one; nobody if it is empty.
    #[serde(deserialize_with = "roles")]
    pub allow: Vec<AllowedRole>,
    /// How an operator's bytes come to this device.
    pub transport: Transport,
    /// On which host the server's SSH server is, for [`Transport::OpenSsh`]; none: where the server itself is reached.
    #[serde(deserialize_with = "host")]
    pub server_host: Option<String>,
    /// Where the SSH server listens. No task joins its bytes to anything else.
    #[serde(deserialize_with = "address")]
    pub address: SocketAddr,
}

/// How the bytes of operators' sessions come to this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Over a TLS connection of the agent's own, for each session.
    #[default]
    Holdfast,
    /// Over a stock `ssh -R` to the server's SSH server, for each session.
    OpenSsh,
}

/// `[tasks.reboot]`: starting this device anew.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebootRules {
    /// Who may ask for it; nobody if it is empty.
    #[serde(deserialize_with = "roles")]
    pub allow: Vec<AllowedRole>,
    /// The program that does it, and its arguments. No shell looks at them.
    #[serde(deserialize_with = "command")]
    pub command: Vec<String>,
}

/// Whose word is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedRole {
    /// Someone who may look.
    Viewer,
    /// Someone who may work with devices.
    Operator,
    /// Someone who may do everything, and whoever is root on the server's machine.
    Admin,
}

impl AllowedRole {
    /// The role, as it is told by the server.
    pub const fn role(self) -> Role {
        match self {
            Self::Viewer => Role::Viewer,
            Self::Operator => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}

impl Default for TaskRules {
    fn default() -> Self {
        Self {
            max_tasks: 64,
            max_memory_bytes: 256 << 20,
            max_cpu_seconds: 86_400,
            start: Duration::from_secs(30),
            progress: Duration::from_secs(30),
            limit: LONGEST_TASK,
            ready: Duration::from_secs(5 * 60),
            ssh: SshRules::default(),
            reboot: RebootRules::default(),
            video: VideoRules::default(),
        }
    }
}

impl Default for SshRules {
    fn default() -> Self {
        Self {
            allow: vec![AllowedRole::Operator, AllowedRole::Admin],
            transport: Transport::default(),
            server_host: None,
            address: SocketAddr::from(([127, 0, 0, 1], 22)),
        }
    }
}

impl Default for RebootRules {
    fn default() -> Self {
        Self {
            allow: vec![AllowedRole::Operator, AllowedRole::Admin],
            command: vec!["systemctl".into(), "reboot".into()],
        }
    }
}

impl TaskRules {
    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        range("[tasks] max_tasks", self.max_tasks, &(1..=MOST_TASKS), "")?;
        range("[tasks] max_memory_bytes", self.max_memory_bytes, &MEMORY, "")?;
        range("[tasks] max_cpu_seconds", self.max_cpu_seconds, &(1..=1_000_000_000), " seconds")?;
        range("[tasks] start_seconds", self.start.as_secs_f64(), &(0.1..=3_600.0), " seconds")?;
        range("[tasks] progress_seconds", self.progress.as_secs_f64(), &(0.1..=DAY), " seconds")?;
        let longest = LONGEST_TASK.as_secs_f64();
        range("[tasks] limit_seconds", self.limit.as_secs_f64(), &(1.0..=longest), " seconds")?;
        range("[tasks] ready_seconds", self.ready.as_secs_f64(), &(0.0..=DAY), " seconds")?;
        self.video.check()?;
        let command = &self.reboot.command;
        if command.first().is_none_or(String::is_empty) || command.iter().any(|word| word.contains('\0')) {
            let expected = "a program and its arguments, such as [\"systemctl\", \"reboot\"]".to_owned();
            return Err(OutOfRange("[tasks.reboot] command", expected, format!("{command:?}")));
        }
        range("the words of [tasks.reboot] command", command.len(), &(1..=MOST_WORDS), "")?;
        let bytes = command.iter().map(String::len).sum();
        range("the length of [tasks.reboot] command", bytes, &(1..=LONGEST_COMMAND), " bytes")
    }
}

/// Reads who may ask.
pub(super) fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AllowedRole>, D::Error> {
    let expected = "allow: expected a list of roles, such as [\"operator\", \"admin\"], or [] for nobody";
    let role = |word: &String| match word.as_str() {
        "viewer" => Ok(AllowedRole::Viewer),
        "operator" => Ok(AllowedRole::Operator),
        "admin" => Ok(AllowedRole::Admin),
        _ => Err(D::Error::custom(format!("allow: expected viewer, operator or admin, found {word:?}"))),
    };
    words(deserializer, expected)?.iter().map(role).collect()
}

/// Reads a program and its arguments.
fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    words(
        deserializer,
        "command: expected a list of a program and its arguments, such as [\"systemctl\", \"reboot\"]",
    )
}

/// Reads a list of words, and says what was expected where it is none.
pub(super) fn words<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
) -> Result<Vec<String>, D::Error> {
    Vec::deserialize(deserializer).map_err(|_| D::Error::custom(expected))
}

/// Reads an address with its port. Names are none: what is joined must not change with a resolver's answer.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = || {
        D::Error::custom(format!(
            "address: expected an IP address and a port, such as 127.0.0.1:22, found {text:?}"
        ))
    };
    text.parse().ok().filter(|address: &SocketAddr| address.port() > 0).ok_or_else(expected)
}

/// Reads a host, which ssh is to be given as it is.
fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected =
        || D::Error::custom(format!("server_host: expected a host's name or an IP address, found {text:?}"));
    host_name(&text).ok_or_else(expected).map(Some)
}

/// An IP address, with or without brackets, or a host's name: as ssh takes it, and none of its options.
pub fn host_name(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = inner.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
    let is_name = !text.is_empty() && !text.starts_with(['-', '.']) && text.bytes().all(is_letter);
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<TaskRules, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(Some(file.path())).map(|config| config.tasks).map_err(|error| error.to_string())
    }

    #[test]
    fn operators_and_admins_may_ask_for_both_unless_the_file_says_otherwise() {
        let rules = parse("").unwrap();
        assert_eq!(rules, TaskRules::default());
        assert_eq!(rules.ssh.allow, [AllowedRole::Operator, AllowedRole::Admin]);
        let rules = parse(
            "[tasks]\nmax_tasks = 2\nprogress_seconds = 0.5\n[tasks.ssh]\nallow = []\ntransport = 'openssh'\naddress = '[::1]:2222'\n[tasks.reboot]\nallow = ['viewer']\ncommand = ['true']",
        )
        .unwrap();
        assert_eq!((rules.max_tasks, rules.progress), (2, Duration::from_millis(500)));
        assert_eq!((rules.ssh.allow.len(), rules.ssh.address.port()), (0, 2222));
        assert_eq!(rules.ssh.transport, Transport::OpenSsh);
        assert_eq!((rules.reboot.allow[0].role(), rules.reboot.command.len()), (Role::Viewer, 1));
    }

    #[test]
    fn mistakes_are_named() {
        let many = format!("[tasks.reboot]\ncommand = [{}]", "'a',".repeat(33));
        for (text, words) in [
            ("[tasks]\nmax_tasks = 0", "[tasks] max_tasks: expected 1 to 96, found 0"),
            ("[tasks]\nmax_memory_bytes = 1000", "max_memory_bytes: expected 16777216 to"),
            ("[tasks]\nmax_cpu_seconds = 0", "max_cpu_seconds: expected 1 to"),
            ("[tasks]\nstart_seconds = 0", "start_seconds: expected 0.1 to 3600 seconds, found 0"),
            ("[tasks]\nprogress_seconds = 1e6", "progress_seconds: expected 0.1 to 86400 seconds"),
            ("[tasks]\nlimit_seconds = 0.5", "limit_seconds: expected 1 to 31536000 seconds"),
            ("[tasks.ssh]\nallow = ['root']", "allow: expected viewer, operator or admin, found \"root\""),
            ("[tasks.ssh]\nallow = 'operator'", "allow: expected a list of roles, such as [\"operator\""),
            ("[tasks.reboot]\nallow = [1]", "allow: expected a list of roles"),
            ("[tasks.reboot]\ncommand = 'systemctl reboot'", "command: expected a list of a program"),
            ("[tasks.ssh]\naddress = '127.0.0.1:0'", "such as 127.0.0.1:22, found \"127.0.0.1:0\""),
            ("[tasks]\nready_seconds = 1e6", "ready_seconds: expected 0 to 86400 seconds"),
            ("[tasks.ssh]\naddress = 'localhost:22'", "such as 127.0.0.1:22, found \"localhost:22\""),
            ("[tasks.ssh]\nadress = 'x'", "adress"),
            (
                "[tasks.ssh]\nserver_host = '-oProxyCommand=x'",
                "server_host: expected a host's name or an IP address",
            ),
            ("[tasks.ssh]\nserver_host = 'a:22'", "found \"a:22\""),
            ("[tasks.ssh]\ntransport = 'rsh'", "expected `holdfast` or `openssh`"),
            ("[tasks.reboot]\ncommand = []", "[tasks.reboot] command: expected a program"),
            ("[tasks.reboot]\ncommand = ['']", "expected a program and its arguments"),
            ("[tasks.vidoe]\nallow = []", "vidoe"),
            (&many, "the words of [tasks.reboot] command: expected 1 to 32, found 33"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_host_is_no_option_of_ssh() {
        for (host, expected) in [
            ("fleet.example.org", "fleet.example.org"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(host_name(host).as_deref(), Some(expected));
        }
        for bad in
            ["", "-oProxyCommand=x", "a b", "a%h", "u@a", "ssh://a", "a:1", "[::1", "a/b", "\"", "ä", "a,b"]
        {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }
}
