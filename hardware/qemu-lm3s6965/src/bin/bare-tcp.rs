//! The floor for sizes: embassy-net and TCP without our protocol. It connects to the host's port 7, and echoes.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::board::Clock as _;
use cortex_m_rt::entry;
use embassy_net::{Config, Ipv4Address, Stack, StackResources, tcp::TcpSocket};
use firmware::chip::Chip as _;
use firmware::executor;
use protocol_core::time::Duration;
use qemu_lm3s6965::Lm3s6965;

/// The host's loopback, as QEMU shows it.
const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

#[entry]
fn main() -> ! {
    let (chip, ethernet, _) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<2>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    executor::run([pin!(serve(chip, stack)), pin!(async { runner.run().await })])
}

async fn serve(chip: Lm3s6965, stack: Stack<'_>) -> Infallible {
    let (mut received, mut sent) = ([0; 2048], [0; 1024]);
    stack.wait_config_up().await;
    loop {
        let mut socket = TcpSocket::new(stack, &mut received, &mut sent);
        if socket.connect((HOST, 7)).await.is_ok() {
            _ = echo(chip, &mut socket).await;
        }
        chip.sleep_until(chip.now().after(Duration::from_secs(1))).await;
    }
}

/// Sends back what comes.
async fn echo(chip: Lm3s6965, socket: &mut TcpSocket<'_>) -> Result<(), embassy_net::tcp::Error> {
    let mut buffer = [0; 256];
    loop {
        let count = socket.read(&mut buffer).await?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = socket.write(rest).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        chip.feed_watchdog();
    }
}
