//! What waits for the writer: bounded in count and bytes, taken all at once.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::lock::lock;

/// A queue of many senders and one receiver, who takes everything that waits.
pub(super) struct Queue<T> {
    limits: Limits,
    state: Mutex<State<T>>,
    /// Wakes the receiver.
    filled: Condvar,
    /// Wakes the senders that wait for room.
    room: Notify,
}

/// How much may wait. What the receiver has taken and is at work on comes on top: at most as much again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

struct State<T> {
    items: Vec<T>,
    bytes: usize,
    closed: bool,
    /// Whether the receiver sleeps: if not, nobody needs to be woken.
    asleep: bool,
}

/// What the receiver got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// At least one item.
    Items,
    /// Nothing came in time.
    Nothing,
    /// Nothing waits and nothing more will come.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State { items: Vec::new(), bytes: 0, closed: false, asleep: false };
        Self { limits, state: Mutex::new(state), filled: Condvar::new(), room: Notify::new() }
    }

    /// Adds an item if there is room; gives it back if there is none, or the queue is closed.
    pub(super) fn try_push(&self, item: T, bytes: usize) -> Result<(), Refused<T>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed(item));
        }
        // An item larger than the limit passes when it is alone, or it would never pass.
        let full = state.items.len() >= self.limits.items
            || (!state.items.is_empty() && state.bytes.saturating_add(bytes) > self.limits.bytes);
        if full {
            return Err(Refused::Full(item));
        }
        state.items.push(item);
        state.bytes = state.bytes.saturating_add(bytes);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Adds an item, and waits for room where there is none; gives it back if the queue is closed.
    pub(super) async fn push(&self, mut item: T, bytes: usize) -> Result<(), T> {
        loop {
            item = match self.try_push(item, bytes) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(item)) => return Err(item),
                Err(Refused::Full(item)) => item,
            };
            let mut room = std::pin::pin!(self.room.notified());
            // Listen first and look again after it, or room made in between would go unnoticed.
            room.as_mut().enable();
            item = match self.try_push(item, bytes) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(item)) => return Err(item),
                Err(Refused::Full(item)) => item,
            };
            room.await;
        }
    }

    /// Moves all that waits into `items`, which must be empty; waits for it until `deadline` (without one, for ever).
    pub(super) fn take(&self, items: &mut Vec<T>, deadline: Option<Instant>) -> Taken {
        let mut state = lock(&self.state);
        while state.items.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            state.asleep = true;
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.asleep = false;
                    return Taken::Nothing;
                }
                Some(left) => self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        state.asleep = false;
        std::mem::swap(&mut state.items, items);
        state.bytes = 0;
        drop(state);
        self.room.notify_waiters();
        Taken::Items
    }

    /// Nothing more is accepted; what waits is still taken.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
        self.room.notify_waiters();
    }

    /// How many items and bytes wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.items.len(), state.bytes)
    }
}

/// An item that was not accepted.
pub(super) enum Refused<T> {
    /// There is no room now.
    Full(T),
    /// There will never be room again.
    Closed(T),
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{Limits, Queue, Refused, Taken};

    fn queue() -> Queue<u32> {
        Queue::new(Limits { items: 3, bytes: 100 })
    }

    #[test]
    fn takes_all_that_waits_in_order() {
        let queue = queue();
        for item in 1..=3 {
            assert!(queue.try_push(item, 10).is_ok());
        }
        assert!(matches!(queue.try_push(4, 0), Err(Refused::Full(4))));
        assert_eq!(queue.waiting(), (3, 30));
        let mut items = Vec::new();
        assert_eq!(queue.take(&mut items, None), Taken::Items);
        assert_eq!(items, [1, 2, 3]);
        items.clear();
        assert_eq!(queue.take(&mut items, Some(Instant::now())), Taken::Nothing);
    }

    #[test]
    fn bytes_are_bounded_but_a_giant_passes_alone() {
        let queue = queue();
        assert!(queue.try_push(1, 1_000).is_ok());
        assert!(matches!(queue.try_push(2, 1), Err(Refused::Full(2))));
    }

    #[test]
    fn closing_lets_the_rest_be_taken() {
        let queue = queue();
        assert!(queue.try_push(1, 0).is_ok());
        queue.close();
        assert!(matches!(queue.try_push(2, 0), Err(Refused::Closed(2))));
        let mut items = Vec::new();
        assert_eq!(queue.take(&mut items, None), Taken::Items);
        items.clear();
        assert_eq!(queue.take(&mut items, None), Taken::Closed);
    }

    #[tokio::test]
    async fn a_full_queue_makes_senders_wait_and_loses_nothing() {
        let queue = Arc::new(queue());
        let senders: Vec<_> = (0..50)
            .map(|item| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.push(item, 40).await.is_ok() })
            })
            .collect();
        let receiver = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while all.len() < 50 {
                    let mut items = Vec::new();
                    assert_eq!(queue.take(&mut items, None), Taken::Items);
                    assert!(items.len() <= 3);
                    all.append(&mut items);
                }
                all.sort_unstable();
                all
            })
        };
        for sender in senders {
            assert!(sender.await.unwrap());
        }
        let all = tokio::task::spawn_blocking(move || receiver.join().unwrap()).await.unwrap();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}
