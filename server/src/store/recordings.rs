//! What was recorded of devices' cameras. The pictures themselves stand in files.

use std::collections::HashSet;

use protocol_core::code::Role;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    DeviceId, RecordingId, Store, StoreError, UnixMillis,
    change::Change,
    part::Part,
    roles::{parse_role, rank},
};
use crate::event::{EventKind, NewEvent, Who};

/// A recording that begins.
#[derive(Clone, Debug)]
pub struct NewRecording {
    /// Of which device.
    pub device: DeviceId,
    /// Of which of its cameras.
    pub camera: String,
    /// The name of its file.
    pub file: String,
    /// For which role at least the device shows the camera.
    pub role: Role,
    /// Who has it made.
    pub who: Who,
    /// The width of its pictures, in pixels.
    pub width: u16,
    /// Their height.
    pub height: u16,
}

/// How much a recording has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingSize {
    /// How long it is.
    pub milliseconds: u64,
    /// How many pictures it has.
    pub frames: u64,
    /// How many bytes its file has.
    pub bytes: u64,
}

/// How a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingState {
    /// It is being made.
    Recording,
    /// It has ended as it should.
    Done,
    /// It has ended otherwise. What there is can be played.
    Failed,
}

impl RecordingState {
    /// Its name, in the store and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A recording as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    /// Its number: later recordings have greater ones.
    pub id: RecordingId,
    /// Of which device.
    pub device: DeviceId,
    /// The device's name.
    pub name: String,
    /// Of which of its cameras.
    pub camera: String,
    /// The name of its file.
    pub file: String,
    /// For which role at least the device showed the camera: it is not for others.
    pub role: Role,
    /// The name of its [`RecordingState`].
    pub state: String,
    /// Who had it made.
    pub who: String,
    /// From where, if not from this machine.
    pub address: Option<String>,
    /// When it began.
    pub started: UnixMillis,
    /// When it ended.
    pub ended: Option<UnixMillis>,
    /// Why it ended.
    pub reason: Option<String>,
    /// The width of its pictures, in pixels.
    pub width: u16,
    /// Their height.
    pub height: u16,
    /// How much it has.
    pub size: RecordingSize,
}

/// Which recordings to read.
#[derive(Clone, Copy, Debug)]
pub struct RecordingFilter {
    /// Only those that somebody of this role may see.
    pub role: Role,
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// Only those behind this one; 0 for the first page.
    pub after: RecordingId,
    /// Only those before this one, and of them the last.
    pub before: Option<RecordingId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for RecordingFilter {
    fn default() -> Self {
        Self { role: Role::Admin, device: None, after: RecordingId(0), before: None, limit: 500 }
    }
}

impl Store {
    /// Writes down that a recording begins, with its event.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn begin_recording(&self, new: NewRecording) -> Result<RecordingId, StoreError> {
        self.write(move |change| {
            let address = new.who.address.map(|address| address.to_canonical().to_string());
            change
                .connection
                .prepare_cached(
                    "INSERT INTO recordings
                        (device, camera, file, role, state, who, address, started, width, height)
                        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    new.device,
                    new.camera,
                    new.file,
                    new.role.to_string(),
                    RecordingState::Recording.name(),
                    new.who.name,
                    address,
                    change.now,
                    new.width,
                    new.height,
                ])?;
            let id = RecordingId(change.connection.last_insert_rowid());
            let event = event(EventKind::RecordingStarted, id, new.device, &new.camera).who(&new.who);
            change.event(&event)?;
            Ok(id)
        })
        .await
    }

    /// Keeps how much a recording has so far.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn note_recording(&self, id: RecordingId, size: RecordingSize) -> Result<(), StoreError> {
        self.write(move |change| note(change, id, size)).await
    }

    /// Writes down that a recording has ended, with its event; one that has already stays as it is.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn end_recording(
        &self,
        id: RecordingId,
        state: RecordingState,
        reason: String,
        size: RecordingSize,
    ) -> Result<(), StoreError> {
        self.write(move |change| {
            let query =
                "UPDATE recordings SET state = ?2, reason = ?3, ended = ?4 WHERE id = ?1 AND ended IS NULL
                RETURNING device, camera, who";
            let found = change
                .connection
                .prepare_cached(query)?
                .query_row(params![id, state.name(), reason, change.now], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
                })
                .optional()?;
            let Some((device, camera, who)) = found else { return Ok(()) };
            note(change, id, size)?;
            let event = event(EventKind::RecordingEnded, id, device, &camera)
                .who(who.as_str())
                .detail("state", state.name())
                .detail("seconds", size.milliseconds / 1_000)
                .detail("bytes", size.bytes)
                .detail("reason", reason.as_str());
            change.event(&event)?;
            Ok(())
        })
        .await
    }

    /// Forgets a recording, with its event; gives whether there was one. It was deleted by this person, or else by itself
    /// for this reason.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn delete_recording(
        &self,
        id: RecordingId,
        who: Option<Who>,
        reason: &'static str,
    ) -> Result<bool, StoreError> {
        self.write(move |change| {
            let found = change
                .connection
                .prepare_cached("DELETE FROM recordings WHERE id = ? RETURNING device, camera")?
                .query_row([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
                .optional()?;
            let Some((device, camera)) = found else { return Ok(false) };
            let mut event = event(EventKind::RecordingDeleted, id, device, &camera).detail("reason", reason);
            if let Some(who) = &who {
                event = event.who(who);
            }
            change.event(&event)?;
            Ok(true)
        })
        .await
    }

    /// Writes down that somebody reads a recording.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn note_reading(&self, row: &RecordingRow, who: Who) -> Result<(), StoreError> {
        self.record(event(EventKind::RecordingRead, row.id, row.device, &row.camera).who(&who)).await?;
        Ok(())
    }

    /// A page of recordings. Fewer than the limit: there are no more now.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn recordings(&self, filter: RecordingFilter) -> Result<Vec<RecordingRow>, StoreError> {
        self.read(move |connection| page(connection, &filter)).await
    }

    /// The recording of this number.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn recording(&self, id: RecordingId) -> Result<Option<RecordingRow>, StoreError> {
        self.read(move |connection| {
            let query = format!("{SELECT} WHERE recordings.id = ?");
            Ok(connection.prepare_cached(&query)?.query_row([id], row).optional()?)
        })
        .await
    }

    /// Those that have not ended.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn open_recordings(&self) -> Result<Vec<RecordingRow>, StoreError> {
        self.read(|connection| {
            let query = format!("{SELECT} WHERE ended IS NULL");
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map((), row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// How many bytes all recordings have.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn recorded_bytes(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let query = "SELECT coalesce(sum(bytes), 0) FROM recordings";
            Ok(connection.prepare_cached(query)?.query_row((), |row| row.get(0))?)
        })
        .await
    }

    /// The names of all files that belong to recordings.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn recording_files(&self) -> Result<HashSet<String>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT file FROM recordings")?;
            let files = statement.query_map((), |row| row.get(0))?;
            Ok(files.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The oldest behind this one that has ended.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn oldest_recording(&self, behind: RecordingId) -> Result<Option<RecordingRow>, StoreError> {
        self.read(move |connection| {
            let query = format!(
                "{SELECT} WHERE ended IS NOT NULL AND recordings.id > ? ORDER BY recordings.id LIMIT 1"
            );
            Ok(connection.prepare_cached(&query)?.query_row([behind], row).optional()?)
        })
        .await
    }
}

fn event(kind: EventKind, id: RecordingId, device: DeviceId, camera: &str) -> NewEvent {
    NewEvent::new(kind).device(device).detail("recording", id.0).detail("camera", camera)
}

fn note(change: &Change<'_>, id: RecordingId, size: RecordingSize) -> Result<(), StoreError> {
    change
        .connection
        .prepare_cached("UPDATE recordings SET milliseconds = ?2, frames = ?3, bytes = ?4 WHERE id = ?1")?
        .execute(params![id, size.milliseconds, size.frames, size.bytes])?;
    Ok(())
}

const SELECT: &str =
    "SELECT recordings.id, device, name, camera, file, state, who, address, started, ended, reason,
    width, height, milliseconds, frames, bytes, recordings.role
    FROM recordings JOIN devices ON devices.id = device";

/// Which recordings somebody of this role may see.
const fn seen_by(role: Role) -> &'static str {
    match rank(role) {
        0 => "FALSE",
        1 => "recordings.role = 'viewer'",
        2 => "recordings.role IN ('viewer', 'operator')",
        _ => "TRUE",
    }
}

fn page(connection: &Connection, filter: &RecordingFilter) -> Result<Vec<RecordingRow>, StoreError> {
    // A text for each index, as one for both would use none.
    let which = if filter.device.is_some() { "device = ?3" } else { "?3 IS NULL" };
    let part = Part::new(filter.after.0, filter.before.map(|before| before.0));
    let (seen, page) = (seen_by(filter.role), part.sql("recordings.id"));
    let query = format!("{SELECT} WHERE {which} AND {seen} AND {page} LIMIT ?4");
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map(params![part.after, part.before, filter.device, limit], row)?;
    Ok(part.ascending(rows.collect::<Result<_, _>>()?))
}

fn row(row: &Row<'_>) -> rusqlite::Result<RecordingRow> {
    let role: String = row.get(16)?;
    Ok(RecordingRow {
        // One that only a newer version knows is taken for the one that has all rights.
        role: parse_role(&role).unwrap_or(Role::Admin),
        id: row.get(0)?,
        device: row.get(1)?,
        name: row.get(2)?,
        camera: row.get(3)?,
        file: row.get(4)?,
        state: row.get(5)?,
        who: row.get(6)?,
        address: row.get(7)?,
        started: row.get(8)?,
        ended: row.get(9)?,
        reason: row.get(10)?,
        width: row.get(11)?,
        height: row.get(12)?,
        size: RecordingSize { milliseconds: row.get(13)?, frames: row.get(14)?, bytes: row.get(15)? },
    })
}
