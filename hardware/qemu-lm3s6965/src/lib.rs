//! The drivers of QEMU's machine `lm3s6965evb`: a Cortex-M3 with 256 KB of flash and 64 KB of RAM.
//!
//! They are written for the emulated machine: pins and clock gates, which it has not, are left alone.

#![no_std]

mod board;
mod clock;
mod ethernet;
mod interrupts;
mod provisioning;
mod registers;
pub mod semihosting;
mod time_driver;
mod uart;
mod watchdog;

use protocol_core::time::Duration;

pub use board::Lm3s6965;
pub use ethernet::Ethernet;
pub use uart::{Port, Uart};

/// How often the example sends its number: tests count them.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Starts the board, and its UART. To be called once.
pub fn start() -> (Lm3s6965, Uart) {
    (Lm3s6965::start(), uart::start())
}

/// Starts the board, its UART for a person, and its Ethernet. To be called once.
pub fn start_networked() -> (Lm3s6965, Port, Ethernet) {
    let (board, uart) = start();
    (board, uart.port, ethernet::start())
}
