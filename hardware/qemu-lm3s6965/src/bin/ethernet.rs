//! The agent over TLS, by Ethernet. UART 0 shows a person where it stands.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::{Board, Clock as _};
use agent_embedded::run::run;
use agent_embedded::tls::Tls;
use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use firmware::chip::Chip as _;
use firmware::console::Console;
use firmware::example::Example;
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use protocol_core::message::{BootId, StreamId};
use protocol_core::time::Duration;
use qemu_lm3s6965::Lm3s6965;
use qemu_lm3s6965::uart::Port;

#[entry]
fn main() -> ! {
    let (chip, ethernet, uart) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<SOCKETS>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    let buffers = Buffers::new();
    let board = Networked::new(chip, stack, &buffers);
    executor::run([pin!(serve(chip, &board, Console(uart.port))), pin!(async { runner.run().await })])
}

async fn serve(chip: Lm3s6965, board: &impl Board, mut console: Console<Port>) -> Infallible {
    let mut agent = <Agent>::new(chip.now(), BootId(chip.random()), StreamId(chip.random()));
    console.started(board.reset_reason());
    let mut example = Example::new(chip, Duration::from_secs(1), |state| console.state(state));
    run(board, &Tls::new(), &mut example, &mut agent).await
}
