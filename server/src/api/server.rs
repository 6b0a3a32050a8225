//! `/status`, `/tokens`, `/stop`.

use std::process;

use axum::{Json, http::StatusCode};
use protocol_core::{code::Role, message::MAX_ADDRESSES};

use super::{
    Api,
    asker::{Asker, Body, Nothing},
    devices::expiry,
    error::ApiError,
    rights::{Action, Object},
    users::role_of,
    view::{StatusView, StopAnswer, TokenAnswer, TokenRequest},
};
use crate::{
    config::is_host_and_port,
    enrolment::{self, InvitationRequest},
    store::{DeviceName, RandomId, StoreError},
};

/// For how many devices a token may be good.
const MOST_USES: u32 = 100_000;

/// For how long a token is good if nobody says, in seconds.
const DEFAULT_EXPIRY: u64 = 86_400;

/// `GET /status`
pub(super) async fn status(asker: Asker) -> Result<Json<StatusView>, ApiError> {
    let api = asker.may(Action::Look, Object::Server)?;
    let counts = api.host.store.counts().await?;
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        started: api.started.into(),
        store: RandomId(api.host.store.id()).to_string(),
        pin: api.host.address_book.current.to_string(),
        listen: api.addresses.listen.to_string(),
        classic: api.addresses.classic.map(|address| address.to_string()),
        http: api.addresses.http.map(|address| address.to_string()),
        console: api.console_addresses(),
        devices: counts.devices,
        online: api.host.registry.count() as u64,
        classic_online: api.host.classic_clients.count() as u64,
        queued: counts.waiting,
    }))
}

/// `POST /tokens`
pub(super) async fn make_token(
    asker: Asker,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<TokenAnswer>), ApiError> {
    let object = if request.operator.is_some() { Object::Operators } else { Object::Devices };
    let api = asker.may(Action::Enrol, object)?;
    let role = checked_role(api, &request).await?;
    let uses = request.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(ApiError::bad_request(format!("uses: expected 1 to {MOST_USES}, found {uses}")));
    }
    let name: Option<DeviceName> = request
        .operator
        .or(request.name)
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("{error}")))?;
    if let Some(name) = name.as_ref().filter(|_| uses == 1 && role.is_none())
        && let Some(holder) = api.host.store.device(name.as_str()).await?
        && holder.revoked_at.is_none()
    {
        return Err(StoreError::NameTaken(name.clone()).into());
    }
    if request.addresses.len() > MAX_ADDRESSES {
        let found = request.addresses.len();
        return Err(ApiError::bad_request(format!(
            "addresses: expected at most {MAX_ADDRESSES}, found {found}"
        )));
    }
    if let Some(bad) = request.addresses.iter().find(|address| !is_host_and_port(address)) {
        return Err(ApiError::bad_request(format!("addresses: expected HOST:PORT, found {bad:?}")));
    }
    let expires_at = expiry(request.expires_seconds.unwrap_or(DEFAULT_EXPIRY))?;
    let guessed = api.guessed && request.addresses.is_empty();
    let addresses = match request.addresses.is_empty() {
        true => api.host.address_book.addresses.clone(),
        false => request.addresses,
    };
    let who = asker.who();
    let request = InvitationRequest { name, uses, expires_at, role, who, addresses: addresses.clone() };
    let invitation = enrolment::invite(&api.host, request).await?;
    let command = if role.is_some() { "holdfast login" } else { "holdfast-agent enroll" };
    let line = format!("{command} {invitation}");
    let answer = TokenAnswer { line, expires: expires_at.into(), uses, addresses, guessed };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The role of an operator whom a line is for; none if it is for devices.
async fn checked_role(api: &Api, request: &TokenRequest) -> Result<Option<Role>, ApiError> {
    let Some(operator) = &request.operator else {
        return match request.role {
            None => Ok(None),
            Some(_) => Err(ApiError::bad_request("role: expected only beside operator")),
        };
    };
    if request.name.is_some() || request.uses.is_some_and(|uses| uses != 1) {
        return Err(ApiError::bad_request("operator: expected without name, and for one use"));
    }
    let role = role_of(request.role.as_deref().unwrap_or_default())?;
    match api.host.store.operator(operator).await? {
        Some(holder) if holder.revoked_at.is_none() && holder.key.is_some() => {
            let message = format!("there is an operator {operator} already, with the role {}", holder.role);
            Err(ApiError::new(StatusCode::CONFLICT, "name-taken", message)
                .hint("choose another name for another person or machine, or revoke this one first"))
        }
        Some(holder) if holder.revoked_at.is_none() && holder.role != role => {
            let message = format!("{operator} has the role {}, and a line gives no other", holder.role);
            Err(ApiError::new(StatusCode::CONFLICT, "other-role", message)
                .hint(format!("change it first: `holdfast user role {operator} {role}`")))
        }
        _ => Ok(Some(role)),
    }
}

/// `POST /stop`
pub(super) async fn stop(asker: Asker, _: Nothing) -> Result<(StatusCode, Json<StopAnswer>), ApiError> {
    let api = asker.may(Action::Stop, Object::Server)?;
    api.shutdown.request(format!("holdfast stop, by {}", asker.who()));
    Ok((StatusCode::ACCEPTED, Json(StopAnswer { pid: process::id() })))
}
