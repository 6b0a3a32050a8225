//! How much is kept of recordings: not for ever, not more than may be, and never so much that the disk is full.

use std::{fs, io, path::Path, time::Duration};

use tokio::time::Instant;

use super::{RecordingError, Recordings, lock};
use crate::{
    event::Who,
    store::{RecordingRow, RecordingSize, RecordingState, StoreError, UnixMillis},
};

/// For so long who reads a recording is not written down again, and so many of them are remembered.
const NOTED: Duration = Duration::from_secs(60 * 60);
const MAX_NOTED: usize = 10_000;

impl Recordings {
    /// Takes up what the last server left: what it recorded has ended.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn resume(&self) -> Result<(), StoreError> {
        for row in self.store.open_recordings().await? {
            let bytes = fs::metadata(self.path(&row)).map_or(0, |found| found.len());
            let (state, size) = (RecordingState::Failed, RecordingSize { bytes, ..row.size });
            self.store.end_recording(row.id, state, "the server has ended".to_owned(), size).await?;
        }
        Ok(())
    }

    /// Deletes what is too old, and the oldest where there is too much.
    ///
    /// # Errors
    /// The store can't be read or written, or a file not be deleted.
    pub async fn keep(&self) -> Result<(), RecordingError> {
        let age = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        while let Some(oldest) = self.store.oldest_recording().await? {
            let is_old = oldest.ended.is_some_and(|ended| ended.plus(age) < UnixMillis::now());
            let reason = match is_old {
                true => "it was too old",
                false if self.store.recorded_bytes().await? > self.limits.max_bytes => "there were too many",
                false => return Ok(()),
            };
            self.delete(&oldest, None, reason).await?;
        }
        Ok(())
    }

    /// Deletes one that has ended; gives whether it was there.
    ///
    /// # Errors
    /// The store can't be written, or the file not be deleted.
    pub async fn delete(
        &self,
        row: &RecordingRow,
        who: Option<Who>,
        reason: &'static str,
    ) -> Result<bool, RecordingError> {
        // The file first: a row without a file is seen, and can be deleted again.
        match fs::remove_file(self.path(row)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(self.store.delete_recording(row.id, who, reason).await?)
    }

    /// Whether those that are made may go on, once the oldest have made way; else why not.
    pub(super) async fn check_all(&self) -> Result<(), String> {
        let kept = async {
            self.keep().await?;
            Ok::<_, RecordingError>(self.store.recorded_bytes().await?)
        };
        match kept.await {
            Ok(bytes) if bytes <= self.limits.max_bytes => Ok(()),
            Ok(_) => {
                Err("recordings have as many bytes as they may have ([recordings] max-bytes)".to_owned())
            }
            Err(error) => {
                // How much is free on the disk is looked at all the same.
                tracing::warn!(%error, "it can't be told how much was recorded");
                Ok(())
            }
        }
    }

    /// Writes down that somebody reads one, before they do: once an hour, as a player asks for many parts.
    ///
    /// # Errors
    /// The store can't be written.
    pub async fn note_read(&self, row: &RecordingRow, who: Who) -> Result<(), RecordingError> {
        let reader = (row.id, (who.name.clone(), who.address));
        let is_noted = lock(&self.read).get(&reader).is_some_and(|at| at.elapsed() < NOTED);
        if is_noted {
            return Ok(());
        }
        self.store.note_reading(row, who).await?;
        let mut read = lock(&self.read);
        if read.len() >= MAX_NOTED {
            read.retain(|_, at| at.elapsed() < NOTED);
        }
        // Who is not remembered is written down again.
        if read.len() < MAX_NOTED {
            read.insert(reader, Instant::now());
        }
        Ok(())
    }

    /// Whether there is space enough for more; else what to say of it.
    pub(super) fn check_space(&self) -> Result<(), String> {
        match free(&self.directory) {
            Ok(free) if free >= self.limits.min_free_bytes => Ok(()),
            Ok(free) => Err(format!(
                "only {} MB are free on the disk, and {} are to be left ([recordings] min-free-bytes)",
                free / 1_000_000,
                self.limits.min_free_bytes / 1_000_000
            )),
            Err(error) => Err(format!("it can't be told how much space is free: {error}")),
        }
    }
}

/// How many bytes are free on the disk of this directory.
fn free(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
