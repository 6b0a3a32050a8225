//! A microcontroller, run on the host: the embedded agent as it is, on the clock of the machine, on a network with TLS or
//! on a serial line without.

mod host;
mod transport;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agent_embedded::{security::Plain, tls::Tls};
use protocol_core::{code::CloseReason, provisioning::LENGTH};
use tokio::sync::{Notify, watch};

use crate::{serial_line::SerialLine, wait};
use host::live;
use transport::Network;

/// A microcontroller that runs, until it is dropped.
#[derive(Debug)]
pub struct Microcontroller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What it has seen since it was made; its resets change nothing in it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The texts of its messages that the server has echoed, in their order.
    pub echoed: Vec<String>,
    /// The texts of the server's messages that it has taken, in their order.
    pub received: Vec<String>,
    /// What it has shown of its states, oldest first.
    pub states: Vec<String>,
    /// Why the server has ended its sessions.
    pub farewells: Vec<CloseReason>,
    /// How often it has started.
    pub starts: usize,
}

/// What the device and the test both see.
#[derive(Debug)]
struct Shared {
    made: Instant,
    /// How far the device's clock is ahead of this machine's.
    ahead: watch::Sender<Duration>,
    inner: Mutex<Inner>,
    /// The application is to look whether there is something to say, and what was echoed.
    look: Notify,
    reset: Notify,
    stop: Notify,
}

#[derive(Debug)]
struct Inner {
    flash: [u8; LENGTH],
    seen: Seen,
    to_say: VecDeque<String>,
    /// In the agent's queue, or echoed and not counted yet: oldest first.
    said: VecDeque<String>,
}

impl Shared {
    fn new(flash: [u8; LENGTH]) -> Arc<Self> {
        let inner = Inner { flash, seen: Seen::default(), to_say: VecDeque::new(), said: VecDeque::new() };
        Arc::new(Self {
            made: Instant::now(),
            ahead: watch::Sender::new(Duration::ZERO),
            inner: Mutex::new(inner),
            look: Notify::new(),
            reset: Notify::new(),
            stop: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Microcontroller {
    /// One on a network, whose flash holds these bytes where its provisioning block belongs.
    pub fn networked(flash: [u8; LENGTH]) -> Self {
        let shared = Shared::new(flash);
        let device = Arc::clone(&shared);
        let thread = thread::spawn(move || live(&device, Network, &Tls::new()));
        Self { shared, thread: Some(thread) }
    }

    /// One at the end of this line.
    pub fn wired(line: &Arc<SerialLine>) -> Self {
        let shared = Shared::new([0xff; LENGTH]);
        let (device, line) = (Arc::clone(&shared), Arc::clone(line));
        let thread =
            thread::spawn(move || transport::with_uart(&device, &line, |wire| live(&device, wire, &Plain)));
        Self { shared, thread: Some(thread) }
    }

    /// Has it say something.
    pub fn say(&self, text: &str) {
        self.shared.inner().to_say.push_back(text.to_owned());
        self.shared.look.notify_one();
    }

    /// Presses its reset button, and waits until it starts anew: it has forgotten what it was to say.
    ///
    /// # Panics
    /// It does not start.
    #[track_caller]
    pub fn reset(&self) {
        let starts = self.seen().starts;
        self.shared.inner().to_say.clear();
        self.shared.reset.notify_one();
        self.wait("it starts anew", |seen| seen.starts > starts);
    }

    /// Turns its clock ahead: what it waits for comes so much sooner.
    pub fn turn_clock(&self, by: Duration) {
        self.shared.ahead.send_modify(|ahead| *ahead += by);
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        self.shared.look.notify_one();
        self.shared.inner().seen.clone()
    }

    /// What its flash holds now.
    pub fn flash(&self) -> [u8; LENGTH] {
        self.shared.inner().flash
    }

    /// Writes its flash.
    pub fn write_flash(&self, flash: [u8; LENGTH]) {
        self.shared.inner().flash = flash;
    }

    /// Waits until what it has seen is good by `is_good`, and gives that.
    ///
    /// # Panics
    /// It is not in time.
    #[track_caller]
    pub fn wait(&self, what: &str, is_good: impl Fn(&Seen) -> bool) -> Seen {
        wait::until(what, || self.seen(), is_good)
    }

    /// Waits until this many of its messages are echoed.
    ///
    /// # Panics
    /// They are not in time.
    #[track_caller]
    pub fn wait_echoed(&self, count: usize) -> Seen {
        self.wait(&format!("{count} messages are echoed"), |seen| seen.echoed.len() >= count)
    }

    /// Waits until it has shown a state with these words.
    ///
    /// # Panics
    /// It does not in time.
    #[track_caller]
    pub fn wait_state(&self, words: &str) {
        self.wait(&format!("the device shows {words:?}"), |seen| {
            seen.states.iter().any(|state| state.contains(words))
        });
    }
}

impl Drop for Microcontroller {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the microcontroller has failed");
        }
    }
}
