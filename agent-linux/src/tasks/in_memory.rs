//! Files that programs read by their names, and that stand on no disk.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
};

use rustix::fs::{MemfdFlags, memfd_create};

/// A file that is nowhere but in memory, and gone with this process, however that ends: a secret leaves no trace on a disk.
#[derive(Debug)]
pub(crate) struct InMemory(File);

impl InMemory {
    pub(crate) fn new(name: &str, contents: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        // ssh takes no key that others may read.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(contents)?;
        Ok(Self(file))
    }

    /// Its path, for processes of the same user.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}
