//! What the API says: the JSON of its answers, shared by the server and the command line.
//!
//! Times are RFC 3339 in UTC. Whatever stems from a device is told as it came: who shows it escapes it.

mod enrolment;
pub mod headers;
mod host_keys;
mod operators;
mod parts;
mod ssh_account;
mod tasks;
#[cfg(test)]
mod tests;
mod video;

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

pub use enrolment::*;
pub use host_keys::*;
pub use operators::*;
pub use parts::*;
pub use ssh_account::*;
pub use tasks::*;
pub use video::*;

use crate::id::UnixMillis;

/// A moment, in JSON as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub UnixMillis);

impl Time {
    /// The time by the machine's clock.
    pub fn now() -> Self {
        Self(UnixMillis::now())
    }

    /// The moment as a calendar knows it.
    pub fn timestamp(self) -> Timestamp {
        // A device may claim any time: one that no calendar holds is told as the last that one does.
        let limit = if self.0.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_millisecond(self.0.0).unwrap_or(limit)
    }
}

impl From<UnixMillis> for Time {
    fn from(at: UnixMillis) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Self(UnixMillis(timestamp.as_millisecond())))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "A moment: RFC 3339, in UTC." })
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The entries, in the order of their ids.
    pub items: Vec<T>,
    /// There may be more: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// The whole of an error's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// A stable name that programs may match on.
    pub code: String,
    /// What was expected and what came, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// Since when it runs.
    pub started: Time,
    /// The random id of its database.
    pub store: String,
    /// The pin of its key: SHA-256, hexadecimal.
    pub pin: String,
    /// Where devices connect.
    pub listen: String,
    /// Where classic clients connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classic: Option<String>,
    /// Where it tells without encryption whether it is healthy, and on loopback all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Where the console is found, best first.
    #[serde(default)]
    pub console: Vec<String>,
    /// Devices that are registered and not revoked.
    pub devices: u64,
    /// Those of them that are online.
    pub online: u64,
    /// Classic clients that are connected.
    pub classic_online: u64,
    /// Messages that wait for devices.
    pub queued: u64,
}

/// A device, or a classic client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceView {
    /// Its name; a classic client's is its address.
    pub name: String,
    /// How it was enrolled: `agent`, by itself with a line; `firmware`, with a provisioning block; `wired`, for its
    /// `gateway`. Or `classic`: a client of the original protocol, online while its TCP connection lasts.
    pub kind: String,
    /// Whether it is connected and answers.
    pub online: bool,
    /// Online: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When something last came from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// Where it connects from; offline: where it did last. Of a wired one it is its gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The device that it is wired to: it has no key of its own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// What it says of itself: the version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it says of itself: its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// What it says of itself: the user that operators log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// The public host keys of its sshd, a line each, as registered when it was enrolled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_host_keys: Vec<String>,
    /// The pin of its newest key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How long it took to answer the last ping, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Messages that wait for it.
    pub queued: u64,
    /// When it became known.
    pub created: Time,
    /// When its rights were taken away, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// How often it has been connected.
    pub sessions: u64,
    /// For how long in all, in seconds.
    pub connected_seconds: u64,
    /// Messages archived from it.
    pub messages_in: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Messages that it has fetched.
    pub messages_out: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
    /// Its last readings, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
    /// When they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_at: Option<Time>,
    /// Tasks of it that have not ended.
    #[serde(default)]
    pub tasks: u64,
    /// Cameras that it tells of, while it is online.
    #[serde(default)]
    pub cameras: u64,
}

/// One connection of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionView {
    /// Its number: later sessions have greater ones.
    pub id: i64,
    /// The device's name.
    pub device: String,
    /// Where it came from.
    pub address: String,
    /// The start of its agent that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// When it began.
    pub started: Time,
    /// When something last came.
    pub last_seen: Time,
    /// When it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in more words, perhaps the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_text: Option<String>,
    /// Messages archived.
    pub messages_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Messages fetched.
    pub messages_out: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

/// A message, from a device or to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageView {
    /// Its number: later messages have greater ones.
    pub id: i64,
    /// The device's name.
    pub device: String,
    /// `in`: from the device. `out`: to it.
    pub direction: String,
    /// The message's kind.
    pub kind: String,
    /// When the server got it.
    pub received: Time,
    /// The sender's clock when it was made, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The body, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// To a device: `waiting`, `delivered` or `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// To a device: when it had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Time>,
    /// To a device: when it is no longer worth delivering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// The queue that it came from, a random number in hexadecimal, and its place in it: with the device
    /// they name it.
    pub stream: String,
    /// Its place in the stream.
    pub number: u64,
}

impl MessageView {
    /// The two fields of a body: it is in the one that can tell it.
    pub fn body_fields(body: Vec<u8>) -> (Option<String>, Option<String>) {
        match String::from_utf8(body) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
        }
    }

    /// The body's bytes.
    pub fn body_bytes(&self) -> Vec<u8> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its number: later events have greater ones.
    pub id: i64,
    /// When it was recorded.
    pub at: Time,
    /// What happened: a stable name.
    pub kind: String,
    /// The device it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The session it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<i64>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Whatever else is known, by name.
    #[serde(default)]
    pub detail: Map<String, Value>,
}

/// Asks for a message to be sent. Exactly one of the two bodies is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Its kind; `text` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The body, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// If the device has not fetched it after so many seconds, it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// A message was put into a device's queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentAnswer {
    /// Its number.
    pub id: i64,
    /// The device's name.
    pub device: String,
    /// Whether the device is online: then it has the message soon.
    pub online: bool,
}

/// A device answered a ping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingAnswer {
    /// The device's name.
    pub device: String,
    /// How long it took to answer, in milliseconds.
    pub round_trip_ms: f64,
}

/// A device's rights were taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeAnswer {
    /// The device's name.
    pub device: String,
    /// How it was enrolled: `agent`, `firmware` or `wired`.
    pub kind: String,
    /// Whether it was online: it has been disconnected.
    pub was_online: bool,
    /// The device that it is wired to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The devices that are wired to it: they have been disconnected, and can't come back without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wired: Vec<String>,
    /// The command that lets it in again.
    pub again: String,
}

/// The next key is to be taken into use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Also where that locks devices out.
    #[serde(default)]
    pub force: bool,
}

/// The keys that the server has from its next start on, by their pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotateAnswer {
    /// The key in use.
    pub current: String,
    /// The one that comes after it.
    pub next: String,
}

/// The server stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopAnswer {
    /// Its process, which is about to end.
    pub pid: u32,
}
