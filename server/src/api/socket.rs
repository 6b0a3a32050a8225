//! The Unix socket of the API: one server for each data directory, and the peer's user from the kernel.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

use super::peer::Peer;

/// The name of the socket in the data directory.
pub const SOCKET: &str = "api.sock";

/// How long to pause when the system can't accept more.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another server answers on it.
    #[error(
        "another server runs on {path}: stop it with `holdfast stop --data {path}`, or choose another --data",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// The socket can't be made.
    #[error("can't listen on {}: {source}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct ApiListener {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it can't be removed, the next server does it.
        let _ = fs::remove_file(&self.0);
    }
}

impl ApiListener {
    /// Listens on the socket in this data directory. A socket that a dead server left is replaced.
    ///
    /// # Errors
    /// [`SocketError`] if a server answers on it, or it can't be made.
    pub fn bind(data: &Path) -> Result<Self, SocketError> {
        let path = data.join(SOCKET);
        let failed = |source| SocketError::Listen { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => {
                if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                    return Err(SocketError::InUse(data.to_owned()));
                }
                fs::remove_file(&path).map_err(failed)?;
            }
            Ok(_) => {
                let reason = "something else than a socket is there: move it away";
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // The data directory is closed to others, so nobody gets in before the mode is set.
        let listener = UnixListener::bind(&path).map_err(|error| failed(with_hint(error)))?;
        let file = SocketFile(path.clone());
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    async fn accept_one(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = Peer::Local { uid: stream.peer_cred()?.uid() };
        Ok((stream, peer))
    }
}

/// A path that no socket can have is told as what it is: the kernel's limit is 107 bytes.
fn with_hint(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::new(
            error.kind(),
            "its path is too long for a socket: choose a --data with a shorter one",
        ),
        _ => error,
    }
}

impl Listener for ApiListener {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.accept_one().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection to the API could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Peer::Local { uid: rustix::process::geteuid().as_raw() })
    }
}
