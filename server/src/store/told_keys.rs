//! Which keys of the server its devices are told, and which devices have heard of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError};

/// The keys that devices are told, by their pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldKeys {
    /// The key in use.
    pub current: [u8; 32],
    /// The one that comes after it.
    pub next: [u8; 32],
}

impl Store {
    /// The keys that devices were told last; nothing before a server has run.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn told_keys(&self) -> Result<Option<ToldKeys>, StoreError> {
        self.read(told).await
    }

    /// Notes that devices are told these keys from now on, if it is not so already.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn tell_keys(&self, keys: ToldKeys) -> Result<(), StoreError> {
        self.write(move |change| {
            if told(change.connection)? == Some(keys) {
                return Ok(());
            }
            let put = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)";
            let mut put = change.connection.prepare_cached(put)?;
            put.execute(params!["key-current", keys.current])?;
            put.execute(params!["key-next", keys.next])?;
            put.execute(params!["keys-told-since", change.now])?;
            Ok(())
        })
        .await
    }

    /// The names of the registered devices with a key that have not been told the keys that devices are told now: they were
    /// neither enrolled nor connected since.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn untold_devices(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name FROM devices
                    JOIN (SELECT value AS since FROM meta WHERE key = 'keys-told-since')
                    WHERE kind = 'framed' AND revoked_at IS NULL AND gateway IS NULL
                        AND NOT EXISTS (SELECT 1 FROM keys
                            WHERE device = devices.id AND keys.revoked_at IS NULL AND keys.created >= since)
                        AND NOT EXISTS (SELECT 1 FROM sessions
                            WHERE device = devices.id AND started >= since)
                    ORDER BY name",
            )?;
            let names = statement.query_map((), |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn told(connection: &Connection) -> Result<Option<ToldKeys>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
    let mut pin = |key: &str| statement.query_row([key], |row| row.get(0)).optional();
    let (current, next) = (pin("key-current")?, pin("key-next")?);
    Ok(current.zip(next).map(|(current, next)| ToldKeys { current, next }))
}
