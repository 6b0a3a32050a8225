//! What is whole of a recording's file, whenever the server that wrote it has ended.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// How many bytes the length and the name of a box have.
const HEAD: u64 = 8;

/// How much of a file is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// Up to the end of the last fragment that is.
    pub(super) bytes: u64,
    /// Whether there is such a fragment.
    pub(super) has_pictures: bool,
}

/// Looks how much of the file is whole.
///
/// # Errors
/// What the system said.
pub(super) fn look(file: &mut fs::File) -> io::Result<Whole> {
    let length = file.metadata()?.len();
    let (mut whole, mut at) = (Whole::default(), 0);
    while at + HEAD <= length {
        let mut head = [0; HEAD as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [size @ .., _, _, _, _] = head;
        let [_, _, _, _, name @ ..] = head;
        let size = u64::from(u32::from_be_bytes(size));
        at += size;
        if size < HEAD || at > length {
            break;
        }
        match &name {
            b"moov" => whole.bytes = at,
            b"mdat" => whole = Whole { bytes: at, has_pictures: true },
            b"ftyp" | b"moof" => {}
            // Nothing of ours.
            _ => break,
        }
    }
    Ok(whole)
}

/// Cuts off what is not whole of a file that nobody writes any longer; gives how many bytes it has then.
///
/// # Errors
/// What the system said.
pub(super) fn cut(path: &Path) -> io::Result<u64> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let whole = look(&mut file)?;
    file.set_len(whole.bytes)?;
    Ok(whole.bytes)
}
