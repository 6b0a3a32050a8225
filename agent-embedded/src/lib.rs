//! The device's side of the Holdfast protocol for microcontrollers: what a device keeps in RAM, and the loop around
//! [`Session`](protocol_core::session::Session) that brings it to the server.
//!
//! No `std`, no allocation: each size is a constant of a type, with a default, and what does not fit is refused when
//! the device is compiled. [`Agent`](agent::Agent) outlives connections: what was not echoed is sent again on the next
//! one, and a message that was taken is not delivered twice.
//!
//! A microcontroller has no disk. Messages that wait in RAM are lost by a reset, and those from the server come at
//! least once: again, if the reset came before the echo.
//!
//! A [`Board`](board::Board) gives clock, entropy, watchdog and reset, and what [connects](board::Connect) it the
//! transport; an [`Application`](application::Application) says what the device is there for; [`Agent::run`](agent::Agent::run) does the rest.
//!
//! [`Connection`](connection::Connection) is one session without its transport, for a loop of one's own.
//!
//! # Size
//!
//! `#[inline(never)]` stands where one copy of a function makes firmware smaller, or where what it makes would stand on
//! its caller's stack for as long as that runs; `cargo xtask sizes` measures both.

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

pub mod agent;
pub mod application;
pub mod board;
pub mod connection;
pub mod identity;
mod inbox;
pub mod line;
pub mod outbox;
pub mod run;
pub mod security;
#[cfg(feature = "tls")]
pub mod tls;
mod uptime;
mod watchdog;
