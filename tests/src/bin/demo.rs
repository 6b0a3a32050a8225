//! The demonstration that `cargo xtask demo` runs: a server on its defaults, two agents, messages both ways.
//!
//! Everything it makes lies in the directory that it is given. Its processes end with it, however it ends.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use holdfast_tests::{
    process::{self, Process},
    wait,
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server's own ports, on loopback: a demonstration is nobody else's business.
const DEVICE_PORT: u16 = 55_223;
const CLASSIC_PORT: u16 = 55_222;

const DEVICES: [&str; 2] = ["camera-1", "kiosk-1"];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(directory) = arguments.next() else {
        eprintln!("demo: expected a directory, and perhaps --once; start it by `cargo xtask demo`");
        return ExitCode::from(2);
    };
    let once = arguments.next().is_some_and(|word| word == "--once");
    let directory = Path::new(&directory);
    match Demo::start(directory).and_then(|demo| demo.show(once)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}; what its processes said is in {}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// A server and its agents.
struct Demo {
    directory: PathBuf,
    server: Process,
    address: String,
    /// The port of the original protocol, unless another program has it.
    classic: Option<u16>,
    agents: Vec<Process>,
    started: Instant,
}

impl Demo {
    /// Starts the server, in an empty directory.
    fn start(directory: &Path) -> Outcome<Self> {
        let started = Instant::now();
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(directory)?,
        }
        let address = format!("127.0.0.1:{}", free_port(DEVICE_PORT)?);
        let classic = is_free(CLASSIC_PORT).then_some(CLASSIC_PORT);
        let data = text(&directory.join("server"));
        let mut arguments = vec!["serve", "--data", &data, "--listen", &address];
        if classic.is_none() {
            println!("Port {CLASSIC_PORT} is taken: the original protocol is left out.");
            arguments.extend(["--classic", "off"]);
        }
        let mut server = Process::start(&program("holdfast"), arguments, &directory.join("server.log"))?;
        let ready = wait::find(PATIENCE, || {
            let ready = server.printed().contains("\"ready:");
            (ready || server.ended().is_some()).then_some(ready)
        });
        if ready != Some(true) {
            return Err(format!("the server did not get ready; it said: {}", server.printed()).into());
        }
        let directory = directory.to_owned();
        let demo = Self { directory, server, address, classic, agents: Vec::new(), started };
        demo.done(&format!("a server on its defaults listens on {}", demo.address));
        Ok(demo)
    }

    fn show(mut self, once: bool) -> Outcome<()> {
        for name in DEVICES {
            self.enrol(name)?;
        }
        self.wait_online()?;
        self.exchange()?;
        println!("\n{}", self.holdfast(&["devices"])?);
        println!("{}", self.holdfast(&["messages"])?);
        if !once {
            self.suggest();
            self.stay()?;
        }
        for agent in &mut self.agents {
            agent.terminate(PATIENCE);
        }
        self.server.terminate(PATIENCE);
        println!("The demonstration has ended: no process of it is left.");
        Ok(())
    }

    /// Enrols a device by the line that the server prints, and runs its agent.
    fn enrol(&mut self, name: &str) -> Outcome<()> {
        let line = self.holdfast(&["enroll", "--name", name, "--address", &self.address])?;
        let invitation = line.split_whitespace().last().unwrap_or_default();
        self.agent(name, &["enroll", invitation])?;
        let state = text(&self.state(name));
        let log = self.directory.join(format!("{name}.log"));
        self.agents.push(Process::start(&program("holdfast-agent"), ["run", "--state", &state], &log)?);
        self.done(&format!("{name} enrolled with a line of `holdfast enroll`, and runs"));
        Ok(())
    }

    fn wait_online(&self) -> Outcome<()> {
        let all_online = || self.presence().is_ok_and(|online| online == [true; DEVICES.len()]).then_some(());
        wait::find(PATIENCE, all_online).ok_or("the devices did not come online")?;
        self.done("both devices are online");
        Ok(())
    }

    /// Messages both ways: each is where it belongs, once.
    fn exchange(&self) -> Outcome<()> {
        for name in DEVICES {
            self.agent(name, &["send", &format!("hello from {name}")])?;
            self.holdfast(&["send", name, &format!("hello {name}")])?;
        }
        for name in DEVICES {
            let (sent, answered) = (format!("hello from {name}"), format!("hello {name}"));
            let arrived = || {
                let messages = self.ask(&["messages", name]).ok()?;
                let is_there_once =
                    |body: &str| messages.iter().filter(|row| row["body"] == body).count() == 1;
                let delivered = messages.iter().any(|row| row["state"] == "delivered");
                (is_there_once(&sent) && is_there_once(&answered) && delivered).then_some(())
            };
            wait::find(PATIENCE, arrived).ok_or_else(|| format!("the messages of {name} did not arrive"))?;
            let received = self.agent(name, &["receive"])?;
            if received.trim_end() != answered {
                return Err(format!("expected {answered:?} at {name}, found {received:?}").into());
            }
        }
        self.done("messages went both ways, each archived before it was echoed");
        Ok(())
    }

    fn suggest(&self) {
        let (holdfast, agent) = (text(&program("holdfast")), text(&program("holdfast-agent")));
        let (data, state) = (text(&self.directory.join("server")), text(&self.state(DEVICES[0])));
        let name = DEVICES[0];
        println!("Try next, in another terminal:\n");
        println!("  export HOLDFAST_DATA={data} HOLDFAST_STATE={state}");
        println!("  {holdfast} messages --follow");
        println!("  {agent} send 'the door is open'");
        println!("  {holdfast} send {name} 'close it'");
        println!("  {agent} receive");
        println!("  {holdfast} ping {name}");
        if let Some(agent) = self.agents.first() {
            println!("  kill -9 {}    # {name} goes offline at once", agent.id());
        }
        println!("  {holdfast} events");
        if let Some(port) = self.classic {
            println!("  {holdfast} client 127.0.0.1:{port}    # the original protocol");
        }
        println!("\nCtrl-C ends the demonstration. The devices, live:\n");
    }

    /// Shows the table of devices, live, until a signal ends it.
    fn stay(&self) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            let mut table = LiveTable::default();
            loop {
                tokio::select! {
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    _ = ticks.tick() => {
                        // A server that is just being stopped does not answer: the next signal tells.
                        if let (Ok(devices), Ok(presence)) = (self.holdfast(&["devices"]), self.presence()) {
                            table.show(&devices, presence)?;
                        }
                    }
                }
            }
        })
    }

    fn presence(&self) -> Outcome<Vec<bool>> {
        Ok(self.ask(&["devices"])?.iter().map(|device| device["online"] == true).collect())
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn holdfast(&self, arguments: &[&str]) -> Outcome<String> {
        output(&program("holdfast"), arguments, ["--data", &text(&self.directory.join("server"))])
    }

    fn agent(&self, name: &str, arguments: &[&str]) -> Outcome<String> {
        output(&program("holdfast-agent"), arguments, ["--state", &text(&self.state(name))])
    }

    fn ask(&self, arguments: &[&str]) -> Outcome<Vec<Value>> {
        let lines = self.holdfast(&[arguments, &["--json"]].concat())?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    fn done(&self, what: &str) {
        println!("{:>5.1} s  {what}", self.started.elapsed().as_secs_f64());
    }
}

/// A table that is painted over on a terminal; elsewhere it is printed when a device comes or goes.
#[derive(Default)]
struct LiveTable {
    lines: usize,
    presence: Vec<bool>,
}

impl LiveTable {
    fn show(&mut self, table: &str, presence: Vec<bool>) -> io::Result<()> {
        let mut terminal = io::stdout().lock();
        if terminal.is_terminal() {
            if self.lines > 0 {
                write!(terminal, "\x1b[{}A\x1b[J", self.lines)?;
            }
            self.lines = table.lines().count();
            write!(terminal, "{table}")?;
        } else if self.presence != presence {
            write!(terminal, "{table}")?;
        }
        self.presence = presence;
        terminal.flush()
    }
}

/// The wished port of loopback if nobody has it, else another.
fn free_port(wished: u16) -> io::Result<u16> {
    if is_free(wished) {
        return Ok(wished);
    }
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    println!("Port {wished} is taken: the demonstration uses {port}.");
    Ok(port)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// A program that was built together with this one.
fn program(name: &str) -> PathBuf {
    env::current_exe().unwrap_or_default().with_file_name(name)
}

/// Runs a program of ours on its directory; gives what it printed.
fn output(program: &Path, arguments: &[&str], directory: [&str; 2]) -> Outcome<String> {
    let output = process::run(program, arguments.iter().copied().chain(directory), PATIENCE)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("`{} {}` failed: {said}", program.display(), arguments.join(" ")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
