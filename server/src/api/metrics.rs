//! `/metrics`: what the server counts, for Prometheus. Whoever may look may have it, and on loopback machines that watch.

use std::time::Duration;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::{
    Api,
    asker::Asker,
    error::ApiError,
    rights::{Action, Object},
};
use crate::{
    host::Host,
    metrics::{MEDIA_TYPE, METRICS, Snapshot},
    store::{Counts, StoreError, UnixMillis},
};

/// How long the store has to answer, or the server is not healthy.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /metrics`
pub(super) async fn show(asker: Asker) -> Result<Response, ApiError> {
    Ok(tell(asker.may(Action::Look, Object::Server)?).await)
}

/// All figures, as Prometheus reads them.
pub async fn tell(api: &Api) -> Response {
    // What can't be counted now is left as zero: the other figures say why.
    let counts = counts(&api.host).await.unwrap_or_default();
    let (backlog, backlog_bytes) = api.host.store.backlog();
    let uptime = UnixMillis::now().0.saturating_sub(api.started.0);
    let text = METRICS.render(Snapshot {
        devices: counts.devices,
        online: api.host.registry.count() as u64,
        classic_clients: api.host.classic_clients.count() as u64,
        queued: counts.waiting,
        backlog: backlog as u64,
        backlog_bytes: backlog_bytes as u64,
        uptime: Duration::from_millis(u64::try_from(uptime).unwrap_or(0)),
    });
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response()
}

/// What the store counts.
///
/// # Errors
/// It does not answer, or not in time.
pub async fn counts(host: &Host) -> Result<Counts, StoreError> {
    let late = || StoreError::Unavailable("it does not answer in time".to_owned());
    timeout(STORE_TIMEOUT, host.store.counts()).await.unwrap_or_else(|_| Err(late()))
}
