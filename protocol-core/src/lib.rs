//! The Holdfast protocol: tags, frames, messages and the session, for every host from the
//! microcontroller to the server.

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

#[cfg(test)]
extern crate std;

pub mod classic;
pub mod frame;
pub mod serial;
pub mod tag;
pub mod time;
