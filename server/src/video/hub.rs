//! A camera's stream: begun for the first who looks, shared by all, and ended a while after the last has gone.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use protocol_core::{
    code::Role,
    message::{Kind, VideoParameters, VideoStatus},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Video, VideoError, WatchRequest,
    group::Group,
    memory::Memory,
    places::Place,
    queue::{End, EndCode, Queue},
    source::{Said, Source},
    unit::Unit,
    viewer::{Viewer, Viewing},
};
use crate::{
    lock::lock,
    shutdown::Shutdown,
    store::{OperatorId, TaskId, TaskState, UnixMillis, rank},
    tally::{Counted, Tally},
    tasks::{DataConnection, Requester, Standing, Task, TaskError, TaskKind},
};

/// How long a device has to say why its pictures have ended, behind the last of them.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long it takes until that is written down.
const WRITTEN: Duration = Duration::from_secs(2);

/// Rooms for the parameters of a task.
const PARAMETERS: usize = 64;

/// How a camera does, since its stream began: as its device tells it each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Pictures that the camera gave.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pictures that the device did not send.
    pub dropped: u64,
    /// How often the device has started the camera anew.
    pub restarts: u64,
    /// How fast pictures came from the camera, once that was told twice.
    pub pace: Option<Pace>,
}

/// How fast pictures come from a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Pictures a second.
    pub frames: u64,
    /// Bits a second.
    pub bits: u64,
}

impl Status {
    /// Adds what was said, behind what was said so long before it.
    fn add(&mut self, said: VideoStatus, interval: Option<Duration>) {
        self.frames += u64::from(said.frames);
        self.bytes += u64::from(said.bytes);
        self.dropped += u64::from(said.dropped);
        self.restarts += u64::from(said.restarts);
        // What comes at once was held up on its way: it says nothing of the camera.
        let millis = interval.map_or(0, |interval| interval.as_millis());
        if let Some(millis) = u64::try_from(millis).ok().filter(|millis| *millis >= 500) {
            let a_second = |count: u64| (count * 1_000 + millis / 2) / millis;
            let bits = a_second(u64::from(said.bytes) * 8);
            self.pace = Some(Pace { frames: a_second(said.frames.into()), bits });
        }
    }
}

/// How a stream stands.
#[derive(Clone, Debug)]
enum State {
    Starting,
    /// Pictures come; the device has let the role have them.
    Live(Role),
    Ended(End),
}

/// What becomes of a stream when the rights of an operator have ended.
pub(super) enum Fate {
    /// It is in somebody else's name.
    Stays,
    /// Its task goes on in the name of another who looks.
    GoesTo(TaskId, Arc<Viewer>),
    /// It was in theirs, and nobody else looks.
    Ends,
}

/// A camera's stream.
#[derive(Debug)]
pub(super) struct Hub {
    begun_as: Role,
    state: watch::Sender<State>,
    /// How many want it to go on.
    interest: Tally,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The operator elsewhere in whose name it is.
    owner: Option<OperatorId>,
    /// Its task, once pictures may come.
    task: Option<TaskId>,
    group: Group,
    viewers: HashMap<i64, Arc<Viewer>>,
    status: Status,
    /// When the device has said last how the camera does.
    told: Option<Instant>,
}

impl Shared {
    /// The device says how the camera does.
    fn note(&mut self, said: VideoStatus) {
        let now = Instant::now();
        let interval = self.told.replace(now).map(|before| now.duration_since(before));
        self.status.add(said, interval);
    }
}

impl Hub {
    pub(super) fn new(first: &Requester) -> Arc<Self> {
        let (state, interest) = (watch::Sender::new(State::Starting), Tally::default());
        let shared = Mutex::new(Shared { owner: first.operator, ..Shared::default() });
        Arc::new(Self { begun_as: first.role, state, interest, shared })
    }

    /// The operator elsewhere in whose name it is: who looked first, as long as they have their rights.
    pub(super) fn owner(&self) -> Option<OperatorId> {
        self.shared().owner
    }

    /// Takes it out of the name of this operator. Where nobody else looks it has ended for all who come.
    pub(super) fn disown(&self, operator: OperatorId, reason: &str) -> Fate {
        let mut shared = self.shared();
        if shared.owner != Some(operator) {
            return Fate::Stays;
        }
        let others = shared.viewers.values().filter(|viewer| viewer.operator != Some(operator));
        let heir = others.filter(|viewer| !viewer.queue.has_ended()).min_by_key(|viewer| viewer.id).cloned();
        if let (Some(task), Some(heir)) = (shared.task, heir) {
            shared.owner = heir.operator;
            return Fate::GoesTo(task, heir);
        }
        // Before anybody else is among the viewers.
        self.state.send_if_modified(|state| {
            let is_first = !matches!(state, State::Ended(_));
            if is_first {
                *state = State::Ended(End::new(EndCode::Rights, reason));
            }
            is_first
        });
        Fate::Ends
    }

    /// Which role the one has who looked first.
    pub(super) const fn begun_as(&self) -> Role {
        self.begun_as
    }

    /// Keeps it going. For whoever holds the lock by which it was found: it does not end between.
    pub(super) fn interest(&self) -> Counted {
        self.interest.add()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.interest.count() > 0
    }

    /// How many want it.
    #[cfg(test)]
    pub(super) fn interested(&self) -> usize {
        self.interest.count()
    }

    /// A place at this stream, once it runs.
    pub(super) async fn join(
        self: &Arc<Self>,
        video: &Arc<Video>,
        interest: Counted,
        place: Place,
        id: i64,
        request: WatchRequest,
    ) -> Result<Viewing, VideoError> {
        let role = self.live().await?;
        // The device has been asked for the least role that it lets look: all below it are not let in by somebody else.
        if rank(request.requester.role) < rank(role) {
            return Err(VideoError::NotAllowed(role));
        }
        let viewer = {
            let mut shared = self.shared();
            // It may have ended just now; whoever is among the viewers is told.
            self.check()?;
            let viewer = Arc::new(Viewer {
                id,
                who: request.requester.who(),
                operator: request.requester.operator,
                device: request.device,
                camera: request.camera.name,
                way: request.way,
                shown_to: role,
                since: UnixMillis::now(),
                queue: Queue::new(shared.group.units()),
                frames: 0.into(),
                bytes: 0.into(),
            });
            shared.viewers.insert(id, Arc::clone(&viewer));
            viewer
        };
        video.enter(&viewer);
        Ok(Viewing::begin(video, Arc::clone(self), interest, place, viewer).await)
    }

    /// Waits until pictures may come; gives the least role that may have them.
    async fn live(&self) -> Result<Role, VideoError> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match state.as_deref() {
            Ok(State::Live(role)) => Ok(*role),
            Ok(State::Ended(end)) => Err(end.into()),
            Ok(State::Starting) | Err(_) => Err(VideoError::Ended("the stream has ended".to_owned())),
        }
    }

    /// Whether it has not ended; else why.
    fn check(&self) -> Result<(), End> {
        match &*self.state.borrow() {
            State::Ended(end) => Err(end.clone()),
            State::Starting | State::Live(_) => Ok(()),
        }
    }

    /// Pictures may come from this task, to those of this role, unless it has ended meanwhile.
    fn go_live(&self, task: TaskId, role: Role) -> Result<(), End> {
        let mut shared = self.shared();
        self.check()?;
        shared.task = Some(task);
        self.state.send_replace(State::Live(role));
        Ok(())
    }

    /// Waits until it has been ended; gives why.
    async fn ended(&self) -> End {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await.map(|state| state.clone());
        match ended {
            Ok(State::Ended(end)) => end,
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    pub(super) fn leave(&self, viewer: i64) {
        self.shared().viewers.remove(&viewer);
    }

    pub(super) fn status(&self) -> Status {
        self.shared().status
    }

    /// Hands a picture to all who look.
    fn publish(&self, memory: &Arc<Memory>, unit: Unit) {
        let unit = Arc::new(unit.held_in(memory));
        let mut shared = self.shared();
        shared.group.add(&unit);
        shared.viewers.values().for_each(|viewer| viewer.queue.add(&unit));
        if memory.is_full() {
            shared.group.shed();
            shared.viewers.values().for_each(|viewer| viewer.queue.shed());
        }
    }

    fn end(&self, end: &End) {
        self.state.send_replace(State::Ended(end.clone()));
        self.shared().viewers.values().for_each(|viewer| viewer.queue.end(end.clone()));
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// Runs the stream to its end, and tells all who look why it has ended.
    pub(super) async fn run(self: &Arc<Self>, video: &Video, request: &WatchRequest, shutdown: &Shutdown) {
        let failed = End::new(EndCode::Camera, "the server has failed to relay the camera");
        let mut running = Running { hub: self, video, request, end: failed };
        running.end = self.stream(video, request, shutdown).await;
    }

    /// Has the device stream, and hands on what comes; gives why that ends.
    async fn stream(self: &Arc<Self>, video: &Video, request: &WatchRequest, shutdown: &Shutdown) -> End {
        let camera_ended = |message: String| End::new(EndCode::Camera, message);
        let mut unwanted = pin!(self.unwanted(video, request, shutdown));
        let begun = tokio::select! {
            begun = begin(video, request) => begun,
            end = &mut unwanted => return end,
        };
        let (mut task, data, role) = match begun {
            Ok(begun) => begun,
            Err(TaskError::Refused(reason)) => return End::new(EndCode::Refused, reason),
            Err(error) => return camera_ended(error.to_string()),
        };
        if let Err(end) = self.go_live(task.id(), role) {
            return end;
        }
        let (mut kept, mut source) = (task.byte_count(), Source::new(data.stream));
        let (standing, end) = loop {
            tokio::select! {
                said = source.next() => match said {
                    Ok(Some(Said::Unit(unit))) => self.publish(&video.memory, unit),
                    Ok(Some(Said::Status(status))) => self.shared().note(status),
                    Ok(None) => break (failed("the device has ended its pictures"), None),
                    Err(error) => break (failed(error.to_string()), None),
                },
                Standing { reason, .. } = task.stopped() => {
                    let reason = reason.unwrap_or_else(|| "the task has ended".to_owned());
                    break (Standing::new(TaskState::Done, reason.as_str()), Some(camera_ended(reason)));
                }
                end = &mut unwanted => {
                    break (Standing::new(TaskState::Done, end.message.as_str()), Some(end));
                }
                () = kept.due() => kept.note((source.count(), 0)),
            }
        };
        kept.finish((source.count(), 0)).await;
        // The device is told by the end of its connection.
        drop(source);
        if end.is_none() {
            // Whoever has ended it may know why, and says so elsewhere.
            sleep(LAST_WORDS).await;
        }
        let written = task.ended();
        task.finish(standing.clone()).await;
        match end {
            Some(end) => end,
            None => {
                let written = timeout(WRITTEN, written).await.unwrap_or(standing);
                camera_ended(written.reason.unwrap_or_default())
            }
        }
    }

    /// Waits until it is to end though pictures come; gives why.
    async fn unwanted(self: &Arc<Self>, video: &Video, request: &WatchRequest, shutdown: &Shutdown) -> End {
        loop {
            tokio::select! {
                // Somebody may have come in this very moment.
                () = self.interest.none_for(video.linger) => if video.forget_unwanted(&request.key(), self) {
                    return End::new(EndCode::Left, "nobody looks any longer");
                },
                end = self.ended() => return end,
                cause = shutdown.requested() => {
                    return End::new(EndCode::Stopping, format!("the server stopped: {cause}"));
                }
            }
        }
    }
}

/// A stream that goes on. Whatever ends it, those who look are told, and the next one begins another.
struct Running<'a> {
    hub: &'a Arc<Hub>,
    video: &'a Video,
    request: &'a WatchRequest,
    end: End,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.video.forget(&self.request.key(), self.hub);
        self.hub.end(&self.end);
    }
}

impl From<&End> for VideoError {
    fn from(end: &End) -> Self {
        let message = end.message.clone();
        match end.code {
            EndCode::Refused => Self::Refused(message),
            EndCode::Rights => Self::RightsEnded(message),
            _ => Self::Ended(message),
        }
    }
}

impl From<End> for VideoError {
    fn from(end: End) -> Self {
        Self::from(&end)
    }
}

fn failed(reason: impl Into<String>) -> Standing {
    Standing::new(TaskState::Failed, reason)
}

/// Has the device begin, in the name of who looks first, with the least role that it takes: so it is known who else may.
async fn begin(video: &Video, request: &WatchRequest) -> Result<(Task, DataConnection, Role), TaskError> {
    let mut room = [0; PARAMETERS];
    let camera = Kind::new(&request.camera.name);
    let parameters =
        camera.and_then(|camera| VideoParameters { camera }.encode(&mut room).map(<[u8]>::to_vec));
    let parameters = parameters.unwrap_or_default();
    let mut refused = None;
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        if rank(role) > rank(request.requester.role) {
            break;
        }
        let requester = Requester { role, ..request.requester.clone() };
        let begun =
            video.tasks.start_with(request.device.id, TaskKind::Video, requester, parameters.clone()).await;
        let mut task = begun?;
        match task.bytes().await {
            Ok(data) => return Ok((task, data, role)),
            Err(TaskError::Refused(reason)) => refused = Some(reason),
            Err(error) => return Err(error),
        }
    }
    Err(TaskError::Refused(refused.unwrap_or_else(|| "the role is none that may look".to_owned())))
}
