//! Tasks, live: `GET /tasks?follow=true`. Each change of a task has an event: by that it wakes, and reads what is open.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::stream as futures;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Api,
    asker::{Asker, Sight},
    error::ApiError,
    peer::Rights,
    places::Place,
    stream::{self, SIGN_OF_LIFE},
    tasks::view,
    view::TaskView,
};
use crate::store::{DeviceId, EventId, Newest, TaskFilter, TaskId};

/// How often it is looked at most, however much happens.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most open tasks that are shown: more than all devices together may have by their limits is not seen.
const MOST: usize = 10_000;

/// Streams the open tasks, of this device or of all, then `ready`, then each that changes or ends.
pub(super) async fn follow(
    api: &Arc<Api>,
    asker: &Asker,
    device: Option<DeviceId>,
) -> Result<Response, ApiError> {
    let (rights, sight) = (asker.rights(), asker.sight());
    let place = stream::place_for(api, &rights)?;
    let mut follower = Follower {
        api: Arc::clone(api),
        rights,
        sight,
        newest: api.host.store.newest(),
        device,
        seen: EventId(0),
        read_at: Instant::now(),
        shown: HashMap::new(),
        page: VecDeque::new(),
        is_ready: false,
        _place: place,
    };
    // If nothing can be read, that is the answer.
    follower.read().await?;
    let events = futures::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response())
}

struct Follower {
    api: Arc<Api>,
    rights: Rights,
    sight: Sight,
    newest: watch::Receiver<Newest>,
    device: Option<DeviceId>,
    /// The newest event when it was read last.
    seen: EventId,
    read_at: Instant,
    /// The open tasks, as they were sent.
    shown: HashMap<i64, TaskView>,
    /// What was read and not sent yet.
    page: VecDeque<TaskView>,
    is_ready: bool,
    _place: Place,
}

impl Follower {
    /// What is sent next; nothing if the server stops, its store can't be read, or the rights are gone.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.rights.are_gone() {
                return None;
            }
            if let Some(view) = self.page.pop_front() {
                return Event::default().event("task").json_data(&view).ok();
            }
            if !std::mem::replace(&mut self.is_ready, true) {
                return Some(Event::default().event("ready").data("{}"));
            }
            let (seen, earliest) = (self.seen, self.read_at + INTERVAL);
            let newest = &mut self.newest;
            let news = async {
                newest.wait_for(|newest| newest.event > seen).await.ok()?;
                sleep_until(earliest).await;
                Some(())
            };
            tokio::select! {
                news = news => news?,
                _ = self.api.shutdown.requested() => return None,
                () = self.rights.gone() => return None,
            }
            self.read().await.ok()?;
        }
    }

    /// Reads what is open, and of what was open how it has ended.
    async fn read(&mut self) -> Result<(), ApiError> {
        self.read_at = Instant::now();
        self.seen = self.newest.borrow().event;
        let filter = TaskFilter { device: self.device, open: true, limit: MOST, ..TaskFilter::default() };
        let open: Vec<_> =
            self.api.host.store.tasks(filter).await?.into_iter().map(|row| view(row, &self.sight)).collect();
        let ids: HashSet<_> = open.iter().map(|task| task.id).collect();
        let ended: Vec<_> = self.shown.keys().copied().filter(|id| !ids.contains(id)).collect();
        for id in ended {
            self.shown.remove(&id);
            self.page.extend(self.api.host.store.task(TaskId(id)).await?.map(|row| view(row, &self.sight)));
        }
        for task in open {
            if self.shown.get(&task.id) != Some(&task) {
                self.shown.insert(task.id, task.clone());
                self.page.push_back(task);
            }
        }
        Ok(())
    }
}
