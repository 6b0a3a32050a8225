//! What joins a microcontroller to its server: TCP, or a serial line.

use std::{cell::RefCell, net::SocketAddr, sync::Arc, thread, time::Duration};

use agent_embedded::{
    board::{Board, Connect},
    line::{Line, Room},
};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use protocol_core::serial::Retries;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
};

use super::{Shared, host::Host};
use crate::serial_line::SerialLine;

/// How often a wire is looked at whether its device is still there.
const LOOK: Duration = Duration::from_millis(20);

/// What connects a board, until that is reset.
pub(super) trait Cable: Connect {
    /// Forgets what a reset of the board forgets.
    fn reset(&mut self) {}
}

/// The network of this machine.
pub(super) struct Network;

impl Cable for Network {}

impl Connect for Network {
    type Transport<'a> = Tcp;

    async fn connect(&self, address: &str) -> Result<Tcp, ErrorKind> {
        let address: SocketAddr = address.parse().map_err(|_| ErrorKind::InvalidInput)?;
        TcpStream::connect(address).await.map(Tcp).map_err(|_| ErrorKind::ConnectionRefused)
    }
}

/// A connection over TCP.
#[derive(Debug)]
pub(super) struct Tcp(TcpStream);

impl ErrorType for Tcp {
    type Error = ErrorKind;
}

impl Read for Tcp {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(buffer).await.map_err(|_| ErrorKind::ConnectionReset)
    }
}

impl Write for Tcp {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await.map_err(|_| ErrorKind::ConnectionReset)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// A serial line, and the room for a link over it.
pub(super) struct Wire<'l> {
    board: Host<'l>,
    line: &'l SerialLine,
    /// What came over the line, and what of it was not read yet.
    came: Mutex<(UnboundedReceiver<Vec<u8>>, Vec<u8>)>,
    room: RefCell<Room>,
}

/// Runs a device on this line, as long as `run` does. Nobody else reads the line meanwhile, and nobody does afterwards.
pub(super) fn with_uart(shared: &Shared, line: &Arc<SerialLine>, run: impl FnOnce(Wire<'_>)) {
    let (sender, receiver) = unbounded_channel();
    thread::scope(|scope| {
        scope.spawn(|| listen(line, sender));
        let came = Mutex::new((receiver, Vec::new()));
        run(Wire { board: Host(shared), line, came, room: RefCell::new(Room::new(Retries::DEFAULT)) });
    });
}

/// Takes what comes over the line, until nobody wants it.
fn listen(line: &SerialLine, sender: UnboundedSender<Vec<u8>>) {
    while !sender.is_closed() {
        let bytes = line.read(LOOK);
        if !bytes.is_empty() {
            // Where nobody wants it any more, it was lost.
            drop(sender.send(bytes));
        }
    }
}

impl Cable for Wire<'_> {
    fn reset(&mut self) {
        self.room = RefCell::new(Room::new(Retries::DEFAULT));
    }
}

impl<'l> Connect for Wire<'l> {
    type Transport<'a>
        = Line<'a, &'a Wire<'l>, &'a Host<'l>>
    where
        Self: 'a;

    async fn connect(&self, _: &str) -> Result<Self::Transport<'_>, ErrorKind> {
        Line::open(self, &self.board, self.board.random() as u32, &self.room).await
    }
}

impl ErrorType for &Wire<'_> {
    type Error = ErrorKind;
}

impl Read for &Wire<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut came = self.came.lock().await;
        let (receiver, rest) = &mut *came;
        if rest.is_empty() {
            *rest = receiver.recv().await.ok_or(ErrorKind::BrokenPipe)?;
        }
        let count = buffer.len().min(rest.len());
        buffer.iter_mut().zip(rest.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

impl Write for &Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.line.write(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
