//! Access tokens: by which programs ask in the name of an operator. What was revoked is not kept; its events are.

use std::net::IpAddr;

use rusqlite::{OptionalExtension, params};

use super::{
    DeviceName, OperatorId, Store, StoreError, UnixMillis,
    accounts::find,
    change::Change,
    logins::SecretHash,
    operators::{OperatorRef, SEEN_INTERVAL, Shown},
};
use crate::event::{EventKind, NewEvent, Who};

/// So many access tokens an operator may have.
pub const MOST_ACCESS_TOKENS: u32 = 50;

/// An access token to be.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Whose it is to be.
    pub operator: String,
    /// What they call it.
    pub name: DeviceName,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// Until when it is good.
    pub expires_at: UnixMillis,
    /// Who makes it.
    pub who: Who,
}

/// An access token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenRow {
    /// What its operator calls it.
    pub name: String,
    /// Since when there is it.
    pub created: UnixMillis,
    /// Until when it is good.
    pub expires_at: UnixMillis,
    /// When it was last used, within a minute.
    pub last_seen: Option<UnixMillis>,
    /// From where.
    pub address: Option<String>,
}

/// Whose access token somebody shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenHolder {
    /// The operator.
    pub operator: OperatorRef,
    /// What they call the token.
    pub token: String,
    /// Until when it is good.
    pub expires_at: UnixMillis,
}

/// Why there is no new access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenRefusal {
    /// There is no operator of this name who has rights.
    NoSuchOperator,
    /// They have one of this name.
    NameTaken,
    /// They have [`MOST_ACCESS_TOKENS`].
    TooMany,
}

impl Store {
    /// Makes an access token, with its event; or says why not. Those that have expired are forgotten.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn add_access_token(
        &self,
        token: NewAccessToken,
    ) -> Result<Result<OperatorRef, AccessTokenRefusal>, StoreError> {
        self.write(move |change| add(change, &token)).await
    }

    /// The access tokens of the operator of this name that are good still; by name.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn access_tokens(&self, operator: &str) -> Result<Vec<AccessTokenRow>, StoreError> {
        let (operator, now) = (operator.to_owned(), UnixMillis::now());
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT access_tokens.name, access_tokens.created, expires_at, access_tokens.last_seen,
                    access_tokens.address FROM access_tokens JOIN operators ON operators.id = operator
                    WHERE operators.name = ?1 AND expires_at > ?2 ORDER BY access_tokens.name",
            )?;
            let rows = statement.query_map(params![operator, now], |row| {
                Ok(AccessTokenRow {
                    name: row.get(0)?,
                    created: row.get(1)?,
                    expires_at: row.get(2)?,
                    last_seen: row.get(3)?,
                    address: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Whose access token this is, if it is good. That it was used, from there, is noted now and then; nobody waits for
    /// that.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn operator_by_access_token(
        &self,
        hash: SecretHash,
        address: IpAddr,
    ) -> Result<Option<AccessTokenHolder>, StoreError> {
        let (address, now) = (address.to_canonical().to_string(), UnixMillis::now());
        let from = address.clone();
        let found = self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT operators.id, operators.name, role, access_tokens.name, expires_at,
                    access_tokens.last_seen IS NULL OR access_tokens.last_seen NOT BETWEEN ?3 AND ?2
                        OR access_tokens.address IS NOT ?4
                    FROM access_tokens JOIN operators ON operators.id = operator
                    WHERE hash = ?1 AND expires_at > ?2 AND operators.revoked_at IS NULL",
            )?;
            let found = statement.query_row(params![hash, now, now.plus(-SEEN_INTERVAL), from], |row| {
                let operator = OperatorRef::read(row)?;
                let holder = AccessTokenHolder { operator, token: row.get(3)?, expires_at: row.get(4)? };
                Ok((holder, row.get::<_, bool>(5)?))
            });
            Ok(found.optional()?)
        });
        let Some((holder, is_news)) = found.await? else { return Ok(None) };
        if is_news {
            self.note_seen(holder.operator.id, now, address, Shown::AccessToken(hash));
        }
        Ok(Some(holder))
    }

    /// Ends the access token of this name, with its event, and gives its hash; nothing if there is none.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn revoke_access_token(
        &self,
        operator: &str,
        token: &str,
        who: Who,
    ) -> Result<Option<SecretHash>, StoreError> {
        let (operator, token) = (operator.to_owned(), token.to_owned());
        self.write(move |change| {
            let hash: Option<SecretHash> = change
                .connection
                .prepare_cached(
                    "DELETE FROM access_tokens WHERE name = ?2
                        AND operator = (SELECT id FROM operators WHERE name = ?1) RETURNING hash",
                )?
                .query_row([&operator, &token], |row| row.get(0))
                .optional()?;
            if hash.is_some() {
                let event = NewEvent::new(EventKind::AccessTokenRevoked).who(&who);
                change.event(&event.detail("operator", operator.as_str()).detail("token", token.as_str()))?;
            }
            Ok(hash)
        })
        .await
    }
}

fn add(
    change: &mut Change<'_>,
    token: &NewAccessToken,
) -> Result<Result<OperatorRef, AccessTokenRefusal>, StoreError> {
    let Some(operator) = find(change, &token.operator)? else {
        return Ok(Err(AccessTokenRefusal::NoSuchOperator));
    };
    let connection = change.connection;
    connection.prepare_cached("DELETE FROM access_tokens WHERE expires_at <= ?")?.execute([change.now])?;
    let (count, is_taken): (u32, bool) = connection
        .prepare_cached(
            "SELECT count(*), coalesce(max(name = ?2), 0) FROM access_tokens WHERE operator = ?1",
        )?
        .query_row(params![operator.id, token.name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if is_taken {
        return Ok(Err(AccessTokenRefusal::NameTaken));
    }
    if count >= MOST_ACCESS_TOKENS {
        return Ok(Err(AccessTokenRefusal::TooMany));
    }
    connection
        .prepare_cached(
            "INSERT INTO access_tokens (hash, operator, name, created, expires_at) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![token.hash, operator.id, token.name.as_str(), change.now, token.expires_at])?;
    let event = NewEvent::new(EventKind::AccessTokenCreated).who(&token.who);
    let event = event.detail("operator", operator.name.as_str()).detail("token", token.name.as_str());
    change.event(&event.detail("expires_at", token.expires_at.rfc_3339()))?;
    Ok(Ok(operator))
}

/// Ends all access tokens of an operator: gives them.
pub(super) fn end_access_tokens(
    change: &Change<'_>,
    operator: OperatorId,
) -> Result<Vec<SecretHash>, StoreError> {
    let ended = change
        .connection
        .prepare_cached("DELETE FROM access_tokens WHERE operator = ? RETURNING hash")?
        .query_map([operator], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(ended)
}
