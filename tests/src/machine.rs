//! Real firmware on an emulated microcontroller: a machine of QEMU's for each device, as `hardware/qemu-lm3s6965` says.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{binaries, process::Process, serial_line::SerialLine, server::Server, wait};

/// The emulator, on `PATH`.
const QEMU: &str = "qemu-system-arm";

/// Where the provisioning block is in the machine's flash.
const PROVISIONING: &str = "0x3fc00";

/// How often the two ends of a wire look whether the other is still there.
const LOOK: Duration = Duration::from_millis(50);

/// A microcontroller: it may run or not, and keeps what it has in its flash until it is dropped: if a test has failed,
/// that shows its console.
#[derive(Debug)]
pub struct Machine {
    directory: Directory,
    image: PathBuf,
    connects: Connects,
    process: Option<Process>,
}

/// Where a machine keeps what it has.
#[derive(Debug)]
enum Directory {
    /// It goes with the machine.
    Own(TempDir),
    /// It stays.
    Given(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}

/// What the machine is connected by.
#[derive(Debug)]
enum Connects {
    /// Ethernet; UART 0 is its console.
    Network,
    /// UART 0.
    Wire(Arc<SerialLine>),
    /// Nothing. Its clock counts instructions.
    Nothing,
}

/// Where a machine finds what listens at this address on the host's loopback.
pub fn from_within(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 2, 2).into(), address.port())
}

impl Machine {
    /// A machine with Ethernet and the firmware `ethernet`, that is provisioned as `name` and does not run. It finds
    /// the server where devices are told that it is, which must be [`from_within`].
    ///
    /// # Errors
    /// Its directory can't be made, or there is no QEMU.
    ///
    /// # Panics
    /// It can't be provisioned.
    #[track_caller]
    pub fn provisioned(server: &Server, name: &str) -> io::Result<Self> {
        Self::provisioned_with("ethernet", server, name)
    }

    /// The same with another firmware, of those that have TLS.
    ///
    /// # Errors
    /// Its directory can't be made, or there is no QEMU.
    ///
    /// # Panics
    /// It can't be provisioned.
    #[track_caller]
    pub fn provisioned_with(firmware: &str, server: &Server, name: &str) -> io::Result<Self> {
        let machine = Self::new(firmware, Connects::Network)?;
        machine.provision(server, name, &[])?;
        Ok(machine)
    }

    /// A machine at the end of this line, with the firmware `uart`; it does not run.
    ///
    /// # Errors
    /// Its directory can't be made, or there is no QEMU.
    pub fn wired(line: &Arc<SerialLine>) -> io::Result<Self> {
        Self::new("uart", Connects::Wire(Arc::clone(line)))
    }

    /// A machine without any connection, with this firmware, by whose clock each instruction takes 1,024 ns; it does not
    /// run.
    ///
    /// # Errors
    /// Its directory can't be made, or there is no QEMU.
    pub fn alone(firmware: &str) -> io::Result<Self> {
        Self::new(firmware, Connects::Nothing)
    }

    /// A machine with Ethernet, and with this image of its firmware and this provisioning block; it keeps what it has
    /// in a directory that is there, and does not run.
    ///
    /// # Errors
    /// There is no QEMU, or something can't be written.
    pub fn at(directory: &Path, image: &Path, block: &[u8]) -> io::Result<Self> {
        require_qemu()?;
        let (directory, image) = (directory.canonicalize()?, image.canonicalize()?);
        let directory = Directory::Given(directory);
        let machine = Self { directory, image, connects: Connects::Network, process: None };
        machine.flash(block)?;
        Ok(machine)
    }

    fn new(binary: &str, connects: Connects) -> io::Result<Self> {
        require_qemu()?;
        let (directory, image) = (Directory::Own(tempfile::tempdir()?), binaries::firmware(binary));
        Ok(Self { directory, image, connects, process: None })
    }

    /// Provisions it as `name`, for its next start; `more` are further arguments for its enrolment.
    ///
    /// # Errors
    /// Its block can't be written.
    ///
    /// # Panics
    /// It can't be enrolled.
    #[track_caller]
    pub fn provision(&self, server: &Server, name: &str, more: &[&str]) -> io::Result<()> {
        let blocks = self.directory.path().join("blocks");
        let out = blocks.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        server.tell(&[&["enroll", "--firmware", "--name", name, "--out", out], more].concat());
        self.flash(&fs::read(blocks.join(format!("{name}.bin")))?)
    }

    /// Writes its provisioning block, for its next start.
    ///
    /// # Errors
    /// It can't be written.
    pub fn flash(&self, block: &[u8]) -> io::Result<()> {
        fs::write(self.block(), block)
    }

    /// Its provisioning block.
    ///
    /// # Errors
    /// It has none.
    pub fn flashed(&self) -> io::Result<Vec<u8>> {
        fs::read(self.block())
    }

    /// What its provisioning block was changed to.
    ///
    /// # Errors
    /// It was not.
    pub fn changed(&self) -> io::Result<Vec<u8>> {
        fs::read(self.directory.path().join("provisioning.changed"))
    }

    /// Switches it on.
    ///
    /// # Errors
    /// It can't be started.
    pub fn run(&mut self) -> io::Result<()> {
        let directory = self.directory.path();
        // A changed provisioning block goes to the directory that it runs in.
        let mut arguments = vec![format!("--chdir={}", directory.display()), QEMU.to_owned()];
        let mut add = |words: &str| arguments.extend(words.split(' ').map(str::to_owned));
        add("-machine lm3s6965evb -display none -monitor none");
        add("-semihosting-config enable=on,target=native -serial chardev:uart -chardev");
        match &self.connects {
            Connects::Nothing => add("file,id=uart,path=console,append=on -nic none -icount shift=10"),
            Connects::Network => {
                add("file,id=uart,path=console,append=on -nic user");
                add(&format!("-device loader,file=block,addr={PROVISIONING},force-raw=on"));
            }
            Connects::Wire(line) => {
                let socket = directory.join("uart");
                // That of its last run.
                _ = fs::remove_file(&socket);
                join(UnixListener::bind(&socket)?, line);
                add("socket,id=uart,path=uart -nic none");
            }
        }
        arguments.extend(["-kernel".to_owned(), self.image.display().to_string()]);
        self.process = Some(Process::start(Path::new("env"), &arguments, &directory.join("qemu.log"))?);
        Ok(())
    }

    /// QEMU's process.
    ///
    /// # Panics
    /// It does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the machine was started")
    }

    /// Cuts its power.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What it has shown on its console since it was made.
    pub fn console(&self) -> String {
        let read = |file| fs::read(self.directory.path().join(file)).unwrap_or_default();
        let bytes = [read("console"), read("qemu.log")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its console has shown all of these, one behind the other.
    ///
    /// # Panics
    /// It has not in time.
    #[track_caller]
    pub fn wait_console(&self, words: &[&str]) {
        let shows_all = |console: &String| {
            let mut rest = Some(console.as_str());
            for words in words {
                rest = rest.and_then(|rest| Some(rest.split_once(words)?.1));
            }
            rest.is_some()
        };
        wait::until(&format!("the console shows {words:?}"), || self.console(), shows_all);
    }

    fn block(&self) -> PathBuf {
        self.directory.path().join("block")
    }
}

fn require_qemu() -> io::Result<()> {
    let found = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    found.map(drop).map_err(|error| {
        io::Error::new(error.kind(), format!("{QEMU}: {error}; `cargo xtask setup` installs it"))
    })
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the machine with {} said:\n{}", self.image.display(), self.console());
        }
    }
}

/// Joins a machine, which is about to connect, to its line. Ends with the machine.
fn join(listener: UnixListener, line: &Arc<SerialLine>) {
    let line = Arc::clone(line);
    thread::spawn(move || -> io::Result<()> {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LOOK))?;
        let (mut to_machine, to_line) = (stream.try_clone()?, Arc::clone(&line));
        let up = thread::spawn(move || carry_up(stream, &to_line));
        while !up.is_finished() {
            to_machine.write_all(&line.read(LOOK))?;
        }
        Ok(())
    });
}

/// Carries what the machine says to the line, until the machine is gone.
fn carry_up(mut machine: UnixStream, line: &SerialLine) {
    let mut buffer = [0; 1024];
    loop {
        match machine.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => line.write(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
