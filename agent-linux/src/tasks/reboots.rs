//! What outlives the agent of tasks that start the device anew: which ones there are, and in which start of the kernel
//! each of them began. By that the next agent knows whether the device has started anew, or the agent alone.

use std::{fs, path::Path};

use protocol_core::{
    code::TaskState,
    message::{MAX_TASKS, TaskId},
    task::REBOOT,
};
use serde::{Deserialize, Serialize};

use super::register::Entry;
use crate::state::StateDirectory;

/// The file of the state directory that holds them; there is none where there are none.
const FILE: &str = "reboots.json";

/// The tasks that start the device anew, and whose end the server does not know yet.
#[derive(Debug)]
pub(super) struct Reboots {
    state: StateDirectory,
    /// Which start of the kernel this is.
    boot: String,
    notes: Vec<Note>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    task: u64,
    who: String,
    /// In which start of the kernel it began.
    boot: String,
}

impl Reboots {
    /// What the last agent has left; `boot_id` is the kernel's file that says which of its starts this is.
    pub(super) fn read(state: StateDirectory, boot_id: &Path) -> Self {
        let boot = fs::read_to_string(boot_id).unwrap_or_else(|error| {
            tracing::error!(path = %boot_id.display(), %error, "it is not known which start of the device this is");
            String::new()
        });
        let notes = match state.read(FILE) {
            Ok(text) => text.map(|text| serde_json::from_slice(&text)).transpose().unwrap_or_else(|error| {
                tracing::error!(file = FILE, %error, "which restarts were asked for is not understood");
                None
            }),
            Err(error) => {
                tracing::error!(%error, "which restarts were asked for can't be read");
                None
            }
        };
        let mut notes: Vec<Note> = notes.unwrap_or_default();
        notes.truncate(MAX_TASKS);
        Self { state, boot: boot.trim().to_owned(), notes }
    }

    /// How those of the agents before this one have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = Entry> {
        self.notes.iter().map(|note| {
            let (state, detail) = match note.boot == self.boot {
                true => (TaskState::Failed, "the agent started anew, the device did not"),
                false => (TaskState::Done, "the device has started anew"),
            };
            Entry::ended(TaskId(note.task), REBOOT, &note.who, state, detail)
        })
    }

    /// Notes, before anything is done for it, that a task is to start the device anew.
    pub(super) fn begin(&mut self, task: TaskId, who: &str) {
        self.notes.push(Note { task: task.0, who: who.to_owned(), boot: self.boot.clone() });
        self.write();
    }

    /// Forgets all but those whose end the server may still have to be told.
    pub(super) fn keep(&mut self, is_known: impl Fn(TaskId) -> bool) {
        let before = self.notes.len();
        self.notes.retain(|note| is_known(TaskId(note.task)));
        if self.notes.len() < before {
            self.write();
        }
    }

    /// A device that can't write can still start anew: the server calls its task lost then.
    fn write(&self) {
        let written = match serde_json::to_string(&self.notes) {
            Ok(text) if !self.notes.is_empty() => self.state.write(FILE, &text),
            _ => self.state.remove(FILE),
        };
        if let Err(error) = written {
            tracing::error!(%error, "which restarts were asked for could not be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::register::Register;

    /// What an agent that starts in this boot of the device has to tell of the tasks before it.
    fn told(reboots: &Reboots) -> Vec<(u64, TaskState)> {
        let mut register = Register::default();
        reboots.ended().for_each(|entry| register.add(entry));
        let mut told = Vec::new();
        while let Some(report) = register.due() {
            let task = report.task;
            told.push((task.0, report.state));
            register.told(task);
        }
        told
    }

    #[test]
    fn a_task_is_done_where_the_kernel_has_started_since() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(directory.path()).unwrap();
        let boot_id = state.file("boot_id");
        let read = |boot: &str| {
            fs::write(&boot_id, boot).unwrap();
            Reboots::read(state.clone(), &boot_id)
        };
        let mut first = read("first\n");
        assert!(told(&first).is_empty() && !state.file(FILE).exists());
        first.begin(TaskId(7), "ada");
        first.begin(TaskId(u64::MAX), "bob");
        let failed = [(7, TaskState::Failed), (u64::MAX, TaskState::Failed)];
        assert_eq!(told(&read("first\n")), failed);
        // As long as the server does not know, each agent tells.
        let done = [(7, TaskState::Done), (u64::MAX, TaskState::Done)];
        assert_eq!((told(&read("second")), told(&read("second"))), (done.to_vec(), done.to_vec()));
        let mut second = read("second");
        second.keep(|task| task == TaskId(7));
        assert_eq!(told(&read("second")), [(7, TaskState::Done)]);
        second.keep(|_| false);
        assert!(!state.file(FILE).exists() && told(&read("third")).is_empty());
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(directory.path()).unwrap();
        for damaged in ["", "[", "{}", "[{\"task\":-1}]", "\u{0}"] {
            state.write(FILE, damaged).unwrap();
            assert!(told(&Reboots::read(state.clone(), Path::new("/nonexistent"))).is_empty(), "{damaged:?}");
        }
    }
}
