//! HTTP connections that keep nobody out: each is for one request, and makes way for newer ones until that has come.
//!
//! What is not needed here is not there to be misused: nobody is idle between two requests, and nobody sits on a place
//! with half of a first one.

mod kept;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
    upgrade::Upgraded,
};
use hyper_util::{rt::TokioIo, server::conn::auto, service::TowerToHyperService};
use tokio::{
    sync::{Notify, Semaphore},
    time::sleep,
};

pub use kept::{Bounds, held, keep};

use crate::{
    byte_stream::ByteStream,
    parts::{Part, PartKind, Parts},
    strangers::{Stranger, Strangers},
    write_timeout::WriteTimeout,
};

/// The bytes of a client's connection.
pub type Stream = Box<dyn ByteStream>;

/// How much is allowed to the clients of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many requests may be worked on at a time, and as many more as there are fewer strangers; then no more
    /// connections are accepted.
    pub requests: usize,
    /// So many connections may be open whose request has not come yet; then the oldest makes way.
    pub strangers: usize,
    /// How long a client may ask nothing, or take nothing of its answer.
    pub time_limit: Duration,
}

/// The parts of the server that a listener's connections belong to.
#[derive(Clone)]
pub struct Serving {
    parts: Arc<Parts>,
    listener: Arc<Part>,
    handler: Arc<Part>,
}

impl Serving {
    /// Those of these names.
    pub fn of(parts: &Arc<Parts>, listener: &'static str, handler: &'static str) -> Self {
        Self {
            listener: parts.part(listener, PartKind::Listener),
            handler: parts.part(handler, PartKind::Handler),
            parts: Arc::clone(parts),
        }
    }
}

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the head of its request has come.
    pub request: Duration,
    /// While it takes nothing of its answer.
    pub answer: Duration,
}

/// Answers requests by these routes until `stop`, and then those that have come by then. A request carries the address
/// of its peer among its extensions. A panic ends one connection, and nothing else.
pub async fn serve<L>(
    mut listener: L,
    routes: Router,
    limits: Limits,
    serving: Serving,
    stop: impl Future<Output = ()>,
) where
    L: Listener,
    L::Addr: Clone + Sync + 'static,
{
    let strangers = Strangers::new(limits.strangers);
    let all = limits.requests + limits.strangers;
    let places = Arc::new(Semaphore::new(all));
    let patience = Patience { request: limits.time_limit, answer: limits.time_limit };
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (stream, peer)) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let conversation = converse(Box::new(stream), peer, routes.clone(), patience, strangers.enter());
        let (Serving { parts, handler, .. }, open) = (serving.clone(), serving.listener.begin());
        tokio::spawn(async move {
            parts.guard(&handler, Box::pin(conversation)).await;
            drop((open, place));
        });
    }
    drop(listener);
    strangers.close();
    // The semaphore is never closed.
    let _ = places.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await;
}

/// A connection that speaks HTTP no longer, and has no time limits any longer either: what its client has said already,
/// and the stream itself. Nothing if it was not served here.
pub fn taken_over(upgraded: Upgraded) -> Option<(Bytes, Stream)> {
    type Io = TokioIo<WriteTimeout<Stream>>;
    let (read, io) = match upgraded.downcast::<Io>() {
        Ok(parts) => (parts.read_buf, parts.io),
        // One that was kept has looked at its first bytes, to tell the versions of HTTP apart.
        Err(upgraded) => {
            let parts = auto::upgrade::downcast::<Io>(upgraded).ok()?;
            (parts.read_buf, parts.io)
        }
    };
    Some((read, io.into_inner().into_inner()))
}

/// Hears one request and answers it. Until its head is there the client is a stranger.
pub async fn converse<P>(stream: Stream, peer: P, routes: Router, patience: Patience, mut stranger: Stranger)
where
    P: Clone + Send + Sync + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let stream = WriteTimeout::new(stream, patience.answer);
    let asked = Notify::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.notify_one();
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        // A request that has just come goes before the need of its place.
        biased;
        _ = &mut connection => return,
        () = asked.notified() => drop(stranger),
        () = stranger.displaced() => return,
        () = sleep(patience.request) => return,
    }
    // Whatever breaks now, it is the client who goes without an answer.
    let _ = connection.await;
}
