//! The agent on a serial line: UART 0, at 115,200 baud, to a gateway.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::{Board, Connect};
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use firmware::example::{self, Example};
use firmware::executor;
use firmware::wire::Wire;
use qemu_lm3s6965::PERIOD;

/// As much as a small chip has room for.
type SmallAgent = Agent<4, 64, 4, 256, 256>;

#[entry]
fn main() -> ! {
    let (board, uart) = qemu_lm3s6965::start();
    let wire = Wire::new(&board, uart);
    executor::run([pin!(serve(&board, &wire))])
}

async fn serve(board: &impl Board, wire: &impl Connect) -> Infallible {
    let mut agent: SmallAgent = example::agent(board);
    let mut example = Example::new(board, PERIOD, |_| {});
    agent.run(board, wire, &Plain, &mut example).await
}
