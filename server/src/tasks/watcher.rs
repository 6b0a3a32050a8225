//! Watches one task until it has ended: the only one that changes its state.

use std::{future::pending, time::Duration};

use protocol_core::{code, message};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    Standing, TaskKind, Tasks,
    live::{LiveTask, News, Wish},
};
use crate::{
    event::{EventKind, NewEvent},
    mailbox::Instruction,
    span,
    store::{StoreError, TaskChange, TaskState},
};

/// How long a task may be in states that nobody should have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the device to say that it starts it; and for the bytes of one that is said to run.
    pub accept: Duration,
    /// For the device to start it: agents give it up after 30 s, unless they are told otherwise.
    pub start: Duration,
    /// For the device to stop it.
    pub stop: Duration,
    /// For a device that is away.
    pub away: Duration,
    /// For the end of a task's bytes behind the device's word that it has ended, and for that word behind the end of its bytes.
    pub bytes: Duration,
    /// How often it is looked whether the device is there.
    pub look: Duration,
    /// How often the bytes of a session that goes on are written down.
    pub count: Duration,
    /// For a device to start anew: to go, and to come back.
    pub reboot: Duration,
    /// For a login to go behind the end of its session: sshd ends those that are not used within half of it.
    pub login: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            accept: Duration::from_secs(15),
            start: Duration::from_secs(90),
            stop: Duration::from_secs(15),
            away: Duration::from_secs(60),
            bytes: Duration::from_secs(5),
            look: Duration::from_secs(5),
            count: Duration::from_secs(60),
            reboot: Duration::from_secs(10 * 60),
            login: Duration::from_secs(60),
        }
    }
}

/// How long the next word is waited for behind the device's word that it starts a task: mostly it runs by then, and that alone
/// is written down.
const NEXT_WORD: Duration = Duration::from_millis(100);

/// How the reason begins where a device's own configuration does not allow a task.
pub(super) const REFUSED: &str = "the device refused";

/// How long to wait before an end that could not be written down is written again.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Watcher<'a> {
    tasks: &'a Tasks,
    live: &'a LiveTask,
    news: mpsc::Receiver<Box<News>>,
    wish: watch::Receiver<Option<Wish>>,
    state: TaskState,
    /// Since when.
    since: Instant,
    /// When the state lasts too long.
    deadline: Option<Instant>,
    /// Since when the device is away.
    away_since: Option<Instant>,
    /// What it has written, as the device said; it is kept with the next state.
    output: Option<Vec<u8>>,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(tasks: &'a Tasks, live: &'a LiveTask, news: mpsc::Receiver<Box<News>>) -> Self {
        let state = live.standing.borrow().state;
        let mut wish = live.wish.subscribe();
        // One may have been said already.
        wish.mark_changed();
        let since = Instant::now();
        Self { tasks, live, news, wish, state, since, deadline: None, away_since: None, output: None }
    }

    /// Runs until the task has ended, and that is on disk. Mostly it waits: what else it does is in boxes, that go.
    pub(super) async fn run(mut self) {
        if self.state == TaskState::Requested && self.live.is_resumed {
            self.go_to(Standing::new(TaskState::Failed, "the server ended before the device was asked"))
                .await;
        }
        self.set_deadline();
        let mut looks = interval(self.tasks.deadlines.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.state.is_end() {
            let next = tokio::select! {
                wish = wished(&mut self.wish) => Some(match wish {
                    Wish::Stop(reason) => Standing::new(TaskState::Stopping, reason),
                    Wish::End(reason) => Standing::new(TaskState::Failed, reason),
                }),
                news = self.news.recv() => match news {
                    Some(news) => Box::pin(self.judge_with_next(*news)).await,
                    None => return,
                },
                () = due(self.deadline) => self.overdue(),
                _ = looks.tick() => self.look(),
            };
            if let Some(next) = next {
                Box::pin(self.go_to(next)).await;
            }
        }
    }

    /// Ends it so, whatever is said and wished.
    async fn end(mut self, end: Standing) {
        self.go_to(end).await;
    }

    /// What follows from what was said, and from what is said just behind that it starts.
    async fn judge_with_next(&mut self, news: News) -> Option<Standing> {
        let said = self.judge(news).await?;
        if said.state != TaskState::Starting {
            return Some(said);
        }
        match timeout(NEXT_WORD, self.news.recv()).await {
            Ok(Some(news)) => Some(self.judge(*news).await.unwrap_or(said)),
            Ok(None) | Err(_) => Some(said),
        }
    }

    /// What follows from what was said; nothing if it changes nothing.
    async fn judge(&mut self, news: News) -> Option<Standing> {
        match news {
            News::Report { state, detail, output } => {
                let state = match state {
                    code::TaskState::Starting => TaskState::Starting,
                    code::TaskState::Running => TaskState::Running,
                    code::TaskState::Stopping => TaskState::Stopping,
                    code::TaskState::Done => TaskState::Done,
                    code::TaskState::Failed => TaskState::Failed,
                    code::TaskState::Refused => return Some(self.refused(detail).await),
                    code::TaskState::Other(_) => return None,
                };
                let next = self.end_if_wanted(Standing { state, reason: detail });
                self.output = output;
                // What its bytes were is known when they have ended.
                Some(if state.is_end() { self.after_bytes(next).await } else { next })
            }
            News::Unnamed { is_new: true } => {
                Some(Standing::new(TaskState::Lost, "the device's agent started anew meanwhile"))
            }
            // What was said last on a session is lost with it: it may not have heard of it.
            News::Unnamed { is_new: false } if self.state == TaskState::Requested => {
                self.tell_again();
                None
            }
            News::Unnamed { is_new: false } => {
                Some(Standing::new(TaskState::Lost, "the device does not have it any longer"))
            }
            News::Finished(end) => Some(self.after_word(end).await),
        }
    }

    /// Whoever wanted it to stop has said why, and has it as they wanted: however its process took that.
    fn end_if_wanted(&self, next: Standing) -> Standing {
        let is_stopping = self.state == TaskState::Stopping;
        let is_wished = self.live.wish.borrow().is_some();
        match next.state {
            TaskState::Done if is_stopping => Standing { reason: None, ..next },
            TaskState::Failed if is_stopping && is_wished => {
                Standing { state: TaskState::Done, reason: None }
            }
            _ => next,
        }
    }

    /// The bytes of one that is to stop have ended because of that, however they did.
    fn end_of_bytes(&self, end: Standing) -> Standing {
        match self.state {
            TaskState::Stopping => Standing { state: TaskState::Done, reason: None },
            _ => end,
        }
    }

    async fn refused(&self, detail: Option<String>) -> Standing {
        let detail = detail.unwrap_or_else(|| "its configuration does not allow it".to_owned());
        let kind = self.live.identity.kind.map_or("unknown", TaskKind::name);
        let event = NewEvent::new(EventKind::TaskRefused)
            .device(self.live.identity.device)
            .who(&self.live.identity.who)
            .detail("task", self.live.identity.id.0)
            .detail("kind", kind)
            .detail("reason", detail.as_str());
        self.tasks.store.note(event).await;
        Standing::new(TaskState::Failed, format!("{REFUSED}: {detail}"))
    }

    /// Waits a while for the end of the task's bytes, if it has some: whoever carried them knows how they ended.
    async fn after_bytes(&mut self, next: Standing) -> Standing {
        if !self.live.has_data() {
            return next;
        }
        let finished = async {
            while let Some(news) = self.news.recv().await {
                if let News::Finished(end) = *news {
                    return Some(end);
                }
            }
            None
        };
        match timeout(self.tasks.deadlines.bytes, finished).await {
            Ok(Some(end)) => match (self.end_of_bytes(end), next) {
                // The device knows why they broke.
                (
                    Standing { state: TaskState::Failed, .. },
                    next @ Standing { state: TaskState::Failed, .. },
                ) => next,
                (end, _) => end,
            },
            _ => next,
        }
    }

    /// Waits a while for the device's word of why it stopped the task, if its bytes broke: that word takes another connection.
    async fn after_word(&mut self, end: Standing) -> Standing {
        if self.state != TaskState::Running || end.state != TaskState::Failed || self.is_away() {
            return self.end_of_bytes(end);
        }
        let word = async {
            while let Some(news) = self.news.recv().await {
                let News::Report { state, detail, output } = *news else { continue };
                self.output = output.or_else(|| self.output.take());
                match state {
                    code::TaskState::Stopping => return detail,
                    code::TaskState::Done | code::TaskState::Failed => return None,
                    _ => {}
                }
            }
            None
        };
        match timeout(self.tasks.deadlines.bytes, word).await {
            Ok(Some(reason)) => Standing::new(TaskState::Done, reason),
            _ => end,
        }
    }

    /// The state has lasted too long.
    fn overdue(&mut self) -> Option<Standing> {
        // Its bytes may have come since: then there is another time to be kept.
        self.set_deadline();
        if self.deadline.is_some_and(|deadline| deadline > Instant::now()) {
            return None;
        }
        Some(match self.state {
            TaskState::Running if self.lacks_bytes() => {
                let limit = span::shortened(self.time_for_bytes());
                let reason = format!("the device says that it runs, and its bytes have not come in {limit}");
                Standing::new(TaskState::Failed, reason)
            }
            _ if self.goes_down() && self.is_away() => {
                let limit = span::shortened(self.limit());
                Standing::new(TaskState::Lost, format!("the device has not come back in {limit}"))
            }
            TaskState::Running if self.goes_down() => {
                let limit = span::shortened(self.limit());
                Standing::new(TaskState::Failed, format!("the device has not gone down in {limit}"))
            }
            TaskState::Running => Standing::new(TaskState::Stopping, "its time is over"),
            TaskState::Stopping => {
                let before = self.live.standing.borrow().reason.clone().unwrap_or_default();
                let limit = span::shortened(self.tasks.deadlines.stop);
                Standing::new(TaskState::Failed, format!("the device did not stop it in {limit} ({before})"))
            }
            _ => {
                let deadlines = self.tasks.deadlines;
                let is_begun = self.state == TaskState::Starting;
                let limit = span::shortened(if is_begun { deadlines.start } else { deadlines.accept });
                Standing::new(TaskState::Failed, format!("the device did not start it in {limit}"))
            }
        })
    }

    /// Gives a task up whose device stays away, unless that is what it is for.
    fn look(&mut self) -> Option<Standing> {
        if self.goes_down() || !self.is_away() {
            self.away_since = None;
            return None;
        }
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let limit = self.tasks.deadlines.away;
        (since.elapsed() >= limit).then(|| {
            Standing::new(TaskState::Lost, format!("the device was away for {}", span::shortened(limit)))
        })
    }

    /// Writes the next state down, and then tells whoever waits for it.
    async fn go_to(&mut self, next: Standing) {
        let output = self.output.take();
        if !self.state.may_become(next.state) {
            return;
        }
        let is_end = next.state.is_end();
        if next.state == TaskState::Stopping || is_end {
            self.tell_to_stop(next.reason.as_deref().unwrap_or_default());
        }
        let code = self.live.identity.code;
        let change = TaskChange { code, state: next.state, reason: next.reason.clone(), output };
        while let Err(error) = self.tasks.store.change_task(change.clone()).await {
            tracing::error!(task = %self.live.identity.id, %error, "a task's state could not be written down");
            if matches!(error, StoreError::Closed) || !is_end {
                break;
            }
            sleep(WRITE_PAUSE).await;
        }
        self.state = next.state;
        self.since = Instant::now();
        self.set_deadline();
        self.live.standing.send_modify(|standing| {
            let reason = next.reason.or_else(|| standing.reason.take());
            *standing = Standing { state: next.state, reason };
        });
    }

    fn set_deadline(&mut self) {
        let since = self.since;
        self.deadline = match self.state {
            TaskState::Requested => Some(since + self.tasks.deadlines.accept),
            // One that is gone before it could say that it goes.
            TaskState::Starting if self.goes_down() && self.is_away() => Some(since + self.limit()),
            TaskState::Starting => Some(since + self.tasks.deadlines.start),
            // A device that says so and brings no bytes lies; or they went with the last server.
            TaskState::Running if self.lacks_bytes() => Some(since + self.time_for_bytes()),
            TaskState::Running => Some(since + self.limit()),
            TaskState::Stopping => Some(since + self.tasks.deadlines.stop),
            TaskState::Done | TaskState::Failed | TaskState::Lost => None,
        };
    }

    /// Whether its device is to go away now. What is to stop is not wanted.
    fn goes_down(&self) -> bool {
        let is_begun = matches!(self.state, TaskState::Starting | TaskState::Running);
        is_begun && self.live.identity.kind.is_some_and(TaskKind::goes_down)
    }

    /// How long it may run.
    fn limit(&self) -> Duration {
        let of_kind = self.live.identity.kind.map(|kind| self.tasks.limit(kind));
        of_kind.unwrap_or_else(|| self.tasks.longest_limit())
    }

    fn is_away(&self) -> bool {
        self.tasks.registry.online(self.live.identity.device).is_none()
    }

    fn lacks_bytes(&self) -> bool {
        self.live.identity.kind.is_some_and(TaskKind::has_bytes) && !self.live.has_data()
    }

    fn tell_again(&self) {
        let online = self.tasks.registry.online(self.live.identity.device);
        if let (Some(online), Some(order)) = (online, &self.live.order) {
            online.mailbox.instruct(order.clone());
        }
    }

    /// How long the bytes of one that runs may take to come.
    fn time_for_bytes(&self) -> Duration {
        match self.live.identity.kind {
            // It runs as soon as its device begins to log in.
            Some(TaskKind::OpenSsh) if !self.live.is_resumed => self.tasks.deadlines.start,
            _ => self.tasks.deadlines.accept,
        }
    }

    fn tell_to_stop(&self, detail: &str) {
        if let Some(online) = self.tasks.registry.online(self.live.identity.device) {
            let task = message::TaskId(self.live.identity.code.0);
            online.mailbox.instruct(Instruction::Stop { task, detail: detail.to_owned() });
        }
    }
}

/// Ends a task that nobody watches any longer, as its watcher has failed.
pub(super) async fn give_up(tasks: &Tasks, live: &LiveTask) {
    let end = Standing::new(TaskState::Failed, "the server has failed to watch it");
    let (_, news) = mpsc::channel(1);
    let watcher = Watcher::new(tasks, live, news);
    Box::pin(watcher.end(end)).await;
}

/// Waits for a wish, each of them once.
async fn wished(wish: &mut watch::Receiver<Option<Wish>>) -> Wish {
    while wish.changed().await.is_ok() {
        if let Some(wish) = wish.borrow_and_update().clone() {
            return wish;
        }
    }
    pending().await
}

/// Waits until then; for ever if there is no such time.
async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
