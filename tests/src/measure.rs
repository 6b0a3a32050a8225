//! What firmware takes of a microcontroller, measured on one in QEMU.

use std::io;

use crate::{
    proxy::Break,
    scene::{BOARD, OnNetwork, OnWire, assert_answers, reading, wait_counts},
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
