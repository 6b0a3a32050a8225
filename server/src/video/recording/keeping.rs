//! How much is kept of recordings: not for ever, not more than may be, and never so much that the disk is full.

use std::{collections::HashSet, fs, io, path::Path, time::Duration};

use tokio::time::Instant;

use super::{RecordingError, Recordings, whole};
use crate::{
    event::Who,
    files::blocking,
    lock::lock,
    store::{RecordingId, RecordingRow, RecordingSize, RecordingState, StoreError},
};

/// For so long who reads a recording is not written down again, and so many of them are remembered.
const NOTED: Duration = Duration::from_secs(60 * 60);
const MAX_NOTED: usize = 10_000;

impl Recordings {
    /// Takes up what the last server left: what it recorded has ended, and half a fragment at the end of that is cut off.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn resume(&self) -> Result<(), StoreError> {
        for row in self.store.open_recordings().await? {
            let path = self.path(&row);
            // What was written down of it last is some seconds old.
            let size = match blocking(move || whole::cut(&path)).await {
                Ok(whole) => whole.size(),
                Err(error) => {
                    tracing::warn!(recording = %row.id, %error, "the file of a recording can't be read");
                    RecordingSize { bytes: 0, ..row.size }
                }
            };
            let state = RecordingState::Failed;
            self.store.end_recording(row.id, state, "the server has ended".to_owned(), size).await?;
        }
        let (known, directory) = (self.store.recording_files().await?, self.directory.clone());
        if let Err(error) = blocking(move || look_for_strays(&directory, &known)).await {
            tracing::warn!(%error, "the directory of recordings can't be read");
        }
        Ok(())
    }

    /// Deletes what is too old, and the oldest where there is too much. A file that can't be deleted keeps no other.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn keep(&self) -> Result<(), StoreError> {
        let age = i64::try_from(self.limits.keep.as_millis()).unwrap_or(i64::MAX);
        let mut behind = RecordingId(0);
        while let Some(oldest) = self.store.oldest_recording(behind).await? {
            behind = oldest.id;
            let is_old = oldest.ended.is_some_and(|ended| ended.plus(age) < self.calendar.now());
            let reason = match is_old {
                true => "it was too old",
                false if self.store.recorded_bytes().await? > self.limits.max_bytes => "there were too many",
                false => return Ok(()),
            };
            match self.delete(&oldest, None, reason).await {
                Ok(_) => {}
                Err(RecordingError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(recording = %oldest.id, %error, "a recording can't be deleted, though {reason}");
                }
            }
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
            self.store.recorded_bytes().await
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

/// Looks for files of which no recording is known. One without a picture, whose server has ended before it was written down,
/// is deleted. Others are told of and left: somebody may miss them, as when the database is an older one.
fn look_for_strays(directory: &Path, known: &HashSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_known = name.to_str().is_some_and(|name| known.contains(name));
        let is_ours = path.extension().is_some_and(|end| end == "mp4") && entry.file_type()?.is_file();
        if is_known || !is_ours {
            continue;
        }
        let found = fs::File::open(&path).and_then(|mut file| whole::look(&mut file));
        if found.is_ok_and(|found| !found.has_pictures) {
            fs::remove_file(&path)?;
            tracing::warn!(path = %path.display(), "a file without a picture, and without a recording, was deleted");
        } else {
            files += 1;
            bytes += entry.metadata()?.len();
        }
    }
    if files > 0 {
        let directory = directory.display();
        tracing::warn!(files, bytes, %directory, "files belong to no recording: they count nowhere, and are not deleted");
    }
    Ok(())
}

/// How many bytes are free on the disk of this directory.
fn free(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
