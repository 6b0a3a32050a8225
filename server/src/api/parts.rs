//! `/parts`: what the server consists of, how it stands, and how much it has to do.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response, sse::Event},
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    Api,
    asker::{Asker, Options},
    error::ApiError,
    peer::Rights,
    places::Place,
    rights::{Action, Object},
    stream::{self, Follow},
    view::{PartView, PartsView},
};
use crate::{metrics::METRICS, parts::Part};

/// How often it is told how they are.
const INTERVAL: Duration = Duration::from_secs(1);

/// Over how many looks messages are counted.
const LOOKS: usize = 5;

/// How the parts are wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Selection {
    /// Stay, and stream them each second.
    follow: bool,
}

/// `GET /parts`
pub(super) async fn list(
    asker: Asker,
    headers: HeaderMap,
    Options(Selection { follow }): Options<Selection>,
) -> Result<Response, ApiError> {
    let api = Arc::clone(asker.may(Action::Look, Object::Server)?);
    if !follow && !stream::is_wanted(&headers) {
        return Ok(Json(view(&api, &mut VecDeque::new())).into_response());
    }
    let rights = asker.rights();
    let place = stream::place_for(&api, &rights)?;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let onlooker = Onlooker { api, rights, ticks, looks: VecDeque::new(), _place: place };
    Ok(stream::answer(onlooker))
}

struct Onlooker {
    api: Arc<Api>,
    rights: Rights,
    ticks: Interval,
    /// When it was looked, and how many messages there had been.
    looks: VecDeque<(Instant, u64)>,
    _place: Place,
}

impl Follow for Onlooker {
    /// How the parts are at the next tick; nothing if the server stops, or the rights are gone.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            _ = self.ticks.tick() => {}
            _ = self.api.shutdown.requested() => return None,
            () = self.rights.gone() => return None,
        }
        if self.rights.are_gone() {
            return None;
        }
        Event::default().event("parts").json_data(view(&self.api, &mut self.looks)).ok()
    }
}

fn view(api: &Api, looks: &mut VecDeque<(Instant, u64)>) -> PartsView {
    let store = &api.host.store;
    let ((backlog, _), (requests, streams)) = (store.backlog(), api.places.taken());
    let mut figures = BTreeMap::from([
        ("devices_online", api.host.registry.count() as f64),
        ("store_backlog", backlog as f64),
        ("database_bytes", store.size() as f64),
        ("requests", requests as f64),
        ("streams", streams as f64),
    ]);
    figures.extend(memory().map(|bytes| ("memory_bytes", bytes as f64)));
    figures.extend(pace(looks).map(|pace| ("messages_per_second", pace)));
    let parts = api.host.parts.all();
    PartsView { figures: named(figures), parts: parts.iter().map(|part| part_view(part)).collect() }
}

fn part_view(part: &Part) -> PartView {
    let standing = part.standing();
    PartView {
        name: part.name.to_owned(),
        kind: part.kind.name().to_owned(),
        state: standing.state.name().to_owned(),
        since: standing.since.into(),
        restarts: standing.restarts,
        reason: standing.reason,
        figures: named(part.figures()),
    }
}

fn named(figures: impl IntoIterator<Item = (&'static str, f64)>) -> BTreeMap<String, f64> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How many messages there were each second, over the last looks.
fn pace(looks: &mut VecDeque<(Instant, u64)>) -> Option<f64> {
    let (now, count) = (Instant::now(), METRICS.message_count());
    looks.push_back((now, count));
    if looks.len() > LOOKS {
        looks.pop_front();
    }
    let (then, before) = *looks.front()?;
    let seconds = now.duration_since(then).as_secs_f64();
    (seconds > 0.0).then(|| (count - before) as f64 / seconds)
}

/// How much memory the server has now, in bytes.
fn memory() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}
