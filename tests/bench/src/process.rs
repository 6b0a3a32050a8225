//! Processes that are measured: started, found ready, looked at, and ended.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, Rlimit, Signal, getrlimit, setrlimit},
};

use crate::error::{Error, Result};

/// How long a server may take to be ready, or to end.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

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

/// A process of ours; ended with this value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with its output in the file `log`, and waits until `ready` stands there.
    ///
    /// # Errors
    /// It can't be started, ends, or is not ready in time.
    pub(crate) fn start(mut command: Command, log: &Path, ready: &str) -> Result<Self> {
        let file = fs::File::create(log).map_err(Error::file(log))?;
        let errors = file.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().map_err(|error| {
            Error::Told(format!("{}: {error}", Path::new(command.get_program()).display()))
        })?;
        let mut process = Self { child };
        let begun = Instant::now();
        while !fs::read_to_string(log).map_err(Error::file(log))?.contains(ready) {
            if process.child.try_wait()?.is_some() || begun.elapsed() > LONGEST_WAIT {
                return Err(Error::Told(format!("{command:?} did not say {ready:?}; see {}", log.display())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    /// Asks it to end, then makes it.
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_WAIT {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
