//! Devices that are wired to this one: for each serial line a loop that keeps its port open and its link up, and a
//! connection to the server for each session of the device at the other end (`docs/protocol.md`, Gateways).
//!
//! The bytes are carried and not looked into, but for what is shown to people: whether the server has welcomed the
//! device, or why not, and when it asks again.

mod carrier;
mod line;
mod overheard;
mod port;
#[cfg(test)]
mod tests;
mod unread;

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};

use crate::agent::Agent;

/// Serves all lines of the configuration until the agent stops.
pub async fn run(agent: Arc<Agent>, stop: watch::Receiver<bool>) {
    let mut lines = JoinSet::new();
    for (serial, status) in agent.config.serial.iter().zip(&agent.lines) {
        let line = line::Line::new(Arc::clone(&agent), serial.clone(), status.clone());
        lines.spawn(line.run(stop.clone()));
    }
    while lines.join_next().await.is_some() {}
}
