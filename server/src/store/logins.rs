//! Logins of browsers: begun by a password, known by a secret, and ended. What has ended is not kept. That it was ended
//! is an event; one that ends by itself, unused or too old, has none.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    OperatorId, Store, StoreError, UnixMillis,
    change::Change,
    operators::{OperatorRef, SEEN_INTERVAL, Shown},
};
use crate::event::{EventKind, NewEvent, Who};

/// The SHA-256 of what somebody shows, which itself is not kept.
pub type SecretHash = [u8; 32];

/// A login ends when it was not used for so long, in milliseconds: a day.
pub const IDLE_LIMIT: i64 = 86_400_000;

/// The same for a login without TLS, on this machine, where others may get at its cookie: an hour.
pub const PLAIN_IDLE_LIMIT: i64 = 3_600_000;

/// A login ends after so long, in milliseconds, whatever is done with it: two weeks.
pub const TIME_LIMIT: i64 = 14 * 86_400_000;

/// So many logins an operator may have; the one that was used the longest ago makes way.
const MOST: u32 = 50;

/// An operator who may log in by a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The operator.
    pub operator: OperatorRef,
    /// The hash of the password.
    pub password: String,
    /// The secret of the second factor, if they have one.
    pub totp: Option<Vec<u8>>,
    /// The newest step whose code was used.
    pub totp_step: u64,
    /// Where they are known: where they were seen last, and where they are logged in.
    pub addresses: Vec<String>,
}

/// A browser that logs in.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// The hash of the secret that it is given.
    pub hash: SecretHash,
    /// Where it is.
    pub address: IpAddr,
    /// Whether it came over TLS. The login is good for the way by which it came, and no other.
    pub is_secure: bool,
    /// What it calls itself.
    pub browser: Option<String>,
}

/// A login as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRow {
    /// Its number, which is never used again.
    pub id: i64,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// Whose it is.
    pub operator: String,
    /// Since when.
    pub since: UnixMillis,
    /// When it was last used, within a minute.
    pub last_seen: UnixMillis,
    /// From where.
    pub address: String,
    /// What the browser calls itself: escape it where it is shown.
    pub browser: Option<String>,
}

impl Store {
    /// The operator of this name, if they may log in by a password.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn candidate(&self, name: &str) -> Result<Option<Candidate>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| candidate(connection, "name", &name)).await
    }

    /// As [`Store::candidate`], by id.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn candidate_by_id(&self, id: OperatorId) -> Result<Option<Candidate>, StoreError> {
        self.read(move |connection| candidate(connection, "id", &id)).await
    }

    /// Logs an operator in whose password, and code of this step, were right, with its event; not if the operator has
    /// changed since, or the code was used meanwhile: then nothing. Gives the logins that had to make way.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn begin_login(
        &self,
        candidate: Candidate,
        step: Option<u64>,
        login: NewLogin,
    ) -> Result<Option<Vec<SecretHash>>, StoreError> {
        self.write(move |change| {
            let is_so = change
                .connection
                .prepare_cached(
                    "UPDATE operators SET totp_step = coalesce(?3, totp_step) WHERE id = ?1 AND password = ?2
                        AND revoked_at IS NULL AND (?3 IS NULL OR totp_step < ?3)",
                )?
                .execute(params![candidate.operator.id, candidate.password, step])?;
            if is_so == 0 {
                return Ok(None);
            }
            begin(change, &candidate.operator, &login).map(Some)
        })
        .await
    }

    /// Whose login this is, shown over TLS or not. That it was used, from there, is noted now and then; nobody waits for
    /// that.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn operator_by_login(
        &self,
        hash: SecretHash,
        is_secure: bool,
        address: IpAddr,
    ) -> Result<Option<(OperatorRef, UnixMillis)>, StoreError> {
        let address = address.to_canonical().to_string();
        let now = UnixMillis::now();
        let found = {
            let address = address.clone();
            self.read(move |connection| look(connection, &hash, is_secure, now, &address)).await?
        };
        let Some((operator, since, is_news)) = found else { return Ok(None) };
        if is_news {
            self.note_seen(operator.id, now, address, Shown::Login(hash));
        }
        Ok(Some((operator, since)))
    }

    /// The logins of the operator of this name, or of all; the newest first.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn logins(&self, operator: Option<&str>) -> Result<Vec<LoginRow>, StoreError> {
        let operator = operator.map(ToOwned::to_owned);
        let now = UnixMillis::now();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT logins.id, hash, name, logins.created, logins.last_seen, logins.address, browser
                    FROM logins JOIN operators ON operators.id = operator
                    WHERE (?1 IS NULL OR name = ?1) AND logins.created > ?2
                    AND logins.last_seen > CASE secure WHEN 1 THEN ?3 ELSE ?4 END ORDER BY logins.id DESC",
            )?;
            let [oldest, idle, plain_idle] = limits(now);
            let rows = statement.query_map(params![operator, oldest, idle, plain_idle], |row| {
                Ok(LoginRow {
                    id: row.get(0)?,
                    hash: row.get(1)?,
                    operator: row.get(2)?,
                    since: row.get(3)?,
                    last_seen: row.get(4)?,
                    address: row.get(5)?,
                    browser: row.get(6)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Ends a login, with its event; nothing if it has ended already.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn end_login(&self, hash: SecretHash, who: Who) -> Result<bool, StoreError> {
        self.write(move |change| {
            let operator: Option<String> = change
                .connection
                .prepare_cached(
                    "SELECT name FROM logins JOIN operators ON operators.id = operator WHERE hash = ?",
                )?
                .query_row([hash], |row| row.get(0))
                .optional()?;
            let Some(operator) = operator else { return Ok(false) };
            change.connection.prepare_cached("DELETE FROM logins WHERE hash = ?")?.execute([hash])?;
            change.event(&NewEvent::new(EventKind::LoggedOut).who(&who).detail("operator", operator))?;
            Ok(true)
        })
        .await
    }

    /// Whose one-time login this is.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn first_login(&self, token: SecretHash) -> Result<Option<OperatorRef>, StoreError> {
        let now = UnixMillis::now();
        self.read(move |connection| first_login(connection, &token, now)).await
    }

    /// Uses a one-time login up: sets the password, takes a second factor away, ends what was logged in by the one
    /// before, and logs in; with the events. Nothing if it has been used, has expired, or the operator was revoked.
    /// Gives the logins that have ended.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn use_first_login(
        &self,
        token: SecretHash,
        password: String,
        login: NewLogin,
    ) -> Result<Option<(OperatorRef, Vec<SecretHash>)>, StoreError> {
        self.write(move |change| {
            let Some(operator) = first_login(change.connection, &token, change.now)? else { return Ok(None) };
            let ended = end_all(change, operator.id, None)?;
            change
                .connection
                .prepare_cached(
                    "UPDATE operators SET password = ?2, totp = NULL, totp_offered = NULL WHERE id = ?1",
                )?
                .execute(params![operator.id, password])?;
            let who = Who { name: operator.name.clone(), address: Some(login.address) };
            let event = NewEvent::new(EventKind::PasswordChanged).who(who).detail("by", "one-time login");
            change.event(&event.detail("logins_ended", ended.len()))?;
            begin(change, &operator, &login)?;
            Ok(Some((operator, ended)))
        })
        .await
    }
}

/// Since when a login that is good was begun; and since when used, over TLS and without.
fn limits(now: UnixMillis) -> [UnixMillis; 3] {
    [TIME_LIMIT, IDLE_LIMIT, PLAIN_IDLE_LIMIT].map(|limit| now.plus(-limit))
}

fn candidate(
    connection: &Connection,
    column: &str,
    value: &dyn rusqlite::ToSql,
) -> Result<Option<Candidate>, StoreError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT id, name, role, password, totp, totp_step FROM operators
                WHERE {column} = ? AND password IS NOT NULL AND revoked_at IS NULL"
        ))?
        .query_row([value], |row| {
            Ok(Candidate {
                operator: OperatorRef::read(row)?,
                password: row.get(3)?,
                totp: row.get(4)?,
                totp_step: row.get(5)?,
                addresses: Vec::new(),
            })
        })
        .optional()?;
    let Some(candidate) = found else { return Ok(None) };
    let [oldest, idle, plain_idle] = limits(UnixMillis::now());
    let addresses = connection
        .prepare_cached(
            "SELECT address FROM operators WHERE id = ?1 AND address IS NOT NULL
                UNION SELECT address FROM logins WHERE operator = ?1 AND created > ?2
                    AND last_seen > CASE secure WHEN 1 THEN ?3 ELSE ?4 END",
        )?
        .query_map(params![candidate.operator.id, oldest, idle, plain_idle], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(Candidate { addresses, ..candidate }))
}

fn look(
    connection: &Connection,
    hash: &SecretHash,
    is_secure: bool,
    now: UnixMillis,
    address: &str,
) -> Result<Option<(OperatorRef, UnixMillis, bool)>, StoreError> {
    let [oldest, idle, plain_idle] = limits(now);
    let found = connection
        .prepare_cached(
            "SELECT operators.id, name, role, logins.created,
                logins.last_seen NOT BETWEEN ?4 AND ?5 OR logins.address IS NOT ?6
                FROM logins JOIN operators ON operators.id = operator
                WHERE hash = ?1 AND logins.created > ?2 AND logins.last_seen > ?3 AND operators.revoked_at IS NULL
                    AND secure = ?7",
        )?
        .query_row(
            params![
                hash,
                oldest,
                if is_secure { idle } else { plain_idle },
                now.plus(-SEEN_INTERVAL),
                now,
                address,
                is_secure
            ],
            |row| {
                let operator = OperatorRef::read(row)?;
                Ok((operator, row.get(3)?, row.get(4)?))
            },
        )
        .optional()?;
    Ok(found)
}

fn first_login(
    connection: &Connection,
    token: &SecretHash,
    now: UnixMillis,
) -> Result<Option<OperatorRef>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT operators.id, name, role FROM first_logins JOIN operators ON operators.id = operator
                WHERE hash = ?1 AND expires_at > ?2 AND operators.revoked_at IS NULL",
        )?
        .query_row(params![token, now], OperatorRef::read)
        .optional()?;
    Ok(found)
}

/// Makes the row of a login, with its event; forgets what has ended by itself. Gives the logins that made way.
fn begin(
    change: &mut Change<'_>,
    operator: &OperatorRef,
    login: &NewLogin,
) -> Result<Vec<SecretHash>, StoreError> {
    let (now, address) = (change.now, login.address.to_canonical());
    let connection = change.connection;
    connection
        .prepare_cached(
            "DELETE FROM logins WHERE created <= ?1 OR last_seen <= CASE secure WHEN 1 THEN ?2 ELSE ?3 END",
        )?
        .execute(limits(now))?;
    connection.prepare_cached("DELETE FROM first_logins WHERE expires_at <= ?")?.execute([now])?;
    let displaced: Vec<SecretHash> = connection
        .prepare_cached(
            "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE operator = ?1 ORDER BY last_seen DESC, id DESC
                LIMIT -1 OFFSET ?2) RETURNING hash",
        )?
        .query_map(params![operator.id, MOST - 1], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    connection
        .prepare_cached(
            "INSERT INTO logins (hash, operator, created, last_seen, address, secure, browser)
                VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            login.hash,
            operator.id,
            now,
            address.to_string(),
            login.is_secure,
            login.browser
        ])?;
    connection
        .prepare_cached("UPDATE operators SET last_seen = ?2, address = ?3 WHERE id = ?1")?
        .execute(params![operator.id, now, address.to_string()])?;
    let who = Who { name: operator.name.clone(), address: Some(address) };
    let mut event = NewEvent::new(EventKind::LoggedIn).who(who).detail("role", operator.role.to_string());
    if let Some(browser) = &login.browser {
        event = event.detail("browser", browser.as_str());
    }
    if !displaced.is_empty() {
        event = event.detail("logins_ended", displaced.len());
    }
    change.event(&event)?;
    Ok(displaced)
}

/// Ends all logins of an operator but this one, and what could begin one: gives them.
pub(super) fn end_all(
    change: &Change<'_>,
    operator: OperatorId,
    but: Option<SecretHash>,
) -> Result<Vec<SecretHash>, StoreError> {
    change.connection.prepare_cached("DELETE FROM first_logins WHERE operator = ?")?.execute([operator])?;
    let ended = change
        .connection
        .prepare_cached("DELETE FROM logins WHERE operator = ?1 AND hash IS NOT ?2 RETURNING hash")?
        .query_map(params![operator, but], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(ended)
}
