//! Processes that are measured: started, found ready, and looked at.

use std::{
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
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
    // The second field is the program's name in brackets, and may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| {
        let field = fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
        field.ok_or_else(|| Error::Told(format!("{}: expected a number in field {number}", path.display())))
    };
    let ticks = field(14)? + field(15)?;
    Ok(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64),
        memory: field(24)? * page_size() as u64,
    })
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
