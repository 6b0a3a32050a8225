//! Tasks: what operators have devices do, from the request to an end that always comes.
//!
//! A task is a row in the store. Beside each that has not ended runs a watcher (`watcher.rs`), which alone changes it:
//! it hears what the device reports and what operators wish, and its deadlines see to all that nobody says.
//! Devices are reached through the registry only.

mod kind;
mod relay;
#[cfg(test)]
mod tests;
mod watcher;

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol_core::{
    code::Role,
    message::{self, Offer, Report},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::sleep,
};

pub use self::watcher::Deadlines;
use self::watcher::{News, Watcher, Wish};
pub use self::{kind::TaskKind, relay::Relay};
use crate::{
    config::SshLimits,
    event::{EventKind, NewEvent, Who},
    mailbox::Instruction,
    registry::{Online, Registry},
    store::{
        DeviceId, NewTask, OperatorId, RandomId, Store, StoreError, TaskFilter, TaskId, TaskRow, TaskState,
    },
};

/// How many tasks of one device may be there at a time.
pub const MAX_OF_DEVICE: usize = 64;

/// How long a device that has just connected has to say which tasks it takes.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a device may take to start anew.
const REBOOT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a task that has ended is remembered.
const MEMORY: Duration = Duration::from_secs(30);

/// How much may wait for a watcher: a task has few states, and what a device says beyond that is passed over.
const NEWS: usize = 32;

/// What carries the bytes of a task.
pub trait Data: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Data for S {}

/// A data connection behind its first frame.
pub struct Bytes {
    /// Its bytes, from and to the device.
    pub stream: Box<dyn Data>,
    /// Its place among the server's connections.
    _permit: OwnedSemaphorePermit,
}

impl Bytes {
    /// The bytes of this connection, which has this place among the server's.
    pub fn new(stream: impl Data + 'static, permit: OwnedSemaphorePermit) -> Self {
        Self { stream: Box::new(stream), _permit: permit }
    }
}

/// Who asks for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Where they are, if not on this machine.
    pub address: Option<IpAddr>,
    /// Which operator they are, if not a user of this machine.
    pub operator: Option<OperatorId>,
}

/// Why a task can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The device is not connected.
    #[error("the device is offline")]
    Offline,
    /// The device does not take such tasks.
    #[error("the device takes no {} tasks: its agent is too old, or its agent.toml does not allow them", .0.name())]
    NotOffered(TaskKind),
    /// The device has too many tasks.
    #[error("the device has {MAX_OF_DEVICE} tasks, and no more may be")]
    TooMany,
    /// The task ended before it could be used.
    #[error("{0}")]
    Ended(String),
    /// There is no such task, or it has ended.
    #[error("there is no such task that has not ended")]
    NoSuchTask,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no random numbers.
    #[error("no random numbers are to be had: {0}")]
    NoRandom(#[from] getrandom::Error),
}

/// Why a data connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// There is no such task of this device that has not ended.
    #[error("no such task of this device waits for its bytes")]
    NoSuchTask,
    /// The key is not the task's.
    #[error("this is not the key of the task")]
    WrongKey,
    /// The task has its data connection.
    #[error("the task has had its data connection")]
    Used,
}

/// How a task stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: TaskState,
    /// Why it stops, or has ended.
    pub reason: Option<String>,
}

/// All tasks that have not ended, and those that just have.
pub struct Tasks {
    store: Store,
    registry: Arc<Registry>,
    ssh: SshLimits,
    deadlines: Deadlines,
    live: Mutex<HashMap<RandomId, Arc<Live>>>,
}

/// Which task it is.
#[derive(Clone, Debug)]
struct Which {
    id: TaskId,
    /// Its name on the wire.
    code: RandomId,
    device: DeviceId,
    /// None of a kind that this version does not know.
    kind: Option<TaskKind>,
    /// The start of the device's agent that was asked.
    boot: Option<RandomId>,
    /// The operator elsewhere who asked for it.
    operator: Option<OperatorId>,
}

/// A task that has not ended.
struct Live {
    which: Which,
    key: [u8; 16],
    /// Who waits for its bytes.
    door: Mutex<Door>,
    standing: watch::Sender<Standing>,
    news: mpsc::Sender<News>,
    wish: watch::Sender<Option<Wish>>,
}

/// Whether a task's bytes may come.
enum Door {
    /// Somebody waits for them.
    Open(oneshot::Sender<Bytes>),
    /// They have come.
    Passed,
    /// Nobody waits for them.
    Closed,
}

/// A task that was asked for.
///
/// If it is dropped before it has ended, it is stopped: nobody is left who wants it.
pub struct Task {
    live: Arc<Live>,
    data: oneshot::Receiver<Bytes>,
    standing: watch::Receiver<Standing>,
    store: Store,
    is_left: bool,
}

impl Tasks {
    /// No tasks yet, of the devices of this registry.
    pub fn new(store: Store, registry: Arc<Registry>, ssh: SshLimits, deadlines: Deadlines) -> Arc<Self> {
        Arc::new(Self { store, registry, ssh, deadlines, live: Mutex::default() })
    }

    /// Takes up the tasks that the last server left. Those that no device was asked for end here.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut filter = TaskFilter { open: true, ..TaskFilter::default() };
        loop {
            let rows = self.store.tasks(filter).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            filter.after = last.id;
            for row in rows {
                let kind = TaskKind::find(&row.kind);
                let TaskRow { id, code, device, boot, state, operator, .. } = row;
                let (live, news, _) =
                    Live::new(Which { id, code, device, kind, boot, operator }, state, [0; 16]);
                // Whoever asked for it has gone with the last server: nobody waits for its bytes.
                live.close_door();
                self.watch(live, news);
            }
        }
    }

    /// Has a device do something, and gives the task when it is written down and the device is being asked.
    ///
    /// # Errors
    /// [`TaskError`] if the device is offline, or does not take such tasks.
    pub async fn start(
        self: &Arc<Self>,
        device: DeviceId,
        kind: TaskKind,
        requester: Requester,
    ) -> Result<Task, TaskError> {
        let online = self.registry.online(device).ok_or(TaskError::Offline)?;
        if !offers(&online, kind).await {
            let is_still_there = self.registry.online(device).is_some_and(|now| Arc::ptr_eq(&now, &online));
            if !is_still_there {
                return Err(TaskError::Offline);
            }
            self.note_refused(device, kind, requester).await;
            return Err(TaskError::NotOffered(kind));
        }
        if self.of_device(device).len() >= MAX_OF_DEVICE {
            return Err(TaskError::TooMany);
        }
        // By itself: once it is written down it goes on, and ends, whether or not somebody still waits for it here.
        let tasks = Arc::clone(self);
        let begun = tokio::spawn(async move { tasks.begin(&online, kind, requester).await }).await;
        begun.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Writes down that someone asked for what the device does not take; most of a storm is left out.
    async fn note_refused(&self, device: DeviceId, kind: TaskKind, requester: Requester) {
        let event = NewEvent::new(EventKind::TaskRefused)
            .device(device)
            .who(&Who { name: requester.name, address: requester.address })
            .detail("kind", kind.name())
            .detail("reason", "the device takes no such tasks");
        let Some(event) = self.store.limit_refusal(Some(device), event) else { return };
        if let Err(error) = self.store.record(event).await {
            tracing::error!(%error, "a refused task could not be recorded");
        }
    }

    async fn begin(
        self: &Arc<Self>,
        online: &Online,
        kind: TaskKind,
        requester: Requester,
    ) -> Result<Task, TaskError> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        let (device, code, boot) = (online.device, RandomId::draw()?, RandomId(online.boot.0));
        let (who, address, operator) = (requester.name.clone(), requester.address, requester.operator);
        let task = NewTask { device, kind: kind.kind(), code, boot, who, address, operator };
        let id = self.store.begin_task(task).await?;
        let which = Which { id, code, device, kind: Some(kind), boot: Some(boot), operator };
        let (live, news, data) = Live::new(which, TaskState::Requested, key);
        let standing = live.standing.subscribe();
        self.watch(Arc::clone(&live), news);
        online.mailbox.instruct(Instruction::Run {
            task: message::TaskId(code.0),
            kind: kind.kind(),
            role: requester.role,
            who: requester.name,
            key,
            limit: u32::try_from(self.limit(kind).as_secs()).unwrap_or(u32::MAX),
        });
        Ok(Task { live, data, standing, store: self.store.clone(), is_left: false })
    }

    /// Has a task stopped.
    ///
    /// # Errors
    /// [`TaskError::NoSuchTask`] if there is none of this number that has not ended.
    pub fn stop(&self, id: TaskId, reason: impl Into<String>) -> Result<(), TaskError> {
        let live = self.all(|which| which.id == id).pop().ok_or(TaskError::NoSuchTask)?;
        live.wish(Wish::Stop(reason.into()));
        Ok(())
    }

    /// Ends all tasks of a device that has no rights any longer.
    pub fn end_of_device(&self, device: DeviceId, reason: &str) {
        for live in self.of_device(device) {
            live.wish(Wish::End(reason.to_owned()));
        }
    }

    /// Has all tasks stopped that an operator elsewhere asked for.
    pub fn stop_of_operator(&self, operator: OperatorId, reason: &str) {
        for live in self.all(|which| which.operator == Some(operator)) {
            live.wish(Wish::Stop(reason.to_owned()));
        }
    }

    /// How many tasks have not ended.
    pub fn count(&self) -> usize {
        self.all(|_| true).len()
    }

    /// Takes a device's word for which kinds of tasks it takes, and which tasks it has.
    pub fn offered(&self, online: &Online, offer: &Offer<'_>) {
        let kinds = offer.kinds.iter().filter_map(|kind| kind.as_str().parse().ok()).collect();
        let known = self.of_device(online.device);
        let named = |code: RandomId| offer.tasks.contains(&message::TaskId(code.0));
        for live in known.iter().filter(|live| !named(live.which.code)) {
            live.hear(News::Missed { is_new: live.which.boot != Some(RandomId(online.boot.0)) });
        }
        let is_known = |task: &message::TaskId| known.iter().any(|live| live.which.code.0 == task.0);
        for task in offer.tasks.iter().filter(|task| !is_known(task)) {
            let detail = "the server does not know it, or it has ended there".to_owned();
            online.mailbox.instruct(Instruction::Stop { task: *task, detail });
        }
        // Last: a task that is asked for from now on is not one that the device should have named.
        online.offers.send_replace(Some(kinds));
    }

    /// Takes a device's word for how a task of its own stands. Gives whether there is such a
    /// task, or was until just now.
    pub fn reported(&self, device: DeviceId, report: &Report<'_>) -> bool {
        let Some(live) = self.find(device, report.task) else { return false };
        let detail = report.detail.as_str();
        live.hear(News::Report {
            state: report.state,
            detail: (!detail.is_empty()).then(|| detail.to_owned()),
            output: (!report.output.is_empty()).then(|| report.output.to_owned()),
        });
        true
    }

    /// Whether a data connection of this device may have the task's bytes; then it is to be given to
    /// [`Admission::admit`].
    ///
    /// # Errors
    /// [`JoinError`] if not. A wrong key ends nothing: whoever has the right one may still come.
    pub fn join(&self, device: DeviceId, join: &message::Join) -> Result<Admission, JoinError> {
        let live = self.find(device, join.task).filter(|live| !live.has_ended());
        let live = live.ok_or(JoinError::NoSuchTask)?;
        if !is_equal(&live.key, &join.key) {
            return Err(JoinError::WrongKey);
        }
        let mut door = lock(&live.door);
        match mem::replace(&mut *door, Door::Passed) {
            Door::Open(waiting) => Ok(Admission(waiting)),
            before => {
                *door = before;
                Err(JoinError::Used)
            }
        }
    }

    /// How long a task may run.
    fn limit(&self, kind: TaskKind) -> Duration {
        match kind {
            TaskKind::Ssh => self.ssh.time_limit,
            TaskKind::Reboot => REBOOT_LIMIT,
        }
    }

    fn find(&self, device: DeviceId, task: message::TaskId) -> Option<Arc<Live>> {
        lock(&self.live).get(&RandomId(task.0)).filter(|live| live.which.device == device).cloned()
    }

    fn of_device(&self, device: DeviceId) -> Vec<Arc<Live>> {
        self.all(|which| which.device == device)
    }

    /// Those of these that have not ended.
    fn all(&self, is_it: impl Fn(&Which) -> bool) -> Vec<Arc<Live>> {
        let live = lock(&self.live);
        live.values().filter(|live| !live.has_ended() && is_it(&live.which)).cloned().collect()
    }

    fn watch(self: &Arc<Self>, live: Arc<Live>, news: mpsc::Receiver<News>) {
        lock(&self.live).insert(live.which.code, Arc::clone(&live));
        let tasks = Arc::clone(self);
        tokio::spawn(async move {
            Watcher::new(&tasks, &live, news).run().await;
            // Whoever still waits for its bytes learns that there are none.
            live.close_door();
            // The device's own word that it has ended may be behind: it is one of a task that there was.
            sleep(MEMORY).await;
            lock(&tasks.live).remove(&live.which.code);
        });
    }
}

/// The right of one data connection to be a task's.
pub struct Admission(oneshot::Sender<Bytes>);

impl Admission {
    /// Hands the connection to whoever waits for it. Gives whether somebody did.
    pub fn admit(self, bytes: Bytes) -> bool {
        self.0.send(bytes).is_ok()
    }
}

impl Task {
    /// Its number.
    pub fn id(&self) -> TaskId {
        self.live.which.id
    }

    /// Waits until the device has brought the task's bytes.
    ///
    /// # Errors
    /// [`TaskError::Ended`] if the task ends before that.
    pub async fn bytes(&mut self) -> Result<Bytes, TaskError> {
        match (&mut self.data).await {
            Ok(bytes) => Ok(bytes),
            Err(_) => {
                let ended = self.standing.wait_for(|standing| standing.state.is_end()).await;
                let reason = ended.ok().and_then(|standing| standing.reason.clone());
                Err(TaskError::Ended(reason.unwrap_or_else(|| "the task has ended".to_owned())))
            }
        }
    }

    /// Waits until the task is to stop, or has ended; gives why.
    pub async fn stopped(&mut self) -> Standing {
        match self.standing.wait_for(|standing| standing.state >= TaskState::Stopping).await {
            Ok(standing) => standing.clone(),
            Err(_) => self.live.standing.borrow().clone(),
        }
    }

    /// Waits until the task runs, or has ended.
    pub async fn running(&mut self) -> Standing {
        match self.standing.wait_for(|standing| standing.state >= TaskState::Running).await {
            Ok(standing) => standing.clone(),
            Err(_) => self.live.standing.borrow().clone(),
        }
    }

    /// Keeps how many bytes came from the device, and went to it.
    async fn count(&self, bytes_in: u64, bytes_out: u64) {
        if let Err(error) = self.store.count_task(self.live.which.code, bytes_in, bytes_out).await {
            tracing::error!(task = %self.id(), %error, "the bytes of a task could not be written down");
        }
    }

    /// Its bytes have ended: so has it.
    async fn finish(mut self, state: TaskState, reason: String) {
        self.live.tell(News::Finished { state, reason }).await;
        self.is_left = true;
    }

    /// It goes on by itself.
    pub fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.is_left {
            // One that has ended does not mind.
            self.live.wish(Wish::Stop("whoever asked for it has gone".to_owned()));
        }
    }
}

impl Live {
    fn new(
        which: Which,
        state: TaskState,
        key: [u8; 16],
    ) -> (Arc<Self>, mpsc::Receiver<News>, oneshot::Receiver<Bytes>) {
        let (waiting, data) = oneshot::channel();
        let (sender, news) = mpsc::channel(NEWS);
        let standing = watch::Sender::new(Standing { state, reason: None });
        (
            Arc::new(Self {
                which,
                key,
                door: Mutex::new(Door::Open(waiting)),
                standing,
                news: sender,
                wish: watch::Sender::new(None),
            }),
            news,
            data,
        )
    }

    /// Tells the watcher, unless it has ended.
    async fn tell(&self, news: News) {
        // Whose watcher has ended has nothing to be told.
        let _ = self.news.send(news).await;
    }

    /// Tells the watcher what a device says, if it can take it now: its deadlines see to the rest.
    fn hear(&self, news: News) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.news.try_send(news) {
            // Whoever does that may do it without end: it is not for everybody to read.
            tracing::debug!(task = %self.which.id, "a device reports a task faster than it can be written down");
        }
    }

    /// Has it stopped, or ended. The end stands, and else the first wish.
    fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let counts = now.is_none() || matches!((&now, &wish), (Some(Wish::Stop(_)), Wish::End(_)));
            if counts {
                *now = Some(wish);
            }
            counts
        });
    }

    /// Nobody waits for its bytes any longer.
    fn close_door(&self) {
        let mut door = lock(&self.door);
        if let Door::Open(_) = *door {
            *door = Door::Closed;
        }
    }

    fn has_ended(&self) -> bool {
        self.standing.borrow().state.is_end()
    }

    /// Whether its bytes have come: whoever has them says when they have ended.
    fn has_data(&self) -> bool {
        matches!(*lock(&self.door), Door::Passed)
    }

    /// Whether an earlier server asked for it.
    fn is_resumed(&self) -> bool {
        matches!(*lock(&self.door), Door::Closed)
    }
}

/// Whether the device takes such tasks. One that has just connected is given time to say so.
async fn offers(online: &Online, kind: TaskKind) -> bool {
    let mut offers = online.offers.subscribe();
    let said = tokio::time::timeout(OFFER_TIMEOUT, offers.wait_for(Option::is_some)).await;
    let Ok(Ok(kinds)) = said else { return false };
    kinds.as_ref().is_some_and(|kinds| kinds.contains(&kind.kind()))
}

/// Compares in a time that does not tell where the first difference is.
fn is_equal(one: &[u8; 16], other: &[u8; 16]) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under the lock: what a poisoned lock guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
