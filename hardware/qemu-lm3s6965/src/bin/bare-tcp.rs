//! The floor for sizes: embassy-net and TCP without our protocol. It connects to the host's port 7, and echoes.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::board::{Board, Connect};
use cortex_m_rt::entry;
use embedded_io_async::{Read, Write};
use firmware::executor;
use firmware::network::Room;
use protocol_core::time::Duration;

/// The host's loopback, as QEMU shows it.
const HOST: &str = "10.0.2.2:7";

#[entry]
fn main() -> ! {
    let (board, _, ethernet) = qemu_lm3s6965::start_networked();
    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([pin!(serve(&board, &network)), pin!(stack)])
}

async fn serve(board: &impl Board, network: &impl Connect) -> Infallible {
    loop {
        if let Ok(mut transport) = network.connect(HOST).await {
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
