//! What the agent is told by its file. Everything has a default: the file may be absent.

mod cameras;
mod tasks;

use std::{
    fmt, fs, io,
    marker::PhantomData,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::queue::{MAX_FRAME, OVERHEAD};
pub use cameras::{Camera, CameraKind, CameraSettings, Picture, Source, Url, VideoRules};
pub use tasks::{AllowedRole, RebootRules, SshRules, TaskRules, Transport, host_name};

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
    /// Where the kernel says which of its starts this is. Only tests have another file.
    pub boot_id: PathBuf,
    /// How often the device's readings are sent, in seconds, from one up to a day; 0 for only once a connection.
    #[serde(rename = "status_interval_seconds", deserialize_with = "seconds")]
    pub status_interval: Duration,
    /// The connection to the server.
    pub connection: Connection,
    /// The queue of messages to the server.
    pub outbox: OutboxLimits,
    /// The queue of messages from the server.
    pub inbox: InboxLimits,
    /// The serial lines with devices at their other ends.
    #[serde(deserialize_with = "serial_lines")]
    pub serial: Vec<Serial>,
    /// The cameras, as they stand in the file; [`VideoRules`] has them checked.
    #[serde(deserialize_with = "camera_settings")]
    pub cameras: Vec<CameraSettings>,
    /// Which tasks this device takes.
    pub tasks: TaskRules,
}

/// `[[serial]]`: a serial line with a device at its other end, which was enrolled for this one as its gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// The port: `/dev/ttyAMA0`, or a link in `/dev/serial/by-id`, which names the same adapter in whatever socket.
    pub path: PathBuf,
    /// Its speed.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// The name of the device.
    pub device: String,
}

const fn default_baud() -> u32 {
    115_200
}

/// `[connection]`: how long to wait for what; each up to an hour or a day.
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
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            status_interval: Duration::from_secs(300),
            connection: Connection::default(),
            outbox: OutboxLimits::default(),
            inbox: InboxLimits::default(),
            serial: Vec::new(),
            cameras: Vec::new(),
            tasks: TaskRules::default(),
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
    /// A value is out of its range.
    #[error("{}: {setting}: expected {expected}, found {found}; correct it", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The setting, as in the file.
        setting: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
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
            Ok(text) => {
                let mut config: Self = toml::from_slice(&text)
                    .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })?;
                config.check().map_err(|wrong| wrong.of(path))?;
                config.tasks.video.cameras =
                    cameras::cameras(&config.cameras).map_err(|wrong| wrong.of(path))?;
                Ok(config)
            }
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ConfigError::Read { path: path.to_owned(), error }),
        }
    }

    fn check(&self) -> Result<(), OutOfRange> {
        let Connection { timeout, least_wait, most_wait, refused_wait } = self.connection;
        let within = |name, span: Duration, allowed: RangeInclusive<f64>| {
            range(name, span.as_secs_f64(), &allowed, " seconds")
        };
        let at_most = |name, number, most| range(name, number, &(1..=most), "");
        if !self.status_interval.is_zero() {
            // More often, and the server ends the connection.
            let (seconds, allowed) = (self.status_interval.as_secs_f64(), 1.0..=DAY);
            range("status_interval_seconds", seconds, &allowed, " seconds, or 0")?;
        }
        within("[connection] timeout_seconds", timeout, 0.1..=3_600.0)?;
        within("[connection] least_wait_seconds", least_wait, 0.01..=3_600.0)?;
        within("[connection] most_wait_seconds", most_wait, least_wait.as_secs_f64()..=DAY)?;
        within("[connection] refused_wait_seconds", refused_wait, 0.01..=DAY)?;
        // A queue holds the largest message at least: else that one would never pass.
        let bytes = u64::from(MAX_FRAME) + OVERHEAD..=MOST_BYTES;
        range("[outbox] max_bytes", self.outbox.max_bytes, &bytes, "")?;
        range("[inbox] max_bytes", self.inbox.max_bytes, &bytes, "")?;
        range("[outbox] keep_bytes", self.outbox.keep_bytes, &(0..=MOST_BYTES), "")?;
        at_most("[outbox] max_messages", self.outbox.max_messages, MOST_MESSAGES)?;
        at_most("[inbox] max_messages", self.inbox.max_messages, MOST_MESSAGES)?;
        range("[outbox] keep_messages", self.outbox.keep_messages, &(0..=MOST_MESSAGES), "")?;
        self.tasks.check()?;
        self.check_serial()
    }

    fn check_serial(&self) -> Result<(), OutOfRange> {
        range("the number of [[serial]]", self.serial.len(), &(0..=MOST_LINES), "")?;
        for (at, line) in self.serial.iter().enumerate() {
            range("[[serial]] baud", line.baud, &(1_200..=4_000_000), "")?;
            range("[[serial]] path", line.path.as_os_str().len(), &(1..=LONGEST_PORT), " bytes")?;
            let wrong =
                |setting, expected: &str, found: String| Err(OutOfRange(setting, expected.to_owned(), found));
            if !is_name(&line.device) {
                let found = format!("{:?}", line.device);
                return wrong("[[serial]] device", "a name as `holdfast devices` shows it", found);
            }
            let before = self.serial.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.device == line.device) {
                let found = format!("{:?} twice", line.device);
                return wrong("[[serial]] device", "another device for each line", found);
            }
            if before.iter().any(|other| other.path == line.path) {
                let found = format!("{:?} twice", line.path);
                return wrong("[[serial]] path", "another port for each line", found);
            }
        }
        Ok(())
    }
}

/// The longest span that a setting may have, in seconds.
const DAY: f64 = 86_400.0;

/// The most bytes that a queue may hold: 1 TiB.
const MOST_BYTES: u64 = 1 << 40;

/// The most messages that a queue may hold.
const MOST_MESSAGES: u64 = 1_000_000_000;

/// The most serial lines: more ports than a board has, and what is said of all of them fits a frame.
const MOST_LINES: usize = 16;

/// The longest path of a port, in bytes.
const LONGEST_PORT: usize = 128;

/// Whether this can be a device's name: `[a-z0-9][a-z0-9-]{0,62}`.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A setting that is out of its range: which, what it may be, what it is.
struct OutOfRange(&'static str, String, String);

impl OutOfRange {
    fn of(self, path: &Path) -> ConfigError {
        let Self(setting, expected, found) = self;
        ConfigError::Range { path: path.to_owned(), setting, expected, found }
    }
}

fn range<T: PartialOrd + std::fmt::Display>(
    setting: &'static str,
    value: T,
    allowed: &RangeInclusive<T>,
    unit: &str,
) -> Result<(), OutOfRange> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}{unit}", allowed.start(), allowed.end());
    Err(OutOfRange(setting, expected, value.to_string()))
}

/// Reads all `[[serial]]`.
fn serial_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Serial>, D::Error> {
    deserializer.deserialize_seq(Tables("[[serial]] in two brackets each, once for each line", PhantomData))
}

/// Reads all `[[cameras]]`.
fn camera_settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CameraSettings>, D::Error> {
    deserializer
        .deserialize_seq(Tables("[[cameras]] in two brackets each, once for each camera", PhantomData))
}

/// Tables of one name, and how they are written.
struct Tables<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Tables<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(tables))
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
        .map_err(|_| D::Error::custom("expected a number of seconds that is not negative, and not endless"))
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
            "ssh_user = 'admin'\nstatus_interval_seconds = 60\n[connection]\nleast_wait_seconds = 0.25\n[inbox]\nmax_bytes = 20000",
        )
        .unwrap();
        assert_eq!(config.ssh_user.as_deref(), Some("admin"));
        assert_eq!(config.status_interval, Duration::from_secs(60));
        assert_eq!(config.connection.least_wait, Duration::from_millis(250));
        assert_eq!((config.inbox.max_bytes, config.inbox.max_messages), (20_000, 100_000));
    }

    #[test]
    fn values_have_their_ranges() {
        for (text, words) in [
            (
                "status_interval_seconds = 86401",
                "status_interval_seconds: expected 1 to 86400 seconds, or 0, found 86401",
            ),
            ("status_interval_seconds = 0.9", "expected 1 to 86400 seconds, or 0, found 0.9"),
            (
                "[connection]\ntimeout_seconds = 0",
                "[connection] timeout_seconds: expected 0.1 to 3600 seconds",
            ),
            ("[connection]\ntimeout_seconds = 1e19", "found 10000000000000000000"),
            ("[connection]\ntimeout_seconds = 1e300", "not endless"),
            ("[connection]\ntimeout_seconds = inf", "not endless"),
            ("[connection]\ntimeout_seconds = nan", "not endless"),
            (
                "[connection]\nleast_wait_seconds = 61",
                "most_wait_seconds: expected 61 to 86400 seconds, found 60",
            ),
            ("[connection]\nrefused_wait_seconds = 0", "refused_wait_seconds: expected 0.01"),
            ("[outbox]\nmax_bytes = 1000", "[outbox] max_bytes: expected 16448 to"),
            ("[outbox]\nkeep_messages = 9223372036854775807", "keep_messages: expected 0 to 1000000000"),
            ("[inbox]\nmax_messages = 0", "[inbox] max_messages: expected 1 to 1000000000, found 0"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let widest = "status_interval_seconds = 0\n[connection]\ntimeout_seconds = 3600\nmost_wait_seconds = 86400\n[outbox]\nkeep_messages = 0";
        parse(widest).unwrap();
    }

    #[test]
    fn serial_lines_are_told_apart() {
        let config = parse("[[serial]]\npath = '/dev/ttyAMA0'\ndevice = 'barometer'\n[[serial]]\npath = '/dev/ttyUSB0'\nbaud = 9600\ndevice = 'pump'").unwrap();
        let speeds: Vec<_> = config.serial.iter().map(|line| line.baud).collect();
        assert_eq!(speeds, [115_200, 9_600]);
        let line = |path: &str, device: &str| format!("[[serial]]\npath = '{path}'\ndevice = '{device}'\n");
        for (text, words) in [
            (
                line("/dev/a", "A b"),
                "[[serial]] device: expected a name as `holdfast devices` shows it, found",
            ),
            (line("/dev/a", ""), "found \"\""),
            (
                line("/dev/a", "a") + &line("/dev/b", "a"),
                "[[serial]] device: expected another device for each line, found \"a\" twice",
            ),
            (line("/dev/a", "a") + &line("/dev/a", "b"), "[[serial]] path: expected another port"),
            (line("/dev/a", "a") + "baud = 300", "[[serial]] baud: expected 1200 to 4000000, found 300"),
            ("[[serial]]\npath = '/dev/a'".to_owned(), "missing field `device`"),
            (
                "[serial]\npath = '/dev/a'\ndevice = 'a'".to_owned(),
                "expected [[serial]] in two brackets each, once for each line",
            ),
            (line("", "a"), "[[serial]] path: expected 1 to 128 bytes, found 0"),
            (
                (0..17).map(|number| line(&format!("/dev/{number}"), &format!("a{number}"))).collect(),
                "the number of [[serial]]: expected 0 to 16, found 17",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
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
