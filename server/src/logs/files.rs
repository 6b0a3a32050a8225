//! The files: opened when they are needed, put aside when they are full, cut back after a crash.
//!
//! `NAME.log` is being written; `NAME.log.1`, `NAME.log.2` and so on were put aside, the greatest number last.
//! The number is the file's generation: a name never means another file, which is what lets a crash be mended.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};
use tracing::{error, info};

use super::LogError;
use crate::{config::LogFiles, store::LogFileRow};

/// How many files are open at a time.
const OPEN: usize = 64;

/// How many bytes are written before they are synced. A sync of many would hold up those of the database.
const UNSYNCED: u64 = 4 * 1024 * 1024;

/// Up to how many files are synced one by one; more are by one call for the whole file system, which waits for
/// everything that others have written there, too.
const ONE_BY_ONE: usize = 256;

/// The name of a device's file. Of an IPv6 address, which has colons, they become underscores.
pub(super) fn device(name: &str) -> String {
    let safe =
        |letter: char| if letter.is_ascii_alphanumeric() || ".-".contains(letter) { letter } else { '_' };
    let mut file = "devices/".to_owned();
    file.extend(name.chars().map(safe));
    file
}

/// A file that is being written.
struct Open {
    record: LogFileRow,
    handle: Option<File>,
    /// Written since the last sync.
    dirty: bool,
    /// Used since it was last considered for closing.
    used: bool,
    /// Something else is in its place: its lines are left out.
    occupied: bool,
}

/// The files of one directory.
pub(super) struct Files {
    directory: PathBuf,
    /// The directory of the devices' files when it was last looked at: its device and inode.
    devices: (u64, u64),
    limits: LogFiles,
    /// Files written since the last sync, and those that are open.
    files: HashMap<String, Open>,
    /// Those with a handle, in the order in which they are considered for closing.
    open: VecDeque<String>,
    /// Files that were put aside since the last sync.
    put_aside: Vec<(String, u64)>,
    /// Bytes written since the last sync.
    unsynced: u64,
}

impl Files {
    pub(super) fn open(directory: &Path, limits: LogFiles) -> Result<Self, LogError> {
        Ok(Self {
            directory: directory.to_owned(),
            devices: make(directory)?,
            limits,
            files: HashMap::new(),
            open: VecDeque::new(),
            put_aside: Vec::new(),
            unsynced: 0,
        })
    }

    /// Whether the file can be written; else it is to be adopted first.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Takes a file on, as the store knows it. `Some`: the store knows nothing of it and is to keep this first.
    pub(super) fn adopt(
        &mut self,
        name: &str,
        kept: Option<LogFileRow>,
    ) -> Result<Option<LogFileRow>, LogError> {
        let record = match kept {
            Some(record) => {
                self.mend(name, record).map_err(|source| self.error(name, source))?;
                record
            }
            // Perhaps a file of an older store: its lines stay.
            None => self.found(name),
        };
        self.files.insert(
            name.to_owned(),
            Open { record, handle: None, dirty: false, used: false, occupied: false },
        );
        Ok(kept.is_none().then_some(record))
    }

    /// Undoes that the file was put aside after the store last kept something of it.
    fn mend(&self, name: &str, record: LogFileRow) -> io::Result<()> {
        let aside = self.aside(name, record.generation);
        if !aside.exists() {
            return Ok(());
        }
        let mut later = record.generation.saturating_add(1);
        while remove(&self.aside(name, later))? {
            later = later.saturating_add(1);
        }
        fs::rename(aside, self.path(name))
    }

    /// Appends lines to their files: to all, or, on an error, as good as to none. Those whose place is occupied are
    /// left out, and told of once.
    pub(super) fn write(&mut self, lines: &HashMap<String, String>) -> Result<(), LogError> {
        // Somebody may have deleted the directories, or moved them away: then the files begin anew.
        let devices = make(&self.directory)?;
        if std::mem::replace(&mut self.devices, devices) != devices {
            self.close_all();
        }
        for (name, text) in lines {
            let appended = self.append(name, text.as_bytes());
            let found = appended.as_ref().err().and_then(occupant);
            self.note_occupied(name, found);
            if let (Err(source), None) = (appended, found) {
                // Lengths are as before, so what was written is cut off; and the handles may be worth nothing.
                self.close_all();
                return Err(self.error(name, source));
            }
        }
        for (name, text) in lines {
            if let Some(file) = self.files.get_mut(name)
                && !file.occupied
            {
                file.record.length = file.record.length.saturating_add(length(text.as_bytes()));
                file.dirty = true;
                self.unsynced = self.unsynced.saturating_add(length(text.as_bytes()));
            }
        }
        Ok(())
    }

    fn close_all(&mut self) {
        self.open.clear();
        self.files.values_mut().for_each(|file| file.handle = None);
    }

    /// Notes what is in a file's place instead of it, if anything, and tells of it when that changes.
    fn note_occupied(&mut self, name: &str, found: Option<&'static str>) {
        let path = self.path(name);
        let Some(file) = self.files.get_mut(name) else { return };
        match (std::mem::replace(&mut file.occupied, found.is_some()), found) {
            (false, Some(found)) => error!("{}", LogError::Occupied { path, found }),
            (true, None) => info!(file = %path.display(), "the log file is written again"),
            _ => {}
        }
    }

    fn append(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        self.prepare(name)?;
        let full = self.files.get(name).is_some_and(|file| {
            file.record.length > 0 && file.record.length.saturating_add(length(text)) > self.limits.max_bytes
        });
        if full {
            self.put_aside(name)?;
            self.prepare(name)?;
        }
        match self.files.get(name) {
            Some(Open { handle: Some(handle), record, .. }) => handle.write_all_at(text, record.length),
            _ => Err(io::Error::other("the file is not open")),
        }
    }

    /// Opens a file, and makes it as long as is known of it.
    fn prepare(&mut self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        let Some(file) = self.files.get_mut(name) else {
            return Err(io::Error::other("the file has not been adopted"));
        };
        file.used = true;
        // Somebody may have deleted it: then it begins anew.
        if let Some(handle) = &file.handle
            && handle.metadata()?.nlink() == 0
        {
            file.handle = None;
            self.open.retain(|open| open != name);
        }
        if file.handle.is_none() {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).mode(0o600);
            file.handle = Some(open_here(&mut options, &path)?);
            self.open.push_back(name.to_owned());
        }
        if let Some(handle) = &file.handle {
            let actual = handle.metadata()?.len();
            if actual > file.record.length {
                handle.set_len(file.record.length)?;
            } else {
                // Somebody may have emptied it: then it goes on from there.
                file.record.length = actual;
            }
        }
        self.close_some();
        Ok(())
    }

    /// Closes files that have not been used for a while, where too many are open.
    fn close_some(&mut self) {
        while self.open.len() > OPEN
            && let Some(name) = self.open.pop_front()
        {
            if let Some(file) = self.files.get_mut(&name) {
                if std::mem::take(&mut file.used) {
                    self.open.push_back(name);
                } else {
                    file.handle = None;
                }
            }
        }
    }

    /// Puts a full file aside and begins a new one. Older ones are deleted after the next sync, not before: what
    /// the store keeps may still mean this one.
    fn put_aside(&mut self, name: &str) -> io::Result<()> {
        let Some(file) = self.files.get(name) else { return Ok(()) };
        let generation = file.record.generation;
        fs::rename(self.path(name), self.aside(name, generation))?;
        self.put_aside.push((name.to_owned(), generation));
        self.open.retain(|open| open != name);
        if let Some(file) = self.files.get_mut(name) {
            file.record = LogFileRow { generation: generation.saturating_add(1), length: 0 };
            file.handle = None;
            file.dirty = true;
        }
        Ok(())
    }

    /// Whether a sync should not wait: much has been written since the last, or files were put aside, of which older
    /// ones can be deleted only then.
    pub(super) fn want_sync(&self) -> bool {
        self.unsynced >= UNSYNCED || !self.put_aside.is_empty()
    }

    /// Syncs all that was written, and says what is to be kept of it.
    pub(super) fn sync(&self) -> Result<Vec<(String, LogFileRow)>, LogError> {
        let dirty: Vec<_> = self.files.iter().filter(|(_, file)| file.dirty).collect();
        if dirty.len() > ONE_BY_ONE {
            self.directory_and(|directory| Ok(rustix::fs::syncfs(directory)?))?;
        } else {
            for (name, file) in &dirty {
                let synced = match &file.handle {
                    Some(handle) => handle.sync_data(),
                    None => sync(&self.path(name)),
                };
                synced.map_err(|source| self.error(name, source))?;
            }
            for (name, generation) in &self.put_aside {
                sync(&self.aside(name, *generation)).map_err(|source| self.error(name, source))?;
            }
            // The names of files, of which some may be new.
            self.directory_and(File::sync_all)?;
        }
        Ok(dirty.into_iter().map(|(name, file)| (name.clone(), file.record)).collect())
    }

    /// Does this with both directories, which are made again if somebody deleted them.
    fn directory_and(&self, work: impl Fn(&File) -> io::Result<()>) -> Result<(), LogError> {
        make(&self.directory)?;
        for path in [self.directory.clone(), self.directory.join("devices")] {
            File::open(&path)
                .and_then(|directory| work(&directory))
                .map_err(|source| LogError::File { path, source })?;
        }
        Ok(())
    }

    /// What [`Files::sync`] said is kept: files that are too many are deleted, and those that rest forgotten.
    pub(super) fn synced(&mut self) {
        self.unsynced = 0;
        for (name, generation) in std::mem::take(&mut self.put_aside) {
            let keep = u64::try_from(self.limits.keep).unwrap_or(u64::MAX);
            let mut surplus = generation.saturating_sub(keep);
            // Several, where fewer are kept than before. One that can't be deleted harms nothing.
            while surplus > 0 && remove(&self.aside(&name, surplus)).unwrap_or(false) {
                surplus = surplus.saturating_sub(1);
            }
        }
        self.files.retain(|_, file| {
            file.dirty = false;
            file.handle.is_some() || file.occupied
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn aside(&self, name: &str, generation: u64) -> PathBuf {
        self.directory.join(format!("{name}.log.{generation}"))
    }

    /// A file that nothing is known of: at most what is there.
    fn found(&self, name: &str) -> LogFileRow {
        let path = self.path(name);
        let length =
            fs::symlink_metadata(&path).map_or(0, |file| if file.is_file() { file.len() } else { 0 });
        if length == 0 && !self.aside(name, 1).exists() {
            return LogFileRow { generation: 1, length };
        }
        let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
        let siblings = path.parent().and_then(|directory| fs::read_dir(directory).ok());
        let highest = siblings
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(&prefix)?.parse::<u64>().ok())
            .max();
        LogFileRow { generation: highest.unwrap_or(0).saturating_add(1), length }
    }

    fn error(&self, name: &str, source: io::Error) -> LogError {
        LogError::File { path: self.path(name), source }
    }
}

fn length(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// Makes the directories if they are not there, and says which one is there for the devices.
fn make(directory: &Path) -> Result<(u64, u64), LogError> {
    let path = directory.join("devices");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| fs::metadata(&path));
    match made {
        Ok(devices) => Ok((devices.dev(), devices.ino())),
        Err(source) => Err(LogError::File { path, source }),
    }
}

/// Opens the very file that has this path: not what a symbolic link leads to, and nothing that would be waited for.
fn open_here(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::NXIO.into()) }
}

/// What is in the place of a file that could not be opened or put aside; `None`: it failed otherwise.
fn occupant(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::LOOP => Some("a symbolic link"),
        Errno::ISDIR => Some("a directory"),
        Errno::NXIO => Some("something that is no plain file"),
        _ => None,
    }
}

/// Syncs a file that is not open; one that somebody has deleted or replaced needs none.
fn sync(path: &Path) -> io::Result<()> {
    match open_here(OpenOptions::new().read(true), path) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound || occupant(&error).is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes a file; false if there was none.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
