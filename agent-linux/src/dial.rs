//! From an address to a TLS connection, each step with its deadline.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::TcpFastOpenConnect};
use protocol_core::message::Pin;
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use crate::tls::{Connector, Stream};

/// How long the kernel waits for a peer to confirm what was sent, before it gives the connection up.
const UNCONFIRMED: Duration = Duration::from_secs(40);

/// A step on the way to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finding the addresses of a name.
    Resolve,
    /// Connecting.
    Connect,
    /// The TLS handshake.
    Handshake,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resolve => "finding the address",
            Self::Connect => "connecting",
            Self::Handshake => "the TLS handshake",
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A step failed.
    #[error("{address}: {step} failed: {error}")]
    Failed {
        /// Where to.
        address: String,
        /// Which step.
        step: Step,
        /// Why.
        error: io::Error,
    },
    /// A step took too long.
    #[error("{address}: {step} took longer than {} s", limit.as_secs_f64())]
    TimedOut {
        /// Where to.
        address: String,
        /// Which step.
        step: Step,
        /// How long it may take.
        limit: Duration,
    },
    /// The address is none.
    #[error("{address}: expected an address and a port, such as fleet.example.org:55223")]
    Malformed {
        /// What came instead.
        address: String,
    },
}

impl DialError {
    /// Whether a server is there, but shows a key that this device does not trust.
    pub fn is_untrusted(&self) -> bool {
        matches!(self, Self::Failed { step: Step::Handshake, error, .. }
            if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A connection to a server that has shown one of the keys that this device trusts.
pub struct Connected {
    /// The bytes inside TLS.
    pub stream: Stream,
    /// The pin of the server's key.
    pub pin: Pin,
    /// Where the server is.
    pub server: SocketAddr,
}

/// Tries all that `address` (`host:port`) stands for, in turn. It is looked up anew each time: addresses change.
///
/// # Errors
/// [`DialError`] of the last that was tried.
pub async fn dial(connector: &Connector, address: &str, limit: Duration) -> Result<Connected, DialError> {
    let mut last = None;
    for server in resolve(address, limit).await? {
        match connect(connector, address, server, limit).await {
            Ok(connected) => return Ok(connected),
            Err(error) => {
                tracing::debug!(%server, %error, "no connection");
                last = Some(error);
            }
        }
    }
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(last.unwrap_or_else(|| DialError::Failed {
        address: address.to_owned(),
        step: Step::Resolve,
        error: nothing(),
    }))
}

async fn resolve(address: &str, limit: Duration) -> Result<Vec<SocketAddr>, DialError> {
    // What is no name needs no resolver, which may not be there yet.
    if let Ok(server) = address.parse() {
        return Ok(vec![server]);
    }
    let malformed = || DialError::Malformed { address: address.to_owned() };
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = in_time(address, Step::Resolve, limit, lookup_host((host, port))).await?;
    Ok(found.collect())
}

async fn connect(
    connector: &Connector,
    address: &str,
    server: SocketAddr,
    limit: Duration,
) -> Result<Connected, DialError> {
    let stream = in_time(address, Step::Connect, limit, open(server)).await?;
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%server, %error, "the connection could not be prepared");
    }
    let (stream, pin) = in_time(address, Step::Handshake, limit, connector.connect(stream)).await?;
    Ok(Connected { stream, pin, server })
}

/// Connects. A server that has handed out a cookie for it is sent the first words with the first packet, when there are
/// any (TCP Fast Open, RFC 7413): then this returns at once, and what becomes of it shows in the handshake.
async fn open(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Err(error) = setsockopt(&socket, TcpFastOpenConnect, &true) {
        tracing::debug!(%server, %error, "the system has no TCP Fast Open");
    }
    socket.connect(server).await
}

/// Small frames go out at once, and what was sent to a dead peer does not wait for ever.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNCONFIRMED))
}

async fn in_time<T>(
    address: &str,
    step: Step,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, DialError> {
    let address = address.to_owned();
    match timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(DialError::Failed { address, step, error }),
        Err(_) => Err(DialError::TimedOut { address, step, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn addresses_are_read() {
        let limit = Duration::from_secs(5);
        let resolved = async |address| resolve(address, limit).await.map(|found| found[0].to_string());
        assert_eq!(resolved("127.0.0.1:5").await.unwrap(), "127.0.0.1:5");
        assert_eq!(resolved("[::1]:5").await.unwrap(), "[::1]:5");
        assert_eq!(resolved("::1:5").await.unwrap(), "[::1]:5");
        assert!(resolved("localhost:5").await.unwrap().ends_with(":5"));
        for wrong in ["", "host", "host:", "host:99999"] {
            assert!(matches!(resolved(wrong).await, Err(DialError::Malformed { .. })), "{wrong}");
        }
    }
}
