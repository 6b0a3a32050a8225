//! Watches one task's process from its start to its end, which always comes.

use std::time::Duration;

use protocol_core::code::TaskState;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    assignment::Assignment,
    process::{Process, describe},
    progress::{LineError, Progress, shortened},
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
    /// In all, if there is a limit.
    pub(super) limit: Option<Duration>,
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
    #[error("it did not run within {} s, and was ended", .0.as_secs_f64())]
    NoStart(Duration),
    #[error("no progress for {} s: it was ended", .0.as_secs_f64())]
    NoProgress(Duration),
    #[error("its process does not keep to the rules: {0}")]
    Steps(#[from] LineError),
}

/// Runs one task to its end, and tells what becomes of it on the way.
pub(super) async fn run(
    assignment: &Assignment,
    patience: Patience,
    stop: oneshot::Receiver<String>,
    tell: impl Fn(TaskState, &str),
) -> End {
    let started = match serde_json::to_vec(assignment) {
        Ok(text) => Process::start(&text).await,
        Err(error) => Err(error.into()),
    };
    let mut process = match started {
        Ok(process) => process,
        Err(error) => {
            let detail = format!("its process could not be started: {error}");
            return End { state: TaskState::Failed, detail, output: Vec::new() };
        }
    };
    tracing::debug!(process = process.id(), "a task's process runs");
    let mut watch = Watch { patience, tell, state: TaskState::Starting, said: None, cause: None };
    watch.until_it_ends(&mut process, stop).await;
    let (status, output) = process.end().await;
    let (state, detail) = match (watch.cause, watch.said) {
        (Some(cause @ Cause::Stopped(_)), _) => (TaskState::Done, cause.to_string()),
        (Some(cause), _) => (TaskState::Failed, cause.to_string()),
        (None, Some(said)) => said,
        (None, None) => {
            let how = status.map_or_else(|| "nobody knows how".to_owned(), describe);
            (TaskState::Failed, format!("its process ended without a word: {how}"))
        }
    };
    End { state, detail: shortened(&detail), output }
}

struct Watch<T> {
    patience: Patience,
    tell: T,
    state: TaskState,
    /// What the process says of its end.
    said: Option<(TaskState, String)>,
    /// Why the agent ends it.
    cause: Option<Cause>,
}

impl<T: Fn(TaskState, &str)> Watch<T> {
    /// Watches a process until it closes its standard output, as it does when it ends, or until it has to be killed.
    async fn until_it_ends(&mut self, process: &mut Process, mut stop: oneshot::Receiver<String>) {
        let start = Instant::now();
        let mut deadline = start + self.patience.start;
        loop {
            let may_stop = self.cause.is_none() && self.said.is_none();
            let limit = self.patience.limit.filter(|_| may_stop);
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
                wish = &mut stop, if may_stop => {
                    // Nobody is left to say so: the agent stops.
                    let wish = wish.unwrap_or_default();
                    self.terminate(process, Cause::Stopped(wish));
                    deadline = Instant::now() + GRACE;
                }
                () = until(limit.map(|limit| start + limit)) => {
                    self.terminate(process, Cause::Limit(limit.unwrap_or_default()));
                    deadline = Instant::now() + GRACE;
                }
                () = sleep_until(deadline) => {
                    if self.said.is_none() {
                        self.cause.get_or_insert(match self.state {
                            TaskState::Starting => Cause::NoStart(self.patience.start),
                            _ => Cause::NoProgress(self.patience.progress),
                        });
                    }
                    return;
                }
            }
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
                self.state = TaskState::Running;
                (self.tell)(self.state, "");
                Some(self.patience.progress)
            }
            (Progress::Running | Progress::Beat, TaskState::Running) => Some(self.patience.progress),
            // It lives, but has to run in time.
            _ => None,
        }
    }

    fn terminate(&mut self, process: &Process, cause: Cause) {
        let cause = self.cause.insert(cause);
        (self.tell)(TaskState::Stopping, &cause.to_string());
        process.terminate();
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
