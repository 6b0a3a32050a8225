//! The state directory, and who may use it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory that holds all that an agent must not forget. Only its owner may look into it.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    path: PathBuf,
}

/// Why the state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is none.
    #[error(
        "there is no agent in {}; enrol this device first: holdfast-agent enroll hf1.… (or name its directory with --state)",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another process runs an agent in it.
    #[error("an agent already runs in {}; see `holdfast-agent status`, or stop it first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Another program takes the messages from the server.
    #[error(
        "another program takes this agent's messages; stop it first (is it another `holdfast-agent receive`?)"
    )]
    Receiving,
    /// The file system refused.
    #[error("{}: {error}; run as the agent's user or as root, or name another directory with --state", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl StateError {
    /// Whether it is another user's to do.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::File { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl StateDirectory {
    /// Opens the directory, and makes it, for its owner alone, if need be. One that is there is left as it is: it may
    /// be meant for others too, such as /tmp. What is in it is for its owner alone.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn make(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Opens the directory if it is there.
    ///
    /// # Errors
    /// [`StateError::Missing`] or [`StateError::File`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        match fs::metadata(path) {
            Ok(_) => Ok(Self { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StateError::Missing { path: path.to_owned() })
            }
            Err(error) => Err(file_error(path)(error)),
        }
    }

    /// The path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The path of the socket for local programs.
    pub fn socket(&self) -> PathBuf {
        self.file("agent.sock")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes this process the only one that runs an agent here, until the lock is dropped.
    ///
    /// # Errors
    /// [`StateError::Locked`] if there is one, or [`StateError::File`].
    pub fn lock_for_run(&self) -> Result<File, StateError> {
        self.try_lock("run.lock", StateError::Locked { path: self.path.clone() })
    }

    /// Makes the holder the only one that takes messages out of the inbox, until the lock is dropped: what two take
    /// at once, both would have. The agent holds it for a local program that receives.
    ///
    /// # Errors
    /// [`StateError::Receiving`] if somebody does, or [`StateError::File`].
    pub fn lock_for_receive(&self) -> Result<File, StateError> {
        self.try_lock("receive.lock", StateError::Receiving)
    }

    fn try_lock(&self, name: &str, is_locked: StateError) -> Result<File, StateError> {
        let file = self.open_lock(name)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(is_locked),
            Err(TryLockError::Error(error)) => Err(file_error(&self.file(name))(error)),
        }
    }

    /// Waits until no other process changes the identity, and keeps them off until the lock is dropped.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn lock_identity(&self) -> Result<File, StateError> {
        let file = self.open_lock("identity.lock")?;
        file.lock().map_err(file_error(&self.file("identity.lock")))?;
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> Result<File, StateError> {
        let path = self.file(name);
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        options.map_err(file_error(&path))
    }

    /// Reads a file; nothing if there is none.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error(&path)(error)),
        }
    }

    /// Writes a file so that after a crash there is either the old one or the new one, whole.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let (path, new) = (self.file(name), self.file(&format!("{name}.new")));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(file_error(&path))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(&path)(error)),
            _ => Ok(()),
        }
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |error| StateError::File { path, error }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_directory_and_its_files_are_the_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/state");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let state = StateDirectory::make(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        StateDirectory::make(root.path()).unwrap();
        assert_eq!(mode(root.path()), 0o755, "one that is there is left as it is");
        state.write("file", "text").unwrap();
        assert_eq!(mode(&state.file("file")), 0o600);
        assert_eq!(state.read("file").unwrap().as_deref(), Some(&b"text"[..]));
        assert!(!state.file("file.new").exists());
        state.remove("file").unwrap();
        state.remove("file").unwrap();
        assert_eq!(state.read("file").unwrap(), None);
    }

    #[test]
    fn only_one_agent_runs_in_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(root.path()).unwrap();
        let lock = state.lock_for_run().unwrap();
        assert!(matches!(state.lock_for_run(), Err(StateError::Locked { .. })));
        drop(lock);
        state.lock_for_run().unwrap();
    }

    #[test]
    fn only_one_takes_messages() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::make(root.path()).unwrap();
        let lock = state.lock_for_receive().unwrap();
        assert!(matches!(state.lock_for_receive(), Err(StateError::Receiving)));
        state.lock_for_run().unwrap();
        drop(lock);
        state.lock_for_receive().unwrap();
    }

    #[test]
    fn a_missing_directory_names_the_next_step() {
        let error = StateDirectory::open(Path::new("/nowhere/agent")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/agent") && error.contains("enroll"), "{error}");
    }
}
