//! A program on a terminal of its own, as a person would use it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::wait::{self, LONGEST_WAIT};

/// A program that has a terminal: its input and output, and the one it finds at `/dev/tty`.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    screen: Arc<Screen>,
    /// How much of the screen has been expected so far.
    seen: usize,
}

#[derive(Debug, Default)]
struct Screen {
    shown: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shown {
    bytes: Vec<u8>,
    closed: bool,
}

impl Terminal {
    /// Starts the program on a new terminal.
    ///
    /// # Errors
    /// The terminal can't be made, or the program not started.
    pub fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
        // Else the terminal would become that of the tests.
        let no_controlling_terminal = OFlags::NOCTTY.bits().cast_signed();
        let slave =
            OpenOptions::new().read(true).write(true).custom_flags(no_controlling_terminal).open(name)?;
        // `setsid --ctty` makes it the program's controlling terminal, which a process can do for itself only.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(program)
            .args(arguments)
            .stdin(OwnedFd::from(slave.try_clone()?))
            .stdout(OwnedFd::from(slave.try_clone()?))
            .stderr(OwnedFd::from(slave))
            .spawn()?;
        let master = File::from(master);
        let screen = Arc::new(Screen::default());
        let (reader, written) = (master.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || written.follow(reader));
        Ok(Self { master, child, screen, seen: 0 })
    }

    /// Types these keys.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn type_keys(&mut self, keys: &str) -> io::Result<()> {
        self.master.write_all(keys.as_bytes())
    }

    /// Types a line and Enter.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn type_line(&mut self, line: &str) -> io::Result<()> {
        self.type_keys(&format!("{line}\r"))
    }

    /// Waits until this is shown, behind what was expected before, and gives back all up to its end.
    ///
    /// # Panics
    /// It is not shown in time.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let rest = String::from_utf8_lossy(&shown.bytes[self.seen..]).into_owned();
            if let Some(at) = rest.find(text) {
                let end = at + text.len();
                self.seen += end;
                return rest[..end].to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !shown.closed, "expected {text:?} on the terminal, found {rest:?}");
            shown = self.screen.changed.wait_timeout(shown, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that was ever shown.
    pub fn everything(&self) -> String {
        let shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown.bytes).into_owned()
    }

    /// Whether the terminal shows what is typed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn shows_typing(&self) -> io::Result<bool> {
        Ok(tcgetattr(&self.master)?.local_modes.contains(LocalModes::ECHO))
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let ended = wait::find(LONGEST_WAIT, || self.child.try_wait().transpose());
        ended.unwrap_or_else(|| panic!("the program did not end; it showed {:?}", self.everything()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, or nobody is there to be told that it could not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    fn follow(&self, mut reader: File) {
        let mut buffer = [0; 4096];
        loop {
            // A terminal that nobody has open any more gives an error.
            let length = reader.read(&mut buffer).unwrap_or(0);
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.bytes.extend_from_slice(&buffer[..length]);
            shown.closed = length == 0;
            self.changed.notify_all();
            if shown.closed {
                return;
            }
        }
    }
}
