//! The device's side of the Holdfast protocol for microcontrollers: what a device keeps in RAM, and the loop around
//! [`Pump`](protocol_core::pump::Pump) that brings it to the server.
//!
//! No `std`, no allocation: each size is a constant of a type, with a default, and what does not fit is refused when
//! the device is compiled. [`Agent`](agent::Agent) outlives connections: what was not echoed is sent again on the next
//! one, and a message that was taken is not delivered twice.
//!
//! A microcontroller has no disk. Messages that wait in RAM are lost by a reset, and those from the server come at
//! least once: again, if the reset came before the echo.
//!
//! ```
//! use agent_embedded::{agent::Agent, connection::{Connection, End, Event, INPUT_ROOM, Step}};
//! use embedded_io::{Read, ReadReady, Write};
//! use protocol_core::{code::CloseReason, message::{self, Endpoints, StreamId}, tag::Tag, time::Instant};
//!
//! fn run<T: Read + ReadReady + Write>(
//!     agent: &mut Agent,
//!     transport: T,
//!     now: impl Fn() -> Instant,
//!     sleep_until: impl Fn(Option<Instant>),
//! ) -> Result<(), End> {
//!     let (mut input, mut output) = ([0; INPUT_ROOM], [0; <Agent>::OUTPUT_ROOM]);
//!     let mut connection = Connection::open(now(), agent, transport, &mut input, &mut output)?;
//!     loop {
//!         match connection.poll(now(), agent)? {
//!             Step::Event(Event::Message(message)) => {
//!                 // Here the message is done, or put where it is not forgotten; then:
//!                 println!("{}: {:?}", message.kind, message.body);
//!                 connection.taken(agent);
//!             }
//!             Step::Event(Event::Notice(notice)) if notice.tag == Tag::ENDPOINTS => {
//!                 if let Ok(endpoints) = message::decode::<Endpoints>(notice.body) {
//!                     println!("the next key will be {}", endpoints.next);
//!                 }
//!             }
//!             Step::Event(_) | Step::Again => {}
//!             Step::Idle => sleep_until(connection.timeout()),
//!         }
//!     }
//! }
//!
//! /// Between two connections, beside a wait.
//! fn after(end: End, agent: &mut Agent, random: impl Fn() -> u64) {
//!     if let End::Closed { reason: CloseReason::Conflict, .. } = end {
//!         agent.outbox.begin_stream(StreamId(random()));
//!     }
//! }
//! ```

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
pub mod connection;
mod inbox;
pub mod outbox;
