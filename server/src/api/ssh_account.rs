//! `/ssh-account`: what this machine's SSH server asks when a device logs in.

use axum::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    asker::{Asker, Body},
    error::ApiError,
    rights::{Action, Object},
};
use crate::{ssh_account, store::KeyStatus};

/// A key that somebody has shown to the SSH server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Its type: `ecdsa-sha2-nistp256`.
    pub kind: String,
    /// The key, as base64.
    pub key: String,
}

/// What may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyAnswer {
    /// A line for the SSH server's `AuthorizedKeysCommand`: nothing if nothing may be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

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
