//! The opening of a session: who is it, is it known, is it the only one?

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{self, Hello, StoreId, TASKS_VERSION, Text, Welcome},
    session::{Event, SendError, Server, Session},
    time,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    End, Wire,
    caller::{self, Caller, Identity, Known, REVOKED_WIRED},
    refused::{Refused, told},
    write_due,
};
use crate::{
    clock,
    event::EventKind,
    handler::Device,
    host::{self, Host, MESSAGE_OVERHEAD},
    mailbox::{CLONE_RETRY, Farewell, Mailbox},
    registry::{self, Figures, Online, Place, Turn},
    store::{DeviceRef, EndReason, NewSession, Reply, SessionEnd, SessionId, StoreError, UnixMillis},
    strangers::Stranger,
};

/// How long the holder of a device's place has to show that it lives, when another start of the device wants it.
/// At most half of what it takes to be lost, so that the one who asks is not lost over it.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer has to say its hello.
pub(super) fn time_limit(host: &Host) -> time::Duration {
    time::Duration::from_millis(host::millis(host.limits.opening_timeout))
}

/// How long the store may take for each step of an opening.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Brings a session from its first byte to its welcome, and the device into the registry.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    host: &Arc<Host>,
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
    caller: Caller,
    address: SocketAddr,
    stranger: &mut Stranger,
) -> Result<Opened, Refused> {
    let time_limit = host.limits.opening_timeout + TIMEOUT;
    let (identity, known, hello, turn) = tokio::select! {
        identified = tokio::time::timeout(time_limit, identify(host, wire, session, caller, address)) => identified
            .unwrap_or_else(|_| Err(too_slow().into())),
        () = stranger.displaced() => Err(match host.farewell.get() {
            Some(farewell) => End::Told(farewell.clone()),
            None => told(CloseReason::Overloaded, 5, "newer connections needed the place"),
        }
        .into()),
    }?;
    let opened = enter(host, known, identity.key(), hello, address, turn).await?;
    let known = tokio::time::timeout(TIMEOUT, caller::known(host, &identity)).await;
    if let Err(refused) = known.unwrap_or_else(|_| Err(too_slow().into()))
        && let Some(farewell) = refused.end.farewell()
    {
        // Revoked while it opened: whoever did that found nobody in this place yet.
        opened.place.online().mailbox.close(farewell);
    }
    if let Some(farewell) = host.farewell.get() {
        // The server stops: whoever told the devices found nobody in this place yet.
        opened.place.online().mailbox.close(farewell.clone());
    }
    Ok(opened)
}

/// Hears who the peer is, and sees that it may come in.
async fn identify<S: AsyncRead + AsyncWrite + Unpin>(
    host: &Host,
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
    caller: Caller,
    address: SocketAddr,
) -> Result<(Identity, Known, Hello, Turn), Refused> {
    let identity = caller::identity(wire, session, caller).await?;
    let hello = hear_hello(wire, session).await?;
    write_due(session, wire, false)?;
    if hello.kind != ConnectionKind::Control {
        return Err(told(CloseReason::NotServed, 0, "this kind of connection is not served here").into());
    }
    let known = caller::known(host, &identity).await?;
    let turn = host.registry.turn(known.device.id).await;
    make_way(host, &known.device, hello, address).await?;
    Ok((identity, known, hello, turn))
}

/// A device with a place among those who are online, and a session's row: both are ended by whoever has this.
pub(super) struct Opened {
    pub(super) device: Arc<Device>,
    pub(super) place: Place,
    /// The highest number that is archived of the hello's stream.
    pub(super) archived: u64,
}

async fn hear_hello<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
) -> Result<Hello, End> {
    let nobody = Mailbox::default();
    let mut due = false;
    loop {
        let (used, event) = session.input(clock::now(), wire.input())?;
        let hello = match event {
            Some(Event::Hello(hello)) => Some(hello),
            Some(Event::Closed(close)) => return Err(End::left(&close)),
            _ => None,
        };
        wire.consume(used);
        if let Some(hello) = hello {
            return Ok(hello);
        }
        if used == 0 {
            write_due(session, wire, due)?;
            due = wire.next(&nobody, session.timeout()).await?.due;
        }
    }
}

/// Sees that no other start of the device holds its place: whoever answers there is the original, and whoever
/// comes is the clone.
async fn make_way(host: &Host, device: &DeviceRef, hello: Hello, address: SocketAddr) -> Result<(), Refused> {
    let Some(holder) = host.registry.online(device.id) else { return Ok(()) };
    if holder.boot == hello.boot {
        return Ok(());
    }
    let time_limit = HOLDER_TIMEOUT.min(host.keep_alive.timeout / 2);
    if registry::ping(&holder, time_limit).await.is_err() {
        holder.mailbox.close(Farewell::new(CloseReason::Silent, "a newer start of this device took over"));
        return Ok(());
    }
    let detail = format!("this identity is in use from {}; enrol this device by itself", holder.address.ip());
    tracing::warn!(device = device.name, original = %holder.address, clone = %address, "a clone was refused");
    Err(Refused {
        end: told(CloseReason::Clone, CLONE_RETRY, &detail),
        device: Some(device.clone()),
        event: EventKind::CloneRefused,
        original: Some(holder.address),
    })
}

/// Starts the session's row, and takes the device's place.
async fn enter(
    host: &Arc<Host>,
    known: Known,
    key: Option<message::Pin>,
    hello: Hello,
    address: SocketAddr,
    turn: Turn,
) -> Result<Opened, Refused> {
    let Known { device, gateway } = known;
    let started = NewSession {
        device: device.id,
        address: address.ip(),
        boot: Some(hello.boot.0),
        longest_message: Some(usize::from(hello.max_frame).saturating_sub(MESSAGE_OVERHEAD)),
    };
    // Before it has its place: from then on its bytes are read, and it does not wait for the store.
    let archived = tokio::time::timeout(TIMEOUT, host.store.highest(device.id, hello.stream.0))
        .await
        .map_err(|_| too_slow())?
        .map_err(End::store)?;
    let session = start_session(host, started).await?.map_err(|error| match (error, &gateway) {
        // It was revoked while its connection opened.
        (StoreError::Revoked, Some(gateway)) => {
            let name = &device.name;
            End::Told(Farewell::over_gateway(CloseReason::Revoked, REVOKED_WIRED, name, gateway))
        }
        (error, _) => End::store(error),
    })?;
    let mailbox = Arc::new(Mailbox::default());
    let figures = Figures::default();
    figures.heard(UnixMillis::now());
    let online = Online {
        device: device.id,
        key,
        session,
        boot: hello.boot,
        address,
        since: UnixMillis::now(),
        mailbox: Arc::clone(&mailbox),
        figures,
        offers: watch::Sender::new((!knows_tasks(hello)).then(Vec::new)),
        cameras: Mutex::default(),
    };
    let place = host.registry.enter(Arc::new(online), turn);
    let device = Arc::new(Device {
        host: Arc::clone(host),
        id: device.id,
        name: device.name,
        gateway,
        session,
        address,
        reply: Reply::new(mailbox),
    });
    Ok(Opened { device, place, archived })
}

/// Whether the device will say which tasks it takes.
fn knows_tasks(hello: Hello) -> bool {
    let version = message::common_version(hello.oldest_version, hello.newest_version);
    version.is_some_and(|version| version >= TASKS_VERSION)
}

/// Begins the session's row. If that takes too long the peer does not wait for it, and the row ends when it is there.
async fn start_session(host: &Host, session: NewSession) -> Result<Result<SessionId, StoreError>, End> {
    let store = host.store.clone();
    let mut starting = tokio::spawn(async move { store.start_session(session).await });
    if let Ok(started) = tokio::time::timeout(TIMEOUT, &mut starting).await {
        return Ok(started.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))));
    }
    let store = host.store.clone();
    tokio::spawn(async move {
        if let Ok(Ok(session)) = starting.await {
            let (last_seen, reason) = (UnixMillis::now(), EndReason::StoreFailed);
            // The next start closes the row, if this can't.
            let _ = store.end_session(SessionEnd { session, last_seen, reason, text: None }).await;
        }
    });
    Err(too_slow())
}

/// Sees that nothing came behind the hello but what may: the client has not been welcomed yet.
fn refuse_early<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
) -> Result<(), End> {
    loop {
        let (used, event) = session.input(clock::now(), wire.input())?;
        if let Some(Event::Closed(close)) = event {
            return Err(End::left(&close));
        }
        if used == 0 {
            return Ok(());
        }
        wire.consume(used);
    }
}

/// Opens the session, and tells the device where the server is found.
pub(super) fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
    device: &Device,
    archived: u64,
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
) -> Result<(), End> {
    refuse_early(wire, session)?;
    let host = &device.host;
    let welcome = Welcome {
        version: session.version(),
        interval: host::millis(host.keep_alive.interval),
        timeout: host::millis(host.keep_alive.timeout),
        max_frame: host.limits.max_frame,
        window: host.window(),
        store: StoreId(host.store.id()),
        archived,
        time: u64::try_from(UnixMillis::now().0).unwrap_or(0),
        name: Text::shortened(&device.name),
    };
    let told =
        wire.write(256, |room| session.welcome(clock::now(), &welcome, room)).and_then(|length| match device
            .gateway
        {
            None => tell_endpoints(host, wire, session),
            // It has neither keys to check nor addresses to choose from: its gateway has.
            Some(_) => Ok(length),
        });
    if let Err(error) = told {
        tracing::error!(device = device.name, %error, "the welcome could not be sent whole");
    }
    let gateway = device.gateway.as_deref();
    tracing::info!(device = device.name, address = %device.address, gateway, "device online");
    Ok(())
}

/// Tells a device by which keys and where the server is found: with as many of the addresses, best first, as the
/// device's frames have room for. Every device takes the keys and one address.
fn tell_endpoints<S: AsyncRead + AsyncWrite + Unpin>(
    host: &Host,
    wire: &mut Wire<S>,
    session: &mut Session<Server>,
) -> Result<usize, SendError> {
    let mut endpoints = host.address_book.endpoints();
    loop {
        match wire.write(1024, |room| session.notice(clock::now(), &endpoints, room)) {
            Err(SendError::Encode(_)) if endpoints.addresses.pop().is_some() => {}
            told => return told,
        }
    }
}

fn too_slow() -> End {
    told(CloseReason::Overloaded, 10, "the server's store takes too long")
}
