//! The agent over TLS, by Ethernet. UART 0 shows a person where it stands.

#![no_std]
#![no_main]

use core::pin::pin;

use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use firmware::chip::Chip as _;
use firmware::console::Console;
use firmware::example::serve_by_tls;
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use qemu_lm3s6965::PERIOD;

#[entry]
fn main() -> ! {
    let (chip, ethernet, uart) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<SOCKETS>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    let buffers = Buffers::new();
    let board = Networked::new(chip, stack, &buffers);
    executor::run([
        pin!(serve_by_tls(chip, &board, PERIOD, Console(uart.port))),
        pin!(async { runner.run().await }),
    ])
}
