//! The agent over plain TCP. No server takes that from a network: it is there to be measured beside `bare-tcp`.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::application::Application;
use agent_embedded::board::{Board, Clock, Connect};
use agent_embedded::outbox::Outbox;
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use firmware::network::Room;
use firmware::{example, executor};
use protocol_core::message::{Facts, Kind, Message};
use protocol_core::time::Instant;
use qemu_lm3s6965::PERIOD;

#[entry]
fn main() -> ! {
    let (board, _, ethernet) = qemu_lm3s6965::start_networked();
    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([pin!(serve(&board, &network)), pin!(stack)])
}

async fn serve(board: &impl Board, network: &impl Connect) -> Infallible {
    let mut agent: Agent = example::agent(board);
    agent.run(board, network, &Plain, &mut Sensor { clock: board, next_at: board.now() }).await
}

/// The least that a device does: a message each [`PERIOD`]. What comes is taken, and nothing done with it.
struct Sensor<C> {
    clock: C,
    next_at: Instant,
}

impl<C: Clock> Application for Sensor<C> {
    async fn message(&mut self, _: &Message<'_>) {}

    async fn next(&mut self) {
        self.clock.sleep_until(self.next_at).await;
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
