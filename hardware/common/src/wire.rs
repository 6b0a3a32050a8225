//! A serial line to a gateway.

use core::cell::RefCell;

use agent_embedded::board::{Board, Connect};
use agent_embedded::line::{Line, Room};
use embedded_io_async::ErrorKind;
use protocol_core::serial::Retries;

use crate::uart::{Port, Uart};

/// What connects a board by a UART.
#[derive(Debug)]
pub struct Wire<'b, B, P, const SIZE: usize> {
    board: &'b B,
    uart: Uart<P, SIZE>,
    room: RefCell<Room>,
}

impl<'b, B, P, const SIZE: usize> Wire<'b, B, P, SIZE> {
    /// The line from `board` to its gateway.
    pub const fn new(board: &'b B, uart: Uart<P, SIZE>) -> Self {
        Self { board, uart, room: RefCell::new(Room::new(Retries::DEFAULT)) }
    }
}

impl<'b, B: Board, P: Port, const SIZE: usize> Connect for Wire<'b, B, P, SIZE> {
    type Transport<'a>
        = Line<'a, &'a Uart<P, SIZE>, &'b B>
    where
        Self: 'a;

    async fn connect(&self, _: &str) -> Result<Self::Transport<'_>, ErrorKind> {
        let nonce = self.board.random() as u32;
        Line::open(&self.uart, self.board, nonce, &self.room).await
    }
}
