//! Live video: what devices' cameras show goes to whoever looks, as it comes.
//!
//! Pictures are relayed and never decoded. A camera has one stream (`hub.rs`), however many look; each viewer has a queue
//! of its own (`queue.rs`), and nobody waits for anybody else. Devices are reached through the task engine only: a stream is a
//! task in the name of whoever looked first, and of another who looks when the rights of that one have ended.

mod group;
mod hub;
mod last_words;
mod memory;
pub mod mp4;
mod parameters;
mod places;
mod queue;
mod recording;
mod source;
#[cfg(test)]
mod tests;
mod thrown_out;
mod unit;
mod viewer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use protocol_core::code::Role;

use hub::{Fate, Hub};
pub use hub::{Pace, Status};
pub use last_words::LastWords;
use memory::Memory;
pub use parameters::Parameters;
use places::{Place as ViewerPlace, Places};
pub use queue::{End, EndCode};
pub use recording::{MAX_RUNNING, RecordingError, Recordings};
use thrown_out::{KEPT_OUT, Person, ThrownOut};
pub use unit::{HEAD, KEYFRAME, Unit};
pub use viewer::{Viewer, Viewing, Way};

use crate::{
    event::EventKind,
    lock::lock,
    parts::{Part, PartKind, Parts},
    registry::Camera,
    shutdown::Shutdown,
    store::{DeviceId, DeviceRef, OperatorId, Store, rank},
    tally::{Counted, Tally},
    tasks::{Requester, Tasks},
};

/// How long a camera has to show its first picture.
pub const FIRST_PICTURE: Duration = Duration::from_secs(30);

/// How long a stream goes on when nobody looks any longer: whoever loads a page anew finds it running.
const LINGER: Duration = Duration::from_secs(5);

/// How many streams there may be. Each has a group of some megabytes at most.
pub const MAX_STREAMS: usize = 256;

/// How many of them may be in the name of one operator when another one begins.
const MAX_OWN_STREAMS: usize = MAX_STREAMS / 4;

/// How many may look at a time.
pub const MAX_VIEWERS: usize = 1_024;

/// How many of them may be of one operator: nobody keeps others from looking.
const MAX_OWN_VIEWERS: usize = MAX_VIEWERS / 4;

/// How many roles there are.
const ROLES: usize = 3;

/// Why somebody can't look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VideoError {
    /// The device's own configuration lets only those of a higher role look.
    #[error("the device shows this camera to those of the role {0} only")]
    NotAllowed(Role),
    /// As many look as may.
    #[error("{MAX_VIEWERS} look at cameras, or {MAX_STREAMS} cameras are looked at, and no more may be")]
    TooMany,
    /// One operator looks as often as one may.
    #[error(
        "you look {MAX_OWN_VIEWERS} times, or have begun {MAX_OWN_STREAMS} cameras, and nobody may do more"
    )]
    TooManyOwn,
    /// The device lets nobody of this role look, or has no such camera.
    #[error("{0}")]
    Refused(String),
    /// Somebody has thrown them out of this stream, not long ago.
    #[error("{0}")]
    ThrownOut(String),
    /// The rights of whoever began the stream have ended before it was there.
    #[error("{0}")]
    RightsEnded(String),
    /// The device did not stream, or does so no longer.
    #[error("{0}")]
    Ended(String),
}

/// What somebody wants to see.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Whose camera.
    pub device: DeviceRef,
    /// Which one.
    pub camera: Camera,
    /// Who wants it.
    pub requester: Requester,
    /// How it reaches them.
    pub way: Way,
}

/// Which stream it is.
type Key = (DeviceId, String);

impl WatchRequest {
    fn key(&self) -> Key {
        (self.device.id, self.camera.name.clone())
    }
}

/// All streams of cameras, and all who look.
pub struct Video {
    store: Store,
    tasks: Arc<Tasks>,
    parts: Arc<Parts>,
    part: Arc<Part>,
    /// How much goes on that the server's end waits for.
    works: Tally,
    linger: Duration,
    /// For how long nobody is let in again where they were thrown out.
    kept_out: Duration,
    thrown_out: ThrownOut,
    places: Arc<Places>,
    memory: Arc<Memory>,
    streams: Mutex<HashMap<Key, Arc<Hub>>>,
    viewers: Mutex<BTreeMap<i64, Arc<Viewer>>>,
    last_viewer: AtomicI64,
}

impl Video {
    /// Nobody looks yet.
    pub fn new(store: Store, tasks: Arc<Tasks>, parts: Arc<Parts>) -> Arc<Self> {
        Arc::new(Self {
            store,
            tasks,
            part: parts.part("live video", PartKind::Relay),
            parts,
            works: Tally::default(),
            linger: LINGER,
            kept_out: KEPT_OUT,
            thrown_out: ThrownOut::default(),
            places: Arc::default(),
            memory: Arc::default(),
            streams: Mutex::default(),
            viewers: Mutex::default(),
            last_viewer: AtomicI64::new(0),
        })
    }

    /// Lets somebody look at a camera; where nobody does yet its device is asked to stream. What they may was decided
    /// before.
    ///
    /// # Errors
    /// [`VideoError`].
    pub async fn watch(
        self: &Arc<Self>,
        request: WatchRequest,
        shutdown: &Shutdown,
    ) -> Result<Viewing, VideoError> {
        // Whoever records does not look, and is stopped by other means.
        if request.way != Way::Recording {
            self.thrown_out.check(request.key(), Person::asking(&request.requester))?;
        }
        for _ in 1..ROLES {
            match self.watch_once(request.clone(), shutdown).await {
                // That was an answer to whoever looked first, and not to those of a higher role who waited with them.
                (Some(hub), Err(VideoError::Refused(_)))
                    if rank(hub.begun_as()) < rank(request.requester.role) => {}
                // And they are who has no rights any longer, not those who waited with them.
                (Some(hub), Err(VideoError::RightsEnded(_))) if hub.owner() != request.requester.operator => {
                }
                (_, watched) => return watched,
            }
        }
        self.watch_once(request, shutdown).await.1
    }

    /// Gives which stream it was, too.
    async fn watch_once(
        self: &Arc<Self>,
        request: WatchRequest,
        shutdown: &Shutdown,
    ) -> (Option<Arc<Hub>>, Result<Viewing, VideoError>) {
        let found = self.find(&request, shutdown);
        let (place, hub, interest) = match found {
            Ok(found) => found,
            Err(error) => return (None, Err(error)),
        };
        let id = self.last_viewer.fetch_add(1, Relaxed) + 1;
        let watched = hub.join(self, interest, place, id, request).await;
        (Some(hub), watched)
    }

    /// A place at the stream that is asked for; it is begun where there is none.
    fn find(
        self: &Arc<Self>,
        request: &WatchRequest,
        shutdown: &Shutdown,
    ) -> Result<(ViewerPlace, Arc<Hub>, Counted), VideoError> {
        let operator = request.requester.operator;
        let place = self.places.take(operator)?;
        let (hub, interest) = {
            let mut streams = lock(&self.streams);
            let hub = match streams.get(&request.key()) {
                Some(hub) => Arc::clone(hub),
                None if streams.len() >= MAX_STREAMS => return Err(VideoError::TooMany),
                None if operator.is_some_and(|own| count_of(&streams, own) >= MAX_OWN_STREAMS) => {
                    return Err(VideoError::TooManyOwn);
                }
                None => {
                    let hub = Hub::new(&request.requester);
                    streams.insert(request.key(), Arc::clone(&hub));
                    self.run(&hub, request.clone(), shutdown.clone());
                    hub
                }
            };
            let interest = hub.interest();
            (hub, interest)
        };
        Ok((place, hub, interest))
    }

    fn run(self: &Arc<Self>, hub: &Arc<Hub>, request: WatchRequest, shutdown: Shutdown) {
        let (video, hub, work) = (Arc::clone(self), Arc::clone(hub), self.work());
        tokio::spawn(async move {
            let run = hub.run(&video, &request, &shutdown);
            video.parts.guard(&video.part, Box::pin(run)).await;
            drop(work);
        });
    }

    /// Something that the server's end waits for, as long as it is kept.
    fn work(&self) -> Counted {
        self.works.add()
    }

    /// Waits until all streams, viewings and recordings have ended, and that is written down. New ones may begin.
    pub async fn ended(&self) {
        self.works.none().await;
    }

    /// All who look, by their numbers; those who record are no viewers.
    pub fn viewers(&self) -> Vec<Arc<Viewer>> {
        lock(&self.viewers).values().filter(|viewer| viewer.way != Way::Recording).cloned().collect()
    }

    /// The viewer of this number.
    pub fn viewer(&self, id: i64) -> Option<Arc<Viewer>> {
        lock(&self.viewers).get(&id).filter(|viewer| viewer.way != Way::Recording).cloned()
    }

    /// Throws a viewer out. Whoever that is can't look at this camera again for a while, unless they did it themselves.
    pub fn throw_out(&self, viewer: &Viewer, by: &Requester) {
        let reason = format!("thrown out by {}", by.name);
        let person = Person::of(viewer.operator, &viewer.who.name);
        if person != Person::asking(by) {
            let key = (viewer.device.id, viewer.camera.clone());
            self.thrown_out.add(key, person, self.kept_out, reason.clone());
        }
        viewer.queue.end(End::new(EndCode::Stopped, reason));
        let event = viewer.event(EventKind::ViewerThrownOut).who(by.who());
        let event = event.detail("operator", viewer.who.name.as_str());
        let (store, work) = (self.store.clone(), self.work());
        tokio::spawn(async move {
            store.note(event).await;
            drop(work);
        });
    }

    /// Ends what this operator looks at: they have other rights now. Streams that they have begun, and others look at, go on in
    /// the name of one of those; it is for the caller to stop the tasks that are still in theirs.
    pub fn stop_of_operator(&self, operator: OperatorId, reason: &str) {
        let own = |viewer: &&Arc<Viewer>| viewer.operator == Some(operator) && viewer.way != Way::Recording;
        let end = |viewer: &Arc<Viewer>| viewer.queue.end(End::new(EndCode::Rights, reason));
        lock(&self.viewers).values().filter(own).for_each(end);
        let mut handed_over = Vec::new();
        lock(&self.streams).retain(|_, hub| match hub.disown(operator, reason) {
            Fate::Stays => true,
            Fate::GoesTo(task, heir) => {
                self.tasks.hand_over(task, heir.operator);
                handed_over.push((task, heir));
                true
            }
            // Whoever comes now begins another one.
            Fate::Ends => false,
        });
        for (task, heir) in handed_over {
            let (store, work, reason) = (self.store.clone(), self.work(), reason.to_owned());
            tokio::spawn(async move {
                let who = heir.who.clone();
                if let Err(error) = store.hand_over_task(task, who, heir.operator, reason).await {
                    tracing::error!(%task, %error, "in whose name a task is now could not be written down");
                }
                drop(work);
            });
        }
    }

    /// How many look at a camera.
    pub fn count(&self, device: DeviceId, camera: &str) -> usize {
        let viewers = lock(&self.viewers);
        let looks = |viewer: &&Arc<Viewer>| {
            viewer.device.id == device && viewer.camera == camera && viewer.way != Way::Recording
        };
        viewers.values().filter(looks).count()
    }

    fn enter(&self, viewer: &Arc<Viewer>) {
        lock(&self.viewers).insert(viewer.id, Arc::clone(viewer));
    }

    fn leave(&self, viewer: i64) {
        lock(&self.viewers).remove(&viewer);
    }

    /// The stream has ended: whoever comes now begins another one.
    fn forget(&self, key: &Key, hub: &Arc<Hub>) {
        let mut streams = lock(&self.streams);
        if streams.get(key).is_some_and(|there| Arc::ptr_eq(there, hub)) {
            streams.remove(key);
        }
    }

    /// The same, if nobody wants it. Gives whether that is so.
    fn forget_unwanted(&self, key: &Key, hub: &Arc<Hub>) -> bool {
        let mut streams = lock(&self.streams);
        let is_unwanted = !hub.is_wanted();
        if is_unwanted && streams.get(key).is_some_and(|there| Arc::ptr_eq(there, hub)) {
            streams.remove(key);
        }
        is_unwanted
    }
}

/// How many streams are in the name of this operator.
fn count_of(streams: &HashMap<Key, Arc<Hub>>, operator: OperatorId) -> usize {
    streams.values().filter(|hub| hub.owner() == Some(operator)).count()
}
