//! What `ssh-config --install` leaves: ssh finds there the devices of later, too.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, SystemTime},
};

use holdfast_tests::{
    agent::{Agent, COMMON},
    binaries, process, sshd,
    wait::{self, LONGEST_WAIT},
};

use crate::fleet::Fleet;

/// How old a list is that is asked for again only where it lacks a host: all that a test does is done by then.
const A_WHILE: Duration = Duration::from_secs(10);

/// How old one is that is asked for again.
const LONG: Duration = Duration::from_secs(3_600);

/// An operator's home, in which it is installed.
struct Home<'a> {
    fleet: &'a Fleet,
    directory: PathBuf,
}

impl Home<'_> {
    /// Runs a program there.
    #[track_caller]
    fn run(&self, words: &[&str]) -> Output {
        let home = format!("HOME={}", self.directory.display());
        process::run(Path::new("env"), [&[home.as_str()], words].concat(), LONGEST_WAIT).expect("env runs")
    }

    /// `holdfast ssh-config`.
    #[track_caller]
    fn ssh_config(&self, option: &str) {
        let (program, data) = (binaries::holdfast(), self.fleet.server.data().display().to_string());
        let output = self.run(&[&program.display().to_string(), "--data", &data, "ssh-config", option]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Sets how old the list of devices is.
    fn age(&self, age: Duration) -> io::Result<()> {
        let list = File::options().append(true).open(self.file("holdfast-devices.conf"))?;
        list.set_modified(SystemTime::now() - age)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(".ssh").join(name)
    }

    /// Runs ssh as if this were the home of its user: that one is the password file's word, so it is told where the files are.
    #[track_caller]
    fn ssh(&self, words: &[&str]) -> Output {
        let include = |name| format!("Include \"{}\"\n", self.file(name).display());
        let config = include("holdfast.conf") + &include("holdfast-devices.conf") + &self.fleet.identity();
        let path = self.directory.join("ssh_config");
        fs::write(&path, config).expect("it can be written");
        self.run(&[&["ssh", "-F", &path.display().to_string()], words].concat())
    }

    /// The user as whom ssh would log in.
    #[track_caller]
    fn user(&self, host: &str) -> String {
        let output = self.ssh(&["-GT", host]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        let user = said.lines().find_map(|line| line.strip_prefix("user "));
        user.unwrap_or_else(|| panic!("expected a user, found {said}")).to_owned()
    }
}

#[test]
fn devices_of_later_are_known_and_a_server_that_is_away_changes_nothing() -> io::Result<()> {
    let mut fleet = Fleet::start()?;
    let home = Home { fleet: &fleet, directory: fleet.file("a home") };
    fs::create_dir(&home.directory)?;
    home.ssh_config("--install");
    let included = fs::read_to_string(home.file("config"))?;
    assert_eq!(included, "Include holdfast.conf\nInclude holdfast-devices.conf\n");
    let output = home.ssh(&["kiosk.fleet", "echo", "here"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{output:?}");
    assert_eq!(home.user("later.fleet"), sshd::user()?, "nobody knows it yet");

    let mut later = Agent::new("later")?;
    let own = fleet.sshd.agent_configuration()?;
    let own = own.replace(&format!("ssh_user = '{}'", sshd::user()?), "ssh_user = 'ada'");
    let (outside, table) = own.split_once("\n\n").unwrap_or((&own, ""));
    later.configure_all(&format!("{outside}\n{COMMON}{table}"))?;
    later.tell(&["enroll", &fleet.server.invite(&["--name", "later"])]);
    later.run()?;
    wait::until_true("the device has said who logs in there", || {
        fleet.server.device("later").is_some_and(|device| device["ssh_user"] == "ada")
    });
    home.age(A_WHILE)?;
    assert_eq!(home.user("later.fleet"), "ada");
    assert_eq!(home.user("Later.FLEET"), "ada", "names of hosts have no case");
    let refused = home.ssh(&["later.fleet", "true"]);
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    assert!(fleet.sshd.log().contains("ada"), "it was reached, as that user: {}", fleet.sshd.log());
    let devices = fs::read_to_string(home.file("holdfast-devices.conf"))?;
    assert!(devices.contains("Host kiosk.fleet\n") && devices.contains("Host later.fleet\n"), "{devices}");

    // What is old is asked for again.
    fleet.server.tell(&["revoke", "later"]);
    home.age(A_WHILE)?;
    assert_eq!(home.user("later.fleet"), "ada", "the list is not a minute old");
    home.age(LONG)?;
    assert_eq!(home.user("kiosk.fleet"), sshd::user()?);
    assert!(!fs::read_to_string(home.file("holdfast-devices.conf"))?.contains("later"));

    let (list, directory) = (home.file("holdfast-devices.conf"), home.directory.clone());
    fleet.server.terminate();
    let home = Home { fleet: &fleet, directory };
    home.age(LONG)?;
    let before = fs::read_to_string(&list)?;
    assert_eq!(home.user("kiosk.fleet"), sshd::user()?);
    assert_eq!(home.user("nobody.fleet"), sshd::user()?);
    assert_eq!(fs::read_to_string(&list)?, before, "what is there stays");

    home.ssh_config("--uninstall");
    assert_eq!(fs::read_to_string(home.file("config"))?.trim(), "");
    assert!(!list.exists() && !home.file("holdfast.conf").exists());
    Ok(())
}
