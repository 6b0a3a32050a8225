//! Enrolment: tokens, the devices made by them, and their names.

use std::net::IpAddr;

use protocol_core::code::Role;
use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;

use super::{
    DeviceId, DeviceName, DeviceRef, Facts, KeyStatus, Store, StoreError, TokenId, UnixMillis,
    change::Change,
    devices::{self, admit, holder, insert},
    roles::role,
};
use crate::event::{EventKind, NewEvent, Who};

/// How many numbers behind a name are tried, beyond those that are surely taken.
const NAME_ATTEMPTS: u64 = 100_000;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The SHA-256 of the token; the token itself is not kept.
    pub hash: [u8; 32],
    /// The name of the device; with more than one use, what their names begin with. Without it, devices are named
    /// by their host names.
    pub name: Option<DeviceName>,
    /// How many devices may use it.
    pub uses: u32,
    /// Until when.
    pub expires_at: UnixMillis,
    /// The role of the operator elsewhere whom it is for, who is then called `name`; none: it is for devices.
    pub role: Option<Role>,
    /// The operator who makes it.
    pub who: Who,
}

/// A device that asks to be registered.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The SHA-256 of the token it shows.
    pub token_hash: [u8; 32],
    /// The SHA-256 of its public key, proven by TLS.
    pub key: [u8; 32],
    /// What it says of itself.
    pub facts: Facts,
    /// Where it asks from.
    pub address: IpAddr,
}

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its id.
    pub device: DeviceId,
    /// Its name.
    pub name: DeviceName,
    /// The same key has asked before, and gets the same answer.
    pub repeat: bool,
}

/// Why a device was not registered, in the words of its owner, who has a line: the device knows what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnrolmentRefusal {
    /// There is no such token.
    #[error("the line is not known here")]
    UnknownToken,
    /// Its time is over.
    #[error("the line has expired")]
    Expired,
    /// As many devices as may have used it.
    #[error("the line has been used as often as it may be")]
    UsedUp,
    /// The name that it gives is another device's by now.
    #[error("the name {0} is taken by another device")]
    NameTaken(DeviceName),
    /// The key's rights were taken away: the device needs a new key.
    #[error("this key was revoked: a new one is needed")]
    KeyRevoked,
    /// The line is for a person, and a device has asked.
    #[error("the line is an operator's (for `holdfast login`), not a device's")]
    ForOperator,
    /// The line is for a device, and a person has asked.
    #[error("the line is a device's, not an operator's: `holdfast enroll --operator NAME` makes those")]
    ForDevice,
    /// The name that it gives is another operator's by now.
    #[error("there is an operator {0} already")]
    OperatorTaken(DeviceName),
}

impl Store {
    /// Keeps a token, with its event.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn create_token(&self, token: NewToken) -> Result<TokenId, StoreError> {
        self.write(move |change| create(change, &token)).await
    }

    /// Registers a device, with its event; or refuses it. A key that has been registered by this token before gets
    /// the same answer again, even when the token has run out since: its first answer may have been lost.
    /// A token for the name of a revoked device gives that device its new key, and it keeps its history.
    /// A refusal leaves no event: see [`Store::limit_refusal`].
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn enrol(
        &self,
        enrolment: Enrolment,
    ) -> Result<Result<Enrolled, EnrolmentRefusal>, StoreError> {
        self.write(move |change| enrol(change, &enrolment)).await
    }
}

fn create(change: &mut Change<'_>, token: &NewToken) -> Result<TokenId, StoreError> {
    let name = token.name.as_ref().map(DeviceName::as_str);
    change
        .connection
        .prepare_cached(
            "INSERT INTO tokens (hash, name, uses, created, expires_at, created_by, role) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            token.hash,
            name,
            token.uses,
            change.now,
            token.expires_at,
            token.who.name,
            token.role.map(|role| role.to_string()),
        ])?;
    let id = TokenId(change.connection.last_insert_rowid());
    let mut event = NewEvent::new(EventKind::TokenCreated)
        .who(&token.who)
        .detail("token", id.0)
        .detail("name", name)
        .detail("uses", token.uses)
        .detail("expires_at", token.expires_at.rfc_3339());
    if let Some(role) = token.role {
        event = event.detail("role", role.to_string());
    }
    change.event(&event)?;
    Ok(id)
}

/// A token as enrolment needs it.
pub(super) struct Token {
    pub(super) id: TokenId,
    pub(super) name: Option<DeviceName>,
    /// Of an operator's.
    pub(super) role: Option<Role>,
    uses: u64,
    used: u64,
    expires_at: UnixMillis,
}

impl Token {
    /// Whether one more key may be registered by it.
    pub(super) fn is_good(&self, now: UnixMillis) -> Result<(), EnrolmentRefusal> {
        if self.expires_at <= now {
            return Err(EnrolmentRefusal::Expired);
        }
        if self.used >= self.uses {
            return Err(EnrolmentRefusal::UsedUp);
        }
        Ok(())
    }
}

fn enrol(
    change: &mut Change<'_>,
    enrolment: &Enrolment,
) -> Result<Result<Enrolled, EnrolmentRefusal>, StoreError> {
    let connection = change.connection;
    let Some(token) = find_token(connection, &enrolment.token_hash)? else {
        return Ok(Err(EnrolmentRefusal::UnknownToken));
    };
    if token.role.is_some() {
        return Ok(Err(EnrolmentRefusal::ForOperator));
    }
    match devices::key_status(connection, &enrolment.key)? {
        KeyStatus::Revoked(_) => return Ok(Err(EnrolmentRefusal::KeyRevoked)),
        KeyStatus::Known(device) if has_used(connection, &token, &enrolment.key)? => {
            return Ok(Ok(answer(device, true)));
        }
        // Known by another token: it needs no second registration, and this token keeps its use.
        KeyStatus::Known(device) if token.expires_at > change.now => return Ok(Ok(answer(device, true))),
        KeyStatus::Known(_) | KeyStatus::Unknown => {}
    }
    if let Err(refusal) = token.is_good(change.now) {
        return Ok(Err(refusal));
    }
    let device = match place(change, &token, &enrolment.facts)? {
        Ok(device) => device,
        Err(refusal) => return Ok(Err(refusal)),
    };
    connection
        .prepare_cached("INSERT INTO keys (hash, device, created) VALUES (?, ?, ?)")?
        .execute(params![enrolment.key, device.id, change.now])?;
    connection
        .prepare_cached("INSERT INTO token_uses (token, key, device, at) VALUES (?, ?, ?, ?)")?
        .execute(params![token.id, enrolment.key, device.id, change.now])?;
    devices::set_facts(connection, device.id, &enrolment.facts)?;
    let event = NewEvent::new(EventKind::DeviceEnrolled)
        .device(device.id)
        .address(enrolment.address)
        .detail("token", token.id.0);
    change.event(&event)?;
    Ok(Ok(answer(device, false)))
}

fn answer(device: DeviceRef, repeat: bool) -> Enrolled {
    let name = device.name.parse().unwrap_or_else(|_| DeviceName::from_host_name(&device.name));
    Enrolled { device: device.id, name, repeat }
}

pub(super) fn find_token(connection: &Connection, hash: &[u8; 32]) -> Result<Option<Token>, StoreError> {
    let token = connection
        .prepare_cached(
            "SELECT id, name, uses, (SELECT count(*) FROM token_uses WHERE token = tokens.id)
                    + (SELECT count(*) FROM operator_keys WHERE token = tokens.id), expires_at, role
                FROM tokens WHERE hash = ?",
        )?
        .query_row([hash], |row| {
            let name: Option<String> = row.get(1)?;
            Ok(Token {
                id: row.get(0)?,
                name: name.and_then(|name| name.parse().ok()),
                uses: row.get(2)?,
                used: row.get(3)?,
                expires_at: row.get(4)?,
                role: role(row, 5)?,
            })
        })
        .optional()?;
    Ok(token)
}

fn has_used(connection: &Connection, token: &Token, key: &[u8; 32]) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached("SELECT 1 FROM token_uses WHERE token = ? AND key = ?")?
        .exists(params![token.id, key])?;
    Ok(found)
}

/// Finds the new device's name, and makes its row; or takes over the row of a revoked device of that very name.
fn place(
    change: &mut Change<'_>,
    token: &Token,
    facts: &Facts,
) -> Result<Result<DeviceRef, EnrolmentRefusal>, StoreError> {
    let (base, exact) = match &token.name {
        Some(name) => (name.clone(), token.uses == 1),
        None => (DeviceName::from_host_name(facts.host_name.as_deref().unwrap_or_default()), false),
    };
    if exact {
        return Ok(match holder(change.connection, &base)? {
            None => Ok(insert(change, base)?),
            Some((id, true)) => {
                let device = DeviceRef { id, name: base.into() };
                admit(change, &device, None, false)?;
                Ok(device)
            }
            Some((_, false)) => Err(EnrolmentRefusal::NameTaken(base)),
        });
    }
    if token.name.is_none() && holder(change.connection, &base)?.is_none() {
        return Ok(Ok(insert(change, base)?));
    }
    let first = token.used.saturating_add(1);
    for number in first..first.saturating_add(NAME_ATTEMPTS) {
        let name = base.numbered(number);
        if holder(change.connection, &name)?.is_none() {
            return Ok(Ok(insert(change, name)?));
        }
    }
    Ok(Err(EnrolmentRefusal::NameTaken(base)))
}
