//! A board on a network: TCP by embassy-net, its address by DHCP, its server's by DNS.

use core::net::SocketAddr;

use agent_embedded::board::{Board, Clock, ResetReason};
use embassy_futures::yield_now;
use embassy_net::Stack;
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::Error;
use embassy_net::tcp::client::{TcpClient, TcpClientState, TcpConnection};
use embedded_io_async::{Error as _, ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect as _;
use protocol_core::time::Instant;

use crate::chip::{Chip, from_chip};

/// Room for what goes out and was not acknowledged, in bytes.
pub const SEND_ROOM: usize = 1024;

/// Room for what came and was not read, in bytes: the window that the server sees.
pub const RECEIVE_ROOM: usize = 2048;

/// The sockets that the network stack has: for DHCP, DNS, and the connection.
pub const SOCKETS: usize = 3;

/// The buffers of the one connection.
pub type Buffers = TcpClientState<1, SEND_ROOM, RECEIVE_ROOM>;

/// A chip whose connection goes over TCP. The stack's runner must be a task of its own.
pub struct Networked<'d, C> {
    chip: C,
    stack: Stack<'d>,
    client: TcpClient<'d, 1, SEND_ROOM, RECEIVE_ROOM>,
}

impl<'d, C> Networked<'d, C> {
    /// Joins a chip to its network.
    pub fn new(chip: C, stack: Stack<'d>, buffers: &'d Buffers) -> Self {
        Self { chip, stack, client: TcpClient::new(stack, buffers) }
    }
}

impl<C: Clock> Clock for Networked<'_, C> {
    fn now(&self) -> Instant {
        self.chip.now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        self.chip.sleep_until(at)
    }
}

impl<C: Chip> Board for Networked<'_, C> {
    type Transport<'a>
        = Connection<'a>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, address: &str) -> Result<Self::Transport<'a>, ErrorKind> {
        let (host, port) = address.rsplit_once(':').ok_or(ErrorKind::InvalidInput)?;
        let port = port.parse::<u16>().map_err(|_| ErrorKind::InvalidInput)?;
        self.stack.wait_config_up().await;
        let found = self.stack.dns_query(host, DnsQueryType::A).await;
        let address = *found.map_err(|_| ErrorKind::NotFound)?.first().ok_or(ErrorKind::NotFound)?;
        let connected = self.client.connect(SocketAddr::new(address.into(), port)).await;
        connected.map(Connection).map_err(|error| error.kind())
    }

    from_chip!();
}

/// A TCP connection.
pub struct Connection<'a>(TcpConnection<'a, 1, SEND_ROOM, RECEIVE_ROOM>);

impl ErrorType for Connection<'_> {
    type Error = Error;
}

impl Read for Connection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Error>> {
        self.0.read(buffer)
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<usize, Error>> {
        self.0.write(bytes)
    }

    /// Lets the stack send what was written. Its own flush waits until the peer has acknowledged all of it, which would
    /// be a round trip for each frame.
    async fn flush(&mut self) -> Result<(), Error> {
        yield_now().await;
        Ok(())
    }
}
