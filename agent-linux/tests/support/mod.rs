//! A real agent, and a server that says what a test wants it to say.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod tasks;
pub(crate) mod video;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_agent::clock;
use holdfast_tests::tls;
use holdfast_tests::wait::find;
pub(crate) use holdfast_tests::wait::{LONGEST_WAIT, until_true as until};
use protocol_core::{
    code::CloseReason,
    frame::{self, Decoded},
    invitation::{self, Invitation},
    message::{
        self, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Hello, Kind, Message, Pin, Secret, Status,
        StoreId, StreamId, Text, Welcome, Window,
    },
    session::{Event, Server, Session},
    tag::Tag,
};
use rcgen::KeyPair;
use rustls::{ServerConfig, ServerConnection, StreamOwned, server::ParsedCertificate};
use sha2::{Digest as _, Sha256};

/// The token of all enrolment lines here.
const TOKEN: Secret = Secret([7; 16]);

/// A server that a test plays.
pub(crate) struct TestServer {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pub(crate) pin: Pin,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with_key(&tls::new_key())
    }

    pub(crate) fn with_key(key: &KeyPair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let config = tls::server(key, &["holdfast/1", "holdfast-enroll/1", "holdfast-data/1"]);
        Self { listener, config, pin: tls::pin(key) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next TCP connection, if one comes in time.
    pub(crate) fn accept_tcp(&self, time_limit: Duration) -> Option<TcpStream> {
        find(time_limit, || match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                Some(stream)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        })
    }

    /// The next TLS connection, if one comes in time.
    pub(crate) fn accept(&self, time_limit: Duration) -> Option<Peer> {
        let start = Instant::now();
        while let Some(stream) = self.accept_tcp(time_limit.saturating_sub(start.elapsed())) {
            stream.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&self.config)).unwrap(), stream);
            if tls.conn.complete_io(&mut tls.sock).is_ok() {
                let session = Session::server(clock::now(), protocol_core::time::Duration::from_secs(60));
                return Some(Peer { tls, session, input: Vec::new() });
            }
        }
        None
    }

    /// The next device's connection, its session open, with a large window; `archived` as in the welcome.
    pub(crate) fn open(&self, archived: u64) -> (Peer, Hello) {
        let mut peer = self.accept(LONGEST_WAIT).expect("a connection");
        let hello = peer.hello();
        peer.welcome(archived, Window { messages: 24, bytes: 1 << 20 });
        (peer, hello)
    }

    /// The line to enrol with here.
    pub(crate) fn line(&self) -> String {
        let address = self.address().to_string();
        let addresses = [Text::new(&address).unwrap()].into_iter().collect();
        let invitation = Invitation { pin: self.pin, token: TOKEN, addresses };
        let mut buffer = [0; invitation::MAX_LENGTH];
        let bytes = invitation.encode(&mut buffer).unwrap();
        format!("{}{}", invitation::PREFIX, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Where and by which keys this server is found.
    pub(crate) fn endpoints<'a>(&self, addresses: &[&'a str]) -> Endpoints<'a> {
        let addresses = addresses.iter().map(|address| Text::new(address).unwrap()).collect();
        Endpoints { current: self.pin, next: Pin([9; 32]), addresses }
    }
}

/// What a device said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Hello(Hello),
    Message {
        stream: StreamId,
        number: u64,
        kind: String,
        time: u64,
        body: Vec<u8>,
    },
    Echo(Echo),
    Facts {
        host_name: String,
        version: String,
        ssh_user: String,
    },
    Status(Vec<(String, f64)>),
    Offer {
        kinds: Vec<String>,
        tasks: Vec<u64>,
    },
    Report(tasks::Reported),
    Cameras(Vec<video::Told>),
    Closed(CloseReason),
    /// The connection ended.
    End,
    /// Nothing, in the time given.
    Nothing,
}

/// A device at the other end.
pub(crate) struct Peer {
    tls: StreamOwned<ServerConnection, TcpStream>,
    session: Session<Server>,
    input: Vec<u8>,
}

impl Peer {
    /// The pin of the device's key.
    pub(crate) fn key(&self) -> Pin {
        let certificate = &self.tls.conn.peer_certificates().unwrap()[0];
        let key = ParsedCertificate::try_from(certificate).unwrap().subject_public_key_info();
        Pin(Sha256::digest(key).into())
    }

    fn write(&mut self, bytes: &[u8]) {
        // A device may have gone: what it said before counts.
        let _ = self.tls.write_all(bytes).and_then(|()| self.tls.flush());
    }

    /// What the device says next. Its `PING`s are answered.
    pub(crate) fn next(&mut self, time_limit: Duration) -> Heard {
        let start = Instant::now();
        loop {
            let (used, event) =
                self.session.input(clock::now(), &self.input).expect("a device that keeps to the protocol");
            let heard = event.and_then(|event| match event {
                Event::Hello(hello) => Some(Heard::Hello(hello)),
                Event::Message(message) => Some(Heard::Message {
                    stream: message.stream,
                    number: message.number,
                    kind: message.kind.to_string(),
                    time: message.time,
                    body: message.body.to_vec(),
                }),
                Event::Echo(echo) => Some(Heard::Echo(echo)),
                Event::Notice(frame) if frame.tag == Tag::FACTS => {
                    let facts: Facts<'_> = message::decode(frame.body).unwrap();
                    Some(Heard::Facts {
                        host_name: facts.host_name.to_string(),
                        version: facts.version.to_string(),
                        ssh_user: facts.ssh_user.to_string(),
                    })
                }
                Event::Notice(frame) if frame.tag == Tag::STATUS => {
                    let status: Status<'_> = message::decode(frame.body).unwrap();
                    let readings = status.readings.iter();
                    Some(Heard::Status(
                        readings.map(|reading| (reading.name.to_string(), reading.value)).collect(),
                    ))
                }
                Event::Notice(frame) if matches!(frame.tag, Tag::OFFER | Tag::REPORT) => {
                    Some(tasks::heard(frame))
                }
                Event::Notice(frame) if frame.tag == Tag::CAMERAS => {
                    Some(Heard::Cameras(video::told(frame.body)))
                }
                Event::Closed(close) => Some(Heard::Closed(close.reason)),
                _ => None,
            });
            self.input.drain(..used);
            if let Some(heard) = heard {
                return heard;
            }
            if used > 0 {
                continue;
            }
            self.write_due();
            let left = time_limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Heard::Nothing;
            }
            self.tls.sock.set_read_timeout(Some(left)).unwrap();
            let mut room = [0; 4096];
            match self.tls.read(&mut room) {
                Ok(0) => return Heard::End,
                Ok(count) => self.input.extend_from_slice(&room[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(_) => return Heard::End,
            }
        }
    }

    fn write_due(&mut self) {
        let mut room = [0; 64];
        while let length @ 1.. = self.session.output(clock::now(), &mut room).expect("a device that answers")
        {
            self.write(&room[..length]);
        }
    }

    pub(crate) fn hello(&mut self) -> Hello {
        match self.next(LONGEST_WAIT) {
            Heard::Hello(hello) => hello,
            other => panic!("expected a hello, found {other:?}"),
        }
    }

    pub(crate) fn welcome(&mut self, archived: u64, window: Window) {
        self.welcome_as(1, archived, window);
    }

    /// The same, by this version of the protocol.
    pub(crate) fn welcome_as(&mut self, version: u8, archived: u64, window: Window) {
        self.welcome_with(version, 1_000, archived, window);
    }

    /// The same, with so many milliseconds between two signs of life; 0 for none.
    pub(crate) fn welcome_with(&mut self, version: u8, interval: u32, archived: u64, window: Window) {
        let welcome = Welcome {
            version,
            interval,
            timeout: interval,
            max_frame: 16 * 1024,
            window,
            store: StoreId(1),
            archived,
            time: 1,
            name: Text::new("kiosk-1").unwrap(),
        };
        self.write_due();
        let mut room = [0; 256];
        let length = self.session.welcome(clock::now(), &welcome, &mut room).unwrap();
        self.write(&room[..length]);
    }

    /// The next message: its stream, number and body.
    pub(crate) fn message(&mut self) -> (StreamId, u64, Vec<u8>) {
        loop {
            match self.next(LONGEST_WAIT) {
                Heard::Message { stream, number, body, .. } => return (stream, number, body),
                Heard::Facts { .. } | Heard::Status(_) => {}
                other => panic!("expected a message, found {other:?}"),
            }
        }
    }

    /// Sees that no message comes for a while.
    pub(crate) fn no_message(&mut self, time_limit: Duration) {
        let start = Instant::now();
        while start.elapsed() < time_limit {
            match self.next(time_limit.saturating_sub(start.elapsed())) {
                Heard::Facts { .. } | Heard::Status(_) | Heard::Nothing => {}
                other => panic!("expected nothing, found {other:?}"),
            }
        }
    }

    pub(crate) fn echo(&mut self, stream: StreamId, number: u64) {
        assert!(self.session.echo(stream, number));
        self.write_due();
    }

    /// Says that these messages are on disk, and forgets them.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut bodies = vec![];
        for _ in 0..count {
            let (stream, number, body) = self.message();
            self.echo(stream, number);
            bodies.push(body);
        }
        bodies
    }

    pub(crate) fn send(&mut self, stream: u64, number: u64, body: &[u8]) {
        let message = Message { stream: StreamId(stream), number, time: 5, kind: Kind::TEXT, body };
        let mut room = vec![0; 16 * 1024];
        let length = self.session.message(clock::now(), &message, &mut room).unwrap();
        self.write(&room[..length]);
    }

    /// Waits for the echo of what was sent.
    pub(crate) fn echoed(&mut self) -> (u64, u64) {
        loop {
            match self.next(LONGEST_WAIT) {
                Heard::Echo(echo) => return (echo.stream.0, echo.number),
                Heard::Facts { .. } | Heard::Status(_) => {}
                other => panic!("expected an echo, found {other:?}"),
            }
        }
    }

    pub(crate) fn notice<N: message::Notice>(&mut self, notice: &N) {
        let mut room = [0; 1024];
        let length = self.session.notice(clock::now(), notice, &mut room).unwrap();
        self.write(&room[..length]);
    }

    /// Ends the connection in an orderly way.
    pub(crate) fn close(mut self, reason: CloseReason, retry_after: u32) {
        let close = Close { reason, retry_after, detail: Text::new("as the test wants").unwrap() };
        let mut room = [0; 256];
        self.write_due();
        let length = self.session.close(&close, &mut room);
        self.write(&room[..length]);
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
        // What the device still says is read, so that the kernel does not cut off what it was told.
        let _ = self.tls.sock.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = self.tls.sock.shutdown(std::net::Shutdown::Write);
        while self.tls.sock.read(&mut room).is_ok_and(|count| count > 0) {}
    }

    /// Answers an enrolment: gives the device's host keys; `answer` decides.
    pub(crate) fn enrolment(mut self, answer: Answer<'_>) -> Pin {
        let key = self.key();
        let mut room = [0; 4096];
        loop {
            let frame = frame::decode(&self.input, 16 * 1024_u32).unwrap();
            match frame {
                Decoded::Frame { frame, .. } if frame.tag == Tag::ENROL => {
                    let enrol: Enrol<'_> = message::decode(frame.body).unwrap();
                    assert_eq!(enrol.token, TOKEN);
                    break;
                }
                Decoded::Frame { consumed, .. } => {
                    self.input.drain(..consumed);
                    self.write(b"PONG");
                }
                Decoded::Incomplete => {
                    let count = self.tls.read(&mut room).unwrap();
                    assert!(count > 0, "the device left");
                    self.input.extend_from_slice(&room[..count]);
                }
            }
        }
        let length = match answer {
            Answer::Silence => return key,
            Answer::Refused(reason) => {
                let close = Close { reason, retry_after: 0, detail: Text::new("not you").unwrap() };
                message::encode(&close, 4096, &mut room).unwrap()
            }
            Answer::Enrolled(endpoints) => {
                let enrolled = Enrolled { name: Text::new("kiosk-1").unwrap(), endpoints };
                message::encode(&enrolled, 4096, &mut room).unwrap()
            }
        };
        self.write(&room[..length]);
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
        let _ = self.tls.sock.set_read_timeout(Some(Duration::from_millis(500)));
        while self.tls.sock.read(&mut room).is_ok_and(|count| count > 0) {}
        key
    }
}

/// How a server answers an enrolment.
pub(crate) enum Answer<'a> {
    Enrolled(Endpoints<'a>),
    Refused(CloseReason),
    /// The connection breaks.
    Silence,
}

/// A device: its state, its configuration, and its agent when it runs.
pub(crate) struct Device {
    root: tempfile::TempDir,
    pub(crate) running: Option<Child>,
}

impl Device {
    /// A device that knows nothing yet. Its agent is quick to try again.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let device = Self { root, running: None };
        device.configure("");
        device
    }

    /// A device that is enrolled with `server`.
    pub(crate) fn enrolled(server: &TestServer) -> Self {
        let device = Self::new();
        let enrolling = device.command(&["enroll", &server.line()]).spawn().unwrap();
        let address = server.address().to_string();
        let answer = Answer::Enrolled(server.endpoints(&[&address]));
        server.accept(LONGEST_WAIT).expect("a device to enrol").enrolment(answer);
        let output = enrolling.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        device
    }

    /// Writes the configuration, with `more` behind it.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "ssh_directory = '{0}'\nboot_id = '{0}/boot_id'\nssh_user = 'operator'\nstatus_interval_seconds = 1\n[connection]\ntimeout_seconds = 1\nleast_wait_seconds = 0.05\nmost_wait_seconds = 0.2\nrefused_wait_seconds = 1\n{more}",
            self.root.path().display()
        );
        std::fs::write(self.root.path().join("agent.toml"), text).unwrap();
        self.start_anew("first");
    }

    /// Has its kernel say that this is another start of it.
    pub(crate) fn start_anew(&self, boot_id: &str) {
        std::fs::write(self.root.path().join("boot_id"), boot_id).unwrap();
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// Where this device finds its programs first.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.args(arguments).arg("--state").arg(self.state());
        command.arg("--config").arg(self.root.path().join("agent.toml"));
        command.env_remove("HOLDFAST_STATE").env("HOLDFAST_LOG", "debug");
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.programs().display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Does one verb to its end.
    pub(crate) fn does(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Does one verb to its end, which must be good. Gives what it printed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.does(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does one verb with something on its standard input.
    pub(crate) fn with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts the agent, and waits for its socket.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.path().join("agent.log"))
            .unwrap();
        let socket = self.state().join("agent.sock");
        let child = self.command(&["run"]).stderr(log).spawn().unwrap();
        self.running = Some(child);
        until("the agent's socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("agent.log")).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.must(&["status", "--json"])).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    /// Ends the agent without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends the agent as systemd does.
    pub(crate) fn terminate(&mut self) {
        let mut child = self.running.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        until("the agent's end", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        self.kill();
    }
}
