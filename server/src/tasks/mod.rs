//! Tasks: what operators have devices do, from the request to an end that always comes.
//!
//! A task is a row in the store. Beside each that has not ended runs a watcher (`watcher.rs`), which alone changes its state:
//! it hears what the device reports and what operators wish, and its deadlines see to all that nobody says.
//! Devices are reached through the registry only.

mod count;
mod data_connection;
mod error;
mod kind;
mod live;
mod openssh;
mod ports;
mod relay;
mod task;
#[cfg(test)]
mod tests;
mod watcher;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use protocol_core::{
    code::Role,
    message::{self, Offer, Pin, Report, Secret},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

pub use self::{
    data_connection::DataConnection,
    error::{JoinError, TaskError},
    kind::TaskKind,
    live::{Admission, Standing},
    relay::Relay,
    task::Task,
    watcher::Deadlines,
};
use self::{
    live::{LiveTask, News, TaskIdentity, Wish},
    ports::Ports,
    watcher::Watcher,
};
use crate::{
    config::{SshAccount, SshLimits},
    event::{EventKind, NewEvent, Who},
    lock::lock,
    mailbox::Instruction,
    parts::{Part, PartKind, Parts},
    registry::{Online, Registry},
    ssh_account::SshAccountError,
    store::{DeviceId, NewTask, OperatorId, RandomId, Store, StoreError, TaskFilter, TaskId, TaskRow},
};

/// How many tasks of one device may be there at a time.
pub const MAX_OF_DEVICE: usize = 64;

/// How long a device that has just connected has to say which tasks it takes.
const OFFER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a camera's stream lasts at most. Whoever still looks begins another one.
const VIDEO_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a task that has ended is remembered.
const MEMORY: Duration = Duration::from_secs(30);

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

impl Requester {
    /// Who that is, for events.
    pub fn who(&self) -> Who {
        Who { name: self.name.clone(), address: self.address }
    }
}

/// All tasks that have not ended, and those that just have.
pub struct Tasks {
    store: Store,
    registry: Arc<Registry>,
    ssh: SshLimits,
    ports: Ports,
    deadlines: Deadlines,
    parts: Arc<Parts>,
    part: Arc<Part>,
    /// By their names on the wire.
    places: Mutex<HashMap<RandomId, Place>>,
}

/// A place among the tasks of a device.
enum Place {
    /// Its task is being written down.
    Reserved(DeviceId),
    /// The task has it, and for a while after its end.
    Taken(Arc<LiveTask>),
}

impl Tasks {
    /// No tasks yet, of the devices of this registry.
    pub fn new(
        store: Store,
        registry: Arc<Registry>,
        ssh: SshLimits,
        account: SshAccount,
        deadlines: Deadlines,
        parts: Arc<Parts>,
    ) -> Arc<Self> {
        let ports = Ports::new(account, store.clone(), deadlines.login);
        let (part, places) = (parts.part("tasks", PartKind::Handler), Mutex::default());
        Arc::new(Self { store, registry, ssh, ports, deadlines, parts, part, places })
    }

    /// Takes up the tasks that the last server left. Those that no device was asked for end here. From now on it is looked
    /// which ports devices keep.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        let (parts, tasks) = (Arc::clone(&self.parts), Arc::downgrade(self));
        let part = parts.part("ports watch", PartKind::Timer);
        tokio::spawn(async move {
            let run = || look_at_ports(Weak::clone(&tasks), Arc::clone(&part));
            parts.supervise(part.name, part.kind, run).await
        });
        let mut filter = TaskFilter { open: true, ..TaskFilter::default() };
        loop {
            let rows = self.store.tasks(filter).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            filter.after = last.id;
            for row in rows {
                let kind = TaskKind::find(&row.kind);
                let TaskRow { id, code, device, boot, state, operator, .. } = row;
                let address = row.address.and_then(|address| address.parse().ok());
                let who = Who { name: row.who, address };
                let identity = TaskIdentity { id, code, device, kind, boot, who, operator };
                let (live, news) = LiveTask::resumed(identity, state);
                self.watch(live, news);
            }
        }
    }

    /// The ports of this machine's loopback on which a device may listen that logs in now. Each session is good for a few
    /// logins only: ask for no other reason.
    pub fn login_ports(&self, device: DeviceId) -> Vec<u16> {
        self.ports.answer(device)
    }

    /// Has a device do something, in the way that it takes, and gives the task when it is written down and the device is being asked.
    ///
    /// # Errors
    /// [`TaskError`] if the device is offline, or does not take such tasks.
    pub async fn start(
        self: &Arc<Self>,
        device: DeviceId,
        kind: TaskKind,
        requester: Requester,
    ) -> Result<Task, TaskError> {
        self.start_with(device, kind, requester, Vec::new()).await
    }

    /// The same, of a kind that has parameters.
    ///
    /// # Errors
    /// As [`Tasks::start`].
    pub async fn start_with(
        self: &Arc<Self>,
        device: DeviceId,
        kind: TaskKind,
        requester: Requester,
        parameters: Vec<u8>,
    ) -> Result<Task, TaskError> {
        let online = self.registry.online(device).ok_or(TaskError::Offline)?;
        let Some(transport) = offered(&online, kind.transports()).await else {
            let is_still_there = self.registry.online(device).is_some_and(|now| Arc::ptr_eq(&now, &online));
            if !is_still_there {
                return Err(TaskError::Offline);
            }
            self.note_refused(device, kind, requester.who(), "the device takes no such tasks").await;
            return Err(TaskError::NotOffered(kind));
        };
        // By itself: once it is written down it goes on, and ends, whether or not somebody still waits for it here.
        let tasks = Arc::clone(self);
        let begun =
            tokio::spawn(async move { tasks.begin(&online, transport, requester, parameters).await }).await;
        begun.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Writes down that someone asked for what they can't have; most of a storm is left out.
    async fn note_refused(&self, device: DeviceId, kind: TaskKind, who: Who, reason: &str) {
        let event = NewEvent::new(EventKind::TaskRefused)
            .device(device)
            .who(&who)
            .detail("kind", kind.name())
            .detail("reason", reason);
        let Some(event) = self.store.limit_refusal(Some(device), event) else { return };
        self.store.note(event).await;
    }

    async fn begin(
        self: &Arc<Self>,
        online: &Online,
        kind: TaskKind,
        requester: Requester,
        parameters: Vec<u8>,
    ) -> Result<Task, TaskError> {
        let code = RandomId::draw()?;
        if !self.reserve(code, online.device) {
            self.note_refused(online.device, kind, requester.who(), "the device has too many tasks").await;
            return Err(TaskError::TooMany);
        }
        let who = requester.who();
        let begun = self.begin_as(code, online, kind, requester, parameters).await;
        if begun.is_err() {
            lock(&self.places).remove(&code);
        }
        if let Err(TaskError::SshAccount(error)) = &begun {
            self.note_refused(online.device, kind, who, &error.to_string()).await;
        }
        begun
    }

    /// Begins a task that has a place.
    async fn begin_as(
        self: &Arc<Self>,
        code: RandomId,
        online: &Online,
        kind: TaskKind,
        requester: Requester,
        parameters: Vec<u8>,
    ) -> Result<Task, TaskError> {
        let mut key = Secret([0; 16]);
        getrandom::fill(&mut key.0)?;
        let (port, parameters) = match kind {
            TaskKind::OpenSsh => {
                self.ports.allot(online.device).await.map(|(port, told)| (Some(port), told))?
            }
            TaskKind::Ssh | TaskKind::Reboot | TaskKind::Video => (None, parameters),
        };
        let (device, boot) = (online.device, RandomId(online.boot.0));
        let (who, address, operator) = (requester.name.clone(), requester.address, requester.operator);
        let task = NewTask { device, kind: kind.kind(), code, boot, who, address, operator };
        let id = self.store.begin_task(task).await?;
        let (kind_asked, boot, who) = (Some(kind), Some(boot), requester.who());
        let identity = TaskIdentity { id, code, device, kind: kind_asked, boot, who, operator };
        let order = Instruction::Run {
            task: message::TaskId(code.0),
            kind: kind.kind(),
            role: requester.role,
            who: requester.name,
            key,
            limit: u32::try_from(self.limit(kind).as_secs()).unwrap_or(u32::MAX),
            parameters,
        };
        let (live, news, data) = LiveTask::requested(identity, key, order.clone());
        let task = Task::new(Arc::clone(&live), data, self.store.clone(), self.deadlines.count);
        self.watch(Arc::clone(&live), news);
        online.mailbox.instruct(order);
        if let Some(port) = port {
            tokio::spawn(port.bring_bytes(live));
        }
        Ok(task)
    }

    /// Has a task stopped.
    ///
    /// # Errors
    /// [`TaskError::NoSuchTask`] if there is none of this number that has not ended.
    pub fn stop(&self, id: TaskId, reason: impl Into<String>) -> Result<(), TaskError> {
        let live = self.all(|task| task.id == id).pop().ok_or(TaskError::NoSuchTask)?;
        live.wish(Wish::Stop(reason.into()));
        Ok(())
    }

    /// Ends all tasks of a device that has no rights any longer.
    pub fn end_of_device(&self, device: DeviceId, reason: &str) {
        for live in self.of_device(device) {
            live.wish(Wish::End(reason.to_owned()));
        }
    }

    /// Has all tasks stopped that are in the name of an operator elsewhere.
    pub fn stop_of_operator(&self, operator: OperatorId, reason: &str) {
        for live in self.all(|_| true).into_iter().filter(|live| live.owner() == Some(operator)) {
            live.wish(Wish::Stop(reason.to_owned()));
        }
    }

    /// Has a task be in the name of this operator elsewhere, who wants it, too; or of none of them. That is for the caller to
    /// write down.
    pub fn hand_over(&self, id: TaskId, operator: Option<OperatorId>) {
        self.all(|task| task.id == id).iter().for_each(|live| live.hand_over(operator));
    }

    /// Takes a device's word for which kinds of tasks it takes, and which tasks it has.
    pub fn offered(&self, online: &Online, offer: &Offer<'_>) {
        let kinds = offer.kinds.iter().filter_map(|kind| kind.as_str().parse().ok()).collect();
        let known = self.of_device(online.device);
        let named = |code: RandomId| offer.tasks.contains(&message::TaskId(code.0));
        for live in known.iter().filter(|live| !named(live.identity.code)) {
            live.hear(|| News::Unnamed { is_new: live.identity.boot != Some(RandomId(online.boot.0)) });
        }
        let is_known = |task: &message::TaskId| known.iter().any(|live| live.identity.code.0 == task.0);
        for task in offer.tasks.iter().filter(|task| !is_known(task)) {
            let detail = "the server does not know it, or it has ended there".to_owned();
            online.mailbox.instruct(Instruction::Stop { task: *task, detail });
        }
        // Last: a task that is asked for from now on is not one that the device should have named.
        online.offers.send_replace(Some(kinds));
    }

    /// Takes a device's word for how a task of its own stands. Gives whether there is such a task, or was until just now,
    /// and this is one of the few reports that each has.
    pub fn reported(&self, device: DeviceId, report: &Report<'_>) -> bool {
        let Some(live) = self.find(device, report.task) else { return false };
        let detail = report.detail.as_str();
        live.hear(|| News::Report {
            state: report.state,
            detail: (!detail.is_empty()).then(|| detail.to_owned()),
            output: (!report.output.is_empty()).then(|| report.output.to_owned()),
        });
        live.count_report()
    }

    /// Whether a data connection of this device may have the task's bytes; then it is to be given to
    /// [`Admission::admit`].
    ///
    /// # Errors
    /// [`JoinError`] if not. A wrong key ends nothing: whoever has the right one may still come.
    pub fn join(&self, device: DeviceId, join: &message::Join) -> Result<Admission, JoinError> {
        let is_joined =
            |live: &Arc<LiveTask>| !live.has_ended() && live.identity.kind != Some(TaskKind::OpenSsh);
        let live = self.find(device, join.task).filter(is_joined);
        live.ok_or(JoinError::NoSuchTask)?.pass_door(&join.key)
    }

    /// The same for a data connection of whoever holds this key, if that is a device which is online: nothing has to be looked up.
    /// Nothing: whether it may is to be asked as for any other.
    pub fn join_online(&self, key: Pin, join: &message::Join) -> Option<Admission> {
        let device = match lock(&self.places).get(&RandomId(join.task.0)) {
            Some(Place::Taken(live)) => live.identity.device,
            _ => return None,
        };
        let is_there = self.registry.online(device).is_some_and(|online| online.key == Some(key));
        is_there.then(|| self.join(device, join).ok()).flatten()
    }

    /// How long a task may run.
    fn limit(&self, kind: TaskKind) -> Duration {
        match kind {
            TaskKind::Ssh | TaskKind::OpenSsh => self.ssh.time_limit,
            TaskKind::Reboot => self.deadlines.reboot,
            TaskKind::Video => VIDEO_LIMIT,
        }
    }

    /// How long a task of any kind may run.
    fn longest_limit(&self) -> Duration {
        TaskKind::ALL.into_iter().map(|kind| self.limit(kind)).max().unwrap_or_default()
    }

    /// Keeps a place for a task of this name on the wire, if the device has fewer than it may have.
    fn reserve(&self, code: RandomId, device: DeviceId) -> bool {
        let mut places = lock(&self.places);
        let is_of_device = |place: &&Place| match place {
            Place::Reserved(of) => *of == device,
            Place::Taken(live) => live.identity.device == device && !live.has_ended(),
        };
        let has_room = places.values().filter(is_of_device).count() < MAX_OF_DEVICE;
        if has_room {
            places.insert(code, Place::Reserved(device));
        }
        has_room
    }

    fn find(&self, device: DeviceId, task: message::TaskId) -> Option<Arc<LiveTask>> {
        match lock(&self.places).get(&RandomId(task.0)) {
            Some(Place::Taken(live)) if live.identity.device == device => Some(Arc::clone(live)),
            _ => None,
        }
    }

    fn of_device(&self, device: DeviceId) -> Vec<Arc<LiveTask>> {
        self.all(|task| task.device == device)
    }

    /// Those of these that have not ended.
    fn all(&self, is_it: impl Fn(&TaskIdentity) -> bool) -> Vec<Arc<LiveTask>> {
        let places = lock(&self.places);
        let taken = places.values().filter_map(|place| match place {
            Place::Taken(live) if !live.has_ended() && is_it(&live.identity) => Some(live),
            _ => None,
        });
        taken.cloned().collect()
    }

    fn watch(self: &Arc<Self>, live: Arc<LiveTask>, news: mpsc::Receiver<Box<News>>) {
        lock(&self.places).insert(live.identity.code, Place::Taken(Arc::clone(&live)));
        let tasks = Arc::clone(self);
        tokio::spawn(async move {
            let watching = Box::pin(Watcher::new(&tasks, &live, news).run());
            tasks.parts.guard(&tasks.part, watching).await;
            if !live.has_ended() {
                watcher::give_up(&tasks, &live).await;
            }
            // Whoever still waits for its bytes learns that there are none.
            live.close_door();
            // The device's own word that it has ended may be behind: it is one of a task that there was.
            sleep(MEMORY).await;
            lock(&tasks.places).remove(&live.identity.code);
        });
    }
}

/// Looks now and then which ports devices keep, until the tasks are dropped.
async fn look_at_ports(tasks: Weak<Tasks>, part: Arc<Part>) {
    let Some(every) = tasks.upgrade().map(|tasks| tasks.deadlines.look) else { return };
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(tasks) = tasks.upgrade() else { return };
        let begun = Instant::now();
        match tasks.ports.look().await {
            // Where the account is not there, nobody listens by it.
            Ok(_) | Err(TaskError::SshAccount(SshAccountError::NoAccount(_))) => {}
            // Whoever wants a session by this transport is told.
            Err(error) => tracing::debug!(%error, "it is not known which ports devices keep"),
        }
        part.note_round(begun.elapsed());
    }
}

/// The first of these kinds that the device takes. One that has just connected is given time to say so.
async fn offered(online: &Online, kinds: &[TaskKind]) -> Option<TaskKind> {
    let mut offers = online.offers.subscribe();
    let said = tokio::time::timeout(OFFER_TIMEOUT, offers.wait_for(Option::is_some)).await;
    let taken = said.ok()?.ok()?;
    kinds.iter().copied().find(|kind| taken.as_ref().is_some_and(|taken| taken.contains(&kind.kind())))
}
