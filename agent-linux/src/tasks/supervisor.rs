//! Watches one task's process from its start to its end, which always comes.

use std::{io, time::Duration};

use protocol_core::code::TaskState;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    assignment::{Assignment, Preparation},
    process::{Process, describe},
    progress::{LineError, Progress, shortened},
    ready::Ready,
};

/// How long a task has to end by itself when it was asked to. The server allows 10 s.
const GRACE: Duration = Duration::from_secs(5);

/// How long a process has to go that has said how it ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// For how long a task is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it runs.
    pub(super) start: Duration,
    /// From one sign of progress to the next.
    pub(super) progress: Duration,
    /// In all.
    pub(super) limit: Duration,
}

/// How often a task is begun again whose process has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// Not at all: what it was for has failed with it.
    Never,
    /// So often, after a pause that is twice as long each time.
    OnFailure { times: u32, pause: Duration },
}

impl Restart {
    /// How long to wait before the process is started again that has failed so many times.
    fn pause_behind(self, failures: u32) -> Option<Duration> {
        match self {
            Self::OnFailure { times, pause } if failures <= times => {
                Some(pause.saturating_mul(1 << failures.saturating_sub(1).min(16)))
            }
            _ => None,
        }
    }
}

/// How a task has ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) state: TaskState,
    pub(super) detail: String,
    /// The last that it wrote.
    pub(super) output: Vec<u8>,
}

/// What the agent ends a task for.
#[derive(Debug, thiserror::Error)]
enum Cause {
    /// The server has said so.
    #[error("stopped: {0}")]
    Stopped(String),
    #[error("its time is over: {} s", .0.as_secs())]
    Limit(Duration),
    /// What it waited for has not come, in words.
    #[error("{what} in {} s", .limit.as_secs())]
    InVain { what: String, limit: Duration },
    #[error("it did not run within {} s, and was ended", .0.as_secs_f64())]
    NoStart(Duration),
    #[error("no progress for {} s: it was ended", .0.as_secs_f64())]
    NoProgress(Duration),
    #[error("its process does not keep to the rules: {0}")]
    Steps(#[from] LineError),
}

impl Cause {
    /// Whether it ends the task as well as its process.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Limit(_) | Self::InVain { .. })
    }
}

/// Runs one task to its end, and tells what becomes of it on the way.
pub(super) async fn run(
    assignment: &Assignment,
    ready: (&Ready, &Preparation),
    patience: Patience,
    restart: Restart,
    mut stop: oneshot::Receiver<String>,
    tell: impl Fn(TaskState, &str),
) -> End {
    let mut watch = Watch::new(patience, tell);
    let mut failures = 0;
    loop {
        let end = watch.attempt(assignment, ready, &mut stop).await;
        if end.state != TaskState::Failed || watch.cause.as_ref().is_some_and(Cause::is_final) {
            return end.behind(failures);
        }
        failures += 1;
        let Some(pause) = restart.pause_behind(failures) else { return end.behind(failures - 1) };
        tracing::warn!(
            reason = end.detail,
            again_in_seconds = pause.as_secs_f64(),
            "a task's process has failed"
        );
        tokio::select! {
            wish = &mut stop => {
                let detail = Cause::Stopped(wish.unwrap_or_default()).to_string();
                return End { state: TaskState::Done, detail, output: end.output };
            }
            () = sleep_until(watch.limit_at) => return end.behind(failures - 1),
            () = sleep(pause) => {}
        }
    }
}

impl End {
    /// An end behind so many attempts that have failed before.
    fn behind(self, failures: u32) -> Self {
        let detail = match failures {
            1.. if self.state == TaskState::Failed => format!("{} (attempt {})", self.detail, failures + 1),
            _ => self.detail,
        };
        Self { detail: shortened(&detail), ..self }
    }
}

struct Watch<T> {
    patience: Patience,
    tell: T,
    /// When the task's time is over.
    limit_at: Instant,
    state: TaskState,
    /// What has not come that the process waits for.
    lacks: Option<String>,
    /// What the process says of its end.
    said: Option<(TaskState, String)>,
    /// Why the agent ends it.
    cause: Option<Cause>,
}

impl<T: Fn(TaskState, &str)> Watch<T> {
    fn new(patience: Patience, tell: T) -> Self {
        let limit_at = Instant::now() + patience.limit;
        Self { patience, tell, limit_at, state: TaskState::Starting, lacks: None, said: None, cause: None }
    }

    /// Has a process do it, and watches that to its end.
    async fn attempt(
        &mut self,
        assignment: &Assignment,
        (ready, preparation): (&Ready, &Preparation),
        stop: &mut oneshot::Receiver<String>,
    ) -> End {
        (self.state, self.lacks, self.said, self.cause) = (TaskState::Starting, None, None, None);
        let started = async {
            let mut process = ready.process(preparation).await?;
            process.assign(assignment).await?;
            io::Result::Ok(process)
        };
        let mut process = match started.await {
            Ok(process) => process,
            Err(error) => {
                let detail = format!("its process could not be started: {error}");
                return End { state: TaskState::Failed, detail, output: Vec::new() };
            }
        };
        tracing::debug!(process = process.id(), "a task's process runs");
        self.until_it_ends(&mut process, stop).await;
        let (status, output) = process.end().await;
        let (state, detail) = match (&self.cause, self.said.take()) {
            (Some(cause @ Cause::Stopped(_)), _) => (TaskState::Done, cause.to_string()),
            (Some(cause), _) => (TaskState::Failed, cause.to_string()),
            (None, Some(said)) => said,
            (None, None) => {
                let how = status.map_or_else(|| "nobody knows how".to_owned(), describe);
                (TaskState::Failed, format!("its process ended without a word: {how}"))
            }
        };
        End { state, detail, output }
    }

    /// Watches a process until it closes its standard output, as it does when it ends, or until it has to be killed.
    async fn until_it_ends(&mut self, process: &mut Process, stop: &mut oneshot::Receiver<String>) {
        let mut deadline = Instant::now() + self.patience.start;
        loop {
            let may_stop = self.cause.is_none() && self.said.is_none();
            tokio::select! {
                // Whoever wakes late reads what waits before it judges.
                biased;
                step = process.steps.next() => match step {
                    Ok(Some(step)) => deadline = self.hear(step).map_or(deadline, |time| Instant::now() + time),
                    Ok(None) => return,
                    Err(error) => {
                        self.cause.get_or_insert(error.into());
                        return;
                    }
                },
                () = process.output.read_on(), if !process.output.has_ended() => {}
                wish = &mut *stop, if may_stop => {
                    // Where nobody is left to say so, the agent stops.
                    deadline = self.terminate(process, Cause::Stopped(wish.unwrap_or_default()));
                }
                () = sleep_until(self.limit_at), if may_stop => {
                    deadline = self.terminate(process, self.out_of_time(self.patience.limit, Cause::Limit));
                }
                () = sleep_until(deadline) => return self.give_up(),
            }
        }
    }

    /// Why a task ends whose time is over: what has not come in it, if it waits for something.
    fn out_of_time(&self, limit: Duration, otherwise: impl FnOnce(Duration) -> Cause) -> Cause {
        match self.lacks.clone() {
            Some(what) => Cause::InVain { what, limit },
            None => otherwise(limit),
        }
    }

    /// What was waited for last has not come.
    fn give_up(&mut self) {
        if self.said.is_none() && self.cause.is_none() {
            self.cause = Some(match self.state {
                TaskState::Starting => self.out_of_time(self.patience.start, Cause::NoStart),
                _ => Cause::NoProgress(self.patience.progress),
            });
        }
    }

    /// Takes note of a step. Gives for how long the next one is waited for, if that changes.
    fn hear(&mut self, step: Progress) -> Option<Duration> {
        if self.said.is_some() {
            return None;
        }
        match (step, self.state) {
            (Progress::Done(detail), _) => {
                self.said = Some((TaskState::Done, detail));
                Some(FAREWELL)
            }
            (Progress::Failed(detail), _) => {
                self.said = Some((TaskState::Failed, detail));
                Some(FAREWELL)
            }
            // Its time to end runs.
            _ if self.cause.is_some() => None,
            (Progress::Running, TaskState::Starting) => {
                (self.state, self.lacks) = (TaskState::Running, None);
                (self.tell)(self.state, "");
                Some(self.patience.progress)
            }
            (Progress::Waiting(what), state) => {
                self.lacks = Some(what);
                (state == TaskState::Running).then_some(self.patience.progress)
            }
            (Progress::Running | Progress::Beat, TaskState::Running) => Some(self.patience.progress),
            // It lives, but has to run in time.
            _ => None,
        }
    }

    /// Asks a process to end. Gives how long it has for that.
    fn terminate(&mut self, process: &Process, cause: Cause) -> Instant {
        let cause = self.cause.insert(cause);
        (self.tell)(TaskState::Stopping, &cause.to_string());
        process.terminate();
        Instant::now() + GRACE
    }
}
