//! An account of this machine, and what it may do beyond what it is for.

use crate::ssh_account::ACCOUNT;

/// An account that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    password: String,
    pub(super) home: String,
    shell: String,
    /// The groups that it is in beside its own.
    groups: Vec<String>,
    /// Files by which it, or everybody, may become somebody else.
    sudoers: Vec<String>,
    /// The files of keys in its home.
    keys: Vec<String>,
}

/// What the system says of the account: lines of its databases, as `getent` prints them.
#[derive(Clone, Debug, Default)]
pub(super) struct Databases {
    pub(super) passwd: String,
    pub(super) shadow: String,
    /// All groups.
    pub(super) group: String,
    /// The files that say who may do what by sudo, and what stands in them.
    pub(super) sudoers: Vec<(String, String)>,
    /// The files of keys in its home that are there.
    pub(super) keys: Vec<String>,
}

impl Account {
    /// The account, if it is there.
    pub(super) fn read(databases: &Databases) -> Option<Self> {
        let mut fields = databases.passwd.trim_end().split(':');
        let name = fields.next().filter(|name| *name == ACCOUNT)?;
        let in_passwd = fields.next()?;
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (home, shell) = (fields.nth(1)?.to_owned(), fields.next().unwrap_or_default().to_owned());
        // Without shadow passwords it stands in the open.
        let password = databases.shadow.split(':').nth(1).unwrap_or(in_passwd).to_owned();
        let groups = databases.group.lines().filter_map(|line| other_group(line, name, gid)).collect();
        let names = |(_, text): &&(String, String)| text.lines().any(|line| grants(line, name));
        let sudoers = databases.sudoers.iter().filter(names).map(|(file, _)| file.clone()).collect();
        Some(Self { uid, gid, password, home, shell, groups, sudoers, keys: databases.keys.clone() })
    }

    /// Why it can't be used, each with what to do about it.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let Self { uid, gid, shell, home, .. } = self;
        if *uid == 0 || *gid == 0 {
            let next = format!("remove it (userdel {ACCOUNT}), and run this again");
            return vec![format!("the account {ACCOUNT} has the rights of root: {next}")];
        }
        let mut found = Vec::new();
        let mut add =
            |what: String, next: String| found.push(format!("the account {ACCOUNT} {what}: {next}"));
        if !["nologin", "false"].iter().any(|none| shell.rsplit('/').next() == Some(none)) {
            add(format!("has a shell ({shell})"), format!("usermod --shell /usr/sbin/nologin {ACCOUNT}"));
        }
        if !self.has_no_password() {
            add("has a password".to_owned(), format!("usermod --password '*' {ACCOUNT}"));
        }
        for group in &self.groups {
            add(format!("is in the group {group}"), format!("gpasswd --delete {ACCOUNT} {group}"));
        }
        for file in &self.sudoers {
            add(format!("may use sudo ({file})"), format!("take it out by visudo -f {file}"));
        }
        for file in &self.keys {
            add(
                format!("has keys of its own ({file})"),
                format!("remove them, or the account's home {home}"),
            );
        }
        found
    }

    /// Whether nobody can ever have typed its password.
    fn has_no_password(&self) -> bool {
        !self.password.is_empty() && self.password.bytes().all(|letter| b"*!".contains(&letter))
    }

    /// Whether sshd takes it for one that is switched off: without PAM it then lets nobody in, by keys neither.
    pub(super) fn is_switched_off(&self) -> bool {
        self.has_no_password() && self.password != "*"
    }
}

/// The name of a group, where this account is in it and it is not the account's own.
fn other_group(line: &str, name: &str, gid: u32) -> Option<String> {
    let mut fields = line.split(':');
    let (group, number, members) = (fields.next()?, fields.nth(1)?, fields.next().unwrap_or_default());
    let is_member = members.trim_end().split(',').any(|member| member == name);
    let is_first = number.parse() == Ok(gid);
    let is_own = is_first && group == name;
    ((is_member || is_first) && !is_own).then(|| group.to_owned())
}

/// Whether a line of sudo's rules speaks of this account, or of everybody.
fn grants(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let is_comment = line.starts_with('#') || line.starts_with("Defaults") || line.starts_with('@');
    let mut words = line.split(|letter| !is_word(letter));
    !is_comment && (words.clone().next() == Some("ALL") || words.any(|word| word == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Databases);

    fn account(change: impl Fn(&mut Databases)) -> Account {
        let mut databases = Databases {
            passwd: "ssh_server:x:998:998::/nonexistent:/usr/sbin/nologin\n".into(),
            shadow: "ssh_server:*:20000::::::\n".into(),
            group: "root:x:0:\nsudo:x:27:ada,bob\nssh_server:x:998:\n".into(),
            sudoers: vec![("/etc/sudoers".into(), "# ssh_server\nDefaults env_reset\nroot ALL=(ALL) ALL\n%sudo ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n".into())],
            keys: Vec::new(),
        };
        change(&mut databases);
        Account::read(&databases).unwrap()
    }

    #[test]
    fn a_locked_account_is_as_it_should_be() {
        let good = account(|_| ());
        assert_eq!((good.obstacles(), good.is_switched_off()), (Vec::new(), false));
        for off in ["!", "!!", "!*"] {
            let off = account(|databases| databases.shadow = format!("ssh_server:{off}:1::::::"));
            assert_eq!((off.obstacles(), off.is_switched_off()), (Vec::new(), true));
        }
        assert_eq!(Account::read(&Databases::default()), None);
    }

    #[test]
    fn an_account_that_can_do_more_is_refused_with_what_to_do() {
        let changes: [(Change<'_>, &str); 13] = [
            (&|d| d.passwd = "ssh_server:x:0:998::/:/bin/false".into(), "rights of root: remove it"),
            (&|d| d.passwd = "ssh_server:x:998:0::/:/bin/false".into(), "rights of root: remove it"),
            (
                &|d| d.passwd = "ssh_server:x:998:998::/:/bin/bash".into(),
                "has a shell (/bin/bash): usermod --shell",
            ),
            (&|d| d.passwd = "ssh_server:x:998:998::/:".into(), "has a shell (): usermod --shell"),
            (&|d| d.shadow = "ssh_server:$y$j9T$x:1::::::".into(), "has a password: usermod --password"),
            (&|d| d.shadow = "ssh_server:!$y$j9T$x:1::::::".into(), "has a password: usermod --password"),
            (&|d| d.shadow = "ssh_server::1::::::".into(), "has a password: usermod --password"),
            (&|d| d.group = "sudo:x:27:ada,ssh_server\n".into(), "in the group sudo: gpasswd --delete"),
            (&|d| d.group = "wheel:x:998:\n".into(), "in the group wheel: gpasswd --delete"),
            (
                &|d| d.sudoers[0].1 = "ssh_server ALL=(ALL) NOPASSWD: ALL".into(),
                "may use sudo (/etc/sudoers)",
            ),
            (
                &|d| d.sudoers[0].1 = "User_Alias HELPERS = ada,ssh_server".into(),
                "may use sudo (/etc/sudoers)",
            ),
            (&|d| d.sudoers[0].1 = "ALL ALL=(ALL) ALL".into(), "may use sudo (/etc/sudoers)"),
            (&|d| d.keys = vec!["/home/x/.ssh/authorized_keys".into()], "has keys of its own (/home/x/.ssh"),
        ];
        for (change, words) in changes {
            let told = account(change).obstacles();
            assert!(told.len() == 1 && told[0].contains(words), "{words}: {told:?}");
        }
    }
}
