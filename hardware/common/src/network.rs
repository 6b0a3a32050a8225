//! A network: TCP by embassy-net, the device's address by DHCP, its server's by DNS.

use core::convert::Infallible;
use core::net::SocketAddr;

use agent_embedded::board::{Board, Connect};
use embassy_futures::yield_now;
use embassy_net::dns::DnsQueryType;
use embassy_net::driver::Driver;
use embassy_net::tcp::Error;
use embassy_net::tcp::client::{TcpClient, TcpClientState, TcpConnection};
use embassy_net::{Config, Stack, StackResources};
use embedded_io_async::{Error as _, ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect as _;

/// Room for what goes out and was not acknowledged, in bytes.
pub const SEND_ROOM: usize = 1024;

/// Room for what came and was not read, in bytes: the window that the server sees.
pub const RECEIVE_ROOM: usize = 2048;

/// The sockets that the network stack has: for DHCP, DNS, and the connection.
const SOCKETS: usize = 3;

/// What a network works in.
pub struct Room {
    sockets: StackResources<SOCKETS>,
    buffers: TcpClientState<1, SEND_ROOM, RECEIVE_ROOM>,
}

impl Room {
    /// Room for one connection.
    pub const fn new() -> Self {
        Self { sockets: StackResources::new(), buffers: TcpClientState::new() }
    }

    /// The network that `ethernet` leads to, and what keeps it going: a task of its own.
    pub fn open<'r>(
        &'r mut self,
        board: &impl Board,
        ethernet: impl Driver + 'r,
    ) -> (Network<'r>, impl Future<Output = Infallible> + 'r) {
        let config = Config::dhcpv4(Default::default());
        let (stack, mut runner) = embassy_net::new(ethernet, config, &mut self.sockets, board.random());
        (Network { stack, client: TcpClient::new(stack, &self.buffers) }, async move { runner.run().await })
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// What connects a board by TCP.
pub struct Network<'r> {
    stack: Stack<'r>,
    client: TcpClient<'r, 1, SEND_ROOM, RECEIVE_ROOM>,
}

impl Connect for Network<'_> {
    type Transport<'a>
        = Connection<'a>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, address: &str) -> Result<Connection<'a>, ErrorKind> {
        let (host, port) = address.rsplit_once(':').ok_or(ErrorKind::InvalidInput)?;
        let port = port.parse::<u16>().map_err(|_| ErrorKind::InvalidInput)?;
        self.stack.wait_config_up().await;
        let found = self.stack.dns_query(host, DnsQueryType::A).await;
        let address = *found.map_err(|_| ErrorKind::NotFound)?.first().ok_or(ErrorKind::NotFound)?;
        let connected = self.client.connect(SocketAddr::new(address.into(), port)).await;
        connected.map(Connection).map_err(|error| error.kind())
    }
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
