//! The agent over plain TCP. No server takes that from a network: it is there to be measured beside `bare-tcp`.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::Board;
use agent_embedded::run::run;
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use firmware::chip::Chip as _;
use firmware::example::{self, Example};
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use qemu_lm3s6965::{Lm3s6965, PERIOD};

#[entry]
fn main() -> ! {
    let (chip, ethernet, _) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<SOCKETS>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    let buffers = Buffers::new();
    let board = Networked::new(chip, stack, &buffers);
    executor::run([pin!(serve(chip, &board)), pin!(async { runner.run().await })])
}

async fn serve(chip: Lm3s6965, board: &impl Board) -> Infallible {
    let mut agent: Agent = example::agent(&chip);
    let mut example = Example::new(chip, PERIOD, |_| {});
    run(board, &Plain, &mut example, &mut agent).await
}
