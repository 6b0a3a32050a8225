//! The operators' API: HTTP and JSON under `/api/v1`, over the Unix socket in the data directory; over TLS for operators
//! elsewhere; and beside the console for browsers and programs, over TLS and on a loopback address.
//!
//! Lists are read page by page: `?after=ID&limit=N`, until there is no `next`. With `?follow=true`, or
//! `Accept: text/event-stream`, they are streams of server-sent events. Those of messages and events have the ids of the
//! rows: whoever was cut goes on by `Last-Event-ID`, without a gap and without a double. Those of devices, tasks and parts
//! begin with all that there is.

mod access_tokens;
mod account;
mod asker;
mod browser;
mod devices;
mod error;
mod fleet;
mod host_keys;
mod keys;
mod lists;
mod login;
pub mod metrics;
mod openapi;
mod operators;
mod parts;
mod peer;
mod places;
pub mod provisioning;
mod recordings;
pub mod rights;
mod routes;
mod server;
mod socket;
mod ssh_account;
mod stream;
mod task_stream;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod users;
mod video;
pub mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware::from_fn_with_state};
use protocol_core::message::Pin;
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use crate::{
    byte_stream::ByteStream,
    host::Host,
    http::{self, Limits, Patience, Serving},
    shutdown::Shutdown,
    store::UnixMillis,
    strangers::Stranger,
};
pub use browser::WebApi;
use error::ApiError;
pub use fleet::SharedFleet;
pub use login::Logins;
pub use peer::Revocations;
use peer::{Peer, Remote, identify};
pub use places::{CONNECTIONS, Places, REQUESTS};
use routes::{Route, routes};
pub use socket::{ApiListener, SOCKET, SocketError};
pub use tasks::RELAY;

/// What the listener on the Unix socket is called.
pub const PART: &str = "API socket";

/// The longest request, in bytes: the longest message for a device, with all of it escaped.
const MAX_REQUEST: usize = 512 * 1024;

/// How many connections may be open that ask nothing yet: far more than ask at the same moment.
const STRANGERS: usize = 512;

/// How long a client may take nothing of its answer, or leave its request unfinished, if nobody says otherwise. One
/// that follows a stream takes it up where it was.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What the API shows of the server, and reaches of it. Devices it reaches through the registry only.
pub struct Api {
    /// What all connections share.
    pub host: Arc<Host>,
    /// Where the server really listens.
    pub addresses: Addresses,
    /// Whether nobody has said where the server is found, so that it guessed.
    pub guessed: bool,
    /// Since when it runs.
    pub started: UnixMillis,
    /// Where the server's keys are.
    pub keys: PathBuf,
    /// Held by the one who changes the keys.
    pub rotation: Mutex<()>,
    /// Asked for by `holdfast stop`; streams end when it is.
    pub shutdown: Shutdown,
    /// How long a client may take nothing of its answer, or leave its request unfinished: [`TIMEOUT`].
    pub time_limit: Duration,
    /// How many requests and streams there may be.
    pub places: Places,
    /// Which operators' rights were taken away.
    pub revocations: Revocations,
    /// Who has tried to log in how often.
    pub logins: Logins,
    /// What those who look at all devices share.
    pub fleet: SharedFleet,
}

impl Api {
    /// Where the console is found, best first: over TLS, and on this machine without it.
    fn console_addresses(&self) -> Vec<String> {
        let over_tls = self.host.address_book.addresses.iter().map(|address| format!("https://{address}/"));
        let here = self.addresses.http.filter(|address| address.ip().is_loopback());
        over_tls.chain(here.map(|address| format!("http://{address}/"))).collect()
    }
}

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For devices.
    pub listen: SocketAddr,
    /// For classic clients, if it does.
    pub classic: Option<SocketAddr>,
    /// For metrics, if it does.
    pub http: Option<SocketAddr>,
}

/// Serves the API until the shutdown is asked for, and what was asked before is answered.
pub async fn serve(listener: ApiListener, api: Arc<Api>) {
    let shutdown = api.shutdown.clone();
    let limits = Limits { requests: REQUESTS, strangers: STRANGERS, time_limit: api.time_limit };
    let serving = Serving::of(&api.host.parts, PART, "operators here");
    let stop = async move {
        shutdown.requested().await;
    };
    http::serve(listener, router(api), limits, serving, stop).await;
}

/// The API over TLS, for operators elsewhere.
#[derive(Clone)]
pub struct RemoteApi {
    api: Arc<Api>,
    routes: Router,
}

impl RemoteApi {
    /// The same API as over the socket.
    pub fn new(api: Arc<Api>) -> Self {
        let routes = router(Arc::clone(&api));
        Self { api, routes }
    }

    /// What all connections share.
    pub fn host(&self) -> &Arc<Host> {
        &self.api.host
    }

    /// Answers the one request of this connection, which has this place among the server's. Who has come is a stranger
    /// until there is one, and only for a while.
    pub async fn serve(
        &self,
        stream: impl ByteStream + 'static,
        key: Pin,
        address: SocketAddr,
        stranger: Stranger,
        place: OwnedSemaphorePermit,
    ) {
        let peer = Peer::Remote(Arc::new(Remote::new(key, address, place)));
        let patience =
            Patience { request: self.api.host.limits.opening_timeout, answer: self.api.time_limit };
        http::converse(Box::new(stream), peer, self.routes.clone(), patience, stranger).await;
    }
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .nest("/api/v1", plain_routes(&api))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no-such-path", "the API is under /api/v1"))
        .layer(from_fn_with_state(api, identify))
}

/// All that can be asked, by those who are known.
fn known_routes(api: Arc<Api>) -> Router {
    plain_routes(&api).layer(from_fn_with_state(api, identify))
}

fn plain_routes(api: &Arc<Api>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, Route { path, handler, .. }| router.route(path, handler))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing here"))
        .method_not_allowed_fallback(ApiError::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(Arc::clone(api))
}
