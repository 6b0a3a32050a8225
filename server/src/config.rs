//! What the server is told by its file, its environment and its command line, checked once.
//!
//! The command line goes before the environment, the environment before the file, the file before the defaults.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use protocol_core::{frame::HEADER_LENGTH, message::MAX_ADDRESSES, window::MAX_IN_FLIGHT};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::span;

mod recordings;
#[cfg(test)]
mod tests;

pub use recordings::RecordingLimits;

/// Where the configuration is read from if nothing else is said, and if it is there.
pub const DEFAULT_FILE: &str = "/etc/holdfast/server.toml";

/// The port that devices connect to.
pub const DEVICE_PORT: u16 = 55223;

/// The port of the classic protocol, as its clients know it.
pub const CLASSIC_PORT: u16 = 55222;

/// The port of `/metrics` and `/healthz`.
pub const HTTP_PORT: u16 = 55280;

/// The account that devices log in to which come by this machine's SSH server.
pub const SSH_ACCOUNT: &str = "ssh_server";

/// The longest address that an invitation carries, in bytes.
pub const MAX_ADDRESS: usize = 128;

/// What the command line and the environment say. It goes before the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Where devices connect, and new ones are enrolled (TLS) [default: 0.0.0.0:55223]
    #[arg(long, env = "HOLDFAST_LISTEN", hide_env_values = true, value_name = "ADDR", value_parser = socket_address)]
    pub listen: Option<SocketAddr>,
    /// The classic protocol, which is not encrypted; `off` for none [default: 127.0.0.1:55222]
    #[arg(long, env = "HOLDFAST_CLASSIC", hide_env_values = true, value_name = "ADDR")]
    pub classic: Option<Endpoint>,
    /// Where /healthz, and on loopback the console and /metrics, are served without TLS; `off` for none of them [default: 127.0.0.1:55280]
    #[arg(long, env = "HOLDFAST_HTTP", hide_env_values = true, value_name = "ADDR")]
    pub http: Option<Endpoint>,
    /// The certificate that browsers are shown, in PEM; read again when it changes [default: one that the server makes]
    #[arg(long, env = "HOLDFAST_TLS_CERT", hide_env_values = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "HOLDFAST_TLS_KEY", hide_env_values = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Where devices find this server, as `holdfast enroll` tells them; may be repeated [default: guessed]
    #[arg(
        long,
        env = "HOLDFAST_ADVERTISE",
        hide_env_values = true,
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub advertise: Vec<String>,
    /// What to log: off, error, warn, info, debug, trace, or a filter such as `info,holdfast_server=debug`
    #[arg(long, env = "HOLDFAST_LOG", hide_env_values = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: text, json, or auto (text on a terminal, else JSON)
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The configuration file [default: /etc/holdfast/server.toml, if it is there]
    #[arg(long, env = "HOLDFAST_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        |_| format!("expected an IP address and a port such as 0.0.0.0:{DEVICE_PORT}, found {text:?}");
    text.parse().map_err(wrong)
}

/// The server's whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data directory: keys, database, logs and the API's socket.
    pub data: PathBuf,
    /// Where devices connect, by TLS.
    pub listen: SocketAddr,
    /// Where devices find the server, `host:port`, best first; empty if nobody has said.
    pub advertise: Vec<String>,
    /// Where the classic protocol is served, if it is.
    pub classic: Option<SocketAddr>,
    /// How long a classic text's line is quiet at its end; zero: one read is one message.
    pub classic_gap: Duration,
    /// Where metrics and health are served.
    pub http: Http,
    /// The certificate that browsers are shown; none: one that the server makes.
    pub certificate: Option<CertificateFiles>,
    /// What is logged, and how.
    pub log: Log,
    /// When a silent device is lost.
    pub keep_alive: KeepAlive,
    /// How much is allowed.
    pub limits: Limits,
    /// The plain-text log files under `logs`.
    pub log_files: LogFiles,
    /// How long operators' SSH sessions may last.
    pub ssh: SshLimits,
    /// Where devices find this machine's SSH server.
    pub ssh_account: SshAccount,
    /// How much is kept of what cameras show.
    pub recordings: RecordingLimits,
}

/// The operator's certificate: where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, with those between it and the authority behind it, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Where metrics and health are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address, if they are served.
    pub address: Option<SocketAddr>,
    /// Whether someone asked for this address: then it is an error if it is taken.
    pub explicit: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Log {
    /// A filter in the manner of `tracing`: a level, or levels by module.
    pub filter: String,
    /// The shape of the lines.
    pub format: LogFormat,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When a silent device is lost: after both of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A device that has nothing to say pings after so long.
    pub interval: Duration,
    /// An answer takes so long at most.
    pub timeout: Duration,
}

/// How much is allowed. Bytes, unless a field says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// The largest frame taken from a device, header included.
    pub max_frame: u16,
    /// How many messages a device may have sent that are not yet echoed.
    pub window_messages: u8,
    /// How many bytes of them.
    pub window_bytes: u32,
    /// Connections of devices at a time.
    pub connections: usize,
    /// Connections at a time of which it is not yet known whose they are.
    pub unknown_connections: usize,
    /// How long a connection has to say whose it is.
    #[serde(deserialize_with = "span::deserialize")]
    pub opening_timeout: Duration,
    /// Connections of classic clients at a time.
    pub classic_connections: usize,
    /// Messages that may wait for one device.
    pub queued_messages: usize,
}

/// The longest that an SSH session may be told to last.
const LONGEST_SESSION: Duration = Duration::from_secs(365 * 86_400);

/// How long operators' SSH sessions may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SshLimits {
    /// A session ends when nothing has moved for so long; 0: it may be idle as long as it likes.
    #[serde(deserialize_with = "span::deserialize")]
    pub idle_limit: Duration,
    /// A session ends after so long, whatever it does.
    #[serde(deserialize_with = "span::deserialize")]
    pub time_limit: Duration,
}

impl Default for SshLimits {
    fn default() -> Self {
        Self { idle_limit: Duration::ZERO, time_limit: Duration::from_secs(24 * 60 * 60) }
    }
}

/// Where devices whose sessions go over this machine's SSH server find it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SshAccount {
    /// The account's name: no setting, as `setup-ssh-account` makes it.
    #[serde(skip)]
    pub name: String,
    /// Its port.
    pub port: u16,
    /// The files of its public host keys; those that are not there are passed over.
    pub host_keys: Vec<PathBuf>,
}

impl Default for SshAccount {
    fn default() -> Self {
        let file = |kind| PathBuf::from(format!("/etc/ssh/ssh_host_{kind}_key.pub"));
        let host_keys = ["ed25519", "ecdsa", "rsa"].map(file).into();
        Self { name: SSH_ACCOUNT.to_owned(), port: 22, host_keys }
    }
}

/// The plain-text log files, which are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogFiles {
    /// A file is put aside when it has so many bytes.
    pub max_bytes: u64,
    /// So many files put aside are kept of each.
    pub keep: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 16 * 1024,
            window_messages: 16,
            window_bytes: 64 * 1024,
            connections: 16_000,
            unknown_connections: 512,
            opening_timeout: Duration::from_secs(10),
            classic_connections: 10_000,
            queued_messages: 10_000,
        }
    }
}

impl Default for LogFiles {
    fn default() -> Self {
        Self { max_bytes: 16 * 1024 * 1024, keep: 4 }
    }
}

impl KeepAlive {
    const DEFAULT: Self = Self::seconds(30, 10);
    /// A wired network: a loss is noticed soon.
    const LAN: Self = Self::seconds(5, 3);
    /// A mobile network: pings cost, and answers take their time.
    const LTE: Self = Self::seconds(120, 30);

    const fn seconds(interval: u64, timeout: u64) -> Self {
        Self { interval: Duration::from_secs(interval), timeout: Duration::from_secs(timeout) }
    }
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Nothing is served.
    Off,
    /// Listen here.
    At(SocketAddr),
}

impl Endpoint {
    const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| {
                format!(
                    "expected an IP address and a port such as 127.0.0.1:{HTTP_PORT}, or `off`, found {text:?}"
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    advertise: Vec<String>,
    classic: Option<Endpoint>,
    classic_gap: Option<Span>,
    http: Option<Endpoint>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    log: Log,
    keep_alive: KeepAliveTable,
    limits: Limits,
    log_files: LogFiles,
    ssh: SshLimits,
    ssh_account: SshAccount,
    recordings: RecordingLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct KeepAliveTable {
    profile: Option<Profile>,
    interval: Option<Span>,
    timeout: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Profile {
    Default,
    Lan,
    Lte,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Span(#[serde(deserialize_with = "span::deserialize")] Duration);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or says what nobody knows.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{place}{name}: expected {expected}, found {found}")]
    Range {
        /// The file, where the setting comes from there.
        place: String,
        /// The setting, as in the file.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl Config {
    /// Puts together what the file and `overrides` say, and checks it.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, what was expected, and what was found.
    pub fn load(data: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let path = overrides.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let file = match File::read(path) {
            Err(ConfigError::Read { source, .. })
                if overrides.config.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                File::default()
            }
            read => read?,
        };
        let config = file.into_config(data, overrides.clone())?;
        config.check().map_err(|error| match error {
            // The others that the command line can say were checked there.
            ConfigError::Range { name, expected, found, .. }
                if name != "advertise" || overrides.advertise.is_empty() =>
            {
                ConfigError::Range { place: format!("{}: ", path.display()), name, expected, found }
            }
            error => error,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Limits { max_frame, window_messages, window_bytes, opening_timeout, .. } = self.limits;
        let KeepAlive { interval, timeout } = self.keep_alive;
        within("keep-alive.interval", interval, Duration::from_secs(1)..=Duration::from_secs(86_400))?;
        within("keep-alive.timeout", timeout, Duration::from_millis(100)..=Duration::from_secs(3_600))?;
        within("classic-gap", self.classic_gap, Duration::ZERO..=Duration::from_secs(10))?;
        // A small frame still carries a hello, and a message of some use.
        range("limits.max-frame", max_frame, 256..=u16::MAX)?;
        range("limits.window-messages", window_messages, 1..=MAX_IN_FLIGHT as u8)?;
        range("limits.window-bytes", window_bytes, HEADER_LENGTH as u32..=16 * 1024 * 1024)?;
        range("limits.connections", self.limits.connections, 1..=1_000_000)?;
        range("limits.unknown-connections", self.limits.unknown_connections, 1..=1_000_000)?;
        range("limits.classic-connections", self.limits.classic_connections, 1..=1_000_000)?;
        // They are counted with each message that is sent.
        range("limits.queued-messages", self.limits.queued_messages, 1..=100_000)?;
        within(
            "limits.opening-timeout",
            opening_timeout,
            Duration::from_millis(100)..=Duration::from_secs(600),
        )?;
        let session = Duration::from_secs(1)..=LONGEST_SESSION;
        if !self.ssh.idle_limit.is_zero() {
            within("ssh.idle-limit (0 is none)", self.ssh.idle_limit, session.clone())?;
        }
        within("ssh.time-limit", self.ssh.time_limit, session)?;
        self.recordings.check()?;
        range("log-files.max-bytes", self.log_files.max_bytes, 4096..=u64::MAX)?;
        range("log-files.keep", self.log_files.keep, 0..=1000)?;
        self.ssh_account.check()?;
        check_advertised(&self.advertise)
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })
    }

    fn into_config(self, data: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
        let http = overrides.http.or(self.http);
        let classic = overrides.classic.or(self.classic).unwrap_or(Endpoint::At(loopback(CLASSIC_PORT)));
        let advertise = if overrides.advertise.is_empty() { self.advertise } else { overrides.advertise };
        let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEVICE_PORT);
        let gap = Duration::from_micros(protocol_core::classic::DEFAULT_GAP.as_micros());
        let certificate = match (overrides.tls_cert.or(self.tls_cert), overrides.tls_key.or(self.tls_key)) {
            (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
            (None, None) => None,
            (certificate, key) => {
                return Err(ConfigError::Range {
                    place: String::new(),
                    name: if key.is_none() { "tls-key" } else { "tls-cert" },
                    expected: "both tls-cert and tls-key, or neither".to_owned(),
                    found: format!("only {}", certificate.or(key).unwrap_or_default().display()),
                });
            }
        };
        Ok(Config {
            data: data.to_owned(),
            certificate,
            listen: overrides.listen.or(self.listen).unwrap_or(unspecified),
            advertise,
            classic: classic.address(),
            classic_gap: self.classic_gap.map_or(gap, |span| span.0),
            http: Http {
                address: http.unwrap_or(Endpoint::At(loopback(HTTP_PORT))).address(),
                explicit: http.is_some(),
            },
            log: Log {
                filter: overrides.log.unwrap_or(self.log.filter),
                format: overrides.log_format.unwrap_or(self.log.format),
            },
            keep_alive: self.keep_alive.resolve(),
            limits: self.limits,
            log_files: self.log_files,
            ssh: self.ssh,
            ssh_account: self.ssh_account,
            recordings: self.recordings,
        })
    }
}

impl KeepAliveTable {
    fn resolve(self) -> KeepAlive {
        let profile = match self.profile.unwrap_or(Profile::Default) {
            Profile::Default => KeepAlive::DEFAULT,
            Profile::Lan => KeepAlive::LAN,
            Profile::Lte => KeepAlive::LTE,
        };
        KeepAlive {
            interval: self.interval.map_or(profile.interval, |span| span.0),
            timeout: self.timeout.map_or(profile.timeout, |span| span.0),
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn range<T: PartialOrd + std::fmt::Debug>(
    name: &'static str,
    value: T,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let expected = format!("{:?} to {:?}", allowed.start(), allowed.end());
    Err(ConfigError::Range { place: String::new(), name, expected, found: format!("{value:?}") })
}

/// The same for spans of time, which stand there as people write them.
fn within(
    name: &'static str,
    value: Duration,
    allowed: std::ops::RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let [least, most, found] = [*allowed.start(), *allowed.end(), value].map(span::shortened);
    let expected = format!("{least} to {most}");
    Err(ConfigError::Range { place: String::new(), name, expected, found })
}

impl SshAccount {
    fn check(&self) -> Result<(), ConfigError> {
        range("ssh-account.port", self.port, 1..=u16::MAX)
    }
}

fn check_advertised(addresses: &[String]) -> Result<(), ConfigError> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(ConfigError::Range {
            place: String::new(),
            name: "advertise",
            expected: format!("at most {MAX_ADDRESSES} addresses"),
            found: addresses.len().to_string(),
        });
    }
    match addresses.iter().find(|address| !is_host_and_port(address)) {
        None => Ok(()),
        Some(address) => Err(ConfigError::Range {
            place: String::new(),
            name: "advertise",
            expected: format!(
                "HOST:PORT of at most {MAX_ADDRESS} bytes, such as fleet.example.org:{DEVICE_PORT}"
            ),
            found: format!("{address:?}"),
        }),
    }
}

/// Whether this is a host name or address and a port: what a device can be told to connect to.
pub fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    address.len() <= MAX_ADDRESS && host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}
