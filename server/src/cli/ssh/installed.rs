//! What `ssh-config --install` leaves in `~/.ssh`, and how it is kept fresh.
//!
//! ssh reads its files one after the other, and runs what stands behind `Match … exec` when it comes to it: so the first of
//! ours has the second written anew, if that is old, before ssh opens it.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{cli::error::CliError, files};

/// What is said of all devices, beside ssh's own configuration.
const ALL: &str = "holdfast.conf";

/// The devices: a `Host` block for each, where programs look for hosts that they can offer.
const DEVICES: &str = "holdfast-devices.conf";

/// How old the list of devices may become.
const LONGEST_AGE: Duration = Duration::from_secs(60);

/// How old a list is at least that is asked for anew because it lacks a host: a name that is nobody's, asked for by many
/// programs at once, is not worth a question each.
const LEAST_AGE: Duration = Duration::from_secs(2);

/// What stands in front of the server in the file that is said of all devices.
const SERVER: &str = "# Server: ";

/// How long ssh is held up at most where the server does not answer.
pub(super) const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is looked whether another call of this program has brought the list up to date.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The directory of ssh's configuration.
pub(super) struct Installed(PathBuf);

impl Installed {
    /// That of this user.
    pub(super) fn of_user() -> Result<Self, CliError> {
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let unknown = || CliError::failed("HOME is not set: it is not known where ssh's configuration is");
        Ok(Self(home.ok_or_else(unknown)?.join(".ssh")))
    }

    /// Keeps all others from writing until the file is dropped; makes the directory, if need be.
    pub(super) async fn lock(&self) -> io::Result<File> {
        files::create_private_directory(&self.0)?;
        self.locked(|| false).await?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Writes what is said of all devices of this server. Gives the server that it was said of before, if that is another.
    pub(super) fn write(&self, server: &str, text: &str) -> io::Result<Option<String>> {
        let before = fs::read_to_string(self.0.join(ALL)).unwrap_or_default();
        let before = before.lines().find_map(|line| line.strip_prefix(SERVER)).map(ToOwned::to_owned);
        files::replace_private(&self.0.join(ALL), format!("{SERVER}{server}\n{text}").as_bytes())?;
        Ok(before.filter(|before| before != server))
    }

    /// Removes all that is installed. Gives whether there was something.
    pub(super) fn remove(&self) -> io::Result<bool> {
        let config = self.config();
        let text = read(&config)?;
        let (included, kept) = parted(&text);
        if !included.is_empty() {
            let kept = kept.join("\n");
            files::replace_private(&config, format!("{}\n", kept.trim_matches('\n')).as_bytes())?;
        }
        let mut was_there = !included.is_empty();
        for name in [ALL, DEVICES] {
            match fs::remove_file(self.0.join(name)) {
                Ok(()) => was_there = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(was_there)
    }

    /// Writes the list of devices.
    pub(super) fn write_devices(&self, text: &str) -> io::Result<()> {
        files::replace_private(&self.0.join(DEVICES), text.as_bytes())
    }

    /// Waits for the turn to bring the list of devices up to date; none if it need not be: it is new, and `host` is in it.
    /// Of many calls at once one asks the server, and the others wait for that.
    pub(super) async fn turn(&self, host: &str) -> io::Result<Option<File>> {
        self.locked(|| self.is_fresh(host)).await
    }

    /// Waits until nobody else writes; gives none if that need not be waited for.
    async fn locked(&self, is_needless: impl Fn() -> bool) -> io::Result<Option<File>> {
        let directory = File::open(&self.0)?;
        loop {
            if is_needless() {
                return Ok(None);
            }
            match directory.try_lock() {
                // It may have become so since it was looked at.
                Ok(()) => return Ok((!is_needless()).then_some(directory)),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_INTERVAL).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Whether the list of devices is new, and has this one, or is so new that it would not have it either if it were asked
    /// for again.
    fn is_fresh(&self, host: &str) -> bool {
        let path = self.0.join(DEVICES);
        let written = fs::metadata(&path).and_then(|file| file.modified());
        // A time to come is none: somebody has set the clock.
        let Some(age) = written.ok().and_then(|at| at.elapsed().ok()) else { return false };
        let names =
            |line: &str| line.strip_prefix("Host ").is_some_and(|name| name.eq_ignore_ascii_case(host));
        age < LEAST_AGE
            || age < LONGEST_AGE && fs::read_to_string(&path).is_ok_and(|text| text.lines().any(names))
    }

    /// Has ssh's own configuration include ours: at its beginning, as the first word on a setting stands. Gives where that is.
    pub(super) fn include(&self) -> io::Result<PathBuf> {
        let config = self.config();
        let before = read(&config)?;
        let (included, kept) = parted(&before);
        if includes().iter().all(|include| included.contains(&include.as_str())) {
            return Ok(config);
        }
        let text = format!("{}\n\n{}", includes().join("\n"), kept.join("\n").trim_start_matches('\n'));
        files::replace_private(&config, format!("{}\n", text.trim_end()).as_bytes())?;
        Ok(config)
    }

    /// ssh's own configuration. Where it is a link it stays one.
    fn config(&self) -> PathBuf {
        let config = self.0.join("config");
        fs::canonicalize(&config).unwrap_or(config)
    }
}

/// The lines by which ssh's own configuration includes ours.
fn includes() -> [String; 2] {
    [ALL, DEVICES].map(|name| format!("Include {name}"))
}

/// The lines of ssh's own configuration: those by which it includes ours, and the others.
fn parted(config: &str) -> (Vec<&str>, Vec<&str>) {
    let includes = includes();
    let is_ours = |line: &&str| includes.iter().any(|include| include == line.trim());
    let (ours, others): (Vec<_>, Vec<_>) = config.lines().partition(is_ours);
    (ours.into_iter().map(str::trim).collect(), others)
}

/// The text of a file; none if there is no such file.
fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        // Whoever sees this does not know which of their files it is about.
        read => read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// The home that ssh takes, which is that of the password file, where `HOME` is another one.
pub(super) fn other_home() -> Option<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let home = PathBuf::from(home_of(&users, rustix::process::getuid().as_raw())?);
    let said = env::var_os("HOME").map(PathBuf::from)?;
    let is_same = fs::canonicalize(&said).ok() == fs::canonicalize(&home).ok();
    (!is_same).then_some(home)
}

/// The home of a user in the text of `/etc/passwd`.
fn home_of(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_theirs = fields.get(2)?.parse() == Ok(uid);
        fields.get(5).copied().filter(|home| is_theirs && !home.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::SystemTime,
    };

    use super::{DEVICES, Installed, LEAST_AGE, LONGEST_AGE, home_of};

    fn installed() -> (tempfile::TempDir, Installed) {
        let directory = tempfile::tempdir().unwrap();
        let installed = Installed(directory.path().join(".ssh"));
        fs::create_dir(&installed.0).unwrap();
        assert_eq!(installed.write("--data '/a'", "Host *.fleet\n").unwrap(), None);
        (directory, installed)
    }

    #[test]
    fn it_is_included_once_and_before_all_else() {
        let (_directory, installed) = installed();
        let ours = "Include holdfast.conf\nInclude holdfast-devices.conf\n";
        for (before, after) in [
            ("", ours.to_owned()),
            ("Host a\n    User b\n", format!("{ours}\nHost a\n    User b\n")),
            // As an earlier version had it.
            ("Include holdfast.conf\n\nHost a\n", format!("{ours}\nHost a\n")),
        ] {
            fs::write(installed.0.join("config"), before).unwrap();
            for _ in 0..2 {
                let path = installed.include().unwrap();
                assert_eq!(fs::read_to_string(path).unwrap(), after);
            }
        }
    }

    #[test]
    fn what_is_removed_is_ours_alone() {
        let (_directory, installed) = installed();
        let own = "Host a\n    User b\n";
        fs::write(installed.0.join("config"), own).unwrap();
        installed.write_devices("Host a.fleet\n").unwrap();
        installed.include().unwrap();
        assert!(installed.remove().unwrap());
        assert_eq!(fs::read_to_string(installed.0.join("config")).unwrap(), own);
        assert_eq!(fs::read_dir(&installed.0).unwrap().count(), 1, "the user's own is left");
        assert!(!installed.remove().unwrap(), "there is nothing any longer");
        fs::write(installed.0.join("config"), b"Host \xff\n").unwrap();
        assert!(installed.remove().unwrap_err().to_string().contains("/.ssh/config: "));
    }

    #[test]
    fn who_takes_the_place_of_another_server_is_told() {
        let (_directory, installed) = installed();
        assert_eq!(installed.write("--data '/a'", "").unwrap(), None);
        assert_eq!(installed.write("--context 'b'", "").unwrap().as_deref(), Some("--data '/a'"));
        assert_eq!(installed.write("--context 'b'", "").unwrap(), None);
    }

    #[test]
    fn the_home_that_ssh_takes() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\nx:x:7:7:::\n";
        let found = [0, 1000, 7, 8].map(|uid| home_of(users, uid));
        assert_eq!(found, [Some("/root"), Some("/home/anna"), None, None]);
    }

    #[tokio::test]
    async fn the_list_is_asked_for_where_it_is_old_or_lacks_the_host() {
        let (_directory, installed) = installed();
        assert!(installed.turn("a.fleet").await.unwrap().is_some(), "there is none");
        installed.write_devices("Host a.fleet\n    User b\n\n").unwrap();
        assert!(installed.turn("a.fleet").await.unwrap().is_none());
        assert!(installed.turn("A.fleet").await.unwrap().is_none(), "names of hosts have no case");
        assert!(installed.turn("b.fleet").await.unwrap().is_none(), "it is not there, and was not just now");
        let file = File::options().append(true).open(installed.0.join(DEVICES)).unwrap();
        file.set_modified(SystemTime::now() - LEAST_AGE).unwrap();
        assert!(installed.turn("a.fleet").await.unwrap().is_none());
        assert!(installed.turn("b.fleet").await.unwrap().is_some(), "it may be there now");
        file.set_modified(SystemTime::now() - LONGEST_AGE).unwrap();
        assert!(installed.turn("a.fleet").await.unwrap().is_some(), "it is old");
        file.set_modified(SystemTime::now() + LONGEST_AGE).unwrap();
        assert!(installed.turn("a.fleet").await.unwrap().is_some(), "the clock was set");
    }

    #[tokio::test]
    async fn one_of_many_asks_for_all() {
        let (_directory, installed) = installed();
        let turn = installed.turn("a.fleet").await.unwrap();
        assert!(turn.is_some());
        let mut other = std::pin::pin!(installed.turn("a.fleet"));
        let waits =
            std::future::poll_fn(|context| std::task::Poll::Ready(other.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        installed.write_devices("Host a.fleet\n    User b\n\n").unwrap();
        drop(turn);
        assert!(other.await.unwrap().is_none(), "it is there now");
    }
}
