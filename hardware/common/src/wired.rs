//! A board on a serial line, behind a gateway.

use agent_embedded::board::{Board, Clock, ResetReason};
use agent_embedded::line::Line;
use embedded_io_async::ErrorKind;
use protocol_core::serial::Retries;
use protocol_core::time::Instant;

use crate::chip::{Chip, from_chip};
use crate::uart::{Port, Uart};

/// A chip whose connection goes over a UART.
#[derive(Debug)]
pub struct Wired<C, P, const SIZE: usize> {
    /// The chip.
    pub chip: C,
    /// Its line to the gateway.
    pub uart: Uart<P, SIZE>,
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
        = Line<&'a Uart<P, SIZE>, C>
    where
        Self: 'a;

    async fn connect(&self, _: &str) -> Result<Self::Transport<'_>, ErrorKind> {
        let nonce = self.chip.random() as u32;
        Line::open(&self.uart, self.chip, nonce, Retries::default()).await
    }

    from_chip!();
}
