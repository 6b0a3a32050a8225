//! `/tasks`, and what begins one: what devices are asked to do.

use std::sync::Arc;

use axum::{
    Json,
    body::Body as HttpBody,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Api,
    asker::{Asker, Body, Id, Name, Nothing, Options, Sight, Upgrade},
    devices,
    error::ApiError,
    lists::{checked_after, checked_before, checked_limit, next},
    rights::{Action, Object},
    stream, task_stream,
    view::{Page, TaskRequest, TaskView, headers},
};
use crate::{
    http,
    parts::PartKind,
    store::{DeviceKind, DeviceRow, StoreError, TaskFilter, TaskId, TaskRow, TaskState},
    tasks::{Relay, Task, TaskError, TaskKind},
};

/// The part that carries the bytes of sessions of ssh.
pub const RELAY: &str = "ssh sessions";

/// Which tasks are wanted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Selection {
    /// Only of this device.
    device: Option<String>,
    /// Only those that have not ended.
    open: bool,
    /// Only what is behind this id.
    after: Option<i64>,
    /// Only what is before this id: the last of it.
    before: Option<i64>,
    /// So many at most.
    limit: Option<usize>,
    /// Stay, and stream the open ones and whatever changes.
    follow: bool,
}

/// `GET /tasks`
pub(super) async fn list(
    asker: Asker,
    headers: HeaderMap,
    Options(selection): Options<Selection>,
) -> Result<Response, ApiError> {
    let object = selection.device.as_deref().map_or(Object::Devices, Object::Device);
    let api = asker.may(Action::Look, object)?;
    let (limit, after) = (checked_limit(selection.limit)?, TaskId(checked_after(selection.after)?));
    let device = match &selection.device {
        Some(name) => Some(devices::find(api, name).await?.id),
        None => None,
    };
    if selection.follow || stream::is_wanted(&headers) {
        return task_stream::follow(api, &asker, device).await;
    }
    let before = checked_before(selection.before)?;
    let filter = TaskFilter { device, open: selection.open, after, before: before.map(TaskId), limit };
    let rows = api.host.store.tasks(filter).await?;
    let next = next(&rows, limit, before, |row| row.id.0);
    let sight = asker.sight();
    let items: Vec<TaskView> = rows.into_iter().map(|row| view(row, &sight)).collect();
    Ok(Json(Page { items, next }).into_response())
}

/// `GET /tasks/{id}`
pub(super) async fn show(asker: Asker, Id(id): Id) -> Result<Json<TaskView>, ApiError> {
    let (_, row) = find(&asker, Action::Look, id).await?;
    Ok(Json(view(row, &asker.sight())))
}

/// `POST /tasks/{id}/stop`
pub(super) async fn stop(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<TaskView>, ApiError> {
    let (api, row) = find(&asker, Action::StopTask, id).await?;
    let stopped = api.host.tasks.stop(row.id, format!("stopped by {}", asker.who().name));
    stopped.map_err(|error| match error {
        TaskError::NoSuchTask => ApiError::task_ended(id),
        error => error.into(),
    })?;
    asker.note_stop(row.device, "task", id);
    let (_, row) = find(&asker, Action::Look, id).await?;
    Ok(Json(view(row, &asker.sight())))
}

/// `POST /devices/{name}/tasks`
pub(super) async fn start(
    asker: Asker,
    Name(name): Name,
    Body(request): Body<TaskRequest>,
) -> Result<(StatusCode, Json<TaskView>), ApiError> {
    let kind = TaskKind::find(&request.kind).filter(|kind| !kind.has_bytes());
    let kind = kind
        .ok_or_else(|| ApiError::bad_request(format!("kind: expected reboot, found {:?}", request.kind)))?;
    let api = asker.may(action(kind), Object::Device(&name))?;
    let mut task = begin(api, &asker, &name, kind).await?;
    let id = task.id();
    let standing = task.running().await;
    task.leave();
    if !matches!(standing.state, TaskState::Running | TaskState::Done) {
        return Err(TaskError::Ended(standing.reason.unwrap_or_default()).into());
    }
    let row = api.host.store.task(id).await?.ok_or_else(|| no_such_task(id.0))?;
    Ok((StatusCode::CREATED, Json(view(row, &asker.sight()))))
}

/// `POST /devices/{name}/ssh`, answered by the bytes of the device's SSH server instead of HTTP.
pub(super) async fn ssh(asker: Asker, Name(name): Name, upgrade: Upgrade) -> Result<Response, ApiError> {
    let api = asker.may(action(TaskKind::Ssh), Object::Device(&name))?;
    if api.shutdown.is_requested() {
        return Err(ApiError::stopping());
    }
    let mut task = begin(api, &asker, &name, TaskKind::Ssh).await?;
    // Whoever goes before this ends the task: it is dropped with the request.
    let bytes = task.bytes().await?;
    let id = task.id();
    let (idle_limit, shutdown) = (api.host.ssh.idle_limit, api.shutdown.clone());
    let parts = Arc::clone(&api.host.parts);
    let part = parts.part(RELAY, PartKind::Relay);
    let peer = asker.take_over();
    let relaying = Box::pin(async move {
        match upgrade.0.await.ok().and_then(http::taken_over) {
            Some((first, operator)) => {
                let relay = Relay::new(operator, &first, idle_limit);
                // It is a part of the buffer that the request was read into.
                drop(first);
                relay.run(task, bytes, &shutdown).await
            }
            None => tracing::debug!("an operator has gone before the session began"),
        }
        drop(peer);
    });
    tokio::spawn(async move { parts.guard(&part, relaying).await });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, headers::UPGRADE)
        .header(headers::TASK, id.0)
        .body(HttpBody::empty())
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Has the device asked, on behalf of the one who asks here.
async fn begin(api: &Arc<Api>, asker: &Asker, name: &str, kind: TaskKind) -> Result<Task, ApiError> {
    let row = reachable(api, name).await?;
    let task = match api.host.tasks.start(row.id, kind, asker.requester()).await {
        Err(TaskError::Offline) => return Err(ApiError::offline(&row)),
        started => started?,
    };
    // Whoever was revoked before the task was there to be stopped: it ends as it is dropped here.
    asker.check_rights()?;
    Ok(task)
}

/// The device of this name, if it is one that can be asked.
pub(super) async fn reachable(api: &Api, name: &str) -> Result<DeviceRow, ApiError> {
    let row = devices::find(api, name).await?;
    match (row.kind, row.revoked_at) {
        (DeviceKind::Classic, _) => Err(StoreError::Classic.into()),
        (_, Some(_)) => Err(ApiError::revoked(&row)),
        (_, None) => Ok(row),
    }
}

/// The task of this number, if it may be asked about: the rights are those to its device.
async fn find(asker: &Asker, action: Action, id: i64) -> Result<(Arc<Api>, TaskRow), ApiError> {
    let api = asker.may(Action::Look, Object::Devices)?;
    let row = api.host.store.task(TaskId(id)).await?.ok_or_else(|| no_such_task(id))?;
    let api = asker.may(action, Object::Device(&row.name))?;
    Ok((Arc::clone(api), row))
}

fn no_such_task(id: i64) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no-such-task", format!("there is no task {id}"))
        .hint("`holdfast tasks` shows all that there are")
}

const fn action(kind: TaskKind) -> Action {
    match kind {
        TaskKind::Ssh | TaskKind::OpenSsh => Action::Ssh,
        TaskKind::Reboot => Action::Reboot,
        TaskKind::Video => Action::Watch,
    }
}

/// A task as it is told to whoever sees so much of others.
pub(super) fn view(row: TaskRow, sight: &Sight) -> TaskView {
    TaskView {
        id: row.id.0,
        device: row.name,
        kind: row.kind,
        state: row.state.name().to_owned(),
        address: row.address.filter(|_| sight.covers(&row.who)),
        who: row.who,
        requested: row.requested.into(),
        started: row.started.map(Into::into),
        ended: row.ended.map(Into::into),
        reason: row.reason,
        output: row.output.map(|output| String::from_utf8_lossy(&output).into_owned()),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
    }
}
