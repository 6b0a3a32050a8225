//! Recordings: what a camera shows, written to a file of fragmented MP4 in the data directory, as it comes.
//!
//! A file grows by whole groups of pictures, and can be played at any time. The rest of the server never waits for it, and
//! the disk is never filled by it.

mod file;
mod keeping;
mod whole;

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol_core::code::Role;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use file::File;

use super::{End, EndCode, FIRST_PICTURE, Parameters, Unit, Video, VideoError, Viewing, WatchRequest, Way};
use crate::{
    clock::Calendar,
    config::RecordingLimits,
    files,
    lock::lock,
    shutdown::Shutdown,
    store::{
        DeviceId, NewRecording, OperatorId, RecordingId, RecordingRow, RecordingState, Store, StoreError,
        UnixMillis,
    },
};

/// How many recordings may be made at a time.
pub const MAX_RUNNING: usize = 32;

/// A group of pictures is written when it has so many, or so many bytes, also where its camera makes keyframes seldom.
const GROUP_UNITS: usize = 120;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// How often it is written down how much there is.
const NOTE: Duration = Duration::from_secs(5);

/// For how long a stream that has ended is begun again, and how often.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(2);

/// Why one ends whose pictures no longer fit into the file.
const OTHER_KIND: &str = "the camera's pictures are of another kind now: make another recording";

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The camera can't be seen.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// It showed nothing in time.
    #[error("the camera has shown no picture in time")]
    NoPicture,
    /// Too many are being made.
    #[error("{MAX_RUNNING} recordings are being made, and no more may be")]
    TooMany,
    /// This camera is being recorded.
    #[error("this camera is being recorded already, as recording {0}")]
    Running(RecordingId),
    /// So it will be, once it shows a picture.
    #[error("a recording of this camera begins just now")]
    Beginning,
    /// There is too little space.
    #[error("{0}")]
    NoSpace(String),
    /// The file can't be made.
    #[error("the file can't be written: {0}")]
    File(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such recording, or it has ended.
    #[error("there is no such recording that has not ended")]
    NotRunning,
}

/// All recordings.
pub struct Recordings {
    video: Arc<Video>,
    store: Store,
    directory: PathBuf,
    limits: RecordingLimits,
    pub(super) calendar: Calendar,
    running: Mutex<HashMap<Key, Running>>,
    /// Who has read which, and when that was written down.
    read: Mutex<HashMap<(RecordingId, Reader), Instant>>,
    /// How often it is written down how much there is: [`NOTE`].
    pub(super) note: Duration,
}

/// Who reads a recording, and from where.
type Reader = (String, Option<IpAddr>);

type Key = (DeviceId, String);

/// A recording that is being made.
struct Running {
    /// None until it has a file.
    id: Option<RecordingId>,
    /// How many bytes of that are whole.
    whole: Arc<AtomicU64>,
    /// Which operator elsewhere has it made.
    operator: Option<OperatorId>,
    /// Why it is to end.
    stop: watch::Sender<Option<String>>,
}

/// Its place among those that are made, until it has ended.
struct Place {
    recordings: Arc<Recordings>,
    key: Key,
    stop: watch::Receiver<Option<String>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.recordings.running).remove(&self.key);
    }
}

impl Recordings {
    /// None is made yet, in this directory.
    pub fn new(video: Arc<Video>, store: Store, directory: PathBuf, limits: RecordingLimits) -> Arc<Self> {
        let (running, read) = (Mutex::default(), Mutex::default());
        let calendar = Calendar::default();
        Arc::new(Self { video, store, directory, limits, calendar, running, read, note: NOTE })
    }

    /// Begins one, of this length at most; gives its number when it has its first picture. What they may was decided before.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub async fn start(
        self: &Arc<Self>,
        request: WatchRequest,
        longest: Option<Duration>,
        shutdown: &Shutdown,
    ) -> Result<RecordingId, RecordingError> {
        let request = WatchRequest { way: Way::Recording, ..request };
        let key = (request.device.id, request.camera.name.clone());
        let place = self.reserve(key, request.requester.operator)?;
        let until = Instant::now() + longest.unwrap_or(self.limits.time_limit).min(self.limits.time_limit);
        files::create_private_directory(&self.directory)?;
        self.keep().await?;
        self.check_space().map_err(RecordingError::NoSpace)?;
        let first = timeout(FIRST_PICTURE, self.first_picture(&request, shutdown));
        let (viewing, unit) = first.await.map_err(|_| RecordingError::NoPicture)??;
        let Some(parameters) = unit.parameters() else { return Err(RecordingError::NoPicture) };
        let role = viewing.viewer().shown_to;
        let (id, file) = self.create(&request, role, parameters).await?;
        if let Some(running) = lock(&self.running).get_mut(&place.key) {
            (running.id, running.whole) = (Some(id), file.whole());
        }
        let recorder = Recorder {
            id,
            role,
            recordings: Arc::clone(self),
            request,
            until,
            shutdown: shutdown.clone(),
            file,
            group: vec![unit],
            noted: Instant::now(),
            place,
        };
        let (video, work) = (Arc::clone(&self.video), self.video.work());
        tokio::spawn(async move {
            video.parts.guard(&video.part, Box::pin(recorder.run(viewing))).await;
            drop(work);
        });
        Ok(id)
    }

    /// Begins to look at the camera; gives its first picture, too.
    async fn first_picture(
        &self,
        request: &WatchRequest,
        shutdown: &Shutdown,
    ) -> Result<(Viewing, Arc<Unit>), VideoError> {
        let mut viewing = self.video.watch(request.clone(), shutdown).await?;
        let unit = viewing.next().await?;
        Ok((viewing, unit))
    }

    /// Makes a file, and writes down that there is a recording, for those of this role.
    async fn create(
        &self,
        request: &WatchRequest,
        role: Role,
        parameters: &Arc<Parameters>,
    ) -> Result<(RecordingId, File), RecordingError> {
        let name = format!("{}-{}-{}.mp4", request.device.name, request.camera.name, UnixMillis::now());
        let path = self.directory.join(&name);
        let file = File::create(&path, Arc::clone(parameters)).await?;
        let (width, height) = parameters.size();
        let new = NewRecording {
            device: request.device.id,
            camera: request.camera.name.clone(),
            file: name,
            role,
            who: request.requester.who(),
            width,
            height,
        };
        let begun = self.store.begin_recording(new).await.inspect_err(|_| {
            // Nobody would know of it, and nothing ever delete it.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "a file without a recording can't be deleted");
            }
        });
        Ok((begun?, file))
    }

    /// Keeps a place for a recording of this camera.
    fn reserve(self: &Arc<Self>, key: Key, operator: Option<OperatorId>) -> Result<Place, RecordingError> {
        let mut running = lock(&self.running);
        if let Some(there) = running.get(&key) {
            return Err(there.id.map_or(RecordingError::Beginning, RecordingError::Running));
        }
        if running.len() >= MAX_RUNNING {
            return Err(RecordingError::TooMany);
        }
        let (sender, stop) = watch::channel(None);
        running.insert(key.clone(), Running { id: None, whole: Arc::default(), operator, stop: sender });
        Ok(Place { recordings: Arc::clone(self), key, stop })
    }

    /// The recording that is being made of a camera.
    pub fn running(&self, device: DeviceId, camera: &str) -> Option<i64> {
        let running = lock(&self.running);
        running.get(&(device, camera.to_owned()))?.id.map(|id| id.0)
    }

    /// Ends one that is being made, for this reason.
    ///
    /// # Errors
    /// [`RecordingError::NotRunning`] if there is none.
    pub fn stop(&self, id: RecordingId, reason: impl Into<String>) -> Result<(), RecordingError> {
        let running = lock(&self.running);
        let found = running.values().find(|running| running.id == Some(id));
        let found = found.ok_or(RecordingError::NotRunning)?;
        found.stop.send_replace(Some(reason.into()));
        Ok(())
    }

    /// Ends those that this operator has made: they have other rights now.
    pub fn stop_of_operator(&self, operator: OperatorId, reason: &str) {
        let running = lock(&self.running);
        let own = running.values().filter(|running| running.operator == Some(operator));
        own.for_each(|running| {
            running.stop.send_replace(Some(reason.to_owned()));
        });
    }

    /// Opens the file of a recording; gives how many bytes of it can be read. What is being written just now is none of them.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(&self, row: &RecordingRow) -> io::Result<(fs::File, u64)> {
        // First: one that has ended meanwhile is whole.
        let running = lock(&self.running).values().find(|running| running.id == Some(row.id)).map(whole_of);
        let file = fs::File::open(self.path(row))?;
        let length = file.metadata()?.len();
        Ok((file, running.unwrap_or(length).min(length)))
    }

    /// The file of a recording.
    pub fn path(&self, row: &RecordingRow) -> PathBuf {
        self.directory.join(&row.file)
    }
}

fn whole_of(running: &Running) -> u64 {
    running.whole.load(Ordering::Acquire)
}

/// One that is being made.
struct Recorder {
    id: RecordingId,
    /// For which role at least the device showed the camera: as it is written down.
    role: Role,
    recordings: Arc<Recordings>,
    request: WatchRequest,
    until: Instant,
    shutdown: Shutdown,
    file: File,
    /// What has come since it was written to.
    group: Vec<Arc<Unit>>,
    noted: Instant,
    place: Place,
}

/// How a recording has ended.
type Outcome = (RecordingState, String);

impl Recorder {
    async fn run(mut self, viewing: Viewing) {
        let (state, reason) = match self.record(viewing).await {
            Ok(outcome) => outcome,
            Err(error) => (RecordingState::Failed, words(&error)),
        };
        // What is in the file stands, whether or not the rest can be written, too.
        let closed = self.file.close().await;
        let (state, reason) = match closed {
            Err(error) if state == RecordingState::Done => (RecordingState::Failed, words(&error)),
            _ => (state, reason),
        };
        if state == RecordingState::Failed {
            tracing::warn!(recording = %self.id, reason, "a recording has failed");
        }
        // Whoever sees that it has ended can begin another one.
        drop(self.place);
        let ended = self.recordings.store.end_recording(self.id, state, reason, self.file.size()).await;
        if let Err(error) = ended {
            tracing::error!(recording = %self.id, %error, "the end of a recording could not be written down");
        }
    }

    async fn record(&mut self, mut viewing: Viewing) -> io::Result<Outcome> {
        loop {
            let end = match self.follow(&mut viewing).await? {
                Ok(outcome) => return Ok(outcome),
                Err(end) => end,
            };
            let pause = Instant::now();
            drop(viewing);
            if end.code != EndCode::Camera {
                return Ok((RecordingState::Done, end.message));
            }
            // The camera may come back: a recording is to be whole.
            let mut stop = self.place.stop.clone();
            let back = tokio::select! {
                back = self.watch_again() => back,
                outcome = stopped(&mut stop, self.until) => return Ok(outcome),
            };
            let Some((again, first)) = back else { return Ok((RecordingState::Failed, end.message)) };
            if again.viewer().shown_to != self.role {
                let words = "the device shows the camera to other roles now: make another recording";
                return Ok((RecordingState::Done, words.to_owned()));
            }
            if first.parameters() != Some(self.file.parameters()) {
                return Ok((RecordingState::Done, OTHER_KIND.to_owned()));
            }
            self.file.skip(pause.elapsed());
            self.group.push(first);
            viewing = again;
        }
    }

    /// Writes what comes until the stream ends (`Err`), or the recording does.
    async fn follow(&mut self, viewing: &mut Viewing) -> io::Result<Result<Outcome, End>> {
        loop {
            let next = tokio::select! {
                unit = viewing.next() => unit,
                outcome = stopped(&mut self.place.stop, self.until) => {
                    let _ = self.write(None).await?;
                    return Ok(Ok(outcome));
                }
            };
            let unit = match next {
                Ok(unit) => unit,
                Err(end) => {
                    let _ = self.write(None).await?;
                    return Ok(Err(end));
                }
            };
            let bytes: usize = self.group.iter().map(|unit| unit.size()).sum();
            if (unit.is_keyframe() || self.group.len() >= GROUP_UNITS || bytes >= GROUP_BYTES)
                && let Err(full) = self.write(Some(unit.time())).await?
            {
                return Ok(Ok((RecordingState::Failed, full)));
            }
            if unit.parameters().is_some_and(|parameters| parameters != self.file.parameters()) {
                return Ok(Ok((RecordingState::Done, OTHER_KIND.to_owned())));
            }
            self.group.push(unit);
        }
    }

    /// Writes the group, behind which the next picture comes at this time; gives why it is to be the last one.
    async fn write(&mut self, until: Option<u64>) -> io::Result<Result<(), String>> {
        self.file.write(std::mem::take(&mut self.group), until).await?;
        if self.noted.elapsed() >= self.recordings.note {
            self.noted = Instant::now();
            // The file is what counts; this is for whoever looks meanwhile, and for what all have together.
            if let Err(error) = self.recordings.store.note_recording(self.id, self.file.size()).await {
                tracing::warn!(recording = %self.id, %error, "how much was recorded could not be written down");
            }
            if let Err(full) = self.recordings.check_all().await {
                return Ok(Err(full));
            }
        }
        Ok(self.recordings.check_space())
    }

    /// Begins the stream again; nothing, if that can't be done for long.
    async fn watch_again(&self) -> Option<(Viewing, Arc<Unit>)> {
        let given_up = Instant::now() + PATIENCE;
        while Instant::now() < given_up && !self.shutdown.is_requested() {
            sleep(PAUSE).await;
            let again = self.recordings.first_picture(&self.request, &self.shutdown);
            if let Ok(Ok(again)) = timeout_at(given_up, again).await {
                return Some(again);
            }
        }
        None
    }
}

/// Waits until a recording is to end, by somebody's wish or as it is long enough.
async fn stopped(stop: &mut watch::Receiver<Option<String>>, until: Instant) -> Outcome {
    let wished = async {
        match stop.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(reason) => reason.unwrap_or_default(),
            // Nobody can stop it any longer.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        reason = wished => (RecordingState::Done, reason),
        () = sleep_until(until) => (RecordingState::Done, "it is as long as it was to be".to_owned()),
    }
}

/// What is told of a file that can't be written.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "no space is left on the disk; delete recordings, or see [recordings] in the server's configuration"
                .to_owned()
        }
        _ => format!("the file can't be written: {error}"),
    }
}
