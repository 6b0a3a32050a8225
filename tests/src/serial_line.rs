//! A serial line between a test and an agent: a pseudo-terminal that can be unplugged, and that loses, damages and
//! inserts bytes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    mem,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::ioctl_fionbio,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tempfile::TempDir;

use crate::{noise::Noise, wait};

/// A line, which is plugged in at first.
#[derive(Debug)]
pub struct SerialLine {
    directory: TempDir,
    plug: Mutex<Option<Plug>>,
    /// To the agent, and from it.
    noise: [Mutex<Noise>; 2],
    /// What the test's end reads before all else.
    inserted: Mutex<Vec<u8>>,
    broken_off: Mutex<Option<BrokenOff>>,
}

/// A packet to the agent that is broken off, and all that comes behind it.
#[derive(Debug)]
struct BrokenOff {
    /// How many bytes of a packet are carried.
    after: usize,
    /// How many of the present one were; it is broken off once these are as many.
    carried: usize,
}

/// The test's end of a pseudo-terminal, and the other one, so that it stays while no agent has it open.
#[derive(Debug)]
struct Plug {
    master: File,
    _slave: File,
}

impl SerialLine {
    /// A line without noise.
    ///
    /// # Errors
    /// The system has no pseudo-terminal.
    pub fn new() -> io::Result<Self> {
        let noise = [(); 2].map(|()| Mutex::new(Noise::new(0, 0)));
        let (plug, inserted, broken_off) = Default::default();
        let line = Self { directory: tempfile::tempdir()?, plug, noise, inserted, broken_off };
        line.plug()?;
        Ok(line)
    }

    /// Where the agent finds it.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("ttyTEST")
    }

    /// From now on one byte in `once_in`, each way, is lost, or changed, or another one comes before it; 0: none. The
    /// same seed makes the same choices.
    pub fn set_noise(&self, seed: u64, once_in: u64) {
        for (noise, way) in self.noise.iter().zip(0..) {
            *lock(noise) = Noise::new(seed * 2 + way, once_in);
        }
    }

    /// How many bytes it has happened to since then, on the way to the agent, and from it.
    pub fn hit(&self) -> [usize; 2] {
        self.noise.each_ref().map(|noise| lock(noise).hit)
    }

    /// From now on the first packet to the agent that is longer than `after` bytes is broken off there, and nothing more
    /// is carried to the agent until [`SerialLine::mend`].
    pub fn break_off(&self, after: usize) {
        *lock(&self.broken_off) = Some(BrokenOff { after, carried: 0 });
    }

    /// Waits until a packet was broken off.
    ///
    /// # Panics
    /// None is in time.
    #[track_caller]
    pub fn wait_broken_off(&self) {
        wait::until_true("a packet is broken off", || {
            lock(&self.broken_off).as_ref().is_some_and(BrokenOff::is_done)
        });
    }

    /// Carries all again.
    pub fn mend(&self) {
        *lock(&self.broken_off) = None;
    }

    /// Unplugs it: whoever has it open finds it gone, and its path leads nowhere.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn unplug(&self) -> io::Result<()> {
        *lock(&self.plug) = None;
        std::fs::remove_file(self.path())
    }

    /// Plugs it in again: another terminal, on the same path.
    ///
    /// # Errors
    /// The system has no pseudo-terminal, or one is plugged in.
    pub fn plug(&self) -> io::Result<()> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        ioctl_fionbio(&master, true)?;
        let name = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
        let no_controlling_terminal = OFlags::NOCTTY.bits().cast_signed();
        let slave =
            OpenOptions::new().read(true).write(true).custom_flags(no_controlling_terminal).open(&name)?;
        // A wire sends nothing back by itself.
        let mut raw = tcgetattr(&slave)?;
        raw.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &raw)?;
        *lock(&self.plug) = Some(Plug { master: File::from(master), _slave: slave });
        symlink(Path::new(&name), self.path())
    }

    /// Writes as to a wire: what nobody reads in time is lost.
    pub fn write(&self, bytes: &[u8]) {
        let count = lock(&self.broken_off).as_mut().map_or(bytes.len(), |broken_off| broken_off.carry(bytes));
        let worn = lock(&self.noise[0]).wear(&bytes[..count]);
        if let Some(plug) = &*lock(&self.plug) {
            let _ = (&plug.master).write(&worn);
        }
    }

    /// Has the test's end read these bytes as well, before the next ones of the agent.
    pub fn insert(&self, bytes: &[u8]) {
        lock(&self.inserted).extend(bytes);
    }

    /// Waits for bytes, at most for `time_limit`, and gives those that came.
    pub fn read(&self, time_limit: Duration) -> Vec<u8> {
        let Ok(Some(master)) = lock(&self.plug).as_ref().map(|plug| plug.master.try_clone()).transpose()
        else {
            // Nothing is plugged in that could be waited for.
            std::thread::sleep(time_limit);
            return Vec::new();
        };
        let limit = Timespec {
            tv_sec: i64::try_from(time_limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time_limit.subsec_nanos()),
        };
        let _ = poll(&mut [PollFd::new(&master, PollFlags::IN)], Some(&limit));
        let mut buffer = [0; 1024];
        let count = (&master).read(&mut buffer).unwrap_or(0);
        let mut bytes = mem::take(&mut *lock(&self.inserted));
        bytes.extend(&buffer[..count]);
        lock(&self.noise[1]).wear(&bytes)
    }
}

impl BrokenOff {
    fn is_done(&self) -> bool {
        self.carried >= self.after
    }

    /// How many of these bytes are carried.
    fn carry(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        for byte in bytes {
            if self.is_done() {
                break;
            }
            // A zero ends a packet.
            self.carried = if *byte == 0 { 0 } else { self.carried + 1 };
            count += 1;
        }
        count
    }
}

/// So many bytes that mean nothing.
pub fn garbage(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number * 7_919 % 251) as u8).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
