//! The tables, and the steps from each version of them to the next.

use rusqlite::Connection;

use super::{RandomId, StoreError};

/// One step for each version: a database of version N has had the first N.
/// A step that has been released is never edited.
const STEPS: &[&str] = &[include_str!("schema_1.sql")];

/// Brings the database to the newest version.
///
/// # Errors
///
/// The database is of a newer version than this program, or it can't be written.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let Some(done) = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()) else {
        return Err(StoreError::TooNew { found: version, known: STEPS.len() });
    };
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done == 0 {
        let id = RandomId::draw().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        transaction.execute("INSERT INTO meta (key, value) VALUES ('store-id', ?)", [id])?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len())?;
    transaction.commit()?;
    Ok(())
}
