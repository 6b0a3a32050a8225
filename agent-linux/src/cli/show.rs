//! `status`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use protocol_core::escape::Escaped;
use serde_json::Value;

use super::{Shared, error::CliError, how_to_start};
use crate::{
    agent::describe,
    clock,
    config::Config,
    identity::Identity,
    local_client::{LocalClient, LocalError},
    state::StateDirectory,
    store::{Levels, Queues},
};

/// `holdfast-agent status`.
pub(super) fn status(shared: &Shared, config: &Config) -> Result<(), CliError> {
    let state = StateDirectory::open(&shared.state)?;
    let status = match LocalClient::connect(&state.socket(), 0).and_then(|mut client| client.information()) {
        Ok(json) => serde_json::from_str(&json).unwrap_or(Value::Null),
        Err(LocalError::NotRunning) => at_rest(&state, config)?,
        Err(error) => return Err(error.into()),
    };
    let mut output = io::stdout().lock();
    if shared.json {
        writeln!(output, "{status}")?;
    } else {
        for (name, value) in lines(&status, &shared.state) {
            writeln!(output, "{name:<11}{}", Escaped(&value))?;
        }
    }
    Ok(())
}

/// How an agent is that does not run.
fn at_rest(state: &StateDirectory, config: &Config) -> Result<Value, CliError> {
    let identity = Identity::read(state)?;
    let levels = if state.file("outbox.db").exists() {
        Queues::open(state, config)?.levels()?
    } else {
        Levels::default()
    };
    Ok(describe(identity.as_ref().map(|identity| identity.name.as_str()), &levels))
}

/// What people are told.
fn lines(status: &Value, state: &Path) -> Vec<(&'static str, String)> {
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let is = |name: &str| status[name].as_bool().unwrap_or(false);
    let mut lines = Vec::new();
    if is("enrolled") {
        lines.push(("name", text("name")));
    } else {
        lines.push(("name", "not enrolled; enrol this device: holdfast-agent enroll hf1.…".to_owned()));
    }
    if !is("running") {
        lines.push(("agent", format!("not running; start it: {}", how_to_start(state, None, "start"))));
    } else if is("connected") {
        let since = status["since"].as_u64().filter(|since| *since > 0).map(clock::rfc3339);
        let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
        lines.push(("connected", format!("to {}{since}", text("server"))));
    } else if is("enrolled") {
        let next = status["next_attempt_in_seconds"].as_u64();
        let next = next.map(|wait| format!("; next attempt in {wait} s")).unwrap_or_default();
        lines.push(("connected", format!("no: {}{next}", text("reason"))));
    }
    for (queue, what) in [("outbox", "wait for the server"), ("inbox", "wait for a local program")] {
        let (messages, bytes) = (&status[queue]["messages"], &status[queue]["bytes"]);
        lines.push((queue, format!("{messages} messages ({bytes} bytes) {what}")));
    }
    for line in status["serial"].as_array().map(Vec::as_slice).unwrap_or_default() {
        lines.push(("serial", serial_line(line)));
    }
    for task in status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default() {
        lines.push(("task", task_line(task)));
    }
    if let Some(count @ 1..) = status["outbox"]["too_large"].as_u64() {
        let what = "larger than the server takes; they wait until its limits.max-frame is raised";
        lines.push(("too large", format!("{count} messages are {what}")));
    }
    lines.push(("version", text("version")));
    lines
}

/// `ssh for ada: running since …`.
fn task_line(task: &Value) -> String {
    let text = |name: &str| task[name].as_str().unwrap_or_default();
    let since = task["since"].as_u64().filter(|since| *since > 0).map(clock::rfc3339);
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let detail = if text("detail").is_empty() { "" } else { ": " };
    format!("{} for {}: {}{since}{detail}{}", text("kind"), text("who"), text("state"), text("detail"))
}

/// `barometer on /dev/ttyAMA0: connected since …`, or why not.
fn serial_line(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let state = match text("state") {
        "no-port" => "no port",
        "silent" => "nobody answers",
        "up" => "wired, but not connected",
        state => state,
    };
    let since = line["since"].as_u64().filter(|since| *since > 0).map(clock::rfc3339);
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let reason = line["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let again = line["asks_again_within_seconds"].as_u64().filter(|wait| *wait > 0);
    let again = again.map(|wait| format!("; it asks again by itself within {wait} s")).unwrap_or_default();
    format!("{} on {} at {} baud: {state}{since}{reason}{again}", text("device"), text("path"), line["baud"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::serial_line;

    #[test]
    fn a_line_says_why_it_is_not_connected_and_when_the_device_asks_again() {
        let mut line = json!({
            "path": "/dev/ttyAMA0", "baud": 115_200, "device": "barometer", "state": "up", "since": 0,
            "reason": "the server refuses it: not enrolled for this gateway (unknown-key)",
            "asks_again_within_seconds": 40,
        });
        assert_eq!(
            serial_line(&line),
            "barometer on /dev/ttyAMA0 at 115200 baud: wired, but not connected: the server refuses it: not enrolled for \
             this gateway (unknown-key); it asks again by itself within 40 s"
        );
        line["asks_again_within_seconds"] = json!(0);
        assert!(serial_line(&line).ends_with("(unknown-key)"));
    }
}
