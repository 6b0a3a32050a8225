//! Which tasks there are, and what the server has been told of them. No processes here.

use std::collections::VecDeque;

use protocol_core::{
    code::TaskState,
    message::{MAX_TASKS, Report, TaskId, Text},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::clock;

/// The most tasks that have ended and are kept, in case the server has not heard of their end.
pub(super) const MOST_ENDED: usize = 32;

/// On how many sessions the end of a task is told: what was said last on one that broke may be lost.
const TELLINGS: u8 = 2;

/// A task.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) kind: String,
    pub(super) who: String,
    state: TaskState,
    detail: String,
    output: Vec<u8>,
    /// Since when it stands as it does, in milliseconds since 1970.
    since: u64,
    /// The server has to be told how it stands.
    is_due: bool,
    /// On how many sessions its end was told.
    told: u8,
    /// Stops it, once.
    stop: Option<oneshot::Sender<String>>,
}

impl Entry {
    /// A task that is being started, and what stops it.
    pub(super) fn new(task: TaskId, kind: &str, who: &str) -> (Self, oneshot::Receiver<String>) {
        let (stop, stopped) = oneshot::channel();
        let entry = Self {
            task,
            kind: kind.to_owned(),
            who: who.to_owned(),
            state: TaskState::Starting,
            detail: String::new(),
            output: Vec::new(),
            since: clock::unix_time(),
            is_due: true,
            told: 0,
            stop: Some(stop),
        };
        (entry, stopped)
    }

    /// A task of an agent before this one, and how it has ended.
    pub(super) fn ended(task: TaskId, kind: &str, who: &str, state: TaskState, detail: &str) -> Self {
        let (entry, _) = Self::new(task, kind, who);
        Self { state, detail: detail.to_owned(), stop: None, ..entry }
    }

    fn has_ended(&self) -> bool {
        is_end(self.state)
    }

    fn report(&self) -> Report<'_> {
        let detail = Text::shortened(&self.detail);
        Report { task: self.task, state: self.state, detail, output: &self.output }
    }
}

fn is_end(state: TaskState) -> bool {
    matches!(state, TaskState::Done | TaskState::Failed | TaskState::Refused)
}

/// The tasks in the order in which they came: [`MAX_TASKS`] at most.
#[derive(Debug, Default)]
pub(super) struct Register {
    entries: VecDeque<Entry>,
}

impl Register {
    /// How many have not ended.
    pub(super) fn live(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.has_ended()).count()
    }

    /// Whether there is such a task.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.entries.iter().any(|entry| entry.task == task)
    }

    fn find(&mut self, task: TaskId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.task == task)
    }

    /// Has the server told again how a task stands. Gives whether there is such a task.
    pub(super) fn tell_again(&mut self, task: TaskId) -> bool {
        self.find(task).map(|entry| entry.is_due = true).is_some()
    }

    /// Takes in a task. There must be none of its id.
    pub(super) fn add(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Notes how a task stands. States only go up, and an end is the end.
    pub(super) fn set(&mut self, task: TaskId, state: TaskState, detail: &str, output: Vec<u8>) {
        let number = u16::from(state);
        let Some(entry) = self.find(task).filter(|entry| !entry.has_ended() && number > entry.state.into())
        else {
            return;
        };
        detail.clone_into(&mut entry.detail);
        (entry.state, entry.output, entry.since, entry.is_due) = (state, output, clock::unix_time(), true);
        if is_end(state) {
            entry.stop = None;
            self.forget_oldest();
        }
    }

    /// Stops a task; one that has ended is forgotten, as its end is known. Gives whether there is such a task.
    pub(super) fn stop(&mut self, task: TaskId, detail: &str) -> bool {
        let Some(entry) = self.find(task) else { return false };
        if entry.has_ended() {
            self.entries.retain(|entry| entry.task != task);
        } else if let Some(stop) = entry.stop.take() {
            let _ = stop.send(detail.to_owned());
        }
        true
    }

    /// What a new session begins with: the tasks whose state is to be told on it. All of them are due.
    pub(super) fn begin_session(&mut self) -> Vec<TaskId> {
        self.entries.retain(|entry| entry.told < TELLINGS);
        self.entries.iter_mut().for_each(|entry| entry.is_due = true);
        self.entries.iter().map(|entry| entry.task).take(MAX_TASKS).collect()
    }

    /// The next report that is due; nothing if there is none. [`Register::told`] says that it was sent.
    pub(super) fn due(&self) -> Option<Report<'_>> {
        self.entries.iter().find(|entry| entry.is_due).map(Entry::report)
    }

    /// Notes that the server was told how a task stands.
    pub(super) fn told(&mut self, task: TaskId) {
        if let Some(entry) = self.find(task) {
            entry.is_due = false;
            entry.told += u8::from(entry.has_ended());
        }
    }

    /// The tasks that have not ended, as people are shown them.
    pub(super) fn status(&self) -> Value {
        let live = self.entries.iter().filter(|entry| !entry.has_ended());
        live.map(|entry| {
            json!({
                "task": entry.task.to_string(),
                "kind": entry.kind,
                "who": entry.who,
                "state": entry.state.to_string(),
                "since": entry.since,
                "detail": entry.detail,
            })
        })
        .collect()
    }

    /// Keeps as many tasks that have ended as may be kept.
    fn forget_oldest(&mut self) {
        let ended = self.entries.iter().filter(|entry| entry.has_ended()).count();
        if ended > MOST_ENDED
            && let Some(oldest) = self.entries.iter().position(Entry::has_ended)
        {
            self.entries.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(register: &mut Register, task: u64) -> oneshot::Receiver<String> {
        let (entry, stopped) = Entry::new(TaskId(task), "ssh", "ada");
        register.add(entry);
        stopped
    }

    /// Sends all that is due; gives what was said.
    fn tell(register: &mut Register) -> Vec<(u64, TaskState)> {
        let mut said = Vec::new();
        while let Some(report) = register.due() {
            let (task, state) = (report.task, report.state);
            said.push((task.0, state));
            register.told(task);
        }
        said
    }

    #[test]
    fn states_go_up_and_end() {
        let mut register = Register::default();
        let _stop = started(&mut register, 1);
        let mut set = |state, expected: &[(u64, TaskState)]| {
            register.set(TaskId(1), state, "", Vec::new());
            assert_eq!(tell(&mut register), expected);
        };
        set(TaskState::Stopping, &[(1, TaskState::Stopping)]);
        set(TaskState::Running, &[]);
        set(TaskState::Done, &[(1, TaskState::Done)]);
        set(TaskState::Failed, &[]);
        register.set(TaskId(9), TaskState::Failed, "nobody's", Vec::new());
        assert!(register.due().is_none());
    }

    #[test]
    fn an_end_is_told_on_two_sessions() {
        let mut register = Register::default();
        let _stops = [started(&mut register, 1), started(&mut register, 2)];
        assert_eq!(register.begin_session(), [TaskId(1), TaskId(2)]);
        tell(&mut register);
        register.set(TaskId(1), TaskState::Done, "", Vec::new());
        assert_eq!(tell(&mut register), [(1, TaskState::Done)]);
        // What was said last may be lost with the session.
        assert_eq!(register.begin_session(), [TaskId(1), TaskId(2)]);
        assert_eq!(tell(&mut register), [(1, TaskState::Done), (2, TaskState::Starting)]);
        assert_eq!(register.begin_session(), [TaskId(2)]);
        assert_eq!(tell(&mut register), [(2, TaskState::Starting)]);
    }

    #[test]
    fn an_end_that_the_server_knows_is_forgotten() {
        let mut register = Register::default();
        let mut stopped = started(&mut register, 1);
        assert!(register.stop(TaskId(1), "enough"));
        assert!(register.stop(TaskId(1), "enough, again"));
        assert_eq!(stopped.try_recv().unwrap(), "enough");
        register.set(TaskId(1), TaskState::Done, "", Vec::new());
        assert!(register.tell_again(TaskId(1)));
        assert!(register.stop(TaskId(1), "it has ended"));
        assert!(!register.stop(TaskId(1), "it has ended") && !register.tell_again(TaskId(1)));
    }

    #[test]
    fn what_has_ended_is_bounded_and_live_ones_stay() {
        let mut register = Register::default();
        let stops: Vec<_> = (0..1_000).map(|task| started(&mut register, task)).collect();
        for task in 1..1_000 {
            register.set(TaskId(task), TaskState::Refused, "", Vec::new());
        }
        assert_eq!((register.live(), register.entries.len()), (1, 1 + MOST_ENDED));
        assert_eq!(register.begin_session().last(), Some(&TaskId(999)));
        assert_eq!(register.status().as_array().map(Vec::len), Some(1));
        drop(stops);
    }
}
