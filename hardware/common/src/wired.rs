//! A board on a serial line, behind a gateway.

use core::cell::RefCell;

use agent_embedded::board::{Board, Clock, ResetReason};
use agent_embedded::line::{Line, Room};
use embedded_io_async::ErrorKind;
use protocol_core::serial::Retries;
use protocol_core::time::Instant;

use crate::chip::{Chip, from_chip};
use crate::uart::{Port, Uart};

/// A chip whose connection goes over a UART.
#[derive(Debug)]
pub struct Wired<C, P, const SIZE: usize> {
    chip: C,
    uart: Uart<P, SIZE>,
    room: RefCell<Room>,
}

impl<C, P, const SIZE: usize> Wired<C, P, SIZE> {
    /// Joins a chip to its line to the gateway.
    pub const fn new(chip: C, uart: Uart<P, SIZE>) -> Self {
        Self { chip, uart, room: RefCell::new(Room::new(Retries::DEFAULT)) }
    }
}

impl<C: Clock, P, const SIZE: usize> Clock for Wired<C, P, SIZE> {
    fn now(&self) -> Instant {
        self.chip.now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        self.chip.sleep_until(at)
    }
}

impl<C: Chip, P: Port, const SIZE: usize> Board for Wired<C, P, SIZE> {
    type Transport<'a>
        = Line<'a, &'a Uart<P, SIZE>, C>
    where
        Self: 'a;

    async fn connect(&self, _: &str) -> Result<Self::Transport<'_>, ErrorKind> {
        let nonce = self.chip.random() as u32;
        Line::open(&self.uart, self.chip, nonce, &self.room).await
    }

    from_chip!();
}
