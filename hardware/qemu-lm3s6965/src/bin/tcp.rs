//! The agent over plain TCP. No server takes that from a network: it is there to be measured beside `bare-tcp`.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::application::Application;
use agent_embedded::board::{Board, Clock as _};
use agent_embedded::outbox::Outbox;
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use firmware::chip::Chip as _;
use firmware::example;
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use protocol_core::message::{Facts, Kind, Message};
use protocol_core::time::Instant;
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
    agent.run(board, &Plain, &mut Sensor { chip, next_at: chip.now() }).await
}

/// The least that a device does: a message each [`PERIOD`]. What comes is taken, and nothing done with it.
struct Sensor {
    chip: Lm3s6965,
    next_at: Instant,
}

impl Application for Sensor {
    async fn message(&mut self, _: &Message<'_>) {}

    async fn next(&mut self) {
        self.chip.sleep_until(self.next_at).await;
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        self.next_at = self.next_at.after(PERIOD);
        // It is only called if there is room.
        _ = outbox.push(time, Kind::TEXT, b"reading");
    }

    fn facts(&self) -> Facts<'_> {
        Facts::default()
    }
}
