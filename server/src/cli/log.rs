//! What the server says while it runs: lines for people on a terminal, JSON elsewhere; on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::error::CliError;
use crate::config::{Log, LogFormat};

/// Starts the log.
pub(super) fn start(log: &Log) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| CliError::Usage(format!("expected a log filter, got {:?}: {error}", log.filter)))?;
    let on_terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let json = match log.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json { lines.json().try_init() } else { lines.with_ansi(on_terminal).try_init() };
    started.map_err(|error| CliError::failed(format!("the log can't be started: {error}")))
}
