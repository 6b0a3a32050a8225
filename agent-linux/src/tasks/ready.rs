//! A process that is ready for the next task: started, and waiting for what it is to do.
//!
//! To start a program, and to set up TLS, takes as long as all else together that stands before the first byte of a session.
//! So a process is started for the next task when one has ended, and kept for a while. A device that nobody uses has none.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{assignment::Preparation, process::Process};

/// The process that is ready, if there is one.
pub(super) struct Ready {
    /// For how long behind the last task one is kept; nothing: there is none.
    keep: Duration,
    waiting: Mutex<Option<Waiting>>,
}

struct Waiting {
    process: Process,
    preparation: Preparation,
    until: Instant,
}

impl Ready {
    /// None yet. One is kept for so long; for no time at all: there is none.
    pub(super) fn new(keep: Duration) -> Arc<Self> {
        Arc::new(Self { keep, waiting: Mutex::default() })
    }

    /// A process that waits for what it is to do, and has made ready by this: the one that is ready, or a new one.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) async fn process(&self, preparation: &Preparation) -> io::Result<Process> {
        let waiting = self.waiting().take();
        if let Some(Waiting { mut process, preparation: by, .. }) = waiting
            && by == *preparation
            && process.is_there()
        {
            return Ok(process);
        }
        Process::start(preparation).await
    }

    /// Starts one, if there is none, and keeps it for a while from now on.
    pub(super) async fn prepare(self: &Arc<Self>, preparation: Preparation) {
        let until = Instant::now() + self.keep;
        if self.keep.is_zero() || self.goes_on(until) {
            return;
        }
        match Process::start(&preparation).await {
            Ok(process) => {
                let id = process.id();
                // Another one that has come meanwhile ends with this.
                *self.waiting() = Some(Waiting { process, preparation, until });
                tokio::spawn(Arc::clone(self).let_go(id, until));
            }
            // The next task says so, if that can't be started either.
            Err(error) => tracing::debug!(%error, "no process is ready for the next task"),
        }
    }

    /// Keeps the one that there is until then. Gives whether there is one.
    fn goes_on(&self, until: Instant) -> bool {
        self.waiting().as_mut().map(|waiting| waiting.until = until).is_some()
    }

    /// Ends this process when its time is over, unless it has a task by then.
    async fn let_go(self: Arc<Self>, id: i32, mut until: Instant) {
        loop {
            sleep_until(until).await;
            let over = {
                let mut waiting = self.waiting();
                match &*waiting {
                    Some(one) if one.process.id() == id && one.until > until => {
                        until = one.until;
                        continue;
                    }
                    Some(one) if one.process.id() == id => waiting.take(),
                    _ => return,
                }
            };
            if let Some(Waiting { process, .. }) = over {
                process.end().await;
            }
            return;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        // A panic leaves it as usable as it was.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
