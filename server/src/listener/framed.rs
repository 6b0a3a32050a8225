//! The TLS port: devices, operators elsewhere, those that want to become one, and browsers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use nix::{libc, setsockopt_impl, sockopt_impl, sys::socket::setsockopt};
use protocol_core::code::CloseReason;
use socket2::{Domain, Protocol as SocketProtocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::accept;
use crate::{
    api::{RemoteApi, WebApi},
    connection::{self, Caller},
    data,
    enrolment::{self, Newcomer},
    event::EventKind,
    host::Host,
    metrics::METRICS,
    parts::{Part, PartKind},
    refusal::Refusal,
    strangers::Stranger,
    tls::{Acceptor, Peer, Protocol, Stream},
};

/// How many connections may wait to be accepted: a whole fleet comes back at once after a restart.
const BACKLOG: i32 = 4_096;

/// How many of them may have said their first words already.
const FAST: usize = 1_024;

sockopt_impl!(
    /// Clients may say their first words with their first packet, so many of them at a time (TCP Fast Open);
    /// the system has to allow it (`server/holdfast-sysctl.conf`). Such a packet may come twice: here it only begins a
    /// handshake, and nobody but its sender can go on with that.
    FastOpen,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    usize
);

/// Listens on this address.
///
/// # Errors
/// What the system said: the address is taken, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(SocketProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` is for both families.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    if let Err(error) = setsockopt(&socket, FastOpen, &FAST) {
        tracing::debug!(%error, "the system has no TCP Fast Open");
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What this listener is called.
pub const PART: &str = "device listener";

/// The parts that serve the connections of this port: a panic ends one of them, and nothing else.
#[derive(Clone)]
struct Handlers {
    devices: Arc<Part>,
    data: Arc<Part>,
    operators: Arc<Part>,
    web: Arc<Part>,
    enrolment: Arc<Part>,
}

impl Handlers {
    fn of(host: &Host) -> Self {
        let handler = |name| host.parts.part(name, PartKind::Handler);
        Self {
            devices: handler("devices"),
            data: handler("task data"),
            operators: handler("operators elsewhere"),
            web: handler("browsers"),
            enrolment: handler("enrolment"),
        }
    }

    fn of_protocol(&self, protocol: Protocol) -> &Arc<Part> {
        match protocol {
            Protocol::Framed | Protocol::Gateway => &self.devices,
            Protocol::Data => &self.data,
            Protocol::Api => &self.operators,
            Protocol::Enrolment | Protocol::Login => &self.enrolment,
        }
    }
}

/// Accepts connections until the future is dropped. Those that were accepted live on.
pub async fn run(api: RemoteApi, web: WebApi, acceptor: Acceptor, listener: Arc<TcpListener>) {
    let host = Arc::clone(api.host());
    let handlers = Handlers::of(&host);
    let part = host.parts.part(PART, PartKind::Listener);
    loop {
        let (stream, address) = accept(&listener).await;
        let Ok(permit) = Arc::clone(&host.connections).try_acquire_owned() else {
            // Nothing is said: TLS would have to be spoken first, and that is what there is no room for.
            drop(stream);
            let detail = format!("{} connections are open, and no more may be", host.limits.connections);
            let refusal = Refusal::of_stranger(address, CloseReason::Overloaded, detail);
            let host = Arc::clone(&host);
            // The next one does not wait until this is written down.
            tokio::spawn(async move { refusal.record(&host.store).await });
            continue;
        };
        let (host, api, web, acceptor) = (Arc::clone(&host), api.clone(), web.clone(), acceptor.clone());
        let (mut stranger, handlers, open) = (host.strangers.enter(), handlers.clone(), part.begin());
        tokio::spawn(async move {
            // The handshake's future is large, and soon over: an idle connection should not keep it.
            let shaken = Box::pin(shake_hands(&host, &acceptor, stream, address, &mut stranger));
            let Some((stream, peer)) = shaken.await else {
                return;
            };
            let (key, protocol) = match peer {
                Peer::Holder { key, protocol } => (key, protocol),
                Peer::Browser => {
                    hold_little(&stream);
                    METRICS.connected("web");
                    let serving = Box::pin(web.serve(stream, address, stranger, permit));
                    return host.parts.guard(&handlers.web, serving).await;
                }
            };
            METRICS.connected(protocol.name());
            let (parts, handler) = (&host.parts, handlers.of_protocol(protocol));
            match protocol {
                Protocol::Framed | Protocol::Gateway => {
                    let caller = match protocol {
                        Protocol::Gateway => Caller::Gateway(key),
                        _ => Caller::Device(key),
                    };
                    let serving = Box::pin(connection::serve(&host, stream, caller, address, stranger));
                    parts.guard(handler, serving).await;
                }
                Protocol::Data => {
                    let serving = Box::pin(data::serve(&host, stream, key, address, stranger, permit));
                    return parts.guard(handler, serving).await;
                }
                Protocol::Api => {
                    hold_little(&stream);
                    let serving = Box::pin(api.serve(stream, key, address, stranger, permit));
                    return parts.guard(handler, serving).await;
                }
                Protocol::Enrolment | Protocol::Login => {
                    let newcomer = match protocol {
                        Protocol::Login => Newcomer::Operator,
                        _ => Newcomer::Device,
                    };
                    let enrolment = Box::pin(enrolment::serve(&host, stream, newcomer, key, address));
                    // Whoever has to make way, and was enrolled, may ask again.
                    let enrolment = Box::pin(async {
                        tokio::select! {
                            () = enrolment => {}
                            () = stranger.displaced() => displaced(&host, address).await,
                        }
                    });
                    parts.guard(handler, enrolment).await;
                }
            }
            drop((permit, open));
        });
    }
}

/// Live video is among what such a peer may ask for: what it is too slow for is not to wait in the system.
fn hold_little(stream: &Stream) {
    if let Err(error) = stream.hold_little() {
        tracing::debug!(%error, "a connection could not be prepared for live video");
    }
}

/// Writes down that an enrolment had to make way; not where all do, as the server stops.
async fn displaced(host: &Host, address: SocketAddr) {
    if host.farewell.get().is_none() {
        let refusal =
            Refusal::of_stranger(address, CloseReason::Overloaded, "newer connections needed its place");
        Refusal { event: EventKind::EnrolmentRefused, ..refusal }.record(&host.store).await;
    }
}

async fn shake_hands(
    host: &Host,
    acceptor: &Acceptor,
    stream: TcpStream,
    address: SocketAddr,
    stranger: &mut Stranger,
) -> Option<(Stream, Peer)> {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%address, %error, "the connection could not be prepared");
    }
    let shaken = tokio::select! {
        shaken = timeout(host.limits.opening_timeout, acceptor.accept(stream)) => shaken.map_err(|_| "in time"),
        () = stranger.displaced() => Err("before newer ones needed its place"),
    };
    let detail = match shaken {
        Ok(Ok(shaken)) => return Some(shaken),
        // The server stops: that is nobody's fault.
        Err(_) if host.farewell.get().is_some() => return None,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "TLS: the peer has left, as a device does that knows another server's key".to_owned()
        }
        Ok(Err(error)) => format!("TLS: {error}"),
        Err(when) => format!("TLS: the peer did not shake hands {when}"),
    };
    Refusal::of_stranger(address, CloseReason::ProtocolError, detail).record(&host.store).await;
    None
}

/// Small frames go out at once, and a dead peer is found by the system too.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}
