//! `/devices/{name}/host-key`: which host keys a device has, which it has shown, and which of them are right.

use axum::Json;
use serde_json::Value;

use super::{
    Api,
    asker::{Asker, Body, Name},
    devices,
    error::ApiError,
    rights::{Action, Object},
    view::{AcceptedHostKey, HostKeyRequest, HostKeyView, HostKeysView, ShownHostKey},
};
use crate::{
    event::{EventKind, NewEvent},
    host_key::HostKey,
    store::{DeviceKind, DeviceRow, StoreError},
};

/// How much of a host key that is not registered is kept.
const LONGEST_KEY: usize = 1_024;

/// `GET /devices/{name}/host-key`
pub(super) async fn show(asker: Asker, Name(name): Name) -> Result<Json<HostKeysView>, ApiError> {
    let api = asker.may(Action::Look, Object::Device(&name))?;
    let row = find(api, &name).await?;
    let sight = asker.sight();
    let shown = api.host.store.shown_host_key(row.id).await?.and_then(|event| {
        let line = event.detail.get("shown").and_then(Value::as_str)?;
        let key = view(&HostKey::parse(line)?);
        let address = event.address.filter(|_| event.who.as_deref().is_none_or(|who| sight.covers(who)));
        Some(ShownHostKey { key, at: event.at.into(), who: event.who, address })
    });
    let registered = row.ssh_host_keys.iter().filter_map(|line| HostKey::parse(line)).map(|key| view(&key));
    Ok(Json(HostKeysView { registered: registered.collect(), device: row.name, shown }))
}

/// `POST /devices/{name}/host-key`: the operator's ssh was shown a key that is not registered.
pub(super) async fn tell(
    asker: Asker,
    Name(name): Name,
    Body(request): Body<HostKeyRequest>,
) -> Result<Json<()>, ApiError> {
    let api = asker.may(Action::Ssh, Object::Device(&name))?;
    let row = devices::find(api, &name).await?;
    let kind = match row.ssh_host_keys.is_empty() {
        true => EventKind::HostKeyUnknown,
        false => EventKind::HostKeyChanged,
    };
    let shown: String = format!("{} {}", request.kind, request.key).chars().take(LONGEST_KEY).collect();
    let mut event = NewEvent::new(kind).device(row.id).who(asker.who()).detail("shown", shown);
    if let Ok(key) = HostKey::new(&request.kind, &request.key) {
        event = event.detail("fingerprint", key.fingerprint());
    }
    api.host.store.record(event).await?;
    Ok(Json(()))
}

/// `POST /devices/{name}/host-key/accept`
pub(super) async fn accept(
    asker: Asker,
    Name(name): Name,
    Body(request): Body<HostKeyRequest>,
) -> Result<Json<AcceptedHostKey>, ApiError> {
    let api = asker.may(Action::Enrol, Object::Device(&name))?;
    let key = HostKey::new(&request.kind, &request.key)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let row = find(api, &name).await?;
    let accepted = view(&key);
    let replaced = api.host.store.accept_host_key(row.id, key, asker.who()).await?;
    Ok(Json(AcceptedHostKey { device: row.name, accepted, replaced }))
}

/// The device of this name, if it is one that may have host keys.
async fn find(api: &Api, name: &str) -> Result<DeviceRow, ApiError> {
    let row = devices::find(api, name).await?;
    match row.kind {
        DeviceKind::Classic => Err(StoreError::Classic.into()),
        _ => Ok(row),
    }
}

fn view(key: &HostKey) -> HostKeyView {
    HostKeyView { kind: key.kind().to_owned(), key: key.base64(), fingerprint: key.fingerprint() }
}
