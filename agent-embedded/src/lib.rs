//! The device's side of the Holdfast protocol for microcontrollers: a queue in RAM, and the loop around
//! [`Pump`](protocol_core::pump::Pump) that empties it.
//!
//! No `std`, no allocation: every buffer is the caller's, every size a constant of its types. The queue lives
//! longer than a connection: what was not echoed is sent again on the next one.
//!
//! A microcontroller has no disk. Messages that wait in the queue are lost by a reset, and those from the server
//! come at least once: again, if the reset came before the echo.

#![no_std]
#![forbid(unsafe_code)]
// A peer's bytes must not be able to stop the device. Tests may panic: that is how they fail.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(test)]
extern crate std;

pub mod connection;
pub mod outbox;
