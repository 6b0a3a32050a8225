//! How many there are of what comes and goes; and waiting until there are none.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// A count of things. Each is one more until it is dropped.
#[derive(Debug)]
pub struct Tally(watch::Sender<usize>);

/// One of those that are counted, as long as this is kept.
#[derive(Debug)]
pub struct Counted(watch::Sender<usize>);

impl Default for Tally {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Tally {
    /// One more, until what this gives is dropped.
    pub fn add(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// How many there are, as that changes from now on.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// Waits until there are none.
    pub async fn none(&self) {
        // It can't fail: the sender is our own.
        let _ = self.changes().wait_for(|count| *count == 0).await;
    }

    /// Waits until there have been none for so long.
    pub async fn none_for(&self, span: Duration) {
        let mut count = self.changes();
        while count.wait_for(|count| *count == 0).await.is_ok() {
            if timeout(span, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn none_for_a_while_begins_anew_with_each() {
        let (tally, start) = (Arc::<Tally>::default(), Instant::now());
        let seconds = Duration::from_secs;
        let first = tally.add();
        let coming = Arc::clone(&tally);
        tokio::spawn(async move {
            sleep(seconds(1)).await;
            drop(first);
            sleep(seconds(2)).await;
            drop(coming.add());
        });
        tally.none().await;
        assert_eq!((start.elapsed().as_secs(), tally.count()), (1, 0));
        tally.none_for(seconds(5)).await;
        assert_eq!(start.elapsed().as_secs(), 8);
    }
}
