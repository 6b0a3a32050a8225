//! What waits for one viewer: bounded, and never a reason for anybody else to wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, watch};

use super::{group::LITTLE, unit::Unit};
use crate::lock::lock;

/// How many pictures may wait beside those that a viewer begins with: two seconds of most cameras.
const MAX_UNITS: usize = 60;

/// How many bytes of them. A picture has 2 MiB at most.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why there are no more pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// A name that programs may match on.
    pub code: EndCode,
    /// The same for people.
    pub message: String,
}

/// Why there are no more pictures, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCode {
    /// The camera's stream has ended.
    Camera,
    /// The device does not let the viewer look.
    Refused,
    /// Somebody has thrown the viewer out.
    Stopped,
    /// The viewer has no rights any longer.
    Rights,
    /// The viewer has gone.
    Left,
    /// The server stops.
    Stopping,
}

impl EndCode {
    /// Its name in JSON and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera-ended",
            Self::Refused => "denied",
            Self::Stopped => "stopped",
            Self::Rights => "rights-ended",
            Self::Left => "left",
            Self::Stopping => "stopping",
        }
    }
}

impl End {
    /// With these words.
    pub fn new(code: EndCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether the viewer is to have nothing more of what waits.
    fn is_urgent(&self) -> bool {
        self.code != EndCode::Camera
    }
}

/// The pictures that wait for one viewer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Notify,
    end: watch::Sender<Option<End>>,
}

#[derive(Debug, Default)]
struct State {
    units: VecDeque<Arc<Unit>>,
    bytes: usize,
    /// Those of them that the viewer begins with: they don't count as late.
    first: usize,
    first_bytes: usize,
    /// The viewer was too slow: the next keyframe is what it goes on with.
    is_late: bool,
    /// Something was there to be sent: what comes before that is left out by nobody's fault.
    has_begun: bool,
    dropped: u64,
}

impl State {
    fn push(&mut self, unit: &Arc<Unit>) {
        self.has_begun = true;
        self.bytes += unit.size();
        self.units.push_back(Arc::clone(unit));
    }

    fn is_full(&self) -> bool {
        self.units.len() >= self.first + MAX_UNITS || self.bytes >= self.first_bytes + MAX_BYTES
    }

    fn clear(&mut self) {
        self.dropped += self.units.len() as u64;
        self.units.clear();
        (self.bytes, self.first, self.first_bytes) = (0, 0, 0);
    }
}

impl Queue {
    /// A queue that begins with these pictures.
    pub(super) fn new(group: &[Arc<Unit>]) -> Self {
        let mut state = State::default();
        group.iter().for_each(|unit| state.push(unit));
        (state.first, state.first_bytes) = (state.units.len(), state.bytes);
        // What can't be decoded is not sent.
        state.is_late = group.is_empty();
        Self { state: Mutex::new(state), news: Notify::new(), end: watch::Sender::new(None) }
    }

    /// Adds a picture, and waits for nothing. Where too many wait already it is left out, and so is all that waits before
    /// the next keyframe, once that comes.
    pub(super) fn add(&self, unit: &Arc<Unit>) {
        let mut state = lock(&self.state);
        // Under the lock: what waits is cleared behind an end, and nothing comes behind that.
        if self.has_ended() {
            return;
        }
        if unit.is_keyframe() && (state.is_late || state.is_full()) {
            state.clear();
            state.is_late = false;
        } else if !state.is_late && state.is_full() {
            state.is_late = true;
        }
        match state.is_late {
            true => state.dropped += u64::from(state.has_begun),
            false => state.push(unit),
        }
        drop(state);
        self.news.notify_one();
    }

    /// Gives up what others may need more, unless it is little: the viewer goes on with the next keyframe.
    pub(super) fn shed(&self) {
        let mut state = lock(&self.state);
        if state.bytes > LITTLE {
            state.clear();
            state.is_late = true;
        }
    }

    /// No more pictures come. What waits is still sent if the camera has ended, and else not. The first end stands.
    pub(super) fn end(&self, end: End) {
        let is_urgent = end.is_urgent();
        let is_first = self.end.send_if_modified(|now| {
            let is_first = now.is_none();
            if is_first {
                *now = Some(end);
            }
            is_first
        });
        if is_first && is_urgent {
            lock(&self.state).units.clear();
        }
        self.news.notify_one();
    }

    /// Whether no more pictures come.
    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Whether the viewer may have what comes, or waits; else why not.
    pub(super) fn check(&self) -> Result<(), End> {
        match &*self.end.borrow() {
            Some(end) if end.is_urgent() => Err(end.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until the viewer is to have nothing more, also of what waits.
    pub(super) async fn cut(&self) -> End {
        let mut end = self.end.subscribe();
        let is_urgent = |end: &Option<End>| end.as_ref().is_some_and(End::is_urgent);
        match end.wait_for(is_urgent).await.map(|end| end.clone()) {
            Ok(Some(end)) => end,
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    /// The next picture. It is for one at a time to wait.
    ///
    /// # Errors
    /// [`End`] if no more come.
    pub(super) async fn next(&self) -> Result<Arc<Unit>, End> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Arc<Unit>, End>> {
        let mut state = lock(&self.state);
        match state.units.pop_front() {
            Some(unit) => {
                state.bytes = state.bytes.saturating_sub(unit.size());
                state.first_bytes =
                    if state.first > 0 { state.first_bytes.saturating_sub(unit.size()) } else { 0 };
                state.first = state.first.saturating_sub(1);
                Some(Ok(unit))
            }
            None => self.end.borrow().clone().map(Err),
        }
    }

    /// How many pictures were left out.
    pub(super) fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{End, EndCode, MAX_UNITS, Queue};
    use crate::video::tests::{keyframe, picture};

    async fn times(queue: &Queue) -> Vec<u64> {
        let mut times = Vec::new();
        while let Ok(unit) = queue.next().await {
            times.push(unit.time());
        }
        times
    }

    #[tokio::test]
    async fn a_late_joiner_begins_with_the_keyframe() {
        let group = [keyframe(1), picture(2)];
        let queue = Queue::new(&group);
        queue.add(&picture(3));
        assert!(Arc::ptr_eq(&queue.next().await.unwrap(), &group[0]), "it is shared");
        queue.end(End::new(EndCode::Camera, "over"));
        queue.add(&picture(4));
        assert_eq!(times(&queue).await, [2, 3], "what waited at the end of the stream is sent");
    }

    #[tokio::test]
    async fn who_begins_with_nothing_waits_for_a_keyframe() {
        let queue = Queue::new(&[]);
        for unit in [picture(1), picture(2), keyframe(3), picture(4)] {
            queue.add(&unit);
        }
        queue.end(End::new(EndCode::Camera, "over"));
        assert_eq!(times(&queue).await, [3, 4]);
        assert_eq!(queue.dropped(), 0, "what was before the first keyframe was left out by nobody");
    }

    #[tokio::test]
    async fn a_slow_viewer_goes_on_with_the_next_keyframe() {
        let most = MAX_UNITS as u64;
        let queue = Queue::new(&[]);
        queue.add(&keyframe(0));
        for time in 1..most + 10 {
            queue.add(&picture(time));
        }
        assert_eq!(queue.next().await.unwrap().time(), 0, "what waits can be decoded until then");
        queue.add(&picture(most + 10));
        queue.add(&keyframe(1_000));
        queue.add(&picture(1_001));
        queue.end(End::new(EndCode::Camera, "over"));
        assert_eq!(times(&queue).await, [1_000, 1_001]);
        assert_eq!(queue.dropped(), most + 10);
    }

    #[tokio::test]
    async fn nothing_is_held_beyond_the_bounds() {
        let large = Arc::new(crate::video::unit::Unit::new(None, 0, &vec![7; 2 << 20]));
        let queue = Queue::new(&[keyframe(0)]);
        for _ in 0..1_000 {
            queue.add(&large);
        }
        assert!(Arc::strong_count(&large) <= 4, "{}", Arc::strong_count(&large));
    }

    #[tokio::test]
    async fn one_who_is_thrown_out_gets_nothing_more() {
        let queue = Queue::new(&[keyframe(0)]);
        let end = End::new(EndCode::Stopped, "thrown out by anna");
        queue.end(end.clone());
        queue.end(End::new(EndCode::Camera, "over"));
        assert_eq!(queue.check(), Err(end.clone()), "nor what they have been handed already");
        assert_eq!(queue.next().await.unwrap_err(), end);
        assert_eq!(queue.next().await.unwrap_err(), end, "and so whenever it is asked");
    }
}
