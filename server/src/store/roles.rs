//! Roles in the database: by their names.

use protocol_core::code::Role;
use rusqlite::{Row, types::Type};

/// The role of this name.
pub fn parse_role(name: &str) -> Option<Role> {
    [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|role| role.to_string() == name)
}

/// What someone may do whose role only a newer version knows: nothing.
const UNKNOWN: Role = Role::Other(0);

/// The role in a column that may have none.
pub(super) fn role(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Role>> {
    let name: Option<String> = row.get(column)?;
    Ok(name.map(|name| parse_role(&name).unwrap_or(UNKNOWN)))
}

/// The role in a column that always has one.
pub(super) fn some_role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    role(row, column)?
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(column, "role".to_owned(), Type::Null))
}

/// How much a role allows; each role allows what those below it do. One that is not known allows nothing.
pub const fn rank(role: Role) -> u8 {
    match role {
        Role::Viewer => 1,
        Role::Operator => 2,
        Role::Admin => 3,
        Role::Other(_) => 0,
    }
}
