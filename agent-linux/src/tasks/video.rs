//! `video`: shows one of this device's cameras, on a data connection.

mod queue;

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol_core::{
    frame::HEADER_LENGTH,
    message::{self, Body as _, Unit, VideoStatus},
};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use self::queue::Queue;
use super::{
    camera::{CommandLine, Fault, Found, NoCommand, Run, Surroundings, film},
    data::{DataConnection, DataError, answer},
    progress::{Progress, tell},
};
use crate::{config::Camera, tls::Connector};

/// How much room for a frame is kept behind a larger one, in bytes.
const ROOM: usize = 64 * 1024;

/// How much the kernel keeps that was not sent yet, in bytes: what waits there can't be left out any longer.
const UNSENT: u32 = 16 * 1024;

/// How often the server is told how it goes.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before a camera is started anew, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A camera that has given pictures for so long had no fault that its start has to do with.
const STEADY: Duration = Duration::from_secs(30);

/// One camera that is shown.
#[derive(Serialize, Deserialize)]
pub(super) struct Video {
    pub(super) data: DataConnection,
    pub(super) camera: Camera,
    /// How long it may give no picture.
    pub(super) silence: Duration,
    /// How often it is started anew.
    pub(super) restarts: u32,
}

/// Why there are no pictures, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum VideoError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the camera {camera:?}: {error}")]
    NoCamera { camera: String, error: NoCommand },
    #[error("the camera {camera:?} {fault}{}{}", tries(*.restarts), last_words(.said))]
    Failed { camera: String, fault: Fault, restarts: u32, said: Vec<String> },
    #[error("the agent does not listen: {0}")]
    Agent(io::Error),
}

fn tries(restarts: u32) -> String {
    if restarts == 0 { String::new() } else { format!(" (started anew {restarts} times)") }
}

fn last_words(said: &[String]) -> String {
    said.last().map(|line| format!("; it said: {line}")).unwrap_or_default()
}

/// What the camera's side and the server's side of a task share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// What came since the server was told last.
    status: VideoStatus,
    /// The server is to be told.
    is_status_due: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what came of the camera's bytes.
    fn found(&self, now: Instant, found: Found) {
        let mut state = self.state();
        state.status.frames += 1;
        match found {
            Found::Picture(picture) => {
                state.status.bytes = state.status.bytes.saturating_add(picture.bytes.len() as u32);
                state.status.dropped += state.queue.push(now, picture);
            }
            Found::Unusable => state.status.dropped += 1,
        }
        self.news.notify_one();
    }

    fn began_anew(&self) {
        let mut state = self.state();
        state.queue.begin_anew();
        state.status.restarts += 1;
    }
}

impl Video {
    /// Shows the camera, as long as the server wants it.
    pub(super) async fn run(self, connector: Result<Connector, DataError>) -> Result<String, VideoError> {
        let (connector, shared, start) = (connector?, Shared::default(), Instant::now());
        tokio::select! {
            end = self.serve(&connector, &shared, start) => end,
            error = self.film(&shared) => Err(error),
        }
    }

    /// The server's side.
    async fn serve(
        &self,
        connector: &Connector,
        shared: &Shared,
        start: Instant,
    ) -> Result<String, VideoError> {
        let server = self.data.connect(connector).await?;
        let socket = SockRef::from(server.get_ref().0.get_ref());
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "what is not sent yet is left to the kernel");
        }
        let (mut from_server, mut to_server) = tokio::io::split(server);
        self.data.join(&mut to_server).await?;
        let hear = async {
            answer(&mut from_server).await?;
            tell(&Progress::Running).map_err(VideoError::Agent)?;
            until_end(&mut from_server).await?;
            Ok("nobody looks any longer".to_owned())
        };
        tokio::select! {
            biased;
            end = hear => end,
            error = send(shared, start, &mut to_server) => Err(DataError::Broken(error).into()),
            () = status(shared) => Ok(String::new()),
        }
    }

    /// The camera's side: it ends with what is wrong with the camera.
    async fn film(&self, shared: &Shared) -> VideoError {
        let (surroundings, mut failures) = (Surroundings::new(), 0);
        let camera = self.camera.name.clone();
        loop {
            let command = match CommandLine::of(&self.camera, &surroundings).await {
                Ok(command) => command,
                Err(error) => return VideoError::NoCamera { camera, error },
            };
            tracing::debug!(command = command.shown(), "the camera starts");
            let run = film(command, self.silence, |now, found| shared.found(now, found)).await;
            let Run { fault, said, shown } = run;
            if shown > STEADY {
                failures = 0;
            }
            // What was said last is the task's output.
            said.iter().for_each(|line| eprintln!("{camera}: {line}"));
            eprintln!("{camera}: it {fault}");
            if failures >= self.restarts {
                return VideoError::Failed { camera, fault, restarts: failures, said };
            }
            sleep(PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE)).await;
            failures += 1;
            shared.began_anew();
        }
    }
}

/// Has the server told each second.
async fn status(shared: &Shared) {
    let mut seconds = interval(STATUS_INTERVAL);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await;
    loop {
        seconds.tick().await;
        shared.state().is_status_due = true;
        shared.news.notify_one();
    }
}

/// Sends what there is, as fast as the server takes it, until the connection breaks.
async fn send<W: AsyncWrite + Unpin>(shared: &Shared, start: Instant, to_server: &mut W) -> io::Error {
    let mut frame = Vec::new();
    loop {
        frame.clear();
        if !next_frame(shared, start, &mut frame) {
            shared.news.notified().await;
            continue;
        }
        let sent = async {
            to_server.write_all(&frame).await?;
            to_server.flush().await
        };
        if let Err(error) = sent.await {
            return error;
        }
        // What was a large keyframe is not kept.
        frame.shrink_to(ROOM);
    }
}

/// Writes the next frame. Gives whether there is one.
fn next_frame(shared: &Shared, start: Instant, frame: &mut Vec<u8>) -> bool {
    let mut state = shared.state();
    if std::mem::take(&mut state.is_status_due) {
        let status = std::mem::take(&mut state.status);
        let mut room = [0; HEADER_LENGTH + VideoStatus::MAX_LENGTH];
        if let Ok(length) = message::encode(&status, u16::MAX, &mut room) {
            frame.extend_from_slice(room.get(..length).unwrap_or_default());
        }
        return true;
    }
    let Some((flags, picture)) = state.queue.pop() else { return false };
    drop(state);
    let microseconds = picture.at.saturating_duration_since(start).as_micros();
    let microseconds = u64::try_from(microseconds).unwrap_or(u64::MAX);
    let unit = Unit { flags, microseconds, bytes: &picture.bytes };
    let mut room = [0; Unit::OVERHEAD];
    if let Some(head) = unit.encode_head(&mut room) {
        frame.extend_from_slice(head);
        frame.extend_from_slice(unit.bytes);
    }
    true
}

/// Reads until the server ends its side. It has nothing to say.
async fn until_end<R: AsyncRead + Unpin>(from_server: &mut R) -> Result<(), DataError> {
    let mut room = [0; 256];
    while from_server.read(&mut room).await? > 0 {}
    Ok(())
}
