//! The server's parts: what runs, since when, what it does, and what became of it where it failed.
//!
//! A panic ends what it happened in and nothing else. What can begin again without harm does so by itself, later each
//! time; what was in the hands of one connection ends with it. Either is an event, and is shown
//! (`GET /api/v1/parts`). The store's writer can't begin again: what it was about may be half done, and only a start of
//! the whole server looks at that. It ends the server, which its service manager starts anew.

use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use crate::{
    event::{EventKind, NewEvent},
    lock::lock,
    store::{Store, UnixMillis},
};

/// How long a part waits after its first failure before it begins again; twice as long after each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long it waits at most. One that has run for so long begins with the first pause again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The part that ends the server where it fails.
pub const STORE_WRITER: &str = "store writer";

/// How much of a panic's words is kept, in bytes.
const MAX_REASON: usize = 500;

/// What kind of part it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// It takes connections.
    Listener,
    /// It writes what others hand to it.
    Writer,
    /// It does something now and then.
    Timer,
    /// It serves each connection by itself.
    Handler,
    /// It carries bytes between two peers.
    Relay,
}

impl PartKind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Writer => "writer",
            Self::Timer => "timer",
            Self::Handler => "handler",
            Self::Relay => "relay",
        }
    }
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It does its work.
    Running,
    /// It has failed, and begins again after a pause.
    Restarting,
    /// It has ended.
    Stopped,
}

impl PartState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// All parts of the server.
pub struct Parts {
    store: Store,
    parts: Mutex<Vec<Arc<Part>>>,
}

/// One part of the server.
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// What kind of part it is.
    pub kind: PartKind,
    standing: Mutex<Standing>,
    /// How many of its works go on now, and how many have begun.
    open: AtomicU64,
    begun: AtomicU64,
    /// How long the last of its rounds took, in microseconds.
    last_round: AtomicU64,
    gauge: OnceLock<Gauge>,
}

/// What a part has to do beside that, whenever somebody looks: by names that end with their units, if they have some.
type Gauge = Box<dyn Fn() -> Vec<(&'static str, f64)> + Send + Sync>;

/// How a part stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How it is.
    pub state: PartState,
    /// Since when.
    pub since: UnixMillis,
    /// How often it, or a work of its, has failed and was left or begun again.
    pub restarts: u64,
    /// Why it failed the last time.
    pub reason: Option<String>,
}

impl Parts {
    /// No parts yet. What happens to them is told to this store.
    pub fn new(store: Store) -> Self {
        Self { store, parts: Mutex::default() }
    }

    /// The part of this name, which is made if there is none.
    pub fn part(&self, name: &'static str, kind: PartKind) -> Arc<Part> {
        let mut parts = lock(&self.parts);
        if let Some(part) = parts.iter().find(|part| part.name == name) {
            return Arc::clone(part);
        }
        let standing =
            Standing { state: PartState::Running, since: UnixMillis::now(), restarts: 0, reason: None };
        let part = Arc::new(Part {
            name,
            kind,
            standing: Mutex::new(standing),
            open: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            last_round: AtomicU64::new(0),
            gauge: OnceLock::new(),
        });
        parts.push(Arc::clone(&part));
        part
    }

    /// All parts, in the order in which they were made.
    pub fn all(&self) -> Vec<Arc<Part>> {
        lock(&self.parts).clone()
    }

    /// Runs a part until it ends by itself. Where it panics, it is made and run again: what `run` shares with others must
    /// be whole at each moment. Gives the part's name.
    pub async fn supervise<F: Future<Output = ()>>(
        &self,
        name: &'static str,
        kind: PartKind,
        mut run: impl FnMut() -> F,
    ) -> &'static str {
        let part = self.part(name, kind);
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            part.stand(PartState::Running);
            let ended = AssertUnwindSafe(async { run().await }).catch_unwind().await;
            let Err(panic) = ended else { break };
            self.note_failure(&part, words(panic), PartState::Restarting).await;
            if begun.elapsed() >= LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        part.stand(PartState::Stopped);
        name
    }

    /// Does one of the works of a part. A panic ends this one alone, and whatever it owns is dropped.
    ///
    /// The work is in a box, as each future that it is handed through would keep room for it once more.
    pub async fn guard(&self, part: &Arc<Part>, work: Pin<Box<impl Future<Output = ()>>>) {
        let _open = part.begin();
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            Box::pin(self.note_failure(part, words(panic), PartState::Running)).await;
        }
    }

    async fn note_failure(&self, part: &Part, reason: String, state: PartState) {
        tracing::error!(part = part.name, reason, "a part of the server has failed");
        let restarts = part.fail(&reason, state);
        let event = NewEvent::new(EventKind::PartFailed)
            .detail("part", part.name)
            .detail("reason", reason)
            .detail("restarts", restarts);
        // A work that fails for each peer of a kind is a storm, as refusals are.
        let Some(event) = self.store.limit_refusal(None, event) else { return };
        self.store.note(event).await;
    }
}

impl Part {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// How many of its works go on now, and how many have begun.
    pub fn works(&self) -> (u64, u64) {
        (self.open.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed))
    }

    /// One of its works begins, and goes on until what this gives is dropped. Of a listener it is a connection.
    pub fn begin(self: &Arc<Self>) -> Work {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    /// A timer has done once more what it is there for, and that took so long.
    pub fn note_round(&self, took: Duration) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last_round.store(micros, Ordering::Relaxed);
    }

    /// Says how it is found out what else it has to do. The first one who says it is asked.
    pub fn gauge_by(&self, gauge: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static) {
        let _ = self.gauge.set(Box::new(gauge));
    }

    /// How much it has to do, by names that end with their units, if they have some.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        let (open, begun) = self.works();
        let mut figures = match self.kind {
            PartKind::Listener | PartKind::Handler | PartKind::Relay => {
                vec![("open", open as f64), ("total", begun as f64)]
            }
            PartKind::Timer => {
                let micros = self.last_round.load(Ordering::Relaxed);
                vec![("rounds", begun as f64), ("last_round_ms", micros as f64 / 1000.0)]
            }
            PartKind::Writer => Vec::new(),
        };
        figures.extend(self.gauge.get().into_iter().flat_map(|gauge| gauge()));
        figures
    }

    fn stand(&self, state: PartState) {
        let mut standing = lock(&self.standing);
        if standing.state != state {
            (standing.state, standing.since) = (state, UnixMillis::now());
        }
    }

    fn fail(&self, reason: &str, state: PartState) -> u64 {
        self.stand(state);
        let mut standing = lock(&self.standing);
        standing.restarts += 1;
        standing.reason = Some(reason.to_owned());
        standing.restarts
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Part").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A work that goes on, until this is dropped.
#[derive(Debug)]
pub struct Work(Arc<Part>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a panic said.
fn words(panic: Box<dyn Any + Send>) -> String {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let mut words = words.unwrap_or("a panic without words").to_owned();
    words.truncate(words.floor_char_boundary(MAX_REASON));
    words
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::{PartKind, PartState, Parts};
    use crate::store::{EventFilter, Store};

    const LONGEST_WAIT: Duration = Duration::from_secs(30);

    fn parts() -> (tempfile::TempDir, Store, Arc<Parts>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store.clone(), Arc::new(Parts::new(store)))
    }

    async fn failures(store: &Store) -> Vec<String> {
        let events = store.events(EventFilter::default()).await.unwrap();
        let failures = events.iter().filter(|event| event.kind == "part-failed");
        failures.map(|event| format!("{}: {}", event.detail["part"], event.detail["reason"])).collect()
    }

    /// A listener whose loop panics goes on with the same socket: whoever has come meanwhile waits there.
    #[tokio::test]
    async fn a_panic_restarts_one_part_alone() {
        let (_directory, store, parts) = parts();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let part = parts.part("listener", PartKind::Listener);
        let other = parts.part("other", PartKind::Timer);
        let supervised = tokio::spawn(async move {
            let run = || {
                let (listener, run) = (Arc::clone(&listener), runs.fetch_add(1, Ordering::SeqCst));
                async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        assert!(run != 0, "wanted by a test");
                        drop(stream);
                    }
                }
            };
            parts.supervise("listener", PartKind::Listener, run).await
        });
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let end = timeout(LONGEST_WAIT, stream.read(&mut [0])).await.expect("it is served");
            assert!(end.is_ok_and(|count| count == 0));
        }
        let standing = part.standing();
        assert_eq!((standing.state, standing.restarts), (PartState::Running, 1));
        assert_eq!(standing.reason.as_deref(), Some("wanted by a test"));
        assert_eq!(other.standing().restarts, 0);
        assert_eq!(failures(&store).await, ["\"listener\": \"wanted by a test\""]);
        supervised.abort();
    }

    #[tokio::test]
    async fn a_panic_ends_one_work_alone() {
        let (_directory, store, parts) = parts();
        let part = parts.part("devices", PartKind::Handler);
        let (going, stays) = tokio::sync::oneshot::channel::<()>();
        let other = {
            let (parts, part) = (Arc::clone(&parts), Arc::clone(&part));
            tokio::spawn(async move { parts.guard(&part, Box::pin(async { drop(stays.await) })).await })
        };
        parts.guard(&part, Box::pin(async { panic!("wanted by a {}", "test") })).await;
        while part.works() != (1, 2) {
            tokio::task::yield_now().await;
        }
        drop(going);
        other.await.unwrap();
        assert_eq!(part.works(), (0, 2));
        let standing = part.standing();
        assert_eq!((standing.state, standing.restarts), (PartState::Running, 1));
        assert_eq!(failures(&store).await.len(), 1);
    }

    #[tokio::test]
    async fn each_part_says_how_much_it_has_to_do() {
        let (_directory, _store, parts) = parts();
        let listener = parts.part("listener", PartKind::Listener);
        let first = listener.begin();
        drop(listener.begin());
        assert_eq!(listener.figures(), [("open", 1.0), ("total", 2.0)]);
        drop(first);
        assert_eq!(listener.figures(), [("open", 0.0), ("total", 2.0)]);
        let timer = parts.part("timer", PartKind::Timer);
        timer.note_round(Duration::from_millis(250));
        timer.note_round(Duration::from_micros(1_500));
        assert_eq!(timer.figures(), [("rounds", 2.0), ("last_round_ms", 1.5)]);
        let writer = parts.part("writer", PartKind::Writer);
        assert!(writer.figures().is_empty());
        writer.gauge_by(|| vec![("waiting", 3.0)]);
        assert_eq!(writer.figures(), [("waiting", 3.0)]);
    }
}
