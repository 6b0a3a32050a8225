//! The tables, and the steps from each version of them to the next.

use rusqlite::Connection;

use super::{RandomId, StoreError};

/// One step for each version: a database of version N has had the first N.
/// A step that has been released is never edited.
const STEPS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_is_brought_up_to_date() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection
            .execute_batch(
                "INSERT INTO devices (id, name, kind, created, gateway) VALUES (1, 'pi', 'framed', 0, NULL),
                    (2, 'sensor', 'framed', 0, NULL), (3, 'barometer', 'framed', 0, 1), (4, 'was-one', 'framed', 0, NULL);
                INSERT INTO events (at, kind, device, detail) VALUES (0, 'device-enrolled', 1, '{\"token\":1}'),
                    (0, 'device-enrolled', 2, '{\"firmware\":true}'), (0, 'device-enrolled', 3, '{\"firmware\":true}'),
                    (0, 'device-enrolled', 3, '{\"gateway\":\"pi\"}'), (0, 'device-enrolled', 4, '{\"firmware\":true}'),
                    (0, 'device-enrolled', 4, '{\"token\":2}'), (0, 'device-revoked', 2, '{}');
                PRAGMA user_version = 1;",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let mut firmware = connection.prepare("SELECT name FROM devices WHERE firmware").unwrap();
        let names: Vec<String> =
            firmware.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(names, ["sensor"]);
    }

    #[test]
    fn recordings_from_before_roles_were_kept_are_for_admins() {
        let mut connection = Connection::open_in_memory().unwrap();
        for step in &STEPS[..6] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO devices (id, name, kind, created) VALUES (1, 'pi', 'framed', 0);
                INSERT INTO recordings (device, camera, file, state, who, started, width, height)
                    VALUES (1, 'door', 'a.mp4', 'done', 'root', 0, 64, 48);
                PRAGMA user_version = 6;",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let role = "SELECT role FROM recordings";
        assert_eq!(connection.query_row(role, (), |row| row.get::<_, String>(0)).unwrap(), "admin");
    }

    #[test]
    fn tokens_and_tasks_from_before_there_were_operators_are_nobodys() {
        let mut connection = Connection::open_in_memory().unwrap();
        for step in &STEPS[..3] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO devices (id, name, kind, created) VALUES (1, 'pi', 'framed', 0);
                INSERT INTO tokens (hash, uses, created, expires_at) VALUES (zeroblob(32), 1, 0, 0);
                INSERT INTO tasks (code, device, kind, state, who, requested) VALUES (1, 1, 'ssh', 'done', 'root', 0);
                PRAGMA user_version = 3;",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let count = "SELECT (SELECT count(*) FROM tokens WHERE role IS NULL)
            + (SELECT count(*) FROM tasks WHERE operator IS NULL) + (SELECT count(*) FROM operators)";
        assert_eq!(connection.query_row(count, (), |row| row.get::<_, i64>(0)).unwrap(), 2);
    }
}
