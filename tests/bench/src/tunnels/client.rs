//! An operator's end of a tunnel.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::service::GREETING;

/// How long an operator waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 4 * 1024;

/// How an operator comes to a device.
#[derive(Clone)]
pub(crate) enum Way {
    /// By a port of the operator's own machine, or the device's.
    Port(SocketAddr),
    /// By the API of the server, which hands its connection over.
    Api { socket: PathBuf, device: String },
    /// The same by TLS, as an operator elsewhere.
    Elsewhere { server: SocketAddr, device: String, config: Arc<ClientConfig> },
}

/// A connection to a device.
pub(crate) enum Stream {
    /// By a port.
    Tcp(TcpStream),
    /// By the API.
    Unix(UnixStream),
    /// By the API, from elsewhere.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Way {
    /// Connects, and waits for the first byte that the device says.
    ///
    /// # Errors
    /// There is no connection.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let mut stream = match self {
            Self::Port(address) => Stream::Tcp(connected(*address)?),
            Self::Api { socket, device } => {
                let mut stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                upgrade(&mut stream, device)?;
                Stream::Unix(stream)
            }
            Self::Elsewhere { server, device, config } => {
                let name = ServerName::try_from("holdfast").map_err(io::Error::other)?;
                let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                let mut stream = Box::new(StreamOwned::new(tls, connected(*server)?));
                upgrade(&mut stream, device)?;
                Stream::Tls(stream)
            }
        };
        stream.read_exact(&mut [0])?;
        Ok(stream)
    }

    /// The same, up to the end of the greeting.
    ///
    /// # Errors
    /// There is no connection.
    pub(crate) fn greeted(&self) -> io::Result<Stream> {
        let mut stream = self.connect()?;
        stream.read_exact(&mut [0; GREETING.len() - 1])?;
        Ok(stream)
    }
}

fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks the server for a session, and reads no byte more than its answer.
fn upgrade(stream: &mut (impl Read + Write), device: &str) -> io::Result<()> {
    let request = format!(
        "POST /api/v1/devices/{device}/ssh HTTP/1.1\r\nhost: holdfast\r\nconnection: upgrade\r\nupgrade: holdfast-ssh\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => {
            let mut body = [0; 512];
            let length = stream.read(&mut body).unwrap_or_default();
            let said = [&head, body.get(..length).unwrap_or_default()].concat();
            Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()))
        }
    }
}

impl Stream {
    /// The same connection, for another thread.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(room),
            Self::Unix(stream) => stream.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
