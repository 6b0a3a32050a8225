//! Those who look at a camera: who they are, and what they are sent.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use protocol_core::code::Role;
use tokio::task::JoinHandle;

use super::{
    Video,
    hub::{Hub, Status},
    places::Place,
    queue::{End, EndCode, Queue},
    unit::Unit,
};
use crate::{
    event::{EventKind, NewEvent, Who},
    store::{DeviceRef, OperatorId, UnixMillis},
    tally::Counted,
};

/// How pictures reach whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each by itself, by a WebSocket.
    Units,
    /// As MP4 that does not end.
    Mp4,
    /// Into a file of the server's.
    Recording,
}

impl Way {
    /// Its name in JSON and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Mp4 => "mp4",
            Self::Recording => "recording",
        }
    }
}

/// Somebody who looks at a camera.
#[derive(Debug)]
pub struct Viewer {
    /// Its number, while the server runs.
    pub id: i64,
    /// Whose camera it is.
    pub device: DeviceRef,
    /// The camera's name.
    pub camera: String,
    /// Who looks.
    pub who: Who,
    /// Their id, if they are an operator elsewhere.
    pub(super) operator: Option<OperatorId>,
    /// How.
    pub way: Way,
    /// For which role at least the device shows the camera.
    pub shown_to: Role,
    /// Since when.
    pub since: UnixMillis,
    pub(super) queue: Queue,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Viewer {
    /// How many pictures were sent.
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// How many bytes of them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How many pictures were left out, as the viewer was too slow.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// What is told of a viewing in the audit trail.
    pub(super) fn event(&self, kind: EventKind) -> NewEvent {
        NewEvent::new(kind)
            .device(self.device.id)
            .who(&self.who)
            .detail("viewer", self.id)
            .detail("camera", self.camera.as_str())
            .detail("way", self.way.name())
    }
}

/// A viewer's place at a camera's stream; it ends when this is dropped.
pub struct Viewing {
    video: Arc<Video>,
    hub: Arc<Hub>,
    viewer: Arc<Viewer>,
    end: Option<End>,
    /// Writes down that it has begun.
    begun: Option<JoinHandle<()>>,
    _place: Place,
    work: Option<Counted>,
    /// What the device had left out before.
    dropped_before: u64,
    /// The last: the stream is told that one less looks when all else is done.
    _interest: Counted,
}

impl Viewing {
    pub(super) async fn begin(
        video: &Arc<Video>,
        hub: Arc<Hub>,
        interest: Counted,
        place: Place,
        viewer: Arc<Viewer>,
    ) -> Self {
        let dropped_before = hub.status().dropped;
        // First of all: whoever goes while this is waited for is a viewer who leaves.
        let mut viewing = Self {
            video: Arc::clone(video),
            hub,
            viewer,
            end: None,
            begun: None,
            _place: place,
            work: Some(video.work()),
            dropped_before,
            _interest: interest,
        };
        if viewing.viewer.way != Way::Recording {
            let (video, event) = (Arc::clone(video), viewing.viewer.event(EventKind::ViewingStarted));
            let begun = viewing.begun.insert(tokio::spawn(async move { video.store.note(event).await }));
            let _ = begun.await;
            viewing.begun = None;
        }
        viewing
    }

    /// Who looks.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The next picture; the first is a keyframe. What was not waited for to its end is not lost.
    ///
    /// # Errors
    /// [`End`] if no more come.
    pub async fn next(&mut self) -> Result<Arc<Unit>, End> {
        match self.viewer.queue.next().await {
            Ok(unit) => {
                self.viewer.frames.fetch_add(1, Relaxed);
                self.viewer.bytes.fetch_add(unit.size() as u64, Relaxed);
                Ok(unit)
            }
            Err(end) => {
                self.end = Some(end.clone());
                Err(end)
            }
        }
    }

    /// Whether the viewer may have what has been handed out; else why not.
    ///
    /// # Errors
    /// [`End`] if not.
    pub fn check(&self) -> Result<(), End> {
        self.viewer.queue.check()
    }

    /// Waits until the viewer is to have nothing more, whatever is being sent.
    pub async fn cut(&self) -> End {
        self.viewer.queue.cut().await
    }

    /// Ends it for this reason; the first one stands.
    pub fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// How the camera does; what was left out before the viewer came has nothing to do with them.
    pub fn status(&self) -> Status {
        let status = self.hub.status();
        Status { dropped: status.dropped.saturating_sub(self.dropped_before), ..status }
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.hub.leave(self.viewer.id);
        self.video.leave(self.viewer.id);
        if self.viewer.way == Way::Recording {
            return;
        }
        let left = || End::new(EndCode::Left, "the viewer has gone");
        let end = self.end.take().unwrap_or_else(left);
        let seconds = UnixMillis::now().0.saturating_sub(self.viewer.since.0) / 1_000;
        let event = self
            .viewer
            .event(EventKind::ViewingEnded)
            .detail("seconds", seconds)
            .detail("frames", self.viewer.frames())
            .detail("dropped", self.viewer.dropped())
            .detail("reason", end.message);
        let (video, begun, work) = (Arc::clone(&self.video), self.begun.take(), self.work.take());
        tokio::spawn(async move {
            if let Some(begun) = begun {
                let _ = begun.await;
            }
            video.store.note(event).await;
            drop(work);
        });
    }
}
