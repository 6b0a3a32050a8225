//! Sessions: when each device was connected, from where, and why it ended.

use std::{net::IpAddr, str::FromStr};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    DeviceId, EventId, RandomId, SessionId, Store, StoreError, UnixMillis, change::Change, connect,
    devices::check_rights, events, part::Part,
};
use crate::event::{EventKind, NewEvent};

macro_rules! end_reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a session ended. The names are stable: programs may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EndReason {
            $($(#[$doc])* $reason,)*
            /// One that this version does not know.
            Other,
        }

        impl EndReason {
            /// The reason's name, in the store and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                    Self::Other => "other",
                }
            }
        }

        impl FromStr for EndReason {
            type Err = std::convert::Infallible;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Ok(match name {
                    $($name => Self::$reason,)*
                    _ => Self::Other,
                })
            }
        }
    };
}

end_reasons! {
    /// The device said good-bye; a classic client closed its connection.
    Closed = "closed",
    /// The device did not answer in time.
    Lost = "lost",
    /// The connection broke without a good-bye.
    Broken = "broken",
    /// The same device connected anew.
    Replaced = "replaced",
    /// An operator took the device's rights away.
    Revoked = "revoked",
    /// The device broke the protocol.
    ProtocolError = "protocol-error",
    /// The device sent another message under the number of an archived one.
    Conflict = "conflict",
    /// The store could not be written.
    StoreFailed = "store-failed",
    /// The server was stopped.
    ServerStopped = "server-stopped",
    /// The server died; its next start closed the session, at the time the device was last seen.
    ServerDied = "server-died",
}

impl EndReason {
    /// The event that tells of such an end.
    fn event(self) -> EventKind {
        match self {
            Self::Lost | Self::Broken => EventKind::DeviceLost,
            _ => EventKind::DeviceDisconnected,
        }
    }
}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// Whose.
    pub device: DeviceId,
    /// Where it connects from.
    pub address: IpAddr,
    /// The start of the device's agent that it belongs to; None of a classic client.
    pub boot: Option<u64>,
    /// The longest body of a message that the device takes, in bytes; None of a classic client.
    pub longest_message: Option<usize>,
}

/// A session that ends.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// Which.
    pub session: SessionId,
    /// When the device was last heard.
    pub last_seen: UnixMillis,
    /// Why.
    pub reason: EndReason,
    /// More on why, for people; what a peer said in it is escaped where it is shown.
    pub text: Option<String>,
}

/// A session as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its number: later sessions have greater ones.
    pub id: SessionId,
    /// The name of the device.
    pub device: String,
    /// Where it connected from.
    pub address: String,
    /// The start of the device's agent that it belongs to.
    pub boot: Option<RandomId>,
    /// When it began.
    pub started: UnixMillis,
    /// When the device was last heard; of an open session the registry knows better.
    pub last_seen: UnixMillis,
    /// When it ended; none while it is open.
    pub ended: Option<UnixMillis>,
    /// Why it ended.
    pub reason: Option<EndReason>,
    /// More on why, for people.
    pub reason_text: Option<String>,
    /// Messages from the device, about a second behind while it is open.
    pub messages_in: u64,
    /// Bytes of their bodies.
    pub bytes_in: u64,
    /// Messages that the device has got.
    pub messages_out: u64,
    /// Bytes of their bodies.
    pub bytes_out: u64,
}

/// Which sessions to read, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct SessionFilter {
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// Only those behind this one; 0 for the first page.
    pub after: SessionId,
    /// Only those before this one, and of them the last; a page is in the order of their ids all the same.
    pub before: Option<SessionId>,
    /// At most so many.
    pub limit: usize,
}

/// The last session of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSession {
    /// Whose.
    pub device: DeviceId,
    /// Where it connected from.
    pub address: String,
}

impl Default for SessionFilter {
    fn default() -> Self {
        Self { device: None, after: SessionId(0), before: None, limit: 500 }
    }
}

impl Store {
    /// Begins a session, with its event.
    ///
    /// # Errors
    ///
    /// The device has been revoked meanwhile, or the store can't be written.
    pub async fn start_session(&self, session: NewSession) -> Result<SessionId, StoreError> {
        self.write(move |change| start(change, &session)).await
    }

    /// Ends a session, with its event, behind all of its messages that have been handed over before.
    /// A session that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn end_session(&self, end: SessionEnd) -> Result<(), StoreError> {
        self.write(move |change| {
            let address: Option<String> = change
                .connection
                .prepare_cached("SELECT address FROM sessions WHERE id = ? AND ended IS NULL")?
                .query_row([end.session], |row| row.get(0))
                .optional()?;
            let Some(address) = address else { return Ok(()) };
            let device = close(change.connection, &end, change.now)?;
            change.event(&end_event(&end, device, &address))?;
            Ok(())
        })
        .await
    }

    /// Keeps when the devices of open sessions were last heard. Call it now and then for all of them at once: it is
    /// what a crash of the server leaves of the time that they were connected.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn sessions_seen(&self, seen: Vec<(SessionId, UnixMillis)>) -> Result<(), StoreError> {
        self.write(move |change| {
            let mut session = change.connection.prepare_cached(
                "UPDATE sessions SET last_seen = max(last_seen, ?2) WHERE id = ?1 AND ended IS NULL",
            )?;
            let mut device = change.connection.prepare_cached(
                "UPDATE devices SET last_seen = max(coalesce(last_seen, 0), ?2)
                    WHERE id = (SELECT device FROM sessions WHERE id = ?1)",
            )?;
            for (id, at) in &seen {
                session.execute(params![id, at])?;
                device.execute(params![id, at])?;
            }
            Ok(())
        })
        .await
    }

    /// Where each device, or only the given one, connected from last. Devices that never did are left out.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn last_sessions(&self, device: Option<DeviceId>) -> Result<Vec<LastSession>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT devices.id, address FROM devices JOIN sessions
                    ON sessions.id = (SELECT max(id) FROM sessions WHERE device = devices.id)
                    WHERE ?1 IS NULL OR devices.id = ?1",
            )?;
            let rows = statement
                .query_map([device], |row| Ok(LastSession { device: row.get(0)?, address: row.get(1)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A page of sessions, oldest first. Fewer than the limit: there are no more now.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        self.read(move |connection| page(connection, &filter)).await
    }
}

fn start(change: &mut Change<'_>, session: &NewSession) -> Result<SessionId, StoreError> {
    let now = change.now;
    check_rights(change.connection, session.device)?;
    let address = session.address.to_canonical();
    change
        .connection
        .prepare_cached(
            "INSERT INTO sessions (device, address, boot, started, last_seen) VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![session.device, address.to_string(), session.boot.map(RandomId), now])?;
    let id = SessionId(change.connection.last_insert_rowid());
    change
        .connection
        .prepare_cached(
            "UPDATE devices SET sessions = sessions + 1, last_seen = ?2, longest_message = ?3 WHERE id = ?1",
        )?
        .execute(params![session.device, now, session.longest_message])?;
    change.event(
        &NewEvent::new(EventKind::DeviceConnected).device(session.device).session(id).address(address),
    )?;
    Ok(id)
}

/// Writes the end into the session and its device's sums.
fn close(connection: &Connection, end: &SessionEnd, now: UnixMillis) -> Result<DeviceId, StoreError> {
    let (device, connected) = connection
        .prepare_cached(
            "UPDATE sessions SET ended = ?2, last_seen = max(last_seen, ?3), reason = ?4, reason_text = ?5
                WHERE id = ?1 RETURNING device, max(0, ended - started)",
        )?
        .query_row(params![end.session, now, end.last_seen, end.reason.name(), end.text], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?))
        })?;
    connection
        .prepare_cached(
            "UPDATE devices SET connected_millis = connected_millis + ?2,
                last_seen = max(coalesce(last_seen, 0), ?3) WHERE id = ?1",
        )?
        .execute(params![device, connected, end.last_seen])?;
    Ok(device)
}

fn end_event(end: &SessionEnd, device: DeviceId, address: &str) -> NewEvent {
    let mut event = NewEvent::new(end.reason.event())
        .device(device)
        .session(end.session)
        .detail("reason", end.reason.name());
    event.address = address.parse().ok();
    if let Some(text) = &end.text {
        event = event.detail("text", text.as_str());
    }
    event
}

/// Closes the sessions that a server which died has left open, each at the time its device was last seen.
pub(super) fn close_stale(connection: &Connection) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT id, last_seen, address FROM sessions WHERE ended IS NULL ORDER BY id")?;
    let stale: Vec<(SessionId, UnixMillis, String)> = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut event = connect::newest(connection)?.event;
    let now = UnixMillis::now();
    for (session, last_seen, address) in stale {
        let end = SessionEnd { session, last_seen, reason: EndReason::ServerDied, text: None };
        let device = close(connection, &end, last_seen)?;
        event = EventId(event.0.saturating_add(1));
        events::insert(connection, event, now, &end_event(&end, device, &address))?;
    }
    Ok(())
}

fn page(connection: &Connection, filter: &SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
    let part = Part::new(filter.after.0, filter.before.map(|before| before.0));
    // Two texts, as one with `device IS ?` would use no index.
    let which = match filter.device {
        Some(_) => "device = ?3",
        None => "?3 IS NULL",
    };
    let query = format!(
        "SELECT sessions.id, name, address, boot, started, sessions.last_seen, ended, reason, reason_text,
            sessions.messages_in, sessions.bytes_in, sessions.messages_out, sessions.bytes_out
            FROM sessions JOIN devices ON devices.id = device WHERE {which} AND {} LIMIT ?4",
        part.sql("sessions.id")
    );
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map(params![part.after, part.before, filter.device, limit], row)?;
    Ok(part.ascending(rows.collect::<Result<_, _>>()?))
}

fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let reason: Option<String> = row.get(7)?;
    Ok(SessionRow {
        id: row.get(0)?,
        device: row.get(1)?,
        address: row.get(2)?,
        boot: row.get(3)?,
        started: row.get(4)?,
        last_seen: row.get(5)?,
        ended: row.get(6)?,
        reason: reason.map(|name| name.parse().unwrap_or(EndReason::Other)),
        reason_text: row.get(8)?,
        messages_in: row.get(9)?,
        bytes_in: row.get(10)?,
        messages_out: row.get(11)?,
        bytes_out: row.get(12)?,
    })
}
