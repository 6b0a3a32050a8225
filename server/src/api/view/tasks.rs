//! What devices are asked to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A task: what somebody had a device do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    /// Its number: later tasks have greater ones.
    pub id: i64,
    /// The device's name.
    pub device: String,
    /// What it is: `ssh`, `openssh`, `reboot`.
    pub kind: String,
    /// `requested`, `starting`, `running`, `stopping`, and at last `done`, `failed` or `lost`.
    pub state: String,
    /// Who asked for it.
    pub who: String,
    /// From where, if not from the server's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When it was asked for.
    pub requested: Time,
    /// Since when it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Why it stops, or has ended; perhaps in the device's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The end of what it wrote, as its device tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Bytes that came from the device for it.
    pub bytes_in: u64,
    /// Bytes that went to the device for it.
    pub bytes_out: u64,
}

/// Asks for a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// What it is: `reboot`.
    pub kind: String,
}
