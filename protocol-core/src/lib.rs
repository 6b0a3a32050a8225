//! The Holdfast protocol: tags, frames, messages and the session, for every host from the
//! microcontroller to the server.
//!
//! The crate needs neither `std` nor an allocator, reads no clock and opens no socket. Its host owns
//! the bytes, the time and the transport, and drives it.
//!
//! # How a session is driven
//!
//! This is the whole contract; every host keeps it in a short, plain loop of its own.
//!
//! 1. **Input first.** Pass what came to [`Session::input`](session::Session::input), again and again,
//!    until it uses up nothing more. Each call gives at most one event, which borrows the bytes and the
//!    session: be done with it before the next call. Keep the bytes that were not used up, and pass
//!    them again with more behind them.
//! 2. **Then output.** Call [`Session::output`](session::Session::output) until it writes nothing, and send
//!    what it wrote. Only here is a silent peer judged: so that a host that wakes late hears its peer first.
//! 3. **Then wait** for bytes, for work of the host's own, or until
//!    [`Session::timeout`](session::Session::timeout), whichever comes first; and begin again.
//!
//! A message is answered by [`Session::echo`](session::Session::echo) once it is on disk, and not before. An
//! error of `input` or `output` ends the connection. Time never runs backwards between two calls.
//!
//! ```
//! use std::{io::{self, Read, Write}, net::TcpStream};
//! use protocol_core::{
//!     message::{BootId, Hello, OLDEST_VERSION, StreamId, VERSION, Window},
//!     code::ConnectionKind,
//!     session::{Client, Event, Session},
//!     time::{Duration, Instant},
//! };
//!
//! fn run(mut stream: TcpStream, now: impl Fn() -> Instant) -> Result<(), Box<dyn std::error::Error>> {
//!     let (mut input, mut filled, mut output) = ([0; 1024], 0, [0; 1024]);
//!     let hello = Hello {
//!         oldest_version: OLDEST_VERSION,
//!         newest_version: VERSION,
//!         kind: ConnectionKind::Control,
//!         boot: BootId(1),
//!         stream: StreamId(1),
//!         max_frame: 1024,
//!         window: Window { messages: 1, bytes: 1024 },
//!     };
//!     let mut session = Session::<Client>::client(1024);
//!     let length = session.open(now(), Duration::from_secs(10), &hello, &mut output)?;
//!     stream.write_all(&output[..length])?;
//!     loop {
//!         loop {
//!             let (used, event) = session.input(now(), &input[..filled])?;
//!             let mut stored = None;
//!             match event {
//!                 Some(Event::Welcome(welcome)) => println!("known as {}", welcome.name),
//!                 Some(Event::Message(message)) => {
//!                     // Here the message goes to disk.
//!                     stored = Some((message.stream, message.number));
//!                 }
//!                 Some(Event::Closed(close)) => return Err(close.detail.as_str().into()),
//!                 _ => {}
//!             }
//!             if let Some((stream, number)) = stored {
//!                 session.echo(stream, number);
//!             }
//!             if used == 0 {
//!                 break;
//!             }
//!             input.copy_within(used..filled, 0);
//!             filled -= used;
//!         }
//!         while let length @ 1.. = session.output(now(), &mut output)? {
//!             stream.write_all(&output[..length])?;
//!         }
//!         let limit = session.timeout().map(|due| due.since(now()).into());
//!         stream.set_read_timeout(limit.map(|wait: std::time::Duration| wait.max(std::time::Duration::from_millis(1))))?;
//!         match stream.read(&mut input[filled..]) {
//!             Ok(0) => return Ok(()),
//!             Ok(count) => filled += count,
//!             Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//! }
//! ```

//! # Size
//!
//! `#[inline(never)]` stands where one copy of a function makes firmware smaller, which `cargo xtask sizes` measures,
//! and no server slower, which `cargo xtask codec` and `cargo xtask bench` do.

#![no_std]
#![forbid(unsafe_code)]
// A peer's bytes must not be able to stop the host. Tests may panic: that is how they fail.
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

pub mod alpn;
pub mod backoff;
pub mod classic;
pub mod code;
pub mod escape;
mod fixed;
pub mod frame;
pub mod h264;
pub mod invitation;
pub mod message;
mod narrow;
pub mod provisioning;
mod raw;
pub mod serial;
pub mod session;
pub mod tag;
pub mod task;
pub mod time;
mod timer;
pub mod window;
