//! The floor for sizes: embassy-net and TCP without our protocol. It connects to the host's port 7, and echoes.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::board::Board;
use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use embedded_io_async::{Read, Write};
use firmware::chip::Chip as _;
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use protocol_core::time::Duration;

/// The host's loopback, as QEMU shows it.
const HOST: &str = "10.0.2.2:7";

#[entry]
fn main() -> ! {
    let (chip, ethernet, _) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<SOCKETS>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    let buffers = Buffers::new();
    let board = Networked::new(chip, stack, &buffers);
    executor::run([pin!(serve(&board)), pin!(async { runner.run().await })])
}

async fn serve(board: &impl Board) -> Infallible {
    loop {
        if let Ok(mut transport) = board.connect(HOST).await {
            _ = echo(board, &mut transport).await;
        }
        board.sleep_until(board.now().after(Duration::from_secs(1))).await;
    }
}

/// Sends back what comes.
async fn echo<T: Read + Write>(board: &impl Board, transport: &mut T) -> Result<(), T::Error> {
    let mut buffer = [0; 256];
    loop {
        let count = transport.read(&mut buffer).await?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = transport.write(rest).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        board.feed_watchdog();
    }
}
