//! Tasks, live: `GET /tasks?follow=true`. Each change of a task has an event: by that it wakes, and reads the tasks that
//! the events name.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use axum::response::{Response, sse::Event};
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
    stream::{self, Follow},
    tasks::view,
};
use crate::store::{DeviceId, EventId, Newest, TaskFilter, TaskRow};

/// How often it is looked at most, however much happens.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often all that are open are read again: how many bytes one has carried is no event.
const ALL_INTERVAL: Duration = Duration::from_secs(60);

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
    // What happens while it is read is read again.
    let newest = api.host.store.newest();
    let seen = newest.borrow().event;
    let mut follower = Follower {
        api: Arc::clone(api),
        rights,
        sight,
        newest,
        device,
        seen,
        read_at: Instant::now(),
        all_at: Instant::now(),
        shown: HashMap::new(),
        marks: RandomState::new(),
        page: VecDeque::new(),
        is_ready: false,
        _place: place,
    };
    // If nothing can be read, that is the answer.
    follower.read_all().await?;
    Ok(stream::answer(follower))
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
    /// When all that is open was read last.
    all_at: Instant,
    /// The open tasks, and by what it is seen that one is still as it was sent.
    shown: HashMap<i64, u64>,
    marks: RandomState,
    /// What was read and not sent yet, as JSON.
    page: VecDeque<String>,
    is_ready: bool,
    _place: Place,
}

impl Follow for Follower {
    /// What is sent next; nothing if the server stops, its store can't be read, or the rights are gone.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.rights.are_gone() {
                return None;
            }
            if let Some(json) = self.page.pop_front() {
                return Some(Event::default().event("task").data(json));
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
}

impl Follower {
    /// Reads what has changed, and now and then all that is open.
    async fn read(&mut self) -> Result<(), ApiError> {
        self.read_at = Instant::now();
        let newest = self.newest.borrow().event;
        let changed = self.api.host.store.changed_tasks(self.seen, self.device).await?;
        self.seen = newest;
        self.note(changed);
        if self.read_at.duration_since(self.all_at) >= ALL_INTERVAL {
            self.read_all().await?;
        }
        Ok(())
    }

    async fn read_all(&mut self) -> Result<(), ApiError> {
        self.all_at = Instant::now();
        let filter = TaskFilter { device: self.device, open: true, limit: MOST, ..TaskFilter::default() };
        let open = self.api.host.store.tasks(filter).await?;
        self.note(open);
        Ok(())
    }

    /// Has those sent that are not as they were sent before.
    fn note(&mut self, rows: Vec<TaskRow>) {
        for row in rows {
            let task = view(row, &self.sight);
            let Ok(json) = serde_json::to_string(&task) else { continue };
            let mark = self.marks.hash_one(&json);
            let is_news = match task.ended {
                None => self.shown.insert(task.id, mark) != Some(mark),
                Some(_) => {
                    self.shown.remove(&task.id);
                    true
                }
            };
            if is_news {
                self.page.push_back(json);
            }
        }
    }
}
