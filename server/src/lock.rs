//! Locks that are never poisoned for good.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also where somebody has panicked with the lock. Nothing that can panic is to be done under one: then what it
/// guards is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
