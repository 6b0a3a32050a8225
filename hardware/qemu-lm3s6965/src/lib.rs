//! The drivers of QEMU's machine `lm3s6965evb`: a Cortex-M3 with 256 KB of flash and 64 KB of RAM.
//!
//! They are written for the emulated machine: pins and clock gates, which it has not, are left alone.

#![no_std]

mod chip;
mod clock;
pub mod ethernet;
mod interrupts;
mod provisioning;
mod registers;
pub mod semihosting;
mod time_driver;
pub mod uart;
mod watchdog;

use protocol_core::time::Duration;

pub use chip::Lm3s6965;

/// How often the example sends its number: tests count them.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Starts the chip and its UART. To be called once.
pub fn start_uart() -> (Lm3s6965, uart::Uart) {
    (Lm3s6965::start(), uart::start())
}

/// Starts the chip, its Ethernet, and its UART for a person. To be called once.
pub fn start_ethernet() -> (Lm3s6965, ethernet::Ethernet, uart::Uart) {
    (Lm3s6965::start(), ethernet::start(), uart::start())
}
