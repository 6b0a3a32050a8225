//! Messages that flow both ways while everything breaks, and the account of them.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use protocol_core::message::StreamId;
use serde_json::json;

use crate::{agent::Commands, api::Api, device::Device, random::Random};

/// How long a local program waits for its agent before it tries again.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// How many messages a local program has under way.
const BATCH: u64 = 8;

/// The pause of whoever has just sent something.
const PAUSE: Duration = Duration::from_millis(60);

/// What a program on a device has sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By the agent's socket: the texts of 1 up to here were acknowledged.
    pub(super) by_socket: u64,
    /// By `holdfast-agent send`: so many were acknowledged, or are sent again until they are.
    pub(super) by_command: u64,
}

/// The text that a device sends by its agent's socket.
fn socket_text(name: &str, number: u64) -> String {
    format!("{name} by socket {number}")
}

/// The text that a device sends by `holdfast-agent send`.
fn command_text(name: &str, number: u64) -> String {
    format!("{name} by command {number}")
}

/// A local program that sends until `stop`, and then until all it has begun is acknowledged.
pub(super) fn send_up(name: &str, commands: &Commands, seed: u64, stop: &AtomicBool) -> Sent {
    let stream = StreamId(Random::new(seed).number());
    let mut sent = Sent::default();
    let mut program: Option<Device<_>> = None;
    while !stop.load(Ordering::Relaxed) {
        // The pace of the traffic: nothing is waited for.
        thread::sleep(PAUSE);
        let Some(connected) = &mut program else {
            program = Device::local(commands.state(), stream, LONGEST_WAIT).ok();
            if program.is_none() {
                // The agent is not there. `send` works all the same.
                send_by_command(name, commands, &mut sent);
            }
            continue;
        };
        let last = sent.by_socket + BATCH;
        let batch = (sent.by_socket + 1..=last)
            .try_for_each(|number| connected.send_text(stream, number, &socket_text(name, number)))
            .and_then(|()| connected.echoed(last));
        match batch {
            Ok(()) => sent.by_socket = last,
            // The same ones again, by a new connection.
            Err(_) => program = None,
        }
    }
    sent
}

/// What was under way at the end: sent until it is acknowledged.
pub(super) fn finish(name: &str, commands: &Commands, seed: u64, sent: &mut Sent) -> io::Result<()> {
    let stream = StreamId(Random::new(seed).number());
    let last = sent.by_socket + BATCH;
    let mut program = Device::local(commands.state(), stream, Duration::from_secs(30))?;
    for number in sent.by_socket + 1..=last {
        program.send_text(stream, number, &socket_text(name, number))?;
    }
    program.echoed(last)?;
    sent.by_socket = last;
    Ok(())
}

fn send_by_command(name: &str, commands: &Commands, sent: &mut Sent) {
    let number = sent.by_command + 1;
    let text = command_text(name, number);
    // The same name until it has succeeded: then it is there once.
    let output = commands.run(&["send", "--id", &text, &text], Duration::from_secs(10));
    if output.is_ok_and(|output| output.status.success()) {
        sent.by_command = number;
    }
}

/// What the operator has sent to one device.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// Acknowledged.
    pub(super) certain: Vec<String>,
    /// No answer came: the server may have it or not.
    pub(super) uncertain: Vec<String>,
}

/// An operator who sends to all devices until `stop`.
pub(super) fn send_down(api: &Api, names: &[String], seed: u64, stop: &AtomicBool) -> Vec<Ordered> {
    let mut random = Random::new(seed);
    let mut ordered: Vec<Ordered> = names.iter().map(|_| Ordered::default()).collect();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // The pace of the traffic: nothing is waited for.
        thread::sleep(PAUSE);
        let index = random.between(0, names.len() as u64 - 1) as usize;
        let (Some(name), Some(ordered)) = (names.get(index), ordered.get_mut(index)) else { continue };
        number += 1;
        let text = format!("order {number} to {name}");
        match api.post(&format!("/devices/{name}/messages"), &json!({ "body": text })) {
            Ok(_) => ordered.certain.push(text),
            // Nobody was there to hear it.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(_) => ordered.uncertain.push(text),
        }
    }
    ordered
}

/// Checks what was archived of a device: all that it sent, once, in the order of each way.
pub(super) fn check_up(name: &str, sent: &Sent, archived: &[String]) -> Vec<String> {
    let socket: Vec<_> = (1..=sent.by_socket).map(|number| socket_text(name, number)).collect();
    // The last one may have got through although nobody was told.
    let command: Vec<_> = (1..=sent.by_command + 1).map(|number| command_text(name, number)).collect();
    let mut faults = check(name, &socket, &[], &of(archived, "by socket"));
    let (certain, uncertain) = command.split_at(command.len() - 1);
    faults.extend(check(name, certain, uncertain, &of(archived, "by command")));
    faults
}

fn of(archived: &[String], way: &str) -> Vec<String> {
    archived.iter().filter(|text| text.contains(way)).cloned().collect()
}

/// Checks what a device has received.
pub(super) fn check_down(name: &str, ordered: &Ordered, received: &[String]) -> Vec<String> {
    check(name, &ordered.certain, &ordered.uncertain, received)
}

fn check(name: &str, certain: &[String], uncertain: &[String], found: &[String]) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for text in found {
        *counts.entry(text).or_default() += 1;
    }
    let count = |text: &String| counts.get(text.as_str()).copied().unwrap_or(0);
    let mut faults = Vec::new();
    faults.extend(certain.iter().filter(|text| count(text) == 0).map(|text| format!("{name}: lost: {text}")));
    let doubled = certain.iter().chain(uncertain).filter(|text| count(text) > 1);
    faults.extend(doubled.map(|text| format!("{name}: {} times: {text}", count(text))));
    let known: usize = certain.iter().chain(uncertain).map(count).sum();
    if known != found.len() {
        faults.push(format!("{name}: {} messages that nobody has sent", found.len().abs_diff(known)));
    }
    let certain_ones: HashSet<_> = certain.iter().collect();
    let mut in_order = found.iter().filter(|text| certain_ones.contains(text));
    if faults.is_empty() && !certain.iter().all(|text| in_order.next() == Some(text)) {
        faults.push(format!("{name}: the messages came in another order"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::check;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_lost_doubled_forged_or_out_of_order_is_found() {
        let (certain, uncertain) = (texts(&["a", "b"]), texts(&["c"]));
        let faults = |found: &[&str]| check("x", &certain, &uncertain, &texts(found));
        assert!(faults(&["a", "b"]).is_empty());
        assert!(faults(&["a", "c", "b"]).is_empty());
        assert_eq!(faults(&["a"]), ["x: lost: b"]);
        assert_eq!(faults(&["a", "b", "b"]), ["x: 2 times: b"]);
        assert_eq!(faults(&["a", "b", "c", "c"]), ["x: 2 times: c"]);
        assert_eq!(faults(&["a", "b", "d"]), ["x: 1 messages that nobody has sent"]);
        assert_eq!(faults(&["b", "a"]), ["x: the messages came in another order"]);
    }
}
