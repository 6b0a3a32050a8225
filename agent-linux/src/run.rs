//! `holdfast-agent run`: wires the parts, and keeps the connection to the server.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use protocol_core::{code::CloseReason, message::BootId};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{
    agent::{Agent, Link},
    backoff::Backoff,
    clock::{self, Alarm},
    config::Config,
    connection::{End, Server, hold},
    dial::{DialError, dial},
    facts::{self, Device},
    identity::{Identity, IdentityError},
    local,
    queue::QueueError,
    serial,
    state::{StateDirectory, StateError},
    store::{Queues, Store, answer},
    tasks::Tasks,
    tls::{Connector, Protocol, SetupError},
};

/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a damaged identity is left alone before it is read again.
const DAMAGED_WAIT: Duration = Duration::from_secs(60);

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The queues can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The socket for local programs can't be had.
    #[error(
        "{path}: the socket for local programs can't be made: {error}; its path may have 100 bytes at most"
    )]
    Socket {
        /// Where.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses something that every program needs.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// There are no random numbers.
    #[error("the system gave no random numbers: {0}")]
    NoRandom(#[from] getrandom::Error),
}

/// Runs the agent of a state directory until a signal ends it.
///
/// # Errors
/// [`RunError`]: what is needed on this machine is missing. Whatever happens to the network or the server
/// is waited out.
pub fn run(directory: &std::path::Path, config: Config) -> Result<(), RunError> {
    let state = StateDirectory::make(directory)?;
    let lock = state.lock_for_run()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For the resolver alone, which may hang.
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    let keeper = runtime.block_on(supervise(state, config))?;
    // The store writes down what it knows before the lock is given up.
    runtime.shutdown_background();
    let _ = keeper.join();
    drop(lock);
    Ok(())
}

async fn supervise(state: StateDirectory, config: Config) -> Result<std::thread::JoinHandle<()>, RunError> {
    let (stop_sender, stop) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let socket = SocketPath(state.socket());
    // Before the outbox is read for the first time: who finds no socket here writes to the outbox and then
    // looks for the socket once more, so that no message stays unnoticed.
    let listener = local::bind(&socket.0)
        .map_err(|error| RunError::Socket { path: socket.0.display().to_string(), error })?;
    let (store, keeper) = Store::start(Queues::open(&state, &config)?)?;
    let agent = Arc::new(Agent {
        boot: BootId(getrandom::u64()?),
        device: Device::find(&config),
        link: watch::Sender::new(Link::Connecting),
        name: watch::Sender::new(None),
        lines: config.serial.iter().map(|_| watch::Sender::default()).collect(),
        tasks: Tasks::new(config.tasks.clone(), config.connection.timeout, state.clone(), &config.boot_id),
        identity_news: Notify::new(),
        state,
        config,
        store,
    });
    tracing::info!(version = facts::VERSION, state = %agent.state.path().display(), "the agent runs");
    let programs = tokio::spawn(local::run(Arc::clone(&agent), listener, stop.clone()));
    let lines = tokio::spawn(serial::run(Arc::clone(&agent), stop.clone()));
    let mut keeping = std::pin::pin!(keep_connected(&agent, stop));
    tokio::select! {
        kept = &mut keeping => kept?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the agent stops");
    stop_sender.send_replace(true);
    let _ = tokio::time::timeout(Duration::from_secs(3), async {
        let _ = keeping.await;
        let _ = programs.await;
        let _ = lines.await;
    })
    .await;
    Ok(keeper)
}

/// The path of the socket, which goes when the agent goes, however it ends: nobody listens there any longer.
struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Connects, holds the connection, and waits, over and over.
async fn keep_connected(agent: &Agent, mut stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let limits = &agent.config.connection;
    let mut backoff = Backoff::new(limits.least_wait, limits.most_wait);
    let alarm = Alarm::new()?;
    let mut waits_for = None;
    while !*stop.borrow() {
        let (mut identity, attempt) = match Identity::read(&agent.state) {
            Ok(Some(mut identity)) => {
                agent.name.send_replace(Some(identity.name.clone()));
                agent.link.send_replace(Link::Connecting);
                let attempt = attempt(agent, &mut identity, &mut stop).await;
                (Some(identity), attempt)
            }
            Ok(None) => (None, Attempt::NotEnrolled),
            Err(error) => (None, Attempt::Unusable(error)),
        };
        if matches!(attempt, Attempt::Ended(End::Stopped, _)) {
            return Ok(());
        }
        if let Attempt::Ended(End::Queue(error @ QueueError::Stopping), _) = attempt {
            // Nothing is kept any longer: better to be started again.
            return Err(error.into());
        }
        if matches!(attempt, Attempt::Ended(End::Closed { reason: CloseReason::Conflict, .. }, _)) {
            change_stream(agent).await;
        }
        let wait = attempt.wait(&mut backoff, agent);
        attempt.tell(agent, wait, waits_for.replace(attempt.to_string()).as_deref());
        let due = wait.map(clock::after);
        wait_for(agent, &alarm, due, &mut identity, &mut stop).await;
    }
    Ok(())
}

/// Waits until `due`, until the agent stops, or until the device is enrolled anew.
async fn wait_for(
    agent: &Agent,
    alarm: &Alarm,
    due: Option<protocol_core::time::Instant>,
    identity: &mut Option<Identity>,
    stop: &mut watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = alarm.until(due) => return,
            _ = stop.wait_for(|stop| *stop) => return,
            () = agent.identity_news.notified() => {}
        }
        let key = |identity: &Identity| identity.key.clone();
        if let Ok(Some(now)) = Identity::read(&agent.state)
            && identity.as_ref().map(key) != Some(now.key)
        {
            return;
        }
    }
}

/// The server holds other messages by the numbers of ours: what waits gets a stream of its own.
async fn change_stream(agent: &Agent) {
    let mut changed = agent.store.ask(|queues| queues.outbox.change_stream());
    match answer(&mut changed).await {
        Ok(marks) => tracing::warn!(
            messages = marks.waiting(),
            "the server holds other messages by our numbers (an older copy of this state came back?): what waits is sent in a new stream"
        ),
        Err(error) => tracing::error!(%error, "no new stream could be begun"),
    }
}

/// What came of one round over all addresses.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error("this device is not enrolled; enrol it: holdfast-agent enroll hf1.…")]
    NotEnrolled,
    #[error("{0}")]
    Unusable(IdentityError),
    #[error("{0}")]
    NoTls(SetupError),
    #[error("{0}")]
    Unreachable(DialError),
    /// A connection was made, and ended; the session was open for so long, if it ever was.
    #[error("{0}")]
    Ended(End, Option<Duration>),
}

async fn attempt(agent: &Agent, identity: &mut Identity, stop: &mut watch::Receiver<bool>) -> Attempt {
    let connector = match identity.key.pair() {
        Ok(pair) => Connector::new(&pair, &[identity.current, identity.next], Protocol::Session),
        Err(error) => return Attempt::Unusable(error),
    };
    let connector = match connector {
        Ok(connector) => connector,
        Err(error) => return Attempt::NoTls(error),
    };
    let mut last = Attempt::Unreachable(DialError::Malformed { address: "no address is known".into() });
    for address in identity.targets() {
        let dialled = tokio::select! {
            dialled = dial(&connector, &address, agent.config.connection.timeout) => dialled,
            _ = stop.wait_for(|stop| *stop) => return Attempt::Ended(End::Stopped, None),
        };
        let connected = match dialled {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!(%error, "no connection");
                last = Attempt::Unreachable(error);
                continue;
            }
        };
        tracing::debug!(server = %connected.server, "TLS stands");
        let server = Server { address: &address, pin: connected.pin };
        let (end, open_for) = hold(agent, identity, connected.stream, server, stop).await;
        let is_final = open_for.is_some()
            || matches!(end, End::Closed { .. } | End::Stopped | End::Enrolled | End::Queue(_));
        last = Attempt::Ended(end, open_for);
        if is_final {
            break;
        }
    }
    last
}

impl Attempt {
    /// How long to wait now; nothing for until something changes on this device.
    fn wait(&self, backoff: &mut Backoff, agent: &Agent) -> Option<Duration> {
        let refused_wait = agent.config.connection.refused_wait;
        if let Self::Ended(_, Some(open_for)) = self {
            backoff.was_open_for(*open_for);
        }
        match self {
            Self::NotEnrolled => None,
            Self::Unusable(_) | Self::NoTls(_) => Some(DAMAGED_WAIT),
            Self::Ended(End::Enrolled | End::StreamLost, _) => Some(Duration::ZERO),
            Self::Ended(End::Closed { reason, retry_after, .. }, _) => {
                let asked = Duration::from_secs(u64::from(*retry_after)).min(LONGEST_WAIT);
                let is_refused =
                    matches!(reason, CloseReason::Clone | CloseReason::Revoked | CloseReason::UnknownKey);
                let asked = if is_refused && asked.is_zero() { refused_wait } else { asked };
                Some(backoff.at_least(asked))
            }
            Self::Unreachable(_) | Self::Ended(..) => Some(backoff.next_wait()),
        }
    }

    /// Tells people why there is no connection, once for each reason in the log.
    fn tell(&self, agent: &Agent, wait: Option<Duration>, before: Option<&str>) {
        let reason = self.to_string();
        let seconds = wait.map(|wait| wait.as_secs_f64());
        let was_open = matches!(self, Self::Ended(_, Some(_)));
        if before == Some(&reason) && !was_open {
            tracing::debug!(reason, retry_in_seconds = seconds, "still not connected");
        } else {
            tracing::warn!(reason, retry_in_seconds = seconds, "not connected");
        }
        agent.link.send_replace(match wait {
            None => Link::NotEnrolled,
            Some(wait) => Link::Waiting { reason, next_attempt: clock::after(wait) },
        });
    }
}
