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

/// Where sudo may be.
const SUDO: [&str; 3] = ["/usr/bin/sudo", "/usr/local/bin/sudo", "/bin/sudo"];

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
    /// Whether that is a file which everybody may read, and root alone may change.
    pub(super) is_snippet_plain: bool,
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
            account: account()?,
            sshd,
            no_login,
            snippet,
            snippet_now: fs::read_to_string(sshd::SNIPPET).ok(),
            is_snippet_plain: fs::symlink_metadata(sshd::SNIPPET).is_ok_and(|file| {
                file.is_file() && (file.uid(), file.mode() & 0o7777) == (0, sshd::SNIPPET_MODE)
            }),
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

/// The account, if it is there now.
pub(super) fn account() -> Result<Option<Account>, CliError> {
    Ok(Account::read(&databases()?))
}

/// What the system's databases say of the account.
fn databases() -> Result<Databases, CliError> {
    let passwd = getent("passwd", ACCOUNT)?;
    let home = PathBuf::from(passwd.split(':').nth(5).unwrap_or_default());
    let keys = KEYS.iter().map(|file| home.join(file)).filter(|file| file.exists());
    let keys = keys.map(|file| file.display().to_string()).collect();
    let all = |database| Ok::<_, CliError>(text(&run("getent", &[database], "")?.stdout));
    // It knows nobody who is not there.
    let sudo = if passwd.is_empty() { String::new() } else { ask_sudo()? };
    Ok(Databases {
        passwd,
        shadow: getent("shadow", ACCOUNT)?,
        accounts: all("passwd")?,
        group: all("group")?,
        sudo,
        keys,
    })
}

/// What sudo says that the account may do, by whatever rules there are; nothing where there is no sudo.
fn ask_sudo() -> Result<String, CliError> {
    if !SUDO.iter().any(|path| Path::new(path).exists()) {
        return Ok(String::new());
    }
    let said = run("sudo", &["-n", "-l", "-U", ACCOUNT], "")?;
    Ok(text(if said.status.success() { &said.stdout } else { &said.stderr }))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One entry of a database; empty if there is none.
fn getent(database: &str, name: &str) -> Result<String, CliError> {
    Ok(text(&run("getent", &[database, name], "")?.stdout))
}
