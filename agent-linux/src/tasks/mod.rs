//! Tasks: what the server asks this device to do, as far as its configuration lets it (`docs/protocol.md`, Tasks).
//!
//! Each runs in a process of its own (`worker.rs`), which the agent starts, watches and ends (`supervisor.rs`).
//! Whatever becomes of it, the connection to the server goes on. A task goes on without a session; the register keeps
//! what the server has to be told.

mod assignment;
pub(crate) mod camera;
mod data;
mod in_memory;
mod kind;
mod openssh;
mod output;
mod paced;
mod process;
mod program;
mod progress;
mod ready;
mod reboots;
mod register;
mod ssh;
mod supervisor;
mod video;
mod worker;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol_core::{
    code::TaskState,
    message::{Cameras, Offer, Order, Report, Stop},
};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use self::{
    assignment::{Assignment, Preparation, Work},
    kind::{Kind, Refusal},
    ready::Ready,
    reboots::Reboots,
    register::{Entry, Register},
    supervisor::Patience,
};
pub use self::{
    process::RUN_TASK,
    program::{EXEC_PROGRAM, RUN_PROGRAM, become_program, guard},
    worker::run as run_task,
};
use crate::{config::TaskRules, identity::Identity, state::StateDirectory};

/// How many signs of progress a task's process gives in the time in which one must come.
const BEATS: u32 = 6;

/// The tasks of this device.
pub struct Tasks {
    rules: TaskRules,
    /// How long each step towards the server may take.
    step: Duration,
    register: Mutex<Register>,
    /// Locked behind the register.
    reboots: Mutex<Reboots>,
    ready: Arc<Ready>,
    news: Notify,
}

/// Who this device is to the server that orders a task, and where that server is reached.
pub struct Contact<'a> {
    /// The device's key and name, and the keys and addresses of the server.
    pub identity: &'a Identity,
    /// The address at which the session stands.
    pub server: &'a str,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tasks").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Tasks {
    /// No tasks but those by which the device has started anew, or should have; each step towards the server may take as
    /// long as `step`, and `boot_id` is the kernel's file that says which of its starts this is.
    pub fn new(rules: TaskRules, step: Duration, state: StateDirectory, boot_id: &Path) -> Arc<Self> {
        let (mut register, reboots) = (Register::default(), Reboots::read(state, boot_id));
        reboots.ended().for_each(|entry| register.add(entry));
        let (register, reboots) = (Mutex::new(register), Mutex::new(reboots));
        let ready = Ready::new(rules.ready);
        Arc::new(Self { rules, step, register, reboots, ready, news: Notify::new() })
    }

    /// What is said behind a welcome. How each task stands is due then.
    pub fn offer(&self) -> Offer<'static> {
        let mut register = self.register();
        let tasks = register.begin_session().into_iter().collect();
        lock(&self.reboots).keep(|task| register.has(task));
        Offer { kinds: Kind::offered(&self.rules).collect(), tasks }
    }

    /// The cameras of which the server is told behind the offer.
    pub fn cameras(&self) -> Cameras<'_> {
        Kind::cameras(&self.rules)
    }

    /// Sends the reports that are due, as long as `send` takes them.
    pub fn report(&self, mut send: impl FnMut(&Report<'_>) -> bool) {
        let mut register = self.register();
        while let Some(report) = register.due() {
            let task = report.task;
            if !send(&report) {
                break;
            }
            register.told(task);
        }
    }

    /// Waits until there may be something to report. Dropping the future loses nothing. One waits at a time.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Does what the server orders, if this device's configuration allows it.
    pub fn order(self: &Arc<Self>, order: &Order<'_>, contact: &Contact<'_>) {
        let mut register = self.register();
        if register.tell_again(order.task) {
            self.news.notify_one();
            return;
        }
        let (task, who) = (order.task, order.who.as_str());
        let live = register.live();
        let (entry, stopped) = Entry::new(task, order.kind.as_str(), who);
        register.add(entry);
        match self.admit(order, contact) {
            Err(refusal) => {
                tracing::warn!(%task, kind = %order.kind, who, role = %order.role, %refusal, "a task is refused");
                register.set(task, TaskState::Refused, &refusal.to_string(), Vec::new());
            }
            Ok((kind, _)) if live >= self.rules.max_tasks => {
                tracing::warn!(%task, kind = kind.name(), who, live, "there is no room for another task");
                let detail =
                    format!("this device has {live} tasks, and [tasks] max_tasks allows no more; stop one");
                register.set(task, TaskState::Failed, &detail, Vec::new());
            }
            Ok((kind, work)) => {
                tracing::info!(%task, kind = kind.name(), who, role = %order.role, "a task starts");
                drop(register);
                if kind.goes_down() {
                    lock(&self.reboots).begin(task, who);
                }
                let preparation = Preparation { identity: contact.identity.clone() };
                self.start(kind, work, preparation, order, stopped);
            }
        }
        self.news.notify_one();
    }

    /// The work that is ordered, if this device's configuration allows it.
    fn admit(&self, order: &Order<'_>, contact: &Contact<'_>) -> Result<(Kind, Work), Refusal> {
        let kind = Kind::admit(order, &self.rules)?;
        Ok((kind, kind.work(order, &self.rules, self.step, contact)?))
    }

    /// Stops a task as the server wishes.
    pub fn stop(&self, stop: &Stop<'_>) {
        let mut register = self.register();
        if register.stop(stop.task, stop.detail.as_str()) {
            tracing::debug!(task = %stop.task, detail = %stop.detail, "the server says stop");
        }
        lock(&self.reboots).keep(|task| register.has(task));
    }

    /// The tasks that run, as `holdfast-agent status --json` shows them.
    pub fn status(&self) -> Value {
        self.register().status()
    }

    fn start(
        self: &Arc<Self>,
        kind: Kind,
        work: Work,
        preparation: Preparation,
        order: &Order<'_>,
        stop: oneshot::Receiver<String>,
    ) {
        let TaskRules { max_memory_bytes, max_cpu_seconds, start, progress, .. } = self.rules;
        let assignment = Assignment {
            agent: rustix::process::getpid().as_raw_nonzero().get(),
            max_memory_bytes,
            max_cpu_seconds,
            beat: progress / BEATS,
            work,
        };
        // What the server allows may be less than what this device does.
        let asked = (order.limit > 0).then(|| Duration::from_secs(order.limit.into()));
        let limit = asked.map_or(self.rules.limit, |asked| asked.min(self.rules.limit));
        let (tasks, task) = (Arc::clone(self), order.task);
        tokio::spawn(async move {
            let tell = |state, detail: &str| tasks.set(task, state, detail, Vec::new());
            let patience = Patience { start, progress, limit };
            let end = supervisor::run(
                &assignment,
                (&tasks.ready, &preparation),
                patience,
                kind.restart(),
                stop,
                tell,
            )
            .await;
            tracing::info!(%task, kind = kind.name(), state = %end.state, detail = end.detail, "a task has ended");
            tasks.set(task, end.state, &end.detail, end.output);
            tasks.ready.prepare(preparation).await;
        });
    }

    fn set(&self, task: protocol_core::message::TaskId, state: TaskState, detail: &str, output: Vec<u8>) {
        self.register().set(task, state, detail, output);
        self.news.notify_one();
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        lock(&self.register)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves what is locked as usable as it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
