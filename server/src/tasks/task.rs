//! A task, as it is to whoever asked for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};

use super::{
    DataConnection, Standing, TaskError,
    count::ByteCount,
    live::{LiveTask, News, Wish},
    watcher::REFUSED,
};
use crate::store::{Store, TaskId, TaskState};

/// A task that was asked for.
///
/// If it is dropped before it has ended, it is stopped: nobody is left who wants it.
pub struct Task {
    live: Arc<LiveTask>,
    data: oneshot::Receiver<DataConnection>,
    standing: watch::Receiver<Standing>,
    store: Store,
    count_interval: Duration,
    is_left: bool,
}

impl Task {
    pub(super) fn new(
        live: Arc<LiveTask>,
        data: oneshot::Receiver<DataConnection>,
        store: Store,
        count_interval: Duration,
    ) -> Self {
        let standing = live.standing.subscribe();
        Self { live, data, standing, store, count_interval, is_left: false }
    }

    /// Its number.
    pub fn id(&self) -> TaskId {
        self.live.identity.id
    }

    /// Waits until the device has brought the task's bytes.
    ///
    /// # Errors
    /// [`TaskError::Ended`] if the task ends before that, [`TaskError::Refused`] if the device does not take it.
    pub async fn bytes(&mut self) -> Result<DataConnection, TaskError> {
        match (&mut self.data).await {
            Ok(data) => Ok(data),
            Err(_) => {
                // Whoever was to bring them had them, and has gone: a task that ends by itself does not mind.
                self.live.wish(Wish::End("its data connection broke before it was used".to_owned()));
                let ended = self.reached(|state| state.is_end()).await;
                let reason = ended.reason.unwrap_or_else(|| "the task has ended".to_owned());
                Err(match reason.starts_with(REFUSED) {
                    true => TaskError::Refused(reason),
                    false => TaskError::Ended(reason),
                })
            }
        }
    }

    /// Waits until the task is to stop, or has ended; gives why.
    pub async fn stopped(&mut self) -> Standing {
        self.reached(|state| state >= TaskState::Stopping).await
    }

    /// Waits until it has ended and that is written down; gives how. Somebody else may have the task meanwhile.
    pub(crate) fn ended(&self) -> impl Future<Output = Standing> + use<> {
        let mut standing = self.standing.clone();
        async move {
            match standing.wait_for(|standing| standing.state.is_end()).await {
                Ok(ended) => ended.clone(),
                Err(_) => Standing::new(TaskState::Lost, "nobody watches it any longer"),
            }
        }
    }

    /// Waits until the task runs, or has ended.
    pub async fn running(&mut self) -> Standing {
        self.reached(|state| state >= TaskState::Running).await
    }

    async fn reached(&mut self, is_it: impl Fn(TaskState) -> bool) -> Standing {
        match self.standing.wait_for(|standing| is_it(standing.state)).await {
            Ok(standing) => standing.clone(),
            Err(_) => self.live.standing.borrow().clone(),
        }
    }

    /// What keeps how many bytes it has carried.
    pub(crate) fn byte_count(&self) -> ByteCount {
        ByteCount::new(self.store.clone(), self.live.identity.code, self.count_interval)
    }

    /// Its bytes have ended: so has it.
    pub(crate) async fn finish(mut self, standing: Standing) {
        self.live.tell(News::Finished(standing)).await;
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
