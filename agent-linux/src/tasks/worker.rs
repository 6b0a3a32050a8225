//! `holdfast-agent run-task`: a task's process. It lives no longer than its agent, takes no more than it may, and says
//! how it goes on.

use std::{
    fs,
    io::{self, BufRead as _, Read as _, StdinLock},
    process::ExitCode,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use tokio::runtime::Runtime;

use super::{
    assignment::{Assignment, LONGEST, Preparation, Work},
    data::{self, DataError},
    progress::{Progress, shortened, tell},
};
use crate::tls::Connector;

/// How much processor time there is between the signal that its end has come and the end, in seconds.
const LAST_SECONDS: u64 = 5;

/// What people see of a process that waits for a task, and of one that has one.
const READY: &str = "holdfast-ready";
const AT_WORK: &str = "holdfast-task";

/// How much sooner the kernel ends a task than the agent where memory runs out, of 1,000.
const FIRST_TO_GO: &str = "500";

/// What can go wrong before the work begins.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    #[error("expected an assignment on standard input; only the agent starts this: {0}")]
    NoAssignment(#[from] serde_json::Error),
    #[error("the agent has gone")]
    NoAgent,
}

/// Does what standard input says. Gives the exit code: whatever was said on standard output counts, not this.
pub fn run() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<(), WorkerError> {
    // First of all: who dies later takes this process along, however it dies.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    // A dump would hold the device's key.
    set(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // For the kernel's choice, and for people's eyes; it goes without as well.
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);
    let _ = fs::write("/proc/self/comm", READY);
    let mut input = io::stdin().lock();
    let tools = Tools::prepare(&preparation(&mut input)?)?;
    let assignment = assignment(&mut input)?;
    Ok(work(tools, assignment)?)
}

/// What is made ready for whatever there is to do.
struct Tools {
    runtime: Runtime,
    /// For connections that carry a task's bytes. Not every task has any.
    connector: Result<Connector, DataError>,
}

impl Tools {
    fn prepare(Preparation { identity }: &Preparation) -> Result<Self, WorkerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For the resolver alone.
            .max_blocking_threads(1)
            .build()?;
        Ok(Self { runtime, connector: data::connector(identity) })
    }
}

fn preparation(input: &mut StdinLock<'_>) -> Result<Preparation, WorkerError> {
    let mut line = Vec::new();
    input.take(LONGEST).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Waits for what there is to do, and lets it take no more than it may.
fn assignment(input: &mut StdinLock<'_>) -> Result<Assignment, WorkerError> {
    let mut text = Vec::new();
    input.take(LONGEST).read_to_end(&mut text)?;
    let assignment: Assignment = serde_json::from_slice(&text)?;
    // Has the agent died before it could take this process along?
    if getppid() != Pid::from_raw(assignment.agent) {
        return Err(WorkerError::NoAgent);
    }
    let limit = |most: u64, last: u64| Rlimit { current: Some(most), maximum: Some(last) };
    let (memory, seconds) = (assignment.max_memory_bytes, assignment.max_cpu_seconds);
    set(Resource::Data, limit(memory, memory))?;
    set(Resource::Cpu, limit(seconds, seconds.saturating_add(LAST_SECONDS)))?;
    let _ = fs::write("/proc/self/comm", AT_WORK);
    Ok(assignment)
}

/// Lowers a limit; one that is lower already stays.
fn set(resource: Resource, wanted: Rlimit) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |wanted: Option<u64>, now: Option<u64>| match (wanted, now) {
        (Some(wanted), Some(now)) => Some(wanted.min(now)),
        (wanted, now) => wanted.or(now),
    };
    let maximum = lower(wanted.maximum, now.maximum);
    Ok(setrlimit(resource, Rlimit { current: lower(wanted.current, maximum), maximum })?)
}

/// Does the work, and gives signs of progress beside it.
fn work(Tools { runtime, connector }: Tools, assignment: Assignment) -> io::Result<()> {
    let end = runtime.block_on(async {
        let beat = async {
            loop {
                tokio::time::sleep(assignment.beat).await;
                if let Err(error) = tell(&Progress::Beat) {
                    return error;
                }
            }
        };
        let work = async {
            match assignment.work {
                Work::Ssh(ssh) => ssh.run(connector).await.map_err(|error| error.to_string()),
                Work::OpenSsh(openssh) => openssh.run().await.map_err(|error| error.to_string()),
                Work::Reboot(program) => program.reboot().await.map_err(|error| error.to_string()),
                Work::Video(video) => video.run(connector).await.map_err(|error| error.to_string()),
            }
        };
        tokio::select! {
            done = work => Ok(match done {
                Ok(detail) => Progress::Done(shortened(&detail)),
                Err(detail) => Progress::Failed(shortened(&detail)),
            }),
            error = beat => Err(error),
        }
    })?;
    runtime.shutdown_background();
    tell(&end)
}
