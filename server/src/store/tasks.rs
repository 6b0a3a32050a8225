//! Tasks: what operators had devices do, who asked for it, and how it ended.

use std::{collections::HashMap, net::IpAddr};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    DeviceId, EventId, Kind, OperatorId, RandomId, Store, StoreError, TaskId, UnixMillis, change::Change,
    devices::check_rights, part::Part,
};
use crate::event::{EventKind, NewEvent, Who};

/// How a task stands. It goes through these in their order, leaving some out, and ends in one of the last three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// It is written down, and the device is being asked.
    Requested,
    /// The device starts it.
    Starting,
    /// It does what it is for.
    Running,
    /// It was told to stop.
    Stopping,
    /// It has ended as it should.
    Done,
    /// It has ended otherwise, or never began.
    Failed,
    /// The device has it no longer, or did not come back: nobody knows how it ended.
    Lost,
}

impl TaskState {
    const ALL: [Self; 7] = [
        Self::Requested,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Done,
        Self::Failed,
        Self::Lost,
    ];

    /// Its name, in the store and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// Whether nothing follows.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Lost)
    }

    /// Whether a task in this state may go on to that one: only forward, and nowhere from an end.
    pub fn may_become(self, next: Self) -> bool {
        !self.is_end() && next > self
    }

    const fn event(self) -> EventKind {
        match self {
            Self::Requested => EventKind::TaskRequested,
            Self::Starting => EventKind::TaskStarting,
            Self::Running => EventKind::TaskRunning,
            Self::Stopping => EventKind::TaskStopping,
            Self::Done => EventKind::TaskDone,
            Self::Failed => EventKind::TaskFailed,
            Self::Lost => EventKind::TaskLost,
        }
    }
}

/// The state of this name. One that only a newer version knows is taken for one whose task has yet to end.
fn known_state(name: &str) -> TaskState {
    TaskState::ALL.into_iter().find(|state| state.name() == name).unwrap_or(TaskState::Stopping)
}

/// A task that someone asks for.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Of which device.
    pub device: DeviceId,
    /// What it is.
    pub kind: Kind,
    /// Its name on the wire.
    pub code: RandomId,
    /// The start of the device's agent that is asked.
    pub boot: RandomId,
    /// Who asks for it.
    pub who: String,
    /// From where, if not from this machine.
    pub address: Option<IpAddr>,
    /// Which operator that is, if not a user of this machine.
    pub operator: Option<OperatorId>,
}

/// A task that goes on to another state.
#[derive(Clone, Debug)]
pub struct TaskChange {
    /// Its name on the wire.
    pub code: RandomId,
    /// The state.
    pub state: TaskState,
    /// Why; what a peer said in it is escaped where it is shown.
    pub reason: Option<String>,
    /// The end of what it wrote; none leaves what is known.
    pub output: Option<Vec<u8>>,
}

/// A task as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its number: later tasks have greater ones.
    pub id: TaskId,
    /// Its name on the wire.
    pub code: RandomId,
    /// Of which device.
    pub device: DeviceId,
    /// The device's name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// How it stands.
    pub state: TaskState,
    /// Who asked for it.
    pub who: String,
    /// From where, if not from this machine.
    pub address: Option<String>,
    /// Which operator that is, if not a user of this machine.
    pub operator: Option<OperatorId>,
    /// The start of the device's agent that was asked.
    pub boot: Option<RandomId>,
    /// When it was asked for.
    pub requested: UnixMillis,
    /// Since when it ran.
    pub started: Option<UnixMillis>,
    /// When it ended.
    pub ended: Option<UnixMillis>,
    /// Why it stops, or has ended.
    pub reason: Option<String>,
    /// The end of what it wrote.
    pub output: Option<Vec<u8>>,
    /// Bytes that came from the device on its data connection.
    pub bytes_in: u64,
    /// Bytes that went to it.
    pub bytes_out: u64,
}

/// How many tasks are kept: one that has ended is deleted when so many others have begun since.
const KEPT: i64 = 100_000;

/// Which tasks to read.
#[derive(Clone, Copy, Debug)]
pub struct TaskFilter {
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// Only those that have not ended.
    pub open: bool,
    /// Only those behind this one; 0 for the first page.
    pub after: TaskId,
    /// Only those before this one, and of them the last; a page is in the order of their ids all the same.
    pub before: Option<TaskId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for TaskFilter {
    fn default() -> Self {
        Self { device: None, open: false, after: TaskId(0), before: None, limit: 500 }
    }
}

impl Store {
    /// Writes down that a task is asked for, with its event. Of those that have ended the oldest are deleted, where there are
    /// more than 100,000; their events stay.
    ///
    /// # Errors
    ///
    /// The device has been revoked meanwhile, or the store can't be written.
    pub async fn begin_task(&self, task: NewTask) -> Result<TaskId, StoreError> {
        self.write(move |change| begin(change, &task)).await
    }

    /// Brings a task to another state, with its event. Gives whether it did: a task that has ended, or is further
    /// already, stays as it is.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn change_task(&self, next: TaskChange) -> Result<bool, StoreError> {
        self.write(move |change| go_on(change, &next)).await
    }

    /// Writes down that a task is in this person's name from now on, for this reason, with its event; one that has ended stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn hand_over_task(
        &self,
        id: TaskId,
        to: Who,
        operator: Option<OperatorId>,
        reason: String,
    ) -> Result<(), StoreError> {
        self.write(move |change| {
            let found = change
                .connection
                .prepare_cached(&format!("{SELECT} WHERE tasks.id = ? AND ended IS NULL"))?
                .query_row([id], row)
                .optional()?;
            let Some(task) = found else { return Ok(()) };
            let address = to.address.map(|address| address.to_canonical().to_string());
            change
                .connection
                .prepare_cached("UPDATE tasks SET who = ?2, address = ?3, operator = ?4 WHERE id = ?1")?
                .execute(params![id, to.name, address, operator])?;
            let event = NewEvent::new(EventKind::TaskHandedOver)
                .device(task.device)
                .who(&to)
                .detail("task", id.0)
                .detail("kind", task.kind)
                .detail("from", task.who)
                .detail("reason", reason.as_str());
            change.event(&event)?;
            Ok(())
        })
        .await
    }

    /// Keeps how many bytes came from a task's device, and went to it.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn count_task(&self, code: RandomId, bytes_in: u64, bytes_out: u64) -> Result<(), StoreError> {
        self.write(move |change| {
            change
                .connection
                .prepare_cached("UPDATE tasks SET bytes_in = ?2, bytes_out = ?3 WHERE code = ?1")?
                .execute(params![code, bytes_in, bytes_out])?;
            Ok(())
        })
        .await
    }

    /// A page of tasks. Fewer than the limit: there are no more now.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn tasks(&self, filter: TaskFilter) -> Result<Vec<TaskRow>, StoreError> {
        self.read(move |connection| page(connection, &filter)).await
    }

    /// How many tasks have not ended, of each device that has such.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn open_tasks_by_device(&self) -> Result<HashMap<DeviceId, u64>, StoreError> {
        self.read(|connection| {
            let query = "SELECT device, count(*) FROM tasks WHERE ended IS NULL GROUP BY device";
            let mut statement = connection.prepare_cached(query)?;
            let counts = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(counts.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The tasks, of this device or of all, that had an event behind this one.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn changed_tasks(
        &self,
        after: EventId,
        device: Option<DeviceId>,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.read(move |connection| {
            let ids = "SELECT json_extract(detail, '$.task') FROM events
                WHERE id > ?1 AND kind GLOB 'task-*' AND (?2 IS NULL OR device = ?2)";
            let query = format!("{SELECT} WHERE tasks.id IN ({ids}) ORDER BY tasks.id");
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map(params![after, device], row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The task of this number.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn task(&self, id: TaskId) -> Result<Option<TaskRow>, StoreError> {
        self.read(move |connection| {
            let query = format!("{SELECT} WHERE tasks.id = ?");
            Ok(connection.prepare_cached(&query)?.query_row([id], row).optional()?)
        })
        .await
    }
}

fn begin(change: &mut Change<'_>, task: &NewTask) -> Result<TaskId, StoreError> {
    check_rights(change.connection, task.device)?;
    let state = TaskState::Requested;
    let address = task.address.map(|address| address.to_canonical());
    change
        .connection
        .prepare_cached(
            "INSERT INTO tasks (code, device, kind, state, who, address, boot, requested, operator)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            task.code,
            task.device,
            task.kind.as_str(),
            state.name(),
            task.who,
            address.map(|address| address.to_string()),
            task.boot,
            change.now,
            task.operator,
        ])?;
    let id = TaskId(change.connection.last_insert_rowid());
    change
        .connection
        .prepare_cached("DELETE FROM tasks WHERE id <= ? AND ended IS NOT NULL")?
        .execute([id.0.saturating_sub(KEPT)])?;
    let event = NewEvent { address, ..event(state, id, task.device, task.kind.as_str(), &task.who) };
    change.event(&event)?;
    Ok(id)
}

fn go_on(change: &mut Change<'_>, next: &TaskChange) -> Result<bool, StoreError> {
    let found = change
        .connection
        .prepare_cached(&format!("{SELECT} WHERE code = ?"))?
        .query_row([next.code], row)
        .optional()?;
    let Some(task) = found else { return Ok(false) };
    if !task.state.may_become(next.state) {
        return Ok(false);
    }
    change
        .connection
        .prepare_cached(
            "UPDATE tasks SET state = ?2, reason = coalesce(?3, reason), output = coalesce(?4, output),
                started = CASE WHEN ?5 THEN ?7 ELSE started END, ended = CASE WHEN ?6 THEN ?7 END
                WHERE id = ?1",
        )?
        .execute(params![
            task.id,
            next.state.name(),
            next.reason,
            next.output,
            next.state == TaskState::Running,
            next.state.is_end(),
            change.now,
        ])?;
    let mut event = event(next.state, task.id, task.device, &task.kind, &task.who);
    event.address = task.address.and_then(|address| address.parse().ok());
    if next.state.is_end() && task.bytes_in.saturating_add(task.bytes_out) > 0 {
        event = event.detail("bytes_in", task.bytes_in).detail("bytes_out", task.bytes_out);
    }
    if let Some(reason) = &next.reason {
        event = event.detail("reason", reason.as_str());
    }
    change.event(&event)?;
    Ok(true)
}

fn event(state: TaskState, id: TaskId, device: DeviceId, kind: &str, who: &str) -> NewEvent {
    NewEvent::new(state.event()).device(device).who(who).detail("task", id.0).detail("kind", kind)
}

const SELECT: &str =
    "SELECT tasks.id, code, device, name, tasks.kind, state, who, address, boot, requested, started,
    ended, reason, output, tasks.bytes_in, tasks.bytes_out, operator FROM tasks JOIN devices ON devices.id = device";

fn page(connection: &Connection, filter: &TaskFilter) -> Result<Vec<TaskRow>, StoreError> {
    // A text for each index, as one for all would use none.
    let which = match (filter.device, filter.open) {
        (Some(_), _) => "device = ?3 AND (NOT ?4 OR ended IS NULL)",
        (None, true) => "?3 IS NULL AND ?4 AND ended IS NULL",
        (None, false) => "?3 IS NULL AND NOT ?4",
    };
    let part = Part::new(filter.after.0, filter.before.map(|before| before.0));
    let query = format!("{SELECT} WHERE {which} AND {} LIMIT ?5", part.sql("tasks.id"));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&query)?;
    let rows =
        statement.query_map(params![part.after, part.before, filter.device, filter.open, limit], row)?;
    Ok(part.ascending(rows.collect::<Result<_, _>>()?))
}

fn row(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    let state: String = row.get(5)?;
    Ok(TaskRow {
        id: row.get(0)?,
        code: row.get(1)?,
        device: row.get(2)?,
        name: row.get(3)?,
        kind: row.get(4)?,
        state: known_state(&state),
        who: row.get(6)?,
        address: row.get(7)?,
        boot: row.get(8)?,
        requested: row.get(9)?,
        started: row.get(10)?,
        ended: row.get(11)?,
        reason: row.get(12)?,
        output: row.get(13)?,
        bytes_in: row.get(14)?,
        bytes_out: row.get(15)?,
        operator: row.get(16)?,
    })
}
