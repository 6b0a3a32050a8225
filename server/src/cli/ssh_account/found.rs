//! What there is on this machine before anything is done.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    account::{Account, Databases},
    run,
    sshd::{self, Snippet},
};
use crate::{
    cli::error::CliError,
    config::{Config, Overrides, SshAccount},
    ssh_account::ACCOUNT,
};

/// Where sshd may be.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

/// What stands in the place of a shell.
const NO_LOGIN: [&str; 3] = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"];

/// Where keys would be in a home.
const KEYS: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// What there is.
pub(super) struct Found {
    pub(super) account: Option<Account>,
    pub(super) sshd: &'static str,
    pub(super) no_login: &'static str,
    /// Our part of sshd's configuration, as it should be.
    pub(super) snippet: Snippet,
    /// And as it is.
    pub(super) snippet_now: Option<String>,
    pub(super) is_included: bool,
    /// How sshd sees its configuration for the account.
    pub(super) effective: String,
    /// Where, and by which keys, devices are told to find sshd.
    pub(super) told: SshAccount,
    /// What stands in the way of sshd asking the server.
    pub(super) obstacles: Vec<String>,
}

impl Found {
    /// Looks at this machine, whose server has its data there.
    pub(super) fn look(data: &Path) -> Result<Self, CliError> {
        let is_there = |path: &&&str| Path::new(path).exists();
        let missing = || CliError::failed("there is no sshd on this machine: install openssh-server");
        let sshd = SSHD.iter().find(is_there).copied().ok_or_else(missing)?;
        let no_login = NO_LOGIN.iter().find(is_there).copied().unwrap_or("/bin/false");
        let program = std::env::current_exe()?;
        let no_data =
            |error| CliError::failed(format!("{}: {error}; start the server first", data.display()));
        let data = fs::canonicalize(data).map_err(no_data)?;
        let owner = fs::metadata(&data)?.uid();
        let user = getent("passwd", &owner.to_string())?;
        let user = user.split(':').next().filter(|name| !name.is_empty());
        let mut obstacles = path_obstacles(&program, &data);
        if user.is_none() {
            obstacles.push(format!(
                "{} belongs to nobody who has a name: give it to the server's user",
                data.display()
            ));
        }
        let mut snippet = Snippet::new(&program, &data, user.unwrap_or_default(), no_login);
        if obstacles.is_empty() {
            snippet.check(sshd)?;
        }
        let config = Config::load(&data, &Overrides::default())?;
        Ok(Self {
            account: Account::read(&databases()?),
            sshd,
            no_login,
            snippet,
            snippet_now: fs::read_to_string(sshd::SNIPPET).ok(),
            is_included: sshd::is_included(&fs::read_to_string(sshd::CONFIG)?),
            effective: sshd::effective(sshd)?,
            told: config.ssh_account,
            obstacles,
        })
    }
}

/// What of these paths sshd would not run, or not understand.
fn path_obstacles(program: &Path, data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(open) = program.ancestors().find(|path| !is_roots(path)) {
        found.push(format!(
            "sshd runs no program that others than root can change ({}): copy holdfast to /usr/local/bin, and run this from there",
            open.display()
        ));
    }
    let is_plain = |path: &Path| {
        path.to_str().is_some_and(|text| {
            text.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"/._-+".contains(&letter))
        })
    };
    for path in [program, data].into_iter().filter(|path| !is_plain(path)) {
        found.push(format!(
            "{}: expected a path of letters, digits and /._-+ for sshd's configuration; move it",
            path.display()
        ));
    }
    found
}

/// Whether root alone can change what is there.
fn is_roots(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
}

/// What the system's databases say of the account.
fn databases() -> Result<Databases, CliError> {
    let passwd = getent("passwd", ACCOUNT)?;
    let home = PathBuf::from(passwd.split(':').nth(5).unwrap_or_default());
    let keys = KEYS.iter().map(|file| home.join(file)).filter(|file| file.exists());
    let keys = keys.map(|file| file.display().to_string()).collect();
    let all = run("getent", &["group"], "")?;
    let mut sudoers = Vec::new();
    let directory = fs::read_dir("/etc/sudoers.d").into_iter().flatten().flatten().map(|entry| entry.path());
    for path in directory.chain([PathBuf::from("/etc/sudoers")]) {
        if let Ok(text) = fs::read(&path) {
            sudoers.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(Databases {
        passwd,
        shadow: getent("shadow", ACCOUNT)?,
        group: String::from_utf8_lossy(&all.stdout).into_owned(),
        sudoers,
        keys,
    })
}

/// One entry of a database; empty if there is none.
fn getent(database: &str, name: &str) -> Result<String, CliError> {
    Ok(String::from_utf8_lossy(&run("getent", &[database, name], "")?.stdout).into_owned())
}
