//! The thread that keeps the queues: what waits at once shares one transaction, and one sync.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use crate::{
    config::Config,
    inbox::{self, Inbox},
    outbox::{self, Outbox},
    queue::QueueError,
    state::StateDirectory,
};

/// The most that shares one transaction.
const AT_ONCE: usize = 256;

/// How long after an echo it is written down, if nothing else is written before.
const ECHO_DELAY: Duration = Duration::from_secs(2);

/// Both queues.
#[derive(Debug)]
pub struct Queues {
    /// To the server.
    pub outbox: Outbox,
    /// From the server.
    pub inbox: Inbox,
}

impl Queues {
    /// Opens both queues of an agent, and makes them if there are none.
    ///
    /// # Errors
    /// [`QueueError`] of the databases.
    pub fn open(state: &StateDirectory, config: &Config) -> Result<Self, QueueError> {
        Ok(Self { outbox: Outbox::open(state, config.outbox)?, inbox: Inbox::open(state, config.inbox)? })
    }

    /// Makes safe what was asked for.
    ///
    /// # Errors
    /// Of the databases: nothing that was asked for since the last commit may be relied on.
    pub fn commit(&mut self) -> Result<(), QueueError> {
        let result = self.outbox.commit().and_then(|()| self.inbox.commit());
        if result.is_err() {
            self.outbox.roll_back();
            self.inbox.roll_back();
        }
        result
    }

    /// Where both stand.
    ///
    /// # Errors
    /// Of the databases.
    pub fn levels(&mut self) -> Result<Levels, QueueError> {
        Ok(Levels {
            outbox: self.outbox.marks()?,
            inbox: self.inbox.marks()?,
            commits: self.outbox.commits(),
        })
    }
}

/// Where both queues stood after the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// The queue to the server.
    pub outbox: outbox::Marks,
    /// The queue from the server.
    pub inbox: inbox::Marks,
    /// Commits of the outbox since the start, each of them one sync.
    pub commits: u64,
}

/// What is asked of the thread: its answer is sent when the commit has gone well, or not.
type Job = Box<dyn FnOnce(&mut Queues) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), QueueError>)>;

/// An answer that will come.
pub type Asked<T> = oneshot::Receiver<Result<T, QueueError>>;

/// The queues, as the tasks of the agent reach them.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    levels: watch::Receiver<Levels>,
}

impl Store {
    /// Starts the thread. It ends, having written down what it knows, when all `Store`s are dropped.
    ///
    /// # Errors
    /// The databases can't be read, or the system has no thread left.
    pub fn start(mut queues: Queues) -> Result<(Self, JoinHandle<()>), QueueError> {
        let (jobs, waiting) = mpsc::channel();
        let (news, levels) = watch::channel(queues.levels()?);
        let thread = thread::Builder::new()
            .name("store".into())
            .stack_size(256 * 1024)
            .spawn(move || keep(queues, &waiting, &news))
            .map_err(|_| QueueError::Stopping)?;
        Ok((Self { jobs, levels }, thread))
    }

    /// Has `work` done on the queues. The answer comes after what it wrote is on disk.
    pub fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Queues) -> Result<T, QueueError> + Send + 'static,
    ) -> Asked<T> {
        let (sender, asked) = oneshot::channel();
        let job: Job = Box::new(move |queues| {
            let result = work(queues);
            Box::new(move |committed| {
                let _ = sender.send(committed.and(result));
            })
        });
        // If the thread has ended, the sender is dropped with the job, and the answer says so.
        let _ = self.jobs.send(job);
        asked
    }

    /// Has `work` done on the queues, where nobody waits for it.
    pub fn tell(&self, work: impl FnOnce(&mut Queues) -> Result<(), QueueError> + Send + 'static) {
        drop(self.ask(work));
    }

    /// Has the queues looked at anew: another process may have written.
    pub fn look_again(&self) {
        self.tell(|_| Ok(()));
    }

    /// Where the queues stand, and word of each change.
    pub fn levels(&self) -> watch::Receiver<Levels> {
        self.levels.clone()
    }
}

/// Waits for an answer.
///
/// # Errors
/// What was asked for went wrong, or the thread has ended.
pub async fn answer<T>(asked: &mut Asked<T>) -> Result<T, QueueError> {
    asked.await.unwrap_or(Err(QueueError::Stopping))
}

fn keep(mut queues: Queues, waiting: &mpsc::Receiver<Job>, news: &watch::Sender<Levels>) {
    let mut echoes_due = None;
    loop {
        let first = match next_job(waiting, echoes_due) {
            Next::Job(job) => Some(job),
            Next::EchoesDue => None,
            Next::Ended => break,
        };
        let more = std::iter::from_fn(|| waiting.try_recv().ok());
        let jobs: Vec<Job> = first.into_iter().chain(more).take(AT_ONCE).collect();
        if jobs.is_empty() {
            note(queues.outbox.write_down_echoes());
        }
        let answers: Vec<Answer> = jobs.into_iter().map(|job| job(&mut queues)).collect();
        let committed = queues.commit();
        note(committed.clone());
        // First the news, so that whoever got an answer sees where the queues stand now.
        match queues.levels() {
            Ok(levels) => {
                news.send_if_modified(|known| std::mem::replace(known, levels) != levels);
            }
            Err(error) => note(Err(error)),
        }
        answers.into_iter().for_each(|answer| answer(committed.clone()));
        if !queues.outbox.has_unwritten_echoes() {
            echoes_due = None;
        } else if echoes_due.is_none_or(|due| due <= Instant::now()) {
            echoes_due = Some(Instant::now() + ECHO_DELAY);
        }
    }
    note(queues.outbox.write_down_echoes().and_then(|()| queues.commit()));
}

enum Next {
    Job(Job),
    EchoesDue,
    Ended,
}

fn next_job(waiting: &mpsc::Receiver<Job>, echoes_due: Option<Instant>) -> Next {
    let Some(due) = echoes_due else {
        return waiting.recv().map_or(Next::Ended, Next::Job);
    };
    match waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(job) => Next::Job(job),
        Err(mpsc::RecvTimeoutError::Timeout) => Next::EchoesDue,
        Err(mpsc::RecvTimeoutError::Disconnected) => Next::Ended,
    }
}

fn note(result: Result<(), QueueError>) {
    if let Err(error) = result {
        tracing::error!(%error, "the queues can't be written");
    }
}

#[cfg(test)]
mod tests {
    use protocol_core::message::StreamId;

    use super::*;
    use crate::outbox::NewMessage;

    fn message(number: u64) -> NewMessage {
        let (source, body) = ((StreamId(1), number), b"hello".to_vec());
        NewMessage { source, is_named: false, time: 0, kind: "text".into(), body }
    }

    fn store() -> (tempfile::TempDir, Store, JoinHandle<()>) {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(root.path()).unwrap();
        let (store, thread) = Store::start(Queues::open(&state, &Config::default()).unwrap()).unwrap();
        (root, store, thread)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_at_once_shares_a_sync() {
        let (_root, store, _) = store();
        // While the thread is busy with the first, the others gather.
        let (go, stopped) = mpsc::channel::<()>();
        store.tell(move |_| {
            let _ = stopped.recv();
            Ok(())
        });
        let asked: Vec<_> =
            (1..=200).map(|number| store.ask(move |queues| queues.outbox.put(&message(number)))).collect();
        go.send(()).unwrap();
        for (mut asked, position) in asked.into_iter().zip(1..) {
            assert_eq!(answer(&mut asked).await, Ok(position));
        }
        assert!(store.levels().borrow().commits <= 2, "{:?}", store.levels().borrow());
        assert_eq!(store.levels().borrow().outbox.last, 200);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn echoes_are_written_down_with_what_is_written_next_or_at_the_end() {
        let (root, store, thread) = store();
        for number in 1..=3 {
            answer(&mut store.ask(move |queues| queues.outbox.put(&message(number)))).await.unwrap();
        }
        let before = store.levels().borrow().commits;
        answer(&mut store.ask(|queues| queues.outbox.echoed(2))).await.unwrap();
        assert_eq!(store.levels().borrow().outbox.waiting(), 1);
        assert_eq!(store.levels().borrow().commits, before, "an echo alone cost a sync");
        drop(store);
        thread.join().unwrap();
        let state = StateDirectory::open(root.path()).unwrap();
        let mut queues = Queues::open(&state, &Config::default()).unwrap();
        assert_eq!(queues.outbox.marks().unwrap().echoed, 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn when_the_disk_fails_nobody_is_told_that_it_went_well() {
        let (root, store, _) = store();
        let mut first = store.ask(|queues| queues.outbox.put(&message(1)));
        answer(&mut first).await.unwrap();
        let other = rusqlite::Connection::open(root.path().join("outbox.db")).unwrap();
        other
            .execute_batch(
                "CREATE TRIGGER bad BEFORE UPDATE ON mark BEGIN SELECT RAISE(ROLLBACK, 'broken'); END",
            )
            .unwrap();
        let mut second = store.ask(|queues| queues.outbox.put(&message(2)));
        assert!(matches!(answer(&mut second).await, Err(QueueError::Database { .. })));
        other.execute_batch("DROP TRIGGER bad").unwrap();
        let mut third = store.ask(|queues| queues.outbox.put(&message(3)));
        assert_eq!(answer(&mut third).await, Ok(2), "the failed one left nothing behind");
    }
}
