//! How ids and times stand in the database's columns.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::id::{
    DeviceId, EventId, MessageId, OperatorId, RandomId, RecordingId, SessionId, TaskId, TokenId, UnixMillis,
};

macro_rules! integers {
    ($($name:ident),*) => { $(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.0))
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                i64::column_result(value).map(Self)
            }
        }
    )* };
}

integers!(DeviceId, SessionId, MessageId, EventId, OperatorId, RecordingId, TaskId, TokenId, UnixMillis);

// SQLite has signed integers only: the bits are kept, and no order is asked of them.
impl ToSql for RandomId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.cast_signed()))
    }
}

impl FromSql for RandomId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|bits| Self(bits.cast_unsigned()))
    }
}
