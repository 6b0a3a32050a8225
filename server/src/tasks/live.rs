//! A task that has not ended: what its watcher, its device and whoever asked for it share.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use protocol_core::{code, message::Secret};
use tokio::sync::{mpsc, oneshot, watch};

use super::{DataConnection, JoinError, TaskKind};
use crate::{
    event::Who,
    lock::lock,
    mailbox::Instruction,
    store::{DeviceId, OperatorId, RandomId, TaskId, TaskState},
};

/// How much may wait for a watcher: a task has few states, and what a device says beyond that is passed over.
const NEWS: usize = 32;

/// How many reports of a task are its own: its states, of which each comes once, and some that are said again.
const REPORTS: u8 = 8;

/// Which task it is.
#[derive(Clone, Debug)]
pub(super) struct TaskIdentity {
    pub(super) id: TaskId,
    /// Its name on the wire.
    pub(super) code: RandomId,
    pub(super) device: DeviceId,
    /// None of a kind that this version does not know.
    pub(super) kind: Option<TaskKind>,
    /// The start of the device's agent that was asked.
    pub(super) boot: Option<RandomId>,
    /// Who asked for it.
    pub(super) who: Who,
    /// The operator elsewhere who that is.
    pub(super) operator: Option<OperatorId>,
}

/// How a task stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: TaskState,
    /// Why it stops, or has ended.
    pub reason: Option<String>,
}

impl Standing {
    /// It stands so for this reason.
    pub fn new(state: TaskState, reason: impl Into<String>) -> Self {
        Self { state, reason: Some(reason.into()) }
    }
}

/// What a watcher is told.
#[derive(Debug)]
pub(super) enum News {
    /// The device says how it stands.
    Report { state: code::TaskState, detail: Option<String>, output: Option<Vec<u8>> },
    /// The device does not name it any longer; `is_new` if its agent has started since it was asked.
    Unnamed { is_new: bool },
    /// Its bytes have ended, and so has it.
    Finished(Standing),
}

/// That a task is to end, and why.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// The device is to stop it.
    Stop(String),
    /// It has ended: its device has no rights any longer, and nothing that it would say counts.
    End(String),
}

/// A task that has not ended.
pub(super) struct LiveTask {
    pub(super) identity: TaskIdentity,
    /// The operator elsewhere in whose name it is now, and with whose rights it ends.
    owner: Mutex<Option<OperatorId>>,
    /// Whether an earlier server asked for it: whoever wanted it has gone with that.
    pub(super) is_resumed: bool,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) wish: watch::Sender<Option<Wish>>,
    /// What its device is told; nothing where an earlier server has done that.
    pub(super) order: Option<Instruction>,
    key: Secret,
    door: Mutex<Door>,
    /// In boxes: a channel has room for 32 of what it carries from the beginning.
    news: mpsc::Sender<Box<News>>,
    /// How many reports have come: [`REPORTS`] at most.
    reports: AtomicU8,
}

/// Whether a task's bytes may come.
enum Door {
    /// Somebody waits for them.
    Open(oneshot::Sender<DataConnection>),
    /// They have come.
    Passed,
    /// Nobody waits for them.
    Closed,
}

/// The right of one data connection to be a task's.
pub struct Admission(oneshot::Sender<DataConnection>);

impl Admission {
    /// Hands the connection to whoever waits for it. Gives whether somebody did.
    pub fn admit(self, data: DataConnection) -> bool {
        self.0.send(data).is_ok()
    }
}

impl LiveTask {
    /// A task whose device is about to be told this order; what its watcher is told, and where its bytes come.
    pub(super) fn requested(
        identity: TaskIdentity,
        key: Secret,
        order: Instruction,
    ) -> (Arc<Self>, mpsc::Receiver<Box<News>>, oneshot::Receiver<DataConnection>) {
        let (waiting, data) = oneshot::channel();
        let (mut live, news) = Self::new(identity, TaskState::Requested);
        (live.key, live.order) = (key, Some(order));
        live.door = Mutex::new(Door::Open(waiting));
        (Arc::new(live), news, data)
    }

    /// A task that an earlier server asked for.
    pub(super) fn resumed(
        identity: TaskIdentity,
        state: TaskState,
    ) -> (Arc<Self>, mpsc::Receiver<Box<News>>) {
        let (mut live, news) = Self::new(identity, state);
        live.is_resumed = true;
        (Arc::new(live), news)
    }

    fn new(identity: TaskIdentity, state: TaskState) -> (Self, mpsc::Receiver<Box<News>>) {
        let (sender, news) = mpsc::channel(NEWS);
        let live = Self {
            owner: Mutex::new(identity.operator),
            identity,
            is_resumed: false,
            standing: watch::Sender::new(Standing { state, reason: None }),
            wish: watch::Sender::new(None),
            order: None,
            key: Secret([0; 16]),
            door: Mutex::new(Door::Closed),
            news: sender,
            reports: AtomicU8::new(0),
        };
        (live, news)
    }

    /// Tells the watcher, unless it has ended.
    pub(super) async fn tell(&self, news: News) {
        // Whose watcher has ended has nothing to be told.
        let _ = self.news.send(Box::new(news)).await;
    }

    /// Tells the watcher what a device says, if it can take it now: its deadlines see to the rest. What it can't take is
    /// not made.
    pub(super) fn hear(&self, news: impl FnOnce() -> News) {
        match self.news.try_reserve() {
            Ok(room) => room.send(Box::new(news())),
            // Whoever does that may do it without end: it is not for everybody to read.
            Err(mpsc::error::TrySendError::Full(())) => {
                tracing::debug!(task = %self.identity.id, "a device reports a task faster than it can be written down");
            }
            Err(mpsc::error::TrySendError::Closed(())) => {}
        }
    }

    /// Counts a report of the device's. Gives whether it is one of those that each task has.
    pub(super) fn count_report(&self) -> bool {
        let one_more = |count: u8| (count < REPORTS).then_some(count + 1);
        self.reports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Has it stopped, or ended. The end stands, and else the first wish.
    pub(super) fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let counts = now.is_none() || matches!((&now, &wish), (Some(Wish::Stop(_)), Wish::End(_)));
            if counts {
                *now = Some(wish);
            }
            counts
        });
    }

    /// Whether a data connection with this key may have its bytes; then nobody else may.
    pub(super) fn pass_door(&self, key: &Secret) -> Result<Admission, JoinError> {
        match self.key == *key {
            true => self.enter_door(),
            false => Err(JoinError::WrongKey),
        }
    }

    /// Whether the one who asks may have its bytes, whom this server knows without a key; then nobody else may.
    pub(super) fn enter_door(&self) -> Result<Admission, JoinError> {
        let mut door = lock(&self.door);
        match mem::replace(&mut *door, Door::Passed) {
            Door::Open(waiting) => Ok(Admission(waiting)),
            before => {
                *door = before;
                Err(JoinError::Used)
            }
        }
    }

    /// Nobody waits for its bytes any longer.
    pub(super) fn close_door(&self) {
        let mut door = lock(&self.door);
        if let Door::Open(_) = *door {
            *door = Door::Closed;
        }
    }

    /// It is in the name of this operator from now on; of none, if it is a user of this machine.
    pub(super) fn hand_over(&self, operator: Option<OperatorId>) {
        *lock(&self.owner) = operator;
    }

    /// The operator elsewhere in whose name it is.
    pub(super) fn owner(&self) -> Option<OperatorId> {
        *lock(&self.owner)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.standing.borrow().state.is_end()
    }

    /// Whether its bytes have come: whoever has them says when they have ended.
    pub(super) fn has_data(&self) -> bool {
        matches!(*lock(&self.door), Door::Passed)
    }
}
