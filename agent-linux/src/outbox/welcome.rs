//! What a welcome means to the outbox: what the server has lost, and what it does not take.

use protocol_core::message::StreamId;
use rusqlite::{OptionalExtension as _, params};

use super::{Outbox, between};
use crate::queue::{FRAME_OVERHEAD, MAX_FRAME, OVERHEAD, QueueError, from_sql, to_sql};

/// What follows on a welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The messages after this position are to be sent.
    SendAfter(u64),
    /// The server knows nothing of the stream that was named: ask about the one before it, which is
    /// named from now on.
    AskAgain,
}

/// Where a stream lies.
struct Span {
    /// The position before its first message.
    base: u64,
    /// Its last position; `u64::MAX` for the stream in use.
    end: u64,
}

impl Outbox {
    /// Takes note of a welcome: the server holds the messages of the stream that the hello `named` up to the
    /// number `archived`, and takes frames of at most `max_frame` bytes.
    ///
    /// # Errors
    /// Of the database.
    pub fn welcomed(&mut self, named: StreamId, archived: u64, max_frame: u16) -> Result<Next, QueueError> {
        let marks = self.marks()?;
        let span = self.span(named, marks.echoed)?;
        let held = span.base.saturating_add(archived);
        let is_older_copy = held > marks.last && span.end == u64::MAX;
        let has_lost = held < marks.echoed.min(span.end);
        let max_frame = max_frame.min(MAX_FRAME);
        if !is_older_copy && !has_lost && max_frame == marks.max_frame {
            // Nothing is written for a connection that brings no news.
            return Ok(Next::SendAfter(marks.echoed));
        }
        self.begin()?;
        self.write_echoes()?;
        if is_older_copy {
            // Our state is an older copy. What waits is sent all the same: if the server holds something else
            // by these numbers it says so, and the rest gets a stream of its own.
            tracing::warn!(
                "the server holds more of our stream than was ever sent: this state is an older copy"
            );
            if self.marks.waiting() == 0 {
                self.begin_stream()?;
            }
        }
        if has_lost {
            let from = held.max(self.marks.first.saturating_sub(1));
            tracing::warn!(
                messages = self.marks.echoed.saturating_sub(from),
                "the server has lost messages that it had: sending those that are kept again"
            );
            self.take_back_echoes(from)?;
        }
        if has_lost || max_frame != self.marks.max_frame {
            self.fit(max_frame, if is_older_copy { 0 } else { held.min(span.end) })?;
        }
        let has_older = has_lost && archived == 0 && self.marks.first <= span.base;
        Ok(if has_older { Next::AskAgain } else { Next::SendAfter(self.marks.echoed) })
    }

    fn span(&mut self, stream: StreamId, echoed: u64) -> Result<Span, QueueError> {
        let found = self.database.with(|connection| {
            let sql = "SELECT base, (SELECT min(next.base) FROM stream AS next WHERE next.base > stream.base)
                FROM stream WHERE id = ?1";
            let found = connection.query_row(sql, [to_sql(stream.0)], |row| {
                let end = row.get::<_, Option<i64>>(1)?.map_or(u64::MAX, from_sql);
                Ok(Span { base: from_sql(row.get(0)?), end })
            });
            found.optional()
        })?;
        // Another process has begun a stream since the hello: of that one the server has said nothing.
        Ok(found.unwrap_or(Span { base: echoed, end: echoed }))
    }

    /// What was echoed after `from` waits again.
    fn take_back_echoes(&mut self, from: u64) -> Result<(), QueueError> {
        let echoed = self.marks.echoed;
        let (count, size) = self.database.with(|connection| between(connection, from, echoed))?;
        self.marks.echoed = from;
        self.marks.holes += (echoed - from).saturating_sub(count);
        self.marks.waiting_bytes += size;
        self.marks.kept_bytes = self.marks.kept_bytes.saturating_sub(size);
        self.echoed = from;
        Ok(())
    }

    /// Sets aside what waits and does not fit `max_frame`, and takes back in what was set aside and fits. The
    /// server holds the messages up to `held` already, by their numbers.
    pub(super) fn fit(&mut self, max_frame: u16, held: u64) -> Result<(), QueueError> {
        self.marks.max_frame = max_frame;
        let most = u64::from(max_frame).saturating_sub(FRAME_OVERHEAD as u64);
        for (position, size) in self.sizes("position < 0 AND length(kind) + length(body) <= ?1", most)? {
            self.marks.last += 1;
            self.move_to(position, to_sql(self.marks.last))?;
            self.marks.waiting_bytes += size;
            self.marks.aside_messages = self.marks.aside_messages.saturating_sub(1);
            self.marks.aside_bytes = self.marks.aside_bytes.saturating_sub(size);
        }
        let condition = format!("position > {} AND length(kind) + length(body) > ?1", self.marks.echoed);
        for (position, size) in self.sizes(&condition, most)? {
            self.marks.holes += 1;
            self.marks.waiting_bytes = self.marks.waiting_bytes.saturating_sub(size);
            if from_sql(position) <= held {
                // It can't be sent again to see whether it is the same; by another number it would come twice.
                tracing::warn!(
                    bytes = size,
                    "a message is too large to be sent again, and the server has it"
                );
                self.database.with(|connection| {
                    connection.execute("DELETE FROM message WHERE position = ?1", [position])
                })?;
                continue;
            }
            self.move_to(position, -position)?;
            self.marks.aside_messages += 1;
            self.marks.aside_bytes += size;
            tracing::error!(
                bytes = size,
                max_frame,
                "a message is larger than the server takes, and waits until it does: raise limits.max-frame there"
            );
        }
        Ok(())
    }

    /// The positions and sizes of the messages of which `condition` holds, oldest first.
    fn sizes(&mut self, condition: &str, most: u64) -> Result<Vec<(i64, u64)>, QueueError> {
        self.database.with(|connection| {
            let sql = format!(
                "SELECT position, length(kind) + length(body) + ?2 FROM message WHERE {condition} ORDER BY abs(position)"
            );
            let mut statement = connection.prepare(&sql)?;
            let values = params![to_sql(most), to_sql(OVERHEAD)];
            let found = statement.query_map(values, |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
            found.collect()
        })
    }

    fn move_to(&mut self, from: i64, to: i64) -> Result<(), QueueError> {
        let sql = "UPDATE message SET position = ?2 WHERE position = ?1";
        self.database.with(|connection| connection.execute(sql, [from, to]))?;
        Ok(())
    }
}
