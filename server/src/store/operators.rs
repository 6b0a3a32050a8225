//! Operators elsewhere: who they are, by which keys they are known, and what they may do.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol_core::code::Role;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::time::sleep;

use super::{
    DeviceName, EnrolmentRefusal, OperatorId, Store, StoreError, TokenId, UnixMillis,
    access_tokens::end_access_tokens,
    change::Change,
    logins::{SecretHash, end_all},
    roles::some_role,
    tokens::find_token,
};
use crate::event::{EventKind, NewEvent, Who};

/// How old the note of when an operator was last seen may become, in milliseconds.
pub(super) const SEEN_INTERVAL: i64 = 60_000;

/// How long nothing is noted after a note that failed.
const NOTE_PAUSE: Duration = Duration::from_secs(60);

/// An operator, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRef {
    /// Their id.
    pub id: OperatorId,
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl OperatorRef {
    /// The one in the first three columns of a row: id, name and role.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, name: row.get(1)?, role: some_role(row, 2)? })
    }
}

/// What is known of an operator's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorKey {
    /// Nothing.
    Unknown,
    /// It is theirs.
    Known(OperatorRef),
    /// It was theirs.
    Revoked(OperatorRef),
}

/// An operator as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRow {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The SHA-256 of their newest public key, in hexadecimal.
    pub key: Option<String>,
    /// Since when they have this role.
    pub created: UnixMillis,
    /// When their rights were taken away.
    pub revoked_at: Option<UnixMillis>,
    /// When they last asked for something.
    pub last_seen: Option<UnixMillis>,
    /// From where.
    pub address: Option<String>,
    /// Whether they have a password, for the console.
    pub has_password: bool,
    /// Whether they have a second factor beside it.
    pub has_totp: bool,
}

/// An operator whose rights were taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedOperator {
    /// The operator.
    pub operator: OperatorRef,
    /// The SHA-256 of all public keys that were theirs.
    pub keys: Vec<[u8; 32]>,
    /// The logins that have ended by it.
    pub logins: Vec<SecretHash>,
    /// The access tokens that have.
    pub access_tokens: Vec<SecretHash>,
}

/// By what an operator was seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown {
    /// A key.
    Key,
    /// A login.
    Login(SecretHash),
    /// An access token.
    AccessToken(SecretHash),
}

/// An operator who asks to be registered.
#[derive(Clone, Debug)]
pub struct OperatorEnrolment {
    /// The SHA-256 of the token they show.
    pub token_hash: [u8; 32],
    /// The SHA-256 of their public key, proven by TLS.
    pub key: [u8; 32],
    /// What their machine calls itself.
    pub host_name: Option<String>,
    /// Where they ask from.
    pub address: IpAddr,
}

impl Store {
    /// Registers an operator, with its event; or refuses it. A key that has been registered by this token before gets the
    /// same answer again, even when the token has run out since: its first answer may have been lost. A token for the
    /// name of a revoked operator gives them a new key, and the token's role. A refusal leaves no event: see
    /// [`Store::limit_refusal`].
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn enrol_operator(
        &self,
        enrolment: OperatorEnrolment,
    ) -> Result<Result<OperatorRef, EnrolmentRefusal>, StoreError> {
        self.write(move |change| enrol(change, &enrolment)).await
    }

    /// Whose key this is. That they were seen, from there, is noted now and then; nobody waits for that.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn operator_by_key(&self, key: [u8; 32], address: IpAddr) -> Result<OperatorKey, StoreError> {
        let address = address.to_canonical().to_string();
        let seen = UnixMillis::now();
        let (found, is_news) = {
            let address = address.clone();
            self.read(move |connection| look(connection, &key, seen, &address)).await?
        };
        if let (OperatorKey::Known(operator), true) = (&found, is_news) {
            self.note_seen(operator.id, seen, address, Shown::Key);
        }
        Ok(found)
    }

    /// Notes that an operator was seen. It is for people to see: a disk that stands still, or is full, holds nobody up over it,
    /// and only one such note is on its way at a time.
    pub(super) fn note_seen(&self, id: OperatorId, seen: UnixMillis, address: String, shown: Shown) {
        let Ok(turn) = Arc::clone(&self.shared.seen_notes).try_acquire_owned() else { return };
        let store = self.clone();
        tokio::spawn(async move {
            let noted = store.write(move |change| {
                change
                    .connection
                    .prepare_cached("UPDATE operators SET last_seen = ?2, address = ?3 WHERE id = ?1")?
                    .execute(params![id, seen, address])?;
                let (update, hash) = match shown {
                    Shown::Key => return Ok(()),
                    Shown::Login(hash) => {
                        ("UPDATE logins SET last_seen = ?2, address = ?3 WHERE hash = ?1", hash)
                    }
                    Shown::AccessToken(hash) => {
                        ("UPDATE access_tokens SET last_seen = ?2, address = ?3 WHERE hash = ?1", hash)
                    }
                };
                change.connection.prepare_cached(update)?.execute(params![hash, seen, address])?;
                Ok(())
            });
            if let Err(error) = noted.await {
                tracing::warn!(%error, "it could not be noted when an operator was last there");
                // What is full now, or broken, is not tried at each request.
                drop(store);
                sleep(NOTE_PAUSE).await;
            }
            drop(turn);
        });
    }

    /// All operators, by name; those who were revoked too.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            let rows = statement.query_map((), row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The operator of this name.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?"))?;
            Ok(statement.query_row([name], row).optional()?)
        })
        .await
    }

    /// Takes an operator's rights away, for another one, with its event; nothing if there is none of this name. Gives
    /// their keys, which are refused from now on: it is for the caller to end what is open. A revoked operator stays as
    /// they are.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn revoke_operator(
        &self,
        name: &str,
        who: impl Into<Who>,
    ) -> Result<Option<RevokedOperator>, StoreError> {
        let (name, who) = (name.to_owned(), who.into());
        self.write(move |change| revoke(change, &name, &who)).await
    }
}

/// Whose key this is, and whether it is to be noted that they were seen.
fn look(
    connection: &Connection,
    key: &[u8; 32],
    now: UnixMillis,
    address: &str,
) -> Result<(OperatorKey, bool), StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT operators.id, name, role, operator_keys.revoked_at IS NOT NULL OR operators.revoked_at IS NOT NULL,
                last_seen IS NULL OR last_seen NOT BETWEEN ?2 AND ?3 OR address IS NOT ?4
                FROM operator_keys JOIN operators ON operators.id = operator_keys.operator WHERE hash = ?1",
        )?
        .query_row(params![key, now.plus(-SEEN_INTERVAL), now, address], |row| {
            let operator = OperatorRef::read(row)?;
            Ok((operator, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    Ok(match found {
        None => (OperatorKey::Unknown, false),
        Some((operator, true, _)) => (OperatorKey::Revoked(operator), false),
        Some((operator, false, is_news)) => (OperatorKey::Known(operator), is_news),
    })
}

fn enrol(
    change: &mut Change<'_>,
    enrolment: &OperatorEnrolment,
) -> Result<Result<OperatorRef, EnrolmentRefusal>, StoreError> {
    let connection = change.connection;
    let Some(token) = find_token(connection, &enrolment.token_hash)? else {
        return Ok(Err(EnrolmentRefusal::UnknownToken));
    };
    let (Some(role), Some(name)) = (token.role, token.name.clone()) else {
        return Ok(Err(EnrolmentRefusal::ForDevice));
    };
    match key_status(connection, &enrolment.key)? {
        Some((_, _, true)) => return Ok(Err(EnrolmentRefusal::KeyRevoked)),
        // Known by another token it needs no second registration, as long as that one is good.
        Some((operator, by, false)) if by == token.id || token.is_good(change.now).is_ok() => {
            return Ok(Ok(operator));
        }
        Some(_) | None => {}
    }
    if let Err(refusal) = token.is_good(change.now) {
        return Ok(Err(refusal));
    }
    let placed = match keyless(change, &name, role)? {
        Some(id) => Ok(id),
        None => place(change, &name, role)?,
    };
    match placed {
        Err(refusal) => Ok(Err(refusal)),
        Ok(id) => {
            connection
                .prepare_cached(
                    "INSERT INTO operator_keys (hash, operator, token, created) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![enrolment.key, id, token.id, change.now])?;
            let mut event = NewEvent::new(EventKind::OperatorEnrolled)
                .who(Who { name: name.to_string(), address: Some(enrolment.address) })
                .detail("token", token.id.0)
                .detail("role", role.to_string());
            if let Some(host_name) = &enrolment.host_name {
                event = event.detail("host_name", host_name.as_str());
            }
            change.event(&event)?;
            Ok(Ok(OperatorRef { id, name: name.into(), role }))
        }
    }
}

/// The operator with this key, the token that it was registered by, and whether either is revoked.
fn key_status(
    connection: &Connection,
    key: &[u8; 32],
) -> Result<Option<(OperatorRef, TokenId, bool)>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT operators.id, name, role, token,
                operator_keys.revoked_at IS NOT NULL OR operators.revoked_at IS NOT NULL
                FROM operator_keys JOIN operators ON operators.id = operator_keys.operator WHERE hash = ?",
        )?
        .query_row([key], |row| {
            let operator = OperatorRef::read(row)?;
            Ok((operator, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    Ok(found)
}

/// The operator of this name who has no key yet, only a password or a one-time login; if they still have the role that
/// the line was made for.
fn keyless(change: &Change<'_>, name: &DeviceName, role: Role) -> Result<Option<OperatorId>, StoreError> {
    let id = change
        .connection
        .prepare_cached(
            "SELECT id FROM operators WHERE name = ?1 AND role = ?2 AND revoked_at IS NULL AND NOT EXISTS
                (SELECT 1 FROM operator_keys WHERE operator = operators.id AND operator_keys.revoked_at IS NULL)",
        )?
        .query_row(params![name.as_str(), role.to_string()], |row| row.get(0))
        .optional()?;
    Ok(id)
}

/// Makes the row of a new operator, or takes over the one of a revoked operator of that name.
pub(super) fn place(
    change: &mut Change<'_>,
    name: &DeviceName,
    role: Role,
) -> Result<Result<OperatorId, EnrolmentRefusal>, StoreError> {
    let holder: Option<(OperatorId, bool)> = change
        .connection
        .prepare_cached("SELECT id, revoked_at IS NOT NULL FROM operators WHERE name = ?")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match holder {
        Some((_, false)) => Ok(Err(EnrolmentRefusal::OperatorTaken(name.clone()))),
        Some((id, true)) => {
            change
                .connection
                .prepare_cached(
                    "UPDATE operators SET role = ?2, created = ?3, revoked_at = NULL, last_seen = NULL, address = NULL
                        WHERE id = ?1",
                )?
                .execute(params![id, role.to_string(), change.now])?;
            Ok(Ok(id))
        }
        None => {
            change
                .connection
                .prepare_cached("INSERT INTO operators (name, role, created) VALUES (?, ?, ?)")?
                .execute(params![name.as_str(), role.to_string(), change.now])?;
            Ok(Ok(OperatorId(change.connection.last_insert_rowid())))
        }
    }
}

fn revoke(change: &mut Change<'_>, name: &str, who: &Who) -> Result<Option<RevokedOperator>, StoreError> {
    let found = change
        .connection
        .prepare_cached("SELECT id, name, role, revoked_at IS NOT NULL FROM operators WHERE name = ?")?
        .query_row([name], |row| {
            let operator = OperatorRef::read(row)?;
            Ok((operator, row.get::<_, bool>(3)?))
        })
        .optional()?;
    let Some((operator, is_revoked)) = found else { return Ok(None) };
    if !is_revoked {
        for update in [
            "UPDATE operators SET revoked_at = ?2, password = NULL, totp = NULL, totp_offered = NULL WHERE id = ?1",
            "UPDATE operator_keys SET revoked_at = ?2 WHERE operator = ?1 AND revoked_at IS NULL",
        ] {
            change.connection.prepare_cached(update)?.execute(params![operator.id, change.now])?;
        }
        let event = NewEvent::new(EventKind::OperatorRevoked)
            .who(who)
            .detail("operator", operator.name.as_str())
            .detail("role", operator.role.to_string());
        change.event(&event)?;
    }
    end_lines(change, &operator.name)?;
    let logins = end_all(change, operator.id, None)?;
    let access_tokens = end_access_tokens(change, operator.id)?;
    let mut statement =
        change.connection.prepare_cached("SELECT hash FROM operator_keys WHERE operator = ?")?;
    let keys = statement.query_map([operator.id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Some(RevokedOperator { operator, keys, logins, access_tokens }))
}

/// Ends the lines that were made for an operator of this name: what they would give was decided before.
pub(super) fn end_lines(change: &Change<'_>, name: &str) -> Result<(), StoreError> {
    let end = "UPDATE tokens SET expires_at = min(expires_at, ?2) WHERE name = ?1 AND role IS NOT NULL";
    change.connection.prepare_cached(end)?.execute(params![name, change.now])?;
    Ok(())
}

const SELECT: &str = "SELECT name, role,
    (SELECT lower(hex(hash)) FROM operator_keys WHERE operator = operators.id
        AND (operator_keys.revoked_at IS NULL OR operators.revoked_at IS NOT NULL)
        ORDER BY operator_keys.created DESC LIMIT 1),
    created, revoked_at, last_seen, address, password IS NOT NULL, totp IS NOT NULL FROM operators";

fn row(row: &Row<'_>) -> rusqlite::Result<OperatorRow> {
    Ok(OperatorRow {
        name: row.get(0)?,
        role: some_role(row, 1)?,
        key: row.get(2)?,
        created: row.get(3)?,
        revoked_at: row.get(4)?,
        last_seen: row.get(5)?,
        address: row.get(6)?,
        has_password: row.get(7)?,
        has_totp: row.get(8)?,
    })
}
