//! A microcontroller on a network, run on the host: the embedded agent with TLS, over TCP, on the clock of the machine.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time,
};

use agent_embedded::{
    agent::Agent,
    application::{Application, State},
    board::{Board, Clock, ResetReason},
    outbox::Outbox,
    tls::Tls,
};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use protocol_core::{
    message::{BootId, Facts, Kind, Message, StreamId, Text},
    provisioning::LENGTH,
    time::Instant,
};
use rustls::crypto::ring;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::wait;

/// It takes frames that are larger than a TLS record.
type Device = Agent<8, 128, 8, 4_096>;

/// A microcontroller that runs, until it is dropped.
#[derive(Debug)]
pub struct Networked {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the device and the test both see.
#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    /// There is something to say.
    to_say: Notify,
    stop: Notify,
}

#[derive(Debug)]
struct Seen {
    flash: [u8; LENGTH],
    to_say: VecDeque<Vec<u8>>,
    received: Vec<String>,
    states: Vec<String>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Networked {
    /// One whose flash holds these bytes where its provisioning block belongs.
    ///
    /// # Panics
    /// The system has no thread for it.
    pub fn start(flash: [u8; LENGTH]) -> Self {
        let seen = Seen { flash, to_say: VecDeque::new(), received: Vec::new(), states: Vec::new() };
        let shared = Arc::new(Shared { seen: Mutex::new(seen), to_say: Notify::new(), stop: Notify::new() });
        let device = Arc::clone(&shared);
        let thread = thread::spawn(move || live(&device));
        Self { shared, thread: Some(thread) }
    }

    /// Has it say something.
    pub fn say(&self, body: &str) {
        self.shared.seen().to_say.push_back(body.as_bytes().to_vec());
        self.shared.to_say.notify_one();
    }

    /// The bodies of the messages that it has taken.
    pub fn received(&self) -> Vec<String> {
        self.shared.seen().received.clone()
    }

    /// What it has shown of its states, oldest first.
    pub fn states(&self) -> Vec<String> {
        self.shared.seen().states.clone()
    }

    /// What its flash holds now.
    pub fn flash(&self) -> [u8; LENGTH] {
        self.shared.seen().flash
    }

    /// Writes its flash.
    pub fn write_flash(&self, flash: [u8; LENGTH]) {
        self.shared.seen().flash = flash;
    }

    /// Waits until it shows a state with these words.
    ///
    /// # Panics
    /// It does not in time.
    #[track_caller]
    pub fn wait_state(&self, words: &str) {
        let shows = |states: &Vec<String>| states.iter().any(|state| state.contains(words));
        wait::until(&format!("the device shows {words:?}"), || self.states(), shows);
    }
}

impl Drop for Networked {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn live(shared: &Shared) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let device = Host { shared, started: time::Instant::now() };
    let mut application = Host { shared, started: device.started };
    let security = Tls::new();
    let mut agent = Device::new(device.now(), BootId(device.number()), StreamId(device.number()));
    runtime.block_on(async {
        tokio::select! {
            never = agent.run(&device, &security, &mut application) => match never {},
            () = shared.stop.notified() => {}
        }
    });
}

/// The board, and the application on it.
struct Host<'a> {
    shared: &'a Shared,
    started: time::Instant,
}

impl Host<'_> {
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl Clock for Host<'_> {
    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as u64)
    }

    async fn sleep_until(&self, at: Instant) {
        let wait = time::Duration::from(at.since(self.now()));
        tokio::time::sleep(wait).await;
    }
}

impl Board for Host<'_> {
    type Transport<'a>
        = Tcp
    where
        Self: 'a;

    async fn connect(&self, address: &str) -> Result<Tcp, ErrorKind> {
        let address: SocketAddr = address.parse().map_err(|_| ErrorKind::InvalidInput)?;
        TcpStream::connect(address).await.map(Tcp).map_err(|_| ErrorKind::ConnectionRefused)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        ring::default_provider().secure_random.fill(bytes).expect("the system has randomness");
    }

    fn feed_watchdog(&self) {}

    fn reset_reason(&self) -> ResetReason {
        ResetReason::PowerOn
    }

    fn reset(&self) {
        self.shared.stop.notify_one();
    }

    fn load(&self, block: &mut [u8]) {
        block.copy_from_slice(&self.shared.seen().flash);
    }

    fn store(&self, block: &[u8]) -> Result<(), ErrorKind> {
        self.shared.seen().flash.copy_from_slice(block);
        Ok(())
    }
}

impl Application for Host<'_> {
    async fn message(&mut self, message: &Message<'_>) {
        self.shared.seen().received.push(String::from_utf8_lossy(message.body).into_owned());
    }

    async fn next(&mut self) {
        while self.shared.seen().to_say.is_empty() {
            self.shared.to_say.notified().await;
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        if let Some(body) = self.shared.seen().to_say.pop_front() {
            outbox.push(time, Kind::TEXT, &body).expect("it is called if there is room");
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts { version: Text::shortened("test"), ..Facts::default() }
    }

    fn state(&mut self, state: State<'_>) {
        let shown = match state {
            State::Connecting => "connecting".to_owned(),
            State::Online(name) => format!("online as {name}"),
            State::Offline(failure, _) => format!("offline: {failure}"),
            State::Resetting => "resetting".to_owned(),
        };
        self.shared.seen().states.push(shown);
    }
}

/// TCP, as a board's transport.
#[derive(Debug)]
struct Tcp(TcpStream);

impl ErrorType for Tcp {
    type Error = ErrorKind;
}

impl Read for Tcp {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(buffer).await.map_err(|_| ErrorKind::ConnectionReset)
    }
}

impl Write for Tcp {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await.map_err(|_| ErrorKind::ConnectionReset)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
