//! Some space kept back, so that a full disk can still be recorded.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use tracing::warn;

/// How much is kept back, in bytes: enough for a thousand small transactions.
const SIZE: usize = 4 * 1024 * 1024;

/// A file of no meaning, that can be given up.
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve at this path; made if there is none and there is space for it.
    pub(super) fn new(path: PathBuf) -> Self {
        let reserve = Self { path };
        if !reserve.exists()
            && let Err(error) = reserve.fill()
        {
            warn!(file = %reserve.path.display(), %error, "no space can be kept in reserve");
        }
        reserve
    }

    /// Gives the space up.
    pub(super) fn release(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(file = %self.path.display(), %error, "the reserve can't be released");
        }
    }

    /// Takes the space back if at least as much again is free: else the disk would be full again at once.
    pub(super) fn restore(&self) -> bool {
        let Some(Ok(disk)) = self.path.parent().map(rustix::fs::statvfs) else { return false };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let enough = u64::try_from(SIZE).is_ok_and(|size| free >= size.saturating_mul(2));
        self.exists() || (enough && self.fill().is_ok())
    }

    fn exists(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| usize::try_from(file.len()) == Ok(SIZE))
    }

    fn fill(&self) -> io::Result<()> {
        let fill = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
            // Written, not only declared: what is declared may turn out not to be there.
            for _ in 0..SIZE / BLOCK.len() {
                file.write_all(&BLOCK)?;
            }
            file.sync_data()
        };
        fill().inspect_err(|_| self.release())
    }
}

static BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];

#[cfg(test)]
mod tests {
    use super::{Reserve, SIZE};

    #[test]
    fn is_made_released_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reserve");
        let reserve = Reserve::new(path.clone());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE as u64);
        reserve.release();
        reserve.release();
        assert!(!path.exists());
        assert!(reserve.restore());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE as u64);
    }
}
