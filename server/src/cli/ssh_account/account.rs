//! An account of this machine, and what it may do beyond what it is for.

use crate::ssh_account::ACCOUNT;

/// So many days are said for a password that never has to be changed.
const NEVER: i64 = 99_999;

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
    /// Others of the same number.
    doubles: Vec<String>,
    /// What it may do by sudo.
    sudo: Option<String>,
    /// Whether a day comes, or has come, from which on nobody gets in.
    ends_some_day: bool,
    /// The files of keys in its home.
    keys: Vec<String>,
}

/// What the system says of the account: lines of its databases, as `getent` prints them.
#[derive(Clone, Debug, Default)]
pub(super) struct Databases {
    pub(super) passwd: String,
    pub(super) shadow: String,
    /// All accounts.
    pub(super) accounts: String,
    /// All groups.
    pub(super) group: String,
    /// What sudo says that it may do; empty where there is no sudo.
    pub(super) sudo: String,
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
        let doubles = databases.accounts.lines().filter_map(|line| double(line, name, uid)).collect();
        Some(Self {
            uid,
            gid,
            password,
            home,
            shell,
            groups,
            doubles,
            sudo: rights_by_sudo(&databases.sudo),
            ends_some_day: ends_some_day(&databases.shadow),
            keys: databases.keys.clone(),
        })
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
        for other in &self.doubles {
            let next = format!("remove it (userdel {ACCOUNT}), and run this again");
            add(format!("has the number of the account {other} ({uid})"), next);
        }
        if let Some(rights) = &self.sudo {
            add(
                format!("may use sudo ({rights})"),
                format!("take out by visudo what sudo -l -U {ACCOUNT} shows"),
            );
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

    /// Whether a day comes, or has come, from which on sshd lets nobody in.
    pub(super) fn ends_some_day(&self) -> bool {
        self.ends_some_day
    }
}

/// The name of another account of this number.
fn double(line: &str, name: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':');
    let (other, number) = (fields.next()?, fields.nth(1)?);
    (number.parse() == Ok(uid) && other != name).then(|| other.to_owned())
}

/// Whether the account expires, or its password has to be changed some day, by its line of the shadow database.
fn ends_some_day(shadow: &str) -> bool {
    let mut fields = shadow.trim_end().split(':').skip(2);
    let mut days = |passed_over| fields.nth(passed_over).and_then(|field| field.parse::<i64>().ok());
    // The last change, (the shortest time,) the longest time, (the warning, the grace,) the account's own end.
    let (changed, longest, end) = (days(0), days(1), days(2));
    changed == Some(0)
        || longest.is_some_and(|days| (0..NEVER).contains(&days))
        || end.is_some_and(|day| day >= 0)
}

/// What `sudo -l` has said that it may do; nothing if that is nothing.
fn rights_by_sudo(said: &str) -> Option<String> {
    if said.trim().is_empty() || said.contains("is not allowed to run sudo") {
        return None;
    }
    // If it is neither of both, it has something to complain about: that is shown.
    let rules =
        said.split_once("may run the following commands").and_then(|(_, behind)| behind.split_once('\n'));
    let rules = rules.map_or(said, |(_, rules)| rules);
    Some(rules.split_whitespace().collect::<Vec<_>>().join(" "))
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

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Databases);

    fn account(change: impl Fn(&mut Databases)) -> Account {
        let mut databases = Databases {
            passwd: "ssh_server:x:998:998::/nonexistent:/usr/sbin/nologin\n".into(),
            shadow: "ssh_server:*:20000::::::\n".into(),
            group: "root:x:0:\nsudo:x:27:ada,bob\nssh_server:x:998:\n".into(),
            accounts: "root:x:0:0::/root:/bin/bash\nssh_server:x:998:998::/nonexistent:/usr/sbin/nologin\n"
                .into(),
            sudo: "User ssh_server is not allowed to run sudo on fleet.\n".into(),
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
    fn an_account_that_ends_some_day() {
        for (days, ends) in [
            ("20000::::::", false),
            ("20000:0:99999:7:::", false),
            ("::-1:::-1:", false),
            ("0::::::", true),
            ("20000:0:90:7:::", true),
            ("20000:0:99999:7::1:", true),
            ("20000:::::30000:", true),
        ] {
            let account = account(|databases| databases.shadow = format!("ssh_server:*:{days}\n"));
            assert_eq!((account.ends_some_day(), account.obstacles()), (ends, Vec::new()), "{days}");
        }
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
                &|d| d.accounts += "www-data:x:998:33::/var/www:/usr/sbin/nologin\n",
                "has the number of the account www-data (998): remove it (userdel ssh_server)",
            ),
            (
                &|d| {
                    d.sudo = "Matching Defaults entries for ssh_server on fleet:\n    env_reset\n\nUser ssh_server may run the following commands on fleet:\n    (ALL) NOPASSWD: ALL\n    (root) /bin/ls\n".into()
                },
                "may use sudo ((ALL) NOPASSWD: ALL (root) /bin/ls): take out by visudo",
            ),
            (
                &|d| d.sudo = "sudo: /etc/sudoers is owned by uid 1\n".into(),
                "may use sudo (sudo: /etc/sudoers is",
            ),
            (&|d| d.keys = vec!["/home/x/.ssh/authorized_keys".into()], "has keys of its own (/home/x/.ssh"),
        ];
        for (change, words) in changes {
            let told = account(change).obstacles();
            assert!(told.len() == 1 && told[0].contains(words), "{words}: {told:?}");
        }
    }
}
