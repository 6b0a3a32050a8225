//! What every connection shares: the store, the registry, and the terms that devices are given.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol_core::message::{Endpoints, Kind, Message, Pin, Text, Window};

use tokio::sync::Semaphore;

use crate::{
    classic_clients::ClassicClients,
    config::{Config, KeepAlive, Limits, SshLimits},
    mailbox::Farewell,
    parts::Parts,
    registry::Registry,
    store::Store,
    strangers::Strangers,
    tasks::{Deadlines, Tasks},
    tls::Keys,
    video::{Recordings, Video},
};

/// What a frame needs beside a message's body, in bytes: header, stream, number, time and kind, at their longest.
pub const MESSAGE_OVERHEAD: usize = Message::OVERHEAD + Kind::MAX;

/// What every connection shares.
pub struct Host {
    /// What is kept.
    pub store: Store,
    /// How many more framed connections there may be. Each holds a permit to its very end.
    pub connections: Arc<Semaphore>,
    /// The framed connections of which it is not yet known whose they are.
    pub strangers: Arc<Strangers>,
    /// Who is online.
    pub registry: Arc<Registry>,
    /// What the server consists of, and how it stands.
    pub parts: Arc<Parts>,
    /// What devices are asked to do.
    pub tasks: Arc<Tasks>,
    /// What devices' cameras show, and who looks.
    pub video: Arc<Video>,
    /// What was recorded of that.
    pub recordings: Arc<Recordings>,
    /// Which classic clients are there.
    pub classic_clients: Arc<ClassicClients>,
    /// When a silent device is lost.
    pub keep_alive: KeepAlive,
    /// How much is allowed.
    pub limits: Limits,
    /// How long operators' SSH sessions may last.
    pub ssh: SshLimits,
    /// Where and by which keys the server is found.
    pub address_book: AddressBook,
    /// What devices are told once the server stops.
    pub farewell: OnceLock<Farewell>,
}

impl Host {
    /// What the connections of a server with this configuration share.
    pub fn new(config: &Config, store: Store, keys: &Keys, addresses: Vec<String>) -> Self {
        let registry = Arc::<Registry>::default();
        let parts = Arc::new(Parts::new(store.clone()));
        let tasks = Tasks::new(
            store.clone(),
            Arc::clone(&registry),
            config.ssh,
            config.ssh_account.clone(),
            Deadlines::default(),
            Arc::clone(&parts),
        );
        let video = Video::new(store.clone(), Arc::clone(&tasks), Arc::clone(&parts));
        Self {
            recordings: Recordings::new(
                Arc::clone(&video),
                store.clone(),
                config.data.join("recordings"),
                config.recordings,
            ),
            parts,
            video,
            tasks,
            store,
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            strangers: Strangers::new(config.limits.unknown_connections),
            registry,
            classic_clients: Arc::default(),
            keep_alive: config.keep_alive,
            limits: config.limits,
            ssh: config.ssh,
            address_book: AddressBook { current: keys.current_pin(), next: keys.next_pin(), addresses },
            farewell: OnceLock::new(),
        }
    }

    /// Sends all strangers away and tells every device to come back, and waits until all connections have ended and what became of them is
    /// written, or `time_limit` is over. Gives how many were still there then.
    pub async fn drain(&self, farewell: Farewell, time_limit: Duration) -> usize {
        // First said for those who are just opening: each looks here when it has taken its place.
        let farewell = self.farewell.get_or_init(|| farewell);
        self.strangers.close();
        for online in self.registry.all() {
            online.mailbox.close(farewell.clone());
        }
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        // Past the time limit the caller goes on, whoever is left.
        let _ = tokio::time::timeout(time_limit, self.connections.acquire_many(all)).await;
        self.limits.connections - self.connections.available_permits().min(self.limits.connections)
    }

    /// How much a device may send before it is echoed.
    pub fn window(&self) -> Window {
        Window { messages: self.limits.window_messages, bytes: self.limits.window_bytes }
    }
}

/// A duration as the welcome carries it, in milliseconds.
pub fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Where and by which keys the server is found.
#[derive(Clone, Debug)]
pub struct AddressBook {
    /// The pin of the key in use.
    pub current: Pin,
    /// The pin of the key that will come after it.
    pub next: Pin,
    /// `host:port`, best first.
    pub addresses: Vec<String>,
}

impl AddressBook {
    /// As devices are told.
    pub fn endpoints(&self) -> Endpoints<'_> {
        // The configuration has checked their number and lengths; one that does not fit is not told.
        let addresses = self.addresses.iter().filter_map(|address| Text::new(address));
        let mut endpoints =
            Endpoints { current: self.current, next: self.next, addresses: heapless::Vec::new() };
        addresses.for_each(|address| {
            let _ = endpoints.addresses.push(address);
        });
        endpoints
    }
}
