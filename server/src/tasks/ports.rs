//! The ports behind which devices are found: one for each session, and who keeps which beyond that.
//!
//! sshd ends no login at our word, so a device can go on listening on the port of a session that is over, and begin again
//! on one that was free. Such a port is *kept*. None that a device had is given to another one before thousands of others.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::TaskError;
use crate::{
    config::SshAccount,
    event::{EventKind, NewEvent},
    lock::lock,
    socket_table::SocketTable,
    ssh_account::{self, SshAccountError},
    store::{DeviceId, Store, StoreError},
};

/// How often another port is tried for where the system gives one that was given before.
const ATTEMPTS: usize = 64;

/// How many ports are remembered, so that they are not given again: the system has three times as many.
const REMEMBERED: usize = 8 * 1024;

/// How many logins are answered for each session: one asks twice, and is tried three times.
pub(super) const ANSWERS: usize = 6;

/// A device that keeps so many ports has no further session.
pub(super) const MOST_KEPT: usize = 4;

/// All ports that devices had.
#[derive(Clone)]
pub(super) struct Ports {
    account: Arc<SshAccount>,
    store: Store,
    /// How long a login may take to go behind the end of its session.
    farewell: Duration,
    book: Arc<Mutex<Book>>,
}

/// A port that a session has, until this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    /// The account's user, whose socket has to listen there.
    pub(super) user: u32,
    book: Arc<Mutex<Book>>,
}

impl Ports {
    pub(super) fn new(account: SshAccount, store: Store, farewell: Duration) -> Self {
        Self { account: Arc::new(account), store, farewell, book: Arc::default() }
    }

    /// On which ports a device may listen that logs in now: asked for more often than its sessions need, on none.
    pub(super) fn answer(&self, device: DeviceId) -> Vec<u16> {
        lock(&self.book).answer(device)
    }

    /// A port for a session with this device, and what the device has to be told.
    pub(super) async fn allot(&self, device: DeviceId) -> Result<(Port, Vec<u8>), TaskError> {
        let (user, sockets) = self.look().await?;
        let kept = lock(&self.book).kept(device);
        if kept.len() >= MOST_KEPT {
            return Err(SshAccountError::Kept(kept).into());
        }
        let ports = self.clone();
        blocking(move || {
            let port = ports.take(device, user, &sockets)?;
            let parameters = ssh_account::parameters(&ports.account, port.number)?;
            Ok((port, parameters))
        })
        .await
    }

    /// Looks who keeps a port, and writes down whom nobody has been told of yet. Gives the account's user, and who listens.
    pub(super) async fn look(&self) -> Result<(u32, SocketTable), TaskError> {
        let account = Arc::clone(&self.account);
        let (user, sockets) = blocking(move || {
            let user = ssh_account::user(&account)?;
            Ok((user, SocketTable::look().map_err(SshAccountError::Look)?))
        })
        .await?;
        let listening = sockets.ports_of(user).collect();
        let kept = lock(&self.book).look(&listening, Instant::now(), self.farewell);
        for (port, device) in kept {
            let event = NewEvent { device, ..NewEvent::new(EventKind::PortKept) };
            let text =
                format!("a device listens there, and no session does; {}", ssh_account::end_logins(&[port]));
            self.store.note(event.detail("port", port).detail("text", text)).await;
        }
        Ok((user, sockets))
    }

    fn take(&self, device: DeviceId, user: u32, sockets: &SocketTable) -> Result<Port, SshAccountError> {
        for _ in 0..ATTEMPTS {
            let number = ssh_account::free_port().map_err(SshAccountError::NoPort)?;
            if !sockets.has(number) && lock(&self.book).give(number, device) {
                return Ok(Port { number, user, book: Arc::clone(&self.book) });
            }
        }
        Err(SshAccountError::NoPort(io::Error::other("all were had by a session before")))
    }

    /// Those that a device may listen on.
    #[cfg(test)]
    pub(super) fn of(&self, device: DeviceId) -> Vec<u16> {
        lock(&self.book).waiting(device)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SshAccountError> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| StoreError::Closed)??)
}

impl Port {
    /// The session's bytes have come: nobody logs in by it a second time.
    pub(super) fn pass(&self) {
        lock(&self.book).set(self.number, Use::Passed);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&self.book).set(self.number, Use::Over { since: Instant::now(), is_kept: false });
    }
}

/// What is known of ports.
#[derive(Debug, Default)]
struct Book {
    given: HashMap<u16, Given>,
    /// How many were given.
    count: u64,
    /// How many more logins of a device are answered, as long as a port of its waits.
    answers: HashMap<DeviceId, usize>,
}

/// A port that a device had.
#[derive(Debug)]
struct Given {
    /// Unknown of those that an earlier server gave.
    device: Option<DeviceId>,
    /// Its place among all that were given.
    number: u64,
    state: Use,
    /// Whether it was written down that it is kept.
    is_told: bool,
}

/// What a port is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The device may log in by it.
    Waiting,
    /// It has, and the session goes on.
    Passed,
    /// The session is over; if it is kept, the device listens there all the same.
    Over { since: Instant, is_kept: bool },
}

impl Book {
    /// Gives a port to a device, if nobody had it.
    fn give(&mut self, port: u16, device: DeviceId) -> bool {
        if self.given.contains_key(&port) {
            return false;
        }
        if self.given.len() >= REMEMBERED {
            self.forget();
        }
        self.enter(port, Some(device), Use::Waiting);
        // What sessions before have not used is not for later ones.
        let most = ANSWERS * self.waiting(device).len();
        let answers = self.answers.entry(device).or_default();
        *answers = (*answers + ANSWERS).min(most);
        true
    }

    fn enter(&mut self, port: u16, device: Option<DeviceId>, state: Use) {
        self.count += 1;
        self.given.insert(port, Given { device, number: self.count, state, is_told: false });
    }

    /// Forgets the one that was given first, of those that nobody has or keeps.
    fn forget(&mut self) {
        let is_free = |given: &Given| matches!(given.state, Use::Over { is_kept: false, .. });
        let free = self.given.iter().filter(|(_, given)| is_free(given));
        if let Some(first) = free.min_by_key(|(_, given)| given.number).map(|(port, _)| *port) {
            self.given.remove(&first);
        }
    }

    fn set(&mut self, port: u16, state: Use) {
        let Some(given) = self.given.get_mut(&port) else { return };
        given.state = state;
        if let Some(device) = given.device.filter(|device| self.waiting(*device).is_empty()) {
            self.answers.remove(&device);
        }
    }

    fn waiting(&self, device: DeviceId) -> Vec<u16> {
        self.of(device, |state| state == Use::Waiting)
    }

    fn kept(&self, device: DeviceId) -> Vec<u16> {
        self.of(device, |state| matches!(state, Use::Over { is_kept: true, .. }))
    }

    fn of(&self, device: DeviceId, is_it: impl Fn(Use) -> bool) -> Vec<u16> {
        let is_its = |given: &Given| given.device == Some(device) && is_it(given.state);
        let mut found: Vec<_> =
            self.given.iter().filter(|(_, given)| is_its(given)).map(|(port, _)| *port).collect();
        found.sort_unstable();
        found
    }

    fn answer(&mut self, device: DeviceId) -> Vec<u16> {
        match self.answers.get_mut(&device) {
            Some(left @ 1..) => *left -= 1,
            _ => return Vec::new(),
        }
        self.waiting(device)
    }

    /// Takes in on which ports devices listen. Gives those that are kept, as far as nobody was told.
    fn look(
        &mut self,
        listening: &HashSet<u16>,
        now: Instant,
        farewell: Duration,
    ) -> Vec<(u16, Option<DeviceId>)> {
        let unknown: Vec<_> =
            listening.iter().filter(|port| !self.given.contains_key(port)).copied().collect();
        for port in unknown {
            self.enter(port, None, Use::Over { since: now, is_kept: false });
        }
        let mut kept = Vec::new();
        for (port, given) in &mut self.given {
            let Use::Over { since, is_kept } = &mut given.state else { continue };
            *is_kept = listening.contains(port) && now.duration_since(*since) >= farewell;
            if *is_kept && !given.is_told {
                given.is_told = true;
                kept.push((*port, given.device));
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAREWELL: Duration = Duration::from_secs(60);
    const DEVICE: DeviceId = DeviceId(1);
    const OTHER: DeviceId = DeviceId(2);

    fn over(book: &mut Book, port: u16, now: Instant) {
        book.set(port, Use::Over { since: now, is_kept: false });
    }

    #[test]
    fn a_port_is_given_once() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert!(book.give(1, DEVICE) && !book.give(1, DEVICE) && !book.give(1, OTHER));
        assert!(book.give(2, DEVICE) && book.give(3, OTHER));
        assert_eq!((book.waiting(DEVICE), book.waiting(OTHER)), (vec![1, 2], vec![3]));
        book.set(1, Use::Passed);
        over(&mut book, 2, now);
        assert!(book.waiting(DEVICE).is_empty() && !book.give(1, OTHER) && !book.give(2, OTHER));
    }

    #[test]
    fn the_oldest_that_nobody_has_is_forgotten() {
        let (mut book, now) = (Book::default(), Instant::now());
        let last = u16::try_from(REMEMBERED).unwrap();
        // One goes on, one is kept.
        for port in 1..=last {
            let over = Use::Over { since: now, is_kept: false };
            book.enter(port, Some(DEVICE), if port == 1 { Use::Passed } else { over });
        }
        book.look(&[2].into(), now + FAREWELL, FAREWELL);
        assert!(book.give(last + 1, OTHER) && book.given.len() == REMEMBERED);
        assert!(!book.give(1, OTHER) && !book.give(2, OTHER) && !book.give(4, OTHER));
        assert!(book.give(3, OTHER));
    }

    #[test]
    fn a_login_is_answered_a_few_times_for_each_session() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert!(book.answer(DEVICE).is_empty());
        for port in 1..=20 {
            assert!(book.give(port, DEVICE));
        }
        // As they come: each login asks twice, and its port is nobody's then.
        for port in 1..=20 {
            assert!(book.answer(DEVICE).contains(&port) && book.answer(DEVICE).contains(&port));
            book.set(port, Use::Passed);
        }
        assert!(book.answer(DEVICE).is_empty());
        assert!(book.give(21, DEVICE));
        for _ in 0..ANSWERS {
            assert_eq!(book.answer(DEVICE), [21]);
        }
        assert!(book.answer(DEVICE).is_empty());
        over(&mut book, 21, now);
        assert!(book.answers.is_empty());
        // What one session leaves is not for the next.
        assert!(book.give(22, DEVICE) && book.give(23, DEVICE));
        book.set(22, Use::Passed);
        assert!(book.give(24, DEVICE));
        assert_eq!(book.answers[&DEVICE], 2 * ANSWERS);
    }

    #[test]
    fn who_listens_long_behind_the_session_keeps_the_port() {
        let (mut book, start) = (Book::default(), Instant::now());
        for port in 1..=4 {
            assert!(book.give(port, DEVICE));
        }
        let all: HashSet<_> = [1, 2, 3, 9].into();
        book.set(1, Use::Passed);
        over(&mut book, 3, start);
        over(&mut book, 4, start);
        assert!(book.look(&all, start, FAREWELL).is_empty());
        let later = start + FAREWELL;
        let mut kept = book.look(&all, later, FAREWELL);
        kept.sort_unstable();
        // Of the last one an earlier server may know.
        assert_eq!(kept, [(3, Some(DEVICE)), (9, None)]);
        assert!(book.look(&all, later, FAREWELL).is_empty(), "each is told once");
        assert_eq!(book.kept(DEVICE), [3]);
        assert!(book.look(&[1, 2].into(), later, FAREWELL).is_empty() && book.kept(DEVICE).is_empty());
        // It begins again to listen where it was free.
        assert_eq!(book.look(&[4].into(), later, FAREWELL), [(4, Some(DEVICE))]);
        assert!(book.look(&[3].into(), later, FAREWELL).is_empty());
        assert_eq!(book.kept(DEVICE), [3]);
    }
}
