//! Devices that are not there: their keys, and how they connect.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use holdfast_tests::tls;
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::{Error, Result};

/// Over how many addresses of the loopback connections are spread: the ports of one would run out.
const SOURCES: usize = 8;

/// Reads at least `count` keys, and makes and adds those that are missing.
///
/// # Errors
/// The file can't be read or written, or is damaged.
pub(crate) fn keys(path: &Path, count: usize) -> Result<Vec<KeyPair>> {
    const END: &str = "-----END PRIVATE KEY-----";
    let mut text = fs::read_to_string(path).unwrap_or_default();
    let mut keys = text
        .split_inclusive(END)
        .filter(|pem| pem.contains(END))
        .take(count)
        .map(KeyPair::from_pem)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if keys.len() < count {
        while keys.len() < count {
            let key = tls::new_key();
            text.push_str(&key.serialize_pem());
            keys.push(key);
        }
        fs::write(path, text).map_err(Error::file(path))?;
    }
    Ok(keys)
}

/// A connection to `server`, from one of several addresses of the loopback.
///
/// # Errors
/// What the system said.
pub(crate) async fn connect(server: SocketAddr, index: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(2 + index % SOURCES).unwrap_or(2);
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Shakes hands by TLS with `key`.
///
/// # Errors
/// The handshake fails.
pub(crate) async fn secure(stream: TcpStream, key: &KeyPair, alpn: &str) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    Ok(TlsConnector::from(tls::client(key, alpn)).connect(name, stream).await?)
}
