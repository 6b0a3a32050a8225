//! Real firmware on emulated microcontrollers, against the real server and the real agent.

mod faults;
mod fleet;
mod networked;
mod refused;
mod wired;

use std::time::{Duration, Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    server::{BOUND, Server},
    wait,
};
use serde_json::Value;

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(4);

const BOARD: &str = "barometer";

/// The bodies of the messages of one kind that were archived from a device, in their order.
#[track_caller]
fn archived(server: &Server, device: &str, kind: &str) -> Vec<String> {
    let messages = server.api().list(&format!("/messages?device={device}")).expect("the server tells");
    let of_kind = messages.iter().filter(|message| message["direction"] == "in" && message["kind"] == kind);
    of_kind.map(|message| message["body"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The numbers that a device has sent since each of its starts: they begin with 1, and none is left out or comes twice.
#[track_caller]
fn counts(server: &Server, device: &str) -> Vec<Vec<u64>> {
    let all = archived(server, device, "count");
    let mut starts: Vec<Vec<u64>> = Vec::new();
    for body in &all {
        let number: u64 = body.parse().unwrap_or_else(|_| panic!("expected a number, found {body:?}"));
        match starts.last_mut() {
            Some(start) if number == start.len() as u64 + 1 => start.push(number),
            _ if number == 1 => starts.push(vec![1]),
            _ => panic!("{number} does not follow what is before it: {all:?}"),
        }
    }
    starts
}

/// Waits until `more` numbers more than now are archived.
#[track_caller]
fn wait_counts(server: &Server, device: &str, more: usize) {
    let count = || archived(server, device, "count").len();
    let enough = count() + more;
    wait::until(&format!("{device} has sent {more} numbers more"), count, |now| *now >= enough);
}

fn reading(server: &Server, device: &str, name: &str) -> Option<f64> {
    let device = server.device(device)?;
    device["status"][name].as_f64()
}

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

/// Sends texts to a device one by one, each when the one before was answered.
#[track_caller]
fn assert_answers(server: &Server, device: &str, texts: &[String]) {
    let before = archived(server, device, "answer");
    for number in 1..=texts.len() {
        server.tell(&["send", device, &texts[number - 1]]);
        let answers = || archived(server, device, "answer");
        wait::until("it is answered", answers, |all| all.len() == before.len() + number);
    }
    assert_eq!(archived(server, device, "answer"), [before.as_slice(), texts].concat());
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
