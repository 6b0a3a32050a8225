//! How many bytes a task has carried: written down now and then, so that little of it is lost where the server dies.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::store::{RandomId, Store};

/// Keeps how many bytes came from a task's device, and went to it.
pub(crate) struct ByteCount {
    store: Store,
    task: RandomId,
    interval: Interval,
    noted: (u64, u64),
    /// The last note, which may still be on its way.
    writing: Option<JoinHandle<()>>,
}

impl ByteCount {
    /// Nothing has been carried yet.
    pub(super) fn new(store: Store, task: RandomId, every: Duration) -> Self {
        let mut interval = interval_at(Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { store, task, interval, noted: (0, 0), writing: None }
    }

    /// Waits until it is time to write them down.
    pub(crate) async fn due(&mut self) {
        self.interval.tick().await;
    }

    /// Writes them down if there are more, and waits for nothing: where the disk is slow, the next time will do.
    pub(crate) fn note(&mut self, bytes: (u64, u64)) {
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if self.noted == bytes || is_writing {
            return;
        }
        self.noted = bytes;
        self.writing = Some(tokio::spawn(write(self.store.clone(), self.task, self.noted)));
    }

    /// Writes down how many there were in all.
    pub(crate) async fn finish(self, bytes: (u64, u64)) {
        if let Some(writing) = self.writing {
            // It must not come behind the last one. What went wrong has been told.
            let _ = writing.await;
        }
        write(self.store, self.task, bytes).await;
    }
}

async fn write(store: Store, task: RandomId, (bytes_in, bytes_out): (u64, u64)) {
    if let Err(error) = store.count_task(task, bytes_in, bytes_out).await {
        tracing::error!(%error, "the bytes of a task could not be written down");
    }
}
