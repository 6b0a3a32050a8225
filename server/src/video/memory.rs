//! How much memory pictures take, of all cameras and for all who look: however devices and viewers work together, they can't
//! fill it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// So many bytes of pictures may be held. Where there are more, only those wait who take them at once.
const MOST: usize = 256 * 1024 * 1024;

/// The pictures that are held.
#[derive(Debug)]
pub(super) struct Memory {
    held: AtomicUsize,
    most: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Memory {
    /// Room for so many bytes.
    pub(super) fn of(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// Whether more is held than may be.
    pub(super) fn is_full(&self) -> bool {
        self.held.load(Relaxed) > self.most
    }

    /// Counts so many bytes, until what this gives is dropped.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Relaxed);
        Held { memory: Arc::clone(self), bytes }
    }
}

/// Bytes that are held.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Relaxed);
    }
}
