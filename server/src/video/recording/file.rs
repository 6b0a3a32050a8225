//! The file of a recording.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::super::{
    Parameters, Unit,
    mp4::{self, Sample},
};
use crate::{files::blocking, store::RecordingSize};

/// How long the last picture of a stream is shown, and any for which nothing better is known, in microseconds.
const LAST: u64 = 33_333;

/// How long a picture may be shown, in microseconds: a device that says more lies.
const LONGEST: u64 = 60 * 1_000_000;

/// A file that grows by groups of pictures.
#[derive(Debug)]
pub(super) struct File {
    file: Option<fs::File>,
    parameters: Arc<Parameters>,
    sequence: u32,
    /// When the next picture is decoded, in [`mp4::TIMESCALE`].
    time: u64,
    frames: u64,
    /// How many bytes of it are whole.
    whole: Arc<AtomicU64>,
}

impl File {
    /// Makes it, with its head. There must be none of this name.
    pub(super) async fn create(path: &Path, parameters: Arc<Parameters>) -> io::Result<Self> {
        let (path, head) = (path.to_owned(), mp4::head(&parameters));
        let whole = Arc::new(AtomicU64::new(head.len() as u64));
        let file = blocking(move || {
            let mut file = fs::File::create_new(&path)?;
            // Without its head it is nothing, and nobody would know of it.
            file.write_all(&head).inspect_err(|_| drop(fs::remove_file(&path)))?;
            Ok(file)
        })
        .await?;
        Ok(Self { file: Some(file), parameters, sequence: 0, time: 0, frames: 0, whole })
    }

    /// How many bytes of it are whole, for those who read it meanwhile.
    pub(super) fn whole(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.whole)
    }

    /// How its pictures are decoded.
    pub(super) const fn parameters(&self) -> &Arc<Parameters> {
        &self.parameters
    }

    /// Writes these pictures, behind which the next comes at this time. After an error the file is as it was before.
    pub(super) async fn write(&mut self, units: Vec<Arc<Unit>>, until: Option<u64>) -> io::Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        let Some(mut file) = self.file.take() else { return Ok(()) };
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, time, whole) = (self.sequence, self.time, self.whole.load(Ordering::Relaxed));
        let frames = units.len() as u64;
        let written = blocking(move || {
            let samples = samples(&units, until);
            let fragment = mp4::fragment(sequence, time, &samples);
            let written = file.write_all(&fragment);
            if written.is_err() {
                // Half a fragment is none. What can't be cut off is passed over by players.
                let _ = file.set_len(whole);
            }
            let duration: u64 = samples.iter().map(|sample| u64::from(sample.duration)).sum();
            Ok((file, written, fragment.len() as u64, duration))
        });
        let (file, written, bytes, duration) = written.await?;
        self.file = Some(file);
        written?;
        // Whoever sees it finds these bytes in the file.
        self.whole.fetch_add(bytes, Ordering::Release);
        self.frames += frames;
        self.time += duration;
        Ok(())
    }

    /// Nothing is shown for so long.
    pub(super) fn skip(&mut self, span: Duration) {
        self.time += mp4::ticks(u64::try_from(span.as_micros()).unwrap_or(0));
    }

    /// Has all of it written to the disk.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) => blocking(move || file.sync_all()).await,
            None => Ok(()),
        }
    }

    /// How much it has.
    pub(super) fn size(&self) -> RecordingSize {
        let milliseconds = mp4::milliseconds(self.time);
        let bytes = self.whole.load(Ordering::Relaxed);
        RecordingSize { milliseconds, frames: self.frames, bytes }
    }
}

/// The pictures, each shown until the next one comes.
fn samples(units: &[Arc<Unit>], until: Option<u64>) -> Vec<Sample> {
    let next = units.iter().skip(1).map(|unit| Some(unit.time())).chain([until]);
    let with_next = units.iter().zip(next);
    with_next
        .map(|(unit, next)| {
            let span = next.map_or(LAST, |next| next.saturating_sub(unit.time()));
            Sample {
                duration: mp4::ticks(span.min(LONGEST)).max(1) as u32,
                is_keyframe: unit.is_keyframe(),
                bytes: unit.sample(),
            }
        })
        .collect()
}
