//! Operators' accounts for the console: made by an admin, given a password by a one-time login, and changed.

use protocol_core::code::Role;
use rusqlite::{OptionalExtension, params};

use super::{
    DeviceName, EnrolmentRefusal, OperatorId, Store, StoreError, UnixMillis,
    change::Change,
    logins::{SecretHash, end_all},
    operators::{OperatorRef, end_lines, place},
};
use crate::event::{EventKind, NewEvent, Who};

/// A one-time login: by which its holder sets the password.
#[derive(Clone, Copy, Debug)]
pub struct FirstLogin {
    /// The hash of the token; the token itself is not kept.
    pub hash: SecretHash,
    /// Until when it is good.
    pub expires_at: UnixMillis,
}

impl Store {
    /// Makes an operator without a key, with this one-time login, and the events. One who was revoked comes back by it.
    /// Nothing if there is one of this name.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn add_operator(
        &self,
        name: DeviceName,
        role: Role,
        login: FirstLogin,
        who: Who,
    ) -> Result<Result<OperatorRef, EnrolmentRefusal>, StoreError> {
        self.write(move |change| {
            let id = match place(change, &name, role)? {
                Ok(id) => id,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let operator = OperatorRef { id, name: name.to_string(), role };
            let event = NewEvent::new(EventKind::OperatorAdded).who(&who);
            change.event(&event.detail("operator", name.as_str()).detail("role", role.to_string()))?;
            offer(change, &operator, login, &who)?;
            Ok(Ok(operator))
        })
        .await
    }

    /// Gives an operator a one-time login in place of any other, with its event; nothing if there is none of this name
    /// who has rights.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn offer_login(
        &self,
        name: &str,
        login: FirstLogin,
        who: Who,
    ) -> Result<Option<OperatorRef>, StoreError> {
        let name = name.to_owned();
        self.write(move |change| {
            let Some(operator) = find(change, &name)? else { return Ok(None) };
            offer(change, &operator, login, &who)?;
            Ok(Some(operator))
        })
        .await
    }

    /// Gives an operator another role, with its event, and tells the one before; nothing if there is none of this name
    /// who has rights.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn set_role(
        &self,
        name: &str,
        role: Role,
        who: Who,
    ) -> Result<Option<OperatorRef>, StoreError> {
        let name = name.to_owned();
        self.write(move |change| {
            let Some(operator) = find(change, &name)? else { return Ok(None) };
            if operator.role != role {
                change
                    .connection
                    .prepare_cached("UPDATE operators SET role = ?2, created = ?3 WHERE id = ?1")?
                    .execute(params![operator.id, role.to_string(), change.now])?;
                end_lines(change, &name)?;
                let event = NewEvent::new(EventKind::RoleChanged)
                    .who(&who)
                    .detail("operator", operator.name.as_str());
                let event = event.detail("from", operator.role.to_string());
                change.event(&event.detail("role", role.to_string()))?;
            }
            Ok(Some(operator))
        })
        .await
    }

    /// Puts a password in the place of the one with the hash `before`, and ends all logins but `keep`, with the event;
    /// nothing if another one is in force meanwhile. Gives what has ended.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn set_password(
        &self,
        operator: OperatorId,
        before: String,
        password: String,
        keep: Option<SecretHash>,
        who: Who,
    ) -> Result<Option<Vec<SecretHash>>, StoreError> {
        self.write(move |change| {
            let changed = change
                .connection
                .prepare_cached(
                    "UPDATE operators SET password = ?3 WHERE id = ?1 AND password = ?2 AND revoked_at IS NULL",
                )?
                .execute(params![operator, before, password])?;
            if changed == 0 {
                return Ok(None);
            }
            let ended = end_all(change, operator, keep)?;
            change.event(
                &NewEvent::new(EventKind::PasswordChanged).who(&who).detail("logins_ended", ended.len()),
            )?;
            Ok(Some(ended))
        })
        .await
    }

    /// Notes the secret of a second factor that its holder has yet to confirm.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn offer_totp(&self, operator: OperatorId, secret: Vec<u8>) -> Result<(), StoreError> {
        self.write(move |change| {
            let update = "UPDATE operators SET totp_offered = ?2 WHERE id = ?1";
            change.connection.prepare_cached(update)?.execute(params![operator, secret])?;
            Ok(())
        })
        .await
    }

    /// The secret that was noted by [`Store::offer_totp`].
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn offered_totp(&self, operator: OperatorId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT totp_offered FROM operators WHERE id = ?")?;
            Ok(statement.query_row([operator], |row| row.get(0)).optional()?.flatten())
        })
        .await
    }

    /// Takes a second factor into use that was confirmed by the code of this step, or with nothing takes it away; with
    /// the event. Nothing, and `false`, if another one was offered since, there is none to take away, or the operator was
    /// revoked.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn set_totp(
        &self,
        operator: OperatorId,
        confirmed: Option<(Vec<u8>, u64)>,
        who: Who,
    ) -> Result<bool, StoreError> {
        self.write(move |change| {
            let (secret, step) = match &confirmed {
                Some((secret, step)) => (Some(secret), *step),
                None => (None, 0),
            };
            let changed = change
                .connection
                .prepare_cached(
                    "UPDATE operators SET totp = ?2, totp_step = ?3, totp_offered = NULL
                        WHERE id = ?1 AND revoked_at IS NULL
                        AND CASE WHEN ?2 IS NULL THEN totp IS NOT NULL ELSE totp_offered = ?2 END",
                )?
                .execute(params![operator, secret, step])?;
            if changed == 0 {
                return Ok(false);
            }
            change.event(
                &NewEvent::new(EventKind::SecondFactorChanged).who(&who).detail("on", secret.is_some()),
            )?;
            Ok(true)
        })
        .await
    }

    /// Whether there is an admin who can log in to the console.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn has_console_admin(&self) -> Result<bool, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM operators WHERE role = ? AND password IS NOT NULL AND revoked_at IS NULL",
            )?;
            Ok(statement.exists([Role::Admin.to_string()])?)
        })
        .await
    }
}

/// The operator of this name, if they have rights.
pub(super) fn find(change: &Change<'_>, name: &str) -> Result<Option<OperatorRef>, StoreError> {
    let found = change
        .connection
        .prepare_cached("SELECT id, name, role FROM operators WHERE name = ? AND revoked_at IS NULL")?
        .query_row([name], OperatorRef::read)
        .optional()?;
    Ok(found)
}

fn offer(
    change: &mut Change<'_>,
    operator: &OperatorRef,
    login: FirstLogin,
    who: &Who,
) -> Result<(), StoreError> {
    change
        .connection
        .prepare_cached("DELETE FROM first_logins WHERE operator = ?")?
        .execute([operator.id])?;
    change
        .connection
        .prepare_cached("INSERT INTO first_logins (hash, operator, expires_at) VALUES (?, ?, ?)")?
        .execute(params![login.hash, operator.id, login.expires_at])?;
    let event = NewEvent::new(EventKind::LoginOffered).who(who).detail("operator", operator.name.as_str());
    change.event(&event.detail("expires_at", login.expires_at.rfc_3339()))?;
    Ok(())
}
