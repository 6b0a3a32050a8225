//! Passwords: kept as argon2 hashes, and hashed one at a time on a thread of their own. A hash is dear on purpose, and
//! whoever tries many should not make others wait.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, phc::PasswordHash},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

/// Why a password can't be hashed or compared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// What it is to be compared with is none of our hashes.
    #[error("expected an argon2 hash, found something else")]
    NoHash,
    /// The hash function failed.
    #[error("can't hash the password: {0}")]
    Hash(password_hash::Error),
}

/// Hashes a password, with a salt of its own. Takes 19 MiB and some hundredths of a second.
///
/// # Errors
/// [`PasswordError::Hash`], if there is no memory for it, or no random number.
pub fn hash(password: &[u8]) -> Result<String, PasswordError> {
    let hash = Argon2::default().hash_password(password).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// Whether this is the password of the hash. Takes as long as to make it.
///
/// # Errors
/// [`PasswordError::NoHash`].
pub fn is_right(password: &[u8], hash: &str) -> Result<bool, PasswordError> {
    let hash =
        PasswordHash::new(hash).ok().filter(|hash| hash.hash.is_some()).ok_or(PasswordError::NoHash)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(PasswordError::NoHash),
    }
}

/// As many wait for the thread as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

type Job = Box<dyn FnOnce() + Send>;

/// A thread on which passwords are hashed and compared, one at a time: every thread that has made a hash keeps the
/// memory for it. The thread ends with this.
#[derive(Debug)]
pub struct Hasher {
    jobs: mpsc::Sender<Job>,
}

impl Hasher {
    /// A thread of this name, for which so many may wait; others wait for a place among them.
    pub fn start(name: &str, waiting: usize) -> Self {
        let (sender, mut jobs) = mpsc::channel::<Job>(waiting);
        let work = move || {
            while let Some(job) = jobs.blocking_recv() {
                // Nothing of the job is left behind, and those who come after it are served. The panic is in the log.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!(%error, "no thread can be had to compare passwords: none will be right");
        }
        Self { jobs: sender }
    }

    /// Does this on the thread, when it is its turn; nothing if there is no thread, or the work has panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (job, done) = job(work);
        self.jobs.send(job).await.ok()?;
        done.await.ok()
    }

    /// As [`Hasher::run`], where there is a place among those who wait.
    ///
    /// # Errors
    /// There is none.
    pub async fn try_run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Busy> {
        let (job, done) = job(work);
        match self.jobs.try_send(job) {
            Ok(()) => Ok(done.await.ok()),
            Err(TrySendError::Full(_)) => Err(Busy),
            Err(TrySendError::Closed(_)) => Ok(None),
        }
    }
}

/// The work, and where its result comes.
fn job<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (Job, oneshot::Receiver<T>) {
    let (sender, done) = oneshot::channel();
    let job = move || {
        // Whoever is gone meanwhile needs no answer.
        if !sender.is_closed() {
            let _ = sender.send(work());
        }
    };
    (Box::new(job), done)
}

#[cfg(test)]
mod tests {
    use super::{Hasher, PasswordError, hash, is_right};

    #[tokio::test]
    async fn a_password_is_right_by_its_own_hash_only() {
        let hasher = Hasher::start("test", 1);
        let made = hasher.run(|| hash(b"correct horse")).await.unwrap().unwrap();
        assert!(made.starts_with("$argon2id$"), "{made}");
        let judged = hasher.run(move || (is_right(b"correct horse", &made), is_right(b"horse", &made))).await;
        assert_eq!(judged, Some((Ok(true), Ok(false))));
        assert_eq!(is_right(b"x", "$argon2id$v=19"), Err(PasswordError::NoHash));
    }

    #[tokio::test]
    async fn a_panic_ends_one_job_and_no_other() {
        let hasher = Hasher::start("test", 1);
        assert_eq!(hasher.run(|| -> u8 { panic!("wanted by a test") }).await, None);
        assert_eq!(hasher.try_run(|| 7).await, Ok(Some(7)));
    }
}
