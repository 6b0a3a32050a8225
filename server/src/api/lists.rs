//! `/sessions`, `/messages`, `/events`: pages of what is kept, and streams of what comes.

use std::sync::Arc;

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api,
    asker::{Asker, Options, Sight},
    devices,
    error::ApiError,
    peer::Rights,
    rights::{Action, Object},
    stream::{self, List},
    view::{EventView, MessageView, Page, SessionView, Time},
};
use crate::{
    event::{EventKind, EventRow},
    store::{
        Direction, EventFilter, EventId, MessageFilter, MessageId, MessageRow, Newest, SessionFilter,
        SessionId, SessionRow,
    },
};

/// How many rows a page has if nobody says, and at most.
const PAGE: usize = 500;
const LARGEST_PAGE: usize = 1_000;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Selection {
    /// Only of this device.
    device: Option<String>,
    /// Only what is behind this id.
    after: Option<i64>,
    /// Only what is before this id: the last of it.
    before: Option<i64>,
    /// So many at most.
    limit: Option<usize>,
    /// Only what came since then.
    since: Option<Time>,
    /// Stay, and stream what comes.
    follow: bool,
}

impl Selection {
    fn limit(&self) -> Result<usize, ApiError> {
        checked_limit(self.limit)
    }

    fn after(&self) -> Result<i64, ApiError> {
        checked_after(self.after)
    }

    fn before(&self) -> Result<Option<i64>, ApiError> {
        checked_before(self.before)
    }

    fn object(&self) -> Object<'_> {
        self.device.as_deref().map_or(Object::Devices, Object::Device)
    }

    /// Whether a stream is wanted, and behind which id it begins: a client that was cut says so itself.
    fn stream(&mut self, headers: &HeaderMap) -> Result<bool, ApiError> {
        if let Some(last) = headers.get("last-event-id") {
            let id = last.to_str().ok().and_then(|id| id.parse().ok()).filter(|id| *id >= 0);
            let no_id = || ApiError::bad_request("Last-Event-ID: expected the id of an entry, 0 or more");
            self.after = Some(id.ok_or_else(no_id)?);
        }
        let follow = self.follow || stream::is_wanted(headers);
        if follow && self.before.is_some() {
            return Err(ApiError::bad_request("a stream goes on with what comes, and knows no before"));
        }
        Ok(follow)
    }
}

/// How many entries a page has at most, if that is asked for.
pub(super) fn checked_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=LARGEST_PAGE => Ok(limit),
        limit => Err(ApiError::bad_request(format!("limit: expected 1 to {LARGEST_PAGE}, found {limit}"))),
    }
}

/// The id behind which a list begins; 0: at its first entry.
pub(super) fn checked_after(after: Option<i64>) -> Result<i64, ApiError> {
    match after.unwrap_or(0) {
        after @ 0.. => Ok(after),
        after => Err(ApiError::bad_request(format!(
            "after: expected the id of an entry, 0 or more, found {after}"
        ))),
    }
}

/// The id before which a list ends, if one is given.
pub(super) fn checked_before(before: Option<i64>) -> Result<Option<i64>, ApiError> {
    match before {
        None | Some(1..) => Ok(before),
        Some(before) => Err(ApiError::bad_request(format!(
            "before: expected the id of an entry, 1 or more, found {before}"
        ))),
    }
}

/// Where a page that may have as many as `limit` rows, and was read with or without `before`, is gone on with: none
/// where it was not full.
pub(super) fn next<T>(rows: &[T], limit: usize, before: Option<i64>, id: impl Fn(&T) -> i64) -> Option<i64> {
    let outermost = if before.is_some() { rows.first() } else { rows.last() };
    outermost.filter(|_| rows.len() == limit).map(id)
}

#[derive(Clone, Copy)]
pub(super) struct Messages(MessageFilter);

impl List for Messages {
    type View = MessageView;

    async fn read(&self, api: &Api, after: i64) -> Result<Vec<MessageView>, ApiError> {
        let filter = MessageFilter { after: MessageId(after), ..self.0 };
        Ok(api.host.store.messages(filter).await?.into_iter().map(message_view).collect())
    }

    fn is_end(&self) -> bool {
        self.0.before.is_some()
    }

    fn last_before(&self, id: i64) -> Self {
        Self(MessageFilter { before: Some(MessageId(id)), limit: 1, ..self.0 })
    }

    fn id(view: &MessageView) -> i64 {
        view.id
    }

    fn newest(newest: &Newest) -> i64 {
        newest.message.0
    }
}

#[derive(Clone)]
pub(super) struct Events {
    filter: EventFilter,
    sight: Sight,
}

impl List for Events {
    type View = EventView;

    async fn read(&self, api: &Api, after: i64) -> Result<Vec<EventView>, ApiError> {
        let filter = EventFilter { after: EventId(after), ..self.filter };
        let rows = api.host.store.events(filter).await?.into_iter();
        Ok(rows.map(|row| event_view(row, &self.sight)).collect())
    }

    fn is_end(&self) -> bool {
        self.filter.before.is_some()
    }

    fn last_before(&self, id: i64) -> Self {
        let filter = EventFilter { before: Some(EventId(id)), limit: 1, ..self.filter };
        Self { filter, sight: self.sight.clone() }
    }

    fn id(view: &EventView) -> i64 {
        view.id
    }

    fn newest(newest: &Newest) -> i64 {
        newest.event.0
    }
}

/// `GET /sessions`
pub(super) async fn sessions(
    asker: Asker,
    Options(selection): Options<Selection>,
) -> Result<Json<Page<SessionView>>, ApiError> {
    let api = asker.may(Action::Look, selection.object())?;
    if selection.follow || selection.since.is_some() {
        return Err(ApiError::bad_request("sessions know no follow and no since; events do"));
    }
    let limit = selection.limit()?;
    let device = match &selection.device {
        Some(name) => Some(devices::find(api, name).await?.id),
        None => None,
    };
    let after = SessionId(selection.after()?);
    let before = selection.before()?;
    let filter = SessionFilter { device, after, before: before.map(SessionId), limit };
    let rows = api.host.store.sessions(filter).await?;
    let next = next(&rows, limit, before, |row| row.id.0);
    Ok(Json(Page { items: rows.into_iter().map(session_view).collect(), next }))
}

/// `GET /messages`
pub(super) async fn messages(
    asker: Asker,
    headers: HeaderMap,
    Options(mut selection): Options<Selection>,
) -> Result<Response, ApiError> {
    let follow = selection.stream(&headers)?;
    let api = asker.may(Action::Look, selection.object())?;
    let after = selection.after()?;
    let mut filter = MessageFilter { limit: selection.limit()?, ..MessageFilter::default() };
    if let Some(name) = &selection.device {
        filter.device = Some(devices::find(api, name).await?.id);
    }
    filter.since = selection.since.map(|since| since.0);
    filter.before = selection.before()?.map(MessageId);
    answer(api, follow.then(|| asker.rights()), Messages(filter), after).await
}

/// `GET /events`
pub(super) async fn events(
    asker: Asker,
    headers: HeaderMap,
    Options(mut selection): Options<Selection>,
) -> Result<Response, ApiError> {
    let follow = selection.stream(&headers)?;
    let api = asker.may(Action::Look, selection.object())?;
    let after = selection.after()?;
    let mut filter = EventFilter { limit: selection.limit()?, ..EventFilter::default() };
    if let Some(name) = &selection.device {
        filter.device = Some(devices::find(api, name).await?.id);
    }
    filter.since = selection.since.map(|since| since.0);
    filter.before = selection.before()?.map(EventId);
    answer(api, follow.then(|| asker.rights()), Events { filter, sight: asker.sight() }, after).await
}

/// A page, or with the rights of whoever wants it a stream.
async fn answer<L: List>(
    api: &Arc<Api>,
    stream: Option<Rights>,
    list: L,
    after: i64,
) -> Result<Response, ApiError> {
    if let Some(rights) = stream {
        return stream::follow(api, rights, list, after).await;
    }
    // Looked at first: what comes later may or may not be on the page.
    let newest = L::newest(&api.host.store.newest().borrow());
    let items = list.read(api, after).await?;
    let next = match items.first().map(L::id) {
        // A page may be full by its size alone: it is looked whether there is one more.
        Some(first) if list.is_end() => {
            let more = list.last_before(first).read(api, after).await?;
            Some(first).filter(|_| !more.is_empty())
        }
        _ => items.last().map(L::id).filter(|last| *last < newest),
    };
    Ok(Json(Page { items, next }).into_response())
}

fn session_view(row: SessionRow) -> SessionView {
    SessionView {
        id: row.id.0,
        device: row.device,
        address: row.address,
        boot: row.boot.map(|boot| boot.to_string()),
        started: row.started.into(),
        last_seen: row.last_seen.into(),
        ended: row.ended.map(Into::into),
        reason: row.reason.map(|reason| reason.name().to_owned()),
        reason_text: row.reason_text,
        messages_in: row.messages_in,
        bytes_in: row.bytes_in,
        messages_out: row.messages_out,
        bytes_out: row.bytes_out,
    }
}

fn message_view(row: MessageRow) -> MessageView {
    let state = match row.direction {
        Direction::In => None,
        Direction::Out if row.delivered_at.is_some() => Some("delivered"),
        Direction::Out if row.expired_at.is_some() => Some("expired"),
        Direction::Out => Some("waiting"),
    };
    let (body, body_base64) = MessageView::body_fields(row.body);
    MessageView {
        id: row.id.0,
        device: row.device,
        direction: row.direction.name().to_owned(),
        kind: row.kind,
        received: row.received_at.into(),
        time: row.time.map(Into::into),
        body,
        body_base64,
        state: state.map(ToOwned::to_owned),
        delivered: row.delivered_at.map(Into::into),
        expires: row.expires_at.map(Into::into),
        stream: row.stream.to_string(),
        number: row.number,
    }
}

/// An event as it is told to whoever sees so much of others.
fn event_view(mut row: EventRow, sight: &Sight) -> EventView {
    let operator = row.detail.get("operator").and_then(Value::as_str);
    let is_own = [row.who.as_deref(), operator].into_iter().flatten().any(|name| sight.covers(name));
    let is_open = sight.is_all() || is_own || !EventKind::is_about_coming_in(&row.kind);
    let is_address_open = row.who.as_deref().map_or(is_open, |who| sight.covers(who));
    if !is_open {
        row.detail.retain(|name, _| ["operator", "role"].contains(&name.as_str()));
    }
    EventView {
        id: row.id.0,
        at: row.at.into(),
        kind: row.kind,
        device: row.device,
        session: row.session.map(|session| session.0),
        address: row.address.filter(|_| is_address_open),
        who: row.who,
        detail: row.detail,
    }
}
