//! Whose connection it is: of a device by its own key, or of one that is wired to a gateway, by the gateway's.

use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded},
    message::{self, DecodeError, Gateway, Pin},
    session::{OPENING_MAX_FRAME, ProtocolError, Server, Session},
    tag::Tag,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    End, Wire,
    refused::{Refused, told},
    write_due,
};
use crate::{
    host::Host,
    mailbox::{Farewell, Mailbox, UNKNOWN_RETRY, WIRED_RETRY},
    store::{DeviceName, DeviceRef, KeyStatus, WiredStatus},
};

/// What a revoked device is told.
const REVOKED: &str = "this device was revoked; enrol it again with a new key";

/// What a revoked device is told over a gateway.
pub(super) const REVOKED_WIRED: &str = "this device was revoked";

/// What a device is told that is not enrolled for its gateway.
const NOT_WIRED: &str = "not enrolled for this gateway";

/// What a device is told whose gateway takes it for itself.
const OWN_NAME: &str = "the gateway has its own name for this line: [[serial]] device is what is wired to it";

/// Who has connected, as TLS has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The device that holds this key, for itself.
    Device(Pin),
    /// The device that holds this key, for one that is wired to it.
    Gateway(Pin),
}

impl Caller {
    /// The key of whoever has connected.
    pub(super) fn key(self) -> Pin {
        match self {
            Self::Device(key) | Self::Gateway(key) => key,
        }
    }
}

/// By what a device is known.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// Its own key.
    Key(Pin),
    /// Its name, and the key of its gateway.
    Wired { gateway: Pin, name: String },
}

impl Identity {
    /// The key that the device itself has shown.
    pub(super) fn key(&self) -> Option<Pin> {
        match self {
            Self::Key(key) => Some(*key),
            Self::Wired { .. } => None,
        }
    }
}

/// A device that may come in.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) device: DeviceRef,
    /// The name of the device that it is wired to.
    pub(super) gateway: Option<String>,
}

/// Hears for whom the connection is, where its first frame says so.
pub(super) async fn identity<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
    caller: Caller,
) -> Result<Identity, End> {
    match caller {
        Caller::Device(key) => Ok(Identity::Key(key)),
        Caller::Gateway(gateway) => {
            hear_gateway(wire, session).await.map(|name| Identity::Wired { gateway, name })
        }
    }
}

/// Hears the name of the wired device. What comes behind it is the device's own.
async fn hear_gateway<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
) -> Result<String, End> {
    let nobody = Mailbox::default();
    let mut due = false;
    loop {
        if let Some((name, used)) = read_gateway(wire.input())? {
            wire.consume(used);
            return Ok(name);
        }
        write_due(session, wire, due)?;
        due = wire.next(&nobody, session.timeout()).await?.due;
    }
}

/// The name in a whole `GATE`, and the frame's length; nothing while more of it is to come.
fn read_gateway(input: &[u8]) -> Result<Option<(String, usize)>, ProtocolError> {
    match frame::decode(input, OPENING_MAX_FRAME)? {
        Decoded::Incomplete => Ok(None),
        Decoded::Frame { frame, consumed } if frame.tag == Tag::GATEWAY => {
            let gateway: Gateway<'_> =
                message::decode(frame.body).map_err(|error: DecodeError| ProtocolError::from(error))?;
            Ok(Some((gateway.name.as_str().to_owned(), consumed)))
        }
        Decoded::Frame { frame, .. } => Err(ProtocolError::ExpectedGateway { tag: frame.tag }),
    }
}

/// The device of this identity, if it may come in.
pub(super) async fn known(host: &Host, identity: &Identity) -> Result<Known, Refused> {
    match identity {
        Identity::Key(key) => known_by_key(host, *key).await,
        Identity::Wired { gateway, name } => known_by_gateway(host, *gateway, name).await,
    }
}

async fn known_by_key(host: &Host, key: Pin) -> Result<Known, Refused> {
    match host.store.device_by_key(key.0).await.map_err(End::store)? {
        KeyStatus::Known(device) => Ok(Known { device, gateway: None }),
        KeyStatus::Revoked(device) => Err(revoked(REVOKED).of(device)),
        KeyStatus::Unknown => Err(unknown(
            "this key is not registered here; enrol the device with a line from `holdfast enroll`",
        )),
    }
}

async fn known_by_gateway(host: &Host, gateway: Pin, name: &str) -> Result<Known, Refused> {
    use CloseReason::{Revoked, UnknownKey};
    let refused = |reason, detail: &str| Refused::from(told(reason, WIRED_RETRY, detail));
    let enrol = |reason, why: &str, gateway: &DeviceRef| {
        Refused::from(End::Told(Farewell::over_gateway(reason, why, name, &gateway.name)))
    };
    Err(match host.store.wired_device(gateway.0, name).await.map_err(End::store)? {
        WiredStatus::Known { device, gateway } => return Ok(Known { device, gateway: Some(gateway.name) }),
        WiredStatus::Revoked { device, gateway } => enrol(Revoked, REVOKED_WIRED, &gateway).of(device),
        WiredStatus::RevokedGateway(gateway) => {
            refused(Revoked, "the gateway was revoked; enrol the gateway again with a new key").of(gateway)
        }
        WiredStatus::UnknownGateway => {
            refused(UnknownKey, "the gateway's key is not registered here; enrol it first")
        }
        WiredStatus::NotWired { gateway } if name.parse::<DeviceName>().is_err() => {
            refused(UnknownKey, "what the gateway names is no device").of(gateway)
        }
        WiredStatus::NotWired { gateway } if name == gateway.name => {
            refused(UnknownKey, OWN_NAME).of(gateway)
        }
        WiredStatus::NotWired { gateway } => enrol(UnknownKey, NOT_WIRED, &gateway).of(gateway),
    })
}

fn unknown(detail: &str) -> Refused {
    told(CloseReason::UnknownKey, UNKNOWN_RETRY, detail).into()
}

fn revoked(detail: &str) -> Refused {
    told(CloseReason::Revoked, UNKNOWN_RETRY, detail).into()
}
