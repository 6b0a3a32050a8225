//! The log: for people on a terminal, JSON otherwise.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

/// Starts logging to standard error, as much as `HOLDFAST_LOG` says, or else up to `level`.
pub(super) fn start(level: &str) {
    let wanted = std::env::var("HOLDFAST_LOG").unwrap_or_default();
    let chosen = if wanted.is_empty() { level } else { &wanted };
    let (filter, is_wrong) = match chosen.parse::<Targets>() {
        Ok(filter) => (filter, false),
        Err(_) => (level.parse().unwrap_or_default(), true),
    };
    let is_terminal = io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    // Whoever called this has no other subscriber: starting twice is harmless.
    let _ = if is_terminal {
        registry().with(filter).with(lines).try_init()
    } else {
        registry().with(filter).with(lines.json().flatten_event(true)).try_init()
    };
    if is_wrong {
        tracing::warn!(HOLDFAST_LOG = wanted, "not understood; expected error, warn, info, debug or trace");
    }
}
