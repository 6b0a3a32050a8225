//! Devices that are not there, come and go.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rcgen::KeyPair;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep},
};

use crate::{
    error::{Error, Result},
    load::{Connection, Speak},
};

/// How many connect at a time, in the beginning.
const OPENING: usize = 64;

/// How long one that has gone stays away.
const AWAY: Duration = Duration::from_secs(2);

/// All devices. They end with this.
pub(crate) struct Fleet {
    /// How many have come back.
    returns: Arc<AtomicU64>,
    _devices: JoinSet<()>,
}

impl Fleet {
    /// Has the devices of these keys connect; from then on so many go each second, in turn, and come back.
    ///
    /// # Errors
    /// The server does not welcome one of them.
    pub(crate) async fn start(server: SocketAddr, keys: Vec<KeyPair>, changes: u32) -> Result<Self> {
        let doors = Arc::new(Semaphore::new(OPENING));
        let mut opening = JoinSet::new();
        for (index, key) in keys.into_iter().enumerate() {
            let doors = Arc::clone(&doors);
            opening.spawn(async move {
                let _door = doors.acquire().await;
                let device = Device { server, index, key };
                let connection = device.connect().await?;
                Ok::<_, Error>((device, connection))
            });
        }
        let mut online = Vec::new();
        while let Some(opened) = opening.join_next().await {
            online.push(opened.map_err(Error::talk)??);
        }
        // Each goes once in a turn through all of them.
        let turn = Duration::from_secs_f64(online.len() as f64 / f64::from(changes.max(1)));
        let step = turn / u32::try_from(online.len()).unwrap_or(u32::MAX).max(1);
        let (returns, mut devices) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for (place, (device, connection)) in (0_u32..).zip(online) {
            devices.spawn(device.live(connection, step * place, turn, Arc::clone(&returns)));
        }
        Ok(Self { returns, _devices: devices })
    }

    /// Whether devices did come and go.
    ///
    /// # Errors
    /// They did not: what was measured is something else.
    pub(crate) fn check(&self) -> Result {
        match self.returns.load(Relaxed) {
            0 => Err(Error::Told("no device has come back".to_owned())),
            _ => Ok(()),
        }
    }
}

struct Device {
    server: SocketAddr,
    index: usize,
    key: KeyPair,
}

impl Device {
    async fn connect(&self) -> Result<Connection> {
        let key = KeyPair::from_pem(&self.key.serialize_pem())?;
        Connection::open(Speak::Framed, self.server, self.index, Some(key), 16).await
    }

    /// Goes for the first time after `first`, and then once in each turn.
    async fn live(self, connection: Connection, first: Duration, turn: Duration, returns: Arc<AtomicU64>) {
        let mut connection = Some(connection);
        sleep(first).await;
        let mut turns = interval(turn);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                // What the server has to say is heard; where it ends the connection, it is back a while later.
                () = hear(&mut connection) => {}
            }
            drop(connection.take());
            sleep(AWAY).await;
            connection = self.connect().await.ok();
            returns.fetch_add(u64::from(connection.is_some()), Relaxed);
        }
    }
}

async fn hear(connection: &mut Option<Connection>) {
    if let Some(connection) = connection {
        let _ = connection.rest().await;
    }
}
