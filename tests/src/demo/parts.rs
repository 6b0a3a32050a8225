//! The processes of the demo: started, asked and ended.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{BOARD, Places, cameras, shown};
use crate::{
    machine::{Machine, from_within},
    process::Process,
    server::listening,
    sshd::{self, Sshd},
    wait::{self, LONGEST_WAIT},
};

/// The server's own default ports.
const DEVICES_PORT: u16 = 55223;
const CLASSIC_PORT: u16 = 55222;
const HTTP_PORT: u16 = 55280;

/// Whoever tries `holdfast reboot` means the demo's device, and that is this machine.
const NO_REBOOT: &str = "\n[tasks.reboot]\nallow = []\n";

/// Waits for Ctrl-C and its relatives.
pub(super) struct Signals(mpsc::Receiver<()>);

impl Signals {
    /// From now on they no longer end this process.
    pub(super) fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals =
            runtime.block_on(async { kinds.map(signal).into_iter().collect::<io::Result<Vec<_>>>() })?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            runtime.block_on(async {
                let mut waiting = tokio::task::JoinSet::new();
                for mut signal in signals {
                    waiting.spawn(async move { signal.recv().await });
                }
                waiting.join_next().await;
            });
            // Whoever no longer waits has ended already.
            let _ = sender.send(());
        });
        Ok(Self(receiver))
    }

    /// Whether one has come, or comes within this time.
    pub(super) fn came_within(&self, time_limit: Duration) -> bool {
        !matches!(self.0.recv_timeout(time_limit), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

/// Starts the parts.
pub(super) struct Parts<'a> {
    pub(super) places: &'a Places,
}

/// The demo's server.
pub(super) struct Server {
    program: PathBuf,
    pub(super) data: PathBuf,
    /// Where it listens for devices.
    address: SocketAddr,
    /// Where it speaks the original protocol.
    pub(super) classic: Option<SocketAddr>,
    process: Process,
}

/// A device of the demo.
pub(super) struct Agent {
    program: PathBuf,
    pub(super) name: &'static str,
    pub(super) state: PathBuf,
    process: Process,
}

/// The demo's microcontroller. It ends when this is dropped.
pub(super) struct Microcontroller {
    /// The file that shows its console.
    pub(super) console: PathBuf,
    _machine: Machine,
}

impl Parts<'_> {
    /// Starts the server, on its defaults as far as they are free, and for this machine only.
    pub(super) fn start_server(&self) -> io::Result<Server> {
        let Places { programs, demo, .. } = self.places;
        let (program, data, log) = (programs.join("holdfast"), demo.join("server"), demo.join("server.log"));
        // What is configured on this machine is not meant for a demo.
        let config = demo.join("server.toml");
        fs::write(&config, "# The demo uses the defaults.\n")?;
        let ports = [("--listen", DEVICES_PORT), ("--classic", CLASSIC_PORT), ("--http", HTTP_PORT)];
        let mut arguments: Vec<String> = vec!["serve".into(), "--log-format".into(), "json".into()];
        for (option, path) in [("--data", &data), ("--config", &config)] {
            arguments.extend([option.to_owned(), shown(path)]);
        }
        for (option, port) in ports {
            arguments.extend([option.to_owned(), format!("127.0.0.1:{}", free_or_any(port)?)]);
        }
        let mut process = Process::start(&program, &arguments, &log)?;
        let address = wait::find(LONGEST_WAIT, || match process.ended() {
            Some(_) => Some(None),
            None => process.printed().lines().find_map(|line| listening(line, "listen")).map(Some),
        });
        let Some(Some(address)) = address else {
            return Err(io::Error::other(format!(
                "the server did not start; it said:\n{}",
                process.printed()
            )));
        };
        writeln!(io::stdout(), "  server    runs on {address}, with its data in {}", shown(&data))?;
        let classic = process.printed().lines().find_map(|line| listening(line, "classic"));
        Ok(Server { program, data, address, classic, process })
    }

    /// Starts an SSH server for a device, if there is OpenSSH on this machine.
    pub(super) fn start_sshd(&self, name: &str) -> io::Result<Option<Sshd>> {
        if !sshd::is_installed() {
            return Ok(None);
        }
        Sshd::at(&self.places.demo.join(format!("{name}-ssh"))).map(Some)
    }

    /// Makes a device known, which may have an SSH server, and starts it.
    pub(super) fn enrol(
        &self,
        server: &Server,
        name: &'static str,
        sshd: Option<&Sshd>,
    ) -> io::Result<Agent> {
        let Places { programs, demo, .. } = self.places;
        let (program, state) = (programs.join("holdfast-agent"), demo.join(name));
        let printed = server.tell(&["enroll", "--name", name])?;
        let line = printed.split_whitespace().last().unwrap_or_default().to_owned();
        let config = demo.join(format!("{name}.toml"));
        let ssh = sshd.map(Sshd::agent_configuration).transpose()?.unwrap_or_default();
        let camera = cameras::configuration();
        fs::write(&config, format!("# The demo uses the defaults.\n{ssh}{NO_REBOOT}{camera}"))?;
        let options = ["--state".to_owned(), shown(&state), "--config".to_owned(), shown(&config)];
        let with =
            |verb: &[&str]| [verb.iter().map(|word| (*word).to_owned()).collect(), options.to_vec()].concat();
        tell(&program, &with(&["enroll", &line]))?;
        let log = demo.join(format!("{name}.log"));
        let process = Process::start(&program, with(&["run"]), &log)?;
        if !server.shows_online(name) {
            return Err(io::Error::other(format!(
                "{name} does not come online; it said:\n{}",
                process.printed()
            )));
        }
        Ok(Agent { program, name, state, process })
    }

    /// Makes the microcontroller known, and switches it on with its block and this image.
    pub(super) fn provision(&self, server: &Server, image: &Path) -> io::Result<Microcontroller> {
        let directory = self.places.demo.join(BOARD);
        // From within QEMU this machine has another address.
        let address = from_within(server.address).to_string();
        let out = shown(&directory);
        server.tell(&["enroll", "--firmware", "--name", BOARD, "--address", &address, "--out", &out])?;
        let block = fs::read(directory.join(format!("{BOARD}.bin")))?;
        let mut machine = Machine::at(&directory, image, &block)?;
        machine.run()?;
        if !server.shows_online(BOARD) {
            let said = machine.console();
            return Err(io::Error::other(format!("{BOARD} does not come online; it said:\n{said}")));
        }
        writeln!(
            io::stdout(),
            "  device    {BOARD} provisioned, a microcontroller in QEMU; running, and online"
        )?;
        Ok(Microcontroller { console: directory.join("console"), _machine: machine })
    }
}

impl Server {
    /// Runs `holdfast`, and gives what it prints.
    pub(super) fn tell(&self, arguments: &[&str]) -> io::Result<String> {
        // First: behind `--` it would be for ssh.
        tell(&self.program, &[&["--data", &shown(&self.data)], arguments].concat())
    }

    /// Makes an admin for the console, and gives the link by which they begin: the one that needs no certificate, if it is
    /// there.
    pub(super) fn first_login(&self) -> io::Result<String> {
        let printed = self.tell(&["user", "add", "admin", "--role", "admin"])?;
        let here = printed.lines().find(|link| link.starts_with("http://"));
        let link = here.or_else(|| printed.lines().next());
        link.map(ToOwned::to_owned).ok_or_else(|| io::Error::other("expected a one-time login, found none"))
    }

    /// Starts `holdfast`, which goes on beside all else; it ends with what is given back.
    pub(super) fn begin(&self, arguments: &[&str], log: &Path) -> io::Result<Process> {
        let data = shown(&self.data);
        Process::start(&self.program, [&["--data", &data], arguments].concat(), log)
    }

    /// Whether it shows this device online, now or soon.
    fn shows_online(&self, name: &str) -> bool {
        let name = format!("\"name\":\"{name}\",");
        let is_online = || {
            let devices = self.tell(&["devices", "--json"]).unwrap_or_default();
            let mut lines = devices.lines();
            lines.any(|line| line.contains(&name) && line.contains("\"online\":true")).then_some(())
        };
        wait::find(LONGEST_WAIT, is_online).is_some()
    }

    /// Waits until these texts were archived so often each, and are where they belong.
    pub(super) fn wait_all_through(&self, texts: &[(&str, usize)]) -> io::Result<()> {
        let through = || {
            let messages = self.tell(&["messages", "--json"]).ok()?;
            let waits = messages.contains("\"state\":\"waiting\"");
            let all = texts.iter().all(|(text, times)| messages.matches(text).count() >= *times);
            (all && !waits).then_some(())
        };
        wait::find(LONGEST_WAIT, through).ok_or_else(|| io::Error::other("the messages did not get through"))
    }

    /// Ends it.
    pub(super) fn end(self) -> io::Result<()> {
        end(self.process, "the server")
    }
}

impl Agent {
    /// Runs `holdfast-agent` for this device, and gives what it prints.
    pub(super) fn tell(&self, arguments: &[&str]) -> io::Result<String> {
        tell(&self.program, &[arguments, &["--state", &shown(&self.state)]].concat())
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it.
    pub(super) fn end(self) -> io::Result<()> {
        end(self.process, self.name)
    }
}

/// Asks a process to end, and waits until it has; one that the visitor has stopped or killed is no trouble.
fn end(mut process: Process, name: &str) -> io::Result<()> {
    if process.ended().is_some() {
        return Ok(());
    }
    process.signal(rustix::process::Signal::TERM);
    process.signal(rustix::process::Signal::CONT);
    match wait::find(LONGEST_WAIT, || process.ended()) {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            Err(io::Error::other(format!("{name} ended with {status}; it said:\n{}", process.printed())))
        }
        None => Err(io::Error::other(format!("{name} did not end, and was killed"))),
    }
}

/// Runs a program, which succeeds, and gives what it prints.
fn tell(program: &Path, arguments: &[impl AsRef<OsStr>]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| {
        io::Error::other(format!("{}: {error}; start the demo by `cargo xtask demo`", program.display()))
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!(
            "{} failed: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// This port, or 0 for any if it is taken; and then it is said.
fn free_or_any(port: u16) -> io::Result<u16> {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return Ok(port);
    }
    writeln!(
        io::stdout(),
        "  note      port {port} is taken by another program: the demo uses another port in its place"
    )?;
    Ok(0)
}
