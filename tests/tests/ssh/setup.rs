//! `holdfast setup-ssh-account` on a machine as Debian installs it: what it does, what it refuses, and twice.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use holdfast_tests::{
    namespace, process,
    system_sshd::{SystemSshd, command},
    wait::{self, LONGEST_WAIT},
};
use serde_json::Value;

const CONFIG: &str = "/etc/ssh/sshd_config";

const SNIPPET: &str = "/etc/ssh/sshd_config.d/00-holdfast.conf";

fn getent(database: &str) -> String {
    let output = process::run(Path::new("getent"), [database, "ssh_server"], LONGEST_WAIT).expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn plan(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_account_is_made_once_and_sshd_told() -> io::Result<()> {
    if !namespace::is_inside("setup::the_account_is_made_once_and_sshd_told")? {
        return Ok(());
    }
    let (sshd, data) = (SystemSshd::prepare()?, tempfile::tempdir()?);
    let setup = |arguments: &[&str]| sshd.setup(data.path(), arguments);

    let shown = setup(&["--dry-run"]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("useradd --system") && text.contains("Match User ssh_server"), "{shown:?}");
    for (arguments, words) in [(&[][..], "--yes or --dry-run"), (&["--json"], "--yes or --dry-run")] {
        let output = setup(arguments);
        assert!(output.status.code() == Some(2) && error(&output).contains(words), "{output:?}");
    }
    assert_eq!(plan(&setup(&["--dry-run", "--json"]))["done"], false);
    assert!(getent("passwd").is_empty() && !Path::new(SNIPPET).exists(), "nothing is done unasked");

    let done = plan(&setup(&["--yes", "--json"]));
    assert_eq!((&done["done"], done["steps"].as_array().map(Vec::len)), (&true.into(), Some(3)), "{done}");
    assert!(done["notes"][0].as_str().unwrap_or_default().contains("[ssh-account]"), "{done}");
    let account = getent("passwd");
    assert!(account.ends_with(":/nonexistent:/usr/sbin/nologin"), "{account}");
    assert!(getent("shadow").starts_with("ssh_server:*:"), "{}", getent("shadow"));

    let again = setup(&["--yes"]);
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("Nothing is to be done"), "{again:?}");
    let written = fs::read_to_string(SNIPPET)?;

    // What was changed since is put right.
    fs::write(SNIPPET, written.replace("MaxSessions 0", "MaxSessions 9"))?;
    command("usermod", &["--password", "!", "ssh_server"])?;
    let done = plan(&setup(&["--yes", "--json"]));
    assert_eq!(done["steps"].as_array().map(Vec::len), Some(3), "{done}");
    assert_eq!(fs::read_to_string(SNIPPET)?, written);
    assert!(getent("shadow").starts_with("ssh_server:*:"));
    assert_eq!(plan(&setup(&["--dry-run", "--json"]))["steps"], Value::Array(Vec::new()));

    // How people switch accounts off, and how passwords age: an account that is not used, for whom it is no matter.
    for ageing in [&["--expiredate", "1"][..], &["--lastday", "0"], &["--maxdays", "90"]] {
        command("chage", &[ageing, &["ssh_server"]].concat())?;
        let done = plan(&setup(&["--yes", "--json"]));
        let by = done["steps"][0]["by"].as_str().unwrap_or_default();
        assert!(by.starts_with("chage ") && done["steps"][1].is_null(), "{done}");
        assert_eq!(plan(&setup(&["--dry-run", "--json"]))["steps"], Value::Array(Vec::new()), "{ageing:?}");
    }
    assert!(getent("shadow").starts_with("ssh_server:*::"), "{}", getent("shadow"));

    // Root alone changes the file, whoever began with what mask.
    fs::set_permissions(SNIPPET, Permissions::from_mode(0o666))?;
    let data = data.path().display().to_string();
    for mask in ["0", "077"] {
        let words = format!("umask {mask} && /srv/holdfast setup-ssh-account --yes --data {data}");
        command("sh", &["-c", &words])?;
        assert_eq!(fs::symlink_metadata(SNIPPET)?.permissions().mode() & 0o7777, 0o644);
        fs::remove_file(SNIPPET)?;
    }
    let elsewhere = Path::new("/srv/elsewhere");
    fs::write(elsewhere, &written)?;
    std::os::unix::fs::symlink(elsewhere, SNIPPET)?;
    assert_eq!(plan(&setup(&["--yes", "--json"]))["steps"].as_array().map(Vec::len), Some(2));
    assert!(fs::symlink_metadata(SNIPPET)?.is_file() && fs::read_to_string(elsewhere)? == written);
    Ok(())
}

#[test]
fn sshd_is_told_until_it_was() -> io::Result<()> {
    if !namespace::is_inside("setup::sshd_is_told_until_it_was")? {
        return Ok(());
    }
    let (mut sshd, data) = (SystemSshd::prepare()?, tempfile::tempdir()?);
    sshd.run()?;
    let setup = |sshd: &SystemSshd, arguments: &[&str]| sshd.setup(data.path(), arguments);
    // It can't be told: its file is none.
    let (file, aside) = (sshd.pid_file(), sshd.pid_file().with_extension("aside"));
    fs::rename(&file, &aside)?;
    fs::create_dir(&file)?;
    let failed = setup(&sshd, &["--yes"]);
    assert!(failed.status.code() == Some(1) && error(&failed).contains("can't be told"), "{failed:?}");
    let left = plan(&setup(&sshd, &["--dry-run", "--json"]));
    let by = left["steps"][0]["by"].as_str().unwrap_or_default();
    assert!(by.starts_with("kill -HUP") && left["steps"][1].is_null(), "{left}");
    assert!(!sshd.log().contains("SIGHUP"), "{}", sshd.log());
    fs::remove_dir(&file)?;
    fs::rename(&aside, &file)?;
    assert_eq!(plan(&setup(&sshd, &["--yes", "--json"]))["done"], true);
    wait::until("sshd has heard it", || sshd.log(), |log| log.contains("Received SIGHUP; restarting"));
    assert_eq!(plan(&setup(&sshd, &["--dry-run", "--json"]))["steps"], Value::Array(Vec::new()));

    fs::write(CONFIG, format!("PidFile none\n{}", fs::read_to_string(CONFIG)?))?;
    let refused = setup(&sshd, &["--dry-run"]);
    assert!(error(&refused).contains("take `PidFile none` out"), "{refused:?}");
    Ok(())
}

#[test]
fn an_older_sshd_is_told_what_it_knows() -> io::Result<()> {
    if !namespace::is_inside("setup::an_older_sshd_is_told_what_it_knows")? {
        return Ok(());
    }
    const SSHD: &str = "/usr/sbin/sshd";
    let (sshd, data) = (SystemSshd::prepare()?, tempfile::tempdir()?);
    let (older, real) = (data.path().join("older"), data.path().join("real"));
    fs::copy(SSHD, &real)?;
    let real = real.display();
    fs::write(
        &older,
        format!(
            "#!/bin/sh\n[ \"$1\" = -t ] || exec {real} \"$@\"\ntext=$(cat)\ncase \"$text\" in *Unused*)\n\
             echo '/dev/stdin: line 9: Bad configuration option: UnusedConnectionTimeout' >&2; exit 255\nesac\n\
             echo \"$text\" | exec {real} \"$@\"\n"
        ),
    )?;
    fs::set_permissions(&older, Permissions::from_mode(0o755))?;
    namespace::show(&older, Path::new(SSHD))?;
    let done = plan(&sshd.setup(data.path(), &["--yes", "--json"]));
    let notes = done["notes"].as_array().expect("notes");
    let note = notes.last().and_then(Value::as_str).unwrap_or_default();
    assert!(note.contains("knows no UnusedConnectionTimeout"), "{done}");
    assert!(!fs::read_to_string(SNIPPET)?.contains("Unused"));
    Ok(())
}

#[test]
fn an_account_that_can_do_more_is_refused() -> io::Result<()> {
    if !namespace::is_inside("setup::an_account_that_can_do_more_is_refused")? {
        return Ok(());
    }
    let (sshd, data) = (SystemSshd::prepare()?, tempfile::tempdir()?);
    fs::create_dir_all("/etc/sudoers.d")?;
    command(
        "useradd",
        &["--system", "--user-group", "--shell", "/usr/sbin/nologin", "--password", "*", "ssh_server"],
    )?;
    let home = data.path().join("home");
    let text = home.display().to_string();
    fs::create_dir_all(home.join(".ssh"))?;
    fs::write(home.join(".ssh/authorized_keys"), "")?;
    let sudoers = Path::new("/etc/sudoers.d/helpers");
    let usermod = |arguments: &[&str]| command("usermod", &[arguments, &["ssh_server"]].concat());
    let refused = |words: &[&str]| {
        for arguments in [["--yes"], ["--dry-run"]] {
            let output = sshd.setup(data.path(), &arguments);
            let error = error(&output);
            assert!(
                output.status.code() == Some(1) && words.iter().all(|word| error.contains(word)),
                "expected {words:?}, found {output:?}"
            );
            assert!(!Path::new(SNIPPET).exists());
        }
    };

    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = getent("passwd");
    let fields: Vec<_> = line.split(':').collect();
    let in_passwd = |at: usize, other: &str| {
        let mut fields = fields.clone();
        fields[at] = other;
        // The tool for this minds the sessions of other tests, in whose view the number is another account's.
        fs::write("/etc/passwd", passwd.replace(&line, &fields.join(":")))
    };

    in_passwd(6, "/bin/bash")?;
    refused(&["has a shell (/bin/bash)", "usermod --shell /usr/sbin/nologin"]);
    in_passwd(2, "0")?;
    refused(&["has the rights of root", "userdel ssh_server"]);
    in_passwd(5, &text)?;
    refused(&["has keys of its own", "authorized_keys"]);
    in_passwd(6, "/usr/sbin/nologin")?;
    usermod(&["--password", "$6$salt$x"])?;
    refused(&["has a password", "usermod --password '*'"]);
    usermod(&["--lock"])?;
    refused(&["has a password"]);
    usermod(&["--password", "*", "--groups", "sudo,adm"])?;
    refused(&["is in the group sudo", "is in the group adm", "gpasswd --delete ssh_server sudo"]);
    usermod(&["--groups", ""])?;
    let number = line.split(':').nth(2).expect("a number");
    for rule in [
        "ssh_server ALL=(ALL) NOPASSWD: ALL".to_owned(),
        format!("#{number} ALL=(ALL) NOPASSWD: ALL"),
        "User_Alias HELPERS = ada,ssh_server\nHELPERS ALL=(ALL) NOPASSWD: ALL".to_owned(),
        format!("@includedir {text}"),
    ] {
        fs::write(home.join("elsewhere"), "ssh_server ALL=(ALL) NOPASSWD: ALL\n")?;
        fs::write(sudoers, rule + "\n")?;
        refused(&["may use sudo ((ALL) NOPASSWD: ALL)", "visudo"]);
    }
    fs::remove_file(sudoers)?;
    let accounts = fs::read_to_string("/etc/passwd")?;
    fs::write("/etc/passwd", format!("{accounts}double:x:{number}:65534::/:/usr/sbin/nologin\n"))?;
    refused(&["has the number of the account double", "userdel ssh_server"]);
    fs::write("/etc/passwd", accounts)?;
    let done = plan(&sshd.setup(data.path(), &["--yes", "--json"]));
    assert_eq!(done["steps"].as_array().map(Vec::len), Some(2), "the account itself is right now: {done}");

    // A rule that was there before the account.
    command("userdel", &["--force", "ssh_server"])?;
    fs::remove_file(SNIPPET)?;
    fs::write(sudoers, "ALL ALL=(ALL) NOPASSWD: ALL\n")?;
    let output = sshd.setup(data.path(), &["--yes"]);
    assert!(output.status.code() == Some(1) && error(&output).contains("may use sudo"), "{output:?}");
    assert!(!Path::new(SNIPPET).exists());
    Ok(())
}

#[test]
fn what_sshd_would_not_do_is_told_and_not_left_behind() -> io::Result<()> {
    if !namespace::is_inside("setup::what_sshd_would_not_do_is_told_and_not_left_behind")? {
        return Ok(());
    }
    let (sshd, data) = (SystemSshd::prepare()?, tempfile::tempdir()?);
    let before = fs::read_to_string(CONFIG)?;
    let refused = |words: &[&str]| {
        let output = sshd.setup(data.path(), &["--yes"]);
        let error = error(&output);
        assert!(
            output.status.code() == Some(1) && words.iter().all(|word| error.contains(word)),
            "expected {words:?}, found {output:?}"
        );
        assert!(!Path::new(SNIPPET).exists());
    };
    fs::write(CONFIG, before.replace("Include /etc", "#Include /etc"))?;
    refused(&["add this as its first line: Include /etc/ssh/sshd_config.d/*.conf"]);
    fs::write(CONFIG, format!("Nonsense yes\n{before}"))?;
    refused(&["does not take its configuration", "Nonsense"]);
    fs::write(CONFIG, &before)?;
    let other = "/etc/ssh/sshd_config.d/00-earlier.conf";
    fs::write(other, "Match User ssh_server\n    MaxSessions 10\n")?;
    refused(&["MaxSessions", "another file before it"]);
    fs::write(other, "AllowGroups staff\n")?;
    refused(&["AllowGroups", "let it in there first"]);
    fs::remove_file(other)?;
    // What shuts everybody out, or in, does not mean the account: it has its own word on that.
    fs::write(CONFIG, format!("{before}\nDisableForwarding yes\nChrootDirectory /srv/%u\n"))?;
    command("chmod", &["g+w", "/srv"])?;
    refused(&["(/srv)", "copy holdfast to /usr/local/bin"]);
    command("chmod", &["g-w", "/srv"])?;
    let missing = sshd.setup(&data.path().join("missing"), &["--yes"]);
    assert!(error(&missing).contains("start the server first"), "{missing:?}");
    let nobody = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "/srv/holdfast", "setup-ssh-account", "--data"])
        .arg(data.path())
        .output()?;
    assert!(error(&nobody).contains("only root"), "{nobody:?}");
    plan(&sshd.setup(data.path(), &["--yes", "--json"]));
    Ok(())
}
