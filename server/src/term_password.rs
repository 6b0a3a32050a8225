//! The password that lets a classic client stop the server.
//!
//! It is kept as an argon2 hash in a file of its own beside the store, which is read at each attempt: a new password
//! is in force at once. Attempts are limited, for each address and in how many are hashed at a time: a hash is dear on
//! purpose.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    mem,
    net::{IpAddr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, phc::PasswordHash},
};
use protocol_core::classic::MAX_PASSWORD;
use tokio::sync::{mpsc, oneshot};

use crate::files;

#[cfg(test)]
mod tests;

/// The name of the file with the hash, in the data directory.
pub const FILE: &str = "term-password";

/// How many attempts an address has at once.
const ATTEMPTS: u32 = 5;

/// How long an address waits for each attempt after these.
const REFILL: Duration = Duration::from_secs(10);

/// How many addresses are remembered. While all of them wait for attempts, new ones get none.
const MAX_ADDRESSES: usize = 10_000;

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
    #[error("can't hash the password: {0}")]
    Hash(password_hash::Error),
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
    let hash = Argon2::default().hash_password(password).map_err(TermPasswordError::Hash)?;
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
    limit: Mutex<RateLimit>,
    hasher: mpsc::Sender<Attempt>,
}

/// A password that came, and who waits for the verdict.
type Attempt = (Vec<u8>, oneshot::Sender<Result<Verdict, TermPasswordError>>);

/// What tells one file from another in its place: when it was written, in nanoseconds, and its inode.
type Stamp = (i64, i64, u64);

impl TermPassword {
    /// The password of the server with this data directory, set or not.
    pub fn new(data: &Path) -> Self {
        let path = data.join(FILE);
        Self {
            stamp: Mutex::new(stamp(&path)),
            hasher: start_hasher(path.clone()),
            path,
            limit: Mutex::default(),
        }
    }

    /// Whether the password was set since the last call, or since the start.
    pub fn was_set(&self) -> bool {
        let now = stamp(&self.path);
        let before = mem::replace(&mut *self.stamp.lock().unwrap_or_else(PoisonError::into_inner), now);
        now.is_some() && now != before
    }

    /// Compares what came from `address` with the password that is set now.
    ///
    /// # Errors
    /// [`TermPasswordError`], if the file can't be used: then no password is right.
    pub async fn attempt(&self, address: IpAddr, password: &[u8]) -> Result<Verdict, TermPasswordError> {
        let allowed =
            self.limit.lock().unwrap_or_else(PoisonError::into_inner).allow(address, Instant::now());
        if !allowed {
            return Ok(Verdict::Limited);
        }
        let (verdict, compared) = oneshot::channel();
        let ended = || TermPasswordError::File {
            action: "compare with",
            path: self.path.clone(),
            source: io::Error::other("the thread for it has ended"),
        };
        self.hasher.send((password.to_vec(), verdict)).await.map_err(|_| ended())?;
        compared.await.map_err(|_| ended())?
    }
}

/// Compares passwords one at a time, on a thread of its own: a hash takes 19 MiB, and every thread that has made one
/// keeps them. The thread ends with the sender.
fn start_hasher(path: PathBuf) -> mpsc::Sender<Attempt> {
    let (sender, mut attempts) = mpsc::channel::<Attempt>(1);
    let hash = move || {
        while let Some((password, verdict)) = attempts.blocking_recv() {
            // The client may not have waited for it.
            let _ = verdict.send(compare(&path, &password));
        }
    };
    if let Err(error) = thread::Builder::new().name("term-password".to_owned()).spawn(hash) {
        tracing::error!(%error, "no thread can be had to compare TERM passwords: none will be right");
    }
    sender
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
    let no_hash = || TermPasswordError::NoHash { path: path.to_owned() };
    let hash =
        PasswordHash::new(hash.trim_end()).ok().filter(|hash| hash.hash.is_some()).ok_or_else(no_hash)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(Verdict::Accepted),
        Err(password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(_) => Err(no_hash()),
    }
}

/// When each address that has made attempts will have all of its attempts again.
#[derive(Debug, Default)]
struct RateLimit {
    full: HashMap<IpAddr, Instant>,
}

impl RateLimit {
    fn allow(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = holder(address);
        if self.full.len() >= MAX_ADDRESSES && !self.full.contains_key(&address) {
            self.full.retain(|_, full| *full > now);
            if self.full.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let full = self.full.get(&address).map_or(now, |full| now.max(*full)) + REFILL;
        let allowed = full <= now + REFILL * ATTEMPTS;
        if allowed {
            self.full.insert(address, full);
        }
        allowed
    }
}

/// Who an address belongs to: with IPv6 one holder has all addresses of a /64 network.
fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}
