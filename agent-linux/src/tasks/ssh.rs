//! `ssh`: joins a data connection to this device's own SSH server, byte by byte.

use std::{io, net::SocketAddr, time::Duration};

use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded, HEADER_LENGTH},
    message::{self, Body as _, Close, Join, Secret, TaskId},
    session::{OPENING_MAX_FRAME, ProtocolError},
    tag::Tag,
};
use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::progress::{Progress, tell};
use crate::{
    dial::{DialError, dial},
    identity::{Identity, IdentityError},
    tls::{Connector, Protocol, SetupError, Stream},
};

/// How long the server may take to answer a `JOIN`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be silent before the kernel asks whether its peer is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// How many bytes are carried at once, each way.
const ROOM: usize = 64 * 1024;

/// One session of an operator.
#[derive(Serialize, Deserialize)]
pub(super) struct Ssh {
    pub(super) task: u64,
    /// What shows that the connection is the task's.
    pub(super) key: Secret,
    pub(super) identity: Identity,
    /// Where the agent is connected: it is tried first.
    pub(super) server: String,
    /// How long each step towards the server, and towards the SSH server, may take.
    pub(super) step: Duration,
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
    Identity(#[from] IdentityError),
    #[error(transparent)]
    NoTls(#[from] SetupError),
    #[error("no data connection: {0}")]
    Unreachable(#[from] DialError),
    #[error("the server does not take the data connection: {detail} ({reason})")]
    TurnedAway { reason: CloseReason, detail: String },
    #[error("the server has not answered the data connection within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("the data connection broke: {}", in_words(.0))]
    Data(io::Error),
    #[error("the connection to the SSH server broke: {0}")]
    Local(io::Error),
    #[error("the agent does not listen: {0}")]
    Agent(io::Error),
}

impl Ssh {
    /// Carries one session from its beginning to its end.
    pub(super) async fn run(self) -> Result<String, SshError> {
        // Both at once: what the SSH server says first is there when the data connection is.
        let (local, server) = tokio::try_join!(self.connect_local(), self.connect_server())?;
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let (mut from_local, mut to_local) = local.into_split();
        let outward = async {
            self.join(&mut to_server).await.map_err(SshError::Data)?;
            carry(&mut from_local, &mut to_server)
                .await
                .map_err(|broken| broken.of(SshError::Local, SshError::Data))
        };
        let inward = async {
            let answered = timeout(ANSWER_TIMEOUT, answer(&mut from_server)).await;
            let early = answered.unwrap_or(Err(SshError::NoAnswer))?;
            tell(&Progress::Running).map_err(SshError::Agent)?;
            to_local.write_all(&early).await.map_err(SshError::Local)?;
            carry(&mut from_server, &mut to_local)
                .await
                .map_err(|broken| broken.of(SshError::Data, SshError::Local))
        };
        tokio::try_join!(outward, inward)?;
        Ok("the session has ended".to_owned())
    }

    async fn connect_local(&self) -> Result<TcpStream, SshError> {
        let connected = timeout(self.step, TcpStream::connect(self.address)).await;
        let prepared = connected.map_err(io::Error::from).and_then(|connected| {
            let stream = connected?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        prepared.map_err(|error| SshError::NoSshServer { address: self.address, error })
    }

    async fn connect_server(&self) -> Result<Stream, SshError> {
        let trusted = [self.identity.current, self.identity.next];
        let connector = Connector::new(&self.identity.key.pair()?, &trusted, Protocol::Data)?;
        let mut last = None;
        let others = self.identity.targets().into_iter().filter(|address| *address != self.server);
        for address in std::iter::once(self.server.clone()).chain(others) {
            match dial(&connector, &address, self.step).await {
                Ok(connected) => {
                    prepare(connected.stream.get_ref().0.get_ref());
                    return Ok(connected.stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(DialError::Malformed { address: self.server.clone() }).into())
    }

    /// Says which task's bytes follow. The answer need not be awaited for that.
    async fn join<W: AsyncWrite + Unpin>(&self, to_server: &mut W) -> io::Result<()> {
        let join = Join { task: TaskId(self.task), key: self.key };
        let mut room = [0; HEADER_LENGTH + Join::MAX_LENGTH];
        let length = message::encode(&join, OPENING_MAX_FRAME, &mut room).map_err(io::Error::other)?;
        to_server.write_all(room.get(..length).unwrap_or_default()).await?;
        to_server.flush().await
    }
}

/// An operator who does not read for an hour holds up the session, and does not end it: the time in which the server has
/// to take what was sent is for the control connection. That the server is still there is asked when all is silent.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4);
    let prepared = socket.set_tcp_user_timeout(None).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        tracing::debug!(%error, "the connection could not be prepared");
    }
}

/// How bytes ended. TLS has a long text for a peer that went without a word of it.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server has ended it".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads the server's first frame. Gives what came behind it, which is the task's.
async fn answer<R: AsyncRead + Unpin>(from_server: &mut R) -> Result<Vec<u8>, SshError> {
    let mut room = [0; OPENING_MAX_FRAME as usize];
    let mut filled = 0;
    loop {
        let bytes = room.get(..filled).unwrap_or_default();
        match frame::decode(bytes, OPENING_MAX_FRAME).map_err(ProtocolError::from)? {
            Decoded::Incomplete => {
                let rest = room.get_mut(filled..).unwrap_or_default();
                match from_server.read(rest).await.map_err(SshError::Data)? {
                    0 => return Err(SshError::Data(io::ErrorKind::UnexpectedEof.into())),
                    count => filled += count,
                }
            }
            Decoded::Frame { frame, consumed } => {
                return match frame.tag {
                    Tag::JOINED => {
                        message::decode::<message::Joined>(frame.body).map_err(ProtocolError::from)?;
                        Ok(bytes.get(consumed..).unwrap_or_default().to_vec())
                    }
                    Tag::CLOSE => {
                        let Close { reason, detail, .. } =
                            message::decode(frame.body).map_err(ProtocolError::from)?;
                        Err(SshError::TurnedAway { reason, detail: detail.as_str().to_owned() })
                    }
                    tag => Err(ProtocolError::Unexpected { tag }.into()),
                };
            }
        }
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

#[cfg(test)]
mod tests {
    use protocol_core::message::Text;

    use super::*;

    async fn answered(frames: &[u8]) -> Result<Vec<u8>, SshError> {
        // Byte by byte, and at once.
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let slowly = async {
            let _ = theirs.write_all(frames).await;
            drop(theirs);
        };
        let reading = async move { answer(&mut ours).await };
        let (slow, ()) = tokio::join!(reading, slowly);
        let at_once = answer(&mut &*frames).await;
        assert_eq!(slow.is_ok(), at_once.is_ok());
        at_once
    }

    fn frame<B: message::Body>(body: &B) -> Vec<u8> {
        let mut room = [0; 256];
        let length = message::encode(body, OPENING_MAX_FRAME, &mut room).unwrap();
        room[..length].to_vec()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_stands_behind_the_answer_is_the_tasks() {
        assert_eq!(
            answered(&[frame(&message::Joined {}), b"SSH-2.0".to_vec()].concat()).await.unwrap(),
            b"SSH-2.0"
        );
        assert_eq!(answered(&frame(&message::Joined {})).await.unwrap(), b"");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn any_other_answer_is_none() {
        let close =
            Close { reason: CloseReason::NotServed, retry_after: 0, detail: Text::new("used").unwrap() };
        let error = answered(&frame(&close)).await.unwrap_err();
        assert!(
            matches!(&error, SshError::TurnedAway { reason: CloseReason::NotServed, detail } if detail == "used")
        );
        assert!(matches!(answered(b"PONG").await, Err(SshError::Protocol(_))));
        assert!(matches!(answered(b"SSH-2.0-").await, Err(SshError::Protocol(_))));
        assert!(matches!(answered(b"JOOK\0\0\0\x01x").await, Err(SshError::Protocol(_))));
        assert!(matches!(answered(b"CLOS\0\0\x10\0").await, Err(SshError::Protocol(_))));
        assert!(matches!(answered(b"JOOK\0\0").await, Err(SshError::Data(_))));
    }
}
