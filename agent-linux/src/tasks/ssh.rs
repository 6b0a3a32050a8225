//! `ssh`: joins a data connection to this device's own SSH server, byte by byte.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    data::{DataConnection, DataError, answer},
    progress::{Progress, tell},
};
use crate::tls::Connector;

/// How many bytes are carried at once, each way.
const ROOM: usize = 64 * 1024;

/// One session of an operator.
#[derive(Serialize, Deserialize)]
pub(super) struct Ssh {
    pub(super) data: DataConnection,
    /// Where the SSH server is: the configuration says so.
    pub(super) address: SocketAddr,
}

/// Why a session was none, or has ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    #[error(
        "{address}: no SSH server there ({error}); have it started (systemctl enable --now ssh), or correct [tasks.ssh] address in this device's agent.toml"
    )]
    NoSshServer { address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the connection to the SSH server broke: {0}")]
    Local(io::Error),
    #[error("the agent does not listen: {0}")]
    Agent(io::Error),
}

impl Ssh {
    /// Carries one session from its beginning to its end.
    pub(super) async fn run(self, connector: Result<Connector, DataError>) -> Result<String, SshError> {
        let connector = connector?;
        // Both at once: what the SSH server says first is there when the data connection is.
        let connect_server = async { Ok(self.data.connect(&connector).await?) };
        let (local, server) = tokio::try_join!(self.connect_local(), connect_server)?;
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let (mut from_local, mut to_local) = local.into_split();
        let data_broke = |error| SshError::Data(DataError::Broken(error));
        let outward = async {
            self.data.join(&mut to_server).await?;
            carry(&mut from_local, &mut to_server)
                .await
                .map_err(|broken| broken.of(SshError::Local, data_broke))
        };
        let inward = async {
            let early = answer(&mut from_server).await?;
            tell(&Progress::Running).map_err(SshError::Agent)?;
            to_local.write_all(&early).await.map_err(SshError::Local)?;
            carry(&mut from_server, &mut to_local)
                .await
                .map_err(|broken| broken.of(data_broke, SshError::Local))
        };
        tokio::try_join!(outward, inward)?;
        Ok("the session has ended".to_owned())
    }

    async fn connect_local(&self) -> Result<TcpStream, SshError> {
        let connected = timeout(self.data.step, TcpStream::connect(self.address)).await;
        let prepared = connected.map_err(io::Error::from).and_then(|connected| {
            let stream = connected?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        prepared.map_err(|error| SshError::NoSshServer { address: self.address, error })
    }
}

/// Where a way broke.
#[derive(Debug)]
enum Broken {
    Source(io::Error),
    Target(io::Error),
}

impl Broken {
    fn of(self, source: fn(io::Error) -> SshError, target: fn(io::Error) -> SshError) -> SshError {
        match self {
            Self::Source(error) => source(error),
            Self::Target(error) => target(error),
        }
    }
}

/// Carries all bytes one way, and then their end. Nothing is read before what came is on its way.
async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(from: &mut R, to: &mut W) -> Result<(), Broken> {
    let mut room = vec![0; ROOM];
    loop {
        let count = from.read(&mut room).await.map_err(Broken::Source)?;
        if count == 0 {
            return to.shutdown().await.map_err(Broken::Target);
        }
        let bytes = room.get(..count).unwrap_or_default();
        to.write_all(bytes).await.map_err(Broken::Target)?;
        to.flush().await.map_err(Broken::Target)?;
    }
}
