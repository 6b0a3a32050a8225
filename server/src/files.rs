//! Files that are written as a whole or not at all, most of which only the server may read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

/// Makes a directory, and those above it, that only its owner may enter. One that is there is left as it is: it may be
/// meant for others too, such as /tmp.
///
/// # Errors
/// What the system said.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Does what may wait for the disk, where nobody else waits for it.
///
/// # Errors
/// What the system said.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Whether others than its owner may read a file. One that can't be looked at is for whoever opens it to tell.
pub fn others_may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0)
}

/// Puts a file that only its owner may read in the place of `path`: after a crash the old one is there or
/// the new one, whole. It belongs to the directory's owner: what an administrator writes, the server can read.
///
/// # Errors
/// What the system said.
pub fn replace_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, 0o600, contents)
}

/// The same for a file of this mode, whatever the process's own mask is.
///
/// # Errors
/// What the system said.
pub fn replace(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One of its own for each who writes: none of them moves away what another one is writing.
    let temporary =
        directory.join(format!(".{name}.{:016x}.new", getrandom::u64().map_err(io::Error::other)?));
    let placed = write(&temporary, directory, mode, contents).and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        // If there is none, there is nothing to be left behind.
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, directory: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    // A new one: what somebody else has put there is neither written to nor followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let (wanted, found) = (fs::metadata(directory)?, file.metadata()?);
    if (wanted.uid(), wanted.gid()) != (found.uid(), found.gid()) {
        fchown(&file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn many_may_write_the_same_file_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace_private(path, &[number; 1000]).unwrap();
                    }
                });
            }
        });
        let contents = fs::read(&path).unwrap();
        assert!(contents.len() == 1000 && contents.iter().all(|byte| *byte == contents[0]));
        assert!(replace_private(&directory.path().join("missing/file"), b"").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
