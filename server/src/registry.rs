//! Who is online, and how to reach them.
//!
//! Everything that wants something of a device asks here, and never touches a socket: a request is put
//! into the mailbox of the device's control connection, which does it in its own time.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol_core::{
    code::CloseReason,
    message::{BootId, Pin},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot, watch};

use crate::{
    lock::lock,
    mailbox::{Farewell, Mailbox},
    store::{DeviceId, Kind, SessionId, UnixMillis},
};

/// A device's control connection, as others see it. Its figures are written by the connection alone.
#[derive(Debug)]
pub struct Online {
    /// The device.
    pub device: DeviceId,
    /// The key that it has shown; none of a wired one, whose gateway has shown its own.
    pub key: Option<Pin>,
    /// Its session.
    pub session: SessionId,
    /// Which start of its agent this is.
    pub boot: BootId,
    /// Where it connects from; of a wired one, where its gateway does.
    pub address: SocketAddr,
    /// Since when.
    pub since: UnixMillis,
    /// How to reach it.
    pub mailbox: Arc<Mailbox>,
    /// What is measured.
    pub figures: Figures,
    /// The kinds of tasks that it takes; none before it has said so.
    pub offers: watch::Sender<Option<Vec<Kind>>>,
    /// Its cameras, as it has told them last.
    pub cameras: Mutex<Vec<Camera>>,
}

impl Online {
    /// Its cameras, as it has told them last.
    pub fn cameras(&self) -> Vec<Camera> {
        lock(&self.cameras).clone()
    }

    /// How many cameras it has told of last.
    pub fn camera_count(&self) -> u64 {
        lock(&self.cameras).len() as u64
    }

    /// It tells its cameras.
    pub fn tell_cameras(&self, cameras: Vec<Camera>) {
        *lock(&self.cameras) = cameras;
    }
}

/// A camera of a device, as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Camera {
    /// Its name there.
    pub name: String,
    /// What it is, for people.
    pub kind: String,
    /// The width of its pictures, in pixels; 0 if the camera decides.
    pub width: u16,
    /// Their height.
    pub height: u16,
    /// How many there are in a second; 0 if the camera decides.
    pub framerate: u16,
}

/// What is measured of a connection.
#[derive(Debug, Default)]
pub struct Figures {
    last_heard: AtomicI64,
    /// In microseconds; 0 while not known.
    round_trip: AtomicU64,
}

impl Figures {
    /// Notes that bytes came.
    pub fn heard(&self, now: UnixMillis) {
        self.last_heard.store(now.0, Ordering::Relaxed);
    }

    /// Notes how long an answer took, in microseconds.
    pub fn measured(&self, round_trip: u64) {
        self.round_trip.store(round_trip, Ordering::Relaxed);
    }

    /// When its last byte came.
    pub fn last_heard(&self) -> UnixMillis {
        UnixMillis(self.last_heard.load(Ordering::Relaxed))
    }

    /// How long the device took to answer the last `PING`, in microseconds.
    pub fn round_trip(&self) -> Option<u64> {
        Some(self.round_trip.load(Ordering::Relaxed)).filter(|micros| *micros > 0)
    }
}

/// Why a device can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// The device has no control connection.
    #[error("the device is offline")]
    Offline,
    /// The device did not answer in time.
    #[error("the device did not answer in time, and is given up")]
    NoAnswer,
}

/// Who is online.
#[derive(Debug, Default)]
pub struct Registry {
    devices: Mutex<HashMap<DeviceId, Arc<Online>>>,
    turns: Mutex<HashMap<DeviceId, Weak<AsyncMutex<()>>>>,
}

impl Registry {
    /// The control connection of a device, if it is online.
    pub fn online(&self, device: DeviceId) -> Option<Arc<Online>> {
        lock(&self.devices).get(&device).cloned()
    }

    /// Everyone who is online.
    pub fn all(&self) -> Vec<Arc<Online>> {
        lock(&self.devices).values().cloned().collect()
    }

    /// How many devices are online.
    pub fn count(&self) -> usize {
        lock(&self.devices).len()
    }

    /// Waits until no other connection of this device is about to take its place: of two that come at the same
    /// moment the second sees the first in that place, and can ask whether it lives.
    pub async fn turn(self: &Arc<Self>, device: DeviceId) -> Turn {
        let waiting = {
            let mut turns = lock(&self.turns);
            let turn = turns.get(&device).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(device, Arc::downgrade(&turn));
            turn.lock_owned()
        };
        Turn { registry: Arc::clone(self), device, guard: Some(waiting.await) }
    }

    /// Puts a connection in its device's place when it is its turn, and tells the one that had the place to go.
    ///
    /// Gives a guard: the place is free again when it is dropped, unless a newer connection took it.
    pub fn enter(self: &Arc<Self>, online: Arc<Online>, turn: Turn) -> Place {
        debug_assert_eq!(turn.device, online.device, "a turn is for one device");
        let before = lock(&self.devices).insert(online.device, Arc::clone(&online));
        if let Some(before) = before {
            before
                .mailbox
                .close(Farewell::new(CloseReason::Replaced, "a newer connection of this device took over"));
        }
        Place { registry: Arc::clone(self), online }
    }

    /// Tells a device's connection that messages wait for the device, if it is online.
    pub fn notify(&self, device: DeviceId) {
        if let Some(online) = self.online(device) {
            online.mailbox.deliver();
        }
    }

    /// Asks a device for a sign of life: gives the round-trip time.
    ///
    /// # Errors
    /// [`ReachError`] if it is offline, or does not answer within `time_limit`.
    pub async fn ping(&self, device: DeviceId, time_limit: Duration) -> Result<Duration, ReachError> {
        let online = self.online(device).ok_or(ReachError::Offline)?;
        ping(&online, time_limit).await
    }

    /// Tells a device's connection to end. Gives whether there was one.
    pub fn close(&self, device: DeviceId, farewell: Farewell) -> bool {
        let online = self.online(device);
        online.is_some_and(|online| {
            online.mailbox.close(farewell);
            true
        })
    }
}

/// Asks the holder of a connection for a sign of life: gives the round-trip time.
///
/// # Errors
/// [`ReachError`] if the connection ends, or does not answer within `time_limit`.
pub async fn ping(online: &Online, time_limit: Duration) -> Result<Duration, ReachError> {
    let (reply, answer) = oneshot::channel();
    online.mailbox.ping(reply);
    match tokio::time::timeout(time_limit, answer).await {
        Ok(Ok(round_trip)) => Ok(round_trip),
        Ok(Err(_)) => Err(ReachError::Offline),
        Err(_) => Err(ReachError::NoAnswer),
    }
}

/// The right to take a device's place, for one connection at a time; the next has it when this is dropped.
#[derive(Debug)]
pub struct Turn {
    registry: Arc<Registry>,
    device: DeviceId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.registry.turns);
        self.guard = None;
        // Those who wait hold the turn as well.
        if turns.get(&self.device).is_some_and(|turn| turn.strong_count() == 0) {
            turns.remove(&self.device);
        }
    }
}

/// A connection's place among those who are online, for as long as it lives.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    online: Arc<Online>,
}

impl Place {
    /// The connection in this place.
    pub fn online(&self) -> &Arc<Online> {
        &self.online
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut devices = lock(&self.registry.devices);
        if devices.get(&self.online.device).is_some_and(|holder| Arc::ptr_eq(holder, &self.online)) {
            devices.remove(&self.online.device);
        }
    }
}
