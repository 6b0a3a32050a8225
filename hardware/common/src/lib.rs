//! What the firmware of all boards shares. A board adds its drivers, and wires them in a `main` of its own.

#![cfg_attr(target_os = "none", no_std)]

pub mod alarm;
pub mod console;
#[cfg(feature = "embassy-clock")]
pub mod embassy_clock;
#[cfg(feature = "entropy")]
pub mod entropy;
pub mod example;
pub mod executor;
#[cfg(feature = "flash")]
pub mod flash;
#[cfg(all(target_arch = "arm", target_os = "none"))]
mod memory;
#[cfg(feature = "network")]
pub mod network;
#[cfg(target_os = "none")]
mod panic;
pub mod retained;
pub mod stack;
pub mod uart;
pub mod wire;
