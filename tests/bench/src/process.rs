//! Processes that are measured: started, found ready, and looked at.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use holdfast_tests::{
    process::Process,
    wait::{self, LONGEST_WAIT},
};
use nix::{time::ClockId, unistd::Pid};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::error::{Error, Result};

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time, its own and the system's for it, of all its threads.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
}

/// Reads what a process has used until now, from `/proc/PID/stat`.
///
/// # Errors
/// There is no such process.
pub(crate) fn usage(process: u32) -> Result<Usage> {
    let fields = fields(process)?;
    let field = |number: usize| {
        let field = fields.get(number - 3).copied();
        field.ok_or_else(|| Error::Told(format!("/proc/{process}/stat: expected a field {number}")))
    };
    Ok(Usage { cpu: ticks(field(14)? + field(15)?), memory: field(24)? * page_size() as u64 })
}

/// How much CPU time a process has used until now, to the nanosecond, without those that it has started.
///
/// # Errors
/// There is no such process.
pub(crate) fn clock(process: u32) -> Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(process.cast_signed())).and_then(ClockId::now);
    Ok(clock.map_err(std::io::Error::from)?.into())
}

/// The fields of `/proc/PID/stat` from the third on: numbers all of them, but for the first.
fn fields(process: u32) -> Result<Vec<u64>> {
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    // The second field is the program's name in brackets, and may hold anything.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Some are negative, which nobody asks for.
    Ok(fields.map(|field| field.parse().unwrap_or_default()).collect())
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / clock_ticks_per_second() as f64)
}

/// Processes with all that they have started: how much CPU time they have used until now, those that have ended and were
/// waited for among them; and their private memory, in bytes.
///
/// # Errors
/// `/proc` can't be read.
pub(crate) fn usage_of_trees(roots: &[u32]) -> Result<Usage> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").map_err(Error::file(Path::new("/proc")))?.flatten() {
        if let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
            // One that has gone since has been counted by its parent, or will be.
            parents.extend(fields(process).ok().and_then(|fields| Some((process, *fields.get(1)?))));
        }
    }
    let mut tree = roots.to_vec();
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        let is_child = |(_, of): &&(u32, u64)| *of == u64::from(parent);
        tree.extend(parents.iter().filter(is_child).map(|(process, _)| *process));
        next += 1;
    }
    let mut sum = Usage { cpu: Duration::ZERO, memory: 0 };
    for process in tree {
        let Ok(fields) = fields(process) else { continue };
        // From `utime` to `cstime`.
        sum.cpu += ticks(fields.iter().skip(11).take(4).sum());
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kilobytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        sum.memory += kilobytes.sum::<u64>() * 1024;
    }
    Ok(sum)
}

/// How much CPU time each of these processes, and of those that they have started, has used until now: to the nanosecond, and
/// without those that have ended.
pub(crate) fn clocks_of_trees(roots: &[u32]) -> BTreeMap<u32, Duration> {
    let mut clocks = BTreeMap::new();
    let mut rest = roots.to_vec();
    while let Some(process) = rest.pop() {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(process.cast_signed())).and_then(ClockId::now);
        // One that has just gone is none.
        let Ok(used) = clock else { continue };
        clocks.insert(process, used.into());
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        rest.extend(children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    clocks
}

/// As many open files as this machine allows, for this process and those that it starts.
pub(crate) fn allow_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If it can't be raised, what there is must do: the caller looks at the answer.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A port of the loopback that was free a moment ago.
///
/// # Errors
/// There is none.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts `command` with its output in the file `log`, and waits until `ready` stands there.
///
/// # Errors
/// It can't be started, ends, or is not ready in time.
pub(crate) fn start(command: &Command, log: &Path, ready: &str) -> Result<Process> {
    let program = Path::new(command.get_program());
    let mut process = Process::start(program, command.get_args(), log).map_err(Error::file(program))?;
    let is_ready = wait::find(LONGEST_WAIT, || match process.printed().contains(ready) {
        true => Some(true),
        false => process.ended().map(|_| false),
    });
    if is_ready != Some(true) {
        return Err(Error::Told(format!("{command:?} did not say {ready:?}; see {}", log.display())));
    }
    Ok(process)
}
