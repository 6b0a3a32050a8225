//! What is whole of a recording's file, whenever the server that wrote it has ended.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::super::mp4;
use crate::store::RecordingSize;

/// How many bytes the length and the name of a box have.
const HEAD: u64 = 8;

/// The longest description of a fragment, in bytes, in which pictures are counted: one of ours has a tenth of it.
const LONGEST: u64 = 16 * 1024;

/// How much of a file is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// Up to the end of the last fragment that is.
    pub(super) bytes: u64,
    /// Whether there is such a fragment.
    pub(super) has_pictures: bool,
    /// How many pictures are in all of them.
    frames: u64,
    /// When the last of those ends, in [`mp4::TIMESCALE`].
    end: u64,
}

impl Whole {
    /// How much that is.
    pub(super) const fn size(&self) -> RecordingSize {
        let milliseconds = mp4::milliseconds(self.end);
        RecordingSize { milliseconds, frames: self.frames, bytes: self.bytes }
    }
}

/// Looks how much of the file is whole.
///
/// # Errors
/// What the system said.
pub(super) fn look(file: &mut fs::File) -> io::Result<Whole> {
    let length = file.metadata()?.len();
    let (mut whole, mut told, mut at) = (Whole::default(), None, 0);
    while at + HEAD <= length {
        let mut head = [0; HEAD as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [size @ .., _, _, _, _] = head;
        let [_, _, _, _, name @ ..] = head;
        let size = u64::from(u32::from_be_bytes(size));
        let start = at;
        at += size;
        if size < HEAD || at > length {
            break;
        }
        match &name {
            b"moov" => whole.bytes = at,
            b"moof" if size <= LONGEST => {
                let mut moof = vec![0; size as usize];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut moof)?;
                told = mp4::told_by(&moof);
            }
            b"mdat" => {
                let (count, end) = told.take().unwrap_or((0, whole.end));
                whole = Whole { bytes: at, has_pictures: true, frames: whole.frames + count, end };
            }
            b"ftyp" | b"moof" => {}
            // Nothing of ours.
            _ => break,
        }
    }
    Ok(whole)
}

/// Cuts off what is not whole of a file that nobody writes any longer; gives what it has then.
///
/// # Errors
/// What the system said.
pub(super) fn cut(path: &Path) -> io::Result<Whole> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let whole = look(&mut file)?;
    file.set_len(whole.bytes)?;
    Ok(whole)
}
