//! A disk that is full: nothing that was acknowledged is lost, it is said, and all goes on when there is space again.

use std::{env, fs, io, path::Path, process::Command};

use holdfast_tests::{agent::Agent, server::Server, wait};

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "HOLDFAST_TEST_MOUNTS";

/// Runs one test of this file again where it may mount: as root in a mount namespace, else in a user namespace
/// as well.
fn in_namespace(test: &str) -> io::Result<bool> {
    if env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--mount").arg(env::current_exe()?).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the test failed in its namespace, or none could be made: {said}");
    Ok(false)
}

/// Mounts a file system of so many MiB.
fn mount(at: &Path, mebibytes: u32) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let size = format!("size={mebibytes}m");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status()?;
    status.success().then_some(()).ok_or_else(|| io::Error::other("no tmpfs could be mounted"))
}

/// Writes a file until nothing more goes onto the disk.
fn fill(file: &Path) -> io::Result<()> {
    use io::Write;
    let mut file = fs::File::create(file)?;
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

#[test]
fn a_full_disk_of_the_server() -> io::Result<()> {
    if !in_namespace("a_full_disk_of_the_server")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    mount(&disk, 24)?;
    let mut server = Server::in_directory(directory, disk.join("data"), "", None)?;
    let agent = Agent::start(&server, "writer")?;
    agent.send("before");
    wait::until("it is archived", || server.archived("writer"), |all| *all == ["before"]);

    let ballast = disk.join("ballast");
    fill(&ballast)?;
    let mut sent = vec!["before".to_owned()];
    // The reserve, and what the database had left, take some more.
    let body = "x".repeat(12_000);
    for number in 0..600 {
        let text = format!("{number} {body}");
        agent.send(&text);
        sent.push(text);
        if number % 20 == 0 && !server.events("disk-full").is_empty() {
            break;
        }
    }
    server.wait_event("disk-full", |_| true);
    let archived = server.archived("writer");
    assert!(archived.len() < sent.len(), "the disk was never full");
    assert_eq!(archived, sent[..archived.len()], "what is there is whole, and in order");

    // A loss of power on top of it.
    server.kill();
    fs::remove_file(&ballast)?;
    server.run()?;
    wait::until("all is archived", || server.archived("writer").len(), |count| *count == sent.len());
    assert!(server.archived("writer") == sent, "none lost, none twice, in their order");
    Ok(())
}

#[test]
fn a_disk_that_is_full_for_a_while() -> io::Result<()> {
    if !in_namespace("a_disk_that_is_full_for_a_while")? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    mount(&disk, 24)?;
    let server = Server::in_directory(directory, disk.join("data"), "", None)?;
    let agent = Agent::start(&server, "patient")?;
    let ballast = disk.join("ballast");
    fill(&ballast)?;
    let body = "y".repeat(12_000);
    let mut sent = Vec::new();
    while server.events("disk-full").is_empty() && sent.len() < 600 {
        for _ in 0..10 {
            let text = format!("{} {body}", sent.len());
            agent.send(&text);
            sent.push(text);
        }
    }
    server.wait_event("disk-full", |_| true);
    fs::remove_file(&ballast)?;
    server.wait_event("disk-recovered", |_| true);
    server.wait_online("patient", true);
    wait::until("all is archived", || server.archived("patient").len(), |count| *count == sent.len());
    assert!(server.archived("patient") == sent, "none lost, none twice, in their order");
    Ok(())
}
