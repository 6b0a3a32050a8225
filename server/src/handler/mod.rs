//! What is done with each tag that a device sends: one file for each. Messages of all kinds go one way, to the archive.

pub mod cameras;
pub mod facts;
pub mod host_keys;
pub mod message;
pub mod status;
pub mod task;

use std::{net::SocketAddr, sync::Arc};

use protocol_core::{
    frame::Frame,
    message::DecodeError,
    tag::Tag,
    time::{Duration, Instant},
};

use crate::{
    host::Host,
    store::{DeviceId, Reply, SessionId, StoreError},
};

/// The device that a message came from, as its connection knows it.
pub struct Device {
    /// What all connections share.
    pub host: Arc<Host>,
    /// The device.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// The name of the device that it is wired to, if it has no key of its own.
    pub gateway: Option<String>,
    /// The session that its messages come in.
    pub session: SessionId,
    /// Where it connects from; of a wired one, where its gateway does.
    pub address: SocketAddr,
    /// The store's way back to the connection.
    pub reply: Arc<Reply>,
}

/// Why a message can't be handled.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Its body is not what its tag says.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The store can't take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device sends more notices than may be kept.
    #[error("more notices came than one a second; send less often")]
    TooMany,
    /// The store has had no room for too long.
    #[error("the store has no room for the message")]
    NoRoom,
}

/// How many notices a device may send: each is a write to the disk. Messages have the window; notices have this.
#[derive(Debug)]
pub struct Allowance {
    /// When all of it will be there again.
    full: Instant,
    /// How many reports of tasks may come beside that: those that the device has announced.
    reports: usize,
}

impl Allowance {
    /// How long it takes until one more may come.
    const EACH: Duration = Duration::from_secs(1);

    /// How much may be used up at once.
    const ALL: Duration = Duration::from_secs(16);

    /// Takes one notice out of it; gives whether there was one left.
    fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now).after(Self::EACH);
        let allowed = full <= now.after(Self::ALL);
        if allowed {
            self.full = full;
        }
        allowed
    }

    /// The device has said that it will report so many tasks.
    fn announced(&mut self, reports: usize) {
        self.reports = reports;
    }

    /// Takes one report of a task that there is not out of it.
    fn take_report(&mut self, now: Instant) -> bool {
        if self.reports > 0 {
            self.reports -= 1;
            return true;
        }
        self.take(now)
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { full: Instant::from_micros(0), reports: 0 }
    }
}

/// Routes a notice to its handler. A tag that is not known here is skipped: the peer may be newer.
///
/// # Errors
/// [`HandlerError`]; the connection ends by it.
pub fn notice(
    device: &Arc<Device>,
    allowance: &mut Allowance,
    now: Instant,
    frame: Frame<'_>,
) -> Result<(), HandlerError> {
    match frame.tag {
        Tag::FACTS if allowance.take(now) => facts::handle(device, frame.body),
        Tag::STATUS if allowance.take(now) => status::handle(device, frame.body),
        Tag::SSH_HOST_KEYS if allowance.take(now) => host_keys::handle(device, frame.body),
        Tag::CAMERAS if allowance.take(now) => cameras::handle(device, frame.body),
        Tag::OFFER if allowance.take(now) => {
            task::offered(device, frame.body).map(|reports| allowance.announced(reports))
        }
        // Those of tasks that there are: each changes its state a few times.
        Tag::REPORT => match task::reported(device, frame.body)? || allowance.take_report(now) {
            true => Ok(()),
            false => Err(HandlerError::TooMany),
        },
        Tag::FACTS | Tag::STATUS | Tag::SSH_HOST_KEYS | Tag::OFFER | Tag::CAMERAS => {
            Err(HandlerError::TooMany)
        }
        tag => {
            tracing::debug!(device = device.name, %tag, "skipped a frame of a tag that is not known");
            Ok(())
        }
    }
}

/// Has the store keep something that the device said. The connection does not wait for that: [`Allowance`] bounds how
/// much of it there can be while the store is slow.
fn keep<W>(device: &Arc<Device>, work: impl FnOnce(Arc<Device>) -> W)
where
    W: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let (name, work) = (device.name.clone(), work(Arc::clone(device)));
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::error!(device = name, %error, "what a device said of itself could not be kept");
        }
    });
}

#[cfg(test)]
mod tests {
    use protocol_core::time::{Duration, Instant};

    use super::Allowance;

    #[test]
    fn what_was_announced_is_not_too_much() {
        let mut allowance = Allowance::default();
        let now = Instant::from_micros(1_000_000_000);
        allowance.announced(20);
        assert_eq!((0..1_000).filter(|_| allowance.take_report(now)).count(), 36);
        allowance.announced(1);
        assert!(allowance.take_report(now) && !allowance.take_report(now) && !allowance.take(now));
    }

    #[test]
    fn notices_are_limited_to_one_a_second_in_the_long_run() {
        let mut allowance = Allowance::default();
        let now = Instant::from_micros(1_000_000_000);
        let taken = (0..1_000).filter(|_| allowance.take(now)).count();
        assert_eq!(taken, 16);
        assert!(allowance.take(now.after(Duration::from_secs(1))));
        assert!(!allowance.take(now.after(Duration::from_secs(1))));
    }
}
