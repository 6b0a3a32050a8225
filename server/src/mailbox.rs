//! What others ask of a connection: one slot for each kind of request, so that nothing piles up.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use protocol_core::{
    code::{CloseReason, Role},
    message::{Close, Echo, MAX_TASKS, Secret, StreamId, TaskId, Text},
};
use tokio::sync::oneshot;

use crate::{
    lock::lock,
    store::{Archived, Kind, Outcome},
};

/// When a device that is turned away over a gateway should try again, in seconds. That costs the server one small connection
/// of a gateway that it mostly knows; and what is put right here or at the gateway, nobody should have to tell the device.
pub const WIRED_RETRY: u32 = 30;

/// When a device that is not known by its own key should try again, in seconds: someone may have enrolled it by then.
pub const UNKNOWN_RETRY: u32 = 60;

/// When a clone should try again, in seconds: its original may be gone by then.
pub const CLONE_RETRY: u32 = 300;

/// The longest text of a farewell, in bytes: what is longer is cut on its way.
const LONGEST_DETAIL: usize = 128;

/// How a connection is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub reason: CloseReason,
    /// When the device should come back, in seconds; 0 leaves that to the device.
    pub retry_after: u32,
    /// The reason in words.
    pub detail: String,
}

impl Farewell {
    /// An end for this reason, with nothing said of coming back.
    pub fn new(reason: CloseReason, detail: impl Into<String>) -> Self {
        Self { reason, retry_after: 0, detail: detail.into() }
    }

    /// A device is turned away over a gateway, and this is why; what lets it in is `holdfast enroll`. The command stands there
    /// whole, or without its names where there is no room for them.
    pub fn over_gateway(reason: CloseReason, why: &str, name: &str, gateway: &str) -> Self {
        let whole = format!("{why}: `holdfast enroll --name {name} --gateway {gateway}`");
        let detail = match Text::<LONGEST_DETAIL>::new(&whole) {
            Some(_) => whole,
            None => format!("{name}: {why}: `holdfast enroll --gateway`"),
        };
        Self::new(reason, detail).retry_after(WIRED_RETRY)
    }

    /// The device should come back after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    /// The farewell as it is sent.
    pub fn close(&self) -> Close<'_> {
        Close { reason: self.reason, retry_after: self.retry_after, detail: Text::shortened(&self.detail) }
    }
}

/// What a device is told about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// To run it.
    Run {
        /// Its name on the wire.
        task: TaskId,
        /// What it is.
        kind: Kind,
        /// What the one who asks may do.
        role: Role,
        /// Who asks.
        who: String,
        /// What shows that a data connection is its own.
        key: Secret,
        /// For how long it may run, in seconds; 0 for as long as it likes.
        limit: u32,
        /// What the kind says.
        parameters: Vec<u8>,
    },
    /// To stop it.
    Stop {
        /// Its name on the wire.
        task: TaskId,
        /// Why.
        detail: String,
    },
}

/// What is in the mailbox.
#[derive(Debug, Default)]
pub struct Requests {
    /// The newest message that is archived: it stands for all before it.
    pub archived: Option<Echo>,
    /// A message's number was archived before, with other content.
    pub conflict: Option<Echo>,
    /// The store could not keep a message: nothing after it may be echoed.
    pub store_failed: bool,
    /// Messages for the device wait in the store.
    pub deliver: bool,
    /// What the device is told about tasks, in this order.
    pub instructions: Vec<Instruction>,
    /// Who waits for the device's next sign of life.
    pub pings: Vec<oneshot::Sender<Duration>>,
    /// The connection is to end.
    pub close: Option<Farewell>,
}

impl Requests {
    /// The farewell that these requests ask for, if one does.
    pub fn farewell(&self) -> Option<Farewell> {
        if let Some(Echo { stream, number }) = self.conflict {
            let detail =
                format!("message {number} of stream {stream} was archived before with other content");
            return Some(Farewell::new(CloseReason::Conflict, detail).retry_after(1));
        }
        if self.store_failed {
            let detail = "the server could not write a message; nothing is lost, send it again";
            return Some(Farewell::new(CloseReason::Overloaded, detail).retry_after(5));
        }
        self.close.clone()
    }
}

/// A connection's mailbox. Putting something in never waits.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Requests,
    has_requests: bool,
    waker: Option<Waker>,
}

/// The most callers that wait for one connection's sign of life; more are told that there is none.
const MAX_PINGS: usize = 64;

/// The most instructions that wait for one connection: more than a device may have tasks.
const MAX_INSTRUCTIONS: usize = 2 * MAX_TASKS;

impl Mailbox {
    /// Messages for the device wait in the store.
    pub fn deliver(&self) {
        self.put(|requests| requests.deliver = true);
    }

    /// Someone waits for a sign of life. The reply is dropped if there is none.
    pub fn ping(&self, reply: oneshot::Sender<Duration>) {
        self.put(|requests| {
            requests.pings.retain(|waiting| !waiting.is_closed());
            if requests.pings.len() < MAX_PINGS {
                requests.pings.push(reply);
            }
        });
    }

    /// The device is told something about a task. Where as much waits as may, it is left out: the task's deadlines see
    /// to what follows.
    pub fn instruct(&self, instruction: Instruction) {
        self.put(|requests| {
            if requests.instructions.len() < MAX_INSTRUCTIONS {
                requests.instructions.push(instruction);
            }
        });
    }

    /// The connection is to end. The first reason stands.
    pub fn close(&self, farewell: Farewell) {
        self.put(|requests| {
            requests.close.get_or_insert(farewell);
        });
    }

    /// Everything that was put in since the last call; waits for the first.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Requests> {
        let mut state = lock(&self.state);
        if !state.has_requests {
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        state.has_requests = false;
        Poll::Ready(std::mem::take(&mut state.requests))
    }

    fn put(&self, write: impl FnOnce(&mut Requests)) {
        let waker = {
            let mut state = lock(&self.state);
            write(&mut state.requests);
            state.has_requests = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Archived for Arc<Mailbox> {
    fn archived(&self, stream: u64, number: u64, outcome: Outcome) {
        let echo = Echo { stream: StreamId(stream), number };
        self.put(|requests| match outcome {
            Outcome::New | Outcome::Repeat => requests.archived = Some(echo),
            Outcome::Conflict => requests.conflict = Some(echo),
            Outcome::Failed => requests.store_failed = true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_what_is_cut() {
        let longest = "n".repeat(63);
        for why in ["not enrolled for this gateway", "an operator took its rights away"] {
            let detail = |name: &str, gateway: &str| {
                Farewell::over_gateway(CloseReason::Revoked, why, name, gateway).detail
            };
            let short = detail("barometer", "pi");
            assert!(short.ends_with("`holdfast enroll --name barometer --gateway pi`"), "{short}");
            for (name, gateway) in [(&*longest, &*longest), (&*longest, "pi"), ("pi", &*longest)] {
                let detail = detail(name, gateway);
                assert!(detail.len() <= LONGEST_DETAIL && detail.contains(name), "{detail}");
                assert!(detail.contains(why) && detail.ends_with('`'), "{detail}");
            }
        }
    }
}
