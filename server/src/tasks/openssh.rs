//! `openssh`: devices that are found behind a port of this machine's SSH server.
//!
//! A device may listen on a port while its session waits for its bytes, and on no other. When they have come, the port is
//! nobody's: nobody logs in by it a second time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    DataConnection, Standing, TaskError,
    live::{Live, News},
    lock,
};
use crate::{
    byte_stream::ByteStream,
    config::SshAccount,
    ssh_account,
    store::{DeviceId, StoreError, TaskState},
};

/// How often it is looked whether the device listens: far shorter than what it takes to log in.
const LOOK: Duration = Duration::from_millis(25);

/// How often another port is tried for where the system gives one that is taken.
const ATTEMPTS: usize = 8;

/// The ports on which devices may listen now.
#[derive(Debug)]
pub(super) struct Ports {
    account: SshAccount,
    taken: Arc<Mutex<HashMap<u16, DeviceId>>>,
}

impl Ports {
    pub(super) fn new(account: SshAccount) -> Self {
        Self { account, taken: Arc::default() }
    }

    /// Those of a device.
    pub(super) fn of(&self, device: DeviceId) -> Vec<u16> {
        lock(&self.taken).iter().filter(|(_, owner)| **owner == device).map(|(port, _)| *port).collect()
    }

    /// A port for a session with this device, and what the device has to be told.
    pub(super) async fn prepare(&self, device: DeviceId) -> Result<(Port, Vec<u8>), TaskError> {
        let (account, taken) = (self.account.clone(), Arc::clone(&self.taken));
        let prepared = tokio::task::spawn_blocking(move || {
            let port = Port::take(taken, device)?;
            let parameters = ssh_account::parameters(&account, port.number)?;
            Ok((port, parameters))
        });
        prepared.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

/// A port on which a device may listen, until this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    taken: Arc<Mutex<HashMap<u16, DeviceId>>>,
}

impl Port {
    fn take(taken: Arc<Mutex<HashMap<u16, DeviceId>>>, device: DeviceId) -> Result<Self, TaskError> {
        for _ in 0..ATTEMPTS {
            let number = ssh_account::free_port().map_err(ssh_account::SshAccountError::from)?;
            if let Entry::Vacant(place) = lock(&taken).entry(number) {
                place.insert(device);
                return Ok(Self { number, taken: Arc::clone(&taken) });
            }
        }
        Err(TaskError::TooMany)
    }

    /// Waits until the device's SSH server is found behind the port, and hands its bytes to whoever waits for them.
    pub(super) async fn lead(self, live: Arc<Live>) {
        let mut standing = live.standing.subscribe();
        let found = tokio::select! {
            found = self.find() => found,
            // There is nothing to be found any longer.
            _ = standing.wait_for(|standing| standing.state >= TaskState::Stopping) => return,
        };
        let Some(stream) = found else {
            let reason = "the device's SSH server does not answer; is it running, at the [tasks.ssh] address of the device's agent.toml?";
            live.tell(News::Finished(Standing::new(TaskState::Failed, reason))).await;
            return;
        };
        if let Ok(admission) = live.enter_door() {
            // Whoever waited may have gone: then the connection ends with this.
            admission.admit(DataConnection::on_this_machine(stream));
        }
    }

    /// The device's SSH server; nothing if the device is there, and it is not.
    async fn find(&self) -> Option<impl ByteStream + 'static> {
        loop {
            match ssh_account::connect(self.number).await {
                Ok(found) => return found,
                Err(_) => sleep(LOOK).await,
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.number);
    }
}
