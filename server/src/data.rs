//! Data connections: the first frame says for which task, and all that follows are the task's own bytes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded, HEADER_LENGTH},
    message::{self, Body, Close, Join, Joined, Pin, Text},
    session::{OPENING_MAX_FRAME, ProtocolError},
    tag::Tag,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use crate::{
    byte_stream::ByteStream,
    event::EventKind,
    frames,
    host::Host,
    refusal::Refusal,
    store::{DeviceRef, KeyStatus, StoreError},
    strangers::Stranger,
    tasks::{Admission, DataConnection, JoinError},
};

/// How long a peer has to take its farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A whole `JOIN`: it has no part whose length may differ.
const JOIN_LENGTH: usize = HEADER_LENGTH + Join::MAX_LENGTH;

/// Why a data connection is turned away.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no whole first frame came in time")]
    TooSlow,
    #[error("newer connections needed the place")]
    Displaced,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("this key is not registered here")]
    UnknownKey,
    #[error("this device was revoked")]
    Revoked(DeviceRef),
    #[error("{1}")]
    Task(DeviceRef, JoinError),
    #[error("the server's store does not answer")]
    Store(#[from] StoreError),
}

impl Failure {
    fn reason(&self) -> CloseReason {
        match self {
            Self::TooSlow => CloseReason::Silent,
            Self::Displaced | Self::Store(_) => CloseReason::Overloaded,
            Self::Broken(_) => CloseReason::Finished,
            Self::Protocol(error) => error.reason(),
            Self::UnknownKey => CloseReason::UnknownKey,
            Self::Revoked(_) => CloseReason::Revoked,
            Self::Task(..) => CloseReason::NotServed,
        }
    }

    fn device(&self) -> Option<DeviceRef> {
        match self {
            Self::Revoked(device) | Self::Task(device, _) => Some(device.clone()),
            _ => None,
        }
    }
}

/// Hands a data connection to whoever waits for the bytes of its task. It is a stranger until then.
pub async fn serve<S: ByteStream + 'static>(
    host: &Arc<Host>,
    mut stream: S,
    key: Pin,
    address: SocketAddr,
    mut stranger: Stranger,
    permit: OwnedSemaphorePermit,
) {
    let joined = tokio::select! {
        joined = timeout(host.limits.opening_timeout, hear(host, &mut stream, key)) => {
            joined.unwrap_or(Err(Failure::TooSlow))
        }
        () = stranger.displaced() => Err(Failure::Displaced),
    };
    drop(stranger);
    match joined {
        Ok(admission) => {
            // Whoever waited may have gone: then the connection ends with this.
            admission.admit(DataConnection::new(stream, permit));
        }
        Err(failure) => turn_away(host, stream, &failure, key, address).await,
    }
}

/// Hears for which task the connection is, and says that what follows is the task's.
async fn hear<S: ByteStream>(host: &Host, stream: &mut S, key: Pin) -> Result<Admission, Failure> {
    let mut bytes = [0; JOIN_LENGTH];
    stream.read_exact(&mut bytes).await?;
    let join = read_join(&bytes)?;
    let admission = match host.tasks.join_online(key, &join) {
        Some(admission) => admission,
        None => look_up(host, key, &join).await?,
    };
    frames::send(stream, &Joined {}, OPENING_MAX_FRAME).await?;
    Ok(admission)
}

/// Looks up whose key this is, and whether they may have the task's bytes.
async fn look_up(host: &Host, key: Pin, join: &Join) -> Result<Admission, Failure> {
    let device = match host.store.device_by_key(key.0).await? {
        KeyStatus::Known(device) => device,
        KeyStatus::Revoked(device) => return Err(Failure::Revoked(device)),
        KeyStatus::Unknown => return Err(Failure::UnknownKey),
    };
    host.tasks.join(device.id, join).map_err(|error| Failure::Task(device, error))
}

fn read_join(bytes: &[u8; JOIN_LENGTH]) -> Result<Join, ProtocolError> {
    match frame::decode(bytes, OPENING_MAX_FRAME)? {
        Decoded::Frame { frame, .. } if frame.tag == Tag::JOIN => Ok(message::decode(frame.body)?),
        Decoded::Frame { frame, .. } => Err(ProtocolError::Unexpected { tag: frame.tag }),
        Decoded::Incomplete => Err(ProtocolError::Unexpected { tag: Tag::JOIN }),
    }
}

async fn turn_away<S: ByteStream>(
    host: &Host,
    mut stream: S,
    failure: &Failure,
    key: Pin,
    address: SocketAddr,
) {
    let refusal = Refusal {
        event: EventKind::ConnectionRefused,
        reason: failure.reason(),
        detail: format!("data connection: {failure}"),
        address,
        key: Some(key),
        device: failure.device(),
        original: None,
    };
    let close = Close { reason: refusal.reason, retry_after: 0, detail: Text::shortened(&refusal.detail) };
    let say = async {
        frames::send(&mut stream, &close, OPENING_MAX_FRAME).await?;
        stream.shutdown().await
    };
    // Whoever does not take the farewell does without it.
    let (_, ()) = tokio::join!(timeout(FAREWELL_TIMEOUT, say), refusal.record(&host.store));
}
