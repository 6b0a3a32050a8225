//! A real OpenSSH server of a test's own: on loopback, with its own keys, for the user who runs the test.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    agent::{Agent, COMMON},
    process::{self, Process},
    wait,
};

/// Where Debian has it; it wants to be called by its whole path.
const PROGRAM: &str = "/usr/sbin/sshd";

/// An SSH server, and the key of a user that it lets in. It ends when this is dropped.
#[derive(Debug)]
pub struct Sshd {
    directory: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
    /// Removes the directory, where it is not somebody else's.
    temporary: Option<TempDir>,
}

impl Sshd {
    /// One that runs.
    ///
    /// # Errors
    /// It can't be started; `cargo xtask setup` installs it.
    pub fn start() -> io::Result<Self> {
        Self::configured("")
    }

    /// One that runs, with these lines before all others in its configuration: the first word on a setting stands.
    ///
    /// # Errors
    /// It can't be started; `cargo xtask setup` installs it.
    pub fn configured(more: &str) -> io::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut sshd = Self::prepared(temporary.path(), Ipv4Addr::LOCALHOST.into(), more)?;
        sshd.temporary = Some(temporary);
        Ok(sshd)
    }

    /// One that runs, at another address of this machine than the loopback's.
    ///
    /// # Errors
    /// It can't be started; `cargo xtask setup` installs it.
    pub fn listening_on(address: IpAddr) -> io::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut sshd = Self::prepared(temporary.path(), address, "")?;
        sshd.temporary = Some(temporary);
        Ok(sshd)
    }

    /// One that runs, with all that it has in this directory, which is made.
    ///
    /// # Errors
    /// It can't be started; `cargo xtask setup` installs it.
    pub fn at(directory: &Path) -> io::Result<Self> {
        Self::prepared(directory, Ipv4Addr::LOCALHOST.into(), "")
    }

    fn prepared(directory: &Path, address: IpAddr, more: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = fs::canonicalize(directory)?;
        // A port that is free now. Another program may take it first: then the server does not come up.
        let address = TcpListener::bind((address, 0))?.local_addr()?;
        let mut sshd = Self { directory, address, process: None, temporary: None };
        sshd.make_host_key()?;
        make_key(&sshd.key())?;
        fs::copy(sshd.file("id.pub"), sshd.file("authorized_keys"))?;
        let lines = [
            format!("ListenAddress {address}"),
            format!("HostKey {}", sshd.file("ssh_host_ed25519_key").display()),
            format!("AuthorizedKeysFile {}", sshd.file("authorized_keys").display()),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "PidFile none".to_owned(),
            "MaxStartups 200".to_owned(),
            "Subsystem sftp internal-sftp".to_owned(),
            "LogLevel VERBOSE".to_owned(),
        ];
        fs::write(sshd.file("sshd_config"), more.to_owned() + &lines.join("\n") + "\n")?;
        // Where it gives up its rights, if it has any; a system's own start makes it.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        sshd.run()?;
        Ok(sshd)
    }

    /// Gives it another host key, for its next start.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make_host_key(&self) -> io::Result<()> {
        make_key(&self.file("ssh_host_ed25519_key"))
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// It can't be started.
    ///
    /// # Panics
    /// It does not listen in time.
    pub fn run(&mut self) -> io::Result<()> {
        let config = self.file("sshd_config").display().to_string();
        let process =
            Process::start(Path::new(PROGRAM), ["-D", "-e", "-f", &config], &self.file("sshd.log"))?;
        self.process = Some(process);
        wait::until_true("sshd listens", || TcpStream::connect(self.address).is_ok());
        Ok(())
    }

    /// Ends it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The number of its process, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its public host keys are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The private key of the user that it lets in.
    pub fn key(&self) -> PathBuf {
        self.file("id")
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("sshd.log")).unwrap_or_default()
    }

    /// What an agent's configuration says of it.
    ///
    /// # Errors
    /// It can't be found out who the user is.
    pub fn agent_configuration(&self) -> io::Result<String> {
        let (directory, user) = (self.directory().display(), user()?);
        let address = self.address;
        Ok(format!(
            "ssh_directory = '{directory}'\nssh_user = '{user}'\n\n[tasks.ssh]\naddress = '{address}'\n"
        ))
    }

    /// Tells an agent, before it is enrolled, that this is its device's; with these lines more about it.
    ///
    /// # Errors
    /// Its configuration can't be written.
    pub fn belong_to(&self, agent: &Agent, more: &str) -> io::Result<()> {
        let own = self.agent_configuration()?;
        // What belongs to no table stands before all tables.
        let (outside, table) = own.split_once("\n\n").unwrap_or((&own, ""));
        agent.configure_all(&format!("{outside}\n{COMMON}{table}{more}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// A new key without a password, in the place of an older one.
fn make_key(path: &Path) -> io::Result<()> {
    for file in [path.to_owned(), path.with_extension("pub")] {
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    let path = path.display().to_string();
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", &path];
    let made = process::run(Path::new("ssh-keygen"), arguments, Duration::from_secs(10))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("no key could be made: {made:?}"))),
    }
}

/// Whether it is installed.
pub fn is_installed() -> bool {
    Path::new(PROGRAM).exists()
}

/// The name of the user who runs the tests.
///
/// # Errors
/// It can't be found out.
pub fn user() -> io::Result<String> {
    let named = process::run(Path::new("id"), ["-un"], Duration::from_secs(10))?;
    Ok(String::from_utf8_lossy(&named.stdout).trim().to_owned())
}
