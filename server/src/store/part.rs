//! Pages from either end of a list: what the queries of all lists have in common.

/// Between which ids a page is read, and from which end: `?1` and `?2` of its query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Behind this id.
    pub(super) after: i64,
    /// Before this one.
    pub(super) before: i64,
    /// Whether it is read from its end.
    pub(super) is_end: bool,
}

impl Part {
    /// What is behind `after`, the first of it; with `before` what is in front of that, the last of it.
    pub(super) fn new(after: i64, before: Option<i64>) -> Self {
        Self { after, before: before.unwrap_or(i64::MAX), is_end: before.is_some() }
    }

    /// The condition and the order of the query, with the column that has the id.
    pub(super) fn sql(self, id: &str) -> String {
        let order = if self.is_end { "DESC" } else { "ASC" };
        format!("{id} > ?1 AND {id} < ?2 ORDER BY {id} {order}")
    }

    /// The rows as they were read, in the order of their ids.
    pub(super) fn ascending<T>(self, mut rows: Vec<T>) -> Vec<T> {
        if self.is_end {
            rows.reverse();
        }
        rows
    }
}
