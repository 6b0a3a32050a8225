//! Which classic clients are there: a client is known by its address, and is present while its TCP connection stands.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::{
    lock::lock,
    store::{DeviceId, SessionId, UnixMillis},
};

/// One connection of a classic client. A client may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassicClient {
    /// The client.
    pub device: DeviceId,
    /// The connection's session.
    pub session: SessionId,
    /// Where it connects from: the client's name.
    pub address: IpAddr,
    /// Since when.
    pub since: UnixMillis,
}

/// The connections of classic clients that have shaken hands.
#[derive(Debug, Default)]
pub struct ClassicClients {
    connections: Mutex<HashMap<SessionId, ClassicClient>>,
}

impl ClassicClients {
    /// Counts a connection as present until the guard is dropped.
    pub fn enter(self: &Arc<Self>, client: ClassicClient) -> Presence {
        lock(&self.connections).insert(client.session, client);
        Presence { clients: Arc::clone(self), session: client.session }
    }

    /// All connections, in no order.
    pub fn all(&self) -> Vec<ClassicClient> {
        lock(&self.connections).values().copied().collect()
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        lock(&self.connections).len()
    }
}

/// A connection's place among those that are present.
#[derive(Debug)]
pub struct Presence {
    clients: Arc<ClassicClients>,
    session: SessionId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.clients.connections).remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use super::{ClassicClient, ClassicClients};
    use crate::store::{DeviceId, SessionId, UnixMillis};

    #[test]
    fn a_client_is_present_while_one_of_its_connections_stands() {
        let clients = Arc::new(ClassicClients::default());
        let connection = |session| ClassicClient {
            device: DeviceId(1),
            session: SessionId(session),
            address: Ipv4Addr::LOCALHOST.into(),
            since: UnixMillis(5),
        };
        let first = clients.enter(connection(1));
        let second = clients.enter(connection(2));
        assert_eq!(clients.count(), 2);
        drop(first);
        assert_eq!(clients.all(), [connection(2)]);
        drop(second);
        assert_eq!(clients.count(), 0);
    }
}
