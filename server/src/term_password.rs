//! The password that lets a classic client stop the server.
//!
//! It is kept as an argon2 hash in a file of its own beside the store, which is read at each attempt: a new password
//! is in force at once. Attempts are limited, for each address and in how many are hashed at a time: a hash is dear on
//! purpose.

use std::{
    fs::{self, File},
    io::{self, Read},
    mem,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use protocol_core::classic::MAX_PASSWORD;

use crate::{
    files,
    lock::lock,
    passwords::{self, Hasher, PasswordError},
    rate_limit::{RateLimit, holder},
};

#[cfg(test)]
mod tests;

/// The name of the file with the hash, in the data directory.
pub const FILE: &str = "term-password";

/// How many attempts an address has at once.
const ATTEMPTS: u32 = 5;

/// How long an address waits for each attempt after these.
const REFILL: Duration = Duration::from_secs(10);

/// Far more than any argon2 hash takes, in bytes.
const MAX_FILE: u64 = 1024;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password was right.
    Accepted,
    /// It was wrong.
    Wrong,
    /// There is no password, so none is right.
    NotSet,
    /// The address has made too many attempts; this one was not looked at.
    Limited,
}

/// Why a password can't be set or compared.
#[derive(Debug, thiserror::Error)]
pub enum TermPasswordError {
    /// An empty password would let everyone stop the server.
    #[error("the new one is empty; give one of 1 to {MAX_PASSWORD} bytes")]
    Empty,
    /// A longer password than a classic client could send.
    #[error("the new one is too long; give one of 1 to {MAX_PASSWORD} bytes")]
    TooLong,
    /// The file can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file holds something else than an argon2 hash.
    #[error("expected an argon2 hash in {}, found something else: set the password again", path.display())]
    NoHash {
        /// The file.
        path: PathBuf,
    },
    /// The hash function failed.
    #[error(transparent)]
    Hash(PasswordError),
}

/// Hashes the password and puts it in the place of the one before, at once or not at all.
///
/// The data directory is made if it is not there. The file belongs to the directory's owner, so that a server that
/// runs as that user can read what another administrator has set.
///
/// # Errors
/// [`TermPasswordError`]; the password before, if there was one, is then still in force.
pub fn set(data: &Path, password: &[u8]) -> Result<(), TermPasswordError> {
    match password.len() {
        0 => return Err(TermPasswordError::Empty),
        length if length > MAX_PASSWORD => return Err(TermPasswordError::TooLong),
        _ => {}
    }
    let hash = passwords::hash(password).map_err(TermPasswordError::Hash)?;
    let path = data.join(FILE);
    let made = if data.exists() { Ok(()) } else { files::create_private_directory(data) };
    made.and_then(|()| files::replace_private(&path, format!("{hash}\n").as_bytes()))
        .map_err(|source| TermPasswordError::File { action: "write", path, source })
}

/// The password of a running server, and who has tried it how often.
#[derive(Debug)]
pub struct TermPassword {
    path: PathBuf,
    stamp: Mutex<Option<Stamp>>,
    limit: RateLimit<IpAddr>,
    hasher: Hasher,
}

/// What tells one file from another in its place: when it was written, in nanoseconds, and its inode.
type Stamp = (i64, i64, u64);

impl TermPassword {
    /// The password of the server with this data directory, set or not.
    pub fn new(data: &Path) -> Self {
        let path = data.join(FILE);
        Self {
            stamp: Mutex::new(stamp(&path)),
            hasher: Hasher::start("term-password", 1),
            path,
            limit: RateLimit::new(ATTEMPTS, REFILL),
        }
    }

    /// Whether the password was set since the last call, or since the start.
    pub fn was_set(&self) -> bool {
        let now = stamp(&self.path);
        let before = mem::replace(&mut *lock(&self.stamp), now);
        now.is_some() && now != before
    }

    /// Compares what came from `address` with the password that is set now.
    ///
    /// # Errors
    /// [`TermPasswordError`], if the file can't be used: then no password is right.
    pub async fn attempt(&self, address: IpAddr, password: &[u8]) -> Result<Verdict, TermPasswordError> {
        if self.limit.take(holder(address), Instant::now()).is_err() {
            return Ok(Verdict::Limited);
        }
        let (path, password) = (self.path.clone(), password.to_vec());
        let compared = self.hasher.run(move || compare(&path, &password)).await;
        compared.unwrap_or_else(|| {
            Err(TermPasswordError::File {
                action: "compare with",
                path: self.path.clone(),
                source: io::Error::other("the thread for it has ended"),
            })
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.ino()))
}

fn compare(path: &Path, password: &[u8]) -> Result<Verdict, TermPasswordError> {
    let mut hash = String::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut hash)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::NotSet),
        Err(source) => {
            return Err(TermPasswordError::File { action: "read", path: path.to_owned(), source });
        }
    }
    match passwords::is_right(password, hash.trim_end()) {
        Ok(true) => Ok(Verdict::Accepted),
        Ok(false) => Ok(Verdict::Wrong),
        Err(_) => Err(TermPasswordError::NoHash { path: path.to_owned() }),
    }
}
