//! `/devices`: who they are, and what can be asked of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use protocol_core::code::CloseReason;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api,
    asker::{Asker, Body, Name, Nothing, Options, done_whole},
    error::{ApiError, enrol_again},
    fleet,
    rights::{Action, Object},
    stream,
    view::{DeviceView, Page, PingAnswer, RevokeAnswer, SendRequest, SentAnswer, WiredAnswer, WiredRequest},
};
use crate::{
    event::Who,
    host::MESSAGE_OVERHEAD,
    mailbox::{Farewell, WIRED_RETRY},
    registry::{Online, ReachError},
    store::{
        DeviceId, DeviceKind, DeviceName, DeviceRow, EnrolledWired, Kind, LastSession, NewMessage, Revoked,
        StoreError, UnixMillis,
    },
};

/// The longest time that a message may wait: what is meant to be kept longer has no end.
const LONGEST_WAIT: u64 = 10 * 365 * 86_400;

/// Whether the devices are wanted as a stream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    follow: bool,
}

/// `GET /devices`
pub(super) async fn list(
    asker: Asker,
    headers: HeaderMap,
    Options(Wanted { follow }): Options<Wanted>,
) -> Result<Response, ApiError> {
    let api = asker.may(Action::Look, Object::Devices)?;
    if follow || stream::is_wanted(&headers) {
        return fleet::follow(api, asker.rights()).await;
    }
    let rows = api.host.store.devices().await?;
    let connections = Connections::look(api, None).await?;
    let items: Vec<_> = rows.into_iter().map(|row| connections.view(row)).collect();
    Ok(Json(Page { items, next: None }).into_response())
}

/// `GET /devices/{name}`
pub(super) async fn show(asker: Asker, Name(name): Name) -> Result<Json<DeviceView>, ApiError> {
    let api = asker.may(Action::Look, Object::Device(&name))?;
    let row = find(api, &name).await?;
    let connections = Connections::look(api, Some(row.id)).await?;
    Ok(Json(connections.view(row)))
}

/// `POST /devices`
pub(super) async fn enrol_wired(
    asker: Asker,
    Body(request): Body<WiredRequest>,
) -> Result<(StatusCode, Json<WiredAnswer>), ApiError> {
    let api = asker.may(Action::Enrol, Object::Device(&request.gateway))?;
    let WiredRequest { name, gateway } = request;
    let name: DeviceName = name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    if name.as_str() == gateway {
        let message = format!("{gateway} can't be wired to itself: expected another name for the new device");
        return Err(ApiError::bad_request(message));
    }
    let enrolled = api.host.store.enrol_wired(name, &gateway, asker.who()).await;
    let EnrolledWired { device, repeat } = enrolled.map_err(|error| match error {
        StoreError::NoSuchDevice => ApiError::no_such_device(&gateway),
        error => error.into(),
    })?;
    let status = if repeat { StatusCode::OK } else { StatusCode::CREATED };
    let config =
        format!("[[serial]]\npath = \"/dev/serial0\"\nbaud = 115200\ndevice = \"{}\"\n", device.name);
    Ok((status, Json(WiredAnswer { name: device.name, gateway, repeat, config })))
}

/// `POST /devices/{name}/messages`
pub(super) async fn send(
    asker: Asker,
    Name(name): Name,
    Body(request): Body<SendRequest>,
) -> Result<(StatusCode, Json<SentAnswer>), ApiError> {
    let api = asker.may(Action::Send, Object::Device(&name))?;
    let row = find(api, &name).await?;
    let message = NewMessage { who: Some(asker.who()), ..checked(api, request)? };
    let id = api.host.store.enqueue(row.id, message, api.host.limits.queued_messages).await;
    let id = id.map_err(|error| match error {
        StoreError::Revoked => ApiError::revoked(&row),
        error => error.into(),
    })?;
    api.host.registry.notify(row.id);
    let online = api.host.registry.online(row.id).is_some();
    Ok((StatusCode::CREATED, Json(SentAnswer { id: id.0, device: row.name, online })))
}

fn checked(api: &Api, request: SendRequest) -> Result<NewMessage, ApiError> {
    let body = match (request.body, request.body_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|error| ApiError::bad_request(format!("body_base64 is no base64: {error}")))?,
        _ => return Err(ApiError::bad_request("expected either body or body_base64")),
    };
    let limit = usize::from(api.host.limits.max_frame).saturating_sub(MESSAGE_OVERHEAD);
    if body.len() > limit {
        let message = format!("expected a message of at most {limit} bytes, found {}", body.len());
        return Err(
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message).hint("send it in parts")
        );
    }
    let kind = match request.kind {
        Some(kind) => kind.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?,
        None => Kind::TEXT,
    };
    let expires_at = request.expires_seconds.map(expiry).transpose()?;
    Ok(NewMessage { kind, body, expires_at, who: None })
}

/// The moment so many seconds from now.
pub(super) fn expiry(seconds: u64) -> Result<UnixMillis, ApiError> {
    match i64::try_from(seconds) {
        Ok(allowed) if (1..=LONGEST_WAIT).contains(&seconds) => Ok(UnixMillis::now().plus(allowed * 1000)),
        _ => Err(ApiError::bad_request(format!(
            "expires_seconds: expected 1 to {LONGEST_WAIT}, found {seconds}"
        ))),
    }
}

/// `POST /devices/{name}/ping`
pub(super) async fn ping(asker: Asker, Name(name): Name, _: Nothing) -> Result<Json<PingAnswer>, ApiError> {
    let api = asker.may(Action::Ping, Object::Device(&name))?;
    let row = find(api, &name).await?;
    if row.kind == DeviceKind::Classic {
        return Err(StoreError::Classic.into());
    }
    if row.revoked_at.is_some() {
        return Err(ApiError::revoked(&row));
    }
    let asked = Instant::now();
    // A little more than the connection's own timeout, which decides.
    let time_limit = api.host.keep_alive.timeout + Duration::from_secs(1);
    let round_trip = api.host.registry.ping(row.id, time_limit).await;
    let round_trip = round_trip.map_err(|error| match error {
        ReachError::Offline => ApiError::offline(&row),
        error => error.into(),
    })?;
    tracing::debug!(device = %row.name, ?round_trip, elapsed = ?asked.elapsed(), "pinged");
    Ok(Json(PingAnswer { device: row.name, round_trip_ms: millis(round_trip) }))
}

/// `POST /devices/{name}/revoke`
pub(super) async fn revoke(
    asker: Asker,
    Name(name): Name,
    _: Nothing,
) -> Result<Json<RevokeAnswer>, ApiError> {
    let api = asker.may(Action::Revoke, Object::Device(&name))?;
    done_whole(take_rights(Arc::clone(api), name, asker.who())).await.map(Json)
}

async fn take_rights(api: Arc<Api>, name: String, who: Who) -> Result<RevokeAnswer, ApiError> {
    let revoked = api.host.store.revoke(&name, who).await.map_err(|error| match error {
        StoreError::NoSuchDevice => ApiError::no_such_device(&name),
        error => error.into(),
    })?;
    let Revoked { device, kind, gateway, wired } = revoked;
    let why = "an operator took this device's rights away";
    let farewell = match &gateway {
        Some(gateway) => Farewell::over_gateway(CloseReason::Revoked, why, &device.name, gateway),
        None => Farewell::new(CloseReason::Revoked, why),
    };
    let was_online = api.host.registry.close(device.id, farewell);
    api.host.tasks.end_of_device(device.id, "the device was revoked");
    for device in &wired {
        let farewell = Farewell::new(CloseReason::Revoked, "an operator took the rights of its gateway away");
        api.host.registry.close(device.id, farewell.retry_after(WIRED_RETRY));
    }
    let wired = wired.into_iter().map(|device| device.name).collect();
    let again = enrol_again(&device.name, kind, gateway.as_deref());
    let kind = kind.name().to_owned();
    Ok(RevokeAnswer { device: device.name, kind, was_online, gateway, wired, again })
}

/// The device of this name.
pub(super) async fn find(api: &Api, name: &str) -> Result<DeviceRow, ApiError> {
    api.host.store.device(name).await?.ok_or_else(|| ApiError::no_such_device(name))
}

/// Who is connected, and from where everyone was last.
pub(super) struct Connections {
    online: HashMap<DeviceId, Arc<Online>>,
    /// Since when; of several connections, the first.
    classic: HashMap<DeviceId, UnixMillis>,
    last: HashMap<DeviceId, LastSession>,
    /// How many tasks have not ended.
    tasks: HashMap<DeviceId, u64>,
}

impl Connections {
    /// Of all devices, or of this one.
    pub(super) async fn look(api: &Api, device: Option<DeviceId>) -> Result<Self, ApiError> {
        Self::with(api, api.host.store.last_sessions(device).await?).await
    }

    /// Of all who are connected, and of those of whom it is known where they were last.
    pub(super) async fn with(api: &Api, last: Vec<LastSession>) -> Result<Self, ApiError> {
        let mut classic = HashMap::new();
        for client in api.host.classic_clients.all() {
            let since = classic.entry(client.device).or_insert(client.since);
            *since = client.since.min(*since);
        }
        let online = api.host.registry.all();
        Ok(Self {
            online: online.into_iter().map(|online| (online.device, online)).collect(),
            classic,
            last: last.into_iter().map(|session| (session.device, session)).collect(),
            tasks: api.host.store.open_tasks_by_device().await?,
        })
    }

    /// The device of this row, as it is shown.
    pub(super) fn view(&self, row: DeviceRow) -> DeviceView {
        let online = self.online.get(&row.id);
        let since = online.map(|online| online.since).or_else(|| self.classic.get(&row.id).copied());
        let last_seen = online.map(|online| online.figures.last_heard()).max(row.last_seen);
        let address = match (online, self.last.get(&row.id)) {
            (Some(online), _) => Some(online.address.ip().to_canonical().to_string()),
            (None, last) => last.map(|last| last.address.clone()),
        };
        let round_trip = online.and_then(|online| online.figures.round_trip());
        let connected = since.map_or(0, |since| UnixMillis::now().0.saturating_sub(since.0));
        let connected = row.connected_millis.saturating_add(u64::try_from(connected).unwrap_or(0));
        DeviceView {
            name: row.name,
            kind: row.kind.name().to_owned(),
            online: since.is_some(),
            since: since.map(Into::into),
            last_seen: last_seen.map(Into::into),
            address,
            version: row.version,
            host_name: row.host_name,
            ssh_user: row.ssh_user,
            ssh_host_keys: row.ssh_host_keys,
            key: row.key,
            gateway: row.gateway,
            round_trip_ms: round_trip.map(|micros| millis(Duration::from_micros(micros))),
            queued: row.waiting,
            created: row.created.into(),
            revoked: row.revoked_at.map(Into::into),
            sessions: row.sessions,
            connected_seconds: connected / 1000,
            messages_in: row.messages_in,
            bytes_in: row.bytes_in,
            messages_out: row.messages_out,
            bytes_out: row.bytes_out,
            status: row.status.map(Value::Object),
            status_at: row.status_at.map(Into::into),
            tasks: self.tasks.get(&row.id).copied().unwrap_or(0),
            cameras: online.map_or(0, |online| online.camera_count()),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
