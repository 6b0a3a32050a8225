//! The data connection of a task: a TLS connection of its own, so that its bytes keep no `PING` waiting.

use std::{io, time::Duration};

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

use crate::{
    dial::{DialError, dial},
    identity::{Identity, IdentityError},
    tls::{Connector, Protocol, SetupError, Stream},
};

/// How long the server may take to answer a `JOIN`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be silent before the kernel asks whether its peer is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// How a task's process reaches the server, and shows whose bytes these are.
#[derive(Serialize, Deserialize)]
pub(super) struct DataConnection {
    pub(super) task: u64,
    /// What shows that the connection is the task's.
    pub(super) key: Secret,
    /// Where to try to reach the server, in turn.
    pub(super) servers: Vec<String>,
    /// How long each step towards the server may take.
    pub(super) step: Duration,
}

/// Why there is no data connection, or none any longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
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
    Broken(#[from] io::Error),
}

/// What makes the data connections of this device: it can be had before there is a task.
pub(super) fn connector(identity: &Identity) -> Result<Connector, DataError> {
    let trusted = [identity.current, identity.next];
    Ok(Connector::new(&identity.key.pair()?, &trusted, Protocol::Data)?)
}

impl DataConnection {
    pub(super) async fn connect(&self, connector: &Connector) -> Result<Stream, DataError> {
        let mut last = DialError::Malformed { address: String::new() };
        for address in &self.servers {
            match dial(connector, address, self.step).await {
                Ok(connected) => {
                    prepare(connected.stream.get_ref().0.get_ref());
                    return Ok(connected.stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Says which task's bytes follow. The answer need not be awaited for that.
    pub(super) async fn join<W: AsyncWrite + Unpin>(&self, to_server: &mut W) -> Result<(), DataError> {
        let join = Join { task: TaskId(self.task), key: self.key };
        let mut room = [0; HEADER_LENGTH + Join::MAX_LENGTH];
        let length = message::encode(&join, OPENING_MAX_FRAME, &mut room).map_err(io::Error::other)?;
        to_server.write_all(room.get(..length).unwrap_or_default()).await?;
        Ok(to_server.flush().await?)
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

/// Waits for the server's answer to `JOIN`. Gives what came behind it, which is the task's.
pub(super) async fn answer<R: AsyncRead + Unpin>(from_server: &mut R) -> Result<Vec<u8>, DataError> {
    timeout(ANSWER_TIMEOUT, first_frame(from_server)).await.unwrap_or(Err(DataError::NoAnswer))
}

async fn first_frame<R: AsyncRead + Unpin>(from_server: &mut R) -> Result<Vec<u8>, DataError> {
    let mut room = [0; OPENING_MAX_FRAME as usize];
    let mut filled = 0;
    loop {
        let bytes = room.get(..filled).unwrap_or_default();
        match frame::decode(bytes, OPENING_MAX_FRAME).map_err(ProtocolError::from)? {
            Decoded::Incomplete => {
                let rest = room.get_mut(filled..).unwrap_or_default();
                match from_server.read(rest).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
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
                        Err(DataError::TurnedAway { reason, detail: detail.as_str().to_owned() })
                    }
                    tag => Err(ProtocolError::Unexpected { tag }.into()),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol_core::message::Text;

    use super::*;

    async fn answered(frames: &[u8]) -> Result<Vec<u8>, DataError> {
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
            matches!(&error, DataError::TurnedAway { reason: CloseReason::NotServed, detail } if detail == "used")
        );
        assert!(matches!(answered(b"PONG").await, Err(DataError::Protocol(_))));
        assert!(matches!(answered(b"SSH-2.0-").await, Err(DataError::Protocol(_))));
        assert!(matches!(answered(b"JOOK\0\0\0\x01x").await, Err(DataError::Protocol(_))));
        assert!(matches!(answered(b"CLOS\0\0\x10\0").await, Err(DataError::Protocol(_))));
        assert!(matches!(answered(b"JOOK\0\0").await, Err(DataError::Broken(_))));
    }
}
