//! `/provisioning`: what stands in the provisioning blocks of microcontrollers, and the devices that have one.

use axum::{Json, http::StatusCode};

use super::{
    Api,
    asker::{Asker, Body},
    error::ApiError,
    rights::{Action, Object},
    view::{ProvisionedDevice, ProvisioningAnswer, ProvisioningRequest, ProvisioningView},
};
use crate::{
    firmware,
    store::{Provisioned, StoreError},
};

/// How many devices may be registered at once: each takes some 150 bytes of a request.
pub const MOST_DEVICES: usize = 3_000;

/// `GET /provisioning`
pub(super) async fn show(asker: Asker) -> Result<Json<ProvisioningView>, ApiError> {
    let api = asker.may(Action::Look, Object::Server)?;
    let told = &api.host.address_book;
    Ok(Json(ProvisioningView {
        current: told.current.to_string(),
        next: told.next.to_string(),
        addresses: told.addresses.clone(),
        guessed: api.guessed,
    }))
}

/// `POST /provisioning`
pub(super) async fn register(
    asker: Asker,
    Body(request): Body<ProvisioningRequest>,
) -> Result<(StatusCode, Json<ProvisioningAnswer>), ApiError> {
    let api = asker.may(Action::Enrol, Object::Devices)?;
    refuse_other_keys(api, &request)?;
    let count = request.devices.len();
    if !(1..=MOST_DEVICES).contains(&count) {
        let message = format!("devices: expected 1 to {MOST_DEVICES}, found {count}");
        return Err(ApiError::bad_request(message));
    }
    let devices = request.devices.into_iter().map(checked).collect::<Result<_, _>>()?;
    let registered = api.host.store.provision(devices, asker.who()).await;
    registered.map_err(|error| match error {
        StoreError::KeyKnown(_) => ApiError::new(StatusCode::CONFLICT, "key-known", error.to_string())
            .hint("make a new key for each device"),
        error => error.into(),
    })?;
    Ok((StatusCode::CREATED, Json(ProvisioningAnswer { devices: count as u64 })))
}

/// A device whose block names other keys would not know this server, or not the next one.
fn refuse_other_keys(api: &Api, request: &ProvisioningRequest) -> Result<(), ApiError> {
    let told = &api.host.address_book;
    let named = (firmware::pin(&request.current), firmware::pin(&request.next));
    if named == (Some(told.current), Some(told.next)) {
        return Ok(());
    }
    let message =
        "the blocks name other keys than this server's: they have changed since, or it is another server";
    Err(ApiError::new(StatusCode::CONFLICT, "keys-changed", message).hint("make the blocks anew"))
}

fn checked(device: ProvisionedDevice) -> Result<Provisioned, ApiError> {
    let name = device.name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let key = firmware::pin(&device.key).ok_or_else(|| {
        ApiError::bad_request(format!("key: expected 64 hexadecimal digits, found {:?}", device.key))
    })?;
    Ok(Provisioned { name, key: key.0 })
}
