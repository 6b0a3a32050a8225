//! Connections of which it is not yet known whose they are: only so many, and the newest before the oldest.
//!
//! A device is known within a moment of connecting. Whoever is still a stranger when the places are taken has had its
//! time: it makes way, so that strangers who only sit there keep nobody out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use crate::lock::lock;

/// The strangers of a listener.
#[derive(Debug)]
pub struct Strangers {
    limit: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    closed: bool,
    entered: u64,
    /// By when they came.
    taken: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Strangers {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, places: Mutex::default() })
    }

    /// Gives a newcomer a place; the oldest stranger makes way if there is none.
    pub fn enter(self: &Arc<Self>) -> Stranger {
        let (make_way, displaced) = oneshot::channel();
        let mut places = lock(&self.places);
        if places.taken.len() >= self.limit
            && let Some((_, oldest)) = places.taken.pop_first()
        {
            // It may just have become known.
            let _ = oldest.send(());
        }
        let number = places.entered;
        places.entered += 1;
        // Where there are no places any more, the newcomer makes way itself: its sender is dropped.
        if !places.closed {
            places.taken.insert(number, make_way);
        }
        Stranger { strangers: Arc::clone(self), number, displaced }
    }

    /// Every stranger makes way now, and whoever comes later at once.
    pub fn close(&self) {
        let mut places = lock(&self.places);
        places.closed = true;
        // What waits for a sender that is gone waits no longer.
        places.taken.clear();
    }
}

/// A stranger's place: free again when this is dropped.
#[derive(Debug)]
pub struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    displaced: oneshot::Receiver<()>,
}

impl Stranger {
    /// Waits until this stranger has to make way.
    pub async fn displaced(&mut self) {
        // The sender goes without a word where all places do.
        let _ = (&mut self.displaced).await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        lock(&self.strangers.places).taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{Strangers, lock};

    #[tokio::test]
    async fn the_oldest_makes_way_for_the_newest() {
        let strangers = Strangers::new(2);
        let (mut first, second) = (strangers.enter(), strangers.enter());
        drop(second);
        let mut third = strangers.enter();
        assert!(first.displaced.try_recv().is_err(), "there was room");
        let _fourth = strangers.enter();
        first.displaced().await;
        assert!(third.displaced.try_recv().is_err(), "one was enough");
        assert_eq!(lock(&strangers.places).taken.len(), 2);
    }

    #[tokio::test]
    async fn all_make_way_at_the_end() {
        let strangers = Strangers::new(2);
        let mut first = strangers.enter();
        strangers.close();
        first.displaced().await;
        strangers.enter().displaced().await;
    }
}
