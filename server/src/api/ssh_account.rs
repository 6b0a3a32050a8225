//! `/ssh-account`: what this machine's SSH server asks when a device logs in.

use axum::Json;

use super::{
    asker::{Asker, Body},
    error::ApiError,
    rights::{Action, Object},
    view::{KeyAnswer, KeyRequest},
};
use crate::{ssh_account, store::KeyStatus};

/// `POST /ssh-account/keys`
pub(super) async fn keys(asker: Asker, Body(request): Body<KeyRequest>) -> Result<Json<KeyAnswer>, ApiError> {
    let host = &asker.may(Action::AuthorizeKey, Object::Devices)?.host;
    let Some(fingerprint) = ssh_account::fingerprint(&request.kind, &request.key) else {
        return Ok(Json(KeyAnswer::default()));
    };
    let ports = match host.store.device_by_key(fingerprint).await? {
        KeyStatus::Known(device) => host.tasks.login_ports(device.id),
        KeyStatus::Revoked(_) | KeyStatus::Unknown => Vec::new(),
    };
    // It was decoded: it is base64, and no other text.
    let line = (!ports.is_empty()).then(|| ssh_account::authorized_key(&request.key, &ports));
    Ok(Json(KeyAnswer { line }))
}
