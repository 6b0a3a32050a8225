//! Real firmware on emulated microcontrollers, against the real server and the real agent.

mod faults;
mod fleet;
mod keys;
mod networked;
mod refused;
mod wired;

use std::time::{Duration, Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    scene::reading,
    server::{BOUND, Server},
    wait,
};
use serde_json::Value;

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(4);

/// Waits until a device has said who it is and how it is doing.
#[track_caller]
fn wait_told(server: &Server, device: &str, reset_reason: ResetReason) {
    let reason = f64::from(reset_reason as u8);
    let says_all = |told: &Option<Value>| {
        let Some(told) = told else { return false };
        told["version"] == env!("CARGO_PKG_VERSION") && told["status"]["reset-reason"] == reason
    };
    wait::until(
        &format!("{device} says that it started by {reset_reason:?}"),
        || server.device(device),
        says_all,
    );
    assert!(reading(server, device, "queue-free").is_some_and(|free| free > 0.0));
    assert!(reading(server, device, "uptime-seconds").is_some_and(|seconds| seconds < 600.0));
}

/// Waits until a device is shown offline, which the bound allows it to take so long for.
#[track_caller]
fn assert_offline_in_time(server: &Server, device: &str, since: Instant) {
    server.wait_online(device, false);
    assert!(since.elapsed() < BOUND + SLACK, "{device} was shown online for {:?}", since.elapsed());
}

/// There are no ghosts and no doubles.
#[track_caller]
fn assert_one_session(server: &Server, device: &str) {
    let sessions = server.ask(&["sessions", device]);
    let open = sessions.iter().filter(|session| session["ended"].is_null()).count();
    assert_eq!(open, 1, "{sessions:#?}");
}

fn texts(what: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{what} {number}")).collect()
}
