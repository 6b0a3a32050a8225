//! The agent on a serial line: UART 0, at 115,200 baud, to a gateway.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::{Board, Clock as _};
use agent_embedded::run::run;
use agent_embedded::security::Plain;
use cortex_m_rt::entry;
use firmware::chip::Chip as _;
use firmware::example::Example;
use firmware::executor;
use firmware::wired::Wired;
use protocol_core::message::{BootId, StreamId};
use protocol_core::time::Duration;
use qemu_lm3s6965::Lm3s6965;

/// As much as a small chip has room for.
type SmallAgent = Agent<4, 64, 4, 256, 256>;

#[entry]
fn main() -> ! {
    let (chip, uart) = qemu_lm3s6965::start_uart();
    let board = Wired::new(chip, uart);
    executor::run([pin!(serve(chip, &board))])
}

async fn serve(chip: Lm3s6965, board: &impl Board) -> Infallible {
    let mut agent = SmallAgent::new(chip.now(), BootId(chip.random()), StreamId(chip.random()));
    let mut example = Example::new(chip, Duration::from_secs(1), |_| {});
    run(board, &Plain, &mut example, &mut agent).await
}
