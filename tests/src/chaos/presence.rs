//! Whether devices are shown as they are: what is known of each, beside what the server shows.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{api::Api, server::BOUND};

/// What a busy machine may add to a bound.
pub(super) const SLACK: Duration = Duration::from_secs(3);

/// When a device that could be online is back at the latest: it may first have to notice that its connection is dead
/// (the bound, two seconds), or to give up an attempt that hangs (three seconds, by its configuration); and then waits
/// as its backoff says (half a second), or as a server asked that drained (two seconds and a fifth).
pub(super) const BACK: Duration = Duration::from_secs(5);

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(100);

/// What is known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Its agent runs and its network is good.
    could_be_online: bool,
    /// Since when, and since when nothing else has befallen it.
    since: Instant,
}

/// What is known of all.
#[derive(Clone, Debug)]
struct State {
    /// Since when the server runs, if it does.
    server: Option<Instant>,
    devices: Vec<Known>,
    seen: Seen,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// How often it was looked at all devices.
    pub(super) looks: u64,
    /// The longest time that a device was shown online that could not be.
    pub(super) longest_ghost: Duration,
    /// The longest time that a device was shown offline that could be online.
    pub(super) longest_absence: Duration,
    /// What may not be.
    pub(super) violations: Vec<String>,
    /// When something was first seen.
    pub(super) first_violation: Option<SystemTime>,
}

/// What is known, shared by who breaks things and who looks.
#[derive(Clone, Debug)]
pub(super) struct Truth(Arc<Mutex<State>>);

impl Truth {
    /// Nothing is online yet.
    pub(super) fn new(devices: usize) -> Self {
        let known = Known { could_be_online: false, since: Instant::now() };
        let state = State { server: None, devices: vec![known; devices], seen: Seen::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The server runs, or does not, from now on.
    pub(super) fn server_is(&self, running: bool) {
        self.lock().server = running.then(Instant::now);
    }

    /// From now on a device could be online, or not; or its connection has just been broken.
    pub(super) fn device_is(&self, device: usize, could_be_online: bool) {
        if let Some(known) = self.lock().devices.get_mut(device) {
            // What could not be online before can't be more so; but a new blow begins a new time to come back.
            if could_be_online || known.could_be_online {
                *known = Known { could_be_online, since: Instant::now() };
            }
        }
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares what the server shows with what is known, until `stop`.
pub(super) fn watch(api: &Api, names: &[String], truth: &Truth, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let before = truth.lock().clone();
        let asked = Instant::now();
        let shown = api.list("/devices");
        let mut now = truth.lock();
        match (before.server, shown) {
            // What has changed meanwhile can't be judged.
            _ if now.server != before.server => {}
            (None, _) => {}
            (Some(since), Err(error)) => {
                if asked.saturating_duration_since(since) > SLACK {
                    now.seen.violations.push(format!("the server does not tell its devices: {error}"));
                }
            }
            (Some(server_since), Ok(shown)) => {
                now.seen.looks += 1;
                for (index, name) in names.iter().enumerate() {
                    let online = shown
                        .iter()
                        .any(|device| device["name"] == name.as_str() && device["online"] == true);
                    let (Some(known), Some(then)) = (now.devices.get(index), before.devices.get(index))
                    else {
                        continue;
                    };
                    if known == then {
                        let since = known.since.max(server_since);
                        let lasts = asked.saturating_duration_since(since);
                        let could_be_online = known.could_be_online;
                        now.seen.judge(name, could_be_online, online, lasts);
                    }
                }
            }
        }
        if now.seen.first_violation.is_none() && !now.seen.violations.is_empty() {
            now.seen.first_violation = Some(SystemTime::now());
        }
        let enough = now.seen.violations.len() >= 20;
        drop(now);
        if enough {
            return;
        }
        // Between two looks, not for anything to happen.
        thread::sleep(EVERY);
    }
}

impl Seen {
    fn judge(&mut self, name: &str, could_be_online: bool, online: bool, lasts: Duration) {
        match (could_be_online, online) {
            (false, true) => {
                self.longest_ghost = self.longest_ghost.max(lasts);
                if lasts > BOUND + SLACK {
                    self.violations.push(format!("{name} is shown online, and has been gone for {lasts:?}"));
                }
            }
            (true, false) => {
                self.longest_absence = self.longest_absence.max(lasts);
                if lasts > BACK + SLACK {
                    self.violations
                        .push(format!("{name} is shown offline, and could be online for {lasts:?}"));
                }
            }
            _ => {}
        }
    }
}
