//! All devices, live: `GET /devices?follow=true`.
//!
//! However many look on, the devices are looked at once a second, and only while somebody looks on: what is in memory, and
//! of the store only rows of devices to which something happened. Each change is written as JSON once, for all. Who
//! looks on keeps no queue: they go on behind the revision that they saw, and of a device that has changed several times
//! they see the last.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use axum::response::{Response, sse::Event};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Api,
    devices::Connections,
    error::ApiError,
    peer::Rights,
    places::Place,
    stream::{self, Follow},
    view::DeviceView,
};
use crate::{
    lock::lock,
    parts::{Part, PartKind, Parts},
    store::{DeviceId, DeviceRow, Newest, UnixMillis},
};

/// How often the devices are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often all of their rows are read again: a few changes of them leave no trace elsewhere, such as a message that was
/// fetched.
const ALL_INTERVAL: Duration = Duration::from_secs(30);

/// If so many have changed, all are read: that costs less than each by itself.
const MANY: usize = 500;

/// Where those who look on share what they look at.
pub type SharedFleet = tokio::sync::Mutex<Weak<Fleet>>;

/// All devices, as those who look on share them; it goes with the last of them.
pub struct Fleet {
    api: Arc<Api>,
    known: Mutex<Known>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    revision: u64,
    devices: HashMap<DeviceId, Entry>,
    /// Which device has changed last at which revision.
    changes: BTreeMap<u64, DeviceId>,
}

struct Entry {
    revision: u64,
    view: DeviceView,
    json: Arc<str>,
}

impl Known {
    /// Notes how a device is now, if that is news.
    fn note(&mut self, id: DeviceId, view: DeviceView) {
        let before = self.devices.get(&id);
        if before.is_some_and(|before| !is_news(&before.view, &view)) {
            return;
        }
        let Ok(json) = serde_json::to_string(&view) else { return };
        self.revision += 1;
        let entry = Entry { revision: self.revision, view, json: json.into() };
        if let Some(before) = self.devices.insert(id, entry) {
            self.changes.remove(&before.revision);
        }
        self.changes.insert(self.revision, id);
    }

    /// What has changed behind this revision, in order.
    fn behind(&self, revision: u64) -> Vec<Arc<str>> {
        let changed = self.changes.range(revision + 1..);
        changed.filter_map(|(_, id)| Some(Arc::clone(&self.devices.get(id)?.json))).collect()
    }
}

/// Whether somebody who saw `before` should see `now`: not for what follows from the time alone.
fn is_news(before: &DeviceView, now: &DeviceView) -> bool {
    let same = DeviceView {
        last_seen: if now.online { before.last_seen } else { now.last_seen },
        connected_seconds: before.connected_seconds,
        round_trip_ms: before.round_trip_ms,
        ..now.clone()
    };
    has_other_pace(before.round_trip_ms, now.round_trip_ms) || same != *before
}

/// Whether a round trip is another one than before; less than that is noise.
fn has_other_pace(before: Option<f64>, now: Option<f64>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => (now - before).abs() > (before * 0.1).max(1.0),
        (before, now) => before.is_some() != now.is_some(),
    }
}

impl Fleet {
    /// What is shared by those who look on now, or anew.
    async fn shared(api: &Arc<Api>) -> Result<Arc<Self>, ApiError> {
        let mut shared = api.fleet.lock().await;
        if let Some(fleet) = shared.upgrade() {
            return Ok(fleet);
        }
        let (known, newest) = (Mutex::default(), watch::Sender::new(0));
        let fleet = Arc::new(Self { api: Arc::clone(api), known, newest });
        let seen = Seen::now(api);
        fleet.read_all().await?;
        *shared = Arc::downgrade(&fleet);
        tokio::spawn(attend(Arc::clone(&api.host.parts), Arc::downgrade(&fleet), seen));
        Ok(fleet)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    async fn read_all(&self) -> Result<(), ApiError> {
        let rows = self.api.host.store.devices().await?;
        let connections = Connections::look(&self.api, None).await?;
        self.note(rows, &connections);
        Ok(())
    }

    async fn read(&self, ids: Vec<DeviceId>) -> Result<(), ApiError> {
        let (rows, last) = self.api.host.store.devices_by_id(ids).await?;
        let connections = Connections::with(&self.api, last).await?;
        self.note(rows, &connections);
        Ok(())
    }

    fn note(&self, rows: Vec<DeviceRow>, connections: &Connections) {
        let mut known = self.known();
        for row in rows {
            known.note(row.id, connections.view(row));
        }
        let revision = known.revision;
        drop(known);
        self.newest.send_if_modified(|newest| std::mem::replace(newest, revision) != revision);
    }

    /// The devices that are not as they were noted, by what is in memory.
    fn moved(&self) -> HashSet<DeviceId> {
        let online = self.api.host.registry.all();
        let classic = self.api.host.classic_clients.all();
        let mut here: HashSet<DeviceId> = classic.iter().map(|client| client.device).collect();
        let known = self.known();
        let mut moved = HashSet::new();
        for online in online {
            here.insert(online.device);
            let round_trip = online.figures.round_trip().map(|micros| micros as f64 / 1000.0);
            let is_so = known.devices.get(&online.device).is_some_and(|Entry { view, .. }| {
                view.since == Some(online.since.into())
                    && view.cameras == online.camera_count()
                    && !has_other_pace(view.round_trip_ms, round_trip)
            });
            if !is_so {
                moved.insert(online.device);
            }
        }
        let shown = |id: &DeviceId| known.devices.get(id).is_some_and(|entry| entry.view.online);
        moved.extend(here.iter().filter(|id| !shown(id)));
        let gone = known.devices.iter().filter(|(id, entry)| entry.view.online && !here.contains(id));
        moved.extend(gone.map(|(id, _)| *id));
        moved
    }
}

/// How far the store was looked at.
struct Seen {
    newest: Newest,
    at: UnixMillis,
    /// When all was read.
    all: Option<Instant>,
    /// What was read a second ago is read once more: what comes with a connection is written behind its event.
    again: HashSet<DeviceId>,
}

impl Seen {
    fn now(api: &Api) -> Self {
        let newest = *api.host.store.newest().borrow();
        Self { newest, at: UnixMillis::now(), all: Some(Instant::now()), again: HashSet::new() }
    }

    /// As if nothing had been looked at yet.
    fn nothing(api: &Api) -> Self {
        Self { all: None, ..Self::now(api) }
    }

    /// Whether it is time to read all rows again.
    fn is_old(&self) -> bool {
        self.all.is_none_or(|at| at.elapsed() >= ALL_INTERVAL)
    }
}

/// Looks at the devices as long as somebody looks on. Where that panics it begins anew, with all of them.
async fn attend(parts: Arc<Parts>, fleet: Weak<Fleet>, seen: Seen) {
    let (part, mut seen) = (parts.part("fleet watch", PartKind::Timer), Some(seen));
    while let Some(api) = fleet.upgrade().map(|fleet| Arc::clone(&fleet.api)) {
        let seen = seen.take().unwrap_or_else(|| Seen::nothing(&api));
        drop(api);
        parts.guard(&part, Box::pin(keep_up(fleet.clone(), seen, Arc::clone(&part)))).await;
        sleep(INTERVAL).await;
    }
}

/// Looks at the devices as long as somebody looks on.
async fn keep_up(fleet: Weak<Fleet>, mut seen: Seen, part: Arc<Part>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(fleet) = fleet.upgrade() else { return };
        let begun = Instant::now();
        if let Err(error) = look(&fleet, &mut seen).await {
            tracing::warn!(error = error.message(), "the devices could not be looked at");
        }
        part.note_round(begun.elapsed());
    }
}

async fn look(fleet: &Fleet, seen: &mut Seen) -> Result<(), ApiError> {
    let now = Seen::now(&fleet.api);
    if seen.is_old() {
        fleet.read_all().await?;
        *seen = now;
        return Ok(());
    }
    let mut ids = fleet.moved();
    ids.extend(fleet.api.host.store.touched(seen.newest, seen.at).await?);
    let again = std::mem::replace(&mut seen.again, ids.clone());
    ids.extend(again);
    match ids.len() {
        0 => {}
        many if many > MANY => fleet.read_all().await?,
        _ => fleet.read(ids.into_iter().collect()).await?,
    }
    // Only now: after a failure the same is looked at again.
    (seen.newest, seen.at) = (now.newest, now.at);
    Ok(())
}

/// Streams all devices, then `ready`, then each that changes.
pub(super) async fn follow(api: &Arc<Api>, rights: Rights) -> Result<Response, ApiError> {
    let place = stream::place_for(api, &rights)?;
    let fleet = Fleet::shared(api).await?;
    let newest = fleet.newest.subscribe();
    let onlooker =
        Onlooker { fleet, newest, rights, seen: 0, page: Vec::new(), is_ready: false, _place: place };
    Ok(stream::answer(onlooker))
}

struct Onlooker {
    fleet: Arc<Fleet>,
    newest: watch::Receiver<u64>,
    rights: Rights,
    /// The revision up to which the page goes.
    seen: u64,
    /// What was not sent yet, the next at the end.
    page: Vec<Arc<str>>,
    is_ready: bool,
    _place: Place,
}

impl Follow for Onlooker {
    /// What is sent next; nothing if the server stops, or the rights are gone.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.rights.are_gone() {
                return None;
            }
            if let Some(json) = self.page.pop() {
                return Some(Event::default().event("device").data(&*json));
            }
            self.read();
            if !self.page.is_empty() {
                continue;
            }
            if !std::mem::replace(&mut self.is_ready, true) {
                return Some(Event::default().event("ready").data("{}"));
            }
            let seen = self.seen;
            tokio::select! {
                changed = self.newest.wait_for(|newest| *newest > seen) => changed.ok().map(drop)?,
                _ = self.fleet.api.shutdown.requested() => return None,
                () = self.rights.gone() => return None,
            }
        }
    }
}

impl Onlooker {
    fn read(&mut self) {
        let known = self.fleet.known();
        self.page = known.behind(self.seen);
        self.page.reverse();
        self.seen = known.revision;
    }
}
