//! What the parts of a running agent share.

use std::sync::Arc;

use protocol_core::{message::BootId, time::Instant};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::{
    clock,
    config::Config,
    facts,
    facts::Device,
    state::StateDirectory,
    store::{Levels, Store},
    tasks::Tasks,
};

/// What the parts of a running agent share.
#[derive(Debug)]
pub struct Agent {
    /// The state directory.
    pub state: StateDirectory,
    /// The configuration.
    pub config: Config,
    /// The queues.
    pub store: Store,
    /// What the device says of itself.
    pub device: Device,
    /// This start of the agent.
    pub boot: BootId,
    /// How the connection to the server stands.
    pub link: watch::Sender<Link>,
    /// How each serial line of the configuration stands.
    pub lines: Vec<watch::Sender<LineStatus>>,
    /// The tasks of this device.
    pub tasks: Arc<Tasks>,
    /// The device's name, once it is enrolled.
    pub name: watch::Sender<Option<String>>,
    /// The device may have been enrolled by another process: look at the identity again.
    pub identity_news: Notify,
}

/// How the connection to the server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The device is not enrolled.
    NotEnrolled,
    /// It is being made.
    Connecting,
    /// It stands.
    Connected {
        /// Where the server is, as the identity names it.
        server: String,
        /// Since when, in milliseconds since 1970; 0 if the device did not know the time.
        since: u64,
    },
    /// It does not stand.
    Waiting {
        /// Why not.
        reason: String,
        /// When it is tried again.
        next_attempt: Instant,
    },
}

/// Why nothing is served of what is wired to a device that is not enrolled.
pub(crate) const NOT_ENROLLED: &str =
    "this device is not enrolled itself; enrol it: holdfast-agent enroll hf1.…";

/// How a serial line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineState {
    /// Its port is not open.
    #[default]
    NoPort,
    /// Nobody answers on it.
    Silent,
    /// The link to the device is up.
    Up,
    /// The device wants a session: a connection to the server is being made, or the server has not welcomed it yet.
    Connecting,
    /// The device's session with the server is open.
    Connected,
}

impl LineState {
    /// Its name, in JSON and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPort => "no-port",
            Self::Silent => "silent",
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        }
    }
}

/// How a serial line stands, since when, and why it is not better.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineStatus {
    /// How it stands.
    pub state: LineState,
    /// Since when, in milliseconds since 1970; 0 if this device did not know the time.
    pub since: u64,
    /// Why the device at its other end is not connected.
    pub reason: Option<String>,
    /// When the device has asked again at the latest, if it is known; until then it may be silent.
    pub asks_again_by: Option<Instant>,
}

impl Agent {
    /// How the agent is, as `holdfast-agent status --json` shows it.
    pub fn status(&self) -> Value {
        let mut status = describe(self.name.borrow().as_deref(), &self.store.levels().borrow());
        status["running"] = json!(true);
        status["tasks"] = self.tasks.status();
        status["syncs"] = json!(self.store.levels().borrow().commits);
        match &*self.link.borrow() {
            Link::NotEnrolled => {}
            Link::Connecting => status["reason"] = json!("connecting"),
            Link::Connected { server, since } => {
                status["connected"] = json!(true);
                status["server"] = json!(server);
                status["since"] = json!(since);
            }
            Link::Waiting { reason, next_attempt } => {
                status["reason"] = json!(reason);
                status["next_attempt_in_seconds"] = json!(seconds_until(*next_attempt));
            }
        }
        if !self.lines.is_empty() {
            status["serial"] = self.lines_status();
        }
        status
    }

    fn lines_status(&self) -> Value {
        let described = self.config.serial.iter().zip(&self.lines).map(|(serial, line)| {
            let LineStatus { state, since, reason, asks_again_by } = line.borrow().clone();
            let reason = match *self.link.borrow() {
                // Whatever the device does: it can't be served.
                Link::NotEnrolled if state != LineState::NoPort => Some(NOT_ENROLLED.to_owned()),
                _ => reason,
            };
            let mut described = json!({
                "path": serial.path.display().to_string(),
                "baud": serial.baud,
                "device": serial.device,
                "state": state.name(),
                "since": since,
                "reason": reason,
            });
            if let Some(latest) = asks_again_by {
                described["asks_again_within_seconds"] = json!(seconds_until(latest));
            }
            described
        });
        described.collect()
    }
}

/// Whole seconds from now on, rounded up; 0 if the moment has passed.
fn seconds_until(moment: Instant) -> u64 {
    moment.since(clock::now()).as_micros().div_ceil(1_000_000)
}

/// How an agent is that does not run.
pub fn describe(name: Option<&str>, levels: &Levels) -> Value {
    json!({
        "name": name,
        "enrolled": name.is_some(),
        "running": false,
        "connected": false,
        "outbox": {
            "messages": levels.outbox.waiting(),
            "bytes": levels.outbox.waiting_bytes,
            "too_large": levels.outbox.aside_messages,
        },
        "inbox": { "messages": levels.inbox.waiting, "bytes": levels.inbox.waiting_bytes },
        "version": facts::VERSION,
    })
}
