//! What every connection shares: the store, the registry, and the terms that devices are given.

use std::{sync::Arc, time::Duration};

use protocol_core::message::{Endpoints, Pin, Text, Window};

use crate::{
    config::{Config, KeepAlive, Limits},
    registry::Registry,
    store::Store,
    tls::Keys,
};

/// What every connection shares.
pub struct Host {
    /// What is kept.
    pub store: Store,
    /// Who is online.
    pub registry: Arc<Registry>,
    /// When a silent device is lost.
    pub keep_alive: KeepAlive,
    /// How much is allowed.
    pub limits: Limits,
    /// Where and by which keys the server is found.
    pub address_book: AddressBook,
}

impl Host {
    /// What the connections of a server with this configuration share.
    pub fn new(config: &Config, store: Store, keys: &Keys, addresses: Vec<String>) -> Self {
        Self {
            store,
            registry: Arc::default(),
            keep_alive: config.keep_alive,
            limits: config.limits,
            address_book: AddressBook { current: keys.current_pin(), next: keys.next_pin(), addresses },
        }
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
