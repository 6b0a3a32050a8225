//! What the agent is told by its file. Everything has a default: the file may be absent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

/// The file that is read where none is named.
pub const DEFAULT_FILE: &str = "/etc/holdfast/agent.toml";

/// The configuration, as in `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host name to report; by default the system's.
    pub host_name: Option<String>,
    /// The user that operators log in as by SSH; by default the owner of user id 1000, if there is one.
    pub ssh_user: Option<String>,
    /// Where the public SSH host keys are.
    pub ssh_directory: PathBuf,
    /// How often the device's readings are sent, in seconds; 0 for only once a connection.
    #[serde(rename = "status_interval_seconds", deserialize_with = "seconds")]
    pub status_interval: Duration,
    /// The connection to the server.
    pub connection: Connection,
    /// The queue of messages to the server.
    pub outbox: OutboxLimits,
    /// The queue of messages from the server.
    pub inbox: InboxLimits,
}

/// `[connection]`: how long to wait for what.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connection {
    /// The longest time for each step: finding an address, connecting, TLS, opening the session.
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds")]
    pub timeout: Duration,
    /// The ceiling of the first wait before another attempt.
    #[serde(rename = "least_wait_seconds", deserialize_with = "seconds")]
    pub least_wait: Duration,
    /// The ceiling of all waits before another attempt.
    #[serde(rename = "most_wait_seconds", deserialize_with = "seconds")]
    pub most_wait: Duration,
    /// The wait after the server refused this device, where it does not say how long.
    #[serde(rename = "refused_wait_seconds", deserialize_with = "seconds")]
    pub refused_wait: Duration,
}

/// `[outbox]`: how much the queue to the server may hold.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxLimits {
    /// The most bytes that wait: bodies, kinds, and 64 bytes for each message.
    pub max_bytes: u64,
    /// The most messages that wait.
    pub max_messages: u64,
    /// The most bytes kept of echoed messages, in case the server loses its newest ones.
    pub keep_bytes: u64,
    /// The most echoed messages kept.
    pub keep_messages: u64,
}

/// `[inbox]`: how much the queue from the server may hold. What does not fit stays with the server.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InboxLimits {
    /// The most bytes that wait: bodies, kinds, and 64 bytes for each message.
    pub max_bytes: u64,
    /// The most messages that wait.
    pub max_messages: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_name: None,
            ssh_user: None,
            ssh_directory: "/etc/ssh".into(),
            status_interval: Duration::from_secs(300),
            connection: Connection::default(),
            outbox: OutboxLimits::default(),
            inbox: InboxLimits::default(),
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            least_wait: Duration::from_millis(500),
            most_wait: Duration::from_secs(60),
            refused_wait: Duration::from_secs(300),
        }
    }
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_messages: 100_000, keep_bytes: 4 << 20, keep_messages: 1_000 }
    }
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_messages: 100_000 }
    }
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {error}; correct --config or the file's rights", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not understood.
    #[error("the configuration {} is not understood: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        error: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads the named file, which must be there, or else the default one, which may be absent.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read(path) {
            Ok(text) => toml::from_slice(&text)
                .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) }),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ConfigError::Read { path: path.to_owned(), error }),
        }
    }
}

/// Reads a span in seconds, whole or not.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Whole(u32),
        Real(f64),
    }
    let seconds = match Number::deserialize(deserializer) {
        Ok(Number::Whole(seconds)) => f64::from(seconds),
        Ok(Number::Real(seconds)) => seconds,
        Err(_) => return Err(D::Error::custom("expected a number of seconds, such as 30 or 0.5")),
    };
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| D::Error::custom("expected a number of seconds that is not negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::read(Some(file.path()))
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.connection.most_wait, Duration::from_secs(60));
        assert_eq!(config.outbox.max_messages, 100_000);
        assert_eq!(config.ssh_directory, Path::new("/etc/ssh"));
    }

    #[test]
    fn what_is_said_is_taken() {
        let config = parse(
            "ssh_user = 'admin'\nstatus_interval_seconds = 60\n[connection]\nleast_wait_seconds = 0.25\n[inbox]\nmax_bytes = 1000",
        )
        .unwrap();
        assert_eq!(config.ssh_user.as_deref(), Some("admin"));
        assert_eq!(config.status_interval, Duration::from_secs(60));
        assert_eq!(config.connection.least_wait, Duration::from_millis(250));
        assert_eq!((config.inbox.max_bytes, config.inbox.max_messages), (1000, 100_000));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| parse(text).unwrap_err().to_string();
        assert!(error("ssh_usr = 'x'").contains("ssh_usr"), "{}", error("ssh_usr = 'x'"));
        let kept = error("[inbox]\nkeep_bytes = 1");
        assert!(kept.contains("keep_bytes") && kept.contains("`max_bytes` or `max_messages`"), "{kept}");
        assert!(error("status_interval_seconds = -1").contains("negative"));
        assert!(error("status_interval_seconds = 'soon'").contains("seconds"));
        let (file, latin) = (tempfile::NamedTempFile::new().unwrap(), b"ssh_user = 'caf\xe9'");
        fs::write(file.path(), latin).unwrap();
        let error = Config::read(Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("not understood") && error.contains("utf-8"), "{error}");
        let missing = Config::read(Some(Path::new("/nowhere.toml"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere.toml"), "{missing}");
    }
}
