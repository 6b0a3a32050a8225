//! Tests that change what is the whole machine's: they do so in a process with a view of its own, of which nothing is left.

use std::{env, ffi::OsStr, io, path::Path, process::Command};

/// Set in the process that has a view of its own.
const INSIDE: &str = "HOLDFAST_TEST_NAMESPACE";

/// Whether this process has a view of its own of what is mounted where, and a loopback of its own. If not, the test of this name is run by one that
/// has, and has succeeded when this returns.
///
/// # Errors
/// No process can be started.
///
/// # Panics
/// The test fails there, or this user may not have such a view.
pub fn is_inside(test: &str) -> io::Result<bool> {
    if env::var_os(INSIDE).is_some() {
        succeed("ip", ["link", "set", "lo", "up"].map(OsStr::new))?;
        return Ok(true);
    }
    assert!(rustix::process::geteuid().is_root(), "only root may have a view of the machine of its own");
    let output = Command::new("unshare")
        .args(["--mount", "--net"])
        .arg(env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()?;
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (printed(&output.stdout), printed(&output.stderr));
    // A name that no test has is no failure either.
    let has_run = stdout.contains("test result: ok. 1 passed");
    assert!(output.status.success() && has_run, "{stdout}\n{stderr}");
    Ok(false)
}

/// Shows this file or directory in the place of another one, in this process's view.
///
/// # Errors
/// It can't be.
pub fn show(this: &Path, at: &Path) -> io::Result<()> {
    mount([OsStr::new("--bind"), this.as_os_str(), at.as_os_str()])
}

/// Shows an empty directory, which root alone can write to, in the place of one.
///
/// # Errors
/// It can't be.
pub fn hide(directory: &Path) -> io::Result<()> {
    mount(
        ["-t", "tmpfs", "-o", "mode=755", "tmpfs"].map(OsStr::new).into_iter().chain([directory.as_os_str()]),
    )
}

fn mount<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> io::Result<()> {
    succeed("mount", arguments)
}

fn succeed<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> io::Result<()> {
    match Command::new(program).args(arguments).status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{program} ended with {status}"))),
    }
}
