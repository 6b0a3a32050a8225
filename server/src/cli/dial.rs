//! From the addresses of a server to a TLS connection.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::error::CliError;
use crate::{
    http,
    tls::{ClientError, Connector},
};

/// How long each of connecting and the TLS handshake may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Tries all addresses in turn. Gives the connection, and the address that served.
pub(super) async fn dial<'a>(
    connector: &Connector,
    addresses: &'a [String],
) -> Result<(http::Stream, &'a str), CliError> {
    let mut last =
        CliError::NotReached { server: "the server".to_owned(), reason: "it has no address".to_owned() };
    for address in addresses {
        match connect(connector, address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => {
                let (server, reason) = (address.clone(), error.to_string());
                last = match error.kind() {
                    io::ErrorKind::PermissionDenied => CliError::Untrusted { server, reason },
                    _ => CliError::NotReached { server, reason },
                };
            }
        }
    }
    Err(last)
}

async fn connect(connector: &Connector, address: &str) -> io::Result<http::Stream> {
    let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
    // The system tries all addresses that a name has.
    let stream = timeout(TIMEOUT, TcpStream::connect(address)).await.map_err(too_slow)??;
    stream.set_nodelay(true)?;
    let stream = timeout(TIMEOUT, connector.connect(stream)).await.map_err(too_slow)??;
    Ok(Box::new(stream))
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::failed(error.to_string())
    }
}
