//! The agent on a serial line: UART 0, at 115,200 baud, to a gateway.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::Board;
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use firmware::example::{self, Example};
use firmware::executor;
use firmware::wired::Wired;
use qemu_lm3s6965::{Lm3s6965, PERIOD};

/// As much as a small chip has room for.
type SmallAgent = Agent<4, 64, 4, 256, 256>;

#[entry]
fn main() -> ! {
    let (chip, uart) = qemu_lm3s6965::start_uart();
    let board = Wired::new(chip, uart);
    executor::run([pin!(serve(chip, &board))])
}

async fn serve(chip: Lm3s6965, board: &impl Board) -> Infallible {
    let mut agent: SmallAgent = example::agent(&chip);
    let mut example = Example::new(chip, PERIOD, |_| {});
    agent.run(board, &Plain, &mut example).await
}
