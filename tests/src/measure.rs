//! What firmware takes of a microcontroller, measured on one in QEMU.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    machine::Machine,
    proxy::Break,
    scene::{BOARD, OnNetwork, OnWire, assert_answers, counts, reading, wait_counts},
    server::Server,
    wait,
};

/// The most stack that the firmware `ethernet` ever used, in bytes: through handshakes, messages both ways, and a
/// connection that breaks.
///
/// # Errors
/// Something can't be started.
pub fn stack_of_ethernet() -> io::Result<u64> {
    let mut scene = OnNetwork::start()?;
    work(&scene.server);
    let machine = scene.machine.process().id();
    stack(&scene.server, || {
        scene.proxy.break_all(machine, Break::Cut);
        Ok(())
    })
}

/// The same of the firmware `uart`.
///
/// # Errors
/// Something can't be started.
pub fn stack_of_uart() -> io::Result<u64> {
    let mut scene = OnWire::start()?;
    work(&scene.server);
    stack(&scene.server, || {
        scene.agent.kill();
        scene.agent.run()
    })
}

/// Has it send and take messages, the longest that it answers as a whole among them.
fn work(server: &Server) {
    wait_counts(server, BOARD, 3);
    assert_answers(server, BOARD, &["short".to_owned(), "long".repeat(16)]);
}

/// What it says of its stack once it has come back after `part`: it says so when it comes online.
fn stack(server: &Server, part: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let said_at = || server.device(BOARD).map(|device| device["status_at"].clone());
    let before = said_at();
    part()?;
    wait::until("it has come back and says how it is doing", said_at, |at| at.is_some() && *at != before);
    let stack = reading(server, BOARD, "stack-high-water").unwrap_or_default();
    Ok(stack as u64)
}

/// The instructions that a device takes, session and queue, for each thing that the firmware `instructions` counts.
///
/// # Errors
/// It can't be started.
///
/// # Panics
/// It does not tell in time.
pub fn instructions() -> io::Result<Vec<(String, u64)>> {
    let mut machine = Machine::alone("instructions")?;
    machine.run()?;
    let told = || {
        let console = machine.console();
        let figures = console.lines().filter_map(|line| {
            let (name, count) = line.strip_prefix("instructions ")?.split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        figures.collect::<Vec<_>>()
    };
    Ok(wait::until("all is counted", told, |figures| figures.len() == INSTRUCTIONS.len()))
}

/// What the firmware `instructions` counts.
pub const INSTRUCTIONS: [&str; 3] = ["ping", "up", "down"];

/// How long it takes from the start of QEMU until the server has archived the first message of the firmware
/// `ethernet`.
///
/// # Errors
/// Something can't be started.
pub fn first_message_of_ethernet() -> io::Result<Duration> {
    let OnNetwork { proxy: _proxy, server, mut machine } = OnNetwork::start()?;
    first_message(&server, &mut machine)
}

/// The same of the firmware `uart`.
///
/// # Errors
/// Something can't be started.
pub fn first_message_of_uart() -> io::Result<Duration> {
    let OnWire { server, agent: _agent, line: _line, mut machine } = OnWire::start()?;
    first_message(&server, &mut machine)
}

fn first_message(server: &Server, machine: &mut Machine) -> io::Result<Duration> {
    wait_counts(server, BOARD, 1);
    machine.kill();
    server.wait_online(BOARD, false);
    let starts = counts(server, BOARD).len();
    let begun = Instant::now();
    machine.run()?;
    wait::until("its first number is archived", || counts(server, BOARD).len(), |now| *now > starts);
    Ok(begun.elapsed())
}
