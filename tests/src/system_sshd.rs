//! The SSH server of the machine on which a server runs, with a configuration and accounts of a test's own: in a process with
//! a [view of its own](crate::namespace).

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Output,
};

use tempfile::TempDir;

use crate::{
    binaries, namespace,
    process::{self, Process},
    wait::{self, LONGEST_WAIT},
};

/// Where `holdfast` is installed: nobody but root can write on the way there, as sshd wants it.
const PROGRAM: &str = "/srv/holdfast";

/// The system's own configuration.
const CONFIG: &str = "/etc/ssh/sshd_config";

/// The machine's SSH server: it may run or not. Accounts and configuration are this process's.
#[derive(Debug)]
pub struct SystemSshd {
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

impl SystemSshd {
    /// One that does not run, with the system's configuration.
    ///
    /// # Errors
    /// This process has no view of its own, or something can't be written.
    pub fn prepare() -> io::Result<Self> {
        Self::prepare_with(&binaries::holdfast())
    }

    fn prepare_with(holdfast: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let etc = directory.path().join("etc");
        command("cp", &["-a", "/etc", &etc.display().to_string()])?;
        namespace::show(&etc, Path::new("/etc"))?;
        namespace::hide(Path::new("/var/log"))?;
        namespace::hide(Path::new("/srv"))?;
        fs::write(PROGRAM, "")?;
        namespace::show(holdfast, Path::new(PROGRAM))?;
        // A port that is free now. Another program may take it first: then sshd does not come up.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = fs::read_to_string(CONFIG)?;
        let own = format!(
            "Port {port}\nListenAddress 127.0.0.1\nLogLevel VERBOSE\nPidFile {}\n",
            directory.path().join("sshd.pid").display()
        );
        fs::write(CONFIG, own + &config)?;
        command("ssh-keygen", &["-A"])?;
        fs::create_dir_all("/run/sshd")?;
        Ok(Self { directory, port, process: None })
    }

    /// One that runs, and knows the account; with the configuration that a server of these devices needs.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Panics
    /// The account can't be set up, or sshd does not listen.
    pub fn set_up(data: &Path) -> io::Result<Self> {
        Self::set_up_with(&binaries::holdfast(), data)
    }

    /// The same with this `holdfast`.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Panics
    /// As above.
    pub fn set_up_with(holdfast: &Path, data: &Path) -> io::Result<Self> {
        fs::create_dir_all(data)?;
        let mut sshd = Self::prepare_with(holdfast)?;
        let output = sshd.setup(data, &["--yes"]);
        assert!(output.status.success(), "{output:?}");
        sshd.run()?;
        Ok(sshd)
    }

    /// `holdfast setup-ssh-account` for the server that has its data there.
    ///
    /// # Panics
    /// It can't be run.
    #[track_caller]
    pub fn setup(&self, data: &Path, arguments: &[&str]) -> Output {
        let data = data.display().to_string();
        let all = [&["setup-ssh-account", "--data", &data], arguments].concat();
        process::run(Path::new(PROGRAM), all, LONGEST_WAIT).expect("holdfast runs")
    }

    /// What the server's configuration says of it.
    pub fn server_configuration(&self) -> String {
        format!("[ssh-account]\nport = {}\n", self.port)
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// It can't be started.
    ///
    /// # Panics
    /// It does not listen in time.
    pub fn run(&mut self) -> io::Result<()> {
        let log = self.log_file();
        self.process = Some(Process::start(Path::new("/usr/sbin/sshd"), ["-D", "-e"], &log)?);
        wait::until_true("sshd listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
        Ok(())
    }

    /// Starts it with this line in its configuration, which goes before what stands there.
    ///
    /// # Errors
    /// It can't be written, or sshd not be started.
    pub fn run_with(&mut self, line: &str) -> io::Result<()> {
        self.kill();
        let config = fs::read_to_string(CONFIG)?;
        fs::write(CONFIG, format!("{line}\n{config}"))?;
        self.run()
    }

    /// The file in which it says which process it is.
    pub fn pid_file(&self) -> PathBuf {
        self.directory.path().join("sshd.pid")
    }

    /// Ends it, and all who are logged in.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The number of its process, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The processes of those who are logged in: two for each.
    pub fn sessions(&self) -> Vec<u32> {
        let Some(listener) = self.process.as_ref().map(Process::id) else { return Vec::new() };
        let is_its = |id: &u32| {
            let parent = process::parent(*id);
            parent == Some(listener) || parent.and_then(process::parent) == Some(listener)
        };
        process::all().into_iter().filter(is_its).collect()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("sshd.log")
    }
}

/// Runs one of the system's programs, which succeeds.
///
/// # Errors
/// It does not.
pub fn command(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = process::run(Path::new(program), arguments, LONGEST_WAIT)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{program} {arguments:?}: {output:?}"))),
    }
}
