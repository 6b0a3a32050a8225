//! A real server, in a directory of its own, on a port of its own.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    api::Api,
    binaries,
    process::{self, Process},
    proxy::Proxy,
    wait::{self, LONGEST_WAIT},
};

/// The keep-alive of servers in tests: as short as the server takes it.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// The other half of it.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// A device that stops answering is shown offline after this, at the latest.
pub const BOUND: Duration = Duration::from_secs(2);

/// A port that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server: it may run or not, and keeps its data and its port until it is dropped.
#[derive(Debug)]
pub struct Server {
    directory: TempDir,
    data: PathBuf,
    listen: SocketAddr,
    classic: Option<SocketAddr>,
    http: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
    process: Option<Process>,
}

impl Server {
    /// A server that runs.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start() -> io::Result<Self> {
        Self::configured("", None)
    }

    /// A server that runs, and that devices find behind `proxy`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn behind(proxy: &Proxy) -> io::Result<Self> {
        let server = Self::configured("", Some(proxy.address()))?;
        proxy.lead_to(server.listen);
        Ok(server)
    }

    /// A server that runs, with these lines more in its configuration; `advertise`: where devices find it.
    ///
    /// # Errors
    /// It can't be started.
    pub fn configured(more: &str, advertise: Option<SocketAddr>) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        Self::in_directory(directory, data, more, advertise)
    }

    /// A server that runs on this data directory, which may be elsewhere than all else of the test.
    ///
    /// # Errors
    /// It can't be started.
    pub fn in_directory(
        directory: TempDir,
        data: PathBuf,
        more: &str,
        advertise: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let mut server = Self::prepared(directory, data, more)?;
        server.advertise = advertise;
        server.run()?;
        Ok(server)
    }

    /// A server that runs, with these lines more in its configuration, and speaks the original protocol too.
    ///
    /// # Errors
    /// It can't be started.
    pub fn with_classic(more: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let mut server = Self::prepared(directory, data, more)?;
        server.classic = Some(ANY_PORT);
        server.run()?;
        Ok(server)
    }

    /// A server that runs, with these lines more in its configuration, and speaks HTTP on a loopback address too.
    ///
    /// # Errors
    /// It can't be started.
    pub fn with_http(more: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let mut server = Self::prepared(directory, data, more)?;
        server.http = Some(ANY_PORT);
        server.run()?;
        Ok(server)
    }

    fn prepared(directory: TempDir, data: PathBuf, more: &str) -> io::Result<Self> {
        let server = Self {
            directory,
            data,
            listen: ANY_PORT,
            classic: None,
            http: None,
            advertise: None,
            process: None,
        };
        server.configure(more)?;
        Ok(server)
    }

    /// Writes its configuration, with these lines more, for its next start. Where they say something of the keep-alive it is
    /// not as short as in other tests.
    ///
    /// # Errors
    /// It can't be written.
    pub fn configure(&self, more: &str) -> io::Result<()> {
        let (interval, timeout) = (INTERVAL.as_millis(), TIMEOUT.as_millis());
        let keep_alive =
            format!("keep-alive.interval = \"{interval}ms\"\nkeep-alive.timeout = \"{timeout}ms\"\n");
        let own = if more.contains("keep-alive") { String::new() } else { keep_alive };
        fs::write(self.directory.path().join("server.toml"), own + more)
    }

    /// Starts it again, on the ports that it had, and waits until it is ready.
    ///
    /// # Errors
    /// It can't be started.
    ///
    /// # Panics
    /// It ends instead, or is not ready in time; the message holds its log.
    pub fn run(&mut self) -> io::Result<()> {
        let log = self.directory.path().join("server.log");
        let printed_before = fs::metadata(&log).map_or(0, |file| file.len() as usize);
        let (listen, config) = (self.listen.to_string(), self.directory.path().join("server.toml"));
        let classic = self.classic.map_or_else(|| "off".to_owned(), |classic| classic.to_string());
        let http = self.http.map_or_else(|| "off".to_owned(), |http| http.to_string());
        let mut arguments = self.arguments(&["serve", "--http", &http, "--log-format", "json"]);
        arguments.extend(["--listen".into(), listen, "--classic".into(), classic]);
        arguments.extend(["--config".into(), config.display().to_string()]);
        if let Some(advertise) = self.advertise {
            arguments.extend(["--advertise".into(), advertise.to_string()]);
        }
        let mut process = Process::start(&binaries::holdfast(), &arguments, &log)?;
        let ready = wait::find(LONGEST_WAIT, || {
            let printed = process.printed();
            let mut lines = printed.get(printed_before..).unwrap_or_default().lines();
            let ready = lines.find_map(|line| {
                let others = (listening(line, "classic"), listening(line, "http"));
                listening(line, "listen").map(|listen| (listen, others.0, others.1))
            });
            ready.or_else(|| process.ended().map(|_| (self.listen, self.classic, self.http)))
        });
        assert!(
            ready.is_some() && process.ended().is_none(),
            "the server did not come up; it printed {}",
            process.printed()
        );
        (self.listen, self.classic, self.http) = ready.unwrap_or((self.listen, self.classic, self.http));
        self.process = Some(process);
        Ok(())
    }

    /// Where devices connect.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where it speaks the original protocol.
    ///
    /// # Panics
    /// It does not.
    pub fn classic(&self) -> SocketAddr {
        self.classic.expect("it was started with a classic listener")
    }

    /// Where it speaks HTTP.
    ///
    /// # Panics
    /// It does not.
    pub fn http(&self) -> SocketAddr {
        self.http.expect("it was started with HTTP")
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it has printed, since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    /// The process that runs.
    ///
    /// # Panics
    /// None does.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it, as a loss of power would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// It does not end in time, or says that it failed.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process().signal(Signal::TERM);
        let status = self.process().wait(LONGEST_WAIT);
        assert!(status.success(), "the server ended with {status}; it printed {}", self.log());
        self.process = None;
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::of(&self.data)
    }

    /// Runs `holdfast` on it with these arguments.
    ///
    /// # Panics
    /// It can't be run, or takes too long.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Output {
        process::run(&binaries::holdfast(), self.arguments(arguments), LONGEST_WAIT).expect("holdfast runs")
    }

    /// Runs `holdfast` on it, which succeeds, and gives what it prints.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "holdfast {arguments:?}: {output:?}; the server: {}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `holdfast --json` on it, which succeeds, and gives the objects that it prints.
    ///
    /// # Panics
    /// It fails, or prints something else.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.tell(&[arguments, &["--json"]].concat());
        process::objects(arguments, &printed)
    }

    /// A new enrolment line: the `hf1.…` that a device is given.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn invite(&self, arguments: &[&str]) -> String {
        let printed = self.tell(&[&["enroll"], arguments].concat());
        let line = printed.split_whitespace().find(|word| word.starts_with("hf1."));
        line.unwrap_or_else(|| panic!("expected an enrolment line, found {printed}")).to_owned()
    }

    /// A new line for an operator elsewhere, as it is printed.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn operator_line(&self, name: &str, role: &str) -> String {
        self.tell(&["enroll", "--operator", name, "--role", role]).trim().to_owned()
    }

    /// What the server says of a device now; nothing if it can't be asked or does not know it.
    pub fn device(&self, name: &str) -> Option<Value> {
        self.api().list("/devices").ok()?.into_iter().find(|device| device["name"] == name)
    }

    /// Whether a device is shown online now.
    pub fn shows_online(&self, name: &str) -> bool {
        self.device(name).is_some_and(|device| device["online"] == true)
    }

    /// Waits until a device is shown as online or as offline.
    ///
    /// # Panics
    /// It is not in time.
    #[track_caller]
    pub fn wait_online(&self, name: &str, online: bool) {
        wait::until(
            &format!("{name} is {}", if online { "online" } else { "offline" }),
            || self.device(name),
            |device| device.as_ref().is_some_and(|device| device["online"] == online),
        );
    }

    /// The events of one kind, oldest first.
    ///
    /// # Panics
    /// The server does not tell.
    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.api().list("/events").expect("the server tells its events");
        events.into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// Waits for an event of this kind that `is_it` knows.
    ///
    /// # Panics
    /// There is none in time.
    #[track_caller]
    pub fn wait_event(&self, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = wait::find(LONGEST_WAIT, || self.events(kind).into_iter().find(|event| is_it(event)));
        let Some(found) = found else {
            panic!("no such {kind}; there are {:#?}", self.api().list("/events").unwrap_or_default());
        };
        found
    }

    /// The bodies of all messages that were archived from a device, in their order.
    ///
    /// # Panics
    /// The server does not tell.
    #[track_caller]
    pub fn archived(&self, device: &str) -> Vec<String> {
        let messages = self.api().list(&format!("/messages?device={device}")).expect("the server tells");
        let from_it = messages.iter().filter(|message| message["direction"] == "in");
        from_it.map(|message| message["body"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let mut all: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(["--data".to_owned(), self.data.display().to_string()]);
        all
    }
}

/// Where the server listens for what (`listen`, `classic`), if this is the line of its log that says so.
pub(crate) fn listening(line: &str, what: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let is_ready = fields["message"].as_str().is_some_and(|message| message.starts_with("ready"));
    fields[what].as_str().filter(|_| is_ready)?.parse().ok()
}
