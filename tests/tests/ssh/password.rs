//! A device that knows nothing but a password, which its user knows too.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use holdfast_tests::{binaries, namespace, sshd::Sshd};

use crate::fleet::{DEVICE, Fleet};

const TEST: &str = "password::a_password_is_between_its_user_and_the_device";

const PASSWORD: &str = "correct-horse-battery";

/// Gives the user who runs the test a password, in this mount namespace alone.
fn set_password(directory: &Path) -> io::Result<()> {
    let script = format!("print crypt('{PASSWORD}', '$6$salt$')");
    let hash = Command::new("perl").args(["-e", &script]).output()?;
    let (user, hash) = (holdfast_tests::sshd::user()?, String::from_utf8_lossy(&hash.stdout).into_owned());
    assert!(hash.starts_with("$6$"), "{hash}");
    let shadow = fs::read_to_string("/etc/shadow")?;
    let others = shadow.lines().filter(|line| !line.starts_with(&format!("{user}:")));
    let mut lines: Vec<_> = others.map(str::to_owned).collect();
    lines.push(format!("{user}:{hash}:19000:0:99999:7:::"));
    let own = directory.join("shadow");
    fs::write(&own, lines.join("\n") + "\n")?;
    namespace::show(&own, Path::new("/etc/shadow"))
}

/// Whether a file below this directory holds these bytes.
fn is_anywhere(directory: &Path, bytes: &[u8]) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let holds = match kind {
            kind if kind.is_dir() => is_anywhere(&path, bytes)?,
            kind if kind.is_file() => fs::read(&path)?.windows(bytes.len()).any(|found| found == bytes),
            _ => false,
        };
        if holds {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_password_is_between_its_user_and_the_device() -> io::Result<()> {
    if !namespace::is_inside(TEST)? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    set_password(directory.path())?;
    let fleet = Fleet::with(Sshd::configured("PasswordAuthentication yes\nPermitRootLogin yes\n")?, "")?;
    let asked = directory.path().join("ask");
    fs::write(&asked, format!("#!/bin/sh\necho {PASSWORD}\n"))?;
    fs::set_permissions(&asked, fs::Permissions::from_mode(0o700))?;
    let log_in = |with: &Path| {
        Command::new(binaries::holdfast())
            .args(["ssh", "--data"])
            .arg(fleet.server.data())
            .args([
                DEVICE,
                "--",
                "-F",
                "none",
                "-o",
                "PubkeyAuthentication=no",
                "-o",
                "NumberOfPasswordPrompts=1",
            ])
            .args(["echo", "let", "in"])
            .env("SSH_ASKPASS", with)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .output()
    };
    let output = log_in(&asked)?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "let in\n", "{output:?} {}", fleet.sshd.log());
    let output = log_in(Path::new("/bin/true"))?;
    assert!(output.status.code() == Some(255) && output.stdout.is_empty(), "{output:?}");
    for directory in [fleet.server.data(), &fleet.agent.state()] {
        assert!(!is_anywhere(directory, PASSWORD.as_bytes())?);
    }
    assert!(!fleet.server.log().contains(PASSWORD) && !fleet.agent.log().contains(PASSWORD));
    Ok(())
}
