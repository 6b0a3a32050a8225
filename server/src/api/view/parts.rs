//! What is said of the server's parts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// The parts of the server, and how much the whole has to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartsView {
    /// What is measured of the whole, by a name that ends with its unit: `memory_bytes`, `messages_per_second`; what has
    /// none is a number of things.
    pub figures: BTreeMap<String, f64>,
    /// The parts.
    pub parts: Vec<PartView>,
}

/// A part of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartView {
    /// What it is called.
    pub name: String,
    /// `listener`, `writer`, `timer`, `handler` or `relay`.
    pub kind: String,
    /// `running`, `restarting` or `stopped`.
    pub state: String,
    /// Since when it is so.
    pub since: Time,
    /// How often it has failed, or one of its works has, since the server began; each time it began again, or that work
    /// alone ended.
    pub restarts: u64,
    /// Why it failed the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How much it has to do. Of listeners, handlers and relays: how many connections or works are `open`, and how many there
    /// were in `total`. Of timers: how many `rounds` there were, and what the last one took. Of writers: what waits for them.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
}
