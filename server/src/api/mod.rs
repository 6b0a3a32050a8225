//! The operators' API: HTTP and JSON under `/api/v1`, over the Unix socket in the data directory.
//!
//! Lists are read page by page: `?after=ID&limit=N`, until there is no `next`. With `?follow=true`, or
//! `Accept: text/event-stream`, messages and events are streamed as server-sent events whose ids are those of the
//! rows: whoever was cut goes on by `Last-Event-ID`, without a gap and without a double.

mod asker;
mod devices;
mod error;
mod lists;
pub mod rights;
mod server;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
pub mod view;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    routing::{get, post},
};

use crate::{host::Host, shutdown::Shutdown, store::UnixMillis};
use error::ApiError;
use rights::Actor;
pub use socket::{ApiListener, SOCKET, SocketError};

/// The longest request, in bytes: the longest message for a device, with all of it escaped.
const MAX_REQUEST: usize = 512 * 1024;

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
    /// Asked for by `holdfast stop`; streams end when it is.
    pub shutdown: Shutdown,
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
///
/// # Errors
/// What the system said.
pub async fn serve(listener: ApiListener, api: Arc<Api>) -> io::Result<()> {
    let shutdown = api.shutdown.clone();
    let service = router(api).into_make_service_with_connect_info::<Actor>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            shutdown.requested().await;
        })
        .await
}

fn router(api: Arc<Api>) -> Router {
    let routes = Router::new()
        .route("/status", get(server::status))
        .route("/stop", post(server::stop))
        .route("/tokens", post(server::make_token))
        .route("/devices", get(devices::list))
        .route("/devices/{name}", get(devices::show))
        .route("/devices/{name}/messages", post(devices::send))
        .route("/devices/{name}/ping", post(devices::ping))
        .route("/devices/{name}/revoke", post(devices::revoke))
        .route("/sessions", get(lists::sessions))
        .route("/messages", get(lists::messages))
        .route("/events", get(lists::events))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing here"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "this can't be done here")
        })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(api);
    Router::new()
        .nest("/api/v1", routes)
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no-such-path", "the API is under /api/v1"))
}
