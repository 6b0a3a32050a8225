//! Real firmware on emulated microcontrollers, against the real server and the real agent.

mod faults;
mod fleet;
mod keys;
mod memory;
mod networked;
mod refused;
mod wired;

use std::{
    io,
    time::{Duration, Instant},
};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    scene::{counts, reading, wait_counts},
    server::{BOUND, Server},
    wait,
};
use serde_json::Value;

/// What a busy machine may add to a bound until a test sees it.
const SLACK: Duration = Duration::from_secs(4);

/// How late the server's own timer may be on a busy machine.
const TIMER: Duration = Duration::from_millis(500);

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
    // What is shown online is kept in memory, and comes to the disk behind that.
    let last_ended = || {
        let sessions = server.ask(&["sessions", device]);
        sessions.into_iter().rfind(|session| !session["ended"].is_null())
    };
    let ended = wait::until("its session has ended", last_ended, Option::is_some).unwrap_or_default();
    let silent = (second_of_day(&ended["ended"]) - second_of_day(&ended["last_seen"])).rem_euclid(86_400.0);
    assert!(silent < (BOUND + TIMER).as_secs_f64(), "it was silent for {silent} s: {ended:#}");
}

/// The second of its day of a time such as `2026-11-22T09:01:20.934Z`.
#[track_caller]
fn second_of_day(time: &Value) -> f64 {
    let of_day = || time.as_str()?.split_once('T')?.1.strip_suffix('Z');
    let parts = of_day().unwrap_or_default().split(':').map(|part| part.parse().unwrap_or(f64::NAN));
    let seconds = parts.fold(0.0, |sum, part: f64| sum * 60.0 + part);
    assert!(seconds.is_finite(), "expected a time, found {time}");
    seconds
}

/// There are no ghosts and no doubles.
#[track_caller]
fn assert_one_session(server: &Server, device: &str) {
    let sessions = server.ask(&["sessions", device]);
    let open = sessions.iter().filter(|session| session["ended"].is_null()).count();
    assert_eq!(open, 1, "{sessions:#?}");
}

/// All sessions but the present one ended by a word of the device, and none was lost.
#[track_caller]
fn assert_said_farewell(server: &Server, device: &str) {
    let sessions = server.ask(&["sessions", device]);
    let ends: Vec<_> = sessions.iter().filter_map(|session| session["reason"].as_str()).collect();
    assert_eq!(ends, ["closed"], "{sessions:#?}");
}

/// A server that is stopped and killed costs the device nothing: it comes back by itself, and was not reset.
#[track_caller]
fn assert_outlives(server: &mut Server, device: &str) -> io::Result<()> {
    server.terminate();
    server.run()?;
    wait_counts(server, device, 2);
    server.kill();
    server.run()?;
    wait_counts(server, device, 2);
    assert_eq!(counts(server, device).len(), 1, "it was not reset");
    assert_one_session(server, device);
    Ok(())
}
